"""The exact join on a GPU, by PyTorch: float16 products in large tiles, of which only near rows come back.

It misses nothing. The products only propose candidates: their rounding error is bounded, the bound is subtracted from
every threshold, and the exact cosine decides, so that the pairs are those of the other exact join.

The work for a pair is one product and two maxima. Each tile of products is cut into groups of GROUP columns, and of
GROUP rows; only the maximum of a group is compared, and only groups with a near one are looked into. The (k + 1)-th
largest maximum of a row's groups is a lower bound of its k-th nearest (one of the k + 1 may be the image itself), so
what lies below is not among the k nearest of that row and stays on the device. While the answers of one tile are
fetched, the next is multiplied on another stream.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dedup_spark.kernels.arrays import expect
from dedup_spark.kernels.joins.base import Block, Candidates, in_order, later, tiles
from dedup_spark.kernels.joins.device_blocks import GROUP, DeviceBlock, new_stream, on_device, recorded

_ERROR = 2e-3
"""Rounding a unit vector to float16 moves it by at most 2^-11, so a cosine by 2^-10; the product, summed in float32,
is rounded to float16 once: 2^-12 below 1. Together 1.3e-3."""

_MOST_PAIRS, _PAIRS_ON_CPU = 1 << 30, 1 << 23
"""Of a tile. With 2^30, 2 GB of products, a GPU works for milliseconds on what the host asks for in microseconds."""
_TILE_SHARE = 16  # bytes of free memory for each pair of a tile: two tiles are there at once, with what they leave
_TILE_COLUMNS = 65_536

_GROUPS_AT_ONCE = 1 << 18
"""Groups that are looked into at once: 16,777,216 products, all of which may be near."""


@dataclass(frozen=True)
class Wanted:
    """Pairs with a cosine >= `keep`, and those >= `floor` that are among the `k` nearest of either row.

    `gpu_share`: of the memory of the GPU, what the join may take; tasks that share one each see all of it free.
    """

    floor: float
    k: int
    keep: float
    gpu_share: float = 1.0

    @property
    def is_ranked(self) -> bool:
        return self.k > 0 and self.floor < self.keep


class Bounds:
    """For rows of blocks, how near their k-th nearest is at least, by the joins so far. On the device.

    Joins that share one must be of the same images, and all their candidates must be used.
    """

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[DeviceBlock, torch.Tensor] = weakref.WeakKeyDictionary()

    def of(self, block: DeviceBlock) -> torch.Tensor:
        """(rows of the block on the device,) float32, to be raised in place."""
        if block not in self._of:
            self._of[block] = torch.full((len(block.rows),), -torch.inf, device=block.rows.device)
        return self._of[block]


def exact_gpu_join(a: Block, b: Block | None, wanted: Wanted, device: str, bounds: Bounds | None = None) -> Candidates:
    """Candidates for all that is wanted; with `b` None of a with itself, i < j.

    `device`: torch's name of one (`cuda:0`, `cpu`). `bounds`: of the joins before of the same images, where more
    than one is made; they become those of this one.
    """
    base = a if b is None else b
    expect(a=(a.vectors, "n d", np.float16), b=(base.vectors, "m d", np.float16))
    if len(a) == 0 or len(base) == 0:
        return
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False  # sums in float32: see _ERROR
    join = _Join(on_device(a, device), None if b is None else on_device(b, device), wanted, bounds or Bounds())
    before = None
    for tile, lane in zip(join.tiles(), itertools.cycle(_lanes(torch.device(device)))):
        under_way = join.begin(*tile, lane)
        if before is not None:
            yield from join.candidates(before)
        before = under_way
    assert before is not None
    yield from join.candidates(before)


@dataclass(frozen=True)
class _Lane:
    """Work on tiles in turns: a stream of a GPU, or on the CPU nothing."""

    stream: torch.cuda.Stream | None = None

    def active(self) -> Any:
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)


@functools.cache
def _lanes(device: torch.device) -> tuple[_Lane, ...]:
    return tuple(_Lane(new_stream(device)) for _ in range(2)) if device.type == "cuda" else (_Lane(),)


def _tile_pairs(device: torch.device, gpu_share: float) -> int:
    return _tile_pairs_of_gpu(device, gpu_share) if device.type == "cuda" else _PAIRS_ON_CPU


@functools.cache
def _tile_pairs_of_gpu(device: torch.device, gpu_share: float) -> int:
    """By the memory that was free when this process asked first."""
    free, total = torch.cuda.mem_get_info(device)
    return min(_MOST_PAIRS, int(min(free, gpu_share * total)) // _TILE_SHARE)


@dataclass(frozen=True)
class _Side:
    """What the rows of a tile, or its columns, want of it.

    Attributes:
        lows: (rows or columns,) float32: products below are not wanted.
        near: bool, for each group of columns of a row (rows, groups), or of rows of a column (groups, columns), whether
            something in it is wanted.
    """

    lows: torch.Tensor
    near: torch.Tensor


@dataclass(frozen=True)
class _Tile:
    rows: slice
    cols: slice
    products: torch.Tensor
    of_rows: _Side
    of_cols: _Side | None
    lane: _Lane


class _Join:
    """One join on the device."""

    def __init__(self, a: DeviceBlock, b: DeviceBlock | None, wanted: Wanted, bounds: Bounds) -> None:
        self._a, self._b, self._within = a, b or a, b is None
        self._wanted = wanted
        self._bounds_a, self._bounds_b = bounds.of(self._a), bounds.of(self._b)
        device = self._a.rows.device
        self._ranked = recorded(torch.cuda.current_stream(device)) if device.type == "cuda" else None
        """Passes when the bounds are there, and then when the last tile has raised them."""

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        """Slices of rows and columns, multiples of GROUP; of a join within a block the part that holds i < j."""
        n, m = len(self._a.rows), len(self._b.rows)
        columns = min(_TILE_COLUMNS, m)
        rows = max(GROUP, _tile_pairs(self._a.rows.device, self._wanted.gpu_share) // columns // GROUP * GROUP)
        for cols, row_tiles in tiles(n, None if self._within else m, rows, columns):
            for part in row_tiles:
                yield part, later(part, cols, self._within)

    def begin(self, rows: slice, cols: slice, lane: _Lane) -> _Tile:
        """Ask the device for the products of a tile and for what is near in them; waits for nothing."""
        with lane.active():
            x, y = self._a.wait()[rows], self._b.wait()[cols]
            products = self._without_padding(x @ y.T, rows, cols)
            groups = products.view(len(x), -1, GROUP).amax(2)
            if not self._wanted.is_ranked:
                lows = torch.full((len(x),), self._wanted.keep - _ERROR, device=x.device)
                return _Tile(rows, cols, products, _Side(lows, groups >= lows[:, None]), None, lane)
            groups_of_cols = products.view(-1, GROUP, len(y)).amax(1)
            self._raise_bounds(rows, cols, groups, groups_of_cols, lane)
            lows, lows_of_cols = self._lows(self._bounds_a[rows]), self._lows(self._bounds_b[cols])
            of_rows = _Side(lows, groups >= lows[:, None])
            return _Tile(rows, cols, products, of_rows, _Side(lows_of_cols, groups_of_cols >= lows_of_cols), lane)

    def _without_padding(self, products: torch.Tensor, rows: slice, cols: slice) -> torch.Tensor:
        """The rows that fill up a block are near nothing."""
        products[self._a.n_rows - rows.start :] = -torch.inf
        products[:, self._b.n_rows - cols.start :] = -torch.inf
        return products

    def _raise_bounds(
        self, rows: slice, cols: slice, groups: torch.Tensor, groups_of_cols: torch.Tensor, lane: _Lane
    ) -> None:
        """One tile after the other, as two may have rows in common."""
        if lane.stream is not None and self._ranked is not None:
            lane.stream.wait_event(self._ranked)
        n = self._wanted.k + 1
        for bounds, part, best in ((self._bounds_a, rows, groups), (self._bounds_b, cols, groups_of_cols.T)):
            if best.shape[1] >= n:
                nth = best.contiguous().topk(n, dim=1, sorted=False).values.amin(1)
                torch.maximum(bounds[part], nth.float(), out=bounds[part])
        if lane.stream is not None:
            self._ranked = recorded(lane.stream)

    def _lows(self, bounds: torch.Tensor) -> torch.Tensor:
        """Both the bound and the product that is compared with it may be wrong by _ERROR."""
        lowest = self._wanted.floor - _ERROR
        return (bounds - 2 * _ERROR).clamp(min=lowest, max=self._wanted.keep - _ERROR)

    def candidates(self, tile: _Tile) -> Candidates:
        """Rows of `a` and of `b`, on the host; each pair once."""
        for part in self._parts(tile, tile.of_rows):
            with tile.lane.active():
                i, j = _near_of_rows(tile, part)
            yield self._placed(tile, i, j)
        for part in self._parts(tile, tile.of_cols) if tile.of_cols else ():
            with tile.lane.active():
                i, j = _near_of_cols(tile, part)
            yield self._placed(tile, i, j)

    def _parts(self, tile: _Tile, side: _Side) -> tuple[torch.Tensor, ...]:
        with tile.lane.active():
            return torch.split(side.near.flatten().nonzero().flatten(), _GROUPS_AT_ONCE)

    def _placed(self, tile: _Tile, i: torch.Tensor, j: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        with tile.lane.active():
            there = torch.stack((i + tile.rows.start, j + tile.cols.start)).cpu().numpy()
        return in_order(there[0], there[1], tile.rows, tile.cols, self._within)


def _near_of_rows(tile: _Tile, hits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in the tile of what is near enough for its row, by the numbers of groups of columns."""
    n_groups = tile.products.shape[1] // GROUP
    i = torch.div(hits, n_groups, rounding_mode="floor")
    values = tile.products.view(-1, GROUP)[hits]
    hit, place = (values >= tile.of_rows.lows[i][:, None]).nonzero(as_tuple=True)
    return i[hit], (hits[hit] % n_groups) * GROUP + place


def _near_of_cols(tile: _Tile, hits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for columns, by the numbers of groups of rows; without what the rows found."""
    assert tile.of_cols is not None
    n_cols = tile.products.shape[1]
    group, j = torch.div(hits, n_cols, rounding_mode="floor"), hits % n_cols
    values = tile.products.view(-1, GROUP, n_cols)[group, :, j]
    found_by_row = values >= tile.of_rows.lows.view(-1, GROUP)[group]
    hit, place = ((values >= tile.of_cols.lows[j][:, None]) & ~found_by_row).nonzero(as_tuple=True)
    return group[hit] * GROUP + place, j[hit]
