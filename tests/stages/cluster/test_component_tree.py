"""Trees made anew from rows of the tables, against the functions that cut the same components; without Spark."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fabricated import directions, families, flip_bits, to_bytes
from scipy.cluster.hierarchy import is_valid_linkage

from dedup_spark.config import load_config
from dedup_spark.errors import TableError
from dedup_spark.stages.cluster import component_tree
from dedup_spark.stages.cluster.component_tree import tree_of_rows
from dedup_spark.stages.cluster.cut import (
    CutSettings,
    _cut_batches_by_evidence,
    _cut_batches_by_likeness,
    cut_settings,
)
from dedup_spark.vocabulary import DistanceUnit

N = 24


def cut(ids: np.ndarray, pairs: dict[tuple[int, int], float], settings: CutSettings, *, settled: bool) -> np.ndarray:
    """The labels that the tasks of the step give to one component."""
    rows = sorted([*((a, b, p) for (a, b), p in pairs.items()), *((i, i, 1.0) for i in ids.tolist())])
    a, b, p = zip(*rows, strict=True)
    columns = {"component_id": [0] * len(rows), "image_id_a": a, "image_id_b": b,
               "copy_probability": pa.array(p, pa.float32())}  # fmt: skip
    (found,) = _cut_batches_by_evidence(iter([pa.RecordBatch.from_pydict(columns)]), settings, settled=settled)
    assert found["image_id"].to_pylist() == ids.tolist()
    return found["cluster_label"].to_numpy()


def weighed(by: dict[str, dict[tuple[int, int], float]]) -> pa.Table:
    rows = [(*pair, p, "geometry", name) for name, pairs in by.items() for pair, p in pairs.items()]
    columns = list(zip(*np.random.default_rng(0).permutation(np.array(rows, object)), strict=True))
    return pa.table(
        {"image_id_a": pa.array(columns[0], pa.int64()), "image_id_b": pa.array(columns[1], pa.int64()),
         "copy_probability": pa.array(columns[2], pa.float32()), "decided_by": columns[3], "compared_for": columns[4]}
    )  # fmt: skip


def component(seed: int, settings: CutSettings) -> tuple[pa.Table, pa.Table]:
    """Rows of `components` and of `evidence` of a random component, cut twice as the step cuts it.

    Three groups, each of two pictures with some false pairs between them, which the leaders then tell apart.
    """
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(10_000, N, replace=False)) - 5_000
    picture, half = np.arange(N) % 3, np.arange(N) // 3 % 2
    pairs = [(int(ids[i]), int(ids[j]), i, j) for i, j in itertools.combinations(range(N), 2)]
    found = {}
    for a, b, i, j in pairs:
        copies, sisters = picture[i] == picture[j] and half[i] == half[j], picture[i] == picture[j]
        if rng.random() < (0.9 if copies else 0.15 if sisters else 0.3):
            found[a, b] = float(np.float32(rng.uniform(0.97, 1) if sisters else rng.uniform(0, 1) ** 6))
    first = cut(ids, found, settings, settled=False)
    left = [(a, b, i, j) for a, b, i, j in pairs if (a, b) not in found and first[i] == first[j] and rng.random() < 0.8]
    leaders = {(a, b): float(np.float32(0.98 if half[i] == half[j] else 0.02)) for a, b, i, j in left}
    label = np.concatenate([cut(ids[first == g], {k: p for k, p in (found | leaders).items()
                                                 if {*k} <= {*ids[first == g].tolist()}}, settings, settled=True)
                            for g in np.unique(first)])  # fmt: skip
    order = np.argsort(np.concatenate([ids[first == g] for g in np.unique(first)]))
    keepers = {(a, b): 0.0 for a, b, *_ in pairs if (a, b) not in found | leaders}
    members = pa.table({"image_id": ids, "component_id": [int(ids[0])] * N, "raised_to": [0.99] * N,
                        "first_group_id": first, "group_id": label[order]})  # fmt: skip
    return members, weighed({"match": found, "leaders": leaders, "keepers": keepers})


@pytest.mark.parametrize("method", ["average", "complete"])
@pytest.mark.parametrize("seed", range(8))
def test_the_tree_of_a_component_that_was_cut_twice_is_cut_into_its_groups(seed: int, method: str) -> None:
    settings = cut_settings(load_config(None, [f"cluster.linkage={method}"]))
    members, evidence = component(seed, settings)
    tree = tree_of_rows(members, evidence, settings)
    assert tree.ids[tree.group].tolist() == members["group_id"].to_pylist()
    assert is_valid_linkage(tree.merges)
    assert (tree.unit, tree.cut, tree.raised_to) == (DistanceUnit.COPY_PROBABILITY, 0.5, 0.99)
    assert len(tree.pairs.a) == sum(c != "keepers" for c in evidence["compared_for"].to_pylist())
    assert 1 < len(set(members["first_group_id"].to_pylist())) < len(set(members["group_id"].to_pylist()))


def test_pairs_of_possible_keepers_are_not_among_what_was_cut_by() -> None:
    settings = cut_settings(load_config())
    members, evidence = component(3, settings)
    as_leaders = pa.array(["leaders" if c == "keepers" else c for c in evidence["compared_for"].to_pylist()])
    with pytest.raises(TableError, match="its tree gives other groups"):
        tree_of_rows(members, evidence.set_column(4, "compared_for", as_leaders), settings)


@pytest.mark.parametrize("method", ["average", "complete"])
def test_a_piece_whose_pairs_all_lead_out_of_it_is_a_tree_of_probabilities(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such pieces are made where a component has more than cluster.max_component_images images."""
    members = pa.table({"image_id": [3, 5, 8], "component_id": [1] * 3, "raised_to": [0.99] * 3,
                        "first_group_id": [3, 5, 8], "group_id": [3, 5, 8]})  # fmt: skip
    none = weighed({"match": {(3, 5): 0.9}}).slice(0, 0)
    monkeypatch.setattr(component_tree, "_piece", lambda *_: members)
    monkeypatch.setattr(component_tree, "_weighed", lambda *_: none)
    nowhere: Any = None
    tree = component_tree.read_component_tree(
        nowhere, 1, 5, cut_settings(load_config(None, [f"cluster.linkage={method}"]))
    )
    assert (tree.unit, tree.group.tolist(), len(tree.pairs.a)) == (DistanceUnit.COPY_PROBABILITY, [0, 1, 2], 0)
    assert is_valid_linkage(tree.merges)


@pytest.mark.parametrize("method", ["average", "complete", "ward"])
@pytest.mark.parametrize("has_embeddings", [True, False])
def test_the_tree_of_a_component_that_was_cut_by_likeness_is_cut_into_its_groups(
    has_embeddings: bool, method: str
) -> None:
    rng = np.random.default_rng(5)
    two = families([5, 4], 0.85, rng)
    vectors = np.concatenate([two, two[[0]] + two[[5]], directions(1, rng)])
    hashes = [flip_bits(0, range(i)) for i in range(5)] + [flip_bits(-1, range(i)) for i in range(6)]
    embeddings = [bytes(to_bytes(v)) if has_embeddings or i else None for i, v in enumerate(vectors)]
    signatures = pa.table({"image_id": range(11), "phash": hashes, "embedding": pa.array(embeddings, pa.binary())})
    settings = cut_settings(load_config(None, [f"cluster.linkage={method}"]))
    batch = signatures.append_column("component_id", pa.array([0] * 11)).combine_chunks().to_batches()
    (found,) = _cut_batches_by_likeness(iter(batch), settings)
    members = pa.table({"image_id": range(11), "component_id": [0] * 11, "raised_to": pa.nulls(11, pa.float64()),
                        "group_id": found["cluster_label"]})  # fmt: skip
    tree = tree_of_rows(members, signatures.take(rng.permutation(11)), settings)
    assert tree.unit == (DistanceUnit.SIMILARITY if has_embeddings else DistanceUnit.HAMMING_BITS)
    assert len(tree.pairs.a) == 0
    assert 2 <= len(set(tree.group.tolist())) < 11
    with pytest.raises(TableError, match="features lacks members of this component"):
        tree_of_rows(members, signatures.slice(1), settings)
