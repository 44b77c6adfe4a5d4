"""Tables in which two runs wrote at once: mended, so that later runs go on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from fabricated import fill, listed, readable, rejected
from pyspark.sql import SparkSession
from table_contents import rows

from dedup_spark.commands.repair import repair
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.store.tables import Tables

NOW = listed(0)["object_version"]
IMAGE_ROWS = [listed(n) for n in (1, 2, 3, 11, 21, 41, 41, 42)] + [listed(49) | {"uri": listed(42)["uri"]}]
FEATURE_ROWS = [
    *(readable(1, run_id="a"), readable(1, run_id="b"), readable(2, run_id="a"), readable(3, run_id="b")),
    *(readable(11, run_id="a", object_version=NOW), readable(11, run_id="b", object_version=NOW + 1)),
    *(rejected(21, run_id="b"), readable(21, run_id="a")),
    *(readable(31, run_id="a"), readable(32, run_id="a"), readable(32, run_id="a")),
    *(readable(n, run_id="a") for n in (41, 42, 49)),
]


@dataclass(frozen=True)
class Mended:
    """The tables after a repair, and what it said."""

    tables: Tables
    said: dict[str, int]

    def stored(self, image_id: int) -> list[str]:
        """The runs that wrote the rows of features of an image."""
        return [row["run_id"] for row in rows(self.tables.root, "features") if row["image_id"] == image_id]


@pytest.fixture(scope="module")
def mended(spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Mended:
    tables = Tables(spark, str(shutil.copytree(empty_tables, tmp_path_factory.mktemp("mended") / "tables")))
    fill(tables, IMAGE_ROWS, FEATURE_ROWS)
    return Mended(tables, repair(tables))


def test_what_was_wrong_is_counted(mended: Mended) -> None:
    assert mended.said == {
        "repeated rows of images deleted": 2,
        "repeated rows of features deleted": 4,  # of 1, 11, 21 and 32
        "rows of features without an image deleted": 3,  # 31, 32, and 49 now
    }


def test_of_rows_that_are_there_twice_the_last_one_stays(mended: Mended) -> None:
    assert [mended.stored(n) for n in (1, 2, 3)] == [["b"], ["a"], ["b"]]


def test_a_row_of_the_object_as_it_is_listed_goes_before_a_later_one(mended: Mended) -> None:
    assert mended.stored(11) == ["a"]


def test_a_row_that_was_read_goes_before_one_that_was_rejected(mended: Mended) -> None:
    assert mended.stored(21) == ["a"]


def test_features_without_an_image_go(mended: Mended) -> None:
    assert mended.stored(31) == mended.stored(32) == []


def test_an_image_and_an_address_have_one_row(mended: Mended) -> None:
    assert sorted(r["image_id"] for r in rows(mended.tables.root, "images")) == [1, 2, 3, 11, 21, 41, 42]
    assert [mended.stored(n) for n in (41, 42, 49)] == [["a"], ["a"], []]


def test_sound_tables_stay_as_they_are(mended: Mended) -> None:
    versions = mended.tables.version(IMAGES), mended.tables.version(FEATURES)
    assert not any(repair(mended.tables).values())
    assert (mended.tables.version(IMAGES), mended.tables.version(FEATURES)) == versions
