"""The images of one finished run, ready to be looked up: hashes and vectors mapped, sketches in memory.

In memory are, for each picture (images of equal pixels are one), a sketch of as many bits as the filter of match reads,
its pHash and the row that it is: 256 bits make 48 bytes, 1,024 bits 144. All else is mapped from files, of which the
system keeps in memory what is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_spark.kernels.arrays import Bools, Float16, Float32, Int64, UInt8
from dedup_spark.kernels.comparing import probability
from dedup_spark.kernels.features.hashing import digest_of, hamming_bits
from dedup_spark.kernels.joins.sketches import SketchFilter, choose_filter, negatives_of
from dedup_spark.kernels.vectors import to_float32
from dedup_spark.lookup import data_files, run_file
from dedup_spark.lookup.data_files import bytes_of
from dedup_spark.lookup.finished import FinishedRun
from dedup_spark.lookup.run_pairs import Beside, numbers
from dedup_spark.lookup.scanning import EXACT_ROWS, ExactScan, Scan, SketchScan, near_of_all
from dedup_spark.store import reader
from dedup_spark.store.schema import FEATURES

Facts = dict[str, Any]

_SAMPLE = 1_000
_SKETCH_DEPTH = 0.15
"""By so much match looks below match.min_similarity for neighbours by sketches: `stages/match/floors.py`."""
_OF_RUN = (
    "image_id", "phash", "uri", "member", "cluster_id", "cluster_size", "keeper_image_id", "is_keeper", "relation",
    "guard", "n_equal",
)  # fmt: skip
_OF_IMAGE = ("width_px", "height_px", "n_frames", "frame_phashes", "duration_ms", "captured_at", "camera")


class Snapshot:
    """The readable images of a finished run; a row is the number of one. Read by any number of threads."""

    def __init__(self, run: FinishedRun, images: pa.Table, of_run: pa.Table) -> None:
        self.run, self._images, self._of_run = run, images, of_run
        self._starts = np.cumsum([0, *(len(chunk) for chunk in images["image_id"].chunks)])[:-1]
        self.pictures, self.n_vectors = self._pictures()
        self.phashes = np.ascontiguousarray(self.phashes_of(self.pictures)).view(np.uint8).reshape(-1, 8)
        self.model_id = self._model_id()
        self.floor = min(run.floor if run.floor is not None else 1.0, run.config.match.min_similarity)
        self.scan: Scan | None = self._scan() if self.n_vectors else None

    def __len__(self) -> int:
        return len(self._of_run)

    def thumbnail(self, row: int) -> bytes | None:
        """The stored JPEG."""
        jpeg: bytes | None = self._images["thumbnail"][row].as_py()
        return jpeg

    def facts(self, row: int) -> Facts:
        """What is known of one image: `_OF_IMAGE` and `_OF_RUN`."""
        of_image = {c: self._images[c][row].as_py() for c in _OF_IMAGE if c in self._images.schema.names}
        return of_image | {c: self._of_run[c][row].as_py() for c in _OF_RUN}

    def vectors(self, rows: Int64) -> Float16:
        """(m, d) float16, of rows that have one."""
        chunks = self._images["embedding"].chunks
        found = np.empty((len(rows), chunks[0].type.byte_width // 2 if chunks else 0), np.float16)
        of_chunk = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(of_chunk).tolist():
            here = np.flatnonzero(of_chunk == number)
            found[here] = _halves(chunks[number])[rows[here] - self._starts[number]]
        return found

    def rows_with(self, column: str, digest: str) -> Int64:
        """The rows whose `content_hash` or `pixel_hash` is this one, the smallest image_id first."""
        keys, order = (self._column(f"{prefix}{_KEYS[column]}") for prefix in ("", "by_"))
        wanted = bytes.fromhex(digest_of(digest))
        word = np.frombuffer(wanted[:8], np.uint64)[0]
        low, high = int(np.searchsorted(keys, word, "left")), int(np.searchsorted(keys, word, "right"))
        rows = np.asarray(order[low:high], np.int64)
        rows = rows[self._holds(column, wanted, rows)]
        return rows[np.argsort(self._column("image_id")[rows])]

    def _holds(self, column: str, wanted: bytes, rows: Int64) -> Bools:
        """(m,) at which of the rows the column has these 32 bytes."""
        held, own = np.zeros(len(rows), bool), np.frombuffer(wanted, np.uint8)
        of_chunk = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(of_chunk).tolist():
            here = np.flatnonzero(of_chunk == number)
            values = bytes_of(self._images[column].chunk(number))[rows[here] - self._starts[number]]
            held[here] = (values == own).all(axis=1)
        return held

    def row_of(self, image_id: int) -> int | None:
        """The row of this image; None where there is none."""
        keys, order = self._column("ids"), self._column("by_ids")
        place = int(np.searchsorted(keys, image_id))
        return int(order[place]) if place < len(keys) and keys[place] == image_id else None

    def contents_at(self, uris: Sequence[str]) -> dict[str, set[str]]:
        """The content hashes of the images at these addresses: one pass over all addresses."""
        held = pc.is_in(self._of_run["uri"], value_set=pa.array(uris, pa.large_string())).combine_chunks()
        found: dict[str, set[str]] = {}
        for row in np.flatnonzero(held.to_numpy(zero_copy_only=False)).tolist():
            found.setdefault(self._of_run["uri"][row].as_py(), set()).add(self.content_hash(row))
        return found

    def near(self, vector: Float32, *, exactly: bool = False) -> Int64:
        """Rows of pictures whose cosine to a vector of length 1 may be at least `floor`."""
        if self.scan is None:
            return np.empty(0, np.int64)
        if not exactly or isinstance(self.scan, ExactScan):
            return self.pictures[self.scan.near(vector, self.floor)]
        found = [
            near_of_all(vector, _halves(chunk), self.floor) + start
            for chunk, start in zip(self._images["embedding"].chunks, self._starts.tolist(), strict=True)
        ]
        rows = np.concatenate(found)
        return rows[np.isin(rows, self.pictures[: self.n_vectors])]

    def phashes_of(self, rows: Int64) -> Int64:
        """(m,)."""
        return np.asarray(self._column("phash")[rows], np.int64)

    def content_keys(self, rows: Int64) -> Int64:
        """(m,) see query_images.py."""
        return np.asarray(self._column("key")[rows], np.int64)

    def image_ids(self, rows: Int64) -> Int64:
        """(m,)."""
        return np.asarray(self._column("image_id")[rows], np.int64)

    def beside(self, row: int) -> Beside:
        """With what the run compared this picture."""
        candidates, similarity = numbers(self._of_run["candidates"], row)
        bits = hamming_bits(np.full(len(candidates), self._of_run["phash"][row].as_py()), self.phashes_of(candidates))
        is_sure = probability.is_sure(similarity.astype(np.float64), bits.astype(np.float64))
        return Beside(candidates, similarity, is_sure, *numbers(self._of_run["nearest"], row))

    def has_vector(self, rows: Int64) -> Bools:
        """(m,) which of the rows, each of a picture, have one."""
        embedded = self.pictures[: self.n_vectors]
        if not len(embedded):
            return np.zeros(len(rows), bool)
        return np.asarray(embedded[np.minimum(np.searchsorted(embedded, rows), len(embedded) - 1)] == rows)

    def ranks(self, rows: Int64) -> Float32:
        """(m, 4): `run_file.RANKS` of these rows."""
        return np.stack([self._column(name)[rows] for name in run_file.RANKS], axis=1).astype(np.float32)

    def content_hash(self, row: int) -> str:
        """SHA-256 of the file, hex."""
        return str(self._images["content_hash"][row].as_py().hex())

    def pixel_hash(self, row: int) -> str:
        """The digits of that in features."""
        return str(self._images["pixel_hash"][row].as_py().hex())

    def _column(self, name: str) -> Any:
        return self._of_run[name].to_numpy() if len(self._of_run) else np.empty(0, np.int64)

    def _pictures(self) -> tuple[Int64, int]:
        """One row for all images of equal pixels, those with a vector first, and how many these are."""
        rows = np.flatnonzero(self._column("n_equal") > 0)
        if "embedding" not in self._images.schema.names:
            return rows, 0
        is_embedded = self._images["embedding"].is_valid().to_numpy()[rows]
        return np.concatenate([rows[is_embedded], rows[~is_embedded]]), int(is_embedded.sum())

    def _model_id(self) -> str | None:
        if not self.n_vectors:
            return None
        found: str = self._images["model_id"][int(self.pictures[0])].as_py()
        return found

    def _scan(self) -> Scan:
        rows = self.pictures[: self.n_vectors]
        if self.n_vectors <= EXACT_ROWS:
            return ExactScan(self.vectors(rows))
        sketch_filter = self.run.sketch_filter or self._chosen_filter(rows)
        n_first, seed = sketch_filter.first_bits // 8, self.run.config.match.seed
        first = np.empty((len(rows), n_first), np.uint8)
        rest = np.empty((len(rows), sketch_filter.rest_bits // 64), np.uint64)
        self._fill(rows, first, rest)
        return SketchScan(first, rest, sketch_filter, seed)

    def _fill(self, rows: Int64, first: UInt8, rest: Any) -> None:
        """The stored sketches of the rows, which ascend, a chunk at a time."""
        n_first, n_bytes = first.shape[1], first.shape[1] + 8 * rest.shape[1]
        for chunk, start in zip(self._images["sketch"].chunks, self._starts.tolist(), strict=True):
            low, high = np.searchsorted(rows, [start, start + len(chunk)]).tolist()
            held = bytes_of(chunk)[rows[low:high] - start, :n_bytes]
            first[low:high] = held[:, :n_first]
            if rest.shape[1]:
                rest[low:high] = np.ascontiguousarray(held[:, n_first:]).view(np.uint64)

    def _chosen_filter(self, rows: Int64) -> SketchFilter:
        """As match would choose it, for a lake that it compared in another way."""
        match = self.run.config.match
        sample = self.vectors(rows[:: -(-len(rows) // _SAMPLE)])
        demands = [(match.min_similarity, match.min_recall)]
        floor = max(self.floor, match.min_similarity - _SKETCH_DEPTH)
        if match.neighbours and floor < match.min_similarity:
            demands.append((floor, match.floor_recall))
        return choose_filter(demands, negatives_of(sample))


_KEYS = {"content_hash": "contents", "pixel_hash": "pixels"}


def _halves(chunk: pa.FixedSizeBinaryArray) -> Float16:
    return bytes_of(chunk).view(np.float16)


def unit(vector: Float16) -> Float32:
    """(d,) float16 as float32 of length 1."""
    x = to_float32(vector[None])[0]
    return np.asarray(x / max(float(np.linalg.norm(x)), 1e-15), np.float32)


def open_snapshot(run: FinishedRun, folder: Path) -> Snapshot:
    """The snapshot of a finished run, from what is kept in `folder`; what is missing there is made from the tables.

    Cost: at first a pass over `features` with thumbnails and vectors (12 KB an image), later the sketches alone.
    """
    features = reader.dataset_of(run.root, FEATURES, run.versions[FEATURES.name])
    images = data_files.images_of(features, folder, run.config.match.seed)
    return Snapshot(run, images, run_file.open_run_file(run, images, folder))


def forget_others(run: FinishedRun, folder: Path) -> None:
    """Delete from the folder what this run does not need; those who have it mapped keep it until they let go."""
    features = reader.dataset_of(run.root, FEATURES, run.versions[FEATURES.name])
    data_files.forget_others(features, folder, run.config.match.seed)
    run_file.forget_others(run, folder)
