"""Entries that are no images: counted by reason, but each place of unknown content is a row of its own."""

from __future__ import annotations

import pytest

from dedup_spark.sources.base import LISTING
from dedup_spark.sources.passed_over import CLOSED_FOLDER, HIDDEN_FILE, LINK_TO_FILE, LONG_PATH, UNLISTED, PassedOver


def test_entries_are_counted_by_reason_with_the_first_as_example() -> None:
    found = PassedOver()
    for name in ("b", "a"):
        found.add(HIDDEN_FILE, f"file:///lake/.{name}")
    found.add(LINK_TO_FILE, "file:///lake/a.tar", "link.jpg")
    found.add_all(HIDDEN_FILE, 5, "file:///lake/.c")
    assert found.rows() == [
        {"uri": "file:///lake/.b", "member": None, "passed_over": HIDDEN_FILE, "n_passed_over": 7},
        {"uri": "file:///lake/a.tar", "member": "link.jpg", "passed_over": LINK_TO_FILE, "n_passed_over": 1},
    ]
    assert len(found) == 2


@pytest.mark.parametrize("reason", UNLISTED)
def test_each_place_of_unknown_content_is_a_row(reason: str) -> None:
    found, handed_on = PassedOver(), PassedOver()
    for n in range(3):
        found.add(reason, f"file:///lake/{n}")
    for row in found.rows():
        handed_on.add_all(row["passed_over"], row["n_passed_over"], row["uri"])
    assert [row["uri"] for row in handed_on.rows()] == [f"file:///lake/{n}" for n in range(3)]
    assert len(handed_on) == 3


def test_the_rows_are_those_of_a_listing() -> None:
    found = PassedOver()
    found.add(HIDDEN_FILE, "file:///lake/.a")
    found.add(CLOSED_FOLDER, "file:///lake/lost+found")
    found.add(LONG_PATH, "file:///lake/deep")
    batch = found.to_arrow()
    assert batch.schema == LISTING.arrow
    assert batch.column("n_passed_over").to_pylist() == [1, 1, 1]
