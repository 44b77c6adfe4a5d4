"""Names of array types, and the check of shapes and dtypes with which public functions of the kernels begin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
UInt64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

Expected = tuple[npt.NDArray[np.generic], str, type[np.generic]]


def expect(**arrays: Expected) -> None:
    """Raise ValueError where an array has another shape or dtype than its function is written for.

    Each argument is `name=(array, shape, dtype)`, as in `expect(ids=(ids, "n", np.int64), x=(x, "n d", np.float16))`.
    A letter stands for one length in all arrays of a call, a number for itself; the dtype may be an abstract one such
    as np.floating. Cost: 1 to 3 microseconds per array, whatever its size.
    """
    lengths: dict[str, int] = {}
    for name, (array, shape, dtype) in arrays.items():
        axes = shape.split()
        fits = isinstance(array, np.ndarray) and array.ndim == len(axes) and issubclass(array.dtype.type, dtype)
        if fits:
            for axis, n in zip(axes, array.shape, strict=True):
                if lengths.setdefault(axis, int(axis) if axis.isdigit() else n) != n:
                    fits = False
        if not fits:
            known = "".join(f", {axis} = {n}" for axis, n in lengths.items() if axis in axes and not axis.isdigit())
            raise ValueError(
                f"{name}: expected {dtype.__name__} of shape ({', '.join(axes)}){known}; found "
                f"{getattr(array, 'dtype', type(array).__name__)} of shape {getattr(array, 'shape', 'unknown')}"
            )
