"""A small image lake with known duplicates, made from the sample photos of scikit-image and scikit-learn.

`make demo` runs on it. It has twenty photos in twelve files each: the original as a camera stores it, a byte copy, a
lossless conversion and the edits that are frequent in real lakes; then pictures that occur once, and files that are no
images. Nothing is downloaded or random: with the same versions of Pillow and of the two packages every file is the same
byte for byte, modification time included.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from dedup_spark.errors import ConfigError
from dedup_spark.kernels import edits

log = logging.getLogger(__name__)

MARKER_NAME = ".demo_lake.json"  # hidden, so it is not listed as an image; the truth is written into it last
LAYOUT_VERSION = 1  # raise it when the files below change: an older lake is then refused, not reused

_PACKAGE_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
SAMPLE_PHOTOS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "china.jpg", "clock_motion.png",
    "coffee.png", "coins.png", "flower.jpg", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png",
    "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
"""Photos of scikit-image and scikit-learn, each of a different scene; see `load_sample_photo`."""
_SINGLES = ("color.png", "horse.png", "logo.png", "phantom.png")
_MAX_SIDE_PX = 1000
_FIRST_DAY = datetime(2024, 5, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class DemoLake:
    """The files of a demo lake, and so what a perfect run finds. Paths are relative to `folder`, with `/`.

    Attributes:
        groups: Name of a photo to every file that shows it, the original first; one file if it has no copy.
        broken: Files that no decoder can read in full.
    """

    folder: Path
    groups: Mapping[str, tuple[str, ...]]
    broken: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file but the hidden marker."""
        return (*(path for members in self.groups.values() for path in members), *self.broken)

    @property
    def n_files(self) -> int:
        return len(self.paths)


def build_demo_lake(folder: Path) -> DemoLake:
    """Builds the demo lake in `folder` (a few seconds), or reuses the complete one that is there.

    A build that was killed is done again. A folder that holds anything else is not touched.

    Raises:
        ConfigError: The sample photos are not installed, or `folder` holds other files or an older demo lake.
    """
    truth = _read_truth(folder)
    if truth is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is neither empty nor a demo lake of this version: choose another folder")
    lake = _complete_lake(folder, truth or {}) or _write_lake(folder)
    log.info("demo lake: %d files, %d pictures in %s", lake.n_files, len(lake.groups), folder)
    return lake


def build_small_lake(folder: Path, n_photos: int) -> Path:
    """Writes the first photos of the demo lake into an empty folder, each with its copies.

    Raises:
        ConfigError: The sample photos are not installed.
    """
    for turn, name in enumerate(SAMPLE_PHOTOS[:n_photos]):
        _write_photo(folder, name, turn)
    return folder


def load_sample_photo(file_name: str) -> Image.Image:
    """Reads one sample photo of the installed packages, made smaller where a side is above 1000 px.

    Raises:
        ConfigError: The package is not installed, or its version does not ship that file.
    """
    for package, data_folder in _PACKAGE_FOLDERS.items():
        spec = importlib.util.find_spec(package)  # finds its folder without the seconds that importing it takes
        path = Path(spec.origin).parent / data_folder / file_name if spec and spec.origin else None
        if path and path.is_file():
            with Image.open(path) as photo:
                photo.load()
            photo.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX), Image.Resampling.LANCZOS)
            return photo
    raise ConfigError(f"the sample photo {file_name} is missing: run `pip install scikit-image scikit-learn`")


# Edits of an upright photo, RGB or grey. `turn` is the number of the photo and varies the edit.
def _cropped(photo: Image.Image, turn: int) -> Image.Image:
    """Keeps 80 % of each side."""
    return edits.cropped(photo, *((0.0, 0.0), (0.2, 0.1), (0.1, 0.2), (0.2, 0.0))[turn % 4], share=0.8)


def _watermarked(photo: Image.Image, turn: int) -> Image.Image:
    return edits.watermarked(photo, "© demo stock", (0.4, 0.5, 0.6)[turn % 3])


def _meme(photo: Image.Image, turn: int) -> Image.Image:
    """Three quarters of the size, under a caption."""
    caption = ("FRIDAY, 4 PM", "nobody:\nabsolutely nobody:", "ME, SEEKING DUPLICATES", "mood")[turn % 4]
    return edits.captioned(edits.scaled(photo.convert("RGB"), 0.75), caption)


def _screenshot(photo: Image.Image, turn: int) -> Image.Image:
    """Four fifths of the size, in the frame of an app."""
    return edits.screenshot(edits.scaled(photo.convert("RGB"), 0.8), turn % 3)


_EDITS: tuple[tuple[str, Callable[[Image.Image, int], Image.Image], dict[str, Any]], ...] = (
    ("whatsapp/2024-06/{name}.jpg", lambda photo, turn: photo, {"quality": 30}),
    ("web/thumbnails/{name}.jpg", lambda photo, turn: edits.scaled(photo, 0.5), {"quality": 80}),
    ("web/articles/{name}-teaser.jpg", _cropped, {"quality": 85, "progressive": True}),
    ("web/stock/{name}_preview.jpg", _watermarked, {"quality": 85}),
    (
        "uploads/scans/{name} scan.jpg",
        lambda photo, turn: edits.rotated(photo, (2, -3, 4, -5)[turn % 4]),
        {"quality": 85},
    ),
    ("uploads/screenshots/Screenshot {name}.png", _screenshot, {}),
    ("uploads/memes/{name}-lol.jpg", _meme, {"quality": 75}),
    ("exports/print/{name}_recoloured.jpg", lambda photo, turn: edits.toned(photo), {"quality": 85}),
)
_LOSSLESS: dict[str, dict[str, Any]] = {".png": {}, ".tif": {}, ".webp": {"lossless": True}}
_STORED_TURNED = {6: 90, 8: 270, 3: 180}  # EXIF orientation: degrees by which the stored pixels are turned


def _write_lake(folder: Path) -> DemoLake:
    _write(folder / MARKER_NAME, json.dumps({"version": LAYOUT_VERSION}).encode())  # ours, not yet complete
    groups = {Path(name).stem: _write_photo(folder, name, turn) for turn, name in enumerate(SAMPLE_PHOTOS)}
    for name in _SINGLES:
        groups[Path(name).stem] = (f"web/graphics/{name}",)
        _save(folder / "web/graphics" / name, load_sample_photo(name), _FIRST_DAY)
    lake = DemoLake(folder, groups, _write_broken(folder))
    truth = {"version": LAYOUT_VERSION, "groups": lake.groups, "broken": lake.broken}
    _write(folder / MARKER_NAME, json.dumps(truth, indent=1).encode())
    return lake


def _write_photo(folder: Path, file_name: str, turn: int) -> tuple[str, ...]:
    """Writes the original of one photo, then its copies, each modified a day later; returns their paths."""
    name, taken_at, paths = Path(file_name).stem, _FIRST_DAY + timedelta(days=turn), list[str]()

    def add(path: str, image: Image.Image, **options: Any) -> None:
        paths.append(path.format(name=name))
        _save(folder / paths[-1], image, taken_at + timedelta(days=len(paths) - 1), **options)

    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.DateTime] = "Demo Camera", f"{taken_at:%Y:%m:%d %H:%M:%S}"
    add("camera/2024/05/{name}.jpg", load_sample_photo(file_name), quality=92, exif=exif)
    with Image.open(folder / paths[0]) as photo:  # copies are made from what the camera stored
        photo.load()
    photo.info.clear()  # and do not inherit its EXIF block
    for path, edit, options in _EDITS:
        add(path, edit(photo, turn), **options)
    suffix, orientation = list(_LOSSLESS)[turn % 3], list(_STORED_TURNED)[turn % 3]
    add("exports/lossless/{name}" + suffix, photo, **_LOSSLESS[suffix])
    exif[ExifTags.Base.Orientation] = orientation
    turned = photo.rotate(_STORED_TURNED[orientation], expand=True)
    add("camera/2024/unsorted/{name}.jpg", turned, quality=92, exif=exif)
    paths.append(f"exports/backup/{name} (1).jpg")
    _write(folder / paths[-1], (folder / paths[0]).read_bytes(), taken_at + timedelta(days=30))
    return tuple(paths)


def _write_broken(folder: Path) -> tuple[str, ...]:
    jpeg, png = ((folder / p).read_bytes() for p in ("camera/2024/05/coffee.jpg", "web/graphics/logo.png"))
    contents = {
        "camera/2024/05/zero bytes.jpg": b"",
        "uploads/interrupted.jpg": jpeg[: len(jpeg) // 2],
        "uploads/interrupted.png": png[: len(png) // 2],
        "uploads/shopping list.jpg": b"milk\nbread\na larger disk\n",
        "web/thumbnails/not found.png": b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>\n",
    }
    for path, content in contents.items():
        _write(folder / path, content)
    return tuple(contents)


def _save(path: Path, image: Image.Image, modified_at: datetime, **options: Any) -> None:
    encoded = io.BytesIO()
    image.save(encoded, Image.registered_extensions()[path.suffix], **options)
    _write(path, encoded.getvalue(), modified_at)


def _write(path: Path, content: bytes, modified_at: datetime = _FIRST_DAY) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (modified_at.timestamp(), modified_at.timestamp()))


def _read_truth(folder: Path) -> dict[str, Any] | None:
    """The content of the marker, without `groups` while a build has not ended; None where none of this version is."""
    try:
        truth = json.loads((folder / MARKER_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return truth if isinstance(truth, dict) and truth.get("version") == LAYOUT_VERSION else None


def _complete_lake(folder: Path, truth: Mapping[str, Any]) -> DemoLake | None:
    """The lake that a marker describes; None when its build has not ended or files have gone since."""
    groups = {name: tuple(paths) for name, paths in truth.get("groups", {}).items()}
    lake = DemoLake(folder, groups, tuple(truth.get("broken", ())))
    return lake if lake.groups and all((folder / path).is_file() for path in lake.paths) else None
