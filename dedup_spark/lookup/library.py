"""All images that can be found: those of a finished run, and those that were added since. One numbering of rows."""

from __future__ import annotations

import threading

import numpy as np
from cachetools import LRUCache

from dedup_spark.errors import TableError
from dedup_spark.kernels.arrays import Bools, Float16, Float32, Int64
from dedup_spark.kernels.clusters.weighing import Thumbnail
from dedup_spark.kernels.features.hashing import hamming_bits
from dedup_spark.kernels.vectors import cosines
from dedup_spark.lookup.added import Added
from dedup_spark.lookup.proposing import Compared, near_phashes
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

    def rows_with(self, column: str, digest: str) -> list[int]:
        """The rows whose `content_hash` or `pixel_hash` is this one."""
        return [*self.snapshot.rows_with(column, digest).tolist(), *self.added.rows_with(column, digest)]

    def hashes(self, row: int) -> tuple[str, str, int]:
        """content_hash, pixel_hash and phash."""
        if self.is_added(row):
            entry = self.added.entry(row)
            return entry.content_hash, entry.signature.pixel_hash, entry.signature.phash
        at = np.array([row])
        of_run = self.snapshot
        return of_run.content_hash(row), of_run.pixel_hash(row), int(of_run.phashes_of(at)[0])

    def compare(self, phash: int, vector: Float16 | None, leave_out: set[int], *, exactly: bool) -> Compared:
        """All pictures that may be near, by either, with their exact scores; but those of `leave_out`."""
        by_hash = self._near_phashes(phash)
        found = [by_hash]
        if vector is not None:
            x = unit(vector)
            found += [self.snapshot.near(x, exactly=exactly), self.added.near(x, self.snapshot.floor)]
        rows = np.setdiff1d(np.concatenate(found), np.array([*leave_out], np.int64))
        return Compared(
            rows,
            self._similarities(rows, vector),
            hamming_bits(np.full(len(rows), phash, np.int64), self._phashes(rows)).astype(np.int64),
            np.isin(rows, by_hash),
            self._ranks(rows),
        )

    def are_near(self, row: int, other: int) -> bool:
        """Whether match would propose the pair, by its cosine or the pHashes."""
        settings, pair = self.snapshot.run.config.match, np.array([row, other], np.int64)
        a, b = self._phashes(np.sort(pair)).tolist()
        if ((a ^ b) & (2**64 - 1)).bit_count() <= settings.max_hamming_bits:
            return True
        vectors = [of.vectors(rows) for rows, of in self._embedded(np.sort(pair)) if len(rows)]
        both = np.concatenate(vectors) if vectors else np.empty((0, 0), np.float16)
        return len(both) == 2 and float(cosines(both[:1], both[1:])[0]) >= settings.min_similarity

    def _embedded(self, rows: Int64) -> list[tuple[Int64, Snapshot | Added]]:
        """Those of the rows, which ascend, that have a vector, by where it is."""
        return [(rows[part][of.has_vector(rows[part])], of) for part, of in self._parts(rows)]

    def _near_phashes(self, phash: int) -> Int64:
        settings, first = self.snapshot.run.config.match, self.added.first_row
        of_run = self.snapshot.pictures[near_phashes(phash, self.snapshot.phashes, settings)]
        return np.concatenate([of_run, near_phashes(phash, self.added.phashes, settings) + first])

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

    def _phashes(self, rows: Int64) -> Int64:
        of_added = [self.added.entry(row).signature.phash for row in rows.tolist() if self.is_added(row)]
        own = rows[rows < self.added.first_row]
        return np.concatenate([self.snapshot.phashes_of(own), np.array(of_added, np.int64)])

    def _ranks(self, rows: Int64) -> Float32:
        return np.concatenate([of.ranks(rows[part]) for part, of in self._parts(rows)])

    def _parts(self, rows: Int64) -> list[tuple[Bools, Snapshot | Added]]:
        """Rows ascend, so the values of the parts one behind the other are in their order."""
        is_added = rows >= self.added.first_row
        return [(~is_added, self.snapshot), (is_added, self.added)]
