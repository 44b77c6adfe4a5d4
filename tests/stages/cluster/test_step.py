"""Cluster: groups against networkx and the linkage kernel, the keeper, what is said of each member."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import networkx
import numpy as np
import pyarrow as pa
import pytest
from clustering import Row, append_pairs, embedded, groups_of, run_cluster
from fabricated import (
    MODEL,
    arc,
    directions,
    exact_cosines,
    families,
    fill,
    flip_bits,
    hamming,
    listed,
    random_ids,
    readable,
    rejected,
    to_bytes,
)
from pyspark.sql import SparkSession
from table_contents import rows

from dedup_spark.commands.dendrogram.reading import Asked, read_dendrogram
from dedup_spark.commands.dendrogram.tree import groups_at
from dedup_spark.config import Config
from dedup_spark.errors import GuardError, UncalibratedError
from dedup_spark.kernels.clusters import keeping, linkage
from dedup_spark.stages.cluster import cut
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import PAIRS
from dedup_spark.store.spark_sql import SparkTables
from dedup_spark.store.tables import Tables


def linked(near: dict[tuple[int, int], float], similarity: np.ndarray, ids: list[int], cut: float) -> list[list[int]]:
    """What components and average linkage make of edges: groups of two or more, as ascending ids."""
    position = {image_id: i for i, image_id in enumerate(ids)}
    groups = []
    for component in networkx.connected_components(networkx.Graph(list(near))):
        nodes = sorted(component)
        at = [position[n] for n in nodes]
        labels = linkage.cut_component(similarity[np.ix_(at, at)], cut, "average")
        groups += [[n for n, label in zip(nodes, labels, strict=True) if label == group] for group in set(labels)]
    return sorted(g for g in groups if len(g) > 1)


def bounded(
    groups: list[list[int]], distance: np.ndarray, ids: list[int], order: list[int], bound: float
) -> list[list[int]]:
    """What the bound makes of groups: `order` are all ids, the first choice for a keeper first."""
    position = {image_id: i for i, image_id in enumerate(ids)}
    found = []
    for group in groups:
        at = [position[n] for n in group]
        own = distance[np.ix_(at, at)]
        near = np.where(own <= bound, own, np.inf).astype(np.float32)
        ranks = np.array([order.index(n) for n in group])
        keeper = keeping.assign_keepers(near, np.eye(len(group), dtype=bool), ranks).keeper
        found += [[n for n, k in zip(group, keeper, strict=True) if k == chosen] for chosen in set(keeper.tolist())]
    return sorted(g for g in found if len(g) > 1)


# --- the step, with embeddings ---------------------------------------------------------------------------


def ring(n: int, mean: float) -> np.ndarray:
    """Unit vectors around an axis: their cosines have this mean, neighbours are near, opposite ones far apart."""
    axis, x, y = np.linalg.qr(directions(3, np.random.default_rng(24)).T)[0].T
    angles = 2 * np.pi * np.arange(n)[:, None] / n
    return np.sqrt(mean) * axis + np.sqrt(1 - mean) * (np.cos(angles) * x + np.sin(angles) * y)


def three_steps() -> np.ndarray:
    """Four vectors that average linkage holds together at 0.45; from the first to the last it is three steps."""
    cosines = np.array([[1, 0.6, 0.44, 0.44], [0.6, 1, 0.5, 0.44], [0.44, 0.5, 1, 0.9], [0.44, 0.44, 0.9, 1]])
    return np.pad(np.linalg.cholesky(cosines), ((0, 0), (0, 508)))


def test_a_model_without_calibration_stops_before_anything_is_decided(tables: Tables) -> None:
    rng = np.random.default_rng(1)
    embedded(tables, families([3, 2], 0.8, rng), [1, 2, 3, 4, 5])
    with pytest.raises(UncalibratedError, match=f"of model {MODEL}, which has no calibration"):
        run_cluster(tables, "cluster.uncalibrated=stop")
    assert not rows(tables.root, "clusters")
    assert not Path(tables.root, "_staging").exists()


class Known:
    """Families, a chain whose ends are unlike, a bridge between two families, a ring of which no member is near all
    others, four of which the first to keep does not reach the last in two steps, identical copies, loners."""

    def __init__(self) -> None:
        rng = np.random.default_rng(21)
        chain = arc(7, 0.75, rng)
        two = families([4, 4], 0.9, rng)
        bridge = two[[0]] + two[[4]]
        near = [families([3, 5], 0.8, rng), chain, two, bridge, ring(8, 0.68), three_steps()]
        self.vectors = np.concatenate([*near, directions(6, rng)])
        self.ids = random_ids(len(self.vectors), rng)
        self.cosines = exact_cosines(self.vectors)
        self.near = {
            (self.ids[i], self.ids[j]): float(self.cosines[i, j])
            for i, j in itertools.combinations(range(len(self.ids)), 2)
            if self.cosines[i, j] >= 0.45
        }
        sizes = np.random.default_rng(22)
        self.sizes = {image_id: int(sizes.integers(1, 10_000)) for image_id in self.ids}
        self.sizes[self.ids[32]] = 20_000
        order = sorted(self.ids, key=lambda i: (-self.sizes[i], f"file:///lake/{i}.jpg"))
        self.groups = bounded(linked(self.near, self.cosines, self.ids, 0.45), 1 - self.cosines, self.ids, order, 0.55)
        self.chain, self.loner = self.ids[8:15], self.ids[-1]
        self.ring, self.far = self.ids[24:32], self.ids[32:36]
        self.copies = {self.ids[0]: 3, self.loner: 2}  # image -> identical images besides it
        self.pixels = {image_id: image_id for image_id in self.ids}  # image -> its representative


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


@pytest.fixture(scope="module")
def clustered_tables(
    known: Known, spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory
) -> Tables:
    root = shutil.copytree(empty_tables, tmp_path_factory.mktemp("clustered") / "tables")
    tables = Tables(spark, str(root))
    sizes = known.sizes
    rows_of = [readable(i, v, phash=i, width_px=sizes[i]) for i, v in zip(known.ids, known.vectors, strict=True)]
    pairs = [(a, b, "embedding", similarity, hamming(a, b)) for (a, b), similarity in known.near.items()]
    for image_id, n_copies in known.copies.items():
        for i in range(n_copies):
            copy = image_id + i + 1
            content = f"bytes of {image_id}" if i else f"other bytes of {image_id}"
            vector = known.vectors[known.ids.index(image_id)]
            same = {"pixel_hash": f"pixels of {image_id}", "content_hash": content, "phash": image_id}
            rows_of.append(readable(copy, vector, width_px=sizes[image_id], **same))
            pairs.append((image_id, copy, "same_bytes" if i else "same_pixels", 1.0, 0))
    listing = [listed(r["image_id"], size_bytes=r["width_px"]) for r in rows_of] + [listed(1)]
    fill(tables, listing, [*rows_of, rejected(1)])
    append_pairs(tables, pairs)
    run_cluster(tables)
    return tables


@pytest.fixture(scope="module")
def clustered(clustered_tables: Tables) -> dict[int, Row]:
    return {r["image_id"]: r for r in rows(clustered_tables.root, "clusters")}


def test_clusters_are_those_of_components_and_linkage_with_copies_beside_their_representative(
    known: Known, clustered: dict[int, Row]
) -> None:
    expected = [set(g) for g in known.groups]
    for image_id, n_copies in known.copies.items():
        copies = {image_id + i + 1 for i in range(n_copies)}
        group = next((g for g in expected if image_id in g), None)
        if group is None:
            expected.append({image_id} | copies)
        else:
            group |= copies
    assert groups_of(clustered) == sorted(sorted(g) for g in expected)


def test_a_chain_of_near_pairs_does_not_merge_its_unlike_ends(known: Known, clustered: dict[int, Row]) -> None:
    parts = {clustered[i]["cluster_id"] if i in clustered else i for i in known.chain}
    assert len(parts) > 1
    assert clustered.get(known.chain[0], {}).get("cluster_id") != clustered.get(known.chain[-1], {}).get(
        "cluster_id", 0
    )


def test_a_picture_that_shows_two_others_does_not_join_them(known: Known, clustered: dict[int, Row]) -> None:
    left, right = known.ids[15:19], known.ids[19:23]
    assert len({clustered[i]["cluster_id"] for i in left}) == len({clustered[i]["cluster_id"] for i in right}) == 1
    assert clustered[left[0]]["cluster_id"] != clustered[right[0]]["cluster_id"]


def test_loners_and_rejects_are_in_no_cluster(known: Known, clustered: dict[int, Row]) -> None:
    assert 1 not in clustered
    assert not set(known.ids[-6:-1]) & set(clustered)


def test_each_cluster_is_named_by_its_smallest_member_and_counts_itself(clustered: dict[int, Row]) -> None:
    for group in groups_of(clustered):
        members = [clustered[i] for i in group]
        assert {m["cluster_id"] for m in members} == {min(group)}
        assert {m["cluster_size"] for m in members} == {len(group)}
        assert [m["keeper_image_id"] for m in members if m["is_keeper"]] == [members[0]["keeper_image_id"]]
        assert {m["keeper_image_id"] for m in members} <= set(group)


def test_the_largest_picture_is_kept_and_the_smallest_id_among_equals(clustered: dict[int, Row]) -> None:
    for group in groups_of(clustered):
        best = min(group, key=lambda i: (-clustered[i]["size_bytes"], clustered[i]["uri"], i))
        assert clustered[best]["is_keeper"]


def test_similarity_is_the_exact_cosine_to_the_keeper(known: Known, clustered: dict[int, Row]) -> None:
    representative = {image_id: image_id for image_id in known.ids}
    representative |= {i + n + 1: i for i, copies in known.copies.items() for n in range(copies)}
    at = {image_id: known.ids.index(rep) for image_id, rep in representative.items()}
    for image_id, row in clustered.items():
        keeper = row["keeper_image_id"]
        cosine = known.cosines[at[image_id], at[keeper]]
        assert row["similarity"] == pytest.approx(cosine, abs=1e-6)
        assert row["hamming_bits"] == hamming(representative[image_id], representative[keeper])
        if not row["is_keeper"] and representative[image_id] != representative[keeper]:
            assert (row["relation"], row["decided_by"]) == ("edited_copy", "cosine")
            assert f"cosine {cosine:.3f}" in row["reason"]
            assert row["keeper_distance"] == pytest.approx(1 - cosine, abs=1e-6)
            assert row["versions"].endswith(f"; model {MODEL}")


def test_every_member_is_within_the_bound_of_its_keeper_or_of_a_member_that_is_and_stays(
    clustered: dict[int, Row],
) -> None:
    assert {row["bound"] for row in clustered.values()} == {float(np.float32(0.55))}
    assert all(row["near_distance"] <= row["bound"] for row in clustered.values())
    assert all(row["keeper_distance"] == 0 for row in clustered.values() if row["relation"] != "edited_copy")
    far = [row for row in clustered.values() if row["keeper_distance"] > row["bound"]]
    assert far
    for row in far:
        supporting = clustered[row["near_image_id"]]
        assert supporting["keeper_image_id"] == row["keeper_image_id"]
        assert supporting["keeper_distance"] <= row["bound"]
        assert not supporting["is_removable"]
        assert not row["is_removable"]
        assert f"near {supporting['uri']} rather than the keeper" in row["reason"]


def test_a_group_is_not_split_because_its_keeper_is_not_near_all(known: Known, clustered: dict[int, Row]) -> None:
    assert len({clustered[i]["cluster_id"] for i in known.ring}) == 1
    assert sum(clustered[i]["keeper_distance"] > clustered[i]["bound"] for i in known.ring) >= 1


def test_nothing_is_removable_of_which_no_thumbnail_shows_what_it_lacks(clustered: dict[int, Row]) -> None:
    """These images have no thumbnails: of a pair that a cosine joined nobody knows whether it was cropped."""
    assert {row["removal_tier"] for row in clustered.values()} == {None, "same_bytes", "same_pixels", "edited_copy"}
    for row in clustered.values():
        assert row["is_removable"] == (row["removal_tier"] in ("same_bytes", "same_pixels"))
        assert row["edit"] is None
        if row["removal_tier"] == "edited_copy":
            assert "stays: its removal tier, edited_copy, is beyond cluster.removable_up_to" in row["reason"] or (
                "stays: it is not near enough to the keeper itself" in row["reason"]
                or "stays: another image belongs to the cluster because it is near this one" in row["reason"]
            )


def test_members_with_a_pair_to_an_image_outside_are_bridges(known: Known, clustered: dict[int, Row]) -> None:
    cluster_of = {i: row["cluster_id"] for i, row in clustered.items()}
    cut = {i for pair in known.near if len({cluster_of.get(i, i) for i in pair}) == 2 for i in pair}
    assert len(cut & set(known.chain)) >= 4
    representative = {i + n + 1: i for i, copies in known.copies.items() for n in range(copies)}
    for image_id, row in clustered.items():
        assert row["is_bridge"] == (representative.get(image_id, image_id) in cut)
        assert row["is_bridge"] == ("bridge: " in row["reason"])


def test_copies_are_told_apart_by_bytes_and_pixels(known: Known, clustered: dict[int, Row]) -> None:
    first, last = known.loner, known.loner + 2  # the same bytes; between them other bytes of the same pixels
    group = {i: clustered[i] for i in (first, first + 1, last)}
    keeper = group[first]["keeper_image_id"]
    content = {first: "x", last: "x", first + 1: "y"}
    for image_id, row in group.items():
        if image_id != keeper:
            assert row["relation"] == ("same_bytes" if content[image_id] == content[keeper] else "same_pixels")
            assert row["similarity"] == 1.0


def test_the_tree_of_a_component_that_was_split_is_cut_into_the_published_clusters(
    known: Known, clustered_tables: Tables
) -> None:
    with Run(clustered_tables, Config(), "file:///lake", "r1").step("cluster"):
        pass  # the mark holds the settings that the fixture's run had
    two = known.ids[15:24]
    found = read_dendrogram(SparkTables(clustered_tables), Asked(image=f"/{two[0]}.jpg", at=0.54))
    assert {leaf.image_id for leaf in found.leaves} == set(two)
    assert (found.axis.name, found.cut) == ("1 - cosine", pytest.approx(0.55))
    assert "a cosine of at least 0.45" in found.joined_by
    published = groups_at(found, found.cut)
    assert sorted(sorted(leaf.image_id for leaf in g.leaves) for g in published) == [
        sorted(g) for g in known.groups if set(g) <= set(two)
    ]
    assert {g.change for g in published} == {"as published"}
    assert found.merges[-1, 2] > found.cut, "the merge above the cut is there, too"
    assert found.curves == ()


def test_the_tree_says_where_a_group_was_divided_after_the_cut(known: Known, clustered_tables: Tables) -> None:
    components = {r["image_id"]: r for r in rows(clustered_tables.root, "components")}
    assert len({components[i]["group_id"] for i in known.far}) == 1
    assert {(r["first_group_id"], r["raised_to"]) for r in components.values()} == {(None, None)}
    clusters = {r["image_id"]: r["cluster_id"] for r in rows(clustered_tables.root, "clusters")}
    with Run(clustered_tables, Config(), "file:///lake", "r2").step("cluster"):
        pass
    found = read_dendrogram(SparkTables(clustered_tables), Asked(clusters[known.far[0]]))
    (group,) = found.groups
    assert {leaf.image_id for leaf in group.leaves} == set(known.far)
    assert group.change == "divided after the cut"
    assert group.cluster_ids == (clusters[known.far[0]],)
    assert group.n_alone == sum(i not in clusters for i in known.far) == 1


# --- the step, other shapes ------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_embeddings_the_hashes_decide_and_a_chain_of_hashes_is_cut(tables: Tables) -> None:
    hashes = [0]
    for i in range(6):  # each 3 bits from the one before, up to 18 from the first
        hashes.append(flip_bits(hashes[-1], range(3 * i, 3 * i + 3)))
    hashes += [-1, flip_bits(-1, [63])]
    ids = list(range(10, 10 + len(hashes)))
    near = {
        (ids[i], ids[j]): 1 - hamming(hashes[i], hashes[j]) / 64
        for i, j in itertools.combinations(range(len(ids)), 2)
        if hamming(hashes[i], hashes[j]) <= 3
    }
    fill(tables, map(listed, ids), (readable(i, phash=p) for i, p in zip(ids, hashes, strict=True)))
    append_pairs(tables, [(a, b, "phash", None, round((1 - s) * 64)) for (a, b), s in near.items()])
    members = run_cluster(tables)
    agreement = np.array([[1 - hamming(a, b) / 64 for b in hashes] for a in hashes])
    order = sorted(ids, key=lambda i: f"file:///lake/{i}.jpg")
    assert groups_of(members) == bounded(linked(near, agreement, ids, 1 - 3 / 64), 1 - agreement, ids, order, 3 / 64)
    assert len(groups_of(members)) > 2
    for row in members.values():
        assert row["similarity"] is None
        if not row["is_keeper"]:
            bits = hamming(hashes[row["image_id"] - 10], hashes[row["keeper_image_id"] - 10])
            assert row["hamming_bits"] == bits
            assert (row["relation"], row["decided_by"]) == ("edited_copy", "phash")
            assert row["keeper_distance"] == bits / 64
            assert row["near_distance"] <= row["bound"] == 3 / 64
            assert (
                f"the pHash decided, without embeddings: it differs in {bits} of 64 bits, and 3 are near"
                in row["reason"]
            )
            assert "cosine" not in row["reason"]


@pytest.mark.slow
def test_no_pairs_make_no_clusters_and_replace_old_ones(tables: Tables) -> None:
    fill(tables, map(listed, range(3)), map(readable, range(3)))
    append_pairs(tables, [(0, 1, "phash", None, 0)])
    assert set(run_cluster(tables)) == {0, 1}
    tables.overwrite(PAIRS, tables.read(PAIRS).where("false"))
    assert run_cluster(tables) == {}


@pytest.mark.slow
def test_a_thousand_copies_of_a_placeholder_are_one_cluster_once_that_is_allowed(tables: Tables) -> None:
    vector = directions(1, np.random.default_rng(23))[0]
    same = {"pixel_hash": "placeholder", "content_hash": "placeholder", "phash": 7}
    ids = list(range(-500, 500))
    fill(tables, map(listed, ids), (readable(i, vector, **same) for i in ids))
    append_pairs(tables, [(-500, i, "same_bytes", 1.0, 0) for i in ids[1:]])
    with pytest.raises(GuardError, match=r"1,000 of 1,000 images.*cluster\.max_cluster_share=1"):
        run_cluster(tables)
    assert rows(tables.root, "clusters") == []
    members = run_cluster(tables, "cluster.max_cluster_share=1")
    assert groups_of(members) == [ids]
    assert sum(m["is_keeper"] for m in members.values()) == 1
    assert {m["relation"] for m in members.values() if not m["is_keeper"]} == {"same_bytes"}


# --- what tasks do, without Spark ------------------------------------------------------------------------


def component_batches(sizes: list[int], rows_per_batch: int) -> tuple[list[pa.RecordBatch], dict[int, np.ndarray]]:
    """Rows sorted by component as a task gets them, and the cosines of each component."""
    rng = np.random.default_rng(24)
    made, cosines, image_id = [], {}, -5
    for component, size in enumerate(sizes):
        vectors = families([-(-size // 2), size // 2], 0.8, rng) if size > 1 else directions(1, rng)
        cosines[component] = exact_cosines(vectors)
        for vector in vectors:
            made.append(
                {"component_id": component, "image_id": image_id, "phash": 0, "embedding": bytes(to_bytes(vector))}
            )
            image_id += 1
    schema = pa.schema([("component_id", pa.int64()), ("image_id", pa.int64()), ("phash", pa.int64()),
                        ("embedding", pa.binary())])  # fmt: skip
    table = pa.Table.from_pylist(made, schema=schema)
    return table.combine_chunks().to_batches(max_chunksize=rows_per_batch), cosines


def cut_in_batches(sizes: list[int], rows_per_batch: int, max_component_images: int = 2000) -> list[tuple[int, int]]:
    batches, _ = component_batches(sizes, rows_per_batch)
    settings = cut.CutSettings(0.45, 0.95, "average", max_component_images)
    done = [row for batch in cut._cut_batches_by_likeness(batches, settings) for row in batch.to_pylist()]
    return [(row["image_id"], row["cluster_label"]) for row in done]


@pytest.mark.parametrize("rows_per_batch", [1, 2, 3, 7, 1000])
def test_a_component_is_cut_as_a_whole_wherever_batches_end(rows_per_batch: int) -> None:
    sizes = [5, 1, 9, 2, 2, 12]
    expected, start = [], -5
    for component, cosines in component_batches(sizes, 1000)[1].items():
        labels = linkage.cut_component(cosines, 0.45, "average")
        expected += [(start + i, start + int(label)) for i, label in enumerate(labels)]
        start += sizes[component]
    assert len({label for _, label in expected}) == 11
    assert cut_in_batches(sizes, rows_per_batch) == expected


def test_equal_vectors_above_the_bound_are_cut_in_pieces_of_the_bound() -> None:
    labels = dict(cut_in_batches([10], 1000, max_component_images=4))
    assert sorted(labels) == list(range(-5, 5))
    for image_id, label in labels.items():
        assert label <= image_id
        assert (label + 5) // 4 == (image_id + 5) // 4
