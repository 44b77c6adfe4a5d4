"""Claim: FAISS on a GPU finds the pairs of a lake; what it costs beside products on the GPU, and FAISS on a CPU beside
products and sketches there.

Vectors in, kernels called directly: no Spark and no Java, so it runs on any machine with the packages. The vectors are
those of `vectors.py`, in shards by cells as the step index writes them, and every two shards are joined as a task of
match does, with the exact scores of what was proposed. Each engine finds the pairs above the threshold alone.

    python benchmarks/faiss_join.py --quick
    python benchmarks/faiss_join.py --n 30000 --cpu                   # exact, sketch, routed and faiss_ivf on the CPU
    python benchmarks/faiss_join.py --n 100000 300000 --gpu cuda:0    # exact_gpu, and FAISS on the GPU by type of index

The truth is the exact join of the same device. `n_probes` of `faiss` is the smallest of a few that finds 99.9 % of the
pairs of a sample of 1,000 images, as match finds it; `--recall` asks for another share. `vs_exact` is seconds over
those of the exact join: 0.1 is ten times faster. A GPU is timed with the copies to it; the first search of each kind is
not counted, as CUDA starts then.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from harness import Table, describe_machine, print_json
from vectors import lake_vectors

from dedup_spark.kernels import vectors
from dedup_spark.kernels.arrays import Float16, Float32
from dedup_spark.kernels.faiss_index import DEFAULT, fill_index, has_cells_of, over_all_cells, train_index
from dedup_spark.kernels.joins.base import Block, Candidates, score_candidates
from dedup_spark.kernels.joins.exact import exact_join
from dedup_spark.kernels.joins.faiss_device import FaissGpu, FaissGpuUnusable, open_gpu
from dedup_spark.kernels.joins.faiss_ivf import SearchCounts, SearchLimits, ShardSearch, ivf_join
from dedup_spark.kernels.joins.routed import Routed, home_cosines, routed_join
from dedup_spark.kernels.joins.sketch import sketch_block, sketch_join
from dedup_spark.kernels.joins.sketches import choose_filter, negatives_of

SEED, N_SAMPLED = 7, 1_000
PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)

Keys = npt.NDArray[np.int64]
Join = Callable[[int, int | None], Candidates]


@dataclass(frozen=True)
class Lake:
    """Shards by cells, as the step index makes them; ids are positions of rows."""

    blocks: list[Block]
    centroids: Float32
    sample: Float16

    @property
    def n(self) -> int:
        return sum(map(len, self.blocks))


def make_lake(n: int, rows_per_shard: int) -> Lake:
    x = lake_vectors(n, SEED, largest=max(2, min(5_000, n // 200)))
    n_cells = max(1, round(n**0.5 / 2))
    rng = np.random.default_rng(SEED)
    drawn = rng.choice(n, min(n, 64 * n_cells), replace=False)
    centroids = vectors.train_centroids(vectors.to_float32(x[drawn]), n_cells, SEED)
    cells = vectors.Quantiser(centroids).nearest(vectors.to_float32(x))
    order = np.argsort(cells, kind="stable")
    parts = [order[start : start + rows_per_shard] for start in range(0, n, rows_per_shard)]
    return Lake(
        [Block(p.astype(np.int64), x[p], cells[p]) for p in parts], centroids, x[rng.permutation(n)[:N_SAMPLED]]
    )


def items(n_shards: int) -> Iterator[tuple[int, int | None]]:
    """Every two shards once, and each with itself."""
    for a in range(n_shards):
        yield a, None
        yield from ((a, b) for b in range(a + 1, n_shards))


def timed(lake: Lake, join: Join, low: float) -> tuple[float, Keys, int]:
    """Seconds, the pairs found as keys, and candidates."""
    keys, n_candidates = [np.empty(0, np.int64)], 0
    begin = time.perf_counter()
    for a, b in items(len(lake.blocks)):
        block_a, block_b = lake.blocks[a], None if b is None else lake.blocks[b]
        base = block_a if block_b is None else block_b
        for f in score_candidates(block_a, block_b, join(a, b), low, 0, low):
            i, j = block_a.ids[f.i], base.ids[f.j]
            keys.append(np.minimum(i, j) * lake.n + np.maximum(i, j))
            n_candidates += f.n_candidates
    seconds = time.perf_counter() - begin
    return seconds, np.unique(np.concatenate(keys)), n_candidates


def exact_of(lake: Lake, low: float, device: str | None) -> Join:
    def join(a: int, b: int | None) -> Candidates:
        blocks = lake.blocks[a], None if b is None else lake.blocks[b]
        if device is None:
            return exact_join(*blocks, low)
        from dedup_spark.kernels.joins.exact_gpu import Wanted, exact_gpu_join  # PyTorch is not needed without a GPU

        return exact_gpu_join(*blocks, Wanted(low, 0, low), device)

    return join


def sketch_of(lake: Lake, low: float, recall: float) -> Join:
    chosen = choose_filter([(low, recall)], negatives_of(lake.sample))
    sketched = [sketch_block(block, chosen, SEED) for block in lake.blocks]
    return lambda a, b: sketch_join(sketched[a], None if b is None else sketched[b], chosen)


def indexes_of(lake: Lake, index_type: str) -> list[Any]:
    """An index for each shard, over all cells, as match searches it."""
    if index_type == DEFAULT:
        made = [vectors.build_shard(b.ids, b.vectors, b.cells, lake.centroids) for b in lake.blocks]
    else:
        sample = vectors.to_float32(lake.blocks[0].vectors[: 64 * len(lake.centroids)])
        trained = train_index(index_type, lake.centroids, sample)
        made = [fill_index(trained, b.ids, b.unit_vectors(slice(None)), b.cells, lake.centroids) for b in lake.blocks]
    held = [np.unique(b.cells) for b in lake.blocks]
    return [over_all_cells(i, cells, lake.centroids) for i, cells in zip(made, held, strict=True)]


def faiss_of(lake: Lake, indexes: list[Any], limits: SearchLimits, gpu: FaissGpu | None, counts: SearchCounts) -> Join:
    """Copies to the GPU are made at their first use, so that they are timed."""
    searches: dict[int, ShardSearch] = {}

    def search(shard: int) -> ShardSearch:
        if shard not in searches:
            block, index = lake.blocks[shard], indexes[shard]
            searches[shard] = ShardSearch.on(gpu, block, index) if gpu else ShardSearch(block, index)
        return searches[shard]

    return lambda a, b: ivf_join(search(a), None if b is None else search(b), limits, counts)


@dataclass(frozen=True)
class Routes:
    """What a share of the pairs needs: probes of FAISS, and the margin of the routed join."""

    n_probes: int
    margin: float


def routes_for(lake: Lake, truth: Keys, recall: float) -> Routes:
    """The smallest of PROBES, and the margin, with which one of two near images visits the cell of the other."""
    some = truth[np.random.default_rng(SEED).permutation(len(truth))[:N_SAMPLED]]
    if not len(some):
        return Routes(1, 0.4)
    place = np.argsort(np.concatenate([block.ids for block in lake.blocks]))
    cells = np.concatenate([block.cells for block in lake.blocks])[place].astype(np.int64)
    rows = np.concatenate([block.vectors for block in lake.blocks])[place]
    ranks, gaps = [], []
    for one, other in ((some // lake.n, some % lake.n), (some % lake.n, some // lake.n)):
        products = vectors.to_float32(rows[one]) @ lake.centroids.T
        there, home = (np.take_along_axis(products, cells[x][:, None], 1) for x in (other, one))
        ranks.append(1 + (products > there).sum(1))
        gaps.append(np.where(cells[one] == cells[other], -1, (home - there)[:, 0]))
    needed, margin = np.quantile(np.minimum(*ranks), recall), np.quantile(np.minimum(*gaps), recall)
    return Routes(next((n for n in PROBES if n >= needed), PROBES[-1]), float(margin))


def routed_of(lake: Lake, low: float, recall: float, margin: float) -> Join:
    chosen = choose_filter([(low, recall)], negatives_of(lake.sample))
    routed = [Routed(b, sketch_block(b, chosen, SEED), home_cosines(b, lake.centroids)) for b in lake.blocks]
    return lambda a, b: routed_join(routed[a], None if b is None else routed[b], lake.centroids, margin, chosen)


def run(lake: Lake, options: argparse.Namespace, table: Table) -> None:
    device, low = options.gpu or None, options.min_similarity
    gpu = open_gpu(device) if device else None
    exact_name = "exact_gpu" if device else "exact"
    few = Lake(
        [Block(b.ids[:2000], b.vectors[:2000], b.cells[:2000]) for b in lake.blocks[:1]], lake.centroids, lake.sample
    )
    timed(few, exact_of(few, low, device), low)  # CUDA and the libraries start
    exact_seconds, truth, n_candidates = timed(lake, exact_of(lake, low, device), low)

    def report(engine: str, seconds: float, found: Keys, proposed: int, **more: Any) -> None:
        recall = float(np.isin(truth, found, assume_unique=True).mean()) if len(truth) else 1.0
        figures = {
            "n": lake.n,
            "engine": engine,
            "seconds": seconds,
            "vs_exact": seconds / exact_seconds,
            "recall": recall,
        }
        own = (more.get(name, "") for name in ("n_probes", "k", "full_queries"))
        table.add(lake.n, engine, seconds, seconds / exact_seconds, recall, proposed, *own)
        print_json(figures | {"pairs": len(found), "candidates": proposed} | more)

    routes = routes_for(lake, truth, options.recall)
    report(exact_name, exact_seconds, truth, n_candidates)
    if not device:
        report("sketch", *timed(lake, sketch_of(lake, low, options.recall), low))
        report("routed", *timed(lake, routed_of(lake, low, options.recall, routes.margin), low))
    n_probes = options.probes or routes.n_probes
    for index_type in options.types:
        begin = time.perf_counter()
        indexes = indexes_of(lake, index_type)
        build_seconds = time.perf_counter() - begin
        margin = 0.01 if index_type.endswith(("Flat", "fp16", "bf16", "SQ8")) else options.margin
        probes = n_probes if has_cells_of(index_type) else 0
        for k in options.k if device else (0,):
            limits, counts = SearchLimits(probes, k, low, low, margin), SearchCounts()
            warm = faiss_of(few, [indexes_of(few, DEFAULT)[0]], SearchLimits(1, k, low, low), gpu, SearchCounts())
            timed(few, warm, low)
            try:
                answer = timed(lake, faiss_of(lake, indexes, limits, gpu, counts), low)
            except FaissGpuUnusable as e:
                print(f"{index_type}, k {k}: {e}", flush=True)
                continue
            name = f"faiss {index_type}{' on the GPU' if device else ''}"
            report(name, *answer, n_probes=probes, k=k, full_queries=counts.n_full, build_seconds=build_seconds)
    if gpu:
        time_cells(lake, gpu)


def time_cells(lake: Lake, gpu: FaissGpu) -> None:
    """Training of the cells and their assignment, on the CPU and on the GPU."""
    rows = np.concatenate([vectors.to_float32(b.vectors) for b in lake.blocks[:4]])
    sample, n_cells = rows[: 64 * len(lake.centroids)], len(lake.centroids)
    for where, train in (("cpu", vectors.train_centroids), ("gpu", gpu.train_centroids)):
        begin = time.perf_counter()
        centroids = train(sample, n_cells, SEED)
        train_seconds = time.perf_counter() - begin
        cells = vectors.Quantiser(centroids) if where == "cpu" else gpu.nearest_cells(centroids)
        begin = time.perf_counter()
        cells.nearest(rows)
        assign_seconds = time.perf_counter() - begin
        sizes = {"n_cells": n_cells, "train_rows": len(sample), "assigned": len(rows)}
        times = {"train_seconds": train_seconds, "assign_seconds": assign_seconds}
        print_json({"n": lake.n, "engine": f"cells on the {where}"} | sizes | times)


def require_gpu(device: str) -> None:
    try:
        open_gpu(device)
    except FaissGpuUnusable as e:
        raise SystemExit(f"--gpu {device}: {e}") from e


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[30_000], help="numbers of vectors")
    parser.add_argument("--gpu", default="", metavar="cuda:0", help="search on this GPU; without it on the CPU")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, which is the default")
    parser.add_argument("--min-similarity", type=float, default=0.7)
    parser.add_argument("--recall", type=float, default=0.999, help="share of pairs that the probes must reach")
    parser.add_argument("--probes", type=int, default=0, help="cells to visit; 0: found by --recall")
    parser.add_argument(
        "--k", type=int, nargs="+", default=[128], help="neighbours per query on the GPU; several to compare"
    )
    parser.add_argument("--types", nargs="+", default=[DEFAULT, "IVF,Flat", "IVF,SQ8", "Flat"], help="types of index")
    parser.add_argument(
        "--margin", type=float, default=0.1, help="how far below the cosine scores of PQ and SQ4 may lie"
    )
    parser.add_argument("--shard-rows", type=int, default=65_536)
    parser.add_argument("--quick", action="store_true", help="3,000 vectors")
    options = parser.parse_args()
    if options.quick:
        options.n, options.shard_rows = [3_000], 2_000
    print(f"{describe_machine()}; FAISS {faiss.__version__}, {faiss.get_num_gpus()} GPUs", flush=True)
    if options.gpu:
        require_gpu(options.gpu)
    table = Table(("vectors", "engine", "seconds", "vs_exact", "recall", "candidates", "probes", "k", "full"))
    for n in options.n:
        run(make_lake(n, options.shard_rows), options, table)
    table.show()


if __name__ == "__main__":
    main()
