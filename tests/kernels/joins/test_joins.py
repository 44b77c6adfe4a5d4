"""Every join against brute force: the exact one to the last pair, the others never a pair too many."""

from __future__ import annotations

import itertools
from typing import Any

import faiss
import numpy as np
import pytest
from faiss_gpus import Library

from dedup_spark.kernels import vectors
from dedup_spark.kernels.faiss_index import over_all_cells
from dedup_spark.kernels.joins import base, exact, faiss_ivf, routed, sketch
from dedup_spark.kernels.joins.base import Block, Candidates, score_candidates
from dedup_spark.kernels.joins.faiss_device import FaissGpu, FaissGpuUnusable, open_gpu
from dedup_spark.kernels.joins.faiss_ivf import SearchCounts, SearchLimits, ShardSearch, ivf_join
from dedup_spark.kernels.joins.routed import Routed, home_cosines, routed_join
from dedup_spark.kernels.joins.sketch import BlockSketches, sketch_block, sketch_join
from dedup_spark.kernels.joins.sketches import SketchFilter, choose_filter, make_sketches

Pairs = set[tuple[int, int]]
FILTER = choose_filter([(0.6, 0.999)])


def block(n: int, seed: int, d: int = 64, n_cells: int = 6) -> tuple[Block, np.ndarray]:
    """Vectors around a few centres, some of them equal, one of them zero, sorted by cell; and the centroids."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((40, d))
    x = centres[rng.integers(0, 40, n)] + 0.7 * rng.standard_normal((n, d))
    x[: n // 20] = x[n // 20 : 2 * (n // 20)]
    x *= rng.uniform(0.5, 2, (n, 1)) / np.linalg.norm(x, axis=1, keepdims=True)  # length must not matter
    x[n // 2] = 0
    centroids = vectors.train_centroids(
        (centres / np.linalg.norm(centres, axis=1, keepdims=True)).astype("f4"), n_cells, 1
    )
    cells = vectors.nearest_cells(x.astype(np.float32), centroids)
    order = np.argsort(cells, kind="stable")
    return Block(
        rng.permutation(10 * n)[:n][order] - 5 * n + 10_000 * (-seed) ** seed, x[order].astype(np.float16), cells[order]
    ), centroids


def near_pairs(a: Block, b: Block | None, t: float) -> Pairs:
    other = a if b is None else b
    i, j = np.triu_indices(len(a), 1) if b is None else np.indices((len(a), len(b))).reshape(2, -1)
    near = vectors.cosines(a.vectors[i], other.vectors[j]) >= t
    return set(zip(i[near].tolist(), j[near].tolist(), strict=True))


def kept(a: Block, b: Block | None, proposed: Candidates, t: float) -> Pairs:
    found = [p for f in score_candidates(a, b, proposed, t, 0, t) for p in zip(f.i.tolist(), f.j.tolist(), strict=True)]
    assert len(found) == len(set(found))
    return set(found)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tiles, none of them a divisor of the others."""
    for module in (base, exact, sketch, routed, faiss_ivf):
        for name, value in (
            ("QUERY_TILE", 64),
            ("BASE_TILE", 100),
            ("_SCORED_ROWS", 33),
            ("_QUERIES", 50),
            ("_GPU_QUERIES", 70),
        ):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


A, CENTROIDS = block(230, 1)
B, _ = block(150, 2)
ONE, NONE = block(1, 3)[0], Block(np.empty(0, np.int64), np.empty((0, 64), np.float16), np.empty(0, np.int32))


@pytest.mark.parametrize(("a", "b"), [(A, None), (A, B), (B, A), (ONE, A), (ONE, None), (NONE, A), (A, NONE)])
@pytest.mark.parametrize("t", [0.3, 0.6])
def test_the_exact_join_gives_the_pairs_of_brute_force(a: Block, b: Block | None, t: float) -> None:
    expected = near_pairs(a, b, t)
    assert len(expected) > 100 or min(len(a), len(a if b is None else b)) <= 1
    assert kept(a, b, exact.exact_join(a, b, t), t) == expected


def test_a_cosine_exactly_at_the_threshold_is_a_pair() -> None:
    for t in sorted(vectors.cosines(A.vectors[:50], A.vectors[60:110]).tolist())[::7]:
        found = kept(A, B, exact.exact_join(A, B, t), t)
        assert found == near_pairs(A, B, t)


def sketches_of(a: Block) -> BlockSketches:
    return sketch_block(a, FILTER, 5)


@pytest.mark.parametrize(("a", "b"), [(A, None), (A, B), (ONE, A), (NONE, A), (A, NONE)])
@pytest.mark.parametrize("used", [FILTER, SketchFilter(128, 128, 50, 90), SketchFilter(256, 0, 90, 90)])
def test_the_sketch_join_proposes_exactly_what_lies_within_its_radii(
    a: Block, b: Block | None, used: SketchFilter
) -> None:
    s, s_of_b = sketch_block(a, used, 5), None if b is None else sketch_block(b, used, 5)
    proposed = [p for i, j in sketch_join(s, s_of_b, used) for p in zip(i.tolist(), j.tolist(), strict=True)]
    x, y = (make_sketches(k.unit_vectors(slice(None)), used.n_bits, 5) for k in (a, a if b is None else b))
    differ = np.bitwise_count(x[:, None] ^ y[None])
    within = (differ[..., : used.first_bits // 8].sum(2) <= used.first_radius) & (differ.sum(2) <= used.radius)
    i, j = np.nonzero(np.triu(within, 1) if b is None else within)
    assert sorted(proposed) == sorted(zip(i.tolist(), j.tolist(), strict=True))


def routed_block(a: Block) -> Routed:
    return Routed(a, sketches_of(a), home_cosines(a, CENTROIDS))


@pytest.mark.parametrize(("a", "b"), [(A, None), (A, B), (B, A), (ONE, A), (NONE, A)])
@pytest.mark.parametrize("margin", [-1.0, 0.0, 0.1, 0.3, 3.0])
def test_rows_meet_when_either_visits_the_home_of_the_other(a: Block, b: Block | None, margin: float) -> None:
    """With sketches that let all pass, so that only the routing decides."""
    other = a if b is None else b
    all_pass = SketchFilter(128, 0, 128, 128)
    ra, rb = (Routed(x, sketch_block(x, all_pass, 5), home_cosines(x, CENTROIDS)) for x in (a, other))
    met = routed_join(ra, None if b is None else rb, CENTROIDS, margin, all_pass)
    proposed = [p for i, j in met for p in zip(i.tolist(), j.tolist(), strict=True)]
    assert len(proposed) == len(set(proposed))
    to_home = {x: x.unit_vectors(slice(None)) @ CENTROIDS.T for x in (a, other)}

    def visits(x: Block, i: int, cell: int) -> bool:
        return cell == x.cells[i] or to_home[x][i, x.cells[i]] - to_home[x][i, cell] <= margin

    n, m = len(a), len(other)
    every = itertools.combinations(range(n), 2) if b is None else itertools.product(range(n), range(m))
    expected = {(i, j) for i, j in every if visits(a, i, other.cells[j]) or visits(other, j, a.cells[i])}
    assert len(set(proposed) ^ expected) <= 0.001 * len(expected)  # a gap equal to the margin but for rounding
    if margin == 3.0:
        assert len(proposed) == (len(a) * (len(a) - 1) // 2 if b is None else len(a) * len(other))


def index_of(a: Block, centroids: np.ndarray) -> Any:
    narrow = vectors.build_shard(a.ids, a.vectors, a.cells, centroids)
    return over_all_cells(narrow, np.unique(a.cells), centroids)


def shard_search(a: Block, on: FaissGpu | None = None) -> ShardSearch:
    index = index_of(a, CENTROIDS)
    return ShardSearch.on(on, a, index) if on else ShardSearch(a, index)


def portions_of(a: ShardSearch, b: ShardSearch | None, limits: SearchLimits, counts: SearchCounts) -> list[list]:
    found = ivf_join(a, b, limits, counts)
    return [list(zip(i.tolist(), j.tolist(), strict=True)) for i, j in found]


@pytest.mark.parametrize("is_gpu", [False, True], ids=["cpu", "gpu"])
@pytest.mark.parametrize("k", [0, 3, 64, 2048])
@pytest.mark.parametrize(("a", "b"), [(A, None), (A, B), (B, A), (ONE, A), (A, ONE), (NONE, A), (ONE, None)])
def test_the_faiss_join_with_all_probes_finds_what_brute_force_finds(
    a: Block, b: Block | None, k: int, is_gpu: bool
) -> None:
    """On a GPU, which has no range search, and with any k: queries with more near rows are asked again."""
    gpu = open_gpu("cuda:0", Library()) if is_gpu else None
    searches = shard_search(a, gpu), None if b is None else shard_search(b, gpu)
    counts = SearchCounts()
    portions = portions_of(*searches, SearchLimits(6, k, 0.6, 0.6), counts)
    assert all(len(set(portion)) == len(portion) for portion in portions)  # each place among the nearest is one image's
    found = sorted({pair for portion in portions for pair in portion}) or np.empty((0, 2), np.int64)
    i, j = np.array(found).T
    near = vectors.cosines(a.vectors[i], (a if b is None else b).vectors[j]) >= 0.6
    found = set(zip(i[near].tolist(), j[near].tolist(), strict=True))
    unit = {p for p in near_pairs(a, b, 0.6) if both_unit(a, p[0]) and both_unit(a if b is None else b, p[1])}
    assert unit <= found <= near_pairs(a, b, 0.6)
    assert counts.n_queries == len(a) + (0 if b is None else len(b))
    if min(len(a), len(a if b is None else b)) > 100:
        assert (counts.n_full > 0) == (k == 3)


@pytest.mark.parametrize("is_gpu", [False, True], ids=["cpu", "gpu"])
def test_the_nearest_below_the_similarity_of_pairs_are_found_without_a_second_search(is_gpu: bool) -> None:
    """Between floor and similarity k rows suffice: a query is full only where its k-th is near enough to be a pair."""
    gpu = open_gpu("cuda:0", Library()) if is_gpu else None
    counts, k, low, high = SearchCounts(), 8, 0.05, 0.9
    a, b = (Block(x.ids, x.unit_vectors(slice(None)).astype(np.float16), x.cells) for x in (A, B))
    used = shard_search(a, gpu), shard_search(b, gpu)
    found = {p for portion in portions_of(*used, SearchLimits(6, k, low, high), counts) for p in portion}
    assert counts.n_full == 0
    cosine = vectors.cosines(np.repeat(A.vectors, len(B), 0), np.tile(B.vectors, (len(A), 1))).reshape(len(A), len(B))
    for i in range(len(A)):
        top = np.argsort(-cosine[i])[: k - 2].tolist()  # the last may be ties of others
        assert {(i, j) for j in top if cosine[i, j] >= low} <= found


def test_the_flat_index_of_a_gpu_numbers_rows_and_gives_their_ids() -> None:
    searches = []
    for x in (A, B):
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(64))
        index.add_with_ids(x.unit_vectors(slice(None)), x.ids)
        searches.append(ShardSearch.on(open_gpu("cuda:0", Library()), x, index))
    found = {p for portion in portions_of(*searches, SearchLimits(0, 50, 0.6, 0.6), SearchCounts()) for p in portion}
    i, j = np.array(sorted(found)).T
    near = vectors.cosines(A.vectors[i], B.vectors[j]) >= 0.6
    assert set(zip(i[near].tolist(), j[near].tolist(), strict=True)) == near_pairs(A, B, 0.6)


@pytest.mark.parametrize(("k", "expected"), [(4, [70, 70, 70, 20]), (32, [62, 62, 62, 44]), (64, [50] * 4 + [30])])
def test_queries_and_answers_of_a_search_on_a_gpu_stay_within_bytes(
    monkeypatch: pytest.MonkeyPatch, k: int, expected: list[int]
) -> None:
    """Long vectors and many neighbours make fewer queries; at most 70 and at least 50 here."""
    monkeypatch.setattr(faiss_ivf, "_GPU_SEARCH_BYTES", 40_000)
    search = shard_search(A, open_gpu("cuda:0", Library()))
    list(ivf_join(search, None, SearchLimits(6, k, 0.6, 0.6)))
    assert search.on_gpu.searched == expected


def test_more_cells_than_a_gpu_visits_are_refused_in_words() -> None:
    many = np.eye(2100, 64, dtype=np.float32)
    index = index_of(A, many)
    search = ShardSearch.on(open_gpu("cuda:0", Library()), A, index)
    assert list(ivf_join(search, None, SearchLimits(2048, 5, 0.5, 0.5)))
    with pytest.raises(FaissGpuUnusable, match="visits at most 2,048 cells on a GPU, not 2,049"):
        list(ivf_join(search, None, SearchLimits(2049, 5, 0.5, 0.5)))


def both_unit(a: Block, row: int) -> bool:
    """FAISS multiplies rows as they are: a shorter one is below its threshold."""
    return float(np.linalg.norm(a.vectors[row].astype(np.float64))) > 1


@pytest.mark.parametrize("k", [0, 1, 3, 1000])
def test_beside_the_near_pairs_stay_the_k_nearest_above_the_floor(k: int) -> None:
    floor, keep = 0.2, 0.6
    found: dict[tuple[int, int], tuple[float, bool, bool]] = {}
    for f in score_candidates(A, B, exact.exact_join(A, B, floor), floor, k, keep):
        columns = (f.similarity, f.best_of_a, f.best_of_b)
        pairs = zip(f.i.tolist(), f.j.tolist(), strict=True)
        found |= dict(zip(pairs, zip(*(c.tolist() for c in columns), strict=True), strict=True))
    cosine = vectors.cosines(np.repeat(A.vectors, len(B), 0), np.tile(B.vectors, (len(A), 1))).reshape(len(A), len(B))
    for i in range(len(A)):
        order = sorted(range(len(B)), key=lambda j: (-cosine[i, j], B.ids[j]))
        top = [j for j in order if cosine[i, j] >= floor][:k]
        assert all(found[i, j][1] for j in top)  # a tile's best hold the best of all
    for j in range(len(B)):
        order = sorted(range(len(A)), key=lambda i: (-cosine[i, j], A.ids[i]))
        assert all(found[i, j][2] for i in [i for i in order if cosine[i, j] >= floor][:k])
    assert {p for p, rest in found.items() if rest[0] >= keep} == near_pairs(A, B, keep)
    assert all(similarity == cosine[p] for p, (similarity, _, _) in found.items())
    assert all(similarity >= keep or a or b for similarity, a, b in found.values())
    if k == 0:
        assert len(found) == len(near_pairs(A, B, keep))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_of_a_row_do_not_depend_on_the_order_of_the_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    row, other = rng.integers(0, 20, 300), rng.permutation(300)
    similarity = rng.integers(0, 5, 300).astype(np.float32)  # many ties
    chosen = base.best(row, other, similarity, 4)
    shuffled = rng.permutation(300)
    assert np.array_equal(base.best(row[shuffled], other[shuffled], similarity[shuffled], 4), chosen[shuffled])
    for r in range(20):
        mine = sorted(np.flatnonzero(row == r).tolist(), key=lambda p: (-similarity[p], other[p]))
        assert set(np.flatnonzero(chosen & (row == r)).tolist()) == set(mine[:4])


def test_of_one_image_in_both_blocks_there_is_no_pair() -> None:
    """As where new images are compared with everything, themselves among it."""
    same = Block(A.ids[::-1].copy(), A.vectors[::-1].copy(), A.cells[::-1].copy())
    found = kept(A, same, exact.exact_join(A, same, 0.6), 0.6)
    assert all(A.ids[i] != same.ids[j] for i, j in found)
    assert len(found) == 2 * len(near_pairs(A, None, 0.6))


def test_blocks_of_two_models_are_refused() -> None:
    short = Block(B.ids, B.vectors[:, :32].copy(), B.cells)
    with pytest.raises(
        ValueError, match=r"b: expected float16 of shape \(m, d\), d = 64.*found float16 of shape \(150, 32\)"
    ):
        list(exact.exact_join(A, short, 0.5))


@pytest.mark.parametrize("wrong", ["ids", "vectors", "cells"])
def test_a_block_of_another_shape_or_dtype_is_refused(wrong: str) -> None:
    arrays = {"ids": A.ids, "vectors": A.vectors, "cells": A.cells}
    with pytest.raises(ValueError, match=f"{wrong}: expected"):
        Block(**arrays | {wrong: arrays[wrong].astype(np.float64)})
    with pytest.raises(ValueError, match=r"expected .* of shape"):
        Block(**arrays | {wrong: arrays[wrong][:-1]})


def test_nothing_proposed_gives_no_pair_and_a_candidate_of_the_first_row_alone_is_scored() -> None:
    none = np.empty(0, np.int64)
    assert base.best(none, none, np.empty(0, np.float32), 3).tolist() == []
    again = Block(A.ids + 10**6, A.vectors, A.cells)
    for i, j in ((none, none), (np.array([0]), np.array([0]))):
        [found] = score_candidates(A, again, iter([(i, j)]), 0.9, 3, 0.95)
        assert found.similarity.tolist() == vectors.cosines(A.vectors[i], A.vectors[j]).tolist()
        assert found.n_candidates == len(i)


def test_the_faiss_join_with_two_probes_finds_what_either_row_probes_the_first_row_included() -> None:
    probed = {x: np.argsort(-(x.unit_vectors(slice(None)) @ CENTROIDS.T), axis=1)[:, :2] for x in (A, B)}

    def probes(x: Block, row: int, cell: int) -> bool:
        return cell in probed[x][row]

    near = {p for p in near_pairs(A, B, 0.3) if both_unit(A, p[0]) and both_unit(B, p[1])}
    forth = {(i, j) for i, j in near if probes(A, i, B.cells[j])}
    back = {(i, j) for i, j in near if probes(B, j, A.cells[i])}
    assert forth - back
    assert back - forth
    for first, second in ((min(forth - back)[0], 0), (0, min(back - forth)[1])):
        a, b = starting_with(A, first), starting_with(B, second)
        found = {
            (a.ids[i], b.ids[j])
            for rows in ivf_join(shard_search(a), shard_search(b), SearchLimits(2, 0, 0.3, 0.3))
            for i, j in zip(*(r.tolist() for r in rows), strict=True)
        }
        assert {(A.ids[i], B.ids[j]) for i, j in forth | back} <= found


def starting_with(a: Block, row: int) -> Block:
    order = np.r_[row, np.delete(np.arange(len(a)), row)]
    return Block(a.ids[order], a.vectors[order], a.cells[order])
