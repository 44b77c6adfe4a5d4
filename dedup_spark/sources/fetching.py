"""Fetch the bytes of one image: faults that may pass are tried again with growing pauses, and counted. On executors.

What is given up says so (`store_unavailable`, `expired_credentials`) and is read again by the next run: only the
store's own answer makes an image `missing`.
"""

from __future__ import annotations

import math
import threading
import time

from cachetools import LRUCache

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses
from dedup_spark.sources.base import Address, Source
from dedup_spark.sources.credentials import find_credentials_anew
from dedup_spark.sources.faults import CredentialsExpired, Throttled
from dedup_spark.sources.limits import too_large
from dedup_spark.sources.pacing import MOST_STORES, pace_of
from dedup_spark.sources.patience import Patience

_SECONDS_BETWEEN_PROBES = 5.0
_SAYS_NOTHING_OF_THE_OBJECT = ("store_unavailable", "expired_credentials")


def fetch_patiently(source: Source, address: Address, patience_seconds: float, max_bytes: int) -> tuple[bytes, int]:
    """The bytes of an image and how many attempts failed before. No more than `max_bytes` + 1 bytes are read.

    Raises:
        ImageRejected: `missing`, `forbidden`, `archived`, `too_large` or `changed_since_listing`; after
            `patience_seconds` of faults `store_unavailable`, and `expired_credentials` where none are found that work.
    """
    if (address.size_bytes or 0) > max_bytes:
        raise too_large(max_bytes, address.size_bytes)
    data, failed = _read(source, address, patience_seconds, max_bytes)
    require_listed(len(data), address.size_bytes, max_bytes)
    return data, failed


def require_listed(n_bytes: int, listed_bytes: int | None, max_bytes: int) -> None:
    """Raise ImageRejected where an object has more bytes than are allowed, or not as many as were listed."""
    if n_bytes > max_bytes:
        raise too_large(max_bytes, n_bytes)
    if listed_bytes is not None and n_bytes != listed_bytes:
        raise ImageRejected("changed_since_listing", f"{n_bytes:,} bytes, listed with {listed_bytes:,}")


class Outage:
    """For how long no attempt of one Python worker at a store has succeeded.

    Once that is longer than the patience with one image, the store is down: every few seconds one image is tried once,
    and the others are given up without a request, so that a slice ends soon and its guard stops the run.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._last, self._probed_at = 0.0, -math.inf

    def see_fault(self, began: float, now: float, patience_seconds: float) -> bool:
        """Record a failed attempt; returns whether the store is down."""
        if self._since is None or began - self._last > patience_seconds:  # no request was made meanwhile
            self._since = began
        self._last = now
        return now - self._since >= patience_seconds

    def see_answer(self) -> None:
        self._since = None

    def must_wait(self, now: float, patience_seconds: float) -> bool:
        """Whether the store is down and was asked in the last seconds."""
        if self._since is None or now - self._since < patience_seconds or now - self._last > patience_seconds:
            return False
        if now - self._probed_at < _SECONDS_BETWEEN_PROBES:
            return True
        self._probed_at = now
        return False


def _read(source: Source, address: Address, patience_seconds: float, max_bytes: int) -> tuple[bytes, int]:
    store = _store_of(address)
    pace, outage, patience, has_renewed = pace_of(store), _outage_of(store), Patience(patience_seconds), False
    if outage.must_wait(time.monotonic(), patience_seconds):
        raise ImageRejected("store_unavailable", f"not asked: {store} gave no answer for {patience_seconds:g} seconds")
    while True:
        turn = pace.take_turn()
        while wait := pace.wait_for(turn):
            patience.wait(wait)
            time.sleep(wait)
        began = time.monotonic()
        try:
            data = source.fetch(address, max_bytes)
        except ImageRejected as e:
            if e.reason not in _SAYS_NOTHING_OF_THE_OBJECT:
                pace.served()
                outage.see_answer()
            raise
        except CredentialsExpired as e:
            if has_renewed:
                raise ImageRejected("expired_credentials", f"the store takes no credentials found here: {e}") from e
            find_credentials_anew(began)
            patience.n_failed, has_renewed = patience.n_failed + 1, True
        except OSError as e:
            if isinstance(e, Throttled):
                pace.refused(began)
            now = time.monotonic()
            is_down = outage.see_fault(began, now, patience_seconds)
            pause = patience.pause_after(e, began, now, is_hopeless=is_down)
            if pause is None:
                raise _unavailable(patience.n_failed, e) from e
            time.sleep(pause)
        else:
            pace.served()
            outage.see_answer()
            return data, patience.n_failed


_outages: LRUCache[str, Outage] = LRUCache(MOST_STORES)
_lock = threading.Lock()


def _outage_of(store: str) -> Outage:
    """The one outage record of this Python worker for a store."""
    with _lock:
        return _outages.setdefault(store, Outage())


def _store_of(address: Address) -> str:
    place = address.location or address.uri
    return addresses.split_store(place)[0] if addresses.is_remote(place) else "file://"


def _unavailable(n_failed: int, last: OSError) -> ImageRejected:
    times = "1 attempt" if n_failed == 1 else f"{n_failed} attempts"
    return ImageRejected("store_unavailable", f"{times} failed, last: {type(last).__name__}: {last}")
