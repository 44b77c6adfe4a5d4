"""Spatial verification of pairs: a task compares the thumbnails of query images with those of their candidates.

Runs on executors. Part of the step cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pyarrow as pa
from cachetools import LRUCache

from dedup_spark.columns import Columns
from dedup_spark.errors import TableError
from dedup_spark.kernels.clusters import geometry, probability, verification

VERIFIED = Columns(
    "image_id_a bigint, image_id_b bigint, n_inliers int, agreement float, contested float, conclusive boolean, "
    "copy_probability float"
)
_MAX_DESCRIBED = 500
"""Described thumbnails that a task keeps, about 0.35 MB each."""


def verify_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Parts in order, of each first its thumbnails (rows without `query_id`), then its queries; to rows of VERIFIED.

    A query is the image `query_id` with its `candidates` and its `neighbours`, the images that may support a pair.
    """
    cv2.setNumThreads(1)
    number, part = None, _Part()
    for row in (row for batch in batches for row in batch.to_pylist()):
        if row["part"] != number:
            number, part = row["part"], _Part()
        if row["query_id"] is None:
            part.thumbnails[row["image_id"]] = row["thumbnail"]
        else:
            yield _verify(row, part)


class _Part:
    """The thumbnails of a part, and those described last."""

    def __init__(self) -> None:
        self.thumbnails: dict[int, bytes] = {}
        self._described: LRUCache[int, geometry.Described] = LRUCache(_MAX_DESCRIBED)

    def described(self, image_id: int) -> geometry.Described:
        if image_id not in self._described:
            if image_id not in self.thumbnails:
                raise TableError(f"image {image_id} has no thumbnail in features: run extract again")
            self._described[image_id] = geometry.describe(self.thumbnails[image_id])
        return self._described[image_id]


def _verify(query: dict[str, list[int]], part: _Part) -> pa.RecordBatch:
    query_id, candidates = query["query_id"], query["candidates"]
    compared = set(candidates)
    found = verification.verify_candidates(
        part.described(query_id),  # type: ignore[arg-type]
        [part.described(i) for i in candidates],
        lambda: [part.described(i) for i in query["neighbours"] if i not in compared],
    )
    p = probability.posterior(np.array(query["priors"], np.float64), found)
    ids = np.array(candidates, np.int64)
    unknown = np.isnan(found.agreement)
    columns = [
        np.minimum(ids, query_id),
        np.maximum(ids, query_id),
        found.n_inliers.astype(np.int32),
        pa.array(found.agreement, mask=unknown),
        pa.array(probability.contested(found).astype(np.float32), mask=unknown),
        pa.array(probability.is_conclusive(found)),
        p.astype(np.float32),
    ]
    return pa.RecordBatch.from_arrays([pa.array(c) for c in columns], VERIFIED.names)
