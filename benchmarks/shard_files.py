"""Claim: what a work item of match needs of a shard is read in milliseconds; made anew it takes a share of the join.

One shard of generated vectors (`vectors.py`) is written as the step index writes it. Then everything that an item by
sketches or by routing needs of it is got in two ways, in turn: from the flat files, mapped, and as it was before there
were any, from the FAISS file, with norms, sketches and cosines to the home cells computed for each item. Processor
time, the best of five; the files are in the page cache, and were checked before. Beside it stands the sketch join of
the shard with another one. What is made grows with the rows, the join with their square, so small shards suffer most.

    python benchmarks/shard_files.py
    python benchmarks/shard_files.py --rows 12000     # some 100 million images on 1,400 cores, as shards once were
    python benchmarks/shard_files.py --quick          # 4,096 rows
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from harness import Table, describe_machine, print_json, total_bytes
from vectors import lake_vectors

from dedup_spark.kernels import vectors
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.routed import home_cosines
from dedup_spark.kernels.joins.sketch import BlockSketches, sketch_block, sketch_join
from dedup_spark.kernels.joins.sketches import SketchFilter, choose_filter, negatives_of
from dedup_spark.store.shards import ShardFiles, read_shard, write_centroids, write_shard

SEED, N_CELLS = 7, 100
N_INDEX_CELLS = 5_000
"""Of an index of 100 million: half the square root."""


def lake(n_rows: int) -> tuple[list[Block], np.ndarray]:
    """Two shards of neighbouring cells, and the centroids of an index of many more."""
    x = lake_vectors(2 * n_rows, SEED, largest=max(2, n_rows // 200))
    held = vectors.train_centroids(vectors.to_float32(x[: 64 * N_CELLS]), N_CELLS, SEED)
    others = vectors.to_float32(x[np.random.default_rng(SEED).integers(0, len(x), N_INDEX_CELLS - N_CELLS)])
    cells = vectors.nearest_cells(vectors.to_float32(x), held)
    order = np.argsort(cells, kind="stable")
    parts = (order[:n_rows], order[n_rows:])
    return [Block(part.astype(np.int64), x[part], cells[part]) for part in parts], np.concatenate([held, others])


def from_flat_files(root: Path, named: ShardFiles, used: SketchFilter) -> tuple[Block, BlockSketches, np.ndarray]:
    shard = read_shard.__wrapped__(str(root), named)  # type: ignore[attr-defined]  # without what the worker keeps
    return shard.block, shard.sketches(used, SEED), shard.home_cosines


def from_faiss(root: Path, named: ShardFiles, used: SketchFilter) -> tuple[Block, BlockSketches, np.ndarray]:
    index = faiss.read_index(str(root / named.path))
    centroids = index.quantizer.reconstruct_n(0, index.nlist)
    held = [list_of(index, number) for number in range(index.nlist)]
    ids, rows = (np.concatenate(parts) for parts in zip(*held, strict=True))
    block = Block(ids, rows, np.repeat(np.arange(index.nlist, dtype=np.int32), [len(ids) for ids, _ in held]))
    return block, sketch_block(block, used, SEED), home_cosines(block, centroids)


def list_of(index: faiss.Index, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and float16 vectors of a list."""
    lists, size = index.invlists, index.invlists.list_size(number)
    codes = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size)
    return faiss.rev_swig_ptr(lists.get_ids(number), size).copy(), codes.view(np.float16).reshape(size, -1).copy()


def best_of(n: int, work: Callable[[], object]) -> float:
    """Processor milliseconds."""
    times = []
    for _ in range(n):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return 1000 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=65_536, help="of a shard")
    parser.add_argument("--min-similarity", type=float, default=0.7)
    parser.add_argument("--min-recall", type=float, default=0.999)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    n_rows = 4_096 if options.quick else options.rows
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root, (blocks, centroids) = Path(scratch), lake(n_rows)
        used = choose_filter([(options.min_similarity, options.min_recall)], negatives_of(blocks[0].vectors[:1000]))
        of_index = write_centroids(scratch, "build", centroids), centroids
        row = write_shard(scratch, "build/shard-00000.faiss", blocks[0], of_index, SEED)
        named = ShardFiles.of({"index_path": None, "index_sha256": None} | row)
        ways = {"flat files": from_flat_files, "FAISS file": from_faiss}
        taken = {name: best_of(5, lambda way=way: way(root, named, used)) for name, way in ways.items()}
        sketched = [sketch_block(block, used, SEED) for block in blocks]
        joined = best_of(3, lambda: list(sketch_join(*sketched, used)))
        sizes = {path.name.partition(".")[2]: path.stat().st_size for path in root.glob("build/shard-*")}
        repeated = centroids.nbytes - len(row["cells"]) * centroids.shape[1] * 4
        print(f"{describe_machine()}; {n_rows:,} rows, sketches of {used.first_bits} + {used.rest_bits} bits")
        table = Table(("", "ms", "to the join"))
        for name, ms in (taken | {"the join itself": joined}).items():
            table.add(name, ms, ms / joined)
        table.show()
        print_json({
            "n": n_rows, "n_bits": used.n_bits, "flat_ms": taken["flat files"], "faiss_ms": taken["FAISS file"],
            "join_ms": joined, "faiss_to_flat": taken["FAISS file"] / taken["flat files"],
            "bytes_per_row": {name: round(size / n_rows, 1) for name, size in sizes.items()},
            "all_bytes": total_bytes(root), "centroids_left_out": repeated,
        })  # fmt: skip


if __name__ == "__main__":
    main()
