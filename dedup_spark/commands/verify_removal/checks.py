"""The part of verify-removal that runs on executors: it checks copies and their keepers as they are now.

A copy may go when it and its keeper are what they were when they were compared, and are two files. In a store a HEAD
request gives ETag and time of the last change; of a local file all bytes are hashed.
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
from dedup_spark.sources.limits import MOST_BYTES
from dedup_spark.sources.object_state import ObjectState, object_state
from dedup_spark.vocabulary import RejectReason

IN_A_CONTAINER = "inside a container, of which no image is removed by itself"
ONE_FILE = "one file with its keeper"
_GONE, _CHANGED, _NO_ANSWER = "is gone", "has changed", "could not be checked: the store did not answer"

CHECKED = Columns(
    "uri string, member string, keeper_uri string, keeper_member string, relation string, removal_tier string, "
    "size_bytes bigint, freed_bytes bigint, cluster_id bigint, etag string, version_id string, verified_at timestamp, "
    "identity string, n_links int, keeper_identity string, problem string"
)
"""A row for each copy; `problem` is the reason why it stays, and null where it may go."""

Known = Mapping[str, Any]
"""What the tables hold of an image: uri, member, location, position, size_bytes, modified_at, etag, content_hash."""


@dataclass(frozen=True)
class CheckSettings:
    """`sources`: by the address of a lake, the source that reads the keepers inside its containers."""

    threads: int
    sources: dict[str, Source]


@dataclass(frozen=True)
class Checked:
    """The state of an image now, or the problem with it; one of the two is None."""

    state: ObjectState | None
    problem: str | None


def check_batches(batches: Iterable[pa.RecordBatch], settings: CheckSettings) -> Iterator[pa.RecordBatch]:
    """Rows of CHECKED for rows of the view `removals`, which come in the order of keepers."""
    keepers: dict[int, Checked] = {}
    with ThreadPoolExecutor(settings.threads) as pool:
        for batch in batches:
            rows = batch.to_pylist()
            of_id = {row["keeper_image_id"]: row for row in rows if row["member"] is None}
            new = [image_id for image_id in of_id if image_id not in keepers]
            found = pool.map(lambda i: _check_keeper(of_id[i], settings.sources), new)  # noqa: B023 - used at once
            keepers = {i: keepers[i] for i in of_id if i in keepers} | dict(zip(new, found, strict=True))
            kept = [keepers.get(row["keeper_image_id"]) for row in rows]
            yield pa.RecordBatch.from_pylist(list(pool.map(_check_copy, rows, kept)), schema=CHECKED.arrow)


def _check_copy(row: Known, keeper: Checked | None) -> dict[str, Any]:
    """One row of CHECKED. `keeper` is None where the copy is inside a container."""
    told = ("uri", "member", "relation", "removal_tier", "size_bytes", "freed_bytes", "cluster_id")
    checked = {name: row[name] for name in told}
    checked |= {"keeper_uri": row["keeper"]["uri"], "keeper_member": row["keeper"]["member"]}
    if keeper is None:
        return checked | {"problem": IN_A_CONTAINER}
    if keeper.state is None:
        return checked | {"problem": f"the keeper {keeper.problem}"}
    copy = check_object(row)
    if copy.state is None:
        return checked | {"problem": f"the copy {copy.problem}"}
    state = copy.state
    return checked | {
        "size_bytes": state.size_bytes,
        "etag": state.etag,
        "version_id": state.version_id,
        "verified_at": datetime.now(UTC),
        "identity": state.identity,
        "n_links": state.n_links,
        "keeper_identity": keeper.state.identity,
        "problem": ONE_FILE if state.identity == keeper.state.identity else None,
    }


def check_object(known: Known) -> Checked:
    """Compare an image that is an object of its own with what is known of it."""
    try:
        state = object_state(known["uri"])
        is_same = _is_same(known, state)
        if is_same is None or (is_same is False and _differs_in_time_alone(known, state)):
            state = object_state(known["uri"], read=True, max_bytes=known["size_bytes"] or MOST_BYTES)
            is_same = _is_same(known, state)
    except ImageRejected as e:
        return Checked(None, _GONE if e.reason == RejectReason.MISSING else "cannot be read, or is a link")
    except OSError:
        return Checked(None, _NO_ANSWER)
    return Checked(state, None) if is_same else Checked(None, _CHANGED)


def _check_keeper(row: Known, sources: Mapping[str, Source]) -> Checked:
    keeper, source = row["keeper"], sources.get(row["keeper_lake"])
    if keeper["member"] is None:
        return check_object(keeper)
    if source is None:
        return Checked(None, "is in a lake that cannot be opened")
    address = replace(Address.of(keeper), etag=None)  # its bytes decide, whatever ETag the object has now
    try:
        data = source.fetch(address, keeper["size_bytes"] or MOST_BYTES)
    except ImageRejected as e:
        return Checked(None, _CHANGED if e.reason == RejectReason.TOO_LARGE else _GONE)
    except OSError:
        return Checked(None, _NO_ANSWER)
    state = ObjectState(f"{address.uri} {address.member}", len(data), content_hash=content_hash(data))
    return Checked(state, None) if _is_same(keeper, state) else Checked(None, _CHANGED)


def _is_same(known: Known, state: ObjectState) -> bool | None:
    """By the bytes where they were read; else by what both listing and store give; None where that is nothing."""
    if state.content_hash is not None:
        return bool(state.content_hash == known["content_hash"])
    if known["size_bytes"] is not None and known["size_bytes"] != state.size_bytes:
        return False
    facts = [(known["etag"], state.etag), (_second(known["modified_at"]), _second(state.modified_at))]
    both = [(then, now) for then, now in facts if then is not None and now is not None]
    return all(then == now for then, now in both) if both else None


def _differs_in_time_alone(known: Known, state: ObjectState) -> bool:
    """A manifest may have times of its own: then the bytes decide."""
    etags = {known["etag"], state.etag} - {None}
    return state.content_hash is None and known["size_bytes"] == state.size_bytes and len(etags) <= 1


def _second(at: datetime | None) -> datetime | None:
    """The time in whole seconds, as HEAD gives no fractions and some listings do."""
    return at.replace(microsecond=0) if at else None
