"""Texts of the log of runs and of results without the images that are forgotten."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from dedup_spark.commands.forget import texts
from dedup_spark.commands.forget.asked import Asked

ID = -8819083287654401624
HEX = f"{ID & (2**64 - 1):016x}"
PATTERN = Asked.of(["s3://bucket/a b/ü.jpg"], ["/lake/users/42/"]).pattern()
NAMED = texts.naming(PATTERN, {ID, 1234567890123456789})


@pytest.mark.parametrize(
    "text",
    [
        "in perfect order: 3 images",
        "s3://bucket/a b/u.jpg",
        "/lake/users/421/x",
        f"id {ID - 1}",
        f"x{HEX}0",
        "",
        "[1, 2]",
    ],
)
def test_a_text_that_names_no_such_image_stays_as_it_is(text: str) -> None:
    assert texts.without(text, NAMED) == text


@pytest.mark.parametrize(
    "text",
    [
        "cannot read s3://bucket/a b/ü.jpg: gone", "file:///lake/users/42/x.jpg", f"the id {ID} is there twice",
        f"({HEX})", f"0x{HEX.upper()}", "1234567890123456789,", json.dumps("s3://bucket/a b/ü.jpg"), str(ID),
    ],
)  # fmt: skip
def test_a_text_that_names_one_is_replaced_as_a_whole(text: str) -> None:
    assert texts.without(text, NAMED) == texts.FORGOTTEN


def test_of_json_the_values_that_name_one_are_replaced_and_the_rest_stays() -> None:
    held: dict[str, Any] = {
        "n": 3, "ok": True, "share": 0.5, "none": None, "ids": [ID, 7], "example": "s3://bucket/a b/ü.jpg",
        "deep": [{"/lake/users/42/": "x", "inner": json.dumps({"at": "/lake/users/42/y", "n": 1})}],
    }  # fmt: skip
    cleaned = json.loads(texts.without(json.dumps(held), NAMED))
    inner = json.dumps({"at": texts.FORGOTTEN, "n": 1})
    assert cleaned == held | {
        "ids": [None, 7], "example": texts.FORGOTTEN, "deep": [{texts.FORGOTTEN: "x", "inner": inner}],
    }  # fmt: skip


def test_ids_are_found_as_numbers_and_as_hex_digits_and_counts_are_none() -> None:
    assert texts.ids_in(f"{ID} {HEX} 12 123456 0x{HEX} {'ab' * 32}") == {ID}
    assert texts.ids_in("7fffffffffffffff -9223372036854775808") == {2**63 - 1, -(2**63)}


def test_batches_change_in_the_columns_of_texts_alone() -> None:
    lake = "/lake/users/42/"
    batch = pa.RecordBatch.from_pydict(
        {
            "message": ["/lake/users/42/a", None, "b", "c"], "lake": [lake, lake, "/lake", None],
            "run_id": ["/lake/users/42/a", "r", "s", "t"], "n": [1, 2, 3, 4],
        }
    )  # fmt: skip
    columns = ("message", "lake")
    [done] = texts.redact_batches([batch], columns, PATTERN, ())
    assert done.to_pydict() == batch.slice(0, 2).to_pydict() | {
        "message": [texts.FORGOTTEN, None], "lake": [texts.FORGOTTEN] * 2,
    }  # fmt: skip
    assert done.schema == batch.schema
    [done] = texts.redact_batches([batch], columns, PATTERN, (), kept=(lake,))
    assert done.to_pydict() == batch.slice(0, 1).to_pydict() | {"message": [texts.FORGOTTEN]}


@pytest.mark.parametrize(
    ("prefix", "text", "is_named"),
    [
        ("/photos/", "file:///mnt/photos/2024", False), ("/data/", "s3://bucket/data/x", False),
        ("/data/", "s3://bucket//data/x", False), ("/data/", "abfss://c@acc.dfs.core.windows.net/data/x", False),
        ("/photos/", "file:///photos/2024", True), ("/photos/", "file:/photos/a", True),
        ("/photos/", "'/photos/a'", True),
        ("/photos/", "file://localhost/photos/a", True), ("/photos/", "lake=/photos/a", True),
        ("/photos/", json.dumps("in order\n/photos/a"), True), ("/photos/", "in order\n/photos/a", True),
        ("s3://b/u/", "xs3://b/u/a", False), ("s3://b/u/", "(s3a://b/u/a)", True),
        ("s3://b/u/", json.dumps("lost:\ns3://b/u/a"), True),
    ],
)  # fmt: skip
def test_what_only_ends_as_a_prefix_is_another_place(prefix: str, text: str, is_named: bool) -> None:
    assert texts.naming(Asked.of([], [prefix]).pattern(), ())(text) == is_named


def test_a_member_is_found_as_notes_write_it() -> None:
    is_named = texts.naming(Asked.of(["s3://b/x.tar#d/1.jpg"], []).pattern(), ())
    assert is_named("s3://b/x.tar d/1.jpg")
    assert is_named("s3://b/x.tar#d/1.jpg")
    assert not is_named("s3://b/x.tar d/1.jpg.json")
    assert not is_named("s3://b/x.tar: damaged")


@pytest.mark.parametrize(
    "written",
    ["s3://b/a b.jpg", "s3a://b/a b.jpg", "s3n://b/a b.jpg", "s3://b/a%20b.jpg"],
)
def test_an_address_is_found_in_the_spellings_of_other_tools(written: str) -> None:
    assert texts.naming(Asked.of(["s3://b/a b.jpg"], []).pattern(), ())(f"no such object: {written}")


@pytest.mark.parametrize("written", ["file:///lake/a.jpg", "file:/lake/a.jpg", "'/lake/a.jpg'"])
def test_a_local_file_is_found_with_its_scheme_and_without(written: str) -> None:
    assert texts.naming(Asked.of(["/lake/a.jpg"], []).pattern(), ())(f"[Errno 2] {written}")


@pytest.mark.parametrize(
    ("text", "is_named"),
    [("read /lake/a.", True), ("'/lake/a'", True), ("/lake/a#x", True), ("/lake/a", True), ("/lake/a.jpg", False),
     ("/lake/ab", False), ("/lake/a/b", False), ("file:///lake/a-lake", False)],
)  # fmt: skip
def test_a_name_that_only_begins_as_an_address_is_another_one(text: str, is_named: bool) -> None:
    assert texts.naming(Asked.of(["/lake/a"], []).pattern(), ())(text) == is_named
