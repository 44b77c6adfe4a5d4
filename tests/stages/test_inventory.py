"""Inventory: identity that never changes, ids that are never shared, and what is new, changed and gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fabricated import fill, frame, images, listed
from pyspark.sql import DataFrame, SparkSession
from table_contents import rows

from dedup_spark.config import load_config
from dedup_spark.errors import ConfigError, GuardError
from dedup_spark.runs import Run
from dedup_spark.sources.base import LISTING_SCHEMA
from dedup_spark.stages import inventory
from dedup_spark.tables import IMAGES, Tables

AT = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
LAKE = "s3://bucket/photos"

# xxHash64 with seed 42, computed by an implementation of its own; a member's low 40 bits are of uri and member.
GOLDEN_IDS = {
    ("file:///lake/a.jpg", None): -7216200924479886827,
    ("s3://bucket/photos/café 写真 100%25 #1.jpg", None): 248734347885532637,
    ("file:///lake/photos.tar", "one/two.jpg"): 7993197702750118646,
    ("file:///lake/photos.tar", "one/three.jpg"): 7993197478356384004,
    ("file:///lake/photos.tar", None): 7993197152527698976,
}
GOLDEN_VERSIONS = [-8880252129448617529, -5252525462095825812]


def listing(spark: SparkSession, *found: dict[str, Any]) -> DataFrame:
    return frame(spark, LISTING_SCHEMA, found)


def identified(spark: SparkSession, *found: dict[str, Any]) -> dict[tuple[str, str | None], dict[str, Any]]:
    """Rows of with_identity by address."""
    made = inventory.with_identity(listing(spark, *found), LAKE)
    assert set(made.columns) == set(IMAGES.column_names)
    known = made.collect()
    by_address = {(r["uri"], r["member"]): r.asDict() for r in known}
    assert len(by_address) == len(known)
    return by_address


# --- identity --------------------------------------------------------------------------------------------


def test_ids_never_change(spark: SparkSession) -> None:
    """Golden values: other ones would make every table that exists a stranger to its lake."""
    found = identified(spark, *({"uri": uri, "member": member} for uri, member in GOLDEN_IDS))
    assert {address: row["image_id"] for address, row in found.items()} == GOLDEN_IDS


def test_versions_never_change(spark: SparkSession) -> None:
    """Golden values: other ones would make every image be read again."""
    found = identified(
        spark,
        {"uri": "a", "size_bytes": 1234, "modified_at": AT, "etag": "e1"},
        {"uri": "b", "size_bytes": 0, "modified_at": None, "etag": None},
    )
    assert [found[uri, None]["object_version"] for uri in "ab"] == GOLDEN_VERSIONS


def test_members_of_a_container_are_neighbours_and_strangers_to_other_containers(spark: SparkSession) -> None:
    members = [{"uri": f"{LAKE}/{tar}.tar", "member": f"{i}.jpg"} for tar in "ab" for i in range(200)]
    found = identified(spark, *members)
    ids = {tar: {r["image_id"] for (uri, _), r in found.items() if uri.endswith(f"{tar}.tar")} for tar in "ab"}
    assert len(ids["a"]) == len(ids["b"]) == 200
    spans = [{image_id >> 40 for image_id in of_tar} for of_tar in ids.values()]
    assert [len(span) for span in spans] == [1, 1]
    assert spans[0] != spans[1]


@pytest.mark.parametrize("fact", [{"size_bytes": 11}, {"modified_at": AT + timedelta(microseconds=1)}, {"etag": "e2"},
                                  {"etag": None}, {"size_bytes": None}], ids=str)  # fmt: skip
def test_an_object_with_another_size_time_or_etag_is_the_same_image_in_another_version(
    spark: SparkSession, fact: dict[str, Any]
) -> None:
    first = {"uri": "x", "size_bytes": 10, "modified_at": AT, "etag": "e1"}
    (before,) = identified(spark, first).values()
    (after,) = identified(spark, first | fact).values()
    assert after["image_id"] == before["image_id"]
    assert after["object_version"] != before["object_version"]


def test_an_address_listed_twice_is_one_row_and_the_same_one_each_time(spark: SparkSession) -> None:
    twice = [{"uri": "x", "size_bytes": size, "etag": etag} for size, etag in ((10, "a"), (11, None), (10, "b"))]
    (first,) = identified(spark, *twice).values()
    (second,) = identified(spark, *reversed(twice)).values()
    assert first == second
    assert {k: first[k] for k in ("size_bytes", "etag")} in [{k: t[k] for k in ("size_bytes", "etag")} for t in twice]


def test_an_object_and_a_container_of_that_name_are_two_images(spark: SparkSession) -> None:
    found = identified(spark, {"uri": "x.tar"}, {"uri": "x.tar", "member": "1.jpg"}, {"uri": "x.tar", "member": ""})
    assert len({r["image_id"] for r in found.values()}) == 3


# --- what is new, changed, gone --------------------------------------------------------------------------


def test_new_and_changed_addresses_are_found_and_keep_the_id_that_they_once_got(spark: SparkSession) -> None:
    facts = {"size_bytes": 10, "modified_at": AT, "etag": None}
    same, changed, new = ({"uri": f"{LAKE}/{name}.jpg"} | facts for name in ("same", "changed", "new"))
    in_tar = {"uri": f"{LAKE}/a.tar", "member": "1.jpg"} | facts
    known = identified(spark, same, changed, in_tar)
    known[changed["uri"], None]["image_id"] = 77  # as after a collision
    stored = images(spark, known.values())
    now = listing(spark, same, changed | {"size_bytes": 11}, new, in_tar, in_tar | {"member": "2.jpg"})
    listed_now = inventory.with_identity(now, LAKE)
    own_id = {(r["uri"], r["member"]): r["image_id"] for r in listed_now.collect()}
    found = {(r["uri"], r["member"]): r["image_id"] for r in inventory.new_or_changed(listed_now, stored).collect()}
    assert found == {
        (changed["uri"], None): 77,
        (new["uri"], None): own_id[new["uri"], None],
        (in_tar["uri"], "2.jpg"): own_id[in_tar["uri"], "2.jpg"],
    }


def test_only_images_of_the_lake_that_is_listed_can_vanish(spark: SparkSession) -> None:
    known = [
        listed(1, lake=LAKE, uri="kept"),
        listed(2, lake=LAKE, uri="gone"),
        listed(3, lake=LAKE, uri="a.tar", member="kept"),
        listed(4, lake=LAKE, uri="a.tar", member="gone"),
        listed(5, lake="s3://another", uri="not looked at"),
    ]
    now = inventory.with_identity(listing(spark, {"uri": "kept"}, {"uri": "a.tar", "member": "kept"}), LAKE)
    assert {r["image_id"] for r in inventory.vanished(images(spark, known), now, LAKE).collect()} == {2, 4}


# --- ids that collide ------------------------------------------------------------------------------------


def resolved(tables: Tables, fresh: list[dict[str, Any]], known: list[dict[str, Any]]) -> dict[str, int]:
    spark = tables.spark
    done = inventory.resolve_collisions(images(spark, fresh), images(spark, known), tables).collect()
    assert len(done) == len(fresh)
    return {r["uri"] + (r["member"] or ""): r["image_id"] for r in done}


def test_addresses_with_one_hash_get_ids_of_their_own(spark: SparkSession, tmp_path: Path) -> None:
    """`a`, `b` and `c` share 5; 6 belongs to a known image, 7 to a known one that is listed anew, 8 to a fresh one."""
    known = [listed(6, uri="known"), listed(7, uri="changed"), listed(-9, uri="far")]
    fresh = [listed(5, uri=uri) for uri in "cab"] + [listed(7, uri="changed"), listed(8, uri="d"), listed(-9, uri="e")]
    ids = resolved(Tables(spark, str(tmp_path)), fresh, known)
    assert ids["a"] == 5
    assert ids["changed"] == 7
    assert ids["e"] == -8
    assert len({*ids.values(), 6, -9}) == len(fresh) + 2
    assert {ids["b"], ids["c"], ids["d"]} == {8, 9, 10}


def test_members_of_a_container_that_collide_are_told_apart(spark: SparkSession, tmp_path: Path) -> None:
    fresh = [listed(5, uri="t", member=member) for member in ("x", "y")] + [listed(5, uri="t")]
    assert sorted(resolved(Tables(spark, str(tmp_path)), fresh, []).values()) == [5, 6, 7]


def test_without_collisions_nothing_changes(spark: SparkSession, tmp_path: Path) -> None:
    fresh = [listed(i, uri=str(i)) for i in (1, 2, -3)]
    assert resolved(Tables(spark, str(tmp_path)), fresh, [listed(1, uri="1"), listed(4, uri="4")]) == {
        "1": 1, "2": 2, "-3": -3,
    }  # fmt: skip


# --- the step --------------------------------------------------------------------------------------------


def run_inventory(tables: Tables, lake: Path, *overrides: str) -> dict[str, int]:
    """Runs the step; returns its counts."""
    config = load_config(None, overrides)
    run = Run(tables, config, str(lake), "r1")
    inventory.run(tables.spark, config, run)
    assert not Path(tables.root, "_staging").exists()
    return run._mark.counts


def test_a_lake_that_seems_half_gone_is_not_believed_until_it_is_allowed(tables: Tables, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    root = f"file://{lake}"
    (lake / "new.jpg").write_bytes(b"new")
    fill(tables, [listed(i, lake=root, uri=f"{root}/{i}.jpg") for i in range(3)] + [listed(9, lake="s3://other")])
    before = rows(tables.root, "images")
    with pytest.raises(GuardError, match=r"3 of 3 known images.*inventory\.max_gone_share=1"):
        run_inventory(tables, lake)
    assert rows(tables.root, "images") == before
    assert run_inventory(tables, lake, "inventory.max_gone_share=1") == {"listed": 1, "new_or_changed": 1, "gone": 3}
    assert {r["uri"] for r in rows(tables.root, "images")} == {f"{root}/new.jpg", "file:///lake/9.jpg"}


def test_an_empty_lake_is_a_config_error_and_forgets_nothing(tables: Tables, tmp_path: Path) -> None:
    (tmp_path / "lake" / "folder").mkdir(parents=True)
    (tmp_path / "lake" / ".hidden").write_bytes(b"x")
    root = f"file://{tmp_path}/lake"
    fill(tables, [listed(1, lake=root)])
    with pytest.raises(ConfigError, match="empty, there is no file to look at"):
        run_inventory(tables, tmp_path / "lake")
    assert len(rows(tables.root, "images")) == 1
