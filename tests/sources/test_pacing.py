"""The pace of one worker by a clock that the test sets, and a hundred of them against a store with a limit."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from dedup_spark.sources import patience
from dedup_spark.sources.faults import Throttled
from dedup_spark.sources.pacing import Pace
from dedup_spark.sources.patience import Patience


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ask(pace: Pace, clock: Clock, seconds: float, *, per_second: float = 1e5, served: bool = True) -> int:
    """Ask one request after the other for so long, at most `per_second`; returns how many were made."""
    end, n = clock.now + seconds, 0
    while True:
        turn = pace.take_turn()
        while wait := pace.wait_for(turn):
            clock.now += wait
        clock.now += 1 / per_second
        if clock.now > end:
            return n
        n += 1
        if served:
            pace.served()


def cut_once(pace: Pace, clock: Clock) -> float:
    """Serve 100 requests a second for ten seconds, refuse one; returns the limit."""
    ask(pace, clock, 10, per_second=100)
    pace.refused(began=clock.now)
    assert pace.requests_per_second is not None
    return pace.requests_per_second


def test_nobody_waits_before_the_first_refusal(clock: Clock) -> None:
    pace = Pace(clock)
    assert [pace.wait_for(pace.take_turn()) for _ in range(1000)] == [0.0] * 1000
    assert pace.requests_per_second is None


def test_a_refusal_halves_the_rate_that_was_served(clock: Clock) -> None:
    assert cut_once(Pace(clock), clock) == pytest.approx(50, rel=0.05)


def test_one_refusal_a_second_cuts_the_others_answer_what_was_sent_before(clock: Clock) -> None:
    pace = Pace(clock)
    limit = cut_once(pace, clock)
    sent = clock.now
    for _ in range(50):
        pace.refused(began=sent)
    clock.now += 2
    pace.refused(began=sent + 0.9)
    assert pace.requests_per_second == limit
    pace.refused(began=sent + 1.1)
    assert pace.requests_per_second == pytest.approx(limit / 2, rel=0.1)


def test_requests_keep_to_the_limit_and_it_recovers_in_seconds_to_minutes(clock: Clock) -> None:
    pace = Pace(clock)
    limit = cut_once(pace, clock)
    assert ask(pace, clock, 1) == pytest.approx(limit, rel=0.1)
    ask(pace, clock, 9)
    assert limit * 1.2 < (pace.requests_per_second or 0) < limit * 1.5
    ask(pace, clock, 40)
    assert (pace.requests_per_second or 0) > 10 * limit


def test_those_who_wait_go_on_sooner_when_the_rate_has_grown(clock: Clock) -> None:
    pace = Pace(clock)
    limit = cut_once(pace, clock)
    turns = [pace.take_turn() for _ in range(int(60 * limit))]
    begin = clock.now
    while wait := pace.wait_for(turns[-1]):
        clock.now += wait
    assert clock.now - begin < 40


def test_the_limit_goes_when_it_hinders_nobody(clock: Clock) -> None:
    pace = Pace(clock)
    cut_once(pace, clock)
    ask(pace, clock, 15, per_second=5)
    assert pace.requests_per_second is None


def test_a_worker_that_was_idle_keeps_its_limit(clock: Clock) -> None:
    pace = Pace(clock)
    limit = cut_once(pace, clock)
    clock.now += 12
    pace.wait_for(pace.take_turn())
    assert limit < (pace.requests_per_second or 0) < 2 * limit


def test_a_worker_that_is_never_served_still_asks_now_and_then(clock: Clock) -> None:
    pace = Pace(clock)
    for _ in range(40):
        pace.refused(began=clock.now)
        clock.now += 2
    assert ask(pace, clock, 20, served=False) >= 10


@dataclass
class LimitedStore:
    """Serves so many requests a second and refuses those beyond, with a tenth of a second's worth at hand."""

    limit: float
    tokens: float = 0.0
    at: float = 0.0
    n_served: int = 0
    n_refused: int = 0

    def ask(self, now: float) -> bool:
        self.tokens = min(self.limit / 10, self.tokens + (now - self.at) * self.limit)
        self.at = now
        if self.tokens < 1:
            self.n_refused += 1
            return False
        self.tokens -= 1
        self.n_served += 1
        return True


@dataclass
class Fleet:
    """Workers with threads that fetch one image after the other, as `fetching._read` does, in simulated time."""

    store: LimitedStore
    n_workers: int
    n_threads: int
    latency_seconds: float
    patience_seconds: float = 300.0
    n_given_up: int = 0
    clock: Clock = field(default_factory=lambda: Clock(0.0))
    events: list[tuple[float, int, Iterator[float]]] = field(default_factory=list)
    """When each thread goes on."""

    def __post_init__(self) -> None:
        for worker in range(self.n_workers):
            pace = Pace(self.clock)
            names = range(worker * self.n_threads, (worker + 1) * self.n_threads)
            self.events += [(name / 1e6, name, self._thread(pace)) for name in names]
        heapq.heapify(self.events)

    def run(self, until: float) -> None:
        while self.events[0][0] < until:
            self.clock.now, name, thread = self.events[0]
            heapq.heapreplace(self.events, (self.clock.now + next(thread), name, thread))

    def _thread(self, pace: Pace) -> Iterator[float]:
        while True:
            patience = Patience(self.patience_seconds)
            while True:
                turn = pace.take_turn()
                while wait := pace.wait_for(turn):
                    patience.wait(wait)
                    yield wait
                began = self.clock.now
                is_served = self.store.ask(began)
                yield self.latency_seconds
                if is_served:
                    pace.served()
                    break
                pace.refused(began)
                pause = patience.pause_after(Throttled(), began, self.clock.now)
                if pause is None:
                    self.n_given_up += 1
                    break
                yield pause


@pytest.mark.parametrize(("n_workers", "n_threads"), [(100, 8), (100, 64)])
def test_a_hundred_nodes_share_a_store_that_refuses_what_is_too_much(
    n_workers: int, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "random", random.Random(n_threads))
    store = LimitedStore(5_500)
    fleet = Fleet(store, n_workers, n_threads, latency_seconds=0.03)
    fleet.run(60)  # the first rush, and the way back up from it
    n_refused, store.n_refused, store.n_served = store.n_refused, 0, 0
    fleet.run(90)
    assert fleet.n_given_up == 0
    assert store.n_served >= 0.8 * 5_500 * 30
    assert store.n_refused <= 0.02 * store.n_served
    assert n_refused <= 0.1 * 5_500 * 60
