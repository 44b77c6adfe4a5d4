"""Claim: all near pairs are found several times faster than by an exact matrix product or by FAISS, at recall near 1.

The whole step `match` (Spark jobs, reads, exact scores, pHash join, writing `pairs`; without start-up and `index`) runs
with each engine in one warm session. It is compared with two plain programs in the same run, on all cores:

- gemm: exact float32 products of half the matrix in NumPy, block by block, pairs kept; also the truth for recall.
- faiss: IndexIVFFlat range_search of every vector, with the smallest nprobe that reaches recall 0.99 (training, adding
  and the search for nprobe are not counted). Recall here is the mean over images of the share of their pairs: k-means
  gives a group of hundreds a cell of its own, and as such groups hold most pairs, two probes would seem enough.

Above `--plain-rows` both plain programs do a random share of their queries and their times are scaled up (both are
linear in them), and recall is that of the pairs of those queries. The vectors are those of `vectors.py`: fitted to real
embeddings, with planted groups of 2 to `n` / 200 (at most 5,000) and one skewed cell.

As the plain programs do, the engines find the pairs above the threshold alone (match.neighbours=0). The engine
`default` is what users get: `auto`, which also finds the 32 nearest images of each image above a lower floor.

    python benchmarks/match.py --quick
    python benchmarks/match.py --n 30000 100000
    python benchmarks/match.py --n 100000 --min-similarity 0.45 --engines auto

On executors of their own, here two of 1 GB:

    export PYTHONPATH=$PWD
    spark-submit --properties-file conf/local/spark-defaults.conf --master 'local-cluster[2,1,1024]' benchmarks/match.py

The ratios `time_vs_...` are seconds of ours over seconds of theirs: 0.1 is ten times faster.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from harness import Table, describe_machine, n_cores, print_json
from memory import peak_bytes
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from vectors import lake_vectors

from dedup_spark.config import Config, load_config
from dedup_spark.kernels.arrays import Float16
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.spark.session import get_session
from dedup_spark.store.runs import Run, new_run_id
from dedup_spark.store.schema import ALL, CENTROIDS, FEATURES, IMAGES, PAIRS, QUALITY, RUNS, SHARDS
from dedup_spark.store.tables import Tables

SEED = 7
ENGINES = ("auto", "sketch", "routed", "default", "exact", "faiss_ivf")
_BLOCK_ROWS, _TUNED_QUERIES, _WANTED_RECALL = 2048, 2000, 0.99
_WARM_ROUNDS = 3

Keys = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plain:
    """Results of the two plain programs at one size: seconds for all queries, true pairs of `queries` as i * n + j."""

    queries: npt.NDArray[np.int64]
    truth: Keys
    gemm_seconds: float
    faiss_seconds: float
    faiss_recall: float
    nprobe: int


@dataclass(frozen=True)
class Row:
    """The figures of one engine at one size."""

    n: int
    engine: str
    chosen: str
    seconds: float
    index_seconds: float
    time_vs_gemm: float
    time_vs_faiss_ivf_at_099: float
    recall: float
    image_recall: float
    audited_low: float | None
    audited_high: float | None
    candidates: int
    pairs: int
    shuffled_bytes: int
    peak_python_bytes: int
    peak_jvm_bytes: int
    peak_executor_bytes: int


# --- plain programs -----------------------------------------------------------------------------------------


def plain_programs(vectors: Float16, min_similarity: float, max_rows: int) -> Plain:
    n = len(vectors)
    x = vectors.astype(np.float32)
    rng = np.random.default_rng(SEED)
    if n <= max_rows:
        queries = np.arange(n)
        truth, gemm_seconds = gemm_half(x, min_similarity)
    else:
        queries = np.sort(rng.choice(n, max_rows * max_rows // n, replace=False))
        truth, seconds = gemm_queries(x, queries, min_similarity)
        gemm_seconds = seconds * n / len(queries) / 2  # half the matrix
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(x.shape[1]), x.shape[1], round(math.sqrt(n)), faiss.METRIC_INNER_PRODUCT
    )
    index.train(x[rng.choice(n, min(n, 64 * index.nlist), replace=False)])
    index.add(x)
    index.nprobe = smallest_nprobe(index, x, queries, truth, min_similarity)
    begin = time.monotonic()
    found = faiss_pairs(index, x, queries, min_similarity)
    faiss_seconds = (time.monotonic() - begin) * n / len(queries)
    return Plain(queries, truth, gemm_seconds, faiss_seconds, image_recall(truth, found, n), index.nprobe)


def gemm_half(x: npt.NDArray[np.float32], min_similarity: float) -> tuple[Keys, float]:
    """All pairs i < j, and the seconds."""
    n, keys = len(x), []
    begin = time.monotonic()
    for i in range(0, n, _BLOCK_ROWS):
        for j in range(i, n, _BLOCK_ROWS):
            row, col = np.nonzero(x[i : i + _BLOCK_ROWS] @ x[j : j + _BLOCK_ROWS].T >= min_similarity)
            row, col = row + i, col + j
            keep = row < col
            keys.append(row[keep] * n + col[keep])
    return np.sort(np.concatenate(keys)), time.monotonic() - begin


def gemm_queries(x: npt.NDArray[np.float32], queries: npt.NDArray[np.int64], low: float) -> tuple[Keys, float]:
    """All pairs of some rows with everything, and the seconds."""
    keys = []
    begin = time.monotonic()
    for i in range(0, len(queries), _BLOCK_ROWS):
        some = x[queries[i : i + _BLOCK_ROWS]]
        for j in range(0, len(x), _BLOCK_ROWS):
            row, col = np.nonzero(some @ x[j : j + _BLOCK_ROWS].T >= low)
            keys.append(as_keys(queries[row + i], col + j, len(x)))
    return np.unique(np.concatenate(keys)), time.monotonic() - begin


def faiss_pairs(index: Any, x: npt.NDArray[np.float32], queries: npt.NDArray[np.int64], low: float) -> Keys:
    keys = [np.empty(0, np.int64)]
    for start in range(0, len(queries), 8192):
        some = queries[start : start + 8192]
        limits, _, found = index.range_search(x[some], low)
        keys.append(as_keys(np.repeat(some, np.diff(limits.astype(np.int64))), found, len(x)))
    return np.unique(np.concatenate(keys))


def smallest_nprobe(
    index: Any, x: npt.NDArray[np.float32], queries: npt.NDArray[np.int64], truth: Keys, low: float
) -> int:
    """The smallest nprobe that reaches the recall, by doubling and bisection on some of the queries that have a pair.

    A pair counts as found when either side finds it.
    """
    n = len(x)
    paired = np.intersect1d(queries, np.concatenate([truth // n, truth % n]))
    some = np.sort(np.random.default_rng(SEED).permutation(paired)[:_TUNED_QUERIES])
    both_sides = np.union1d(some, _partners(truth, some, n))
    wanted = truth[np.isin(truth // n, some) | np.isin(truth % n, some)]

    def reaches(nprobe: int) -> bool:
        index.nprobe = nprobe
        return image_recall(wanted, faiss_pairs(index, x, both_sides, low), n) >= _WANTED_RECALL

    high = 1
    while high < index.nlist and not reaches(high):
        high = min(2 * high, index.nlist)
    below = high // 2
    while high - below > max(1, high // 8):
        middle = (below + high) // 2
        below, high = (below, middle) if reaches(middle) else (middle, high)
    return high


def as_keys(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], n: int) -> Keys:
    """The keys i * n + j of pairs, with i < j; pairs of a row with itself are left out."""
    keep = a != b
    return np.minimum(a, b)[keep] * n + np.maximum(a, b)[keep]


def _partners(truth: Keys, rows: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    a, b = truth // n, truth % n
    return np.union1d(b[np.isin(a, rows)], a[np.isin(b, rows)])


def image_recall(truth: Keys, found: Keys, n: int) -> float:
    """The share of the pairs of an image that was found; the mean over all images that have a pair."""
    if len(truth) == 0:
        return 1.0
    hit = np.isin(truth, found, assume_unique=True)
    sides = (truth // n, truth % n)
    n_pairs = sum(np.bincount(side, minlength=n) for side in sides)
    n_hit = sum(np.bincount(side[hit], minlength=n) for side in sides)
    return float((n_hit[n_pairs > 0] / n_pairs[n_pairs > 0]).mean())


def share_found(truth: Keys, found: Keys) -> float:
    return float(np.isin(truth, found, assume_unique=True).mean()) if len(truth) else 1.0


# --- ours ---------------------------------------------------------------------------------------------------


def write_features(tables: Tables, vectors: Float16, scratch: Path) -> npt.NDArray[np.int64]:
    """A `features` table of these vectors, as extract would have left it; returns image_id by row of `vectors`."""
    rng = np.random.default_rng(SEED)
    ids = np.unique(rng.integers(-(2**62), 2**62, 2 * len(vectors)))[: len(vectors)]
    ids = rng.permutation(ids)
    path = scratch / "features.parquet"
    for part, start in enumerate(range(0, len(vectors), 50_000)):
        some = vectors[start : start + 50_000]
        names = [hashlib.sha256(b"%d" % i).hexdigest() for i in range(start, start + len(some))]
        columns = {
            "image_id": ids[start : start + len(some)],
            "phash": rng.integers(-(2**63), 2**63 - 1, len(some)),
            "content_hash": names,
            "pixel_hash": names,
            "embedding": pa.array([row.tobytes() for row in some.astype("<f2")], pa.binary()),
        }
        path.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path / f"{part:04d}.parquet")
    given = {"status": F.lit("ok"), "model_id": F.lit("generated"), "object_version": F.lit(0)}
    rows = tables.spark.read.parquet(str(path))
    for name, type_name in FEATURES.schema.types.items():
        if name not in rows.columns:
            rows = rows.withColumn(name, given.get(name, F.lit(None)).cast(type_name))
    tables.append(FEATURES, rows)
    return ids


def found_keys(tables: Tables, ids: npt.NDArray[np.int64], min_similarity: float) -> Keys:
    """The pairs of the table `pairs`, as keys of rows of the vectors."""
    wanted = tables.read(PAIRS).where(F.col("similarity") >= min_similarity).select("image_id_a", "image_id_b")
    rows = wanted.toArrow()
    order = np.argsort(ids)
    a, b = (order[np.searchsorted(ids, rows[c].to_numpy(), sorter=order)] for c in rows.column_names)
    return np.unique(as_keys(a, b, len(ids)))


def forget_matches(tables: Tables) -> None:
    """Empty the tables that the engine before has written, so that every image is new to the next one."""
    for table in ALL:
        if table not in (IMAGES, FEATURES, CENTROIDS, SHARDS, RUNS):
            tables.overwrite(table, local_relation(tables.spark, [], table.schema))


def shuffled_bytes(spark: SparkSession) -> int:
    """Bytes that all executors have written to shuffles since the session began."""
    executors = spark.sparkContext._jsc.sc().statusStore().executorList(False)
    return sum(executors.apply(i).totalShuffleWrite() for i in range(executors.size()))


def settings_for(engine: str, options: argparse.Namespace) -> Config:
    low = options.min_similarity
    wanted = [f"match.min_similarity={low}", f"cluster.min_similarity={low}", "match.max_pairs_per_image=1000000"]
    own = [] if engine == "default" else [f"match.engine={engine}", "match.neighbours=0"]
    return load_config(None, [*wanted, *own, *options.set])


def time_engines(vectors: Float16, plain: Plain, options: argparse.Namespace, scratch: Path) -> list[Row]:
    spark, n, low = get_session("benchmark"), len(vectors), options.min_similarity
    tables = Tables(spark, str(scratch / f"tables-{n}"))
    tables.create_missing()
    ids = write_features(tables, vectors, scratch / f"rows-{n}")
    run = Run(tables, settings_for(options.engines[0], options), "generated", new_run_id())
    begin = time.monotonic()
    run_step(spark, run.config, run, find_step("index"))
    index_seconds = time.monotonic() - begin
    asked = np.zeros(n, bool)
    asked[plain.queries] = True
    rows = []
    for engine in options.engines:
        run = Run(tables, settings_for(engine, options), "generated", new_run_id())
        forget_matches(tables)
        before, begin = shuffled_bytes(spark), time.monotonic()
        with peak_bytes() as peak:
            run_step(spark, run.config, run, find_step("match"), force=True)
        seconds, keys = time.monotonic() - begin, found_keys(tables, ids, low)
        of_queries = keys[asked[keys // n] | asked[keys % n]]
        audit = {
            r["metric"]: r for r in tables.read(QUALITY).where("metric IN ('recall', 'candidates_per_pair')").collect()
        }
        notes = tables.read(RUNS).where(f"run_id = '{run.run_id}' AND status = 'complete'").first()["notes"]
        rows.append(
            Row(
                n=n,
                engine=engine,
                chosen=json.loads(notes)["engine"],
                seconds=seconds,
                index_seconds=index_seconds,
                time_vs_gemm=seconds / plain.gemm_seconds,
                time_vs_faiss_ivf_at_099=seconds / plain.faiss_seconds,
                recall=share_found(plain.truth, of_queries),
                image_recall=image_recall(plain.truth, of_queries, n),
                audited_low=audit["recall"]["low"],
                audited_high=audit["recall"]["high"],
                candidates=audit["candidates_per_pair"]["n_found"],
                pairs=len(keys),
                shuffled_bytes=shuffled_bytes(spark) - before,
                peak_python_bytes=peak["python"],
                peak_jvm_bytes=peak["jvm"],
                peak_executor_bytes=peak["executor"],
            )
        )
    return rows


def warm_up(options: argparse.Namespace, scratch: Path) -> None:
    """Start the session and its workers, and run each engine some times on a few vectors, as the JVM compiles what it
    runs often. `auto` would take the exact engine for so few."""
    vectors = lake_vectors(1000, SEED, 20)
    nothing = Plain(np.arange(1000), np.empty(0, np.int64), 1.0, 1.0, 1.0, 1)
    engines = list(dict.fromkeys("sketch" if e == "auto" else e for e in options.engines))
    few = argparse.Namespace(**vars(options) | {"engines": engines})
    for n in range(1 if options.quick else _WARM_ROUNDS):
        time_engines(vectors, nothing, few, scratch / f"warm-{n}")


def exponents(rows: list[Row]) -> dict[str, float]:
    """For each engine, the slope of log seconds over log n, where there are two sizes or more."""
    found = {}
    for engine in {row.engine for row in rows}:
        points = [(math.log(row.n), math.log(row.seconds)) for row in rows if row.engine == engine]
        if len(points) > 1:
            x, y = np.array(points).T
            found[engine] = float(f"{np.polyfit(x, y, 1)[0]:.3g}")
    return found


def show(rows: list[Row], plains: dict[int, Plain]) -> None:
    columns = ("engine", "n", "seconds", "to gemm", "to faiss", "recall", "candidates", "pairs", "shuffled MB",
               "Python MB", "JVM MB", "executor MB")  # fmt: skip
    table = Table(columns)
    for n, plain in plains.items():
        table.add("gemm", n, plain.gemm_seconds, 1.0, plain.gemm_seconds / plain.faiss_seconds, "1", *[""] * 6)
        table.add(
            f"faiss, nprobe {plain.nprobe}", n, plain.faiss_seconds, plain.faiss_seconds / plain.gemm_seconds, 1.0,
            f"{plain.faiss_recall:.4f}", *[""] * 6,
        )  # fmt: skip
        for row in (row for row in rows if row.n == n):
            name = row.engine if row.engine == row.chosen else f"{row.engine}: {row.chosen}"
            times = (row.seconds, row.time_vs_gemm, row.time_vs_faiss_ivf_at_099)
            memory = (row.peak_python_bytes, row.peak_jvm_bytes, row.peak_executor_bytes)
            moved = (n_bytes / 1e6 for n_bytes in (row.shuffled_bytes, *memory))
            table.add(name, n, *times, f"{row.recall:.5f}", row.candidates, row.pairs, *moved)
    table.show()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[30_000, 100_000, 300_000], help="numbers of vectors")
    parser.add_argument("--quick", action="store_true", help="8,000 vectors")
    parser.add_argument("--min-similarity", type=float, default=0.7)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES[:4]), choices=ENGINES)
    parser.add_argument("--largest-group", type=int, default=0, help="default: n / 200, from 50 to 5,000")
    parser.add_argument("--plain-rows", type=int, default=100_000, help="largest n that the plain programs do whole")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of dedup-spark")
    options = parser.parse_args()
    faiss.omp_set_num_threads(n_cores())
    scratch = Path(tempfile.mkdtemp(prefix="dedup-benchmark-"))
    rows: list[Row] = []
    plains: dict[int, Plain] = {}
    try:
        warm_up(options, scratch)
        for n in [8_000] if options.quick else options.n:
            vectors = lake_vectors(n, SEED, options.largest_group or min(5_000, max(50, n // 200)))
            plains[n] = plain_programs(vectors, options.min_similarity, options.plain_rows)
            rows += time_engines(vectors, plains[n], options, scratch)
            show(rows[-len(options.engines) :], {n: plains[n]})
    finally:
        get_session("benchmark").stop()
        shutil.rmtree(scratch)
    print(f"\ncosine >= {options.min_similarity:g}, {describe_machine()}\n")
    show(rows, plains)
    head = next(row for row in rows if row.n == max(plains))
    known = {name: asdict(head)[name] for name in ("n", "engine", "time_vs_gemm", "time_vs_faiss_ivf_at_099", "recall")}
    sides = {n: {"gemm": p.gemm_seconds, "faiss": p.faiss_seconds, "nprobe": p.nprobe} for n, p in plains.items()}
    print_json(
        known
        | {"min_similarity": options.min_similarity, "exponent": exponents(rows), "rows": [asdict(row) for row in rows],
           "plain_seconds": sides, "machine": describe_machine()}
    )  # fmt: skip


if __name__ == "__main__":
    main()
