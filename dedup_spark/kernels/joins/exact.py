"""The exact join: a matrix product, tile by tile, on a GPU in float16 or on a CPU in float32. It misses nothing.

The products only propose candidates. Their rounding error is bounded, the bound is subtracted from the threshold, and
the exact cosine decides: the pairs are those of a double loop over all rows. On 2 cores 65 GFLOP/s per core, 16 ns per
pair at 512 dimensions; on an H100 in float16 about 3 ps per pair.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from dedup_spark.kernels.arrays import expect
from dedup_spark.kernels.joins.base import FLOAT32_ERROR, QUERY_TILE, Block, Candidates, in_order, later, tiles

_FLOAT16_MARGIN = 2e-3
"""Rounding a unit vector to float16 moves it by at most 2^-11, so a cosine by 2^-10; the product, summed in float32,
is rounded to float16 once: 2^-12 below 1. Together 1.3e-3."""

_GPU_TILE_ROWS = 16_384  # 16,384 x 8,192 float16 products are 256 MB of GPU memory


def exact_join(a: Block, b: Block | None, lowest: float, device: str | None = None) -> Candidates:
    """Candidates whose cosine may be >= `lowest`; `device` None: NumPy, else torch's name of one (`cuda:0`, `cpu`)."""
    base, within, near = a if b is None else b, b is None, _numpy_near if device is None else _torch_near
    expect(a=(a.vectors, "n d", np.float16), b=(base.vectors, "m d", np.float16))
    query_rows = QUERY_TILE if device is None else _GPU_TILE_ROWS
    for cols, row_tiles in tiles(len(a), None if b is None else len(b), query_rows):
        y = _unit_rows(base, cols, device)
        for rows in row_tiles:
            behind = later(rows, cols, within)
            flat = near(_unit_rows(a, rows, device), y[behind.start - cols.start :], lowest)
            i, j = np.divmod(flat, behind.stop - behind.start)
            yield in_order(i + rows.start, j + behind.start, rows, behind, within)


def _numpy_near(x: Any, y: Any, lowest: float) -> np.ndarray:
    return np.flatnonzero(x @ y.T >= np.float32(lowest - FLOAT32_ERROR))


def _torch_near(x: Any, y: Any, lowest: float) -> np.ndarray:
    import torch  # here, because importing it takes seconds, which the other joins need not wait for

    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False  # sums in float32: see the margin
    return torch.nonzero((x @ y.T >= lowest - _FLOAT16_MARGIN).flatten()).flatten().cpu().numpy()


def _unit_rows(block: Block, rows: slice, device: str | None) -> Any:
    return block.unit_vectors(rows) if device is None else _on_device(block, device)[rows]


_held: weakref.WeakKeyDictionary[Block, dict[str, Any]] = weakref.WeakKeyDictionary()
"""By block and device, as long as the block lives: a shard of 65,536 rows takes 64 MB, and a worker keeps two."""


def _on_device(block: Block, device: str) -> Any:
    """All rows (n, d) as float16 of length 1. They cross once, as they are stored, and are scaled on the device:
    converted on the CPU for each tile, a row crossed up to eight times per item as float32, while the GPU waited."""
    import torch

    held = _held.setdefault(block, {})
    if device not in held:
        rows = torch.from_numpy(np.ascontiguousarray(block.vectors)).to(device, copy=True)
        inverse_norms = torch.from_numpy(block.inverse_norms).to(device)[:, None]
        for start in range(0, len(rows), _GPU_TILE_ROWS):
            part = slice(start, start + _GPU_TILE_ROWS)
            rows[part] = rows[part].float() * inverse_norms[part]
        held[device] = rows
    return held[device]
