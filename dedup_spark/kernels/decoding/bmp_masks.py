"""BMP files whose channels have other bits than the usual ones (BI_BITFIELDS), with eight bits a channel.

Pillow knows a dozen layouts and calls all others unsupported. Programs offer them (4-4-4-4), and screens make them
(10-10-10-2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from dedup_spark.kernels.decoding.headers import unpack

_FILE_HEADER_BYTES, _INFO_HEADER_BYTES, _WITH_MASKS_BYTES = 14, 40, 56
_BIT_FIELDS, _ALPHA_BIT_FIELDS = 3, 6
_KNOWN_MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def with_usual_masks(data: bytes) -> Iterator[bytes]:
    """The same picture with 32 bits a pixel; nothing where a file has no bit fields or not all of its pixels."""
    fields = unpack("<IIiiHHI", data, 10)
    if len(fields) < 7:
        return
    pixels_at, header_bytes, width, height, _, bits, compression = fields
    is_masked = compression in (_BIT_FIELDS, _ALPHA_BIT_FIELDS) and bits in (16, 32)
    stride = (width * bits // 8 + 3) // 4 * 4
    if not is_masked or width <= 0 or not 0 < stride * abs(height) <= len(data) - pixels_at:
        return
    n_values = stride * abs(height) * 8 // bits
    values = np.frombuffer(data, f"<u{bits // 8}", n_values, pixels_at).reshape(abs(height), -1)[:, :width]
    masks = _masks(data, header_bytes, compression)
    if all(masks[:3]):
        yield _header(width, height, has_alpha=bool(masks[3])) + _bgra(values, masks).tobytes()


def _masks(data: bytes, header_bytes: int, compression: int) -> tuple[int, ...]:
    """Of red, green, blue and alpha; 0 where there is none."""
    has_alpha = compression == _ALPHA_BIT_FIELDS or header_bytes >= _WITH_MASKS_BYTES
    found = unpack("<4I" if has_alpha else "<3I", data, _FILE_HEADER_BYTES + _INFO_HEADER_BYTES)
    return (*found, 0, 0, 0, 0)[:4]


def _bgra(values: np.ndarray[Any, Any], masks: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """(h, w, 4) uint8."""
    out = np.empty((*values.shape, 4), np.uint8)
    for place, mask in zip((2, 1, 0, 3), masks, strict=True):
        if not mask:
            out[..., place] = 255
            continue
        shift = (mask & -mask).bit_length() - 1
        most = mask >> shift
        out[..., place] = (((values & mask) >> shift).astype(np.uint64) * 255 + most // 2) // most
    return out


def _header(width: int, height: int, has_alpha: bool) -> bytes:
    masks = _KNOWN_MASKS if has_alpha else (*_KNOWN_MASKS[:3], 0)
    n_bytes, head_bytes = 4 * width * abs(height), _FILE_HEADER_BYTES + _WITH_MASKS_BYTES
    start = struct.pack("<2sIHHI", b"BM", head_bytes + n_bytes, 0, 0, head_bytes)
    info = struct.pack("<IiiHHIIiiII", _WITH_MASKS_BYTES, width, height, 1, 32, _BIT_FIELDS, n_bytes, 0, 0, 0, 0)
    return start + info + struct.pack("<4I", *masks)
