"""Patience with a store: what is tried again, how long it waits, what it counts, and what is not tried again."""

from __future__ import annotations

import pytest

from dedup_spark.kernels.images import ImageRejected
from dedup_spark.sources import fetching
from dedup_spark.sources.base import Address
from dedup_spark.sources.fetching import fetch_patiently


class FlakySource:
    """Answers with these outcomes one after another; the last one for ever."""

    root = "flaky://"

    def __init__(self, *outcomes: bytes | Exception) -> None:
        self.outcomes, self.n_calls = list(outcomes), 0

    def fetch(self, address: Address) -> bytes:
        outcome = self.outcomes[min(self.n_calls, len(self.outcomes) - 1)]
        self.n_calls += 1
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The longest pause that each wait may take; nobody sleeps."""
    longest: list[float] = []
    monkeypatch.setattr(fetching.random, "uniform", lambda low, high: longest.append(high) or high)
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)
    return longest


def fetch(source: FlakySource, size_bytes: int | None = None, attempts: int = 5) -> tuple[bytes, int]:
    return fetch_patiently(source, Address("flaky://a", size_bytes=size_bytes), attempts, max_bytes=100)  # type: ignore[arg-type]


def test_a_good_answer_is_taken_at_once(pauses: list[float]) -> None:
    assert fetch(FlakySource(b"abc"), 3) == (b"abc", 0)
    assert pauses == []


def test_passing_faults_are_tried_again_and_counted(pauses: list[float]) -> None:
    source = FlakySource(TimeoutError(), OSError("503"), ConnectionResetError(), b"abc")
    assert fetch(source, 3) == (b"abc", 3)
    assert source.n_calls == 4


def test_pauses_double_up_to_a_limit(pauses: list[float]) -> None:
    fetch(FlakySource(*[OSError("503")] * 9, b"abc"), attempts=10)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0]


def test_a_fault_that_does_not_pass_becomes_a_row_that_says_so(pauses: list[float]) -> None:
    source = FlakySource(OSError("503 slow down"))
    with pytest.raises(ImageRejected, match=r"missing: 3 attempts failed, last: OSError: 503 slow down"):
        fetch(source, attempts=3)
    assert (source.n_calls, len(pauses)) == (3, 2)  # no pause after the last


@pytest.mark.parametrize("reason", ["missing", "forbidden"])
def test_what_is_gone_or_forbidden_is_not_tried_again(reason: str, pauses: list[float]) -> None:
    source = FlakySource(ImageRejected(reason, "no"), b"abc")
    with pytest.raises(ImageRejected, match=reason):
        fetch(source)
    assert (source.n_calls, pauses) == (1, [])


def test_a_fault_of_ours_is_not_taken_for_one_of_the_store(pauses: list[float]) -> None:
    with pytest.raises(ImportError):
        fetch(FlakySource(ImportError("no s3fs")))


@pytest.mark.parametrize("data", [b"", b"ab", b"abcd"])
def test_another_size_than_listed_is_a_change(data: bytes, pauses: list[float]) -> None:
    with pytest.raises(ImageRejected, match=f"changed_since_listing: {len(data)} bytes, listed with 3"):
        fetch(FlakySource(data), 3)


def test_too_large_by_the_listing_is_not_even_asked_for(pauses: list[float]) -> None:
    source = FlakySource(b"x" * 101)
    with pytest.raises(ImageRejected, match="too_large"):
        fetch(source, 101)
    assert source.n_calls == 0
    with pytest.raises(ImageRejected, match="too_large"):
        fetch(source)  # of unknown size
