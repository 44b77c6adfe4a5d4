"""Originals and the copies that are made of them, for benchmarks/originals.py. No benchmark.

Copies lose their EXIF data where a messenger or a website would drop them, and keep them where a program would. The
parameters are drawn, and quality and format vary in each kind, so that no kind is told by one of them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFilter, ImageOps

from dedup_spark.kernels import edits

Photo = Image.Image
_CAMERAS = (("Canon", "Canon EOS R6"), ("Apple", "iPhone 14"), ("FUJIFILM", "X-T4"), ("Google", "Pixel 8"))
_EDITORS = ("Adobe Photoshop 25.1 (Windows)", "GIMP 2.10.36", "Adobe Lightroom 7.2", "Snapseed 2.0")
_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
_EXPORTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "method": 0}),
)  # fmt: skip
_TAKEN = datetime(2024, 5, 1, 12)
ORIGINALS = ("as it is", "camera", "stripped", "lossless")


def original_of(kind: str, photo: bytes, rng: np.random.Generator) -> tuple[bytes, Photo]:
    """(file, pixels): `as it is`; a JPEG with a camera's EXIF data; the same without; a PNG or TIFF of pixels that no
    JPEG has touched, as far as reducing a photo gives them."""
    image = Image.open(io.BytesIO(photo))
    image = ImageOps.exif_transpose(image)
    if kind == "as it is":
        return photo, image.convert("RGB")
    clean = edits.scaled(image.convert("RGB"), rng.uniform(0.6, 0.75))
    if kind == "lossless":
        name = str(rng.choice(["PNG", "TIFF"]))
        return edits.encoded(clean, name), clean
    options = {"exif": camera_exif(rng)} if kind == "camera" else {}
    subsampling = int(rng.integers(0, 3))
    data = edits.encoded(clean, "JPEG", quality=int(rng.integers(80, 97)), subsampling=subsampling, **options)
    return data, Image.open(io.BytesIO(data)).convert("RGB")


def camera_exif(rng: np.random.Generator, software: str | None = None, has_note: bool = True) -> bytes:
    """An EXIF block as a camera writes it, or as an editor leaves it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = _CAMERAS[int(rng.integers(len(_CAMERAS)))]
    exif[ExifTags.Base.Software] = software or f"{rng.integers(1, 20)}.{rng.integers(0, 9)}"
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.DateTimeOriginal] = f"{_TAKEN:%Y:%m:%d %H:%M:%S}"
    if has_note:
        inner[ExifTags.Base.MakerNote] = rng.bytes(200)
    return exif.tobytes()


def copies_of(photo: Photo, data: bytes, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """(kind, file) for each of KINDS that this original allows."""
    exif = photo_exif(data)
    for kind, make in KINDS.items():
        made = make(photo, data, exif, rng)
        if made is not None:
            yield kind, made


def photo_exif(data: bytes) -> bytes | None:
    found = Image.open(io.BytesIO(data)).info.get("exif")
    return found if isinstance(found, bytes) else None


def _saved(image: Photo, rng: np.random.Generator, exif: bytes | None = None, plain: float = 0.2) -> bytes:
    """A JPEG, a WebP, or with the chance `plain` a PNG; with EXIF in one of three where there is one to keep."""
    kept = {"exif": exif} if exif and rng.random() < 0.33 else {}
    if rng.random() < plain:
        return edits.encoded(image, "PNG", **kept)
    if rng.random() < 0.15:
        return edits.encoded(image, "WEBP", quality=int(rng.integers(60, 95)), method=0, **kept)
    return edits.encoded(image, "JPEG", quality=int(rng.integers(60, 98)), **kept)


def _resized(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    return _saved(edits.scaled(photo, rng.uniform(0.2, 0.92)), rng, exif)


def _reencoded(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    return _saved(photo, rng, exif, plain=0)


def _messenger(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    return edits.encoded(photo, "JPEG", quality=int(rng.integers(20, 75)))


def _webp(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    return edits.encoded(photo, "WEBP", quality=int(rng.integers(50, 96)), method=1)


def _avif(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    return edits.encoded(photo, "AVIF", quality=int(rng.integers(40, 91)), speed=9)


def _cropped(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    share = rng.uniform(0.5, 0.96)
    return _saved(edits.cropped(photo, rng.uniform(0, 1 - share), rng.uniform(0, 1 - share), share), rng, exif)


def _watermarked(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    return _saved(edits.watermarked(photo, "SAMPLE", rng.uniform(0.4, 0.6), int(rng.integers(80, 200))), rng, exif)


def _meme(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    caption = str(rng.choice(["mood", "nobody:\nabsolutely nobody:", "WHEN IT FINALLY RUNS"]))
    return _saved(edits.captioned(edits.scaled(photo, rng.choice([0.75, 1.0])), caption), rng)


def _screenshot(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    """In an app or a browser, smaller or larger than the photo, mostly as PNG."""
    shown = photo.resize(_times(photo, float(rng.choice([0.8, 1.0, 1.3, 2.0]))), Image.Resampling.BICUBIC)
    return _saved(edits.screenshot(shown, int(rng.integers(3)), rng.uniform(2, 7)), rng, plain=0.7)


def _phone(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    """The photo across the width of an upright screen, black or white above and below."""
    width = int(rng.choice([540, 720, 1080]))
    shown = photo.resize((width, max(1, round(photo.height * width / photo.width))), Image.Resampling.BICUBIC)
    ground = str(rng.choice(["black", "white", "#101014"]))
    screen = Image.new("RGB", (width, max(round(width * 2.16), round(shown.height * 1.3))), ground)
    screen.paste(shown, (0, (screen.height - shown.height) // 2))
    return _saved(screen, rng, plain=0.7)


def _letterboxed(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    """To a square or to 16:9, with bars in one colour."""
    return _in_the_middle(photo, rng, exif, is_blurred=False)


def _blurred_bars(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    """The same with a blurred enlargement of the photo in the bars."""
    return _in_the_middle(photo, rng, exif, is_blurred=True)


def _in_the_middle(photo: Photo, rng: np.random.Generator, exif: bytes | None, is_blurred: bool) -> bytes:
    width, height = photo.size
    ratio = float(rng.choice([1.0, 16 / 9]))
    size = (max(width, round(height * ratio)), max(height, round(width / ratio)))
    if size[0] < 1.06 * width and size[1] < 1.06 * height:
        size = (width, round(1.3 * height))
    if is_blurred:
        ground = ImageOps.fit(photo, size).filter(ImageFilter.GaussianBlur(max(size) / 40))
    else:
        ground = Image.new("RGB", size, str(rng.choice(["black", "white", "#202020"])))
    ground.paste(photo, ((size[0] - width) // 2, (size[1] - height) // 2))
    return _saved(ground, rng, exif)


def _framed(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    colour = str(rng.choice(["white", "black", "#7a5230", "#c0c0c0", "navy"]))
    return _saved(ImageOps.expand(photo, max(3, round(min(photo.size) * rng.uniform(0.015, 0.1))), colour), rng, exif)


def _export(photo: Photo, data: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes | None:
    if not data.startswith(b"\xff\xd8"):
        return None  # pixels that no JPEG has touched are as good in any lossless file
    name, options = _EXPORTS[int(rng.integers(len(_EXPORTS)))]
    kept: dict[str, Any] = {"exif": exif} if exif and rng.random() < 0.33 else {}
    return edits.encoded(photo, name, **options, **kept)


def _enlarged(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    larger = photo.resize(_times(photo, rng.uniform(1.3, 3)), _FILTERS[int(rng.integers(3))])
    return _saved(larger, rng, exif)


def _stripped(photo: Photo, data: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes | None:
    """The same coded picture without its EXIF segment, as `jpegtran -copy none` leaves it."""
    at = data.find(b"\xff\xe1") if exif and data[:2] == b"\xff\xd8" else -1
    return None if at < 0 else data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def _retouched(photo: Photo, data: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    """Brighter or darker, saved by an editor that keeps camera and time, and drops the maker note."""
    lit = edits.relit(photo, rng.uniform(0.8, 1.25), rng.uniform(0.85, 1.2), rng.uniform(0.7, 1.4))
    options = {"exif": camera_exif(rng, str(rng.choice(_EDITORS)), has_note=False)} if exif else {}
    return edits.encoded(lit, "JPEG", quality=int(rng.integers(85, 99)), subsampling=0, **options)


def _blurred(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    return _saved(photo.filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 4))), rng)


def _toned(photo: Photo, _: bytes, exif: bytes | None, rng: np.random.Generator) -> bytes:
    return _saved(edits.toned(photo).convert("RGB"), rng)


def _times(photo: Photo, factor: float) -> tuple[int, int]:
    return max(1, round(photo.width * factor)), max(1, round(photo.height * factor))


Make = Callable[[Photo, bytes, bytes | None, np.random.Generator], bytes | None]
KINDS: dict[str, Make] = {
    "resized": _resized, "re-encoded": _reencoded, "messenger": _messenger, "webp": _webp, "avif": _avif,
    "cropped": _cropped, "watermarked": _watermarked, "meme": _meme, "screenshot": _screenshot, "phone": _phone,
    "letter-boxed": _letterboxed, "framed": _framed, "lossless export": _export, "enlarged": _enlarged,
    "stripped": _stripped, "retouched": _retouched, "blurred": _blurred, "toned": _toned,
    "blurred bars": _blurred_bars,
}  # fmt: skip
"""How copies are made; None where an original does not allow it."""
HARD = frozenset({"retouched", "blurred", "toned", "blurred bars"})
"""Copies that a file alone can tell from an original without EXIF data only by times: shown, and not in the groups."""
