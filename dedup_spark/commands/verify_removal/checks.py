"""The part of verify-removal that runs on executors: copies and their keepers are looked at, as they are now.

A copy may go when it and its keeper are what they were when they were compared, and are two files. In a store that is
asked by HEAD, and seen by ETag and time of the last change; of a local file all bytes are hashed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from dedup_spark.columns import Columns
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.hashing import content_hash
from dedup_spark.sources.base import Address, Source
from dedup_spark.sources.object_state import ObjectState, object_state

IN_A_CONTAINER = "inside a container, of which no image is removed by itself"
ONE_FILE = "one file with its keeper"
_GONE, _CHANGED, _NO_ANSWER = "is gone", "has changed", "could not be looked at: the store did not answer"

CHECKED = Columns(
    "uri string, member string, keeper_uri string, keeper_member string, relation string, size_bytes bigint, "
    "freed_bytes bigint, cluster_id bigint, etag string, version_id string, verified_at timestamp, "
    "identity string, n_links int, keeper_identity string, problem string"
)
"""A row for each copy; `problem` says why it stays, and is null where it may go."""

Known = Mapping[str, Any]
"""Of an image: uri, member, location, position, size_bytes, modified_at, etag, content_hash."""


@dataclass(frozen=True)
class CheckSettings:
    """`sources`: by the address of the lake, those of keepers inside containers."""

    threads: int
    sources: dict[str, Source]


@dataclass(frozen=True)
class Looked:
    """What was seen, or why that does not count."""

    seen: ObjectState | None
    problem: str | None


def check_batches(batches: Iterable[pa.RecordBatch], settings: CheckSettings) -> Iterator[pa.RecordBatch]:
    """Rows of the view `removals`, in the order of keepers, to rows of CHECKED."""
    keepers: dict[int, Looked] = {}
    with ThreadPoolExecutor(settings.threads) as pool:
        for batch in batches:
            rows = batch.to_pylist()
            of_id = {row["keeper_image_id"]: row for row in rows if row["member"] is None}
            new = [image_id for image_id in of_id if image_id not in keepers]
            looked = pool.map(lambda i: _look_at_keeper(of_id[i], settings.sources), new)  # noqa: B023 - used at once
            keepers = {i: keepers[i] for i in of_id if i in keepers} | dict(zip(new, looked, strict=True))
            kept = [keepers.get(row["keeper_image_id"]) for row in rows]
            yield pa.RecordBatch.from_pylist(list(pool.map(_check, rows, kept)), schema=CHECKED.arrow)


def _check(row: Known, keeper: Looked | None) -> dict[str, Any]:
    """One row of CHECKED. `keeper` is None where the copy is inside a container."""
    checked = {name: row[name] for name in ("uri", "member", "relation", "size_bytes", "freed_bytes", "cluster_id")}
    checked |= {"keeper_uri": row["keeper"]["uri"], "keeper_member": row["keeper"]["member"]}
    if keeper is None:
        return checked | {"problem": IN_A_CONTAINER}
    if keeper.seen is None:
        return checked | {"problem": f"the keeper {keeper.problem}"}
    copy = look_at(row)
    if copy.seen is None:
        return checked | {"problem": f"the copy {copy.problem}"}
    seen = copy.seen
    return checked | {
        "size_bytes": seen.size_bytes,
        "etag": seen.etag,
        "version_id": seen.version_id,
        "verified_at": datetime.now(UTC),
        "identity": seen.identity,
        "n_links": seen.n_links,
        "keeper_identity": keeper.seen.identity,
        "problem": ONE_FILE if seen.identity == keeper.seen.identity else None,
    }


def look_at(known: Known) -> Looked:
    """A look at an image that is an object of its own, beside what is known of it."""
    try:
        seen = object_state(known["uri"])
        is_same = _is_same(known, seen)
        if is_same is None or (is_same is False and _differs_in_time_alone(known, seen)):
            seen = object_state(known["uri"], read=True)
            is_same = _is_same(known, seen)
    except ImageRejected as e:
        return Looked(None, _GONE if e.reason == "missing" else "cannot be read, or is a link")
    except OSError:
        return Looked(None, _NO_ANSWER)
    return Looked(seen, None) if is_same else Looked(None, _CHANGED)


def _look_at_keeper(row: Known, sources: Mapping[str, Source]) -> Looked:
    keeper, source = row["keeper"], sources.get(row["keeper_lake"])
    if keeper["member"] is None:
        return look_at(keeper)
    if source is None:
        return Looked(None, "is in a lake that cannot be opened")
    address = replace(Address.of(keeper), etag=None)  # its bytes are looked at, whatever ETag they have now
    try:
        data = source.fetch(address)
    except ImageRejected:
        return Looked(None, _GONE)
    except OSError:
        return Looked(None, _NO_ANSWER)
    seen = ObjectState(f"{address.uri} {address.member}", len(data), content_hash=content_hash(data))
    return Looked(seen, None) if _is_same(keeper, seen) else Looked(None, _CHANGED)


def _is_same(known: Known, seen: ObjectState) -> bool | None:
    """By the bytes where they were read; else by all that listing and store both say; None where that is nothing."""
    if seen.content_hash is not None:
        return bool(seen.content_hash == known["content_hash"])
    if known["size_bytes"] is not None and known["size_bytes"] != seen.size_bytes:
        return False
    told = [(known["etag"], seen.etag), (_second(known["modified_at"]), _second(seen.modified_at))]
    both = [(then, now) for then, now in told if then is not None and now is not None]
    return all(then == now for then, now in both) if both else None


def _differs_in_time_alone(known: Known, seen: ObjectState) -> bool:
    """A manifest may have times of its own: then the bytes decide."""
    etags = {known["etag"], seen.etag} - {None}
    return seen.content_hash is None and known["size_bytes"] == seen.size_bytes and len(etags) <= 1


def _second(at: datetime | None) -> datetime | None:
    """HEAD tells no fractions, which some listings do."""
    return at.replace(microsecond=0) if at else None
