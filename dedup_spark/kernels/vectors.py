"""Unit vectors: coarse cells, FAISS shards, exact cosines."""

from __future__ import annotations

import functools

import faiss
import numpy as np

from dedup_spark.kernels.arrays import Float16, Float32, Int32, Int64, expect
from dedup_spark.kernels.faiss_index import PROBES_IN_FILE

_MAX_FLAT_CELLS = 1024


def train_centroids(sample: Float32, n_cells: int, seed: int) -> Float32:
    """Spherical k-means of (n, d) unit vectors, n >= n_cells: (n_cells, d) float32 unit rows."""
    expect(sample=(sample, "n d", np.float32))
    if n_cells == 1:
        mean = sample.mean(axis=0, keepdims=True)
        return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    kmeans = faiss.Kmeans(sample.shape[1], n_cells, niter=10, seed=seed, spherical=True, min_points_per_centroid=1)
    kmeans.train(np.ascontiguousarray(sample))
    return np.asarray(kmeans.centroids)


def nearest_cells(vectors: Float32, centroids: Float32) -> Int32:
    """(n,) int32: for each of (n, d) vectors the nearest of (k, d) centroids by inner product; ties to the lower."""
    expect(vectors=(vectors, "n d", np.float32), centroids=(centroids, "k d", np.float32))
    return np.argmax(vectors @ centroids.T, axis=1).astype(np.int32)


class Quantiser:
    """Finds the nearest cell of vectors; beyond 1,024 cells in two levels, with a fraction of the products.

    k centroids are clustered into about sqrt(k) groups; a vector is compared with the groups, then with the cells of
    the 16 nearest groups. That may miss the nearest cell and take one that is not much farther: the same each time.
    """

    def __init__(self, centroids: Float32) -> None:
        expect(centroids=(centroids, "k d", np.float32))
        self._centroids, self._index = centroids, None
        n_cells, d = centroids.shape
        if n_cells > _MAX_FLAT_CELLS:
            groups = round(n_cells**0.5)
            self._groups = faiss.IndexFlatIP(d)  # kept: FAISS holds no reference of its own
            self._index = faiss.IndexIVFFlat(self._groups, d, groups, faiss.METRIC_INNER_PRODUCT)
            self._groups.add(train_centroids(centroids, groups, seed=1))
            self._index.is_trained = True
            self._index.add(np.ascontiguousarray(centroids))
            self._index.nprobe = 16

    def nearest(self, vectors: Float32) -> Int32:
        """(n,) int32: the cell of each of (n, d) float32 vectors."""
        expect(vectors=(vectors, "n d", np.float32), centroids=(self._centroids, "k d", np.float32))
        if self._index is None:
            return nearest_cells(vectors, self._centroids)
        found = self._index.search(np.ascontiguousarray(vectors), 1)[1]
        return found[:, 0].astype(np.int32)


def build_shard(ids: Int64, vectors: Float16, cells: Int32, centroids: Float32) -> faiss.Index:
    """An IVF index over (n, d) vectors with ids (n,) in given cells (n,); codes are the float16 vectors themselves.

    Of the (k, d) centroids it holds those of the cells that have rows, in ascending order of cells: at 5,000 cells all
    would be 10 MB in each file of 64. `faiss_index.over_all_cells` puts its lists among all cells again.
    """
    expect(ids=(ids, "n", np.int64), vectors=(vectors, "n d", np.float16), cells=(cells, "n", np.int32))
    expect(vectors=(vectors, "n d", np.float16), centroids=(centroids, "k d", np.float32))
    held, lists = np.unique(cells, return_inverse=True)
    d = centroids.shape[1]
    quantiser = faiss.IndexFlatIP(d)
    quantiser.add(np.ascontiguousarray(centroids[held]))
    index = faiss.IndexIVFScalarQuantizer(
        quantiser, d, len(held), faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    quantiser.this.disown()  # type: ignore[attr-defined]  # SWIG: the index owns it from here
    index.own_fields = True
    index.is_trained = True
    index.nprobe = min(PROBES_IN_FILE, len(held))
    # Named, because swig_ptr keeps no reference: a temporary would be freed before the call.
    x, xids, assigned = np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(ids), lists.astype(np.int64)
    index.add_core(len(x), faiss.swig_ptr(x), faiss.swig_ptr(xids), faiss.swig_ptr(assigned))
    return index


def to_float32(vectors: Float16) -> Float32:
    """float16 (n, d) to float32, by FAISS: it uses the processor's instruction, NumPy does not (10 times slower)."""
    expect(vectors=(vectors, "n d", np.float16))
    n, d = vectors.shape
    if n * d == 0:
        return np.zeros((n, d), np.float32)
    codes = np.ascontiguousarray(vectors, "<f2").view(np.uint8).reshape(n, 2 * d)
    decoded: Float32 = _float16_codec(d).decode(codes)
    return decoded


@functools.lru_cache(maxsize=4)
def _float16_codec(d: int) -> faiss.ScalarQuantizer:
    return faiss.ScalarQuantizer(d, faiss.ScalarQuantizer.QT_fp16)


def cosines(a: Float16 | Float32, b: Float16 | Float32) -> Float32:
    """Row-wise cosine of (n, d) and (n, d), in double precision: a row's does not depend on the rows beside it."""
    expect(a=(a, "n d", np.floating), b=(b, "n d", np.floating))
    x, y = a.astype(np.float64), b.astype(np.float64)
    dots = np.einsum("ij,ij->i", x, y)
    norms = np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y)
    return (dots / np.sqrt(np.maximum(norms, 1e-30))).astype(np.float32)


def from_bytes(embeddings: list[bytes]) -> Float16:
    """Embeddings as stored in `features`, all of one model, to (n, d) float16; (0, 0) when there are none."""
    d = len(embeddings[0]) // 2 if embeddings else 0
    return np.frombuffer(b"".join(embeddings), dtype="<f2").reshape(len(embeddings), d)
