"""Fetch with patience: passing faults of a store are tried again with growing pauses, and counted. On executors."""

from __future__ import annotations

import random
import time

from dedup_spark.kernels.images import ImageRejected
from dedup_spark.sources.base import Address, Source

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 20.0


def fetch_patiently(source: Source, address: Address, attempts: int, max_bytes: int) -> tuple[bytes, int]:
    """The bytes of an image and how many attempts failed before.

    The pauses double and are jittered over their whole length ("full jitter": Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog 2015), so that the tasks of a cluster do not come back in step.

    Raises:
        ImageRejected: `missing`, `forbidden`, `too_large` or `changed_since_listing`.
    """
    if (address.size_bytes or 0) > max_bytes:
        raise _too_large(address.size_bytes or 0, max_bytes)
    for failed in range(attempts):
        try:
            data = source.fetch(address)
        except OSError as e:
            if failed + 1 == attempts:
                raise ImageRejected("missing", f"{attempts} attempts failed, last: {type(e).__name__}: {e}") from e
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**failed)))
        else:
            break
    if len(data) > max_bytes:
        raise _too_large(len(data), max_bytes)
    if address.size_bytes is not None and len(data) != address.size_bytes:
        raise ImageRejected("changed_since_listing", f"{len(data):,} bytes, listed with {address.size_bytes:,}")
    return data, failed


def _too_large(size_bytes: int, max_bytes: int) -> ImageRejected:
    return ImageRejected("too_large", f"{size_bytes:,} bytes; extract.max_object_bytes is {max_bytes:,}")
