"""The exact join by PyTorch, on the CPU: the pairs and the nearest of brute force, whatever the tiles and groups."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import numpy as np
import pytest

from dedup_spark.kernels import vectors
from dedup_spark.kernels.joins import device_blocks, exact_gpu
from dedup_spark.kernels.joins.base import Block, score_candidates
from dedup_spark.kernels.joins.device_blocks import rows_at_once
from dedup_spark.kernels.joins.exact import exact_join
from dedup_spark.kernels.joins.exact_gpu import Bounds, Wanted, exact_gpu_join

Pairs = set[tuple[int, int]]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 48 columns and 32 rows, in groups of 8, ten of which are looked into at once."""
    for module in (device_blocks, exact_gpu):
        monkeypatch.setattr(module, "GROUP", 8)
    monkeypatch.setattr(device_blocks, "rows_at_once", lambda d: 56)
    for name, value in (("_PAIRS_ON_CPU", 32 * 48), ("_TILE_COLUMNS", 48), ("_GROUPS_AT_ONCE", 10)):
        monkeypatch.setattr(exact_gpu, name, value)


def block(n: int, seed: int, d: int = 64) -> Block:
    """Vectors around 40 centres, of any length, some of them equal, one of them zero."""
    rng = np.random.default_rng(seed)
    x = np.random.default_rng(1).standard_normal((40, d))[rng.integers(0, 40, n)] + 0.7 * rng.standard_normal((n, d))
    x[: n // 20] = x[n // 20 : 2 * (n // 20)]
    x *= rng.uniform(0.5, 2, (n, 1)) / np.linalg.norm(x, axis=1, keepdims=True)
    x[n // 2] = 0
    ids = rng.permutation(10 * n)[:n] + 10_000 * seed
    return Block(ids, x.astype(np.float16), np.zeros(n, np.int32))


A, B = block(230, 1), block(150, 2)
ONE = block(1, 3)
NONE = Block(np.empty(0, np.int64), np.empty((0, 64), np.float16), np.empty(0, np.int32))


def cosines_of(a: Block, b: Block) -> np.ndarray:
    every = np.indices((len(a), len(b))).reshape(2, -1)
    return vectors.cosines(a.vectors[every[0]], b.vectors[every[1]]).reshape(len(a), len(b))


def near_pairs(a: Block, b: Block | None, t: float) -> Pairs:
    i, j = np.nonzero(cosines_of(a, a if b is None else b) >= np.float32(t))
    return {p for p in zip(i.tolist(), j.tolist(), strict=True) if b is not None or p[0] < p[1]}


def scored(a: Block, b: Block | None, wanted: Wanted, *bounds: Bounds) -> dict[tuple[int, int], tuple[Any, ...]]:
    """The pairs that stay, each once: cosine, best_of_a, best_of_b."""
    proposed = exact_gpu_join(a, b, wanted, "cpu", *bounds)
    found: dict[tuple[int, int], tuple[Any, ...]] = {}
    for f in score_candidates(a, b, proposed, wanted.floor, wanted.k, wanted.keep):
        for i, j, *facts in zip(
            f.i.tolist(), f.j.tolist(), f.similarity.tolist(), f.best_of_a, f.best_of_b, strict=True
        ):
            assert (i, j) not in found
            found[i, j] = tuple(facts)
    return found


@pytest.mark.parametrize(("a", "b"), [(A, None), (A, B), (B, A), (ONE, A), (A, ONE), (ONE, None), (NONE, A), (A, NONE)])
@pytest.mark.parametrize("t", [-0.5, 0.3, 0.6])
def test_pairs_above_a_threshold_are_those_of_brute_force(a: Block, b: Block | None, t: float) -> None:
    expected = near_pairs(a, b, t)
    assert len(expected) > 100 or min(len(a), len(a if b is None else b)) <= 1
    assert scored(a, b, Wanted(t, 0, t)).keys() == expected


@pytest.mark.parametrize(("a", "b"), [(A, None), (A, B), (B, A)])
@pytest.mark.parametrize("k", [1, 3, 40, 1000])
@pytest.mark.parametrize("floor", [-0.9, 0.2])
def test_beside_the_near_pairs_come_the_k_nearest_of_either_row(
    a: Block, b: Block | None, k: int, floor: float
) -> None:
    found, base = scored(a, b, Wanted(floor, k, 0.6)), a if b is None else b
    assert {p for p, facts in found.items() if facts[0] >= 0.6} == near_pairs(a, b, 0.6)
    cosine = cosines_of(a, base)
    if b is None:
        np.fill_diagonal(cosine, -2)
    for i in range(len(a)):
        order = np.lexsort((base.ids, -cosine[i]))
        for j in [j for j in order.tolist() if cosine[i, j] >= np.float32(floor)][:k]:
            facts = found[(i, j) if b is not None or i < j else (j, i)]
            assert facts[0] == cosine[i, j]
            assert facts[1 if b is not None or i < j else 2]
    for j in range(len(base)):
        order = np.lexsort((a.ids, -cosine[:, j]))
        for i in [i for i in order.tolist() if cosine[i, j] >= np.float32(floor)][:k]:
            assert found[(i, j) if b is not None or i < j else (j, i)][2 if b is not None or i < j else 1]


def test_only_what_is_near_enough_comes_back() -> None:
    """The k nearest of each tile, and some beside them: not all that lies above the floor."""
    n_back = {k: sum(len(i) for i, _ in exact_gpu_join(A, B, Wanted(-0.9, k, 0.99), "cpu")) for k in (1, 1000)}
    assert n_back[1000] == len(A) * len(B)
    assert n_back[1] < 0.2 * n_back[1000]


def test_bounds_of_the_joins_before_keep_the_nearest_of_all_of_them() -> None:
    """As in a task that joins a shard with one after the other; the first join holds the most."""
    wanted, bounds, k = Wanted(-0.9, 3, 0.99), Bounds(), 3
    others = [B, block(90, 5), block(120, 6)]
    with_bounds = [scored(A, other, wanted, bounds) for other in others]
    without = [scored(A, other, wanted) for other in others]
    assert len(with_bounds[0]) == len(without[0])
    assert sum(map(len, with_bounds[1:])) < sum(map(len, without[1:]))

    def nearest(found: list[dict[tuple[int, int], tuple[Any, ...]]]) -> dict[int, list[tuple[float, int]]]:
        mine: dict[int, list[tuple[float, int]]] = {}
        for other, pairs in zip(others, found, strict=True):
            for (i, j), (similarity, best_of_a, _) in pairs.items():
                if best_of_a:
                    mine.setdefault(i, []).append((-similarity, int(other.ids[j])))
        return {i: sorted(found)[:k] for i, found in mine.items()}

    assert nearest(with_bounds) == nearest(without)


def test_an_image_is_not_among_its_own_nearest_in_a_file_of_queries() -> None:
    """The same images on both sides: the largest product of each row is that with itself."""
    same = Block(A.ids[::-1].copy(), A.vectors[::-1].copy(), A.cells)
    found = scored(A, same, Wanted(-0.9, 2, 0.99))
    cosine = cosines_of(A, A)
    np.fill_diagonal(cosine, -2)
    for i in range(len(A)):
        for place in np.lexsort((A.ids, -cosine[i]))[:2].tolist():
            assert found[i, len(A) - 1 - place][1]


@pytest.mark.parametrize("k", [0, 2])
def test_float16_products_lose_no_pair_exactly_at_the_threshold(k: int) -> None:
    """What the margin is for: rounding puts half of such pairs below."""
    for t in sorted(vectors.cosines(A.vectors[:50], A.vectors[60:110]).tolist())[::60]:
        near = {p for p, facts in scored(A, B, Wanted(min(0.1, t), k, t)).items() if facts[0] >= np.float32(t)}
        assert near == near_pairs(A, B, t)


def test_the_margin_of_float16_covers_the_worst_rounding() -> None:
    """2^-11 for each of two unit vectors in each direction, and 2^-12 for the product: see its docstring."""
    assert 2**-10 + 2**-12 < exact_gpu._ERROR < 2 * (2**-10 + 2**-12)


def test_a_row_that_is_no_number_is_near_nothing_and_hides_nothing() -> None:
    broken = B.vectors.copy()
    broken[3, 5], broken[9] = np.nan, np.inf
    b = Block(B.ids, broken, B.cells)
    found = scored(A, b, Wanted(0.6, 0, 0.6)).keys()
    assert found == {(i, j) for i, j in near_pairs(A, B, 0.6) if j not in (3, 9)}


def test_a_block_crosses_to_the_device_once_and_leaves_it_with_the_block() -> None:
    gc.collect()
    held = len(device_blocks._held)
    mine = Block(A.ids, A.vectors.copy(), A.cells)
    for other in (None, B, ONE):
        list(exact_gpu_join(mine, other, Wanted(0.6, 0, 0.6), "cpu"))
    crossed = device_blocks._held[mine]["cpu"]
    assert crossed.rows.shape == (232, 64)
    list(exact_gpu_join(mine, B, Wanted(0.6, 0, 0.6), "cpu"))
    assert device_blocks._held[mine]["cpu"] is crossed
    assert not np.shares_memory(crossed.rows.numpy(), mine.vectors), "the block's own rows must not be scaled"
    del mine, crossed
    gc.collect()
    assert len(device_blocks._held) <= held + 2  # B and ONE, which this module keeps


def test_each_tile_is_multiplied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a block only the part that holds i < j."""
    asked = Counter[tuple[int, int, int]]()
    begin = exact_gpu._Join.begin

    def counting(self: Any, rows: slice, cols: slice, lane: Any) -> Any:
        asked[rows.start, cols.start, (rows.stop - rows.start) * (cols.stop - cols.start)] += 1
        return begin(self, rows, cols, lane)

    monkeypatch.setattr(exact_gpu._Join, "begin", counting)
    list(exact_gpu_join(A, B, Wanted(0.6, 0, 0.6), "cpu"))
    assert set(asked.values()) == {1}
    assert sum(n for _, _, n in asked) == 232 * 152
    asked.clear()
    list(exact_gpu_join(A, None, Wanted(0.6, 0, 0.6), "cpu"))
    assert sum(n for _, _, n in asked) < 0.65 * 232 * 232


def test_blocks_of_two_models_are_refused() -> None:
    short = Block(B.ids, B.vectors[:, :32].copy(), B.cells)
    with pytest.raises(ValueError, match=r"b: expected float16 of shape \(m, d\), d = 64"):
        list(exact_gpu_join(A, short, Wanted(0.5, 0, 0.5), "cpu"))


def test_candidates_scored_by_several_threads_are_those_of_one() -> None:
    def pairs(threads: int) -> list[tuple[Any, ...]]:
        found = score_candidates(A, B, exact_join(A, B, 0.1), 0.1, 3, 0.6, threads)
        return [tuple(x.tolist() if isinstance(x, np.ndarray) else x for x in vars(f).values()) for f in found]

    assert pairs(4) == pairs(1)


def test_tiles_fit_the_share_of_the_gpu_that_the_task_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_gpu.torch.cuda, "mem_get_info", lambda device: (12 << 30, 16 << 30))
    tile_pairs = exact_gpu._tile_pairs_of_gpu.__wrapped__
    assert tile_pairs(exact_gpu.torch.device("cuda"), 1.0) == 12 << 26  # what is free, by 16 bytes a pair
    assert tile_pairs(exact_gpu.torch.device("cuda"), 0.25) == 4 << 26


@pytest.mark.parametrize(("d", "n_rows"), [(512, 16_384), (2048, 4096), (65_536, 128), (2**24, 1)])
def test_what_crosses_to_a_gpu_at_once_is_bounded_in_bytes(d: int, n_rows: int) -> None:
    assert rows_at_once(d) == n_rows
