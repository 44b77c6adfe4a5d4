"""With what a run compared each image: its candidates and its nearest, which vote on whether it and another are copies.

A run weighs each pair in doubt at one of its two images, the query image. Where that is the image of the lake and not
the one that is looked up, a look-up needs these lists to come to the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup_spark.kernels.arrays import Bools, Float32, Int64
from dedup_spark.kernels.comparing.query_images import MAX_CANDIDATES, NEIGHBOUR_SIMILARITY, NEIGHBOURS, is_query
from dedup_spark.vocabulary import ComparedFor

READ = ("image_id_a", "image_id_b", "similarity", "n_inliers")
"""Columns of evidence."""
FOR_MATCH = pc.field("compared_for") == ComparedFor.MATCH
"""Its rows: those of the pairs that match proposed."""


@dataclass(frozen=True, eq=False)
class Beside:
    """The images beside one of the lake, the nearest first: rows and cosines.

    `candidates` (c,) are those of which it was the query image; `is_sure` says of which cosine and pHash left no doubt.
    `nearest` (m,), at most NEIGHBOURS, are the nearest of all that match proposed.
    """

    candidates: Int64
    similarity: Float32
    is_sure: Bools
    nearest: Int64
    nearest_similarity: Float32

    def voting_on(self, own_rows: frozenset[int], similarity: float) -> tuple[Int64, Int64]:
        """The rows that vote on an image of this cosine, were it in the lists: (k,) companions, (m,) neighbours.

        Args:
            own_rows: Rows of the image itself, which the run may hold already.
        """
        is_other = ~np.isin(self.candidates, [*own_rows])
        others, sure = self.candidates[is_other], self.is_sure[is_other]
        place = int(np.count_nonzero(self.similarity[is_other] > np.float32(similarity)))
        start = place // MAX_CANDIDATES * MAX_CANDIDATES
        chunk = slice(start, start + MAX_CANDIDATES - 1)
        nearest = self.nearest[~np.isin(self.nearest, [*own_rows])]
        is_near = similarity >= NEIGHBOUR_SIMILARITY
        ahead = np.count_nonzero(self.nearest_similarity > np.float32(similarity)) < NEIGHBOURS
        neighbours = nearest[: NEIGHBOURS - int(is_near and ahead)]
        return others[chunk][~sure[chunk]], np.setdiff1d(neighbours, others[chunk])


def beside_columns(evidence: pa.Table, rows_a: Int64, rows_b: Int64, ids: Int64, keys: Int64) -> dict[str, pa.Array]:
    """`candidates` and `nearest` of each image, lists of (row, similarity) as in `Beside`.

    Args:
        evidence: Rows with READ, of pairs whose images have the rows `rows_a` and `rows_b`.
        ids, keys: (n,) image_id and content key of each row.
    """
    similarity = evidence["similarity"].to_numpy().astype(np.float32)
    weighed = np.flatnonzero(evidence["n_inliers"].is_valid().to_numpy())
    a, b = rows_a[weighed], rows_b[weighed]
    a_asks = is_query(keys[a], keys[b])
    asking, asked = np.where(a_asks, a, b), np.where(a_asks, b, a)
    near = np.flatnonzero(similarity >= np.float32(NEIGHBOUR_SIMILARITY))
    ends = np.concatenate([rows_a[near], rows_b[near]]), np.concatenate([rows_b[near], rows_a[near]])
    return {
        "candidates": _lists(asking, asked, similarity[weighed], ids),
        "nearest": _lists(*ends, np.tile(similarity[near], 2), ids, NEIGHBOURS),
    }


def _lists(of: Int64, other: Int64, similarity: Float32, ids: Int64, most: int | None = None) -> pa.LargeListArray:
    """Of each image its others, the nearest first, ties by id; at most `most` of them."""
    order = np.lexsort((ids[other], -similarity, of))
    starts = np.searchsorted(of[order], np.arange(len(ids) + 1))
    if most is not None:
        is_kept = np.arange(len(order)) - starts[of[order]] < most
        order = order[is_kept]
        starts = np.searchsorted(of[order], np.arange(len(ids) + 1))
    values = pa.StructArray.from_arrays([pa.array(other[order]), pa.array(similarity[order])], ["row", "similarity"])
    return pa.LargeListArray.from_arrays(pa.array(starts.astype(np.int64)), values)


def numbers(lists: Any, row: int) -> tuple[npt.NDArray[np.int64], Float32]:
    """Rows and cosines in the list of one image."""
    values = lists[row].values
    return values.field("row").to_numpy(), values.field("similarity").to_numpy()
