"""How much memory an image takes while it is decoded and described, told by its header before anything is allocated.

The process of a decoder may use `ORDINARY_BYTES` at any time. An image that needs more raises `NeedsMemory` where it is
decoded inside of `allowed`, so that the owner of the process can make room first: see stages/reading/decoder_pool.py.
Bytes per pixel of JPEG, PNG, GIF and 8-bit TIFF were measured as growth of the peak of address space in `sign_image` at
4 megapixels, and rounded up; those of other libraries are estimates. What they do not cover, the limit of the process
stops, and the image is decoded again with more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from PIL import Image

from dedup_spark.kernels.decoding.headers import png_bits
from dedup_spark.kernels.decoding.tiff_layout import Layout

ORDINARY_BYTES = 128 << 20
"""Enough for 16 megapixels of an ordinary JPEG."""

_OF_MODE = {"1": 8, "L": 8, "P": 8, "RGB": 8, "YCbCr": 8, "CMYK": 15}
"""Bytes of a pixel by Pillow's mode: the image, a copy that is turned or in RGB, and what pHash and thumbnail
reduce of it."""
_OF_OTHERS = 13
"""Of those with transparency, and of deep ones of one channel, with a mask."""
_LIBRARY = {"WEBP": 8, "AVIF": 8, "HEIF": 8, "JXL": 12, "JPEG2000": 12}
"""What the library of a format holds of each pixel beside the image that it returns: planes, a canvas, 32-bit integers
of three channels."""
_BESIDE_DEEP = 26
"""Of 16 bits in three channels, which are read a second time, split and joined."""
_OF_FRAMES = 16
"""Of several frames: the one that describes the file so far, and the canvas of the plugin."""
_RAW = 12
"""Sensor values in 16 bits, those that LibRaw interpolates, and the RGB that it returns."""
_SIZE_ALONE = 12
_COEFFICIENTS = 6
"""Of 16 bits, of three planes at full size."""


class NeedsMemory(Exception):
    """The image needs `n_bytes` beyond what its process holds, more than is allowed; nothing was allocated yet."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        super().__init__(f"{n_bytes:,} bytes")


@dataclass(slots=True)
class Allowance:
    """`n_bytes` that may be allocated, and the most that was asked for so far."""

    n_bytes: int
    asked_bytes: int = 0


_ALLOWANCE: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


@contextmanager
def allowed(n_bytes: int) -> Iterator[Allowance]:
    """Inside it `require` raises NeedsMemory for more than this."""
    allowance = Allowance(n_bytes)
    token = _ALLOWANCE.set(allowance)
    try:
        yield allowance
    finally:
        _ALLOWANCE.reset(token)


def require(n_bytes: int) -> None:
    """Say that so many bytes are about to be allocated. Raises NeedsMemory inside of `allowed`."""
    allowance = _ALLOWANCE.get()
    if allowance is None:
        return
    allowance.asked_bytes = max(allowance.asked_bytes, n_bytes)
    if n_bytes > allowance.n_bytes:
        raise NeedsMemory(n_bytes)


def bytes_of_size(width: int, height: int) -> int:
    """Of an image of which only the size is known, before its decoder opens it."""
    return _SIZE_ALONE * width * height


def bytes_of_raw(width: int, height: int) -> int:
    """Of a camera's RAW file, decoded by LibRaw."""
    return _RAW * width * height


def bytes_of_opened(image: Image.Image, data: bytes, image_format: str, n_frames: int) -> int:
    """Of the frame that an opened image is about to load."""
    has_key = "transparency" in image.info
    each = _OF_OTHERS if has_key else _OF_MODE.get(image.mode, _OF_OTHERS)
    each += _LIBRARY.get(image_format, 0) + (_OF_FRAMES if n_frames > 1 else 0)
    if png_bits(data) == 16 and image.mode in ("RGB", "RGBA"):
        each += _BESIDE_DEEP
    layout: Layout | None = getattr(image, "layout", None)
    return each * image.width * image.height + (_bytes_of_samples(layout) if layout else 0)


def bytes_of_scans(image: Image.Image, size: tuple[int, int]) -> int:
    """Of a JPEG of this size that is decoded at a part of it: the coefficients of a progressive one are all held."""
    return _COEFFICIENTS * size[0] * size[1] if image.info.get("progressive") else 0


def _bytes_of_samples(layout: Layout) -> int:
    """Of a TIFF page in the numbers of its file: the samples that are shown, each with a copy of the same size, and one
    strip or tile of all samples unpacked, in numbers, and summed."""
    (width, height), (columns, rows) = layout.size, layout.segment
    n_shown = len(layout.colours) + (layout.alpha is not None)
    shown = 2 * n_shown * layout.dtype.itemsize * width * height
    return shown + 4 * layout.dtype.itemsize * layout.n_interleaved * columns * rows
