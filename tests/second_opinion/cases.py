"""One file of the corpus, with what its writer put into it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from odd_files import picture
from PIL import Image

Values = np.ndarray[Any, Any]

SIZE = (83, 61)
"""Width and height: no multiple of a tile, a block or a byte of any format."""


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        shown: (h, w, 1 to 4) of what was written, upright: grey, grey and alpha, RGB or RGBA; uint8, or the deep values
            of a grey picture. None where only other decoders know.
        n_frames: In the file.
        like: Mean difference from `shown`, in levels of 255, that the loss of the format explains.
        has_profile: Whether a colour profile changes what is shown.
        is_turned: Whether the file asks for another orientation.
        n_bits: Of each colour, where decoders that give 16 bits leave those above it empty.
    """

    name: str
    data: bytes
    shown: Values | None = None
    n_frames: int = 1
    like: float = 3.0
    has_profile: bool = False
    is_turned: bool = False
    n_bits: int = 0


@functools.cache
def rgb() -> Values:
    """(61, 83, 3) uint8: a picture that differs in every corner, so that what is turned or inverted is noticed."""
    return np.asarray(Image.fromarray(picture()).resize(SIZE, Image.Resampling.LANCZOS))


@functools.cache
def grey() -> Values:
    """(61, 83, 1) uint8 of the same picture."""
    return np.asarray(Image.fromarray(rgb()).convert("L"))[..., None]


def alpha() -> Values:
    """(61, 83, 1) uint8: from half transparent at the left to opaque."""
    return np.tile(np.linspace(96, 255, SIZE[0]).astype(np.uint8)[:, None], (SIZE[1], 1, 1))


def quantised(values: Values, n_bits: int) -> Values:
    """8-bit values in `n_bits`, in the smallest unsigned type that holds them."""
    kind = np.uint8 if n_bits <= 8 else np.uint16 if n_bits <= 16 else np.uint32
    return np.round(values / 255.0 * (2**n_bits - 1)).astype(kind)


def in_8_bits(values: Values, n_bits: int) -> Values:
    """What `quantised` leaves of 8-bit values."""
    return np.round(values / float(2**n_bits - 1) * 255).astype(np.uint8)


def paletted(n_bits: int) -> tuple[Values, Values]:
    """(61, 83, 1) indices and the (2 ** n_bits, 3) uint8 table, of the picture in so few colours."""
    image = Image.fromarray(rgb()).quantize(2**n_bits)
    table = np.zeros((2**n_bits, 3), np.uint8)
    own = np.asarray(image.getpalette(), np.uint8).reshape(-1, 3)[: 2**n_bits]
    table[: len(own)] = own
    return np.asarray(image)[..., None], table
