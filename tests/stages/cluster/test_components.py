"""Connected components in Spark against networkx, and how components that are too large come apart."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
from fabricated import random_ids
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.errors import TableError
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster import components
from dedup_spark.stages.cluster.components import bounded_components, connected_components
from dedup_spark.store.tables import Tables

EDGES = "a bigint, b bigint, similarity double"


def graphs() -> dict[str, networkx.Graph]:
    """Graphs without a common node, over ids of the whole range; in some, neighbours have neighbouring ids."""
    rng = np.random.default_rng(7)
    shapes: dict[str, Any] = {
        "one edge": networkx.path_graph(2),
        "chain": networkx.path_graph(200),
        "chain with ascending ids": networkx.path_graph(200),
        "star": networkx.star_graph(60),
        "grid": networkx.grid_2d_graph(12, 15),
        "ring": networkx.cycle_graph(33),
        "everyone with everyone": networkx.complete_graph(15),
        "two stars that share a leaf": networkx.compose(
            networkx.relabel_nodes(networkx.star_graph(20), {20: "shared"}),
            networkx.relabel_nodes(networkx.star_graph(20), {i: "shared" if i == 20 else -i - 1 for i in range(21)}),
        ),
    }
    shapes |= {
        f"random, seed {seed}": networkx.gnm_random_graph(90, int(30 + 15 * seed), seed=seed) for seed in range(6)
    }
    pool = random_ids(sum(len(shape) for shape in shapes.values()), rng)
    named = {}
    for name, shape in shapes.items():
        ids = [pool.pop() for _ in shape]
        named[name] = networkx.relabel_nodes(
            shape, dict(zip(shape, sorted(ids) if "ascend" in name else ids, strict=True))
        )
    return named


GRAPHS = graphs()


class CountRounds(logging.Handler):
    """Counts the lines in which a round is reported."""

    n = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.n += "round" in record.getMessage()


ROUNDS = CountRounds()


@pytest.fixture(
    scope="module",
    params=[
        "on the driver",
        pytest.param("distributed", marks=pytest.mark.slow),
        "distributed, then on the driver",
    ],
)
def labels(request: pytest.FixtureRequest, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Node to component of all graphs, found at once; edges come in any direction and some of them twice."""
    ROUNDS.n = 0
    log = logging.getLogger(components.__name__)
    log.setLevel(logging.INFO)
    log.addHandler(ROUNDS)
    rng = np.random.default_rng(8)
    edges = [edge for graph in GRAPHS.values() for edge in graph.edges]
    edges += [edges[i] for i in rng.integers(0, len(edges), 50)]
    turned = [(a, b) if rng.random() < 0.5 else (b, a) for a, b in edges]
    found = connected_components(
        local_relation(spark, [turned[i] for i in rng.permutation(len(turned))], "a bigint, b bigint").repartition(3),
        Tables(spark, str(tmp_path_factory.mktemp("components"))),
        max_driver_edges={"on the driver": 10**6, "distributed": 0}.get(request.param, len(turned) // 5),
    )
    log.removeHandler(ROUNDS)
    rows = [(r["image_id"], r["component_id"]) for r in found.collect()]
    assert len(rows) == len(dict(rows))
    return dict(rows)


@pytest.mark.parametrize("name", list(GRAPHS))
def test_components_are_those_of_networkx_named_by_their_smallest_node(labels: dict, name: str) -> None:
    graph = GRAPHS[name]
    expected = {node: min(c) for c in networkx.connected_components(graph) if len(c) > 1 for node in c}
    assert {node: labels.get(node) for node in graph} == {node: expected.get(node) for node in graph}


@pytest.mark.slow
def test_there_are_as_many_rounds_as_the_number_of_nodes_has_digits(
    request: pytest.FixtureRequest, labels: dict
) -> None:
    way = request.node.callspec.params["labels"]
    low, high = {"on the driver": (0, 0), "distributed": (3, 2 * math.log2(len(labels)))}.get(way, (1, 4))
    assert low <= ROUNDS.n <= high


def test_an_edge_that_leads_out_of_its_component_stops_the_step(spark: SparkSession) -> None:
    edges = local_relation(spark, [(1, 2), (2, 3)], "a bigint, b bigint")
    settled = local_relation(spark, [(1, 1), (2, 1), (3, 1)], "image_id bigint, component_id bigint")
    components._require_settled(edges, settled)
    apart = settled.withColumn("component_id", F.when(F.col("image_id") == 1, 7).otherwise(F.col("component_id")))
    for wrong in (settled.where("image_id < 3"), apart):
        with pytest.raises(TableError, match="run again"):
            components._require_settled(edges, wrong)


def test_no_node_is_made_up(labels: dict) -> None:
    assert set(labels) == {node for graph in GRAPHS.values() for edge in graph.edges for node in edge}


@pytest.mark.parametrize("max_driver_edges", [0, 10])
def test_no_edges_make_no_components(spark: SparkSession, tmp_path: Path, max_driver_edges: int) -> None:
    nothing = local_relation(spark, [], EDGES)
    assert connected_components(nothing, Tables(spark, str(tmp_path)), max_driver_edges).collect() == []
    assert bounded(nothing, tmp_path, max_driver_edges=max_driver_edges) == {}


def bounded(edges: DataFrame, root: Path, max_images: int = 6, max_driver_edges: int = 10**6) -> dict[int, set[int]]:
    """Component to its members."""
    tables = Tables(edges.sparkSession, str(root))
    found: dict[int, set[int]] = {}
    for row in bounded_components(edges, tables, max_images, max_driver_edges).collect():
        members = found.setdefault(row["component_id"], set())
        assert row["image_id"] not in members
        members.add(row["image_id"])
    return found


def clique(nodes: range, similarity: float) -> list[tuple[int, int, float]]:
    return [(a, b, similarity) for a in nodes for b in nodes if a < b]


def test_large_components_come_apart_at_their_weak_edges_and_small_ones_stay(
    spark: SparkSession, tmp_path: Path
) -> None:
    edges = clique(range(-10, -5), 0.99) + clique(range(10, 15), 0.96) + [(-6, 10, 0.86)]  # two groups and a bridge
    edges += [(20, 21, 0.86)]  # weak, but small
    edges += clique(range(30, 38), 1.0)  # equal vectors: no threshold splits them
    edges += clique(range(40, 43), 0.97) + [(40, leaf, 0.87) for leaf in range(50, 58)]  # a hub with weak leaves
    found = bounded(local_relation(spark, edges, EDGES), tmp_path)
    assert found == {
        -10: set(range(-10, -5)),
        10: set(range(10, 15)),
        20: {20, 21},
        30: set(range(30, 38)),
        40: {40, 41, 42},
    }


def test_a_component_at_the_bound_is_not_touched(spark: SparkSession, tmp_path: Path) -> None:
    weak_ring = [(i, (i + 1) % 6, 0.5) for i in range(6)]
    assert bounded(local_relation(spark, weak_ring, EDGES), tmp_path, max_images=6) == {0: set(range(6))}


@pytest.mark.slow
def test_splitting_is_the_same_when_distributed(spark: SparkSession, tmp_path: Path) -> None:
    edges = clique(range(1, 5), 0.97) + clique(range(5, 9), 0.98) + [(4, 5, 0.91)]
    found = bounded(local_relation(spark, edges, EDGES), tmp_path, max_images=4, max_driver_edges=0)
    assert found == {1: {1, 2, 3, 4}, 5: {5, 6, 7, 8}}
