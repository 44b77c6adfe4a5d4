"""What may be asked to be forgotten, in whatever spelling."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from dedup_spark.commands.forget.asked import ROW_OF_A_FILE, Asked
from dedup_spark.commands.forget.command import Forgettable, Forgotten
from dedup_spark.commands.forget.words import describe_forgotten, outcome_of
from dedup_spark.errors import ConfigError


def test_addresses_get_their_one_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = Asked.of(["s3a://b/k.jpg", "x.jpg", tmp_path / "y.jpg"], ["users/", "s3a://b/u/"])
    assert asked.uris == ("s3://b/k.jpg", f"file://{tmp_path}/x.jpg", f"file://{tmp_path}/y.jpg")
    assert asked.prefixes == (f"file://{tmp_path}/users/", "s3://b/u/")


def test_an_object_stands_for_all_images_in_it_or_for_one_wherever_the_sign_is() -> None:
    assert Asked.of(["s3://b/a#b#c"], ["s3://b/u#/"]).rows() == [
        ("s3://b/a#b#c", None, False, 0), ("s3://b/a", "b#c", False, 0), ("s3://b/a#b", "c", False, 0),
        ("s3://b/u#/", None, True, 1),
    ]  # fmt: skip


def test_what_matched_nothing_is_named_by_its_place_in_the_command() -> None:
    asked = Asked.of(["s3://b/a#b", "s3://b/c"], ["s3://b/u/", "s3://b/v/"])
    assert asked.names_of_others({row[3] for row in asked.rows()}) == []
    assert asked.names_of_others({0, 2}) == ["--uri number 2", "--prefix number 2"]


@pytest.mark.parametrize(
    ("member", "is_by_row"),
    [("data.parquet#5", True), ("sub/part-0.snappy.parquet#120", True), ("d#1.jpg", False), ("a.jpg", False),
     ("key 17", False), ("a.jpg#", False)],
)  # fmt: skip
def test_a_member_that_is_the_number_of_a_row_is_known_as_such(member: str, is_by_row: bool) -> None:
    assert bool(re.search(ROW_OF_A_FILE, member)) == is_by_row


@pytest.mark.parametrize("prefix", ["s3://", "/", "file:///"])
def test_a_prefix_that_would_be_everything_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="everything"):
        Asked.of([], [prefix])


def test_nothing_asked_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="--uri ADDRESS or --prefix ADDRESS"):
        Asked.of([], [])


@pytest.mark.parametrize(("prefix", "warns"), [("s3://b/users/42", True), ("s3://b/users/42/", False)])
def test_a_prefix_that_ends_in_a_name_is_told(prefix: str, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Asked.of([], [prefix])
    assert ("end it with /" in caplog.text) == warns


FOUND = Forgettable(images=12, listed=10, rows={"images": 10, "features": 11}, clusters=1)


def test_what_is_said_and_left_as_a_result_has_numbers_and_no_address() -> None:
    done = Forgotten("20260101-000000-abcd", FOUND, texts=1, log_files=1200, others=("mine",))
    said = describe_forgotten(done)
    assert said.startswith(
        "forget: erased 12 images (2 of them no longer listed) in 1 cluster; rows by table: images 10, features 11, "
        "1 text of the log and of results; 1,200 files"
    )
    assert "not of dedup-spark: mine." in said
    outcome = outcome_of(done, "/tables", None)
    assert (outcome["images"], outcome["rows"], outcome["status"]) == (12, FOUND.rows, "complete")


def test_a_dry_run_says_that_nothing_was_changed() -> None:
    said = describe_forgotten(Forgotten(None, FOUND, 0, 0, ()))
    assert said.startswith("forget: this would erase 12 images")
    assert said.endswith("Nothing was changed")
