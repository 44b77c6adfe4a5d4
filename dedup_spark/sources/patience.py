"""Listing with patience: a store that stumbles for some minutes is asked again, as half a listing is none."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from dedup_spark.errors import SourceError

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 20.0
_PATIENCE_SECONDS = 300.0
"""With pauses of 10 s on average about 40 attempts. Each page of a listing has them anew."""

_OF_OURS = (ImportError, TypeError, AttributeError, NotImplementedError, LookupError)


def ask_patiently[Answer](ask: Callable[[], Answer], place: str) -> Answer:
    """What `ask` returns, in the end: refusals for load, faults of the store and broken connections may pass.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.
        SourceError: the store refuses, or stumbles for longer than five minutes.
    """
    begin, attempt = time.monotonic(), 0
    while True:
        try:
            return ask()
        except (FileNotFoundError, NotADirectoryError, *_OF_OURS):
            raise
        except PermissionError as e:
            raise SourceError(f"{place}: the store refuses to list it: {_told(e)}; nothing was changed") from e
        except Exception as e:  # botocore, aiohttp, azure and google have error types of their own
            attempt += 1
            left = begin + _PATIENCE_SECONDS - time.monotonic()
            if left <= 0:
                raise SourceError(
                    f"{place}: the store failed {attempt} times in {_PATIENCE_SECONDS / 60:g} minutes, the last time "
                    f"with {_told(e)}; what is in it is unknown, so nothing was changed: run again later"
                ) from e
            pause = random.uniform(0, min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(attempt - 1, 10)))
            log.debug("%s: attempt %d failed: %s", place, attempt, _told(e))
            time.sleep(min(pause, left))


def _told(error: Exception) -> str:
    """In one line, as it has to survive Spark's trace."""
    return " ".join(f"{type(error).__name__}: {error}".split())
