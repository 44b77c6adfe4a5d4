"""The parts that benchmarks share: photos to work on, a table for people, a line of JSON for programs. No benchmark."""

from __future__ import annotations

import io
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from dedup_spark.commands.demo_lake import SAMPLE_PHOTOS, load_sample_photo
from dedup_spark.commands.text_table import aligned

_PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"})


class Table:
    """Rows under named columns; floats have three significant digits, or no decimals."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns, self.rows = columns, list[list[str]]()

    def add(self, *values: Any) -> None:
        self.rows.append([_cell(value) for value in values])

    def show(self) -> None:
        print(aligned(self.columns, self.rows, [False, *(True for _ in self.columns[1:])]))


def print_json(figures: dict[str, Any]) -> None:
    """Prints the last line: the figures as JSON, floats with four significant digits."""
    print(json.dumps({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in figures.items()}), flush=True)


def n_cores() -> int:
    """Cores that this process may use: what `local[*]` takes."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> str:
    """Processor, cores, memory and Python, on one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {n_cores()} cores, {gib:.0f} GiB, Python {platform.python_version()}, {platform.system()}"


def photo_bytes(folder: Path | None) -> list[bytes]:
    """Encoded photos: the files of a folder, or the sample photos as a camera stores them; always in the same order."""
    if folder:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _PHOTO_SUFFIXES)
        if not paths:
            raise SystemExit(f"--photos {folder}: there is no photo")
        return [path.read_bytes() for path in paths]
    return [_jpeg(load_sample_photo(name).convert("RGB"), 92) for name in SAMPLE_PHOTOS]


def scaled(photo: bytes, side_px: int) -> bytes:
    """The photo enlarged or reduced to this longest side, JPEG."""
    with Image.open(io.BytesIO(photo)) as image:
        scale = side_px / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return _jpeg(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), 90)


def make_lake(folder: Path, n: int, photos: list[bytes]) -> Path:
    """`n` files: each photo in turn, and from the second turn on with other pixels, so that no two files are equal.

    Turn t loses t % 17 pixels on the left, t // 17 at the top, and is encoded again: a small crop, as cheap to
    decode as the photo. Only the files of the first turn, which are copied, keep their format.
    """
    for i in range(n):
        turn, k = divmod(i, len(photos))
        path = folder / f"{i // 1000:04d}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_varied(photos[k], turn) if turn else photos[k])
    return folder


def total_bytes(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.stat().st_size for path in files_below(folder))


def files_below(folder: Path) -> list[Path]:
    """The files below a folder, always in the same order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def share_out(paths: Iterable[Path], n: int) -> list[list[Path]]:
    """`n` lists of nearly equal length."""
    listed = list(paths)
    return [listed[i::n] for i in range(n)]


def _varied(photo: bytes, turn: int) -> bytes:
    with Image.open(io.BytesIO(photo)) as image:
        top, left = divmod(turn, 17)
        return _jpeg(image.convert("RGB").crop((left, top, image.width, image.height)), 90)


def _jpeg(image: Image.Image, quality_percent: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality_percent)
    return out.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
