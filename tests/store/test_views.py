"""The views over twelve known images: what each shows, and the three ways to open them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import FinishedRun
from known_tables import (
    HOSTILE,
    LAKE,
    MANIFEST,
    MODIFIED_AT,
    PROTECTED,
    append,
    feature_row,
    fill_known_tables,
    image_row,
    listing_row,
)
from pyspark.sql import SparkSession

from dedup_spark.errors import ConfigError, TableError
from dedup_spark.stages.report.summary import collect_summary
from dedup_spark.store.duck import DuckTables
from dedup_spark.store.schema import ALL, CLUSTERS, FEATURES, IMAGES, RUNS
from dedup_spark.store.spark_sql import SparkTables
from dedup_spark.store.tables import Tables
from dedup_spark.store.view_definitions import (
    DOUBTFUL_FIRST,
    DUPLICATES,
    EMBEDDINGS,
    LEAKAGE,
    QUARANTINE,
    RECLAIMABLE_BY_PREFIX,
    REMOVALS,
    VIEWS,
    View,
)
from dedup_spark.store.views import ViewSettings, create_views, open_views, read_view, views_script


@pytest.fixture(scope="module")
def known(spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Read only."""
    made = Tables(spark, str(shutil.copytree(empty_tables, tmp_path_factory.mktemp("known") / "it's a root")))
    fill_known_tables(made)
    return made


def values(tables: Tables, view: View, *columns: str, depth: int = 2) -> list[tuple]:
    return sorted(tuple(row) for row in read_view(tables, view, ViewSettings(depth)).select(*columns).collect())


def test_every_copy_is_a_duplicate_and_no_keeper_is(known: Tables) -> None:
    ids = [row[0] for row in values(known, DUPLICATES, "image_id")]
    assert ids == [2, 3, 4, 5, 7, 11, 12]


def test_a_duplicate_shows_the_keeper_that_stands_for_it(known: Tables) -> None:
    rows = read_view(known, DUPLICATES).where("image_id IN (4, 11)").orderBy("image_id").collect()
    [listed_at] = [row["at"] for row in known.read(RUNS).collect() if row["lake"] == LAKE]
    assert rows[0].asDict() == {
        "image_id": 4, "uri": f"{LAKE}/edited.jpg", "member": None,
        "keeper_image_id": 1, "keeper_uri": f"{LAKE}/a/x/kept.jpg", "keeper_member": None,
        "relation": "edited_copy", "removal_tier": "edited_copy", "edit": None,
        "near_image_id": 1, "near_uri": f"{LAKE}/a/x/kept.jpg", "near_member": None,
        "similarity": 0.75, "hamming_bits": 9, "keeper_distance": 0.25,
        "distance_unit": "1 - similarity", "is_bridge": True,
        "removable": True, "keeper_listed_at": listed_at,
        "size_bytes": 50, "freed_bytes": 50, "cluster_id": 1, "cluster_size": 5, "reason": "because of 4",
    }  # fmt: skip
    assert (rows[1]["member"], rows[1]["keeper_uri"]) == ("one/two.jpg", f"{LAKE}/c/kept.jpg")


def test_a_protected_copy_is_shown_but_never_removable(known: Tables) -> None:
    removable = dict(values(known, DUPLICATES, "image_id", "removable"))
    assert removable == {image_id: image_id != PROTECTED for image_id in (2, 3, 4, 5, 7, 11, 12)}


def test_the_copies_that_may_go_are_listed_from_the_most_doubtful_on(known: Tables) -> None:
    rows = read_view(known, DOUBTFUL_FIRST).select("image_id", "doubt", "doubts").collect()
    assert [tuple(row) for row in rows] == [
        (12, 0.5, "by the pHash alone"),
        (4, pytest.approx(1 / 3), "by the cosine alone"),
        (7, pytest.approx(1 / 6), "by the cosine alone"),
    ]


def test_a_low_cosine_is_no_doubt_and_what_was_not_looked_at_is_named(tables: Tables) -> None:
    kept = {"cluster_id": 1, "cluster_size": 5, "keeper_image_id": 1, "is_keeper": True, "size_bytes": 10, "bound": 0.8,
            "object_version": 1, "keeper_object_version": 1, "distance_unit": "1 - copy_probability"}  # fmt: skip
    copy = kept | {"is_keeper": False, "relation": "edited_copy", "is_removable": True, "is_direct": True,
                   "removal_tier": "edited_copy", "near_image_id": 1, "near_object_version": 1}  # fmt: skip
    copies = [  # similarity, copy_probability and what else is known
        copy | {"image_id": 2, "similarity": 0.3, "copy_probability": 0.999, "decided_by": "geometry", "n_inliers": 90},
        copy | {"image_id": 3, "similarity": 0.9, "copy_probability": 0.5, "decided_by": "undecided",
                "is_direct": False},
        copy | {"image_id": 4, "similarity": 0.8, "copy_probability": 0.3, "decided_by": "geometry", "n_inliers": 7,
                "contested": 0.2, "is_direct": False},
        copy | {"image_id": 5, "similarity": 0.9, "copy_probability": 0.6, "decided_by": "geometry", "n_inliers": 0},
        copy | {"image_id": 6, "similarity": 0.9, "copy_probability": 0.9, "decided_by": "geometry", "n_inliers": 0,
                "agreement": 0.98},  # laid over each other as they are
    ]  # fmt: skip
    copies = [row | {"keeper_distance": 1 - row["copy_probability"]} for row in copies]
    append(tables, CLUSTERS, [kept | {"image_id": 1, "keeper_distance": 0.0}, *copies])
    append(tables, IMAGES, [image_row(i, LAKE, f"{LAKE}/{i}.jpg", None, 10) for i in range(1, 7)])
    append(tables, RUNS, [listing_row(LAKE)])
    found = {row["image_id"]: row["doubts"] for row in read_view(tables, DOUBTFUL_FIRST).collect()}
    assert list(found) == [4, 3, 5, 6, 2]
    assert found == {
        4: "may be two pictures in one frame; few keypoints fit; joined through other members",
        3: "the thumbnails were not aligned; joined through other members",
        5: "the thumbnails do not fit each other",
        6: "",
        2: "",
    }


def test_images_that_show_what_a_reference_image_shows_are_leakage(known: Tables) -> None:
    rows = values(known, LEAKAGE, "image_id", "reference_image_id", "reference_uri", "n_references", "relation")
    reference = (PROTECTED, f"{LAKE}/a/x/next.jpg", 1)
    assert rows == [
        (1, *reference, None),
        (2, *reference, "same_bytes"),
        (3, *reference, "same_pixels"),
        (4, *reference, "edited_copy"),
    ]


def test_unreadable_images_are_in_quarantine_and_nowhere_else(known: Tables) -> None:
    rows = values(known, QUARANTINE, "image_id", "reject_reason", "reject_message", "size_bytes", "modified_at")
    naive = MODIFIED_AT.replace(tzinfo=None)  # the session's time zone is UTC
    assert rows == [(9, "truncated", "file ends early", 5, naive), (10, "not_an_image", HOSTILE, 6, naive)]
    others = {row[0] for view in (DUPLICATES, EMBEDDINGS) for row in values(known, view, "image_id")}
    assert not others & {9, 10}


def test_embeddings_has_every_image_that_has_one_with_its_address(known: Tables) -> None:
    rows = values(known, EMBEDDINGS, "image_id", "model_id", "embedding", "uri")
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]
    assert rows[0] == (1, "test/1", b"\x01\x01\x01\x01", f"{LAKE}/a/x/kept.jpg")


def test_an_image_without_embedding_is_not_in_embeddings(spark: SparkSession, tmp_path: Path) -> None:
    tables = Tables(spark, str(tmp_path))  # an append makes the table
    append(tables, IMAGES, [image_row(1, LAKE, f"{LAKE}/a.jpg", None, 1)])
    append(tables, FEATURES, [feature_row(1) | {"model_id": None, "embedding": None}])
    assert values(tables, EMBEDDINGS, "image_id") == []


@pytest.mark.parametrize(
    ("depth", "prefixes"),
    [
        (0, [(LAKE, "", 4, 1150, 10), ("s3://bucket/photos", "", 1, 20, 1), ("s3://elsewhere", "", 1, 0, 1)]),
        (1, [(LAKE, "", 1, 50, 1), (LAKE, "a/", 2, 400, 4), (LAKE, "c/", 1, 700, 5),
             ("s3://bucket/photos", "t/", 1, 20, 1), ("s3://elsewhere", "p/", 1, 0, 1)]),
        (2, [(LAKE, "", 1, 50, 1), (LAKE, "a/x/", 1, 100, 3), (LAKE, "a/y/", 1, 300, 1), (LAKE, "c/", 1, 700, 5),
             ("s3://bucket/photos", "t/", 1, 20, 1), ("s3://elsewhere", "p/q/", 1, 0, 1)]),
    ],
)  # fmt: skip
def test_folders_are_summed_down_to_the_depth_and_each_image_counts_once(
    known: Tables, depth: int, prefixes: list[tuple]
) -> None:
    columns = ("lake", "prefix", "n_removable", "removable_bytes", "n_images")
    assert values(known, RECLAIMABLE_BY_PREFIX, *columns, depth=depth) == prefixes


def test_the_share_of_a_folder_is_of_its_bytes_and_null_where_no_size_is_known(known: Tables) -> None:
    shares = dict(values(known, RECLAIMABLE_BY_PREFIX, "prefix", "removable_share"))
    assert shares["c/"] == pytest.approx(700 / (1000 + 700 + 40 + 5 + 6))
    assert shares["p/q/"] is None


def test_folders_and_duplicates_agree_on_what_is_removable(known: Tables) -> None:
    by_folder = read_view(known, RECLAIMABLE_BY_PREFIX).selectExpr("sum(n_removable)", "sum(removable_bytes)").first()
    one_by_one = read_view(known, DUPLICATES).where("removable").selectExpr("count(*)", "sum(freed_bytes)").first()
    assert by_folder is not None
    assert tuple(by_folder) == tuple(one_by_one or ())


def test_every_table_and_view_opens_by_bare_name_and_sees_later_rows(tables: Tables) -> None:
    create_views(tables)
    assert all(tables.spark.table(name.name).columns for name in (*ALL, *VIEWS))
    fill_known_tables(tables)
    assert tables.spark.sql("SELECT * FROM duplicates").count() == 7
    assert tables.spark.sql("SELECT * FROM images").count() == 12


@pytest.mark.slow
def test_tables_and_views_without_rows_can_be_read(tables: Tables) -> None:
    create_views(tables)
    assert all(tables.spark.table(name.name).count() == 0 for name in (*ALL, *VIEWS))


def test_every_column_of_a_view_has_its_comment(known: Tables) -> None:
    open_views(known)
    for view in VIEWS:
        described = known.spark.sql(f"DESCRIBE {view.name}").collect()
        assert tuple((row["col_name"], row["comment"]) for row in described) == view.columns
        assert read_view(known, view).columns == [name for name, _ in view.columns]


def test_the_script_opens_everything_in_a_session_that_knows_nothing(known: Tables) -> None:
    fresh = known.spark.newSession()
    statements = [part for part in views_script(known, ViewSettings(1)).split(";\n") if part.strip()]
    for statement in statements:
        fresh.sql(statement)
    assert len(statements) == len(ALL) + len(VIEWS)
    assert fresh.table("duplicates").count() == 7
    assert fresh.table("clusters").count() == 9
    assert {row["prefix"] for row in fresh.table("reclaimable_by_prefix").collect()} == {"", "a/", "c/", "t/", "p/"}


@pytest.mark.slow
def test_with_a_database_the_views_are_made_in_the_catalog(spark: SparkSession, tmp_path: Path) -> None:
    spark.sql(f"CREATE DATABASE views_test LOCATION '{tmp_path / 'catalog'}'")
    try:
        tables = Tables(spark, str(tmp_path / "files"), "views_test")
        tables.create_missing()
        fill_known_tables(tables)
        create_views(tables)
        elsewhere = spark.newSession()
        assert elsewhere.table("views_test.duplicates").count() == 7
        assert elsewhere.table("views_test.quarantine").count() == 2
        create_views(tables)  # again, as each run does
        open_views(tables)
        assert spark.table("reclaimable_by_prefix").count() == 6
    finally:
        spark.sql("DROP DATABASE views_test CASCADE")


def test_views_over_a_place_without_tables_are_an_error_that_names_it(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"nothing_here .*are all tables there"):
        create_views(Tables(spark, str(tmp_path / "nothing_here")))


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_duckdb_gives_the_rows_of_spark(known: Tables, later: Tables, finished: FinishedRun, view: View) -> None:
    for tables in (known, later, finished.tables):
        query = f"SELECT * FROM {view.name}"
        by_spark, by_duckdb = (asked.answer(query) for asked in (SparkTables(tables), DuckTables(tables.root)))
        nullable = pa.schema([field.with_nullable(True) for field in by_spark.schema])  # DuckDB's answers all are
        assert by_duckdb.schema.equals(nullable)
        assert sorted(map(repr, by_duckdb.to_pylist())) == sorted(map(repr, by_spark.to_pylist()))


def test_ids_are_written_and_read_alike_by_both_engines(known: Tables) -> None:
    query = (
        "SELECT hex_id(-2) AS a, to_id('fffffffffffffffe') AS b, to_id(hex_id(image_id)) - image_id AS c FROM images"
    )
    for asked in (SparkTables(known), DuckTables(known.root)):
        assert asked.answer(query, 1).to_pylist() == [{"a": "fffffffffffffffe", "b": -2, "c": 0}]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM clusters WHERE true",
        "DROP VIEW duplicates",
        "CREATE TABLE x (a INT)",
        "INSERT INTO runs SELECT * FROM runs",
        "WITH a AS (SELECT 1) INSERT INTO x FROM a",
    ],
)
def test_spark_answers_questions_only(known: Tables, query: str) -> None:
    with pytest.raises(ConfigError, match=r"the query is not valid|changes nothing: found"):
        SparkTables(known).answer(query)
    assert len(SparkTables(known).answer("SELECT * FROM clusters")) == 9


# --- what was true when clusters were made, and is not now ----------------------------------------------------------


@pytest.fixture(scope="module")
def later(spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Pairs of a keeper (1, 3, ...) and its copy (2, 4, ...), to each of which something happened; see HAPPENED."""
    tables = Tables(spark, str(shutil.copytree(empty_tables, tmp_path_factory.mktemp("later") / "tables")))
    images, clusters = [], []
    for keeper, (_, of_keeper, of_copy, of_clusters) in zip(range(1, 99, 2), HAPPENED, strict=False):
        for image_id, changes in ((keeper, of_keeper), (keeper + 1, of_copy)):
            if changes is not None:
                images.append(image_row(image_id, LAKE, f"{LAKE}/{image_id}.jpg", None, 10) | changes)
            is_keeper = image_id == keeper
            row = {"image_id": image_id, "uri": f"{LAKE}/{image_id}.jpg", "cluster_id": keeper, "cluster_size": 2,
                   "keeper_image_id": keeper, "is_keeper": is_keeper, "relation": None if is_keeper else "same_bytes",
                   "is_removable": not is_keeper, "size_bytes": 10, "freed_bytes": 0 if is_keeper else 10,
                   "object_version": 1, "keeper_object_version": 1, "reason": "because", "near_object_version": 1,
                   "near_image_id": keeper, "removal_tier": None if is_keeper else "same_bytes"}  # fmt: skip
            clusters.append(row | of_clusters)
    append(tables, IMAGES, images)
    append(tables, CLUSTERS, clusters)
    listings = [
        (LAKE, 1, "complete"),
        (LAKE, 500, "complete"),
        ("old", 169, "complete"),
        ("old", 2, "failed"),
        ("old", 3, "started"),
        ("in time", 167, "complete"),
        ("in time", 2, "failed"),
        (MANIFEST, 1, "failed"),
    ]
    append(tables, RUNS, [listing_row(*listing) for listing in listings])
    return tables


HAPPENED = [  # what, changes of the row of images of the keeper and of the copy (None: it is gone), of both in clusters
    ("nothing", {}, {}, {}),
    ("the keeper is gone", None, {}, {}),
    ("the keeper has changed", {"object_version": 2}, {}, {}),
    ("the copy is gone", {}, None, {}),
    ("the copy has changed", {}, {"object_version": 2}, {}),
    ("the folder of the keeper could not be listed", {"unlisted_since": MODIFIED_AT}, {}, {}),
    ("the folder of the copy could not be listed", {}, {"unlisted_since": MODIFIED_AT}, {}),
    ("the lake of the keeper is no longer scheduled", {"lake": "old"}, {}, {}),
    ("the lake of the keeper failed last night", {"lake": "in time"}, {}, {}),
    ("the lake of the keeper was never listed", {"lake": MANIFEST}, {}, {}),
    ("the lake of the copy is no longer scheduled", {}, {"lake": "old"}, {}),
    ("the lake of the copy was never listed", {}, {"lake": MANIFEST}, {}),
    ("the tables are of an older version", {}, {}, {"removal_tier": None, "near_image_id": None}),
    ("the step kept it", {}, {}, {"is_removable": False, "freed_bytes": 0}),
]
STANDING = {  # whether the copy is removable, and how its reason ends; copies that are none any more are left out
    "nothing": (True, "because"),
    "the keeper is gone": (False, "because; stays: the keeper is gone"),
    "the keeper has changed": (False, "because; stays: the keeper has changed"),
    "the folder of the keeper could not be listed": (
        False,
        "because; stays: the folder of the keeper could not be listed",
    ),
    "the folder of the copy could not be listed": (False, "because; stays: its folder could not be listed"),
    "the lake of the keeper is no longer scheduled": (False, "longer ago than cluster.max_listing_age_hours"),
    "the lake of the keeper failed last night": (True, "because"),
    "the lake of the keeper was never listed": (False, "stays: the lake of the keeper was never listed to its end"),
    "the lake of the copy is no longer scheduled": (False, "longer ago than cluster.max_listing_age_hours"),
    "the lake of the copy was never listed": (False, "because; stays: its lake was never listed to its end"),
    "the tables are of an older version": (
        False,
        "stays: an older version of dedup-spark found it and stored no removal tier: run again",
    ),
    "the step kept it": (False, "because"),
}


def test_a_copy_goes_only_while_it_and_its_keeper_are_what_they_were_and_their_lakes_are_listed(later: Tables) -> None:
    rows = values(later, DUPLICATES, "image_id", "removable", "reason")
    found = {HAPPENED[image_id // 2 - 1][0]: (removable, reason) for image_id, removable, reason in rows}
    assert {what: removable for what, (removable, _) in found.items()} == {w: r for w, (r, _) in STANDING.items()}
    assert [what for what, (_, reason) in found.items() if not reason.endswith(STANDING[what][1])] == []


def test_all_that_counts_what_is_removable_agrees(later: Tables) -> None:
    removable = {i for i, can_go in values(later, DUPLICATES, "image_id", "removable") if can_go}
    assert {row[0] for row in values(later, REMOVALS, "image_id")} == removable
    assert sum(n for (n,) in values(later, RECLAIMABLE_BY_PREFIX, "n_removable")) == len(removable)
    assert sum(n for (n,) in values(later, RECLAIMABLE_BY_PREFIX, "removable_bytes")) == 10 * len(removable)
    freed = dict(values(later, DUPLICATES, "image_id", "freed_bytes"))
    assert freed == {i: 10 if i in removable else 0 for i in freed}
    summary = collect_summary(later, ViewSettings())
    assert (summary.n_removable, summary.removable_bytes) == (len(removable), 10 * len(removable))


@pytest.mark.parametrize(
    ("hours", "n_removable"), [(0.0, 0), (1.5, 1), (168.0, 2), (169.5, 4), (1e-05, 0), (87_600.0, 4)]
)
def test_how_long_a_listing_counts_is_a_setting(later: Tables, hours: float, n_removable: int) -> None:
    rows = read_view(later, DUPLICATES, ViewSettings(max_listing_age_hours=hours))
    assert rows.where("removable").count() == n_removable


def test_a_copy_whose_keeper_is_in_no_cluster_is_not_offered(spark: SparkSession, tables: Tables) -> None:
    kept = {"cluster_id": 1, "cluster_size": 2, "is_keeper": True, "size_bytes": 10}
    copy = kept | {"is_keeper": False, "relation": "same_bytes", "is_removable": True}
    rows = [kept | {"image_id": 1, "keeper_image_id": 1}, copy | {"image_id": 2, "keeper_image_id": 1}]
    orphan = copy | {"image_id": 4, "keeper_image_id": 3}
    append(tables, CLUSTERS, [*rows, orphan])
    append(tables, IMAGES, [image_row(i, LAKE, f"{LAKE}/{i}.jpg", None, 10) for i in (1, 2, 3, 4)])
    assert values(tables, DUPLICATES, "image_id") == [(2,)]
