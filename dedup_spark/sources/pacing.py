"""How fast one Python worker may ask a store: as fast as it can, until the store says that this is too fast.

A store serves so many requests a second (S3: 5,500 GETs a prefix) and answers 503 beyond. Hundreds of workers that only
retry keep it there: their retries are requests too. Each worker finds its share without knowing of the others, as TCP
does (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in Computer Networks",
1989): half the rate at a refusal, then slowly more. Who asks more often is refused more often, so the rates draw level.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

_CUT = 0.5
_GROWTH, _STEADY_SECONDS = 0.03, 10.0
"""The rate grows by 3 % a second for so long after a cut, then faster and faster: 50-fold after 50 quiet seconds.
Simulated, refusals are then 2 % of the requests of a worker at 3.4 a second (one of 1,600 on one S3 prefix), and 0.1 %
at 55 a second. Faster growth means more refusals, slower growth a later recovery."""
_SECONDS_BETWEEN_CUTS = 1.0
"""The store is quiet only when the others have cut their rates too."""
_LEAST_RATE = 0.5
_MOST_RATE, _MOST_GROWTH = 1e6, 20.0
_MEASURED_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 1.0
_ROUNDING = 1e-6
_FREE_SECONDS, _FREE_REQUESTS = 10.0, 10
"""So long and so often nobody had to wait: the limit is above what is asked for, and goes."""


class Pace:
    """The rate of one worker towards one store. Thread-safe; `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._rate: float | None = None
        self._seen_at = self._cut_at = self._waited_at = -math.inf
        self._turns = self._last_turn = 0.0
        self._n_unhindered = 0
        self._served = _Measured()

    @property
    def requests_a_second(self) -> float | None:
        """The limit; None without one."""
        return self._rate

    def take_turn(self) -> float:
        """The number of the next request: it may be made when `wait_for` says 0."""
        with self._lock:
            self._go_on()
            self._last_turn = max(self._last_turn + 1, self._turns)
            self._n_unhindered += 1
            return self._last_turn

    def wait_for(self, turn: float) -> float:
        """Seconds to wait before asking here again; 0 when it is the turn of this request. The rate may change."""
        with self._lock:
            now = self._go_on()
            left = turn - self._turns
            if self._rate is None or left < _ROUNDING:
                return 0.0
            self._waited_at, self._n_unhindered = now, 0
            return min(left / self._rate, _LONGEST_WAIT_SECONDS)

    def served(self) -> None:
        """The store answered a request."""
        with self._lock:
            self._served.add(self._clock())

    def refused(self, began: float) -> None:
        """The store asked for fewer requests, in answer to the one that began then."""
        with self._lock:
            if began <= self._cut_at + _SECONDS_BETWEEN_CUTS:
                return
            now = self._go_on()
            rate = self._served.a_second(now) if self._rate is None else self._rate
            self._rate = max(_LEAST_RATE, _CUT * rate)
            self._cut_at = self._waited_at = now
            self._n_unhindered = 0

    def _go_on(self) -> float:
        """Count the turns since the last look, at a rate that has grown meanwhile."""
        now = self._clock()
        if self._rate is None:
            self._last_turn = self._turns
        elif now - self._waited_at > _FREE_SECONDS and self._n_unhindered >= _FREE_REQUESTS:
            self._rate = None
        else:
            grown = _growth(now - self._cut_at) - _growth(self._seen_at - self._cut_at)
            self._turns += self._rate * (now - self._seen_at)
            self._rate = min(_MOST_RATE, self._rate * math.exp(min(grown, _MOST_GROWTH)))
        self._seen_at = now
        return now


def _growth(seconds: float) -> float:
    """By how much the logarithm of the rate grows in so many seconds after a cut."""
    quiet = max(0.0, seconds - _STEADY_SECONDS)
    return _GROWTH * (seconds + quiet**2 / (2 * _STEADY_SECONDS))


class _Measured:
    """Events a second of late, by an exponential mean; idle seconds begin it anew."""

    def __init__(self) -> None:
        self._begin = self._last = -math.inf
        self._n = 0.0

    def add(self, now: float) -> None:
        if now - self._last > _MEASURED_SECONDS:
            self._begin, self._n = now, 0.0
        else:
            self._n *= math.exp((self._last - now) / _MEASURED_SECONDS)
        self._last, self._n = now, self._n + 1

    def a_second(self, now: float) -> float:
        if not self._n:
            return 0.0
        seen = 1 - math.exp(-max(now - self._begin, 0.05) / _MEASURED_SECONDS)  # the share of the mean's weight so far
        faded = self._n * math.exp((self._last - now) / _MEASURED_SECONDS)
        return faded / (_MEASURED_SECONDS * seen)


_paces: dict[str, Pace] = {}
_lock = threading.Lock()


def pace_of(store: str) -> Pace:
    """The one of this Python worker for a store (`s3://bucket`)."""
    with _lock:
        return _paces.setdefault(store, Pace())
