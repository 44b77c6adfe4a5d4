"""What a listing passed over, in numbers and in words: at the end of the step, in `runs`, for the report."""

from __future__ import annotations

import logging

import pytest

from dedup_spark.sources.passed_over import CLOSED_FOLDER, FORGOTTEN, HIDDEN_FILE, LONG_PATH
from dedup_spark.stages.inventory.counts import Counts, PassedOverKind

DEEP = "file:///lake/" + "d" * 4_090
KINDS = [
    PassedOverKind(LONG_PATH, 1, DEEP),
    PassedOverKind(CLOSED_FOLDER, 1_200, "file:///lake/lost+found"),
    PassedOverKind(HIDDEN_FILE, 3, "file:///lake/.a"),
]


def test_counts_have_a_name_per_reason_and_notes_the_reason_in_words() -> None:
    counts = Counts(10, 0, KINDS)
    assert counts.of_step() == {
        "listed": 10,
        "passed_over_folder_that_may_not_be_listed": 1_200,
        "passed_over_folder_whose_path_is_longer_than_the_system_takes": 1,
        "passed_over_hidden_file": 3,
    }
    assert counts.notes()[HIDDEN_FILE] == {"n": 3, "example": "file:///lake/.a"}
    assert counts.n_unlisted == 1_201
    assert Counts(10, 2, []).of_step() == {"listed": 10, "repeated": 2}


def test_only_what_could_not_be_listed_is_a_warning_and_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "dedup_spark"):
        Counts(10, 0, KINDS).say()
    long, closed, hidden, advice = caplog.records
    assert len(long.getMessage()) < 320
    assert closed.getMessage() == (
        "inventory: 1,200 entries passed over: folder that may not be listed, for example file:///lake/lost+found"
    )
    assert "make it readable, or replace what is damaged, and run again" in advice.getMessage()
    assert [record.levelno for record in (long, closed, hidden, advice)] == [
        logging.WARNING, logging.WARNING, logging.INFO, logging.WARNING,
    ]  # fmt: skip


def test_a_listing_without_any_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "dedup_spark"):
        Counts(10, 0, [PassedOverKind(HIDDEN_FILE, 1, "file:///lake/.a")]).say()
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_of_what_was_forgotten_there_is_a_number_and_no_example(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts(0, 0, [PassedOverKind(FORGOTTEN, 3, "")])
    with caplog.at_level("INFO", "dedup_spark"):
        counts.say()
    assert [record.getMessage() for record in caplog.records] == [
        "inventory: 3 entries passed over: image that was forgotten"
    ]
    assert counts.of_step() == {"listed": 0, "passed_over_image_that_was_forgotten": 3}
