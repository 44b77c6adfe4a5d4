"""What was exported."""

from __future__ import annotations

from dataclasses import dataclass

from dedup_spark.kernels.faiss_index import DEFAULT


@dataclass(frozen=True)
class ExportedFile:
    """One FAISS file; `name` is below the folder of the export."""

    name: str
    n_vectors: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class ExportedIndex:
    """An index that FAISS alone opens.

    Attributes:
        to: The folder, a path or URI.
        n_vectors: One per picture; images of equal pixels share theirs.
        n_images: Rows of the map from ids to addresses.
        n_cells: Of the coarse quantiser, in every file all of them.
        nprobe: Cells that a search visits unless somebody changes it.
        searched_type: What faiss_ivf searches in the tables, by index.faiss_index; the files are `IVF,SQfp16` always.
    """

    to: str
    model_id: str
    n_dimensions: int
    n_vectors: int
    n_images: int
    n_cells: int
    nprobe: int
    files: tuple[ExportedFile, ...]
    searched_type: str = DEFAULT
