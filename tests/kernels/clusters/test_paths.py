"""Shortest paths against networkx."""

from __future__ import annotations

import networkx
import numpy as np
import pytest

from dedup_spark.kernels.clusters.components import shortest_path


@pytest.mark.parametrize("seed", range(8))
def test_paths_have_the_fewest_edges_and_of_those_the_most_similar(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = networkx.gnm_random_graph(40, 60, seed=seed)
    edges = np.array(graph.edges)
    similarity = rng.uniform(0, 1, len(edges)).round(3)
    for (a, b), s in zip(edges.tolist(), similarity, strict=True):
        graph.edges[a, b]["loss"] = 1 - s
    start, goal = sorted(max(networkx.connected_components(graph), key=len))[:2]
    found = shortest_path(edges[:, 0], edges[:, 1], similarity, start, goal)
    paths = [list(p) for p in networkx.all_shortest_paths(graph, start, goal)]
    assert found in paths
    assert networkx.path_weight(graph, found, "loss") == pytest.approx(
        min(networkx.path_weight(graph, p, "loss") for p in paths)
    )


def test_no_path_is_an_empty_one() -> None:
    a, b, s = np.array([1, 5]), np.array([2, 6]), np.ones(2)
    assert shortest_path(a, b, s, 1, 6) == shortest_path(a, b, s, 1, 9) == shortest_path(a, b, s, -3, 2) == []
    assert shortest_path(a, b, s, 5, 5) == [5]


def test_of_paths_over_unlike_images_the_less_unlike_one_is_taken() -> None:
    a, b = np.array([1, 2, 1, 3]), np.array([2, 4, 3, 4])
    assert shortest_path(a, b, np.array([-0.9, -0.9, -0.2, -0.9]), 1, 4) == [1, 3, 4]
    assert shortest_path(a, b, np.array([-0.2, -0.9, -0.9, -0.9]), 1, 4) == [1, 2, 4]
