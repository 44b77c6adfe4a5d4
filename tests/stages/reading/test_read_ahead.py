"""Objects that nobody said to be large are let go early, and only then read in the room of large ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dedup_spark.config import ExtractSettings
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.signature import SignatureSettings
from dedup_spark.sources.base import Address
from dedup_spark.sources.limits import Part
from dedup_spark.stages.reading.budget import LARGE_OBJECT_BYTES
from dedup_spark.stages.reading.read_ahead import TaskSettings, _read_in_room, fetch_row

MOST = 2 * LARGE_OBJECT_BYTES


@dataclass
class Store:
    """One object; `limits` are those of the reads, in order."""

    n_bytes: int
    limits: list[int] = field(default_factory=list)

    def fetch(self, address: Address, max_bytes: int) -> bytes:
        self.limits.append(max_bytes)
        part = Part.of(None, None, max_bytes)
        return part.cut(bytes(min(self.n_bytes, part.end)))


def read(store: Store, listed_bytes: int | None, most: int = MOST) -> Any:
    """The number of bytes that are read, or the reason why there are none."""
    extract = replace(ExtractSettings(), max_object_bytes=most, python_memory_bytes=8 << 30)
    source: Any = store
    settings = TaskSettings(source, SignatureSettings(1 << 20, 16, 256, 80, 256), extract, None, "run-1", 1)

    def of_row(row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"read": len(fetch_row(row, settings)[0])}
        except ImageRejected as e:
            return {"read": e.reason.value}

    row = {"uri": "/lake/a.jpg", "member": None, "location": None, "position": None, "size_bytes": listed_bytes}
    return _read_in_room(of_row, row, settings)["read"]


@pytest.mark.parametrize(
    ("n_bytes", "listed_bytes", "outcome", "limits"),
    [
        (1000, 1000, 1000, [LARGE_OBJECT_BYTES]),
        (1000, None, 1000, [LARGE_OBJECT_BYTES]),
        (LARGE_OBJECT_BYTES, None, LARGE_OBJECT_BYTES, [LARGE_OBJECT_BYTES]),
        (LARGE_OBJECT_BYTES + 1, None, LARGE_OBJECT_BYTES + 1, [LARGE_OBJECT_BYTES, MOST]),
        (LARGE_OBJECT_BYTES + 1, LARGE_OBJECT_BYTES + 1, LARGE_OBJECT_BYTES + 1, [MOST]),
        (MOST + 1, None, "too_large", [LARGE_OBJECT_BYTES, MOST]),
        (MOST + 1, MOST + 1, "too_large", []),
        (1000, 999, "changed_since_listing", [LARGE_OBJECT_BYTES]),
        (MOST, 1000, "changed_since_listing", [LARGE_OBJECT_BYTES]),
    ],
)
def test_no_more_is_held_than_was_said_or_than_there_is_room_for(
    n_bytes: int, listed_bytes: int | None, outcome: Any, limits: list[int]
) -> None:
    store = Store(n_bytes)
    assert read(store, listed_bytes) == outcome
    assert store.limits == limits


@pytest.mark.parametrize("listed_bytes", [None, 900])
def test_a_limit_below_that_of_large_objects_is_the_limit_of_every_read(listed_bytes: int | None) -> None:
    store = Store(2000)
    assert read(store, listed_bytes, most=1000) == "too_large"
    assert store.limits == [1000]
