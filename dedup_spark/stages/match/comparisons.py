"""Which comparisons a run of match makes: all representatives against all, or the new and changed ones against all."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.spark.needed_rows import only_needed
from dedup_spark.stages.match import increment, neighbours
from dedup_spark.stages.match.inputs import Inputs
from dedup_spark.stages.match.work_items import WorkItems
from dedup_spark.stages.representatives import set_name
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import DENSITIES, PAIRS
from dedup_spark.store.shards import rows_within_memory

_FULL_MATCH_SHARE = 0.5  # with more new images than this all against all costs less than new against all


@dataclass(frozen=True)
class Comparisons:
    """Work items, their cost, and what is known from before: pairs, and the (image_id, complete_above) of lists of
    neighbours that may lack some. `known` None: everything is compared anew.

    `name` is equal for two runs that compare the same images of the same index in the same items.
    """

    name: str
    items: WorkItems
    n_images: int
    n_comparisons: float
    known: DataFrame | None
    incomplete: DataFrame | None = None


def comparisons_to_make(run: Run, given: Inputs, vectors: DataFrame) -> Comparisons:
    """All against all; where most images were matched before and the run is not full, new and changed against all."""
    if run.full or not given.is_remembered:
        return _all_with_all(given)
    tables, settings = run.tables, run.config.match
    remembered = tables.read(DENSITIES).where(F.col("fingerprint") == given.fingerprint)
    matched = tables.stage("matched", increment.matched_before(given.embedded, remembered, settings.neighbours))
    old_pairs, n_enough = increment.embedding_pairs(tables.read(PAIRS)), increment.enough_neighbours(settings)
    to_compare = increment.images_to_compare(given.embedded, matched, remembered, old_pairs, n_enough)
    ids = tables.stage("to_compare", to_compare)
    counted = ids.agg(F.count("*"), F.bit_xor(F.xxhash64("image_id"))).first()
    assert counted is not None
    n_to_compare, hashed = counted
    if n_to_compare > _FULL_MATCH_SHARE * given.n_embedded:
        return _all_with_all(given)
    n_files = n_query_files(n_to_compare, run.config.index.max_shard_rows, given.vector_bytes)
    files = _write_queries(run, given, only_needed(vectors, ids).join(ids, "image_id", "left_semi"), n_files)
    name = f"{n_files} files of {set_name(n_to_compare, hashed)}"
    known = increment.still_valid(old_pairs, matched).withColumns({"best_of_a": F.lit(True), "best_of_b": F.lit(True)})
    known = known.select(*neighbours.JOINED_PAIR, "engine")
    incomplete = increment.incomplete_lists(matched, ids, settings.min_similarity)
    items = WorkItems(files, given.shard_rows, n_files if n_to_compare else 0, given.n_shards)
    return Comparisons(name, items, n_to_compare, float(n_to_compare) * given.n_embedded, known, incomplete)


def n_query_files(n_queries: int, max_rows: int, vector_bytes: int | None) -> int:
    """A task holds a file of queries as it does a shard, so the same bound holds for its rows."""
    return max(1, -(-n_queries // rows_within_memory(max_rows, vector_bytes)))


def _all_with_all(given: Inputs) -> Comparisons:
    n = given.n_embedded
    return Comparisons("all", WorkItems.among(given.shard_rows, given.n_shards), n, n * (n - 1) / 2, None)


def _write_queries(run: Run, given: Inputs, vectors: DataFrame, n_files: int) -> DataFrame:
    """The rows of the files of queries, staged."""
    assert given.cells is not None
    settings = increment.FileSettings(
        run.tables.root, f"{run.tables.staging}/queries", given.cells, run.config.match.seed
    )
    return run.tables.stage("query_files", increment.write_queries(vectors, n_files, settings))
