"""How many bits of each channel a picture has: what of it is lost in a copy of fewer.

What counts are the numbers, where they are at hand, and not the width in which a program stored them; a photo of 8 bits
that was saved in 16 has 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from dedup_spark.kernels.decoding import deep
from dedup_spark.kernels.decoding.headers import avif_bits, jpeg2000_bits, jxl_bits, png_bits
from dedup_spark.kernels.decoding.strips import strips

_LOWEST, _HIGHEST = -(1 << 15), (1 << 16) - 1
_SGI_BYTES = 3
"""Where a file of SGI says how many bytes a value has."""


def bits_needed(channels: Sequence[Image.Image]) -> int:
    """8, 16 or 32: the fewest that hold the numbers of these channels of one picture, of mode L or one of `deep.MODES`.

    16 bits that hold 8 (their high byte, alone or twice) need 8; whole numbers of another type need what they reach.
    Up to three passes over the pixels.
    """
    if channels[0].mode == "L":
        return 8
    if channels[0].mode == "I;16" and deep.are_8_bits(channels):
        return 8
    low, high = 0.0, 0.0
    for channel in channels:
        for strip in strips(channel):
            values = np.asarray(strip)
            values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
            if values.dtype.kind == "f" and (values != np.rint(values)).any():
                return 32
            low, high = min(low, values.min(initial=0)), max(high, values.max(initial=0))
    return 32 if low < _LOWEST or high > _HIGHEST else 8 if low >= 0 and high <= deep.WHITE else 16


def bits_of_file(image: Image.Image, data: bytes) -> int:
    """By the header of a file whose decoder gives 8 bits of each channel, whatever it holds; 8 where none is known."""
    if image.format == "HEIF":
        return max(8, int(image.info.get("bit_depth") or 8))
    declared = _DECLARED.get(image.format or "")
    return max(8, declared(data)) if declared else 8


_DECLARED: dict[str, Callable[[bytes], int]] = {
    "AVIF": avif_bits,
    "JPEG2000": jpeg2000_bits,
    "JXL": jxl_bits,
    "PNG": png_bits,
    "SGI": lambda data: 8 * data[_SGI_BYTES],
}
