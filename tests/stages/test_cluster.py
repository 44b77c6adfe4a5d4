"""Cluster: groups against networkx and the linkage kernel, the keeper, what is said of each member, the guards."""

from __future__ import annotations

import itertools
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pyarrow as pa
import pytest
from fabricated import (
    arc,
    directions,
    exact_cosines,
    families,
    features,
    fill,
    flip_bits,
    frame,
    hamming,
    images,
    listed,
    random_ids,
    readable,
    rejected,
    to_bytes,
)
from pyspark.sql import SparkSession
from table_contents import rows

from dedup_spark.config import ClusterSettings, Config, load_config
from dedup_spark.errors import ConfigError, GuardError
from dedup_spark.kernels import linkage
from dedup_spark.runs import Run
from dedup_spark.stages import cluster, cut, keepers
from dedup_spark.tables import PAIRS, Tables

Row = dict[str, Any]


def run_cluster(tables: Tables, *overrides: str) -> dict[int, Row]:
    """Rows of `clusters` by image_id."""
    config = load_config(None, overrides)
    cluster.run(tables.spark, config, Run(tables, config, "file:///lake", "r1"))
    assert not Path(tables.root, "_staging").exists()
    found = rows(tables.root, "clusters")
    assert len({r["image_id"] for r in found}) == len(found)
    return {r["image_id"]: r for r in found}


def append_pairs(tables: Tables, pairs: list[tuple[int, int, str, float | None, int]]) -> None:
    columns = [name for name in PAIRS.column_names if name != "engine"]
    made = [dict(zip(columns, (min(p[:2]), max(p[:2]), *p[2:]), strict=True)) for p in pairs]
    tables.append(PAIRS, frame(tables.spark, PAIRS.schema, made))


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


def groups_of(members: dict[int, Row]) -> list[list[int]]:
    grouped: dict[int, list[int]] = {}
    for image_id, row in members.items():
        grouped.setdefault(row["cluster_id"], []).append(image_id)
    return sorted(sorted(g) for g in grouped.values())


# --- the step, with embeddings ---------------------------------------------------------------------------


class Known:
    """Families, a chain whose ends are strangers, a bridge between two families, identical copies, loners."""

    def __init__(self) -> None:
        rng = np.random.default_rng(21)
        chain = arc(7, 0.75, rng)
        two = families([4, 4], 0.9, rng)
        bridge = two[[0]] + two[[4]]
        self.vectors = np.concatenate([families([3, 5], 0.8, rng), chain, two, bridge, directions(6, rng)])
        self.ids = random_ids(len(self.vectors), rng)
        self.cosines = exact_cosines(self.vectors)
        self.near = {
            (self.ids[i], self.ids[j]): float(self.cosines[i, j])
            for i, j in itertools.combinations(range(len(self.ids)), 2)
            if self.cosines[i, j] >= 0.45
        }
        self.groups = linked(self.near, self.cosines, self.ids, 0.45)
        self.chain, self.loner = self.ids[8:15], self.ids[-1]
        self.copies = {self.ids[0]: 3, self.loner: 2}  # image -> identical images besides it
        self.pixels = {image_id: image_id for image_id in self.ids}  # image -> its representative


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


@pytest.fixture(scope="module")
def clustered(
    known: Known, spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Row]:
    root = shutil.copytree(empty_tables, tmp_path_factory.mktemp("clustered") / "tables")
    tables = Tables(spark, str(root))
    rng = np.random.default_rng(22)
    sizes = {image_id: int(rng.integers(1, 10_000)) for image_id in known.ids}
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
    return run_cluster(tables)


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


def test_a_chain_of_near_pairs_does_not_merge_strangers(known: Known, clustered: dict[int, Row]) -> None:
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
            assert row["relation"] == ("edited_copy" if cosine >= 0.45 else "similar_scene")
            assert f"cosine {cosine:.3f}" in row["reason"]


def test_copies_are_told_apart_by_bytes_and_pixels(known: Known, clustered: dict[int, Row]) -> None:
    first, last = known.loner, known.loner + 2  # the same bytes; between them other bytes of the same pixels
    group = {i: clustered[i] for i in (first, first + 1, last)}
    keeper = group[first]["keeper_image_id"]
    content = {first: "x", last: "x", first + 1: "y"}
    for image_id, row in group.items():
        if image_id != keeper:
            assert row["relation"] == ("same_bytes" if content[image_id] == content[keeper] else "same_pixels")
            assert row["similarity"] == 1.0


# --- the step, other shapes ------------------------------------------------------------------------------


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
    assert groups_of(members) == linked(near, agreement, ids, 1 - 3 / 64)
    assert len(groups_of(members)) > 2
    for row in members.values():
        assert row["similarity"] is None
        if not row["is_keeper"]:
            bits = hamming(hashes[row["image_id"] - 10], hashes[row["keeper_image_id"] - 10])
            assert row["hamming_bits"] == bits
            assert row["relation"] == ("edited_copy" if bits <= 3 else "similar_scene")
            assert row["reason"].endswith(f"pHash differs in {bits} of 64 bits")
            assert "cosine" not in row["reason"]


def test_no_pairs_make_no_clusters_and_replace_old_ones(tables: Tables) -> None:
    fill(tables, map(listed, range(3)), map(readable, range(3)))
    append_pairs(tables, [(0, 1, "phash", None, 0)])
    assert set(run_cluster(tables)) == {0, 1}
    tables.overwrite(PAIRS, tables.read(PAIRS).where("false"))
    assert run_cluster(tables) == {}


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


# --- the keeper ------------------------------------------------------------------------------------------

FACTS = {  # image_id: width_px, height_px, size_bytes, modified_at, uri
    1: (40, 30, 900, datetime(2024, 1, 2, tzinfo=UTC), "file:///lake/b.jpg"),
    2: (30, 40, 900, datetime(2024, 1, 1, tzinfo=UTC), "file:///lake/c.jpg"),
    3: (10, 100, 500, None, "file:///lake/a.jpg"),
    4: (None, None, None, datetime(2023, 1, 1, tzinfo=UTC), "file:///lake/d.jpg"),
}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Config().cluster.keeper_order, [2, 1, 3, 4]),
        (("size_bytes",), [3, 1, 2, 4]),
        (("modified_at ASC",), [4, 2, 1, 3]),
        (("  modified_at   desc  ",), [1, 2, 4, 3]),
        (("uri Desc",), [4, 2, 1, 3]),
        (("CASE WHEN uri LIKE '%/c.jpg' THEN 0 ELSE 1 END", "size_bytes"), [2, 3, 1, 4]),
        (("width_px > height_px DESC", "uri ASC"), [1, 3, 2, 4]),
        (("coalesce(size_bytes, 1000000) DESC",), [4, 1, 2, 3]),
        ((), [1, 2, 3, 4]),
    ],
    ids=str,
)
def test_members_are_ranked_as_asked_with_unknown_values_last_and_ids_breaking_ties(
    spark: SparkSession, order: tuple[str, ...], expected: list[int]
) -> None:
    """Four clusters: of all four images, and of what is left when the better ones are away."""
    clusters = {k: sorted(expected[k:], reverse=True) for k in range(4)}  # an image of cluster k has the id 10 * k + id
    known = [(k, 10 * k + i, FACTS[i]) for k, ids in clusters.items() for i in ids]
    listing = [listed(image_id, size_bytes=f[2], modified_at=f[3], uri=f[4]) for _, image_id, f in known]
    read = features(spark, [readable(image_id, width_px=f[0], height_px=f[1]) for _, image_id, f in known])
    members = read.selectExpr(
        "image_id", "content_hash", "pixel_hash", "model_id", "image_id AS representative_id",
        "image_id DIV 10 AS cluster_id", "4 - image_id DIV 10 AS cluster_size",
    )  # fmt: skip
    kept = keepers.choose_keepers(members, images(spark, listing), read, ClusterSettings(keeper_order=order)).collect()
    assert sorted(r["image_id"] for r in kept) == sorted(image_id for _, image_id, _ in known)
    chosen = {r["cluster_id"]: r["keeper_image_id"] for r in kept}
    assert chosen == {k: 10 * k + best for k, best in enumerate(expected)}
    assert all(r["keeper_content_hash"] == f"bytes of {chosen[r['cluster_id']]}" for r in kept)


def keeper_problem(spark: SparkSession, *order: str) -> str:
    with pytest.raises(ConfigError) as e:
        keepers.require_keeper_order(images(spark, []), features(spark, []), ClusterSettings(keeper_order=order))
    return str(e.value)


@pytest.mark.parametrize(
    "item",
    ["no_such_column DESC", "width_px * DESC", "count(*) DESC", "uri, size_bytes", "DESC", "uri ASC NULLS FIRST",
     "explode(array(1, 2))", "attributes", ")", "  "],
)  # fmt: skip
def test_an_order_that_is_not_sql_over_the_columns_is_a_config_error_that_names_it(
    spark: SparkSession, item: str
) -> None:
    said = keeper_problem(spark, "uri ASC", item, "size_bytes DESC")
    assert said.startswith(f"cluster.keeper_order: '{item}' is not an SQL expression")


def test_an_empty_order_item_is_a_config_error_too(spark: SparkSession) -> None:
    assert keeper_problem(spark, "").startswith("cluster.keeper_order: ''")


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("no_such_column DESC", "`no_such_column` cannot be resolved"),
        ("width_px * DESC", "Syntax error"),
    ],
)  # fmt: skip
def test_sparks_own_explanation_is_part_of_the_message(spark: SparkSession, item: str, says: str) -> None:
    assert says in keeper_problem(spark, item)


def test_the_default_order_is_accepted(spark: SparkSession) -> None:
    keepers.require_keeper_order(images(spark, []), features(spark, []), ClusterSettings())


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
    done = [row for batch in cut._cut_batches(batches, settings) for row in batch.to_pylist()]
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


def test_a_crowd_above_the_bound_is_cut_in_pieces_of_the_bound() -> None:
    labels = dict(cut_in_batches([10], 1000, max_component_images=4))
    assert sorted(labels) == list(range(-5, 5))
    for image_id, label in labels.items():
        assert label <= image_id
        assert (label + 5) // 4 == (image_id + 5) // 4
