"""What is compared inside components is read out of features once, and decides the same."""

from __future__ import annotations

import numpy as np
import pytest
from clustering import embedded, run_cluster
from fabricated import families, fill, frame, readable
from pyspark.sql import DataFrame

from dedup_spark.spark import needed_rows
from dedup_spark.stages.cluster.distances import pairs_within
from dedup_spark.stages.cluster.pictures import COLUMNS, pictures_of
from dedup_spark.store.schema import EVIDENCE, FEATURES
from dedup_spark.store.tables import Tables


@pytest.fixture
def is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needed_rows, "_SMALL_BYTES", 0)
    monkeypatch.setattr(needed_rows, "_FILTER_BITS", 20)


def wanted(tables: Tables, *ids: int) -> DataFrame:
    return tables.stage("wanted", frame(tables.spark, "image_id bigint", [{"image_id": i} for i in ids]))


def test_of_a_small_table_nothing_is_staged(tables: Tables) -> None:
    fill(tables, feature_rows=[readable(i) for i in range(9)])
    found = pictures_of(wanted(tables, 2), tables.read(FEATURES), tables)
    assert sorted(row["image_id"] for row in found.collect()) == list(range(9))


@pytest.mark.usefixtures("is_large")
def test_of_a_large_table_the_images_asked_for_lie_apart(tables: Tables) -> None:
    fill(tables, feature_rows=[readable(i, thumbnail=bytearray([i])) for i in range(200)])
    found = pictures_of(wanted(tables, 2, 150), tables.read(FEATURES), tables)
    assert {row["image_id"]: bytes(row["thumbnail"]) for row in found.collect()} == {2: b"\x02", 150: b"\x96"}
    assert found.columns == list(COLUMNS)
    assert all("/_staging/" in file for file in found.inputFiles())


@pytest.mark.slow
@pytest.mark.usefixtures("is_large")
def test_groups_are_the_same_of_a_large_table(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = families([4, 3, 1], 0.8, np.random.default_rng(5))
    embedded(tables, vectors, list(range(10, 18)))
    large = run_cluster(tables)
    monkeypatch.setattr(needed_rows, "_SMALL_BYTES", 1 << 40)
    assert large == run_cluster(tables)
    assert len(large) == 7


def test_pairs_that_leave_a_component_are_left_out(tables: Tables) -> None:
    pairs = [(1, 2), (1, 3), (3, 4), (4, 5), (6, 7)]
    evidence = frame(tables.spark, EVIDENCE.schema, [{"image_id_a": a, "image_id_b": b} for a, b in pairs])
    groups = frame(
        tables.spark, "image_id bigint, component_id bigint",
        [{"image_id": i, "component_id": c} for i, c in ((1, 1), (2, 1), (3, 3), (4, 3), (5, 3))],
    )  # fmt: skip
    found = pairs_within(evidence, groups)
    assert found.columns == evidence.columns
    assert sorted((r["image_id_a"], r["image_id_b"]) for r in found.collect()) == [(1, 2), (3, 4), (4, 5)]
