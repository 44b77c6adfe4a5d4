"""Which image stands for those of equal pixels: the steps and every command that asks for it agree."""

from __future__ import annotations

import numpy as np
import pytest
from fabricated import directions, fill, listed, random_ids, readable
from pyspark.sql import functions as F

from dedup_spark.commands import explain
from dedup_spark.commands.dendrogram import reading
from dedup_spark.commands.labelled_images import known_images
from dedup_spark.commands.labels import Labels
from dedup_spark.stages.representatives import copies, representatives, representatives_with, with_representative
from dedup_spark.store.duck import DuckTables
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.spark_sql import SparkTables
from dedup_spark.store.tables import Tables

RUNS = (None, "20261101-020000-aaaa", "20261102-020000-0000", "20261203-020000-0000")


def made(rng: np.random.Generator, n: int = 40) -> list[tuple[int, int, str | None]]:
    """(image_id, picture, run) of images of some pictures, read by several runs."""
    runs = [RUNS[i] for i in rng.integers(0, len(RUNS), n)]
    return list(zip(random_ids(n, rng), rng.integers(0, 12, n).tolist(), runs, strict=True))


def first_of(rows: list[tuple[int, int, str | None]]) -> dict[int, int]:
    """The representative of each picture, by the words of its definition."""
    found: dict[int, int] = {}
    for image_id, picture, _ in sorted(rows, key=lambda row: (row[2] or "", row[0])):
        found.setdefault(picture, image_id)
    return found


@pytest.fixture
def rows(tables: Tables) -> list[tuple[int, int, str | None]]:
    rng = np.random.default_rng(41)
    found = made(rng)
    features = [
        readable(i, vector, pixel_hash=f"pixels {picture}", run_id=run)
        for (i, picture, run), vector in zip(found, directions(len(found), rng), strict=True)
    ]
    fill(tables, [listed(i) for i, _, _ in found], features)
    return found


def test_the_first_that_a_run_read_stands_for_its_picture_in_every_step(
    tables: Tables, rows: list[tuple[int, int, str | None]]
) -> None:
    features, first = tables.read(FEATURES), first_of(rows)
    assert {r["image_id"] for r in representatives(features).collect()} == set(first.values())
    of_each = {r["image_id"]: r["representative_id"] for r in with_representative(features).collect()}
    assert of_each == {image_id: first[picture] for image_id, picture, _ in rows}
    grouped = representatives_with(features, F.col("phash")).collect()
    assert {(r["image_id"], r["phash"]) for r in grouped} == {(i, i) for i in first.values()}
    several = representatives_with(features).where("n_equal > 1").withColumnRenamed("image_id", "representative_id")
    others = {r["image_id"] for r in copies(features, several).collect()}
    assert others == {image_id for image_id, _, _ in rows} - set(first.values())


@pytest.mark.slow
def test_commands_name_the_same_image_in_both_engines(tables: Tables, rows: list[tuple[int, int, str | None]]) -> None:
    first, ids = first_of(rows), [image_id for image_id, _, _ in rows]
    wanted = {image_id: first[picture] for image_id, picture, _ in rows}
    labels = Labels(
        "f.csv", np.array([str(i) for i in ids]), np.array([str(i) for i in ids]), np.ones(len(ids)), True, 0
    )
    for engine in (SparkTables(tables), DuckTables(tables.root)):
        known = known_images(engine, labels, "file:///lake")
        assert {int(key): image.representative_id for key, image in known.items()} == wanted
        for image_id in ids[:8]:
            assert reading._representative(engine, image_id) == wanted[image_id]
            assert explain._facts(engine, {"image_id": image_id})["representative_id"] == wanted[image_id]


def test_a_copy_that_comes_later_takes_no_place(tables: Tables, rows: list[tuple[int, int, str | None]]) -> None:
    before = {r["image_id"] for r in representatives(tables.read(FEATURES)).collect()}
    smallest = -(2**63)
    later = [readable(smallest + p, pixel_hash=f"pixels {p}", run_id="20270101-020000-0000") for p in range(12)]
    fill(tables, feature_rows=later)
    assert {r["image_id"] for r in representatives(tables.read(FEATURES)).collect()} >= before
