"""How the samples of a TIFF page lie in its file, by its tags (TIFF 6.0, and the supplements of Adobe)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK, YCBCR, CIE_LAB, ICC_LAB = 0, 1, 2, 5, 6, 8, 9
NO_COMPRESSION, DEFLATE, BY_LIBTIFF = 1, (8, 32946), (5, 32773, 34925, 50000)
NO_PREDICTOR, DIFFERENCES, FLOAT_DIFFERENCES = 1, 2, 3

_N_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, CMYK: 4, CIE_LAB: 3, ICC_LAB: 3}
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
_BITS = {"u": (8, 10, 12, 14, 16, 32, 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}
_PREMULTIPLIED, _STRAIGHT = 1, 2
_MAX_SAMPLES = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """Where which samples are.

    Attributes:
        size: Width and height as stored.
        bits: Of each sample.
        kind: u, i or f, as in the names of NumPy's types.
        order: Of bytes, < or >.
        n_samples: Per pixel.
        colours: The places of the samples that are shown: of one, of three, or of the four of CMYK.
        alpha: The place of the alpha; None where there is none.
        is_premultiplied: Whether the colours were multiplied by it.
        photometric: One of the constants above.
        is_planar: Whether the samples lie in planes one behind the other, not pixel by pixel.
        segment: Width and height of a tile or strip.
        is_tiled: The last tile of a column is as high as all others; the last strip is not.
        offsets, byte_counts: Of the segments: plane by plane, in each from left to right and down.
    """

    size: tuple[int, int]
    bits: int
    kind: str
    order: str
    n_samples: int
    colours: tuple[int, ...]
    alpha: int | None
    is_premultiplied: bool
    photometric: int
    is_planar: bool
    segment: tuple[int, int]
    is_tiled: bool
    offsets: tuple[int, ...]
    byte_counts: tuple[int, ...]
    compression: int
    predictor: int
    is_bit_reversed: bool

    @property
    def unseen(self) -> tuple[int, ...]:
        """The places of the samples that are neither colours nor alpha."""
        return tuple(place for place in range(self.n_samples) if place not in (*self.colours, self.alpha))

    @property
    def n_interleaved(self) -> int:
        """Samples of a pixel that lie beside each other."""
        return 1 if self.is_planar else self.n_samples

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples as they are read: 10, 12 and 14 bits take 16."""
        return np.dtype(f"{self.order}{self.kind}{-(-self.bits // 16) * 2 if self.bits > 8 else 1}")


def layout_of(tags: Mapping[int, Any], order: str) -> Layout | None:
    """The layout of a page; None where it is of a kind that is not read by it.

    Args:
        tags: As Pillow reads them.
        order: Of bytes, < or >.
    """
    photometric, compression = _number(tags, 262, BLACK_IS_ZERO), _number(tags, 259, NO_COMPRESSION)
    bits, kind = _all_equal(tags, 258), _KINDS.get(_all_equal(tags, 339), "")
    n_samples, size = _number(tags, 277, 1), (_number(tags, 256), _number(tags, 257))
    colours = _colours(photometric, n_samples)
    is_read = bits in _BITS.get(kind, ()) and compression in (NO_COMPRESSION, *DEFLATE, *BY_LIBTIFF)
    if not is_read or not colours or min(size) < 1:
        return None
    is_tiled = 324 in tags
    segment = (_number(tags, 322), _number(tags, 323)) if is_tiled else (size[0], _rows_of_strip(tags, size[1]))
    if min(segment) < 1:
        return None
    alpha, is_premultiplied = _alpha(tags, photometric, n_samples)
    return Layout(
        size=size, bits=bits, kind=kind, order=order, n_samples=n_samples, colours=colours, alpha=alpha,
        is_premultiplied=is_premultiplied, photometric=photometric, is_planar=_number(tags, 284, 1) == 2,
        segment=segment, is_tiled=is_tiled, offsets=_numbers(tags, 324 if is_tiled else 273),
        byte_counts=_numbers(tags, 325 if is_tiled else 279), compression=compression,
        predictor=_number(tags, 317, NO_PREDICTOR), is_bit_reversed=_number(tags, 266, 1) == 2,
    )  # fmt: skip


def _colours(photometric: int, n_samples: int) -> tuple[int, ...]:
    """Of bands that are no colours the first three, as viewers show them; nothing where there are too few or many."""
    n_colours = _N_COLOURS.get(photometric, 0)
    if not n_colours <= n_samples <= _MAX_SAMPLES:
        return ()
    is_of_bands = n_colours == 1 and n_samples >= 3
    return tuple(range(3 if is_of_bands else n_colours))


def _alpha(tags: Mapping[int, Any], photometric: int, n_samples: int) -> tuple[int | None, bool]:
    """The place of the alpha, and whether it is multiplied in. A fourth sample of RGB that is not declared is one."""
    n_colours, extra = _N_COLOURS[photometric], _numbers(tags, 338)
    if not extra and photometric == RGB and n_samples == 4:
        return 3, False
    found = next((i for i, kind in enumerate(extra) if kind in (_PREMULTIPLIED, _STRAIGHT)), None)
    place = None if found is None else found + n_samples - len(extra)
    if place is None or not n_colours <= place < n_samples:
        return None, False
    return place, extra[found or 0] == _PREMULTIPLIED


def _rows_of_strip(tags: Mapping[int, Any], height: int) -> int:
    return min(_number(tags, 278, height), height)


def _numbers(tags: Mapping[int, Any], number: int) -> tuple[int, ...]:
    found = tags.get(number, ())
    found = found if isinstance(found, tuple) else (found,)
    return found if all(isinstance(v, int) for v in found) else ()


def _number(tags: Mapping[int, Any], number: int, otherwise: int = 0) -> int:
    return next(iter(_numbers(tags, number)), otherwise)


def _all_equal(tags: Mapping[int, Any], number: int) -> int:
    """The one number that a tag holds for all samples, 1 where there is no tag; 0 where they differ."""
    found = set(_numbers(tags, number) or (1,))
    return found.pop() if len(found) == 1 else 0
