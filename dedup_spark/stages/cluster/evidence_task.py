"""Pairs in doubt are weighed: tasks find the keypoints of thumbnails, others compare query images with candidates.

The comparison itself is `weigh` in kernels/comparing/weighing.py.

Runs on executors. Part of the step cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from cachetools import LRUCache

from dedup_spark.columns import Columns
from dedup_spark.errors import TableError
from dedup_spark.kernels.arrays import Int64
from dedup_spark.kernels.comparing import colours, keypoints
from dedup_spark.kernels.comparing.weighing import Scores, Thumbnail, Weighed, keypoints_of, weigh

VERIFIED = Columns(
    "image_id_a bigint, image_id_b bigint, n_inliers int, agreement float, contested float, covered_a float, "
    "covered_b float, changed float, two_sided float, colour_change string, conclusive boolean, copy_probability float"
)
DESCRIBED = Columns("image_id bigint, parts array<int>, thumbnail binary, keypoints binary")
_DESCRIBED_TOGETHER = 64
"""Images of one batch that goes back to Spark: 5 MB."""
_MAX_DECODED = 500
"""Thumbnails that a task keeps decoded, about 0.45 MB each: queries come in the order of their labels, so that those of
one picture follow each other."""


def describe_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows of DESCRIBED, with keypoints where `is_aligned`; image_id, parts and thumbnail are as they come.

    An image without a thumbnail has no keypoints either: `verify_batches` says so, if it is needed.
    """
    cv2.setNumThreads(1)
    for batch in batches:
        for first in range(0, batch.num_rows, _DESCRIBED_TOGETHER):
            some = batch.slice(first, _DESCRIBED_TOGETHER)
            aligned = zip(some["thumbnail"].to_pylist(), some["is_aligned"].to_pylist(), strict=True)
            found = [keypoints.pack(keypoints_of(jpeg)) if jpeg and needed else None for jpeg, needed in aligned]
            columns = [*(some[name] for name in DESCRIBED.names[:-1]), pa.array(found, pa.binary())]
            yield pa.RecordBatch.from_arrays(columns, schema=DESCRIBED.arrow)


def verify_batches(batches: Iterable[pa.RecordBatch], *, join_recoloured: bool = False) -> Iterator[pa.RecordBatch]:
    """Parts in order, of each first its thumbnails (rows without `query_id`), then its queries; to rows of VERIFIED.

    A query is the image `query_id` with its `candidates`, of each of which `scores` has prior, hamming_bits and
    is_sure, and with its `neighbours`, the images that may support a pair.
    """
    cv2.setNumThreads(1)
    number, part = None, _Part()
    for row in (row for batch in batches for row in batch.to_pylist()):
        if row["part"] != number:
            number, part.stored = row["part"], {}
        if row["query_id"] is None:
            part.stored[row["image_id"]] = row["thumbnail"], row["keypoints"]
        else:
            yield _verify(row, part, join_recoloured)


class _Part:
    """The thumbnails of a part with their keypoints, and those decoded last, in this part or in one before."""

    def __init__(self) -> None:
        self.stored: dict[int, tuple[bytes | None, bytes | None]] = {}
        self._decoded: LRUCache[int, Thumbnail] = LRUCache(_MAX_DECODED)

    def thumbnail(self, image_id: int) -> Thumbnail:
        if image_id not in self._decoded:
            jpeg, packed = self.stored.get(image_id, (None, None))
            if jpeg is None:
                raise TableError(f"image {image_id} has no thumbnail in features: run extract again")
            self._decoded[image_id] = Thumbnail(jpeg, None if packed is None else keypoints.unpack(packed))
        return self._decoded[image_id]


def _verify(query: dict[str, Any], part: _Part, join_recoloured: bool) -> pa.RecordBatch:
    query_id, candidates = query["query_id"], query["candidates"]
    others = set(query["neighbours"]) - set(candidates)
    found = weigh(
        part.thumbnail(query_id),
        [part.thumbnail(i) for i in candidates],
        _scores(query["scores"]),
        lambda: [part.thumbnail(i) for i in query["neighbours"] if i in others],
        join_recoloured=join_recoloured,
    )
    return pa.RecordBatch.from_arrays(list(_columns(query_id, np.array(candidates, np.int64), found)), VERIFIED.names)


def _scores(rows: list[dict[str, Any]]) -> Scores:
    return Scores(
        np.array([r["prior"] for r in rows], np.float64),
        np.array([r["hamming_bits"] for r in rows], np.int64),
        np.array([r["is_sure"] for r in rows], np.bool_),
    )


def _columns(query_id: int, ids: Int64, found: Weighed) -> Iterator[pa.Array]:
    """In the order of VERIFIED: numbers of `a` are those of the smaller id."""
    d, query_is_a = found.differences, query_id < ids
    unknown, apart = np.isnan(found.agreement), ~found.differences.compared
    yield from (pa.array(f(ids, query_id)) for f in (np.minimum, np.maximum))
    yield pa.array(found.n_inliers.astype(np.int32))
    yield pa.array(found.agreement, mask=unknown)
    yield pa.array(found.contested.astype(np.float32), mask=unknown)
    for shares in (np.where(query_is_a, d.covered_a, d.covered_b), np.where(query_is_a, d.covered_b, d.covered_a)):
        yield pa.array(shares.astype(np.float32), mask=apart)
    yield from (pa.array(shares.astype(np.float32), mask=apart) for shares in (d.changed, d.two_sided))
    yield pa.array(colours.changes(d.colour), pa.string())
    yield pa.array(found.is_conclusive)
    yield pa.array(found.copy_probability.astype(np.float32))
