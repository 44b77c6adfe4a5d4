"""Tables in which two runs wrote at once: mended, so that later runs go on."""

from __future__ import annotations

import pytest
from fabricated import frame, listed, readable, rejected

from dedup_spark.commands.repair import repair
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.store.tables import Tables


def fill(tables: Tables, images: list[dict], features: list[dict]) -> None:
    tables.append(IMAGES, frame(tables.spark, IMAGES.schema, images))
    tables.append(FEATURES, frame(tables.spark, FEATURES.schema, features))


def stored(tables: Tables) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for row in tables.read(FEATURES).collect():
        found.setdefault(row["image_id"], []).append(row["run_id"])
    return found


def test_of_rows_that_are_there_twice_the_last_one_stays(tables: Tables) -> None:
    fill(
        tables,
        [listed(n) for n in (1, 2, 3)],
        [readable(1, run_id="a"), readable(1, run_id="b"), readable(2, run_id="a"), readable(3, run_id="b")],
    )
    assert repair(tables) == {
        "rows of images that were there twice": 0,
        "rows of features that were there twice": 1,
        "features without an image": 0,
    }
    assert stored(tables) == {1: ["b"], 2: ["a"], 3: ["b"]}


def test_a_row_of_the_object_as_it_is_listed_goes_before_a_later_one(tables: Tables) -> None:
    now = listed(1)["object_version"]
    fill(
        tables,
        [listed(1)],
        [readable(1, run_id="a", object_version=now), readable(1, run_id="b", object_version=now + 1)],
    )
    repair(tables)
    assert stored(tables) == {1: ["a"]}


def test_a_row_that_was_read_goes_before_one_that_was_rejected(tables: Tables) -> None:
    fill(tables, [listed(1)], [rejected(1, run_id="b"), readable(1, run_id="a")])
    repair(tables)
    assert stored(tables) == {1: ["a"]}


def test_features_without_an_image_go(tables: Tables) -> None:
    fill(tables, [listed(1)], [readable(1), readable(2), readable(2)])
    assert repair(tables)["features without an image"] == 1
    assert list(stored(tables)) == [1]


def test_an_image_and_an_address_have_one_row(tables: Tables) -> None:
    again = listed(9) | {"uri": listed(2)["uri"]}
    fill(tables, [listed(1), listed(1), listed(2), again], [readable(1), readable(2), readable(9)])
    assert repair(tables)["rows of images that were there twice"] == 2
    assert sorted(r["image_id"] for r in tables.read(IMAGES).collect()) == [1, 2]
    assert sorted(stored(tables)) == [1, 2]


@pytest.mark.parametrize("times", [1, 2])
def test_sound_tables_stay_as_they_are(tables: Tables, times: int) -> None:
    fill(tables, [listed(1), listed(2)], [readable(1), rejected(2)])
    versions = tables.version(IMAGES), tables.version(FEATURES)
    for _ in range(times):
        assert not any(repair(tables).values())
    assert (tables.version(IMAGES), tables.version(FEATURES)) == versions
