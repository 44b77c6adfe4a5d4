"""Vectors of a user's own model to embeddings as `features` holds them: checked, of length one, in float16."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup_spark.kernels.arrays import Bools, Float16, Float64, Int64, UInt8, expect
from dedup_spark.vocabulary import Word


class VectorFault(Word):
    """Why a vector cannot be used, as messages say it."""

    NONE = "no vector"
    DIMENSIONS = "other dimensions"
    NAN = "a number that is NaN, infinite or missing"
    ZERO = "all numbers zero"


FAULTS: tuple[VectorFault | None, ...] = (None, *VectorFault)
"""What the numbers of `to_embeddings` mean; 0 is no fault."""


def to_embeddings(values: npt.NDArray[np.floating], lengths: Int64, n_dimensions: int) -> tuple[Float16, UInt8]:
    """(n, d) float16 rows of length 1, zero where a vector cannot be used, and (n,) the position in FAULTS of why.

    Args:
        values: (m,) the numbers of all vectors, one vector after another; NaN where there is none.
        lengths: (n,) int64: of each vector; -1 where there is no vector.
        n_dimensions: d.

    Each row is divided by its largest number before its length is computed, so that neither huge nor tiny numbers
    overflow. Cost: 5 to 15 us per vector of 512 numbers.
    """
    expect(values=(values, "m", np.floating), lengths=(lengths, "n", np.int64))
    fits = lengths == n_dimensions
    rows = _rows_that_fit(values, lengths, fits, n_dimensions)
    largest = np.zeros(len(lengths))
    largest[fits] = np.maximum(rows.max(axis=1), -rows.min(axis=1))  # NaN is the largest of any row that holds it
    wrong = (lengths < 0, ~fits, ~np.isfinite(largest), largest == 0)  # in the order of VectorFault
    faults = np.select(wrong, range(1, len(FAULTS)), default=0).astype(np.uint8)
    good = (rows if not faults.any() else rows[faults[fits] == 0]) / largest[faults == 0, None]
    good /= np.sqrt(np.einsum("ij,ij->i", good, good))[:, None]
    if not faults.any():
        return good.astype(np.float16), faults
    made = np.zeros((len(lengths), n_dimensions), np.float16)
    made[faults == 0] = good
    return made, faults


def _rows_that_fit(values: npt.NDArray[np.floating], lengths: Int64, fits: Bools, n_dimensions: int) -> Float64:
    """(number of vectors that fit, d) float64: where all vectors fit, as in most batches, without a gather."""
    if fits.all():
        return values.reshape(len(lengths), n_dimensions).astype(np.float64)
    begins = np.cumsum(np.maximum(lengths, 0)) - lengths
    return values[begins[fits][:, None] + np.arange(n_dimensions)].astype(np.float64)
