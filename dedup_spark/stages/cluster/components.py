"""Connected components of pairs as DataFrames: contracted in Spark while the edges are many, then on the driver.

The distributed way is randomised contraction (Boegeholz, Brand and Todor, "In-database connected component analysis",
ICDE 2020): in every round each node is replaced by that one of itself and its neighbours whose id hashes lowest, by
another hash in each round. In expectation the nodes shrink by a constant factor per round whatever the graph (a chain
halves, a dense group collapses at once), so there are O(log n) rounds and, as later rounds are small, O(m) work in all.
As soon as few enough edges are left the driver does the rest. Each round is staged, so that a lost executor costs one
task and plans stay short.
"""

from __future__ import annotations

import itertools
import logging

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.errors import TableError
from dedup_spark.kernels.clusters import components
from dedup_spark.store.tables import Tables

log = logging.getLogger(__name__)

_THRESHOLD_STEP = 0.05


def bounded_components(edges: DataFrame, tables: Tables, max_images: int, max_driver_edges: int) -> DataFrame:
    """(image_id, component_id, raised_to) of edges (a, b, similarity); none has more than `max_images` members.

    A larger component is split by raising the threshold on its edges step by step. Its members that lose all
    edges leave it. A component that is still too large at similarity 1 consists of equal vectors, and stays.
    `raised_to` is the threshold that made it; null where none was raised.
    """
    whole = connected_components(edges, tables, max_driver_edges)
    labels = tables.stage("components", whole.withColumn("raised_to", F.lit(None).cast("double")))
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
        inside = labels.join(large, "component_id").select(F.col("image_id").alias("a"))
        strong = edges.join(inside, "a", "left_semi").where(F.col("similarity") >= threshold)
        edges = tables.stage(f"edges-{step}", strong)
        split = connected_components(edges, tables, max_driver_edges).withColumn("raised_to", F.lit(threshold))
        rest = labels.join(large, "component_id", "left_anti").select(split.columns)
        labels = tables.stage(f"components-{step}", rest.unionByName(split))


def connected_components(edges: DataFrame, tables: Tables, max_driver_edges: int) -> DataFrame:
    """(image_id, component_id): every node of edges (a, b) with the smallest id of its component.

    Raises:
        TableError: an edge leads out of its component, as when the edges changed while they were read.
    """
    if edges.count() <= max_driver_edges:
        return _on_driver(edges)
    labels = tables.stage("labels-0", _by_contraction(edges.select("a", "b"), tables, max_driver_edges))
    _require_settled(edges, labels)
    return labels


def _on_driver(edges: DataFrame) -> DataFrame:
    """16 bytes per edge arrive as Arrow and 16 bytes per node leave as Arrow; no row becomes a Python object."""
    columns = edges.select("a", "b").toArrow()
    nodes, component = components.label_components(columns["a"].to_numpy(), columns["b"].to_numpy())
    return edges.sparkSession.createDataFrame(pa.table({"image_id": nodes, "component_id": component}))


def _by_contraction(edges: DataFrame, tables: Tables, max_driver_edges: int) -> DataFrame:
    """(image_id, component_id), by rounds; the ids are the smallest of their components."""
    rounds: list[DataFrame] = []
    current = edges
    for number in itertools.count(1):
        heads = tables.stage(f"heads-{number}", nearest_heads(current, number))
        rounds.append(heads)
        current = tables.stage(f"contracted-{number}", contract(current, heads))
        n_edges = current.count()
        log.info("cluster: components, round %d, %s edges left", number, f"{n_edges:,}")
        if n_edges <= max_driver_edges:
            break
    labels = _on_driver(current).withColumnRenamed("component_id", "head")
    for number, heads in reversed(list(enumerate(rounds, 1))):
        labels = tables.stage(f"labels-{number}", follow(heads, labels))
    smallest = labels.groupBy("head").agg(F.min("image_id").alias("component_id"))
    return labels.join(smallest, "head").select("image_id", "component_id")


def nearest_heads(edges: DataFrame, round_number: int) -> DataFrame:
    """(image_id, head): for every node that one of itself and its neighbours whose id hashes lowest in this round."""
    both = edges.unionByName(edges.select(F.col("b").alias("a"), F.col("a").alias("b")))
    own, other = (F.struct(F.xxhash64(c, F.lit(round_number)).alias("hash"), F.col(c).alias("id")) for c in "ab")
    lowest = both.groupBy("a").agg(F.min(other).alias("other")).select("a", F.least(own, "other").alias("lowest"))
    return lowest.select(F.col("a").alias("image_id"), F.col("lowest.id").alias("head"))


def contract(edges: DataFrame, heads: DataFrame) -> DataFrame:
    """The edges (a, b) between different heads, each once, the smaller id first."""
    of_a, of_b = (heads.select(F.col("image_id").alias(c), F.col("head").alias(f"head_{c}")) for c in "ab")
    ends = edges.join(of_a, "a").join(of_b, "b").where("head_a <> head_b")
    return ends.select(F.least("head_a", "head_b").alias("a"), F.greatest("head_a", "head_b").alias("b")).distinct()


def follow(heads: DataFrame, later: DataFrame) -> DataFrame:
    """(image_id, head) with each head replaced by its own head in the later rounds; one that has none is final."""
    onward = later.select(F.col("image_id").alias("head"), F.col("head").alias("onward"))
    return heads.join(onward, "head", "left").select("image_id", F.coalesce("onward", "head").alias("head"))


def _require_settled(edges: DataFrame, labels: DataFrame) -> None:
    """Both ends of every edge are in one component; anything else would be a wrong cluster."""
    of_a, of_b = (labels.select(F.col("image_id").alias(c), F.col("component_id").alias(f"of_{c}")) for c in "ab")
    ends = edges.select("a", "b").join(of_a, "a", "left").join(of_b, "b", "left")
    if not ends.where("NOT (of_a <=> of_b) OR of_a IS NULL").isEmpty():
        raise TableError("connected components did not settle: an edge set changed while it was read; run again")
