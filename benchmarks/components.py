"""Claim: components of 10 M edges are found on 2 cores, in bounded memory and O(log n) rounds, equal to an oracle's.

There are two graphs: `random`, with as many edges as nodes (one giant component and many small ones), and `chain`, the
worst case for methods that pass labels along (100,000 nodes, ids in order of the chain). The components of each are
found by contraction in Spark alone, by contraction until `cluster.max_driver_pairs` edges are left, and by
large-star/small-star (Kiveris et al., SoCC 2014), in one session. The result is compared with SciPy's, node by node.
Memory is the JVM's heap limit, which a run that needs more would not survive, and the peak of this Python process.

    python benchmarks/components.py --quick
    python benchmarks/components.py --n 10000000
"""

from __future__ import annotations

import argparse
import logging
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from harness import Table, describe_machine, print_json
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import ClusterSettings
from dedup_spark.kernels.clusters.components import label_components
from dedup_spark.spark.session import get_session
from dedup_spark.stages.cluster import components
from dedup_spark.store.tables import Tables

Ids = np.ndarray
Method = Callable[[DataFrame, Tables], tuple[DataFrame, int]]
_CHAIN = 100_000


class CountRounds(logging.Handler):
    """Counts the lines in which a method reports a round."""

    n = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.n += "round" in record.getMessage()


def contraction(max_driver_edges: int) -> Method:
    """The package's own method; it returns the components and the number of rounds."""

    def run(edges: DataFrame, tables: Tables) -> tuple[DataFrame, int]:
        counter = CountRounds()
        log = logging.getLogger(components.__name__)
        log.addHandler(counter)
        try:
            return components.connected_components(edges, tables, max_driver_edges), counter.n
        finally:
            log.removeHandler(counter)

    return run


def large_star_small_star(edges: DataFrame, tables: Tables) -> tuple[DataFrame, int]:
    """The method of Kiveris et al., until nothing changes; each round is staged on disk, as in the package's own."""
    current, before, rounds = tables.stage("stars-0", downward(edges)), (-1, -1), 0
    while True:
        rounds += 1
        both = current.unionByName(current.select(F.col("b").alias("a"), F.col("a").alias("b")))
        least = both.groupBy("a").agg(F.min("b").alias("m")).select("a", F.least("a", "m").alias("m"))
        large = downward(both.join(least, "a").where("b > a").select(F.col("b").alias("a"), F.col("m").alias("b")))
        smallest = large.groupBy("a").agg(F.min("b").alias("m"))
        small = large.join(smallest, "a").select(F.col("b").alias("a"), F.col("m").alias("b"))
        down = small.unionByName(smallest.select("a", F.col("m").alias("b")))
        current = tables.stage(f"stars-{rounds}", downward(down))
        row = current.agg(F.count("*").alias("n"), F.bit_xor(F.xxhash64("a", "b")).alias("x")).collect()[0]
        after = (row["n"], row["x"])
        if after == before:
            break
        before = after
    roots = current.select(F.col("b").alias("image_id"), F.col("b").alias("component_id")).distinct()
    return current.select(F.col("a").alias("image_id"), F.col("b").alias("component_id")).unionByName(roots), rounds


def downward(edges: DataFrame) -> DataFrame:
    """Each edge once, from the larger id to the smaller."""
    return edges.select(F.greatest("a", "b").alias("a"), F.least("a", "b").alias("b")).where("a <> b").distinct()


def random_graph(n: int) -> tuple[Ids, Ids]:
    """n edges over n nodes, whose ids are spread over 64 bits as hashes are."""
    rng = np.random.default_rng(0)
    ids = rng.integers(-(2**63), 2**63 - 1, n)
    return ids[rng.integers(0, n, n)], ids[rng.integers(0, n, n)]


def chain(n: int) -> tuple[Ids, Ids]:
    """n nodes in a row, in order."""
    return np.arange(n - 1), np.arange(1, n)


def time_method(spark: SparkSession, method: Method, graph: DataFrame, oracle: tuple[Ids, Ids]) -> tuple[float, int]:
    """Seconds and rounds. Raises SystemExit when the components differ from those of the oracle."""
    root = Path(tempfile.mkdtemp(prefix="components-"))
    tables = Tables(spark, str(root))
    try:
        begin = time.monotonic()
        labels, rounds = method(graph, tables)
        staged = tables.stage("result", labels)
        seconds = time.monotonic() - begin
        found = staged.toArrow()
        order = np.argsort(found["image_id"].to_numpy())
        same = [np.array_equal(found[c].to_numpy()[order], o) for c, o in zip(found.column_names, oracle, strict=True)]
        if not all(same):
            raise SystemExit("the components are not those of SciPy")
        return seconds, rounds
    finally:
        shutil.rmtree(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000_000, help="edges of the random graph")
    parser.add_argument("--quick", action="store_true", help="100,000 edges and a chain of 2,000")
    parser.add_argument("--no-stars", action="store_true", help="leave out large-star/small-star")
    options = parser.parse_args()
    n, links = (100_000, 2_000) if options.quick else (options.n, _CHAIN)
    spark = get_session("benchmark-components")
    logging.getLogger("dedup_spark").setLevel(logging.INFO)
    heap = spark.sparkContext._jvm.java.lang.Runtime.getRuntime().maxMemory() / 2**30  # type: ignore[union-attr]
    print(f"{describe_machine()}; heap {heap:.1f} GiB")
    methods: dict[str, Method] = {
        "contraction": contraction(0),
        "contraction, then driver": contraction(min(ClusterSettings().max_driver_pairs, n // 4)),
    }
    if not options.no_stars:
        methods["large-star/small-star"] = large_star_small_star
    table, figures = Table(("graph", "method", "rounds", "seconds")), {"n_edges": n, "chain_nodes": links}
    for name, (a, b) in (("chain", chain(links)), ("random", random_graph(n))):
        folder = Path(tempfile.mkdtemp(prefix="edges-"))
        graph = Tables(spark, str(folder)).stage("edges", spark.createDataFrame(pa.table({"a": a, "b": b})))
        begin = time.monotonic()
        keep = a != b
        oracle = label_components(a[keep], b[keep])
        table.add(name, "SciPy, in memory", 0, time.monotonic() - begin)
        graph = graph.where("a <> b")
        for method_name, method in methods.items():
            seconds, rounds = time_method(spark, method, graph, oracle)
            table.add(name, method_name, rounds, seconds)
            key = f"{name}_{method_name.split()[0].split('-')[0]}{'_driver' if 'driver' in method_name else ''}"
            figures |= {f"{key}_seconds": seconds, f"{key}_rounds": rounds}
        shutil.rmtree(folder)
    table.show()
    if not options.no_stars:
        figures["random_speedup"] = figures["random_large_seconds"] / figures["random_contraction_seconds"]
    figures["python_peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print_json({"benchmark": "components", **figures, "heap_gib": heap})


if __name__ == "__main__":
    main()
