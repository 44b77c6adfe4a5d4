"""A few blocks of a picture as a JPEG file stores them: what two files need to tell which was made from the other.

Of a JPEG file the quantised coefficients are exact, whoever decodes it: those of its blocks, divided by the steps of
its table, are whole numbers. Of a lossless file they are taken as they would be with steps of 1. Two files of one size
have the same blocks in their samples; kernels/comparing/descent.py compares them.
"""

from __future__ import annotations

import zlib

import numpy as np

from dedup_spark.kernels.arrays import Float32, Int64, expect

BLOCKS_PER_SIDE = 8
LOST = 65_535
"""Stands for each coefficient of a block that is not on the lattice of its own file: where colours were clipped to 0 or
255 when they were decoded, brightness is not what the file stores."""
_OFF_LATTICE, _COARSE_STEP, _MOST_OFF = 0.3, 4, 0.125


def pack(sizes: Float32, steps: Int64 | None) -> bytes:
    """The sample of a picture: 0.3 to 1 KB of a JPEG file, up to 2 KB of a lossless one.

    Args:
        sizes: (rows, columns, frequencies) sizes of the coefficients of all blocks that may be taken, without sign.
        steps: (frequencies,) of the file's table; None for a lossless file.
    Cost: 0.05 ms.
    """
    expect(sizes=(sizes, "r c f", np.float32))
    rows, columns = (np.arange(n) * whole // n for whole, n in ((s, min(s, BLOCKS_PER_SIDE)) for s in sizes.shape[:2]))
    chosen = sizes[rows[:, None], columns].reshape(-1, sizes.shape[2])
    lattice = np.ones(sizes.shape[2], np.int64) if steps is None else np.clip(steps, 1, LOST - 1)
    exact = chosen / lattice.astype(np.float32)
    values = np.minimum(np.rint(exact), LOST - 1)
    is_off = (np.abs(exact - values) > _OFF_LATTICE) & (lattice >= _COARSE_STEP)
    values[is_off.mean(axis=1) > _MOST_OFF] = LOST
    numbers = np.concatenate([lattice[None], values]).astype("<u2")
    by_byte = np.ascontiguousarray(numbers.view(np.uint8).reshape(-1, 2).T)  # high bytes, nearly all 0, side by side
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15, 8, zlib.Z_RLE)
    return deflate.compress(by_byte.tobytes()) + deflate.flush()


def unpack(sample: bytes, n_frequencies: int) -> tuple[Int64, Int64]:
    """(steps (f,), values (blocks, f)) of `pack`: coefficients without sign are values times steps."""
    by_byte = np.frombuffer(zlib.decompress(sample, -15), np.uint8).reshape(2, -1)
    numbers = np.ascontiguousarray(by_byte.T).view("<u2").reshape(-1, n_frequencies).astype(np.int64)
    return numbers[0], numbers[1:]
