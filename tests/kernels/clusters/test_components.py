from __future__ import annotations

import networkx
import numpy as np
import pytest

from dedup_spark.kernels.clusters.components import label_components


def oracle(a: np.ndarray, b: np.ndarray) -> dict[int, int]:
    graph = networkx.Graph(list(zip(a.tolist(), b.tolist(), strict=True)))
    return {node: min(component) for component in networkx.connected_components(graph) for node in component}


@pytest.mark.parametrize("seed", range(10))
def test_components_of_random_graphs_are_those_of_networkx(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m = int(rng.integers(1, 400))
    a, b = rng.integers(-(2**63), 2**63 - 1, 300)[rng.integers(0, 300, (2, m))]
    nodes, component = label_components(a, b)
    assert dict(zip(nodes.tolist(), component.tolist(), strict=True)) == oracle(a, b)


def test_no_edges_have_no_components() -> None:
    nodes, component = label_components(np.empty(0, np.int64), np.empty(0, np.int64))
    assert len(nodes) == len(component) == 0
