"""The report step: figures that agree with the tables, a page and a script on disk, bounded whatever the lake."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest
from known_tables import LAKE, fill_known_tables, thumbnail
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import Config, load_config
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.report import step as report
from dedup_spark.stages.report.summary import collect_summary
from dedup_spark.stages.report.values import Summary, TierTotal
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import CLUSTERS, FEATURES
from dedup_spark.store.tables import Tables
from dedup_spark.store.views import ViewSettings


def report_on(tables: Tables, config: Config) -> str:
    """Run the step; the page."""
    report.run(tables.spark, config, Run(tables, config, LAKE, "run-1"))
    return Path(tables.root, "report", "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def known(spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    made = Tables(spark, str(shutil.copytree(empty_tables, tmp_path_factory.mktemp("known") / "tables")))
    fill_known_tables(made)
    return made


def test_the_summary_counts_every_image_once(known: Tables) -> None:
    summary = collect_summary(known, ViewSettings())
    assert summary == Summary(
        n_found=12,
        found_bytes=2401,
        n_read=10,
        rejected={"not_an_image": 1, "truncated": 1},
        n_clusters=2,
        tiers=(
            TierTotal("same_bytes", 2, 120, True, 120),
            TierTotal("same_pixels", 1, 300, True, 300),
            TierTotal("edited_copy", 3, 750, True, 750),
            TierTotal("edited_copy", 1, 80, False, 0),
        ),
    )
    assert (summary.n_pending, summary.n_members, summary.n_distinct) == (0, 9, 3)


def test_page_and_script_are_written_and_show_what_the_tables_hold(known: Tables) -> None:
    page = report_on(known, load_config())
    for image_id in (1, 2, 3, 4, 5, 6, 7, 11, 12):  # all members, no other image
        assert base64.b64encode(thumbnail(image_id)).decode() in page
    assert page.count("data:image/jpeg") == 9
    assert page.index("cluster 0000000000000001") < page.index("cluster 0000000000000006")  # five members before four
    assert "file ends early" in page
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page
    script = Path(known.root, "report", "views.sql").read_text()
    assert "VIEW reclaimable_by_prefix" in script


def test_the_number_of_clusters_shown_is_a_setting(known: Tables) -> None:
    page = report_on(known, load_config(overrides=["report.max_clusters_shown=1"]))
    assert page.count("<article>") == 1
    assert "1 of 2 clusters" in page


def test_a_lake_without_anything_gets_a_page_too(tables: Tables) -> None:
    assert "No duplicates were found." in report_on(tables, load_config())


def crowd(spark: SparkSession, n: int) -> tuple[DataFrame, DataFrame]:
    """One cluster of `n`: image 0 is the keeper, the others are the more like it the higher their id."""
    ids = spark.range(n).withColumnRenamed("id", "image_id")
    columns = {
        "cluster_id": F.lit(0).cast("bigint"),
        "cluster_size": F.lit(n).cast("bigint"),
        "is_keeper": F.expr("image_id = 0"),
        "relation": F.expr("IF(image_id = 0, NULL, 'edited_copy')"),
        "is_removable": F.expr("image_id <> 0"),
        "similarity": F.expr("IF(image_id = 0, 1, image_id / 1e6)"),
        "size_bytes": F.lit(10).cast("bigint"),
        "freed_bytes": F.lit(10).cast("bigint"),
    }
    typed = {c: F.lit(None).cast(t) for c, t, _ in CLUSTERS.columns if c not in ids.columns}
    clusters = ids.withColumns(typed | columns)
    return clusters, ids.withColumns({c: F.lit(None).cast(t) for c, t, _ in FEATURES.columns if c != "image_id"})


def test_of_a_crowd_the_keeper_and_the_least_alike_are_shown(spark: SparkSession) -> None:
    clusters, features = crowd(spark, 5000)
    largest = report.largest_clusters(clusters, clusters.where("is_removable"), 10)
    rows = sorted(report.shown_members(clusters, features, largest), key=lambda row: row["rank"])
    assert [row["is_keeper"] for row in rows] == [True] + [False] * 11
    assert [row["similarity"] for row in rows[1:]] == [i / 1e6 for i in range(1, 12)]
    assert {(row["cluster_size"], row["removable_bytes"]) for row in rows} == {(5000, 49_990)}


def test_clusters_come_by_members_then_by_bytes_to_free_then_by_id(spark: SparkSession) -> None:
    rows = [(1, False, 900), (1, False, 800), (2, False, 1), (2, True, 5), (3, False, 1), (3, True, 2), (3, True, 3),
            (4, False, 9), (4, True, None), (5, False, 9), (5, True, 5)]  # fmt: skip
    clusters = local_relation(spark, rows, "cluster_id bigint, is_removable boolean, freed_bytes bigint")
    found = [tuple(row) for row in report.largest_clusters(clusters, clusters.where("is_removable"), 4).collect()]
    assert found == [(3, 5), (2, 5), (5, 5), (1, 0)]
