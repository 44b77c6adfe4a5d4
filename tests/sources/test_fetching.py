"""Patience with a store: what is tried again, for how long, what it counts, and what is not tried again."""

from __future__ import annotations

import errno
import functools
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pytest
from clocks import set_clock

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses, credentials, fetching, pacing, patience
from dedup_spark.sources.base import Address
from dedup_spark.sources.faults import CredentialsExpired, DiskFault, Throttled
from dedup_spark.sources.fetching import fetch_patiently
from dedup_spark.sources.pacing import pace_of


class FlakySource:
    """Answers with these outcomes one after another; the last one for ever. An attempt takes `seconds`."""

    root = "flaky://"

    def __init__(self, *outcomes: bytes | Exception, seconds: float = 0.0) -> None:
        self.outcomes, self.n_calls, self.seconds = list(outcomes), 0, seconds

    def fetch(self, address: Address, max_bytes: int = 2**31 - 1) -> bytes:
        outcome = self.outcomes[min(self.n_calls, len(self.outcomes) - 1)]
        self.n_calls += 1
        fetching.time.sleep(self.seconds)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@dataclass
class FakeTime:
    """Of the module under test: sleeping moves the clock."""

    now: float = 5000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept += [seconds] if seconds else []
        self.now += seconds


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """A clock of the test's own, the longest pauses that may be drawn, and a worker that has seen nothing yet."""
    fake = FakeTime()
    set_clock(monkeypatch, fetching, monotonic=fake.monotonic, sleep=fake.sleep)
    set_clock(monkeypatch, credentials, monotonic=fake.monotonic)
    monkeypatch.setattr(patience.random, "uniform", lambda low, high: high)
    monkeypatch.setattr(fetching, "_outages", {})
    monkeypatch.setattr(credentials, "_renewed_at", -1e9)
    monkeypatch.setattr(pacing, "_paces", {})
    monkeypatch.setattr(pacing, "Pace", functools.partial(pacing.Pace, fake.monotonic))
    return fake


def fetch(source: FlakySource, size_bytes: int | None = None, patience_seconds: float = 300.0) -> tuple[bytes, int]:
    return fetch_patiently(source, Address("flaky://a/1", size_bytes=size_bytes), patience_seconds, max_bytes=100)  # type: ignore[arg-type]


def reason_of(source: FlakySource, patience_seconds: float = 300.0) -> str:
    with pytest.raises(ImageRejected) as rejected:
        fetch(source, patience_seconds=patience_seconds)
    return rejected.value.reason


def test_a_good_answer_is_taken_at_once(time: FakeTime) -> None:
    assert fetch(FlakySource(b"abc"), 3) == (b"abc", 0)
    assert time.slept == []


def test_passing_faults_are_tried_again_and_counted() -> None:
    source = FlakySource(TimeoutError(), OSError("503"), ConnectionResetError(), b"abc")
    assert fetch(source, 3) == (b"abc", 3)
    assert source.n_calls == 4


def test_pauses_double_up_to_a_limit(time: FakeTime) -> None:
    fetch(FlakySource(*[OSError("500")] * 9, b"abc"))
    assert time.slept == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0]


def test_a_fault_that_does_not_pass_becomes_a_row_that_says_so(time: FakeTime) -> None:
    source = FlakySource(OSError("500 internal error"), seconds=1.0)
    begin = time.now
    with pytest.raises(ImageRejected, match=r"store_unavailable: \d+ attempts failed, last: OSError: 500 internal"):
        fetch(source)
    assert 300 <= time.now - begin <= 301 + 1  # the last attempt began when the time was up
    assert source.n_calls > 20


def test_without_patience_there_is_one_attempt(time: FakeTime) -> None:
    source = FlakySource(OSError("500"))
    with pytest.raises(ImageRejected, match="store_unavailable: 1 attempt failed"):
        fetch(source, patience_seconds=0)
    assert (source.n_calls, time.slept) == (1, [])


def test_five_minutes_of_faults_are_outlasted() -> None:
    faults = [Throttled("503")] * 18
    assert fetch(FlakySource(*faults, b"abc"))[0] == b"abc"


@pytest.mark.parametrize("reason", ["missing", "forbidden", "archived"])
def test_what_the_store_says_of_the_object_is_not_asked_again(reason: str, time: FakeTime) -> None:
    source = FlakySource(ImageRejected(reason, "no"), b"abc")
    assert reason_of(source) == reason
    assert (source.n_calls, time.slept) == (1, [])


def test_a_file_that_its_disk_cannot_read_holds_no_thread_for_minutes(time: FakeTime) -> None:
    begin = time.now
    assert reason_of(FlakySource(DiskFault(errno.EIO, "Input/output error"))) == "store_unavailable"
    assert time.now - begin == pytest.approx(5)
    begin = time.now
    assert reason_of(FlakySource(OSError(errno.ESTALE, "Stale file handle"))) == "store_unavailable"
    assert time.now - begin == pytest.approx(300)


def test_a_fault_of_ours_is_not_taken_for_one_of_the_store() -> None:
    with pytest.raises(ImportError):
        fetch(FlakySource(ImportError("no s3fs")))


def test_a_store_that_is_down_is_asked_every_few_seconds_until_it_answers(time: FakeTime) -> None:
    assert reason_of(FlakySource(OSError("500"), seconds=1)) == "store_unavailable"
    n_asked = 0
    begin = time.now
    for _ in range(500):  # as many as a worker takes in a minute
        down = FlakySource(OSError("500"), seconds=1)
        assert reason_of(down) == "store_unavailable"
        n_asked += down.n_calls
        time.now += 0.1
    assert 8 <= n_asked <= 14
    assert time.now - begin < 70
    time.now += 5
    assert fetch(FlakySource(b"abc")) == (b"abc", 0)
    assert fetch(FlakySource(OSError("500"), OSError("500"), b"abc")) == (b"abc", 2)


def test_a_store_that_answers_now_and_then_is_not_down(time: FakeTime) -> None:
    for _ in range(100):
        assert fetch(FlakySource(*[OSError("500")] * 7, b"abc"))[1] == 7
    assert time.now > 5000 + 2000


def test_an_outage_that_nobody_looked_at_since_is_forgotten(time: FakeTime) -> None:
    assert reason_of(FlakySource(OSError("500"))) == "store_unavailable"
    time.now += 3600
    assert fetch(FlakySource(OSError("500"), OSError("500"), b"abc")) == (b"abc", 2)


def test_what_is_given_up_further_in_is_no_answer_of_the_store(time: FakeTime) -> None:
    """Edited copies fetch their originals with the same patience."""
    assert reason_of(FlakySource(OSError("500"))) == "store_unavailable"
    time.now += 5
    assert reason_of(FlakySource(ImageRejected("store_unavailable", "given up"))) == "store_unavailable"
    time.now += 5
    down = FlakySource(OSError("500"))
    assert reason_of(down) == "store_unavailable"
    assert down.n_calls == 1


def test_refusals_slow_down_what_comes_after(time: FakeTime) -> None:
    assert fetch(FlakySource(Throttled("503"), b"abc")) == (b"abc", 1)
    assert pace_of("flaky://a").requests_per_second is not None
    assert pace_of("flaky://b").requests_per_second is None


def test_credentials_are_looked_for_once_and_the_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[float] = []
    monkeypatch.setattr(fetching, "find_credentials_anew", found.append)
    assert fetch(FlakySource(CredentialsExpired("ExpiredToken"), b"abc")) == (b"abc", 1)
    assert fetch(FlakySource(CredentialsExpired("ExpiredToken"), OSError("500"), b"abc")) == (b"abc", 2)
    assert len(found) == 2


def test_credentials_that_are_found_nowhere_are_a_reason_of_their_own() -> None:
    source = FlakySource(CredentialsExpired("ExpiredToken: The provided token has expired."))
    with pytest.raises(ImageRejected, match=r"expired_credentials: .*ExpiredToken"):
        fetch(source)
    assert source.n_calls == 2


def test_filesystems_are_made_anew_with_the_credentials_of_now(
    time: FakeTime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsspec.config, "conf_dir", str(tmp_path))
    monkeypatch.setitem(fsspec.config.conf, "memory", {})
    before = addresses.open_for_reading("memory://lake")[0]
    (tmp_path / "memory.json").write_text('{"memory": {"token": "new"}}')
    credentials.find_credentials_anew(time.now)
    after = addresses.open_for_reading("memory://lake")[0]
    assert after is not before
    assert after.storage_options == {"token": "new"}
    time.now += 0.5
    credentials.find_credentials_anew(time.now)  # of another thread, that failed at the same time
    assert addresses.open_for_reading("memory://lake")[0] is after
    addresses.open_for_reading.cache_clear()


@pytest.mark.parametrize("data", [b"", b"ab", b"abcd"])
def test_another_size_than_listed_is_a_change(data: bytes) -> None:
    with pytest.raises(ImageRejected, match=f"changed_since_listing: {len(data)} bytes, listed with 3"):
        fetch(FlakySource(data), 3)


def test_too_large_by_the_listing_is_not_even_asked_for() -> None:
    source = FlakySource(b"x" * 101)
    with pytest.raises(ImageRejected, match="too_large"):
        fetch(source, 101)
    assert source.n_calls == 0
    with pytest.raises(ImageRejected, match="too_large"):
        fetch(source)  # of unknown size
