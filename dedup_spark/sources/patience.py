"""How long a store that fails is asked again: one policy for listings and for the bytes of images.

Patience is a time, not a count: a store that throttles for a minute is as good as one that does not. `faults.py` says
which errors may pass; `fetching.py` adds to this policy what concerns one image (its row, the pace, an outage).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from dedup_spark.errors import SourceError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources.credentials import find_credentials_anew
from dedup_spark.sources.faults import (
    ERRORS_OF_PROGRAMS,
    SAID_NOTHING,
    CredentialsExpired,
    DiskFault,
    answer_of,
    fault_of,
)
from dedup_spark.vocabulary import RejectReason

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 20.0
_DISK_PATIENCE_SECONDS = 5.0
"""For a file that its disk cannot read: a bad sector stays bad, and must not hold a thread for minutes."""
_CREDENTIALS_PATIENCE_SECONDS = 20.0
"""For a listing whose credentials are not taken: as long as it may take until those that follow them are there."""
_LISTING_PATIENCE_SECONDS = 300.0
"""With pauses of 10 s on average about 40 attempts. Each page of a listing gets them anew."""


class ListingRefused(SourceError):
    """The store says that this folder may not be listed, or that there is none: an answer about this folder alone."""


class Patience:
    """With one question to a store: how long to pause after a fault, and when to give up.

    The pauses double and are jittered over their whole length ("full jitter": Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog 2015), so that the tasks of a cluster do not come back in step.
    """

    def __init__(self, seconds: float) -> None:
        self.n_failed, self._seconds = 0, seconds
        self._begin: float | None = None

    def pause_after(self, fault: Exception, began: float, now: float, *, is_hopeless: bool = False) -> float | None:
        """Seconds to pause after an attempt that began at `began` and failed at `now`; None to give up."""
        begin = self._begin = began if self._begin is None else self._begin
        self.n_failed += 1
        seconds = min(self._seconds, _DISK_PATIENCE_SECONDS) if isinstance(fault, DiskFault) else self._seconds
        left = begin + seconds - now
        if is_hopeless or left <= 0:
            return None
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(self.n_failed - 1, 30))
        return min(random.uniform(0, longest), left)  # the last attempt is made when the time is up

    def wait(self, seconds: float) -> None:
        """Do not count the time that a request waited for its turn: it is no fault of the store."""
        if self._begin is not None:
            self._begin += seconds


def ask_patiently[Answer](ask: Callable[[], Answer], place: str) -> Answer:
    """What `ask` returns in the end: half a listing is none, so faults that may pass are outlasted.

    `ask` opens its filesystem itself: where credentials have expired it is called with one that has looked for others.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.
        ListingRefused: the store refuses.
        SourceError: it fails for longer than five minutes, or refuses all credentials that are found for 20 seconds.
    """
    patience, of_credentials = Patience(_LISTING_PATIENCE_SECONDS), Patience(_CREDENTIALS_PATIENCE_SECONDS)
    while True:
        began = time.monotonic()
        try:
            return ask()
        except (FileNotFoundError, NotADirectoryError, *ERRORS_OF_PROGRAMS):
            raise
        except Exception as e:  # each store has error types of its own
            fault = fault_of(e)
            if isinstance(fault, CredentialsExpired):  # s3fs says so by a PermissionError
                # That none can be had is no answer of the store: whoever hands them out may be busy for minutes.
                is_answer = answer_of(e) != SAID_NOTHING
                asked = of_credentials if is_answer else patience
                pause = asked.pause_after(fault, began, time.monotonic())
                if pause is None:
                    raise SourceError(
                        f"{place}: the store takes no credentials that were found here: {_told(e)}; what is in it is "
                        "unknown, so nothing was changed: renew them and run again"
                    ) from e
                find_credentials_anew(began)
                time.sleep(pause)
                continue
            if isinstance(e, PermissionError) or isinstance(fault, ImageRejected):
                is_gone = isinstance(fault, ImageRejected) and fault.reason == RejectReason.MISSING
                why = "there is nothing of this name" if is_gone else "the store refuses to list it"
                raise ListingRefused(f"{place}: {why}: {_told(e)}; nothing was changed") from e
            pause = patience.pause_after(fault, began, time.monotonic())
            if pause is None:
                minutes = _LISTING_PATIENCE_SECONDS / 60
                raise SourceError(
                    f"{place}: the store failed {patience.n_failed} times in {minutes:g} minutes, the last time with "
                    f"{_told(e)}; what is in it is unknown, so nothing was changed: run again later"
                ) from e
            log.debug("%s: attempt %d failed: %s", place, patience.n_failed, _told(e))
            time.sleep(pause)


def _told(error: Exception) -> str:
    """In one line, as it has to survive Spark's trace."""
    return " ".join(f"{type(error).__name__}: {error}".split())
