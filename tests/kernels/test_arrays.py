"""The doors of the kernels: an array of another shape or dtype is refused by a sentence that names it."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.kernels.arrays import expect


def test_arrays_that_fit_pass() -> None:
    expect(ids=(np.zeros(3, np.int64), "n", np.int64), x=(np.zeros((3, 4), np.float16), "n d", np.float16))
    expect(none=(np.empty((0, 0), np.float16), "n d", np.float16), any_float=(np.zeros(2), "m", np.floating))
    expect(stored=(np.zeros(3, "<i8"), "n", np.int64), matrix=(np.zeros((2, 3)), "2 3", np.float64))


@pytest.mark.parametrize(
    ("array", "shape", "dtype", "said"),
    [
        (np.zeros(3), "n d", np.float64, r"x: expected float64 of shape \(n, d\); found float64 of shape \(3,\)"),
        (np.zeros((3, 4)), "n d", np.float16, r"x: expected float16 of shape .* found float64 of shape \(3, 4\)"),
        (np.zeros((2, 4)), "2 3", np.float64, r"of shape \(2, 3\); found float64 of shape \(2, 4\)"),
        (np.zeros((2, 4)), "n n", np.float64, r"of shape \(n, n\), n = 2; found float64 of shape \(2, 4\)"),
        ([0.0, 1.0], "n", np.float64, r"x: expected float64 of shape \(n\); found list of shape unknown"),
    ],
)
def test_another_shape_or_dtype_is_named(array: np.ndarray, shape: str, dtype: type[np.generic], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        expect(x=(array, shape, dtype))


def test_one_letter_is_one_length_in_all_arrays() -> None:
    ids, x = np.zeros(3, np.int64), np.zeros((4, 2), np.float16)
    with pytest.raises(ValueError, match=r"x: expected float16 of shape \(n, d\), n = 3, d = 2; found .* \(4, 2\)"):
        expect(ids=(ids, "n", np.int64), x=(x, "n d", np.float16))
