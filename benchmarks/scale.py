"""Claim: from features on, the job ends at millions of images on two cores, with a driver of 1 GB.

The steps index, match, cluster and report run through Spark on a driver of 1 GB and two executors of one core and 2 GB
each, over the made-up tables of `made_features.py`, at default settings but for those of `--set`. For each size and
step: seconds, processor seconds of all tasks, bytes read, shuffled and written, and the peak memory of the driver's JVM
and of one executor with its Python workers; then the files of each table, and how the planted groups were found.

The exponent is the slope of log task seconds over log n between the smallest and the largest size.

    python benchmarks/scale.py --quick
    python benchmarks/scale.py --n 100000 300000 1000000
    python benchmarks/scale.py --n 10000000 --keep /big/disk    # call it again after it was killed: it continues

With `--keep` the tables stay in that folder. Another call with the same size continues them: steps that ended are not
done again (their figures are kept in `runs`), and match goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from cluster_scores import pairs_of
from deltalake import DeltaTable
from harness import Table, describe_machine, print_json
from made_features import LAKE, make_tables
from memory import peak_bytes
from pyspark.sql import SparkSession

from dedup_spark.config import load_config
from dedup_spark.pipeline import find_step, run_step
from dedup_spark.spark.delta import DELTA_SETTINGS, delta_jar
from dedup_spark.spark.session import get_session
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import ALL, CLUSTERS, FEATURES, RUNS
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import RunStatus, StepName

STEPS = (StepName.INDEX, StepName.MATCH, StepName.CLUSTER, StepName.REPORT)
SEED = 11
_RUN_ID = "scale"
_FIGURES = "figures.json"


@dataclass(frozen=True)
class Figures:
    """Of one step at one size."""

    n: int
    step: str
    seconds: float
    task_seconds: float
    read_bytes: int
    shuffled_bytes: int
    written_bytes: int
    driver_bytes: int
    executor_bytes: int


@dataclass(frozen=True)
class Found:
    """How the planted groups were found, over pairs of images in one cluster, and the files that the tables have."""

    n: int
    precision: float
    recall: float
    n_clusters: int
    n_files: dict[str, int]
    features_files_per_128_mb: float


def start_spark(options: argparse.Namespace, scratch: Path) -> SparkSession:
    """A driver and executors in processes of their own, each with its own memory."""
    settings = {
        "spark.driver.memory": options.driver_memory,
        "spark.executor.memory": "1g",  # and as much for its Python worker
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.executorEnv.PYTHONPATH": ":".join(path for path in sys.path if path),
        "spark.local.dir": str(scratch / "spark"),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.jars.packages": delta_jar(),
        **DELTA_SETTINGS,
    }
    builder = SparkSession.builder.master(options.master).appName("scale")
    for key, value in settings.items():
        builder = builder.config(key, value)
    builder.getOrCreate()
    return get_session("scale")


def measure(spark: SparkSession, n: int, options: argparse.Namespace, folder: Path) -> tuple[list[Figures], Found]:
    """Make the tables unless they are there, and run the steps that have not ended yet."""
    tables = Tables(spark, str(folder / "tables"))
    if not (folder / "made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tables.create_missing()
        make_tables(tables, n, options.seed, folder / "rows")
        for name in ("images", "features"):
            shutil.rmtree(folder / "rows" / name)
        (folder / "made").touch()
    config = load_config(None, options.set)
    known = json.loads((folder / _FIGURES).read_text()) if (folder / _FIGURES).exists() else {}
    for step in STEPS:
        if step in known:
            continue
        begin = time.monotonic()
        with peak_bytes() as peak:
            run = Run(tables, config, LAKE, _RUN_ID)
            run_step(spark, config, run, find_step(step))
        seconds = time.monotonic() - begin
        work = work_of(tables, step)
        known[step] = asdict(
            Figures(
                n, step, seconds, work["task_seconds"], int(work["read_bytes"]), int(work["shuffled_bytes"]),
                int(work["written_bytes"]), peak["driver"], peak["executor"],
            )
        )  # fmt: skip
        (folder / _FIGURES).write_text(json.dumps(known))
        logging.getLogger(__name__).info("%s of %d: %.0f s", step, n, seconds)
    return [Figures(**known[step]) for step in STEPS], score(tables, n, folder)


def work_of(tables: Tables, step: str) -> dict[str, float]:
    """What Spark did in the last call of the step, as `runs.notes` has it."""
    done = tables.read(RUNS).where(f"step = '{step}' AND status = '{RunStatus.COMPLETE}'").orderBy("at").tail(1)
    found: dict[str, float] = json.loads(done[0]["notes"])["work"]
    return found


def score(tables: Tables, n: int, folder: Path) -> Found:
    """Precision and recall over pairs of planted groups; a twentieth of the lake is in memory."""
    truth = pq.read_table(folder / "rows" / "truth.parquet")
    group_of = dict(zip(truth["image_id"].to_pylist(), truth["group"].to_pylist(), strict=True))
    members = tables.read(CLUSTERS).select("cluster_id", "image_id").toArrow()
    clusters, groups = members["cluster_id"].to_numpy(), members["image_id"].to_pylist()
    # An image of no group is a group of its own.
    ids = np.array([group_of.get(image_id, -1 - row) for row, image_id in enumerate(groups)], np.int64)
    both = _pairs_of_equal(np.stack([clusters, ids], axis=1))
    n_true = _pairs_of_equal(truth["group"].to_numpy()[:, None])
    n_joined = _pairs_of_equal(clusters[:, None])
    files = {table.name: DeltaTable(f"{tables.root}/{table.name}").get_add_actions(flatten=True) for table in ALL}
    n_bytes = sum(files[FEATURES.name].column("size_bytes").to_pylist())
    return Found(
        n,
        both / n_joined if n_joined else 1.0,
        both / n_true if n_true else 1.0,
        len(set(clusters.tolist())),
        {name: added.num_rows for name, added in files.items()},
        files[FEATURES.name].num_rows / max(1.0, n_bytes / 2**27),
    )


def _pairs_of_equal(rows: np.ndarray) -> int:
    """How many pairs of rows are equal in all columns."""
    if not len(rows):
        return 0
    counts = np.unique(rows, axis=0, return_counts=True)[1]
    return sum(pairs_of(int(count)) for count in counts)


def exponents(rows: list[Figures]) -> dict[str, float]:
    """By step, and `all`: the slope of log task seconds between the smallest and the largest size."""
    low, high = min(row.n for row in rows), max(row.n for row in rows)
    if low == high:
        return {}
    seconds = {
        (n, step): sum(row.task_seconds for row in rows if row.n == n and step in (row.step, "all"))
        for n in (low, high)
        for step in (*STEPS, "all")
    }
    return {
        step: math.log(seconds[high, step] / seconds[low, step]) / math.log(high / low)
        for step in (*STEPS, "all")
        if seconds[low, step]
    }


def show(rows: list[Figures], found: list[Found]) -> None:
    table = Table(
        ("step", "n", "seconds", "task s", "read MB", "shuffled MB", "written MB", "driver MB", "executor MB")
    )
    for row in rows:
        sizes = (row.read_bytes, row.shuffled_bytes, row.written_bytes, row.driver_bytes, row.executor_bytes)
        table.add(row.step, row.n, row.seconds, row.task_seconds, *(n_bytes / 1e6 for n_bytes in sizes))
    table.show()
    for one in found:
        print(
            f"{one.n:,}: precision {one.precision:.4f}, recall {one.recall:.4f} of the planted pairs, "
            f"{one.n_clusters:,} clusters; files: {', '.join(f'{k} {v}' for k, v in one.n_files.items() if v)}; "
            f"features: {one.features_files_per_128_mb:.2f} files for 128 MB"
        )


@contextmanager
def folder_for(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="dedup-benchmark-") as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[100_000, 300_000, 1_000_000], help="numbers of images")
    parser.add_argument("--quick", action="store_true", help="5,000 and 10,000 images")
    parser.add_argument("--keep", type=Path, help="folder whose tables are kept and continued")
    parser.add_argument("--master", default="local-cluster[2,1,2048]")
    parser.add_argument("--driver-memory", default="1g")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of dedup-spark")
    options = parser.parse_args()
    rows: list[Figures] = []
    found: list[Found] = []
    with folder_for(options.keep) as folder:
        spark = start_spark(options, folder)
        try:
            for n in [5_000, 10_000] if options.quick else options.n:
                figures, scored = measure(spark, n, options, folder / f"{n}")
                rows, found = [*rows, *figures], [*found, scored]
                show(figures, [scored])
        finally:
            spark.stop()
    print(f"\n{describe_machine()}\n")
    show(rows, found)
    figures_of_all = {
        "exponent": exponents(rows),
        "rows": [asdict(r) for r in rows],
        "found": [asdict(f) for f in found],
    }
    print_json({"n": max(row.n for row in rows), **figures_of_all, "machine": describe_machine()})


if __name__ == "__main__":
    main()
