"""Keepers within the bound, protection, guards, ids over runs: what the step cluster promises of every member."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from clustering import append_pairs, embedded, groups_of, run_cluster
from fabricated import arc, families, fill, flip_bits, listed, readable
from pyspark.sql import DataFrame, SparkSession
from table_contents import rows

from dedup_spark.kernels.features.signature import OLDEST_DECIDING
from dedup_spark.results_version import RESULTS_VERSION
from dedup_spark.stages.cluster import keepers
from dedup_spark.store.schema import PAIRS, Table
from dedup_spark.store.tables import Tables


def two_halves() -> np.ndarray:
    """Eight vectors: two halves whose mean cosine is 0.455, where each member is at 0.42 from half of the others."""
    half, odd = np.arange(8) // 4, np.arange(8) % 2
    within = np.where(odd[:, None] == odd, 0.9, 0.8)
    across = np.where(odd[:, None] == odd, 0.49, 0.42)
    cosines = np.where(half[:, None] == half, within, across)
    np.fill_diagonal(cosines, 1)
    return np.pad(np.linalg.cholesky(cosines), ((0, 0), (0, 504)))


@pytest.fixture(scope="module")
def members(
    spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, dict[str, Any]]:
    """Of one run over: two halves (1 to 8); an arc of three, whose ends are first by policy, and only the middle is
    near both (11 to 13); a family of four under prefixes of two kinds (21 to 24)."""
    tables = Tables(spark, str(shutil.copytree(empty_tables, tmp_path_factory.mktemp("keepers") / "tables")))
    three, four = arc(3, 0.8, np.random.default_rng(31)), families([4], 0.9, np.random.default_rng(32))
    names = ["new/a.jpg", "old/b.jpg", "test/c.jpg", "new/d.jpg"]
    cosines = embedded(
        tables, np.concatenate([two_halves(), three, four]), [*range(1, 9), 11, 12, 13, 21, 22, 23, 24],
        uri=[f"file:///lake/{name}" for name in [*(f"{i}.jpg" for i in range(11)), *names]],
        width_px=[10, 10, 20, 10, 10, 10, 10, 90, 900, 10, 800, 900, 50, 40, 30],
    )  # fmt: skip
    assert cosines[8, 10] < 0.45
    return run_cluster(
        tables, "cluster.protected_prefixes=['old/']", "cluster.reference_prefixes=['/lake/test/']",
        "cluster.removable_up_to=edited_copy",
    )  # fmt: skip


def test_the_first_by_policy_is_kept_and_what_is_not_near_it_is_near_a_member_that_stays(
    members: dict[int, dict[str, Any]],
) -> None:
    assert groups_of(members) == [[1, 2, 3, 4, 5, 6, 7, 8], [11, 12, 13], [21, 22, 23, 24]]
    assert {i for i, m in members.items() if m["is_keeper"]} == {8, 11, 22}
    assert not any(m["is_bridge"] for m in members.values())
    near = {i: m["near_image_id"] for i, m in members.items()}
    assert {i: near[i] for i in (2, 4, 5, 6, 7, 12, 13)} == {**dict.fromkeys((2, 4, 5, 6, 7), 8), 12: 11, 13: 12}
    assert {near[1], near[3]} <= {2, 4}
    far = {i for i, m in members.items() if m["keeper_distance"] > m["bound"]}
    assert far == {1, 3, 13}
    assert all(m["near_distance"] <= m["bound"] for m in members.values())
    assert {i for i, m in members.items() if m["is_removable"]} == {5, 6, 7, 21, 24} | ({2, 4} - {near[1], near[3]})
    assert members[12]["reason"].endswith("; stays: another image belongs to the cluster because it is near this one")
    assert members[13]["reason"].endswith("; stays: it is not near enough to the keeper itself")


def test_protected_and_reference_images_are_kept_or_stay(members: dict[int, dict[str, Any]]) -> None:
    four = {i: m for i, m in members.items() if i > 20}
    assert {m["keeper_image_id"] for m in four.values()} == {22}
    assert {i: m["is_removable"] for i, m in four.items()} == {21: True, 22: False, 23: False, 24: True}
    assert {i: (m["is_protected"], m["is_reference"]) for i, m in four.items()} == {
        21: (False, False), 22: (True, False), 23: (True, True), 24: (False, False),
    }  # fmt: skip
    assert members[23]["reason"].endswith("; stays: in cluster.reference_prefixes")


@pytest.mark.slow
def test_images_that_say_little_join_by_equal_pixels_or_where_cosine_and_hash_agree(tables: Tables) -> None:
    """Two families of six near each other; in the second only the first two images have hashes that agree."""
    rng = np.random.default_rng(33)
    ids = list(range(1, 7)) + list(range(11, 17)) + list(range(21, 25))
    hashes = [0] * 6 + [0, 1] + [flip_bits(0, range(10 * i, 10 * i + 8)) for i in range(1, 5)] + [7] * 4
    lively = {"luma_stddev": 50.0, "entropy_bits": 7.0, "sharpness": 900.0}
    guarded = {2: {"luma_stddev": 0.5}, 11: {"entropy_bits": 1.0}, 12: {"entropy_bits": 1.0},
               13: {"entropy_bits": 4.0, "sharpness": 9000.0}}  # fmt: skip
    facts = {name: [guarded.get(i, {}).get(name, value) for i in ids] for name, value in lively.items()}
    embedded(tables, families([6, 6, 4], 0.9, rng), ids, phash=hashes, **facts)
    copy = readable(7, None, pixel_hash="pixels of 2", phash=0)
    fill(tables, [listed(7)], [copy])
    append_pairs(tables, [(2, 7, "same_pixels", None, 0)])
    members = run_cluster(tables, "cluster.max_hub_neighbours=5")
    assert groups_of(members) == [[1, 3, 4, 5, 6], [2, 7], [11, 12], [14, 15, 16], [21, 22, 23, 24]]
    found = {r["image_id"]: (r["guard"], r["n_neighbours"]) for r in rows(tables.root, "guarded")}
    assert found == {2: ("blank", 5), 11: ("placeholder", 5), 12: ("placeholder", 5), 13: ("text", 5)}
    members = run_cluster(tables, "cluster.max_hub_neighbours=4")
    assert groups_of(members) == [[1, 3, 4, 5, 6], [2, 7], [11, 12], [21, 22, 23, 24]]
    assert {r["guard"] for r in rows(tables.root, "guarded") if r["image_id"] in (1, 14, 15, 16)} == {"hub"}


# --- the tasks, without Spark -------------------------------------------------------------------------------------


def grouped_rows(rows_per_batch: int) -> list[pa.RecordBatch]:
    """Two labels: of 10 the ids 4, 5, 6, 7 by rank 2, 1, 3, 4, with 5 near 4 and 6, and 6 near 7; 20 is alone."""
    kinds = [("label", pa.int64()), ("a", pa.int64()), ("b", pa.int64()), ("rank", pa.int32()),
             ("image_id", pa.int64()), ("distance", pa.float32()), ("alike", pa.bool_())]  # fmt: skip
    pairs = [(5, 4, 0.1, True), (5, 6, 0.2, False), (6, 7, 0.3, False)]
    made = [(10, min(a, b), max(a, b), None, None, d, alike) for a, b, d, alike in pairs]
    made += [(10, i, i, rank, 100 + i, None, None) for i, rank in ((5, 1), (4, 2), (6, 3), (7, 4))]
    made += [(20, 20, 20, 1, 120, None, None)]
    columns = [pa.array(values, kind) for values, (_, kind) in zip(zip(*made, strict=True), kinds, strict=True)]
    table = pa.table(columns, names=[name for name, _ in kinds])
    return table.to_batches(max_chunksize=rows_per_batch)


@pytest.mark.parametrize("rows_per_batch", [1, 3, 100])
def test_a_task_finds_the_keeper_and_what_supports_a_member(rows_per_batch: int) -> None:
    found = [r for batch in keepers._group_batches(grouped_rows(rows_per_batch), 100) for r in batch.to_pylist()]
    assert {r["representative_id"]: r["keeper_image_id"] for r in found} == {4: 105, 5: 105, 6: 105, 7: 105, 20: 120}
    assert {r["representative_id"]: r["first_image_id"] for r in found} == {i: 100 + i for i in (4, 5, 6, 7, 20)}
    assert [(r["representative_id"], r["supporting_image_id"]) for r in found if r["supporting_image_id"]] == [(7, 106)]
    assert [r["representative_id"] for r in found if r["is_supporting"]] == [6]
    assert [r["supporting_distance"] for r in found if r["supporting_image_id"]] == [pytest.approx(0.3)]


@pytest.mark.parametrize("rows_per_batch", [1, 100])
def test_a_task_asks_for_the_pairs_of_the_first_and_of_the_centre_that_are_not_known(rows_per_batch: int) -> None:
    asked = [r for batch in keepers._batches_to_measure(grouped_rows(rows_per_batch), 100) for r in batch.to_pylist()]
    assert [(r["image_id_a"], r["image_id_b"], r["query_id"]) for r in asked] == [(5, 7, 5)]


# --- ids over runs, and what happened -------------------------------------------------------------------------------


def history_of(tables: Tables) -> list[tuple[Any, ...]]:
    columns = ("clusters_version", "cluster_id", "event", "previous_cluster_ids", "cluster_size", "previous_size")
    return sorted(tuple(row[c] for c in columns) for row in rows(tables.root, "cluster_history"))


@pytest.mark.slow
def test_a_step_that_is_killed_and_repeated_gives_the_same_ids_and_tells_each_change_once(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tables, map(listed, (5, 3, 4)), (readable(i, phash=0) for i in (5, 3, 4)))
    append_pairs(tables, [(3, 5, "phash", None, 0)])
    overwrite = Tables.overwrite

    def killed(self: Tables, table: Table, made: DataFrame) -> None:
        if table.name == "clusters":
            raise KeyboardInterrupt
        overwrite(self, table, made)

    with monkeypatch.context() as patch:
        patch.setattr(Tables, "overwrite", killed)
        with pytest.raises(KeyboardInterrupt):
            run_cluster(tables)
    assert len(history_of(tables)) == 1
    first = run_cluster(tables)
    created = (0, 3, "created", [], 2, None)
    assert history_of(tables) == [created]
    assert run_cluster(tables) == first
    assert history_of(tables) == [created]
    append_pairs(tables, [(4, 5, "phash", None, 0), (3, 4, "phash", None, 0)])
    run_cluster(tables)
    assert history_of(tables) == [created, (2, 3, "grown", [3], 3, 2)]
    tables.overwrite(PAIRS, tables.read(PAIRS).where("false"))
    run_cluster(tables)
    assert history_of(tables) == [created, (2, 3, "grown", [3], 3, 2), (3, 3, "removed", [3], 0, 3)]


# --- what may go, and what it frees ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def going(
    spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, dict[str, Any]]:
    """Copies of one picture each: 1 is kept, 2 its hard link, 3 and 4 all names of one file, 5 one of two names, 6 a
    file; 11 and 12 one object of an older table and of this; 21 was read long ago, 22 is its copy, 23 a copy of it."""
    tables = Tables(spark, str(shutil.copytree(empty_tables, tmp_path_factory.mktemp("going") / "tables")))
    at = datetime(2024, 5, 1, tzinfo=UTC)
    inode = {1: 7, 2: 7, 3: 8, 4: 8, 5: 9, 6: 10}
    local = [
        listed(i, size_bytes=100, modified_at=at, file_id=f"host/1:{inode[i]}", n_links=1 if i == 6 else 2)
        for i in inode
    ]
    stored = [listed(i, uri=f"{scheme}://b/k.jpg", size_bytes=10, etag="e") for i, scheme in ((11, "s3"), (12, "s3a"))]
    old = [listed(i, size_bytes=1, uri=f"s3://b/{i}.jpg", object_version=2) for i in (21, 22, 23)]
    picture = {**dict.fromkeys(inode, "a"), 11: "b", 12: "b"}
    read = [readable(i, None, pixel_hash=p, content_hash=p, phash=0) for i, p in picture.items()]
    made_by = {21: "1/pillow", 22: f"{OLDEST_DECIDING}/pillow", 23: f"{OLDEST_DECIDING}/pillow"}
    read += [
        readable(i, None, pixel_hash="c", content_hash="c", phash=-1, signature_version=made_by[i]) for i in made_by
    ]
    fill(tables, [*local, *stored, *old], read)
    append_pairs(tables, [(1, i, "same_bytes", None, 0) for i in (2, 3, 4, 5, 6)])
    append_pairs(
        tables, [(11, 12, "same_bytes", None, 0), (21, 22, "same_bytes", None, 0), (21, 23, "same_bytes", None, 0)]
    )
    return run_cluster(tables)


def test_two_names_of_one_object_are_never_removable_against_each_other(going: dict[int, dict[str, Any]]) -> None:
    assert {i: m["is_removable"] for i, m in going.items() if i < 20} == {
        1: False, 2: False, 3: True, 4: True, 5: True, 6: True, 11: False, 12: False,
    }  # fmt: skip
    assert going[2]["reason"] == (
        "byte for byte the keeper; stays: may be the keeper itself under another name: hard link"
    )
    assert going[12]["reason"].endswith("; stays: may be the keeper itself under another address")


def test_a_hard_link_frees_nothing_unless_all_names_of_its_file_may_go(going: dict[int, dict[str, Any]]) -> None:
    assert {i: m["freed_bytes"] for i, m in going.items() if i < 20} == {
        1: 0, 2: 0, 3: 100, 4: 0, 5: 0, 6: 100, 11: 0, 12: 0,
    }  # fmt: skip
    assert going[5]["reason"].endswith("; hard link: removing frees nothing")
    assert "hard link" not in going[3]["reason"]
    assert going[4]["reason"].endswith("; hard link: what it frees is counted at another name of the file")


def test_a_row_of_old_facts_neither_goes_nor_lets_others_go(going: dict[int, dict[str, Any]]) -> None:
    assert [going[i]["is_keeper"] for i in (21, 22, 23)] == [True, False, False]
    assert [going[i]["is_removable"] for i in (21, 22, 23)] == [False, False, False]
    assert going[22]["reason"].endswith("; stays: its keeper was read by an older version")


def test_a_row_of_clusters_says_which_versions_it_was_made_of(going: dict[int, dict[str, Any]]) -> None:
    row = going[23]
    assert (row["object_version"], row["keeper_object_version"]) == (1, 1)  # as read, not as listed since
    assert (row["content_hash"], row["keeper_content_hash"]) == ("c", "c")
    assert (going[12]["etag"], going[12]["keeper_etag"], going[6]["modified_at"].year) == ("e", "e", 2024)
    assert f" results {RESULTS_VERSION}" in row["versions"]


@pytest.mark.slow
def test_members_of_old_facts_are_counted_and_said(tables: Tables, caplog: pytest.LogCaptureFixture) -> None:
    fill(tables, map(listed, (1, 2)), (readable(i, None, phash=0, signature_version="1/x") for i in (1, 2)))
    append_pairs(tables, [(1, 2, "phash", None, 0)])
    with caplog.at_level("WARNING"):
        members = run_cluster(tables)
    assert not any(m["is_removable"] for m in members.values())
    assert "2 members were read by an older version of dedup-spark" in caplog.text
