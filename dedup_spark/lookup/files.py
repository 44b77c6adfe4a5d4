"""Looks up files that are named by path or URI; one that cannot be read has an answer like any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.lookup.answers import Answer
from dedup_spark.lookup.lookup import Lookup
from dedup_spark.sources.addresses import canonical
from dedup_spark.sources.faults import fault_of
from dedup_spark.sources.objects import read_object


def look_up_files(lookup: Lookup, paths: Sequence[str], **how: bool) -> Iterator[tuple[str, Answer]]:
    """Each path with its answer, in order; all of them are read, decoded and embedded together."""
    outcomes = [_read(path, lookup.max_bytes) for path in paths]
    images = [outcome for outcome in outcomes if isinstance(outcome, bytes)]
    answers = iter(lookup.lookup(images, **how))
    for path, outcome in zip(paths, outcomes, strict=True):
        yield path, next(answers) if isinstance(outcome, bytes) else lookup.rejected(outcome)


def read_file(path: str, max_bytes: int) -> bytes:
    """The bytes of a file or object. Raises ImageRejected where it cannot be read."""
    try:
        return read_object(canonical(path), max_bytes=max_bytes)
    except OSError as e:
        raise ImageRejected("store_unavailable", str(fault_of(e))) from e


def _read(path: str, max_bytes: int) -> bytes | ImageRejected:
    try:
        return read_file(path, max_bytes)
    except ImageRejected as e:
        return e
