"""`dedup-spark trace`: the rows of one image in every table, whatever became of it."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import FinishedRun
from fabricated import fill, frame, listed, readable
from table_contents import rows
from tiny_lake import ODD_NAME

from dedup_spark.commands.image_ids import in_hex
from dedup_spark.commands.trace import describe_trace, trace_image
from dedup_spark.errors import ConfigError
from dedup_spark.store.duck import DuckTables
from dedup_spark.store.schema import CLUSTERS, PAIRS
from dedup_spark.store.spark_sql import SparkTables
from dedup_spark.store.tables import Tables


def trace(tables: Tables, uri: str) -> str:
    return "\n".join(describe_trace(found) for found in trace_image(DuckTables(tables.root), uri))


def row_of(done: FinishedRun, table: str, path: str) -> dict[str, Any]:
    (image_id,) = (r["image_id"] for r in rows(done.tables.root, "images") if r["uri"].endswith(f"/lake/{path}"))
    return next(r for r in rows(done.tables.root, table) if r["image_id"] == image_id)


def test_a_clustered_image_shows_all_its_rows_and_those_of_its_cluster(finished: FinishedRun) -> None:
    said = trace(finished.tables, "photos/coffee.jpg")
    feature, member = (
        row_of(finished, "features", "photos/coffee.jpg"),
        row_of(finished, "clusters", "photos/coffee.jpg"),
    )
    assert f"image_id: {in_hex(feature['image_id'])}" in said
    assert f"content_hash: {feature['content_hash']}" in said
    assert f"phash: {in_hex(feature['phash'])}" in said
    assert "embedding: <1024 bytes>" in said
    assert f"thumbnail: <{len(feature['thumbnail'])} bytes>" in said
    assert "method: same_bytes" in said
    assert said.count("\n  clusters:") == member["cluster_size"] == 3
    for path in finished.lake.same_bytes[0]:
        assert f"{path}\n" in said
    assert "reject_reason" not in said  # null: not said


@pytest.mark.parametrize("path", [ODD_NAME, "odd names/no extension"])
def test_a_full_address_and_the_end_of_one_find_the_same_image(finished: FinishedRun, path: str) -> None:
    uri = row_of(finished, "images", path)["uri"]
    said = trace(finished.tables, uri)
    assert said == trace(finished.tables, path)
    assert said.startswith(f"\n{uri}\n")


def test_a_rejected_image_shows_why_and_is_in_no_cluster(finished: FinishedRun) -> None:
    said = trace(finished.tables, "broken/truncated.jpg")
    assert "status: rejected" in said
    assert "reject_reason: truncated" in said
    assert "pairs: no row" in said
    assert "clusters: it is in no cluster" in said


def test_an_image_without_copies_is_in_no_cluster(finished: FinishedRun) -> None:
    said = trace(finished.tables, "singles/moon.png")
    assert "status: ok" in said
    assert "pairs: no row" in said
    assert "clusters: it is in no cluster" in said


def test_an_address_that_nothing_has_is_an_error_that_repeats_it(finished: FinishedRun) -> None:
    with pytest.raises(ConfigError, match=r"no image has a uri that ends with 'photos/tea\.jpg'"):
        trace(finished.tables, "photos/tea.jpg")


def test_an_ending_that_many_images_share_is_an_error_that_asks_for_more(finished: FinishedRun) -> None:
    with pytest.raises(
        ConfigError, match=r"more than 5 images have a uri that ends with '\.jpg'; give a longer part of it"
    ):
        trace(finished.tables, ".jpg")


def test_characters_of_patterns_stand_for_themselves(finished: FinishedRun) -> None:
    for pattern in ("photos/%.jpg", "photos/coffe_.jpg", "photos/coffee*", "photos/coffee?jpg"):
        with pytest.raises(ConfigError, match="no image has"):
            trace(finished.tables, pattern)


def test_an_image_that_is_listed_but_not_read_yet_shows_what_there_is(tables: Tables) -> None:
    fill(tables, [listed(1)])
    said = trace(tables, "1.jpg")
    assert f"images:\n    image_id: {in_hex(1)}" in said
    assert "features: no row" in said
    assert "index: empty" in said


def test_an_exact_address_wins_over_addresses_that_end_like_it(tables: Tables) -> None:
    fill(tables, [listed(1, uri="a.jpg"), listed(2, uri="b/a.jpg")])
    said = trace(tables, "a.jpg")
    assert said.startswith("\na.jpg\n")
    assert "b/a.jpg" not in said


def test_of_a_crowd_a_few_rows_are_shown_and_the_rest_is_mentioned(tables: Tables) -> None:
    fill(tables, [listed(i) for i in range(40)], [readable(i) for i in range(40)])
    made = [{"image_id_a": 0, "image_id_b": i, "method": "embedding", "similarity": i / 100} for i in range(1, 40)]
    tables.append(PAIRS, frame(tables.spark, PAIRS.schema, made))
    members = [{"image_id": i, "cluster_id": 0, "cluster_size": 40} for i in range(40)]
    tables.append(CLUSTERS, frame(tables.spark, CLUSTERS.schema, members))
    said = trace(tables, "/0.jpg")
    assert said.count("\n  pairs:\n") == said.count("\n  clusters:\n") == 20
    assert "pairs: more than 20 rows" in said
    assert f"image_id_b: {in_hex(39)}" in said  # the most similar first
    assert f"image_id_b: {in_hex(5)}\n" not in said
    assert "clusters: more than 20 rows" in said


def test_both_engines_trace_alike(finished: FinishedRun) -> None:
    by_spark, by_duckdb = (
        "\n".join(map(describe_trace, trace_image(asked, "photos/coffee.jpg")))
        for asked in (SparkTables(finished.tables), DuckTables(finished.tables.root))
    )
    assert by_spark == by_duckdb


def test_an_image_is_found_by_its_id_and_by_the_first_digits_of_it(finished: FinishedRun) -> None:
    row = row_of(finished, "images", "singles/moon.png")
    for named in (in_hex(row["image_id"]), in_hex(row["image_id"])[:12], str(row["image_id"])):
        assert trace(finished.tables, named).startswith(f"\n{row['uri']}\n")


def test_what_is_not_found_comes_with_what_is_near_and_what_is_not_clear_with_candidates(finished: FinishedRun) -> None:
    with pytest.raises(ConfigError, match=r"near are .*photos/coffee\.jpg"):
        trace(finished.tables, "elsewhere/coffee.tiff")
    with pytest.raises(ConfigError, match=r"or an id: [0-9a-f]{16} \(file:"):
        trace(finished.tables, ".jpg")
