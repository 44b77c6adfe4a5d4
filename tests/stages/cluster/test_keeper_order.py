"""The policy that ranks members: any SQL over images and features, prefixes that protect, and what is no SQL."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fabricated import features, images, listed, readable
from pyspark.sql import SparkSession

from dedup_spark.config import ClusterSettings, Config
from dedup_spark.errors import ConfigError
from dedup_spark.stages.cluster import keeper_order, plain_sql

ROOT = Path(__file__).resolve().parents[3]

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
        "image_id DIV 10 AS label",
    )  # fmt: skip
    ranked = keeper_order.rank_members(
        members, images(spark, listing), read, ClusterSettings(keeper_order=order)
    ).collect()
    found = sorted((r["label"], r["rank"], r["image_id"] % 10) for r in ranked)
    assert found == [(k, rank, i) for k in range(4) for rank, i in enumerate(expected[k:], 1)]


@pytest.mark.parametrize(
    ("settings", "protected", "references"),
    [
        ({"protected_prefixes": ("a/",)}, {2, 3}, set()),
        ({"protected_prefixes": ("/lake/a/x",)}, {3}, set()),
        ({"reference_prefixes": ("file:///lake/b", "s3://other/")}, {4, 5}, {4, 5}),
        ({"protected_prefixes": ("a/",), "reference_prefixes": ("b/",)}, {2, 3, 4}, {4}),
        ({"protected_prefixes": ("s3a://other/a/", "file:/lake//b/")}, {4, 5}, set()),
        ({"protected_prefixes": ("/lake/nothing/../a/x/",)}, {3}, set()),
        ({"protected_prefixes": ("",)}, {1, 2, 3, 4}, set()),
        ({"protected_prefixes": ("%", ".*/")}, set(), set()),
    ],
    ids=str,
)
def test_prefixes_protect_and_protected_images_are_the_first_choice(
    spark: SparkSession, settings: dict[str, Any], protected: set[int], references: set[int]
) -> None:
    uris = {1: "file:///lake/1.jpg", 2: "file:///lake/a/2.jpg", 3: "file:///lake/a/x/3.jpg", 4: "file:///lake/b/4.jpg",
            5: "s3://other/a/5.jpg"}  # fmt: skip
    listing = [listed(i, uri=uri, attributes={"priority": str(9 - i)}) for i, uri in uris.items()]
    read = features(spark, [readable(i) for i in uris])
    members = read.selectExpr("image_id", "content_hash", "pixel_hash", "image_id AS representative_id", "1L AS label")
    order = ("attributes['priority'] DESC", "length(prefix)")
    asked = ClusterSettings(keeper_order=order, **settings)
    keeper_order.require_keeper_order(images(spark, listing), read, asked)
    ranked = keeper_order.rank_members(members, images(spark, listing), read, asked).orderBy("rank").collect()
    assert {r["image_id"] for r in ranked if r["is_protected"]} == protected
    assert {r["image_id"] for r in ranked if r["is_reference"]} == references
    assert [r["image_id"] for r in ranked] == [*sorted(protected), *sorted(set(uris) - protected)]


def test_a_prefix_is_the_folder_below_the_lake(spark: SparkSession) -> None:
    uris = ["file:///lake/a/b/1.jpg", "file:///lake/2.jpg", "s3://other/c/3.jpg", "file:///lake/new\nline/4.jpg"]
    listing = [listed(i, uri=uri) for i, uri in enumerate(uris)]
    facts = keeper_order._facts(images(spark, listing), features(spark, map(readable, range(4))), ClusterSettings())
    assert [r["prefix"] for r in facts.orderBy("image_id").collect()] == ["a/b/", "", "s3://other/c/", "new\nline/"]


def keeper_problem(spark: SparkSession, *order: str) -> str:
    with pytest.raises(ConfigError) as e:
        keeper_order.require_keeper_order(images(spark, []), features(spark, []), ClusterSettings(keeper_order=order))
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


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("java_method('java.lang.System', 'getProperty', 'user.home')", "java_method is none of the functions"),
        ("reflect('java.lang.Runtime', 'getRuntime') DESC", "reflect is none of the functions"),
        ("coalesce(uri, JAVA_METHOD('java.util.UUID', 'randomUUID'))", "JAVA_METHOD is none of the functions"),
        ("(SELECT max(_c0) FROM csv.`/etc/passwd`) DESC", "a subquery does more"),
        ("uri IN (SELECT value FROM text.`/etc/passwd`)", "a subquery does more"),
        ("EXISTS (SELECT 1 FROM text.`/etc/passwd`)", "a subquery does more"),
        ("row_number() OVER (ORDER BY uri)", "a window does more"),
        ("transform(array(1), x -> x)", "transform is none"),
        ("rand()", "rand is none"), ("my_catalog.my_schema.f(uri)", "my_catalog.my_schema.f is none"),
        ("ai_query('model', uri)", "ai_query is none"), ("identifier('uri')", "does more than compute"),
        ("uri || `java_method`('java.lang.System', 'exit', 1)", "java_method is none"),
        ("size_bytes /* */ + try_reflect('a', 'b')", "try_reflect is none"),
        ("current_user()", "current_user is none"), ("input_file_name()", "input_file_name is none"),
    ],
)  # fmt: skip
def test_an_order_that_does_more_than_compute_is_refused_before_anything_of_it_runs(
    spark: SparkSession, item: str, says: str
) -> None:
    said = keeper_problem(spark, item)
    assert said.startswith(f"cluster.keeper_order: '{item}' is not an SQL expression")
    assert says in said


@pytest.mark.parametrize(
    "item",
    ["attributes['licence'] = 'own' DESC", "CASE WHEN format = 'PNG' THEN 1 ELSE 2 END",
     "size_bytes / (width_px + 1) DESC", "uri LIKE '%/raw/%' DESC", "uri RLIKE '(?i)raw' DESC",
     "cast(substring(prefix, 1, 4) AS int) ASC", "year(modified_at)", "format IN ('TIFF', 'PNG') DESC",
     "width_px BETWEEN 100 AND 200", "uri || prefix", "extract(month FROM modified_at)",
     "NOT startswith(prefix, 'old/')", "try_cast(attributes['n'] AS double) DESC",
     "modified_at > timestamp '2020-01-01'", "element_at(attributes, 'x') DESC", "if(is_damaged, 1, 0)",
     "trim(BOTH '/' FROM prefix)", "uri LIKE ANY ('a%', 'b%')"],
)  # fmt: skip
def test_what_an_order_needs_is_accepted(spark: SparkSession, item: str) -> None:
    keeper_order.require_keeper_order(images(spark, []), features(spark, []), ClusterSettings(keeper_order=(item,)))


def test_the_functions_that_settings_may_call_are_documented() -> None:
    documented = (ROOT / "docs/decisions.md").read_text()
    assert not {name for name in plain_sql.FUNCTIONS if f"`{name}`" not in documented}


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
    keeper_order.require_keeper_order(images(spark, []), features(spark, []), ClusterSettings())


def test_prefixes_that_protect_nothing_are_named(spark: SparkSession) -> None:
    listing = images(spark, [listed(1, uri="file:///lake/Caf\u00e9/1.jpg"), listed(2, uri="s3://other/a/2.jpg")])
    vain = ("cafe\u0301/", "/originals/", "Caf\u00e9/x")
    asked = ClusterSettings(protected_prefixes=("Caf\u00e9/", *vain), reference_prefixes=("s3a://other/a/",))
    assert sorted(keeper_order.prefixes_in_vain(listing, asked)) == sorted(vain)
    assert keeper_order.prefixes_in_vain(listing, ClusterSettings()) == []


def test_what_lies_in_a_bin_is_kept_last_whatever_the_order(spark: SparkSession) -> None:
    uris = {1: "file:///lake/#recycle/1.jpg", 2: "file:///lake/a/2.jpg", 3: "https://host/3.jpg"}
    listing = images(spark, [listed(i, uri=uri) for i, uri in uris.items()])
    read = features(spark, [readable(i) for i in uris])
    members = read.selectExpr("image_id", "content_hash", "pixel_hash", "image_id AS representative_id", "1L AS label")
    ranked = keeper_order.rank_members(members, listing, read, ClusterSettings(keeper_order=("image_id",)))
    assert [row["image_id"] for row in ranked.orderBy("rank").collect()] == [2, 1, 3]
