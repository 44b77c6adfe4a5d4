"""Images that were added since the last run, in memory: all are compared, as they are few beside the lake.

2 KB each, with the vector as float32; 10,000 of them cost 1 ms a look-up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from dedup_spark.kernels.arrays import Bools, Float16, Float32, Int64, UInt8
from dedup_spark.kernels.features.signature import Signature
from dedup_spark.lookup.run_file import NO_RANK, RANKS
from dedup_spark.lookup.scanning import FLOAT16_MARGIN
from dedup_spark.lookup.snapshot import Facts, unit

_FACTS = ("phash", "width_px", "height_px", "n_frames", "frame_phashes", "duration_ms", "captured_at", "camera")
_UNKNOWN = ("image_id", "member", "cluster_id", "cluster_size", "keeper_image_id", "guard", "relation")


@dataclass(frozen=True, slots=True)
class Entry:
    """One added image.

    Attributes:
        uri: Its canonical address.
        added_at: UTC.
        model_id: Of its vector, little-endian float16; None without one.
        ranks: As `run_file.RANKS`, by the images that were known when it was added.
        signature: Without the model's input.
    """

    uri: str
    added_at: datetime
    content_hash: str
    model_id: str | None
    embedding: bytes | None
    ranks: list[float]
    signature: Signature


@dataclass(frozen=True, slots=True)
class Removal:
    """What was added at an address until then is there no more. `address`: its digest, as nothing is to name it."""

    address: bytes
    at: datetime


Record = Entry | Removal


def address_digest(uri: str) -> bytes:
    """SHA-256 of an address, whatever text it is."""
    return hashlib.sha256(uri.encode("utf-8", "surrogatepass")).digest()


class Added:
    """The entries that are open; a row is the number of one from `first_row`. Entries join it while others read: a
    reader sees those that were there when it began, and more do no harm. Of an address the last one counts."""

    def __init__(self, first_row: int, model_id: str | None) -> None:
        self.first_row, self._model_id = first_row, model_id
        self._entries: list[Entry] = []
        self._by_hash: dict[str, list[int]] = {}
        self._by_address: dict[bytes, int] = {}
        self._phashes, self._embedded, self._is_open = _Growing(np.int64), _Growing(np.int64), _Growing(np.bool_)
        self._units: _Growing | None = None

    def __len__(self) -> int:
        return len(self._by_address)

    def extend(self, records: Iterable[Record]) -> None:
        """Add more, or take some away. One thread at a time. What is there already is not added again."""
        for record in records:
            if isinstance(record, Entry):
                self._put(record)
            elif (row := self._by_address.get(record.address)) is not None and self.entry(row).added_at <= record.at:
                self._close(record.address)

    def at(self, uri: str) -> Entry | None:
        """What was added at this address."""
        row = self._by_address.get(address_digest(uri))
        return None if row is None else self.entry(row)

    def is_open(self, rows: Int64) -> Bools:
        """(m,) which of the rows count."""
        return np.asarray(self._is_open.rows()[rows - self.first_row], bool)

    def _put(self, entry: Entry) -> None:
        held = self.at(entry.uri)
        if held is not None and held.content_hash == entry.content_hash:
            return
        address, row = address_digest(entry.uri), self.first_row + len(self._entries)
        self._add(entry, row)
        if held is not None:
            self._close(address)
        self._by_address[address] = row

    def _close(self, address: bytes) -> None:
        self._is_open.rows()[self._by_address.pop(address) - self.first_row] = False

    def _add(self, entry: Entry, row: int) -> None:
        self._entries.append(entry)
        self._is_open.append(np.bool_(True))
        self._phashes.append(np.int64(entry.signature.phash))
        if entry.embedding is not None and entry.model_id == self._model_id:
            vector = unit(np.frombuffer(entry.embedding, "<f2"))
            self._embedded.append(np.int64(row))
            self._units = self._units or _Growing(np.float32, len(vector))
            self._units.append(vector)
        for digest in (f"c{entry.content_hash}", f"p{entry.signature.pixel_hash}"):
            self._by_hash.setdefault(digest, []).append(row)

    @property
    def phashes(self) -> UInt8:
        """(n, 8)."""
        return np.ascontiguousarray(self._phashes.rows()).view(np.uint8).reshape(-1, 8)

    def entry(self, row: int) -> Entry:
        """That of a row."""
        return self._entries[row - self.first_row]

    def rows_with(self, column: str, digest: str) -> Int64:
        """The rows whose `content_hash` or `pixel_hash` is this one."""
        rows = np.array([*self._by_hash.get(f"{column[0]}{digest}", ())], np.int64)
        return rows[self.is_open(rows)]

    def near(self, vector: Float32, lowest: float) -> Int64:
        """The rows whose cosine to a vector of length 1 may be at least `lowest`."""
        if self._units is None:
            return np.empty(0, np.int64)
        units = self._units.rows()
        near = np.flatnonzero(units @ vector >= np.float32(lowest - FLOAT16_MARGIN))
        rows = np.asarray(self._embedded.rows()[near], np.int64)
        return rows[self.is_open(rows)]

    def has_vector(self, rows: Int64) -> Bools:
        """(m,) which of the rows can be compared with the vectors of the lake."""
        return np.isin(rows, self._embedded.rows())

    def vectors(self, rows: Int64) -> Float16:
        """(m, d) float16 of rows that have one."""
        return np.stack([np.frombuffer(self.entry(row).embedding or b"", "<f2") for row in rows.tolist()])

    def ranks(self, rows: Int64) -> Float32:
        """(m, 4): as `Snapshot.ranks`."""
        found = [self.entry(row).ranks for row in rows.tolist()]
        return np.array(found, np.float32).reshape(-1, len(RANKS))

    def thumbnail(self, row: int) -> bytes | None:
        """The JPEG, as features would store it."""
        return self.entry(row).signature.thumbnail

    def facts(self, row: int) -> Facts:
        """As `Snapshot.facts`; what only a run knows is None."""
        entry = self.entry(row)
        known: Facts = {name: getattr(entry.signature, name) for name in _FACTS}
        return dict.fromkeys(_UNKNOWN) | known | {"uri": entry.uri, "is_keeper": False, "n_equal": 1}


class _Growing:
    """Rows of one dtype, to which more are added; twice as much is allocated when it is full."""

    def __init__(self, dtype: type[np.generic], *shape: int) -> None:
        self._n, self._all = 0, np.empty((64, *shape), dtype)

    def append(self, row: Any) -> None:
        if self._n == len(self._all):
            self._all = np.concatenate([self._all, np.empty_like(self._all)])
        self._all[self._n] = row
        self._n += 1

    def rows(self) -> Any:
        return self._all[: self._n]


def ranks_of(cosines: Float32, neighbours: int, rank: int) -> list[float]:
    """`run_file.RANKS` of an image whose neighbours have these cosines."""
    nearest = np.sort(cosines)[::-1][:neighbours]
    wanted = (rank - 1, rank, neighbours - 1, neighbours)
    return [float(nearest[r - 1]) if 0 < r <= len(nearest) else NO_RANK for r in wanted]
