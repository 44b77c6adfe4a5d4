"""Connected components of pairs as DataFrames: on the driver while the edges fit there, else distributed.

The distributed way is large-star/small-star (Kiveris et al., "Connected Components in MapReduce and Beyond", SoCC
2014): every round points nodes at the smallest id that they can see, in O(log^2 n) rounds, with at most as many
edges as there were. Each round is written down, so that a lost executor costs a task and plans stay short.
"""

from __future__ import annotations

import itertools
import logging

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.errors import TableError
from dedup_spark.kernels import components
from dedup_spark.tables import Tables

log = logging.getLogger(__name__)

_THRESHOLD_STEP = 0.05


def bounded_components(edges: DataFrame, tables: Tables, max_images: int, max_driver_edges: int) -> DataFrame:
    """(image_id, component_id) of edges (a, b, similarity); none has more than `max_images` members.

    A larger component is split by raising the threshold on its edges step by step. Its members that lose all
    edges leave it; what is still too large at similarity 1 is a crowd of equal vectors, and stays.
    """
    labels = tables.stage("components", connected_components(edges, tables, max_driver_edges))
    lowest = edges.agg(F.min("similarity").alias("lowest")).first()
    threshold = lowest["lowest"] if lowest and lowest["lowest"] is not None else 1.0
    step = 0
    while True:
        large = labels.groupBy("component_id").count().where(F.col("count") > max_images).select("component_id")
        n_large = large.count()
        if n_large == 0 or threshold >= 1.0:
            return labels
        step += 1
        threshold = min(threshold + _THRESHOLD_STEP, 1.0)
        log.info("cluster: %d components above %d images, split at similarity %.2f", n_large, max_images, threshold)
        crowded = labels.join(large, "component_id").select(F.col("image_id").alias("a"))
        strong = edges.join(crowded, "a", "left_semi").where(F.col("similarity") >= threshold)
        edges = tables.stage(f"edges-{step}", strong)
        split = connected_components(edges, tables, max_driver_edges)
        rest = labels.join(large, "component_id", "left_anti").select(split.columns)
        labels = tables.stage(f"components-{step}", rest.unionByName(split))


def connected_components(edges: DataFrame, tables: Tables, max_driver_edges: int) -> DataFrame:
    """(image_id, component_id): every node of edges (a, b) with the smallest id of its component."""
    if edges.count() <= max_driver_edges:
        return _on_driver(edges)
    return _distributed(edges, tables)


def _on_driver(edges: DataFrame) -> DataFrame:
    columns = edges.select("a", "b").toArrow()
    nodes, component = components.label_components(columns["a"].to_numpy(), columns["b"].to_numpy())
    rows = zip(nodes.tolist(), component.tolist(), strict=True)
    return edges.sparkSession.createDataFrame(list(rows), "image_id bigint, component_id bigint")


def _distributed(edges: DataFrame, tables: Tables) -> DataFrame:
    current = tables.stage("stars-0", _downward(edges.select("a", "b")))
    before = _digest(current)
    for round_number in itertools.count(1):
        current = tables.stage(f"stars-{round_number}", small_star(large_star(current)))
        after = _digest(current)
        log.info("cluster: components, round %d, %s edges", round_number, f"{after[0]:,}")
        if after == before:
            break
        before = after
    members = current.select(F.col("a").alias("image_id"), F.col("b").alias("component_id"))
    _require_stars(current)
    roots = current.select(F.col("b").alias("image_id"), F.col("b").alias("component_id")).distinct()
    return members.unionByName(roots)


def large_star(edges: DataFrame) -> DataFrame:
    """Join every larger neighbour of a node to the smallest node that the node sees."""
    both = edges.unionByName(edges.select(F.col("b").alias("a"), F.col("a").alias("b")))
    smallest = both.groupBy("a").agg(F.min("b").alias("m")).select("a", F.least("a", "m").alias("m"))
    joined = both.join(smallest, "a").where(F.col("b") > F.col("a"))
    return _downward(joined.select(F.col("b").alias("a"), F.col("m").alias("b")))


def small_star(edges: DataFrame) -> DataFrame:
    """Join a node and its smaller neighbours to the smallest of them. Edges point down: a > b."""
    smallest = edges.groupBy("a").agg(F.min("b").alias("m"))
    neighbours = edges.join(smallest, "a").select(F.col("b").alias("a"), F.col("m").alias("b"))
    return _downward(neighbours.unionByName(smallest.select("a", F.col("m").alias("b"))))


def _downward(edges: DataFrame) -> DataFrame:
    """Each edge once, from the larger id to the smaller; no loops."""
    return edges.select(F.greatest("a", "b").alias("a"), F.least("a", "b").alias("b")).where("a <> b").distinct()


def _digest(edges: DataFrame) -> tuple[int, int]:
    row = edges.agg(F.count("*").alias("n"), F.bit_xor(F.xxhash64("a", "b")).alias("x")).first()
    return (row["n"], row["x"]) if row else (0, 0)


def _require_stars(edges: DataFrame) -> None:
    """At the end each node points once, at a node that points nowhere; anything else would be a wrong component."""
    twice = edges.groupBy("a").count().where("count > 1")
    chained = edges.select("b").join(edges.select(F.col("a").alias("b")), "b", "left_semi")
    if not twice.isEmpty() or not chained.isEmpty():
        raise TableError("connected components did not settle: an edge set changed while it was read; run again")
