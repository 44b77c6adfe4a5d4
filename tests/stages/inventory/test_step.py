"""Inventory: identity that never changes, ids that are never shared, and what is new, changed and gone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fabricated import fill, frame, images, listed, readable, rejected
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from table_contents import rows

from dedup_spark.config import load_config
from dedup_spark.errors import ConfigError, GuardError, SourceError
from dedup_spark.sources.base import LISTING
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.passed_over import CLOSED_FOLDER
from dedup_spark.sources.registry import open_source
from dedup_spark.stages.inventory import step as inventory
from dedup_spark.stages.report.summary import collect_summary
from dedup_spark.stages.report.values import PassedOverTotal
from dedup_spark.store import forgotten
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import CLUSTERS, FEATURES, IMAGES, TOMBSTONES
from dedup_spark.store.tables import Tables
from dedup_spark.store.view_definitions import ViewSettings

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
    return frame(spark, LISTING, found)


def identified(spark: SparkSession, *found: dict[str, Any]) -> dict[tuple[str, str | None], dict[str, Any]]:
    """Rows of `images` by address."""
    made = inventory.images_of(inventory.identified(listing(spark, *found), LAKE))
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


def test_an_object_with_another_size_time_or_etag_is_the_same_image_in_another_version(spark: SparkSession) -> None:
    first = {"size_bytes": 10, "modified_at": AT, "etag": "e1"}
    changes = [{"size_bytes": 11}, {"modified_at": AT + timedelta(microseconds=1)}, {"etag": "e2"}, {"etag": None},
               {"size_bytes": None}]  # fmt: skip
    before = identified(spark, *({"uri": str(change)} | first for change in changes))
    after = identified(spark, *({"uri": str(change)} | first | change for change in changes))
    assert len(before) == len(changes)
    for address, row in before.items():
        assert after[address]["image_id"] == row["image_id"]
        assert after[address]["object_version"] != row["object_version"], address


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
    listed_now = inventory.images_of(inventory.identified(now, LAKE))
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
    now = inventory.images_of(
        inventory.identified(listing(spark, {"uri": "kept"}, {"uri": "a.tar", "member": "kept"}), LAKE)
    )
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


def run_inventory(tables: Tables, lake: Path | str, *overrides: str) -> dict[str, int]:
    """Runs the step; returns its counts."""
    config = load_config(None, overrides)
    run = Run(tables, config, str(lake), "r1")
    inventory.run(tables.spark, config, run)
    assert not Path(tables.root, "_staging").exists()
    return run._mark.counts


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    return folder


def put(lake: Path, *names: str) -> None:
    for name in names:
        (lake / name).parent.mkdir(parents=True, exist_ok=True)
        (lake / name).write_bytes(name.encode())


def known_images(tables: Tables, lake: Path, n: int) -> None:
    root = f"file://{lake}"
    fill(tables, [listed(i, lake=root, uri=f"{root}/{i}.jpg") for i in range(n)] + [listed(99, lake="s3://other")])


def fill_features(tables: Tables) -> None:
    """A row of features for every image, as extract would make it."""
    made = [readable(r["image_id"], object_version=r["object_version"]) for r in rows(tables.root, "images")]
    fill(tables, feature_rows=made)


def by_name(tables: Tables, table: str) -> dict[str, dict[str, Any]]:
    return {Path(row["uri"]).name: row for row in rows(tables.root, table)}


def test_a_lake_that_seems_half_gone_is_not_believed_until_it_is_allowed(tables: Tables, lake: Path) -> None:
    put(lake, "new.jpg")
    known_images(tables, lake, 20)
    before = rows(tables.root, "images")
    with pytest.raises(GuardError, match=r"20 of 20 known images.*inventory\.max_gone_share=1"):
        run_inventory(tables, lake)
    assert rows(tables.root, "images") == before
    assert run_inventory(tables, lake, "inventory.max_gone_share=1") == {"listed": 1, "new_or_changed": 1, "gone": 20}
    assert {r["uri"] for r in rows(tables.root, "images")} == {f"file://{lake}/new.jpg", "file:///lake/99.jpg"}


def test_a_handful_may_go_and_so_may_what_was_proposed_for_removal(tables: Tables) -> None:
    members = [{"image_id": i, "is_removable": i < 10} for i in range(20)]
    tables.append(CLUSTERS, frame(tables.spark, CLUSTERS.schema, members))

    def look_at(n_known: int, n_gone: int) -> None:
        gone = frame(tables.spark, "image_id bigint", [{"image_id": i} for i in range(n_gone)])
        inventory._guard_against_an_incomplete_listing(tables, n_known, gone, n_gone, max_gone_share=0.25)

    look_at(20, 15)  # 5 of 20, beside those 10
    with pytest.raises(GuardError, match="6 of 20 known images are no longer listed"):
        look_at(20, 16)
    look_at(19, 19)  # all of them, but what is that


def test_files_that_proved_to_be_no_images_may_go(tables: Tables) -> None:
    """An older version listed captions and tar files as images."""
    fill(tables, feature_rows=[rejected(i, "not_an_image" if i < 10 else "corrupt") for i in range(20)])
    gone = frame(tables.spark, "image_id bigint", [{"image_id": i} for i in range(16)])
    inventory._guard_against_an_incomplete_listing(tables, 20, gone, 16, max_gone_share=0.3)
    with pytest.raises(GuardError, match="6 of 20 known images are no longer listed"):
        inventory._guard_against_an_incomplete_listing(tables, 20, gone, 16, max_gone_share=0.25)


def remember(tables: Tables, uris: Iterable[str]) -> None:
    addresses = frame(tables.spark, "uri string, member string", [{"uri": uri} for uri in uris])
    forgotten.remember(tables, addresses, "r1", AT)


def test_what_was_forgotten_may_go_too(tables: Tables) -> None:
    """A forget that was stopped has images in the tables that no listing has any more."""
    fill(tables, [listed(i) for i in range(20)])
    remember(tables, (f"file:///lake/{i}.jpg" for i in range(10)))
    gone = frame(tables.spark, "image_id bigint", [{"image_id": i} for i in range(16)])
    inventory._guard_against_an_incomplete_listing(tables, 20, gone, 16, max_gone_share=0.3)
    with pytest.raises(GuardError, match="6 of 20 known images are no longer listed"):
        inventory._guard_against_an_incomplete_listing(tables, 20, gone, 16, max_gone_share=0.25)


def test_a_lake_in_which_all_is_forgotten_is_listed_and_its_images_are_a_number(tables: Tables, lake: Path) -> None:
    put(lake, "a.jpg", "deep/b.jpg", ".hidden")
    remember(tables, (f"file://{lake}/a.jpg", f"file://{lake}/deep/b.jpg"))
    assert run_inventory(tables, lake) == {
        "listed": 0, "passed_over_hidden_file": 1, "passed_over_image_that_was_forgotten": 2, "new_or_changed": 0,
        "gone": 0,
    }  # fmt: skip
    assert rows(tables.root, "images") == []
    put(lake, "new.jpg")
    assert run_inventory(tables, lake)["listed"] == 1


def test_an_empty_lake_is_a_config_error_that_says_what_was_passed_over_and_forgets_nothing(
    tables: Tables, lake: Path
) -> None:
    put(lake, ".hidden", ".hidden too", "folder/.hidden")
    (lake / "link.jpg").symlink_to("/etc/hostname")
    root = f"file://{lake}"
    fill(tables, [listed(1, lake=root)])
    said = "no file that may be an image; passed over: hidden file 3, link to a file 1"
    with pytest.raises(ConfigError, match=said):
        run_inventory(tables, lake)
    assert len(rows(tables.root, "images")) == 1


def test_what_is_passed_over_is_counted_and_said(tables: Tables, lake: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(lake, "a.jpg", *(f"{n}/.DS_Store" for n in range(5)), ".git/a", ".gitignore")
    (lake / "link.jpg").symlink_to("a.jpg")
    with caplog.at_level("INFO", "dedup_spark"):
        counts = run_inventory(tables, lake)
    assert counts == {
        "listed": 1, "new_or_changed": 1, "gone": 0, "passed_over_hidden_file": 6, "passed_over_hidden_folder": 1,
        "passed_over_link_to_a_file": 1,
    }  # fmt: skip
    assert f"inventory: 1 entry passed over: link to a file, for example file://{lake}/link.jpg" in caplog.messages
    assert f"inventory: 6 entries passed over: hidden file, for example file://{lake}/.gitignore" in caplog.messages


def test_a_manifest_that_names_one_file_in_nine_ways_gives_one_image(tables: Tables, lake: Path) -> None:
    put(lake, "img/a.jpg", "img/b.jpg")
    (lake / "img/c.jpg").hardlink_to(lake / "img/b.jpg")
    (lake / "link").symlink_to("img")
    spelled = ["img/a.jpg", "./img/a.jpg", "img/../img/a.jpg", "img//a.jpg", f"{lake}/img/a.jpg", "link/a.jpg",
               f"file://{lake}/img/a.jpg", f"file:{lake}/img/a.jpg", f"file://localhost{lake}/img/a.jpg"]  # fmt: skip
    (lake / "list.csv").write_text("\n".join(["uri", *spelled, "img/b.jpg", "img/c.jpg"]))
    counts = run_inventory(tables, lake / "list.csv")
    assert counts == {"listed": 3, "repeated": 8, "new_or_changed": 3, "gone": 0}
    found = by_name(tables, "images")
    assert found["b.jpg"]["file_id"] == found["c.jpg"]["file_id"] != found["a.jpg"]["file_id"]
    assert [found[f"{n}.jpg"]["n_links"] for n in "abc"] == [1, 2, 2]


def test_a_lake_under_another_spelling_is_the_same_lake(tables: Tables, lake: Path) -> None:
    put(lake, "a.jpg", "b.jpg")
    (lake.parent / "link").symlink_to(lake)
    run_inventory(tables, lake)
    before = rows(tables.root, "images")
    spellings = (f"{lake}/../lake/", f"file:{lake}", f"file://localhost{lake}", str(lake.parent / "link"))
    settings = load_config().inventory
    assert {open_source(spelled, settings).root for spelled in spellings} == {before[0]["lake"]}
    assert run_inventory(tables, spellings[-1]) == {"listed": 2, "new_or_changed": 0, "gone": 0}
    assert rows(tables.root, "images") == before


def test_a_new_name_of_a_file_renews_its_other_names_without_reading_them(tables: Tables, lake: Path) -> None:
    put(lake, "a.jpg")
    run_inventory(tables, lake)
    before = by_name(tables, "images")["a.jpg"]
    (lake / "b.jpg").hardlink_to(lake / "a.jpg")
    assert run_inventory(tables, lake)["new_or_changed"] == 2
    after = by_name(tables, "images")["a.jpg"]
    assert (before["n_links"], after["n_links"]) == (1, 2)
    assert before["object_version"] == after["object_version"]


def test_a_listing_that_ends_early_changes_nothing(tables: Tables, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(lake, "a.jpg")
    run_inventory(tables, lake)
    before = rows(tables.root, "images")
    put(lake, "b.jpg")

    def cut_off(_: FolderSource, spark: SparkSession) -> DataFrame:
        def two(batches: Any) -> Any:
            yield from batches
            raise SourceError("half of it")

        return listing(spark, {"uri": "file:///x"}).mapInArrow(two, LISTING.ddl)

    monkeypatch.setattr(FolderSource, "list_images", cut_off)
    with pytest.raises(SourceError, match=r"^half of it$"):
        run_inventory(tables, lake)

    def cut_off_by_spark(_: FolderSource, spark: SparkSession) -> DataFrame:
        return listing(spark, {"uri": "a"}).withColumn("uri", F.raise_error(F.lit("disk on fire")).cast("string"))

    monkeypatch.setattr(FolderSource, "list_images", cut_off_by_spark)
    with pytest.raises(SourceError, match=r"its listing ended early: .*disk on fire.*nothing was changed"):
        run_inventory(tables, lake)
    assert rows(tables.root, "images") == before


# --- what could not be listed ----------------------------------------------------------------------------


def listing_says(monkeypatch: pytest.MonkeyPatch, lake: Path, names: Iterable[str], *unlisted: str) -> None:
    """The next listing of the lake has these files (`a.tar#1.jpg`: a member), and could not look into these places."""
    root = f"file://{lake}"
    split = [name.partition("#") for name in names]
    found: list[dict[str, Any]] = [
        {"uri": f"{root}/{name}", "member": member or None, "size_bytes": 10} for name, _, member in split
    ]
    found += [{"uri": f"{root}/{name}", "passed_over": CLOSED_FOLDER, "n_passed_over": 1} for name in unlisted]
    monkeypatch.setattr(FolderSource, "list_images", lambda _, spark: listing(spark, *found))


def test_what_lies_below_a_place_that_could_not_be_listed_is_not_taken_for_gone(
    tables: Tables, lake: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    in_closed = [f"closed/{n}.jpg" for n in range(25)] + [
        "closed/deep/er/a.jpg",
        "closed.tar#1.jpg",
        "closed.tar#2.jpg",
    ]
    others = ["a.jpg", "closed and more/a.jpg", "gone.jpg", "closed.jpg"]
    listing_says(monkeypatch, lake, [*others, *in_closed])
    run_inventory(tables, lake)
    before = {r["image_id"]: r for r in rows(tables.root, "images")}
    assert len(before) == len(others) + len(in_closed)
    assert all(row["unlisted_since"] is None for row in before.values())

    there = [name for name in others if name != "gone.jpg"]
    listing_says(monkeypatch, lake, there, "closed", "closed.tar", "new and closed")
    with caplog.at_level("WARNING", "dedup_spark"):
        counts = run_inventory(tables, lake)
    assert counts == {
        "listed": 3, "new_or_changed": 0, "gone": 1, "unlisted": len(in_closed),
        "passed_over_folder_that_may_not_be_listed": 3,
    }  # fmt: skip
    entries, advice = caplog.messages
    assert entries.endswith(f"passed over: {CLOSED_FOLDER}, for example file://{lake}/closed")
    assert "images known there stay" in advice
    now = {r["image_id"]: r for r in rows(tables.root, "images")}
    marked = {image_id: row["unlisted_since"] for image_id, row in now.items() if row["unlisted_since"]}
    assert len(marked) == len(in_closed)
    assert [row | {"unlisted_since": None} for row in now.values()] == [before[image_id] for image_id in now]
    assert [Path(row["uri"]).name for row in rows(tables.root, "tombstones")] == ["gone.jpg"]

    assert run_inventory(tables, lake)["unlisted"] == len(in_closed)
    assert {r["image_id"]: r["unlisted_since"] for r in rows(tables.root, "images") if r["unlisted_since"]} == marked

    listing_says(monkeypatch, lake, [*there, *in_closed[1:]])
    counts = run_inventory(tables, lake)
    assert (counts["gone"], counts["new_or_changed"], counts.get("unlisted")) == (1, len(in_closed) - 1, None)
    assert all(row["unlisted_since"] is None for row in rows(tables.root, "images"))
    assert "0.jpg" in by_name(tables, "tombstones")


def test_what_was_passed_over_is_noted_for_the_report(
    tables: Tables, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing_says(monkeypatch, lake, ["a.jpg"], "b", "a")
    config = load_config()
    run = Run(tables, config, str(lake), "r1")
    with run.step("inventory"):
        inventory.run(tables.spark, config, run)
    totals = collect_summary(tables, ViewSettings()).passed_over
    assert totals == (PassedOverTotal(CLOSED_FOLDER, 2, f"file://{lake}/a"),)


def test_a_time_that_readers_of_the_tables_would_misread_is_unknown(spark: SparkSession) -> None:
    odd = [datetime(1601, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), datetime(1900, 1, 1, tzinfo=UTC), AT]
    found = identified(spark, *({"uri": str(at), "modified_at": at} for at in odd))
    known = {at: found[str(at), None]["modified_at"] for at in odd}
    assert [at for at, time in known.items() if time is None] == odd[:2]


# --- images that are gone, and come back -----------------------------------------------------------------


Known = dict[str, dict[str, list[dict[str, Any]]]]
"""Rows of images, features and tombstones: by table, then by the name of the file."""


@dataclass(frozen=True)
class GoneAndBack:
    """The tables of a lake of which all but `stays.jpg` was gone for one listing, and what the two listings counted."""

    before: Known
    gone: Known
    after: Known
    counts_gone: dict[str, int]
    counts_after: dict[str, int]


BACK = ("fine.jpg", "not deleted yet.jpg", "changed.jpg", "never read.jpg", "missing.jpg", "other model.jpg")


def known_by_name(tables: Tables) -> Known:
    found = {table: rows(tables.root, table) for table in ("images", "features", "tombstones")}
    names = {r["image_id"]: Path(r["uri"]).name for table in ("images", "tombstones") for r in found[table]}
    known: Known = {table: {} for table in found}
    for table, of_table in found.items():
        for row in of_table:
            known[table].setdefault(names[row["image_id"]], []).append(row)
    return known


@pytest.fixture(scope="module")
def gone_and_back(spark: SparkSession, empty_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> GoneAndBack:
    root = tmp_path_factory.mktemp("gone and back")
    tables, lake = Tables(spark, str(shutil.copytree(empty_tables, root / "tables"))), root / "lake"
    put(lake, "stays.jpg", *BACK)
    run_inventory(tables, lake)
    images = by_name(tables, "images")
    objects = {name: {c: images[name][c] for c in ("image_id", "object_version")} for name in images}
    made = [readable(0, model_id="new") | objects[name] for name in ("stays.jpg", *BACK[:3])]
    retried = rejected(0, "missing", retriable=True) | objects["missing.jpg"]
    fill(tables, feature_rows=[*made, retried, readable(0, model_id="old") | objects["other model.jpg"]])
    before = known_by_name(tables)

    for name in BACK:
        (lake / name).rename(root / name)
    counts_gone = run_inventory(tables, lake)
    gone = known_by_name(tables)

    deleted = [objects[name] for name in BACK if name != "not deleted yet.jpg"]
    tables.delete(FEATURES, frame(spark, "image_id bigint", deleted))  # as extract does
    for name in BACK:
        (root / name).rename(lake / name)
    (lake / "changed.jpg").write_bytes(b"another picture")
    counts_after = run_inventory(tables, f"{lake}/")
    return GoneAndBack(before, gone, known_by_name(tables), counts_gone, counts_after)


def test_what_is_gone_is_kept_with_all_that_was_read_of_it(gone_and_back: GoneAndBack) -> None:
    before, gone = gone_and_back.before, gone_and_back.gone
    assert gone_and_back.counts_gone == {"listed": 1, "new_or_changed": 0, "gone": len(BACK)}
    assert gone["images"] == {"stays.jpg": before["images"]["stays.jpg"]}
    assert gone["tombstones"].keys() == {*BACK}
    for name, [tombstone] in gone["tombstones"].items():
        [image], read = before["images"][name], before["features"].get(name, [])
        known = dict.fromkeys(FEATURES.column_names) | (read[0] if read else {}) | image
        assert tombstone == known | {"gone_at": tombstone["gone_at"]}, name
        assert datetime.now(UTC) - tombstone["gone_at"] < timedelta(minutes=5)


def test_what_comes_back_as_it_was_has_its_rows_again_unread(gone_and_back: GoneAndBack) -> None:
    before, after = gone_and_back.before, gone_and_back.after
    assert gone_and_back.counts_after == {"listed": 7, "new_or_changed": 6, "gone": 0, "brought_back": 1}
    same = before["images"].keys() - {"changed.jpg"}
    assert {name: after["images"][name] for name in same} == {name: before["images"][name] for name in same}
    assert after["features"]["fine.jpg"] == before["features"]["fine.jpg"]
    assert after["features"]["stays.jpg"] == before["features"]["stays.jpg"]
    assert after["tombstones"] == {}


def test_one_that_comes_back_changed_or_unread_gets_its_id_and_is_read(gone_and_back: GoneAndBack) -> None:
    before, after = gone_and_back.before, gone_and_back.after
    for name in ("changed.jpg", "never read.jpg"):
        assert after["images"][name][0]["image_id"] == before["images"][name][0]["image_id"]
        assert name not in after["features"]
    [was], [now] = before["images"]["changed.jpg"], after["images"]["changed.jpg"]
    assert now["object_version"] != was["object_version"]


@pytest.mark.parametrize("name", ["missing.jpg", "other model.jpg"])
def test_what_comes_back_is_read_where_its_features_are_of_no_use(gone_and_back: GoneAndBack, name: str) -> None:
    """It was missing, or its vector is of a model that features has no more."""
    assert name in gone_and_back.before["features"]
    assert name not in gone_and_back.after["features"]


def test_features_that_extract_has_not_deleted_yet_are_not_doubled(gone_and_back: GoneAndBack) -> None:
    name = "not deleted yet.jpg"
    assert gone_and_back.after["features"][name] == gone_and_back.before["features"][name]
    assert len(gone_and_back.after["features"][name]) == 1


def listed_at(tables: Tables) -> datetime:
    """Of what time the only complete listing speaks, by the log of runs."""
    [notes] = [r["notes"] for r in rows(tables.root, "runs") if r["status"] == "complete"]
    return datetime.fromisoformat(json.loads(notes)["listed_at"])


@pytest.mark.slow
def test_images_of_a_lake_that_nobody_lists_any_more_belong_to_the_one_that_lists_them(
    tables: Tables, lake: Path
) -> None:
    put(lake, "inner/a.jpg", "inner/b.jpg", "c.jpg")
    inner = Run(tables, load_config(), f"file://{lake}/inner", "r0")
    with inner.step("inventory"):
        inventory.run(tables.spark, inner.config, inner)
    assert datetime.now(UTC) - listed_at(tables) < timedelta(minutes=5)
    (lake / "inner/b.jpg").unlink()
    assert run_inventory(tables, lake)["gone"] == 0  # the inner lake was listed a moment ago: it is its own
    found = by_name(tables, "images")
    assert {name: row["lake"] for name, row in found.items()} == {
        "a.jpg": f"file://{lake}/inner", "b.jpg": f"file://{lake}/inner", "c.jpg": f"file://{lake}",
    }  # fmt: skip
    counts = run_inventory(tables, lake, "cluster.max_listing_age_hours=0")
    assert (counts["gone"], counts["new_or_changed"]) == (1, 1)
    after = by_name(tables, "images")
    assert {name: row["lake"] for name, row in after.items()} == {"a.jpg": f"file://{lake}", "c.jpg": f"file://{lake}"}
    assert after["a.jpg"]["image_id"] == found["a.jpg"]["image_id"]


def test_the_log_of_runs_says_of_what_time_a_manifest_speaks(tables: Tables, lake: Path) -> None:
    put(lake, "a.jpg")
    manifest = lake / "list.csv"
    manifest.write_text("uri\na.jpg\n")
    os.utime(manifest, (1_700_000_000, 1_700_000_000))
    run = Run(tables, load_config(), str(manifest), "r0")
    with run.step("inventory"):
        inventory.run(tables.spark, run.config, run)
    assert listed_at(tables) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["upsert", "delete", "append"])
def test_a_step_killed_between_two_writes_is_finished_by_the_next(
    tables: Tables, lake: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    put(lake, "a.jpg", "b.jpg", "c.jpg")
    run_inventory(tables, lake)
    fill_features(tables)
    before, features_before = by_name(tables, "images"), rows(tables.root, "features")

    def killed_once() -> None:
        """Runs the step until its first write of this kind, which is done and not survived; then once more."""
        write = getattr(Tables, method)

        def and_die(*args: Any, **kwargs: Any) -> None:
            write(*args, **kwargs)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(Tables, method, and_die)
            run_inventory(tables, lake)
        run_inventory(tables, lake)

    (lake / "b.jpg").rename(lake.parent / "b.jpg")
    killed_once()
    assert by_name(tables, "images").keys() == {"a.jpg", "c.jpg"}
    assert by_name(tables, "tombstones").keys() == {"b.jpg"}
    gone = by_name(tables, "tombstones")["b.jpg"]["image_id"]
    tables.delete(FEATURES, frame(tables.spark, "image_id bigint", [{"image_id": gone}]))
    (lake.parent / "b.jpg").rename(lake / "b.jpg")
    killed_once()
    assert by_name(tables, "images") == before
    assert {r["image_id"]: r for r in rows(tables.root, "features")} == {r["image_id"]: r for r in features_before}
    assert len(rows(tables.root, "features")) == len(features_before)
    assert rows(tables.root, "tombstones") == []


@pytest.mark.slow
def test_tombstones_are_deleted_after_days_of_grace_and_those_that_stay_keep_their_ids(
    tables: Tables, lake: Path
) -> None:
    """`a.jpg` would get the id of an image that is gone; `back.jpg` had another one than it would get."""
    put(lake, "a.jpg", "back.jpg")
    root = f"file://{lake}"
    now = datetime.now(UTC)
    (a,) = identified(tables.spark, {"uri": f"{root}/a.jpg"}).values()
    buried = [listed(a["image_id"], uri=f"{root}/x.jpg", gone_at=now), listed(77, uri=f"{root}/back.jpg", gone_at=now)]
    buried += [listed(i, uri=f"{root}/{i}", gone_at=now - timedelta(days=i)) for i in (1, 29, 31, 90)]
    tables.append(TOMBSTONES, frame(tables.spark, TOMBSTONES.schema, [stone | {"lake": root} for stone in buried]))
    assert run_inventory(tables, lake)["forgotten"] == 2
    found = by_name(tables, "images")
    assert found["a.jpg"]["image_id"] == a["image_id"] + 1
    assert found["back.jpg"]["image_id"] == 77
    assert by_name(tables, "tombstones").keys() == {"x.jpg", "1", "29"}
    assert run_inventory(tables, lake, "inventory.grace_days=0.5")["forgotten"] == 2
    assert by_name(tables, "tombstones").keys() == {"x.jpg"}


def test_tombstones_have_a_column_for_all_that_is_known_of_an_image() -> None:
    both = set(IMAGES.column_names) & set(FEATURES.column_names)
    assert both == {"image_id", "object_version"}
    assert set(TOMBSTONES.column_names) == {*IMAGES.column_names, *FEATURES.column_names, "gone_at"}
