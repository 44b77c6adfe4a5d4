"""An index of embeddings that FAISS alone opens and searches: inverted lists of float16 vectors, by inner product."""

from __future__ import annotations

import faiss
import numpy as np

from dedup_spark.kernels.arrays import Float16, Float32, Int32, Int64, expect

_PROBES = 128


def n_probes(n_cells: int) -> int:
    """How many of so many cells a search visits, unless somebody changes `nprobe`."""
    return min(n_cells, _PROBES)


class PlainIndex:
    """Grows by blocks of vectors whose cells are known; `index` is the FAISS index so far.

    Args:
        centroids: (cells, d) float32, of all cells.

    A search visits the 128 nearest cells (`nprobe` in the file), or all where there are fewer: of 1,024 cells so many
    find 0.993 of the neighbours at cosine 0.7.
    """

    def __init__(self, centroids: Float32) -> None:
        expect(centroids=(centroids, "k d", np.float32))
        n_cells, d = centroids.shape
        quantiser = faiss.IndexFlatIP(d)
        quantiser.add(np.ascontiguousarray(centroids))
        self.index = faiss.IndexIVFScalarQuantizer(
            quantiser, d, n_cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
        )
        quantiser.this.disown()  # type: ignore[attr-defined]  # SWIG: the index owns it from here
        self.index.own_fields = True
        self.index.is_trained = True
        self.index.nprobe = n_probes(n_cells)

    def add(self, ids: Int64, vectors: Float16, cells: Int32) -> None:
        """Add (n, d) vectors with ids (n,) in given cells (n,)."""
        expect(ids=(ids, "n", np.int64), vectors=(vectors, "n d", np.float16), cells=(cells, "n", np.int32))
        # Named, because swig_ptr keeps no reference: a temporary would be freed before the call.
        x, xids, assigned = np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(ids), cells.astype(np.int64)
        self.index.add_core(len(x), faiss.swig_ptr(x), faiss.swig_ptr(xids), faiss.swig_ptr(assigned))
