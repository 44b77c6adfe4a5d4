"""All images that can be found: those of a finished run, and those that were added since. One numbering of rows."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from cachetools import LRUCache

from dedup_spark.errors import TableError
from dedup_spark.kernels.arrays import Bools, Float16, Float32, Int64
from dedup_spark.kernels.comparing.query_images import content_key
from dedup_spark.kernels.comparing.weighing import Thumbnail
from dedup_spark.kernels.features.hashing import hamming_bits
from dedup_spark.kernels.vectors import cosines, to_float32
from dedup_spark.lookup.added import Added, Entry
from dedup_spark.lookup.proposing import Compared, near_phashes
from dedup_spark.lookup.run_pairs import Beside
from dedup_spark.lookup.snapshot import Facts, Snapshot, unit

_MAX_DESCRIBED = 500
"""Thumbnails that are kept described, 0.45 MB each: what is looked up again and again is near the same images."""


class Library:
    """Rows from 0 are those of the snapshot, those behind them of what was added. Used by any number of threads."""

    def __init__(self, snapshot: Snapshot, added: Added) -> None:
        self.snapshot, self.added = snapshot, added
        self._described: LRUCache[int, Thumbnail] = LRUCache(_MAX_DESCRIBED)
        self._lock = threading.Lock()

    def is_added(self, row: int) -> bool:
        return row >= self.added.first_row

    def thumbnail(self, row: int) -> bytes | None:
        """The stored JPEG."""
        return (self.added if self.is_added(row) else self.snapshot).thumbnail(row)

    def facts(self, row: int) -> Facts:
        """As `Snapshot.facts`."""
        return (self.added if self.is_added(row) else self.snapshot).facts(row)

    def described(self, row: int) -> Thumbnail:
        """The thumbnail for comparisons; what it is described by is kept. Raises TableError where there is none."""
        with self._lock:
            known = self._described.get(row)
        if known is None:
            jpeg = self.thumbnail(row)
            if jpeg is None:
                raise TableError(f"image {self.facts(row)['uri']} has no thumbnail in features: run extract again")
            known = Thumbnail(jpeg)
            with self._lock:
                self._described[row] = known
        return known

    def rows_with(self, column: str, digest: str) -> Int64:
        """The rows whose `content_hash` or `pixel_hash` is this one."""
        return np.concatenate([self.snapshot.rows_with(column, digest), self.added.rows_with(column, digest)])

    def hashes(self, row: int) -> tuple[str, str, int]:
        """content_hash, pixel_hash and phash."""
        if self.is_added(row):
            entry = self.added.entry(row)
            return entry.content_hash, entry.signature.pixel_hash, entry.signature.phash
        at = np.array([row])
        of_run = self.snapshot
        return of_run.content_hash(row), of_run.pixel_hash(row), int(of_run.phashes_of(at)[0])

    def compare(self, phash: int, vector: Float16 | None, leave_out: Int64, *, exactly: bool) -> Compared:
        """All pictures that may be near, by either, with their exact scores; but those of `leave_out`."""
        by_hash = self._near_phashes(phash)
        found = [by_hash]
        if vector is not None:
            x = unit(vector)
            found += [self.snapshot.near(x, exactly=exactly), self.added.near(x, self.snapshot.floor)]
        rows = np.setdiff1d(np.concatenate(found), leave_out)
        return Compared(
            rows,
            self._similarities(rows, vector),
            hamming_bits(np.full(len(rows), phash, np.int64), self.phashes(rows)).astype(np.int64),
            np.isin(rows, by_hash),
            self._ranks(rows),
        )

    def are_near(self, rows: Int64, others: Int64) -> Bools:
        """(m,) of which rows match would propose a pair with one of the others, by its cosine or the pHashes. Both
        ascend."""
        settings = self.snapshot.run.config.match
        a, b = (self.phashes(part).view(np.uint64) for part in (rows, others))
        near = np.bitwise_count(a[:, None] ^ b[None]) <= settings.max_hamming_bits
        products = self._units(rows) @ self._units(others).T
        return np.asarray((near | (products >= settings.min_similarity)).any(axis=1))

    def _units(self, rows: Int64) -> Float32:
        """(m, d) of length 1, zeros for images without a vector."""
        width = 1 if self.snapshot.scan is None else self.snapshot.vectors(self.snapshot.pictures[:1]).shape[1]
        found = np.zeros((len(rows), width), np.float32)
        for part, of in self._parts(rows):
            held = np.flatnonzero(part)[of.has_vector(rows[part])]
            if len(held):
                x = to_float32(of.vectors(rows[held]))
                found[held] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-15)
        return found

    def _near_phashes(self, phash: int) -> Int64:
        settings, first = self.snapshot.run.config.match, self.added.first_row
        of_run = self.snapshot.pictures[near_phashes(phash, self.snapshot.phashes, settings)]
        of_added = near_phashes(phash, self.added.phashes, settings) + first
        return np.concatenate([of_run, of_added[self.added.is_open(of_added)]])

    def _similarities(self, rows: Int64, vector: Float16 | None) -> Float32:
        """(m,) cosines, nan where one of the two has no vector."""
        found = np.full(len(rows), np.nan, np.float32)
        if vector is None or not len(rows):
            return found
        for part, of in self._parts(rows):
            held = np.flatnonzero(part)[of.has_vector(rows[part])]
            if len(held):
                theirs = of.vectors(rows[held])
                found[held] = cosines(np.broadcast_to(vector, theirs.shape), theirs)
        return found

    def beside(self, row: int) -> Beside | None:
        """With what the run compared a picture; None of one that was added since."""
        return None if self.is_added(row) else self.snapshot.beside(row)

    def content_keys(self, rows: Int64) -> Int64:
        """(m,) of rows that ascend; see query_images.py."""
        return self._of_each(rows, self.snapshot.content_keys, lambda e: content_key(e.signature.pixel_hash))

    def image_ids(self, rows: Int64) -> Int64:
        """(m,) of rows that ascend; the largest number for what was added, which has none yet."""
        return self._of_each(rows, self.snapshot.image_ids, lambda _: np.iinfo(np.int64).max)

    def _of_each(self, rows: Int64, of_run: Callable[[Int64], Int64], of_added: Callable[[Entry], int]) -> Int64:
        is_own = rows < self.added.first_row
        added = [of_added(self.added.entry(row)) for row in rows[~is_own].tolist()]
        return np.concatenate([of_run(rows[is_own]), np.array(added, np.int64)])

    def phashes(self, rows: Int64) -> Int64:
        """(m,) of rows that ascend."""
        return self._of_each(rows, self.snapshot.phashes_of, lambda entry: entry.signature.phash)

    def _ranks(self, rows: Int64) -> Float32:
        return np.concatenate([of.ranks(rows[part]) for part, of in self._parts(rows)])

    def _parts(self, rows: Int64) -> list[tuple[Bools, Snapshot | Added]]:
        """Rows ascend, so the values of the parts one behind the other are in their order."""
        is_added = rows >= self.added.first_row
        return [(~is_added, self.snapshot), (is_added, self.added)]
