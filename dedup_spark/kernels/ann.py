"""Neighbours of unit vectors: FAISS shards, near pairs between two blocks, exact re-scoring."""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]
Sketches = npt.NDArray[np.uint8]

_BLOCK_ROWS = 8192
"""Sketches of a tile stay in the L2 cache (8192 x 128 bytes = 1 MB at 1024 bits)."""


def train_centroids(sample: Floats, n_cells: int, seed: int) -> Floats:
    """Spherical k-means of (n, d) unit vectors, n >= n_cells: (n_cells, d) float32 unit rows."""
    if n_cells == 1:
        mean = sample.mean(axis=0, keepdims=True)
        return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    kmeans = faiss.Kmeans(sample.shape[1], n_cells, niter=10, seed=seed, spherical=True, min_points_per_centroid=1)
    kmeans.train(np.ascontiguousarray(sample, dtype=np.float32))
    return np.asarray(kmeans.centroids)


def nearest_cells(vectors: Floats, centroids: Floats) -> npt.NDArray[np.int32]:
    """(n,) int32: for each of (n, d) vectors its best centroid of (k, d) by inner product; ties to the lower."""
    return np.argmax(vectors @ centroids.T, axis=1).astype(np.int32)


def build_shard(ids: Ids, vectors: Halves, cells: npt.NDArray[np.int32], centroids: Floats) -> faiss.Index:
    """An IVF index over (n, d) vectors in given cells; codes are the float16 vectors themselves."""
    n_cells, d = centroids.shape
    quantiser = faiss.IndexFlatIP(d)
    quantiser.add(centroids)
    index = faiss.IndexIVFScalarQuantizer(
        quantiser, d, n_cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    quantiser.this.disown()  # type: ignore[attr-defined]  # SWIG: the index owns it from here
    index.own_fields = True
    index.is_trained = True
    # Named, because swig_ptr keeps no reference: a temporary would be freed before the call.
    x, xids, assigned = np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(ids), cells.astype(np.int64)
    index.add_core(len(x), faiss.swig_ptr(x), faiss.swig_ptr(xids), faiss.swig_ptr(assigned))
    return index


def shard_vectors(index: faiss.Index) -> tuple[Ids, Halves]:
    """The ids (n,) and float16 vectors (n, d) of a shard, by cell and in the order of insertion."""
    lists, n_cells, d = index.invlists, index.nlist, index.d  # type: ignore[attr-defined]
    ids, vectors = [np.empty(0, np.int64)], [np.empty((0, d), np.float16)]
    for cell in range(n_cells):
        n = lists.list_size(cell)
        if n:
            ids.append(faiss.rev_swig_ptr(lists.get_ids(cell), n).copy())
            codes = faiss.rev_swig_ptr(lists.get_codes(cell), n * lists.code_size)
            vectors.append(codes.view(np.float16).reshape(n, d).copy())
    return np.concatenate(ids), np.concatenate(vectors)


def near_sketches(a: Sketches, b: Sketches | None, radius_bits: int) -> Iterator[tuple[Ids, Ids]]:
    """Row numbers (into a, into b) of all pairs within `radius_bits`, tile by tile; `b` None: pairs within a, i < j."""
    tiles = [_flat(x) for x in _tiles(a if b is None else b)]
    for i, queries in enumerate(_tiles(a)):
        for j in range(i if b is None else 0, len(tiles)):
            limits, _, found = tiles[j].range_search(queries, radius_bits + 1)  # FAISS keeps distances below the radius
            end: Ids = limits.astype(np.int64)
            row = np.repeat(np.arange(len(queries), dtype=np.int64), end[1:] - end[:-1])
            row, col = row + i * _BLOCK_ROWS, found.astype(np.int64) + j * _BLOCK_ROWS
            keep = row < col if b is None and i == j else slice(None)
            yield row[keep], col[keep]


def cosines(a: Halves, b: Halves) -> npt.NDArray[np.float32]:
    """Row-wise cosine of (n, d) and (n, d), in double precision: the same whatever rows stand beside."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    dots = np.einsum("ij,ij->i", x, y)
    norms = np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y)
    return (dots / np.sqrt(np.maximum(norms, 1e-30))).astype(np.float32)


def from_bytes(embeddings: list[bytes]) -> Halves:
    """Embeddings as stored in `features`, all of one model, to (n, d) float16; (0, 0) when there are none."""
    d = len(embeddings[0]) // 2 if embeddings else 0
    return np.frombuffer(b"".join(embeddings), dtype="<f2").reshape(len(embeddings), d)


def _tiles(x: Sketches) -> Iterator[Sketches]:
    return (x[start : start + _BLOCK_ROWS] for start in range(0, len(x), _BLOCK_ROWS))


def _flat(x: Sketches) -> faiss.IndexBinaryFlat:
    index = faiss.IndexBinaryFlat(8 * x.shape[1])
    index.add(x)
    return index
