"""Trees of a finished run: their cut gives the published groups; what is read with them, and what has no tree."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import FinishedRun
from deltalake import DeltaTable
from table_contents import rows

import dedup_spark
from dedup_spark.commands.dendrogram.reading import Asked, read_dendrogram
from dedup_spark.commands.dendrogram.tree import Dendrogram
from dedup_spark.config import Config
from dedup_spark.errors import ConfigError
from dedup_spark.stages.cluster.component_tree import ComponentTree, tree_of_rows
from dedup_spark.stages.cluster.cut import cut_settings
from dedup_spark.store.duck import DuckTables

Row = dict[str, Any]


def trees_of(root: str) -> list[ComponentTree]:
    """Of every component, from the tables as another implementation reads them."""
    components, evidence = (DeltaTable(f"{root}/{t}").to_pyarrow_table() for t in ("components", "evidence"))
    trees = []
    for component_id in sorted(set(components["component_id"].to_pylist())):
        members = components.filter(pa.compute.equal(components["component_id"], component_id)).sort_by("image_id")
        inside = [pa.compute.is_in(evidence[f"image_id_{s}"], members["image_id"].combine_chunks()) for s in "ab"]
        trees.append(tree_of_rows(members, evidence.filter(pa.compute.and_(*inside)), cut_settings(Config())))
    return trees


def published(root: str) -> dict[int, int]:
    """Representative to cluster_id."""
    first: dict[str, int] = {}
    pixels = {f["image_id"]: f["pixel_hash"] for f in rows(root, "features") if f["status"] == "ok"}
    for image_id, pixel_hash in pixels.items():
        first[pixel_hash] = min(image_id, first.get(pixel_hash, image_id))
    return {first[pixels[m["image_id"]]]: m["cluster_id"] for m in rows(root, "clusters")}


def test_the_cut_of_every_component_gives_the_published_groups(finished: FinishedRun) -> None:
    trees, cluster_of = trees_of(finished.tables.root), published(finished.tables.root)
    assert len(trees) >= 3
    groups = 0
    for tree in trees:
        members = defaultdict(set)
        for image_id, group in zip(tree.ids.tolist(), tree.group.tolist(), strict=True):
            members[group].add(cluster_of.get(image_id, f"alone {image_id}"))
        assert [len(clusters) for clusters in members.values()] == [1] * len(members), "none was divided after the cut"
        together = [next(iter(clusters)) for clusters in members.values()]
        assert len(set(together)) == len(together)
        groups += len(members)
    edited = {m["cluster_id"] for m in rows(finished.tables.root, "clusters") if is_of_other_pixels(m)}
    assert groups >= len(edited) > 0


def is_of_other_pixels(member: dict[str, Any]) -> bool:
    return member["relation"] not in (None, "same_bytes", "same_pixels")


def largest_cluster(finished: FinishedRun) -> tuple[int, set[str]]:
    """The cluster with most copies of other pixels, and its pictures' hashes."""
    members = rows(finished.tables.root, "clusters")
    edits = Counter(m["cluster_id"] for m in members if is_of_other_pixels(m))
    largest = min(edits, key=lambda c: (-edits[c], c))
    ids = {m["image_id"] for m in members if m["cluster_id"] == largest}
    return largest, {f["pixel_hash"] for f in rows(finished.tables.root, "features") if f["image_id"] in ids}


@pytest.fixture(scope="module")
def found(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Dendrogram:
    """All that can be asked of one component, once: thumbnails, the lake's curve, labelled pairs."""
    cluster_id, _ = largest_cluster(finished)
    members = rows(finished.tables.root, "clusters")
    uris = [m["uri"] for m in members if m["cluster_id"] == cluster_id and m["member"] is None]
    other = next(m["uri"] for m in members if m["cluster_id"] != cluster_id and m["member"] is None)
    file = tmp_path_factory.mktemp("labelled") / "pairs.csv"
    lines = [f'"{uris[0]}","{uri}",1' for uri in uris[1:]] + [f'"{uris[0]}","{other}",0']
    file.write_text("\n".join(["uri_a,uri_b,duplicate", *lines]))
    return dedup_spark.dendrogram(
        finished.tables.spark, cluster_id, tables=finished.tables.root, at=0.9, max_thumbnails=3, of_lake=True,
        pairs=file,
    )  # fmt: skip


def test_leaves_are_the_pictures_of_the_component_with_what_was_published(
    finished: FinishedRun, found: Dendrogram
) -> None:
    cluster_id, pictures = largest_cluster(finished)
    assert found.cluster_id == cluster_id
    mine = [leaf for leaf in found.leaves if leaf.cluster_id == cluster_id]
    assert len(mine) == len(pictures)
    members = [m for m in rows(finished.tables.root, "clusters") if m["cluster_id"] == cluster_id]
    assert sum(leaf.n_images for leaf in mine) == len(members)
    assert [leaf.uri for leaf in mine if leaf.is_keeper] == [m["uri"] for m in members if m["is_keeper"]]
    assert {leaf.uri for leaf in mine} <= {m["uri"] for m in members}
    assert sum(leaf.thumbnail is not None for leaf in found.leaves) == min(3, len(found.leaves))
    assert len(found.merges) == len(found.leaves) - 1 == found.n_pictures - 1


def test_the_axis_and_the_cut_are_those_of_the_run(found: Dendrogram) -> None:
    assert (found.axis.name, found.cut, found.at, found.method) == ("1 - copy probability", 0.5, 0.9, "average")
    assert "copy probability of at least 0.98" in found.joined_by
    assert sum(found.decided_by.values()) >= len(found.leaves) - 1


def test_each_curve_holds_the_cut_of_the_run_and_says_what_it_rests_on(
    finished: FinishedRun, found: Dendrogram
) -> None:
    component, lake, labelled = found.curves
    for curve in found.curves:
        assert curve.used in [p.cut for p in curve.points]
        shares = [s for p in curve.points for s in (p.precision, p.recall) if s is not None]
        assert all(0 <= share <= 1 + 1e-9 for share in shares)
        assert [p.n_pairs for p in curve.points] == sorted(p.n_pairs for p in curve.points)
    weighed = [r for r in rows(finished.tables.root, "evidence") if r["compared_for"] == "match"]
    joined = [r["copy_probability"] for r in weighed if r["copy_probability"] >= 1 - lake.used]
    at_cut = next(p for p in lake.points if p.cut == lake.used)
    assert at_cut.n_pairs == pytest.approx(len(joined), abs=1)
    assert at_cut.precision == pytest.approx(np.mean(joined), abs=1e-3)
    assert at_cut.recall == pytest.approx(sum(joined) / sum(r["copy_probability"] for r in weighed), abs=1e-2)
    assert "Expected, not counted" in component.rests_on
    assert "Expected, not counted" in lake.rests_on
    assert "of the pairs that an exact search finds" in lake.rests_on
    assert "0 of the 1 pairs that are none" in labelled.rests_on
    assert labelled.points[-1].precision == 1.0, "the pair that is none was found by nobody"


def test_an_image_is_asked_for_by_the_end_of_its_address_and_its_branch_alone_is_shown(finished: FinishedRun) -> None:
    cluster_id, _ = largest_cluster(finished)
    uri = next(m["uri"] for m in rows(finished.tables.root, "clusters") if m["cluster_id"] == cluster_id)
    tree = read_dendrogram(DuckTables(finished.tables.root), Asked(image=uri, max_pictures=2))
    assert len(tree.leaves) <= 2 < tree.n_pictures
    assert tree.joins_at is not None
    assert tree.cluster_id == cluster_id


def test_what_has_no_tree_is_an_error_that_says_why(finished: FinishedRun) -> None:
    members = rows(finished.tables.root, "clusters")
    edited = {m["cluster_id"] for m in members if is_of_other_pixels(m)}
    in_components = {r["image_id"] for r in rows(finished.tables.root, "components")}
    joined = {m["cluster_id"] for m in members if m["image_id"] in in_components}
    identical = next(m["cluster_id"] for m in members if m["cluster_id"] not in edited | joined)
    for cluster_id, said in ((1, "there is no such cluster"), (identical, "all its images have the same pixels")):
        with pytest.raises(ConfigError, match=said):
            read_dendrogram(DuckTables(finished.tables.root), Asked(cluster_id))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "one of the two"),
        ({"cluster_id": 1, "image": "a"}, "one of the two"),
        ({"cluster_id": 1, "max_pictures": 1}, "--max-pictures 1: expected 2 or more"),
        ({"cluster_id": 1, "max_thumbnails": -1}, "--thumbnails -1"),
    ],
)
def test_what_cannot_be_asked_is_said_before_tables_are_read(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Asked(**asked)
