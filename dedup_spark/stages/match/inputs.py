"""The inputs of match: representatives and the shards of the index, which must hold these representatives."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from dedup_spark.errors import ArtifactError
from dedup_spark.kernels.faiss_index import DEFAULT
from dedup_spark.spark.background import Start
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.match import increment, sample
from dedup_spark.stages.representatives import representatives_with, set_hash, set_name
from dedup_spark.store.node_files import REBUILD
from dedup_spark.store.observed import stage_with
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import CENTROIDS, DENSITIES, SHARDS
from dedup_spark.store.shards import CellsFile, ShardFiles, usual_cells

_FILE = SHARDS.schema.only("shard", "n_images", "model_id", "built_from", "index_type", *ShardFiles._fields)


@dataclass(frozen=True)
class Inputs:
    """Representatives (`unique`), those of them with an embedding, and the shards that hold those."""

    unique: DataFrame  # image_id, phash, vector_hash
    with_copies: DataFrame  # image_id, pixel_hash, content_hash of the representatives of several images
    n_with_copies: int
    embedded: DataFrame  # image_id, vector_hash
    drawable: DataFrame  # image_id, embedding of those that the survey may draw
    n_queries: int  # of those it draws
    vector_bytes: int | None  # of the longest of drawable
    n_unique: int
    n_embedded: int
    shard_rows: DataFrame
    n_shards: int
    cells: CellsFile | None  # of the index, where it has shards
    files_hash: str  # of the files of the shards, so of the vectors and their order in them
    index_type: str  # of what faiss_ivf searches
    fingerprint: str
    is_remembered: bool  # rows of densities have this fingerprint


def read_inputs(run: Run, features: DataFrame, start: Start) -> Inputs:
    """Representatives, and the index, which must hold them. Raises ArtifactError.

    The pass that hashes all embeddings also keeps those of the images that the survey may draw.
    """
    settings = run.config.match
    remembered = start(lambda: _fingerprints(run))
    files = run.tables.read(SHARDS).select(*_FILE)
    index = files.orderBy("shard").collect()  # a row for each file of some 100,000 images
    n_indexed = sum(row["n_images"] for row in index)
    n_queries = sample.sample_size(n_indexed, settings.audit_queries)
    vector, is_drawn = F.col("embedding"), sample.may_be_drawn(n_indexed, n_queries, settings.seed)
    columns = (
        *map(F.col, ("content_hash", "phash", "model_id")),
        F.when(vector.isNotNull(), F.xxhash64(vector)).alias("vector_hash"),
        F.when(is_drawn, vector).alias("embedding"),
    )
    unique, counts = stage_with(
        run.tables, "unique", representatives_with(features, *columns),
        n=F.count("*"), n_with_copies=F.count_if(F.col("n_equal") > 1),
        n_embedded=F.count("vector_hash"), model_id=F.max("model_id"), vector_bytes=F.max(F.octet_length("embedding")),
        set_hash=set_hash(F.col("vector_hash")),
    )  # fmt: skip
    _require_index_of(counts, index, run.tables.place(SHARDS))
    index_type = next((row["index_type"] for row in index if row["index_type"]), DEFAULT)
    n_cells = _chosen_cells(run, n_indexed) if settings.faiss_probes and increment.may_be_faiss(settings) else 0
    fingerprint = increment.fingerprint(counts["model_id"] or "", settings, index_type, n_cells)
    return Inputs(
        unique=unique.select("image_id", "phash", "vector_hash"),
        with_copies=unique.where("n_equal > 1").select("image_id", "pixel_hash", "content_hash"),
        n_with_copies=counts["n_with_copies"],
        embedded=unique.where("vector_hash IS NOT NULL").select("image_id", "vector_hash"),
        drawable=unique.where("embedding IS NOT NULL").select("image_id", "embedding"),
        n_queries=n_queries,
        vector_bytes=counts["vector_bytes"],
        n_unique=counts["n"],
        n_embedded=counts["n_embedded"],
        shard_rows=local_relation(run.tables.spark, index, _FILE).drop("built_from"),
        n_shards=max((row["shard"] + 1 for row in index), default=0),
        cells=ShardFiles.of(index[0].asDict()).cells if index else None,
        files_hash=_hash_of_files(index),
        index_type=index_type,
        fingerprint=fingerprint,
        is_remembered=fingerprint in remembered.result(),
    )


def _hash_of_files(index: list[Row]) -> str:
    names = (f"{row['shard']} {row['path']} {row['sha256']} {row['index_sha256']}\n" for row in index)
    return hashlib.sha256("".join(names).encode()).hexdigest()


def _chosen_cells(run: Run, n_indexed: int) -> int:
    """The number of cells of the index; 0 where it is that of so many images, which grows with the lake."""
    n_cells = run.tables.read(CENTROIDS).count()
    return 0 if n_cells == usual_cells(n_indexed) else n_cells


def _fingerprints(run: Run) -> set[str]:
    """The fingerprint of the rows of densities, or none: each match replaces all rows."""
    return {row["fingerprint"] for row in run.tables.rows_now(DENSITIES).select("fingerprint").distinct().collect()}


def _require_index_of(of_images: dict[str, Any], index: list[Row], place: str) -> None:
    """Raises ArtifactError where the index is not that of these representatives."""
    models, n_indexed = {row["model_id"] for row in index}, sum(row["n_images"] for row in index)
    if of_images["n_embedded"] and models and models != {of_images["model_id"]}:
        raise ArtifactError(
            f"the shard files of {place} hold embeddings of {', '.join(sorted(models))}, "
            f"features of {of_images['model_id']}; {REBUILD}"
        )
    if n_indexed != of_images["n_embedded"]:
        raise ArtifactError(
            f"the shard files of {place} hold {n_indexed:,} vectors, features {of_images['n_embedded']:,} "
            f"representatives with an embedding: the index is of another state; {REBUILD}"
        )
    built_from = {row["built_from"] for row in index}
    if index and built_from != {set_name(n_indexed, of_images["set_hash"])}:
        raise ArtifactError(
            f"the shard files of {place} were made of other images than the {n_indexed:,} representatives of features, "
            f"or by a version that did not store of which: the index is of another state; {REBUILD}"
        )
