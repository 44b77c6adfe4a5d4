"""The memory of the pixels of a Pillow image: read without a copy, and taken in large pages.

Pillow hands its memory out by Arrow's C data interface, where it is one block. It takes blocks of 16 MiB, so that a
larger image lies in several unless it is made here. A page of 4 KiB that is first written to costs a fault: for 12
megapixels these took a quarter of the time of decoding, which pages of 2 MiB save.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections.abc import Iterator
from typing import Any, cast

import cv2
import numpy as np
from PIL import Image

from dedup_spark.kernels.arrays import UInt8
from dedup_spark.kernels.decoding.strips import strips

_WITH_FOUR_BYTES = frozenset({"RGB", "RGBA", "RGBX", "CMYK"})
_BLOCK_BYTES = 16 << 20
"""Of Pillow; the C library gives larger ones by pages that no one has written to."""
_CONVERTED_BYTES = 128 << 10
"""Of a few rows at a time, which stay in a cache until they are hashed."""


class _ArrowArray(ctypes.Structure):
    """As the Arrow C data interface defines it."""


_ArrowArray._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]  # fmt: skip
_pillow: Any = Image.core  # type: ignore[attr-defined]  # named so in Pillow's documents
_pointer_of_capsule = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of_capsule.restype = ctypes.c_void_p
_pointer_of_capsule.argtypes = [ctypes.py_object, ctypes.c_char_p]


def pixels_in_memory(image: Image.Image) -> UInt8 | None:
    """(h, w, 4) uint8, the memory of a loaded image itself: to be read only, and not kept while the image changes.

    Of RGB the fourth value means nothing. None where a pixel of this mode has not four bytes, or the image lies in
    several blocks.
    """
    exported = _exported(image) if image.mode in _WITH_FOUR_BYTES else None
    if exported is None:
        return None
    address, owner = exported
    memory = (ctypes.c_uint8 * (4 * image.width * image.height)).from_address(address)
    memory.owner = owner  # type: ignore[attr-defined]  # the array holds `memory`, and that the image's memory
    return np.ctypeslib.as_array(memory).reshape(image.height, image.width, 4)


def as_array(rgb: Image.Image) -> UInt8:
    """(h, w, 3) uint8, a copy: as `np.asarray` of an image of mode RGB, in a quarter of the time."""
    pixels = pixels_in_memory(rgb)
    return np.asarray(rgb) if pixels is None else _without_fourth(pixels)


def channel(rgb: Image.Image, number: int) -> UInt8:
    """(h, w) uint8 of one channel, without a copy where there is none to make: see `pixels_in_memory`."""
    pixels = pixels_in_memory(rgb)
    return np.asarray(rgb.getchannel(number)) if pixels is None else pixels[..., number]


def rgb_in_rows(rgb: Image.Image) -> Iterator[UInt8]:
    """(h, w, 3) uint8, a few rows at a time, each of which is gone when the next is taken: together the bytes that
    `Image.tobytes` gives of mode RGB. Cost: 0.4 ms a megapixel, a third of that of `tobytes`.
    """
    whole = pixels_in_memory(rgb)
    width, n_rows = rgb.width, max(1, _CONVERTED_BYTES // (3 * rgb.width))
    place = np.empty((min(n_rows, rgb.height), width, 3), np.uint8)
    for pixels in (as_array(strip) for strip in strips(rgb)) if whole is None else (whole,):
        for top in range(0, len(pixels), n_rows):
            part = pixels[top : top + n_rows]
            yield _without_fourth(part, place[: len(part)]) if part.shape[2] == 4 else part


def _without_fourth(pixels: UInt8, place: UInt8 | None = None) -> UInt8:
    """(h, w, 3) of (h, w, 4), in `place` where there is one."""
    return cast(UInt8, cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB, dst=place))


def in_one_block(size: tuple[int, int]) -> Image.Image:
    """An image of mode RGB for a decoder to fill, in large pages where the system has them and it is larger than a
    block of Pillow."""
    n_bytes, usual = 4 * size[0] * size[1], _pillow.get_use_block_allocator()
    if n_bytes <= _BLOCK_BYTES:
        return Image.new("RGB", size, None)
    _pillow.set_use_block_allocator(1)
    try:
        made = Image.new("RGB", size, None)
    finally:
        _pillow.set_use_block_allocator(usual)
    exported = _exported(made)
    if exported is not None:
        _ask_for_large_pages(exported[0], n_bytes)
    return made


def _exported(image: Image.Image) -> tuple[int, Any] | None:
    """Where the memory of an image begins, and what holds it; None where it lies in several blocks."""
    try:
        _, capsule = image.__arrow_c_array__()
    except ValueError:
        return None
    array = _ArrowArray.from_address(_pointer_of_capsule(capsule, b"arrow_array"))
    return array.children[0].contents.buffers[1], capsule


def _ask_for_large_pages(address: int, n_bytes: int) -> None:
    """Of no consequence where the system has none."""
    madvise, first = _madvise(), -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    if madvise is not None:
        madvise(first, (address + n_bytes - first) // mmap.PAGESIZE * mmap.PAGESIZE, mmap.MADV_HUGEPAGE)


@functools.cache
def _madvise() -> Any:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return madvise
