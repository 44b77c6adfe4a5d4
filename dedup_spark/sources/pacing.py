"""How fast one Python worker sends requests to a store: as fast as it can, until the store says that it is too fast.

A store serves a number of requests per second (S3: 5,500 GETs per prefix) and answers 503 beyond it. Hundreds of
workers that only retry keep it there, because their retries are requests too. Each worker finds its share without
knowing of the others, as TCP does (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion
Avoidance in Computer Networks", 1989): it halves its rate at a refusal, then raises it slowly. A worker that asks more
often is refused more often, so the rates become equal.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from cachetools import LRUCache

_CUT = 0.5
_GROWTH, _STEADY_SECONDS = 0.03, 10.0
"""For 10 s after a cut the rate grows by 3 % per second, then faster and faster: 50-fold after 50 s without refusals.
In a simulation refusals are then 2 % of the requests of a worker at 3.4 per second (one of 1,600 on one S3 prefix), and
0.1 % at 55 per second. Faster growth means more refusals, slower growth a later recovery."""
_SECONDS_BETWEEN_CUTS = 1.0
"""Refusals of the next second do not count: the store recovers only when the other workers have cut theirs too."""
_LEAST_RATE = 0.5
_MOST_RATE, _MOST_GROWTH = 1e6, 20.0
_MEASURED_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 1.0
_ROUNDING = 1e-6
_FREE_SECONDS, _FREE_REQUESTS = 10.0, 10
"""When no request had to wait for 10 s and 10 requests, the limit is above the demand, and it is lifted."""


class Pace:
    """The rate of requests of one worker to one store. Thread-safe; `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self.requests_per_second: float | None = None
        """The limit; None without one."""
        self._seen_at = self._cut_at = self._waited_at = -math.inf
        self._turns = self._last_turn = 0.0
        self._n_unhindered = 0
        self._served = _Measured()

    def take_turn(self) -> float:
        """The number of the next request: it may be made when `wait_for` says 0."""
        with self._lock:
            self._advance()
            self._last_turn = max(self._last_turn + 1, self._turns)
            self._n_unhindered += 1
            return self._last_turn

    def wait_for(self, turn: float) -> float:
        """Seconds to wait before calling this again; 0 when it is the turn of this request. The rate may change."""
        with self._lock:
            now = self._advance()
            left = turn - self._turns
            if self.requests_per_second is None or left < _ROUNDING:
                return 0.0
            self._waited_at, self._n_unhindered = now, 0
            return min(left / self.requests_per_second, _LONGEST_WAIT_SECONDS)

    def served(self) -> None:
        """The store answered a request."""
        with self._lock:
            self._served.add(self._clock())

    def refused(self, began: float) -> None:
        """The store answered the request that began at `began` by asking for fewer."""
        with self._lock:
            if began <= self._cut_at + _SECONDS_BETWEEN_CUTS:
                return
            now = self._advance()
            limit = self.requests_per_second
            rate = self._served.per_second(now) if limit is None else limit
            self.requests_per_second = max(_LEAST_RATE, _CUT * rate)
            self._cut_at = self._waited_at = now
            self._n_unhindered = 0

    def _advance(self) -> float:
        """Count the turns that have come since the last call, at a rate that has grown since; returns the time."""
        now, rate = self._clock(), self.requests_per_second
        if rate is None:
            self._last_turn = self._turns
        elif now - self._waited_at > _FREE_SECONDS and self._n_unhindered >= _FREE_REQUESTS:
            self.requests_per_second = None
        else:
            grown = _growth(now - self._cut_at) - _growth(self._seen_at - self._cut_at)
            self._turns += rate * (now - self._seen_at)
            self.requests_per_second = min(_MOST_RATE, rate * math.exp(min(grown, _MOST_GROWTH)))
        self._seen_at = now
        return now


def _growth(seconds: float) -> float:
    """How much the logarithm of the rate grows within `seconds` after a cut."""
    quiet = max(0.0, seconds - _STEADY_SECONDS)
    return _GROWTH * (seconds + quiet**2 / (2 * _STEADY_SECONDS))


class _Measured:
    """Events per second in the last seconds, by an exponential mean; after idle seconds it starts again."""

    def __init__(self) -> None:
        self._begin = self._last = -math.inf
        self._n = 0.0

    def add(self, now: float) -> None:
        if now - self._last > _MEASURED_SECONDS:
            self._begin, self._n = now, 0.0
        else:
            self._n *= math.exp((self._last - now) / _MEASURED_SECONDS)
        self._last, self._n = now, self._n + 1

    def per_second(self, now: float) -> float:
        if not self._n:
            return 0.0
        seen = 1 - math.exp(-max(now - self._begin, 0.05) / _MEASURED_SECONDS)  # the share of the mean's weight so far
        faded = self._n * math.exp((self._last - now) / _MEASURED_SECONDS)
        return faded / (_MEASURED_SECONDS * seen)


MOST_STORES = 1000
"""Of which a Python worker remembers how they answer: the rows of a manifest may name any number of them."""
_paces: LRUCache[str, Pace] = LRUCache(MOST_STORES)
_lock = threading.Lock()


def pace_of(store: str) -> Pace:
    """The pace of this Python worker for a store (`s3://bucket`)."""
    with _lock:
        return _paces.setdefault(store, Pace())
