"""The sets of reject reasons that decide what is read again: members of the closed list, each set within the next."""

from __future__ import annotations

import pytest

from dedup_spark.stages.extract import etags, versions
from dedup_spark.stages.reading import read_ahead
from dedup_spark.vocabulary import RejectReason

SETS = {
    "UNAVAILABLE": read_ahead.UNAVAILABLE,
    "NOT_GIVEN": read_ahead.NOT_GIVEN,
    "ASKED_AGAIN": read_ahead.ASKED_AGAIN,
    "RETRIABLE": read_ahead.RETRIABLE,
    "_DECODER_MAY_MEND": versions._DECODER_MAY_MEND,
    "_ABOUT_CONTENT": frozenset(etags._ABOUT_CONTENT[1:]),  # the first is the status of images that were read
}


@pytest.mark.parametrize("name", SETS)
def test_reasons_are_members_so_that_no_word_is_misspelled(name: str) -> None:
    assert {type(reason) for reason in SETS[name]} == {RejectReason}


def test_what_is_asked_for_again_is_a_part_of_what_time_may_mend() -> None:
    assert read_ahead.UNAVAILABLE < read_ahead.NOT_GIVEN < read_ahead.ASKED_AGAIN < read_ahead.RETRIABLE


def test_reasons_about_the_bytes_stand_before_missing_and_hold_for_every_copy_of_them() -> None:
    reasons = list(RejectReason)
    assert SETS["_ABOUT_CONTENT"] == set(reasons[: reasons.index(RejectReason.MISSING)])
    assert not SETS["_ABOUT_CONTENT"] & read_ahead.RETRIABLE
