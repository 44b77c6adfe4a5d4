"""Whether two pictures look the same at a glance: pHashes and coarse grids of their pixels, compared one with many.

This decides only where a model need not run (`extract.reuse_embedding=near`), never what a duplicate is.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from dedup_spark.kernels.arrays import UInt8

GRID_PX = 32
MOST_BITS = 2
"""Bits of 64 in which the pHashes may differ."""
MOST_LEVELS = 4
"""Levels of 255 by which a cell of the grid may differ in any colour. See "Forward passes that are saved" in
docs/benchmarks.md for what these bounds were measured on."""


def grid_of(pixels: UInt8) -> UInt8:
    """(n, n, 3) uint8 to the means of its cells, (GRID_PX, GRID_PX, 3) uint8."""
    return np.asarray(Image.fromarray(pixels).resize((GRID_PX, GRID_PX), Image.Resampling.BOX))


class GridLog[T]:
    """The last `size` pictures with what belongs to them; the newest takes the place of the oldest."""

    def __init__(self, size: int) -> None:
        self._phashes = np.empty(size, np.uint64)
        self._grids = np.empty((size, GRID_PX, GRID_PX, 3), np.uint8)
        self._items: list[T] = []
        self._n_added = 0

    def add(self, phash: int, grid: UInt8, item: T) -> None:
        """`phash` is a signed 64-bit integer, `grid` as `grid_of` makes it."""
        place = self._n_added % len(self._phashes)
        self._phashes[place], self._grids[place] = np.int64(phash).view(np.uint64), grid
        self._items[place : place + 1] = [item]
        self._n_added += 1

    def find(self, phash: int, grid: UInt8) -> T | None:
        """What belongs to the picture whose grid differs least, if its pHash and grid are within the bounds."""
        n = len(self._items)
        bits = np.bitwise_count(self._phashes[:n] ^ np.int64(phash).view(np.uint64))
        alike = np.flatnonzero(bits <= MOST_BITS)
        if not len(alike):
            return None
        differences = np.abs(self._grids[alike].astype(np.int16) - grid).max((1, 2, 3))
        best = int(differences.argmin())
        return self._items[alike[best]] if differences[best] <= MOST_LEVELS else None
