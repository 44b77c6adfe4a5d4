"""FAISS indexes of a type that a factory string names, with the cells of our own k-means.

Types are `Flat`, `SQ4`, `SQ6`, `SQ8`, `SQfp16`, `SQbf16` and `PQ<n>` (n bytes per vector), each alone or behind `IVF,`,
by cells. FAISS has more, which are left out: transforms (`OPQ`, `PCA`) and other quantisers of cells (`IVF1024_HNSW32`)
would have cells of their own, graphs (`HNSW`) no number of probes that a recall could be asked of, and refinement
(`RFlat`) is done by match, which scores every candidate exactly.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.arrays import Float32, Int32, Int64, expect

DEFAULT = "IVF,SQfp16"
"""The type of every shard file: float16 rows by cells, from which all engines read the vectors."""

PROBES_IN_FILE = 64
"""Cells that a search of a file visits where nobody says how many; FAISS's own default is 1."""

MIN_TRAIN_ROWS = 10_240
"""Rows from which a product quantiser learns its 256 centroids per byte: FAISS warns below 39 for each."""


def train_index(text: str, centroids: Float32, sample: Float32) -> bytes:
    """An index without rows, as `faiss.serialize_index` writes it: what tasks fill. Runs once, on the driver.

    Args:
        text: The type, without the number of cells.
        centroids: (k, d) unit rows; of no meaning for a type without cells.
        sample: (n, d) unit rows from which quantisers learn.

    Raises:
        ConfigError: FAISS does not make such an index of so many dimensions or of so few rows.
    """
    expect(centroids=(centroids, "k d", np.float32), sample=(sample, "n d", np.float32))
    has_cells, codec = has_cells_of(text), text.rpartition(",")[2]
    if codec.startswith("PQ"):
        codec += "np"  # not polysemous: that orders centroids for a filter we do not use, by minutes of annealing
    try:
        index: Any = faiss.index_factory(
            centroids.shape[1], f"IVF{len(centroids)},{codec}" if has_cells else codec, faiss.METRIC_INNER_PRODUCT
        )
        if has_cells:
            index.quantizer.add(np.ascontiguousarray(centroids))  # so that FAISS trains no cells of its own
            index.nprobe = min(PROBES_IN_FILE, len(centroids))
        index.train(np.ascontiguousarray(sample))
    except RuntimeError as e:
        raise ConfigError(
            f"index.faiss_index={text}: FAISS makes no such index of {sample.shape[1]} dimensions from {len(sample):,} "
            f"images: {' '.join(str(e).split('Error: ')[-1].split())}"
        ) from e
    data: bytes = faiss.serialize_index(index).tobytes()
    return data


def fill_index(trained: bytes, ids: Int64, vectors: Float32, cells: Int32, centroids: Float32) -> Any:
    """The index with rows (n, d) and their ids (n,). An IVF index gets lists for the cells in
    `cells` (n,), which ascend, and for no others.

    `centroids` are (k, d), those of all cells.
    """
    expect(ids=(ids, "n", np.int64), vectors=(vectors, "n d", np.float32), cells=(cells, "n", np.int32))
    expect(vectors=(vectors, "n d", np.float32), centroids=(centroids, "k d", np.float32))
    index: Any = faiss.deserialize_index(np.frombuffer(trained, np.uint8))
    x = np.ascontiguousarray(vectors)
    if not hasattr(index, "nprobe"):
        numbered = faiss.IndexIDMap2(index)
        numbered.add_with_ids(x, ids)
        return numbered
    held, lists = np.unique(cells, return_inverse=True)
    _set_cells(index, centroids[held], faiss.ArrayInvertedLists(len(held), index.code_size))
    # Named, because swig_ptr keeps no reference: a temporary would be freed before the call.
    xids, assigned = np.ascontiguousarray(ids), lists.astype(np.int64)
    index.add_core(len(x), faiss.swig_ptr(x), faiss.swig_ptr(xids), faiss.swig_ptr(assigned))
    return index


def over_all_cells(index: Any, held: Int32, centroids: Float32) -> Any:
    """The index of a shard with all cells, most of them empty, so that a number of probes means what it means for the
    whole index. It is changed in place; one without cells stays as it is. Costs one copy of its rows in memory.

    Args:
        held: (lists,) the cell of each list.
        centroids: (k, d) of all cells.
    """
    if not hasattr(index, "nprobe"):
        return index
    expect(held=(held, "lists", np.int32), centroids=(centroids, "k d", np.float32))
    wide, narrow = faiss.ArrayInvertedLists(len(centroids), index.code_size), index.invlists
    for i, cell in enumerate(held.tolist()):
        wide.add_entries(cell, narrow.list_size(i), narrow.get_ids(i), narrow.get_codes(i))
    _set_cells(index, centroids, wide)
    return index


def _set_cells(index: Any, centroids: Float32, lists: Any) -> None:
    """Give an IVF index other cells and lists. Its codes stay valid where each row keeps its centroid."""
    index.quantizer.reset()
    index.quantizer.add(np.ascontiguousarray(centroids))
    index.nlist = len(centroids)
    index.nprobe = min(PROBES_IN_FILE, len(centroids))
    index.replace_invlists(lists, True)
    lists.this.disown()  # SWIG: the index owns them from here


def scores_of(index: Any, queries: Float32, ids: Int64) -> Float32:
    """(n,): what FAISS holds of each of (n,) ids, multiplied with each of (n, d) queries: the score of its searches."""
    expect(queries=(queries, "n d", np.float32), ids=(ids, "n", np.int64))
    if hasattr(index, "nprobe"):
        index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
    held: Float32 = index.reconstruct_batch(ids)
    return np.einsum("ij,ij->i", queries, held)


def has_cells_of(text: str) -> bool:
    """Whether an index of this type has cells."""
    return text.startswith("IVF")
