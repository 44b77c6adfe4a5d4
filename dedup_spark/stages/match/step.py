"""Match: find the pairs of images that show the same picture, verify each by exact cosine, and say what was missed.

Reads: features, shards, densities, pairs
Writes: pairs, densities, quality
Kernels: joins, vectors
Scale: all images new: every two shards meet once, n^2 / 2 comparisons of 1 to 3 ns by sketches, fewer when routed; m
new images: m x n. Memory of a task: two shards, or 100 MB of hashes. Shuffled: 20 bytes a pair and side; 490 bytes of
hashes an image (250 up to 200,000 images).

Three sources of pairs, from cheap to dear: equal hashes (SQL), near pHash (an exact join on parts of the hash), near
embedding (a plan of work items, one engine of four). All but the first look at representatives only.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.resource import ResourceProfile
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import Config
from dedup_spark.spark.background import Start, background
from dedup_spark.spark.gpus import match_share
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.spark.progress import Progress
from dedup_spark.stages.match import audit, hash_pairs, increment, inputs, neighbours
from dedup_spark.stages.match import plan as match_plan
from dedup_spark.stages.match import survey as match_survey
from dedup_spark.stages.match.inputs import Lake
from dedup_spark.stages.match.neighbours import METHODS
from dedup_spark.stages.match.plan import Choice, n_tasks
from dedup_spark.stages.match.task import EXACT, JOINED, JoinSettings
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.store.observed import Observed, stage_with
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import DENSITIES, FEATURES, PAIRS, QUALITY

log = logging.getLogger(__name__)

_FULL_MATCH_SHARE = 0.5  # with more new images than this all against all costs less than new against all


@dataclass(frozen=True)
class Asked:
    """Work items, the comparisons that they make, and the pairs known before; None: everything is compared anew."""

    items: DataFrame
    n_items: int
    n_images: int
    n_comparisons: float
    known: DataFrame | None


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Collect pairs from the three sources, keep each once, write, audit."""
    features = run.tables.read(FEATURES)
    with background(spark) as start:
        lake = inputs.look_at(run, features, start)
        by_hash = start(lambda: _pairs_by_hash(run, lake, features))
        if lake.n_embedded < 2:
            n_asked = lake.n_embedded
            _write_pairs(run, by_hash.result())
            _write_densities(run, lake, local_relation(spark, [], neighbours.NEAREST))
        else:
            n_asked = _match_embeddings(run, lake, features.select("image_id", "embedding"), by_hash, start)
    run.tables.drop_staged()
    run.count(representatives=lake.n_unique, asked=n_asked)


def _pairs_by_hash(run: Run, lake: Lake, features: DataFrame) -> list[DataFrame]:
    """The first two sources, near pHashes staged with their cosines."""
    settings = run.config.match
    near = run.tables.stage("near_phash", hash_pairs.phash_pairs(lake.unique, lake.n_unique, settings))
    near_enough = run.tables.stage("near_enough", hash_pairs.near_enough(_scored(near, features), settings))
    return [hash_pairs.identical_pairs(features, lake.several, lake.n_several), near_enough]


def _match_embeddings(run: Run, lake: Lake, vectors: DataFrame, by_hash: Future[list[DataFrame]], start: Start) -> int:
    """Survey, plan, join, merge, write, audit. Returns how many images were compared with everything."""
    tables, settings = run.tables, run.config.match
    asked = _whom_to_ask(run, lake, vectors)
    surveyed, survey = _survey(run, lake)
    match_plan.guard_against_explosion(survey, lake.n_embedded, settings)
    floor = match_plan.raised_floor(settings, survey, match_plan.sketch_floor(settings))
    share = match_share(tables.spark, settings)
    gpu_ns = match_survey.gpu_nanoseconds(lake.shard_rows, tables.root, share) * share.cpus if share.gpus else None
    choices = match_plan.predict(survey, asked.n_comparisons, floor, settings, gpu_ns)
    chosen = match_plan.choose(choices, settings.engine)
    if chosen.engine in EXACT:
        floor = match_plan.raised_floor(settings, survey, match_plan.lowest_floor(settings))
    run.note(**match_plan.reasons(choices, chosen, survey, floor))
    log.info("match: engine %s, about %.1f core-seconds", chosen.engine, chosen.core_seconds)

    joining = match_plan.join_settings(tables.root, chosen, floor, settings, share.gpus)
    parallelism = tables.spark.sparkContext.defaultParallelism
    asked = replace(asked, items=asked.items.coalesce(n_tasks(asked.n_items, chosen.core_seconds, parallelism)))
    sources = by_hash.result()  # nothing else runs while the join shows how far it is
    found, totals = _join(run, asked, joining, lake.n_embedded, share.profile if chosen.engine == "exact_gpu" else None)
    match_plan.guard_totals(totals, lake.n_embedded, settings)
    pairs = found.where("item IS NULL").select(*neighbours.FOUND).withColumn("engine", F.lit(chosen.engine))
    if asked.known is not None:
        pairs = pairs.unionByName(asked.known)
    top = neighbours.nearest(pairs, settings.neighbours)
    if settings.neighbours:
        top = tables.stage("nearest", top)
    kept = neighbours.with_hamming(neighbours.kept_pairs(pairs, top, settings.min_similarity), lake.unique)
    _write_pairs(run, [*sources, kept])
    start(lambda: _write_densities(run, lake, top))  # after the pairs: it says of which images they are complete
    _audit(run, surveyed, totals, floor, chosen, (survey.n_queries, lake.n_embedded))
    return asked.n_images


def _scored(pairs: DataFrame, features: DataFrame) -> DataFrame:
    """Pairs by pHash with their cosine. They are few, so their images are picked before embeddings are shuffled."""
    ids = pairs.select(F.explode(F.array("image_id_a", "image_id_b")).alias("image_id")).distinct()
    return score_pairs(pairs, features.join(ids, "image_id", "left_semi").select("image_id", "phash", "embedding"))


def _whom_to_ask(run: Run, lake: Lake, vectors: DataFrame) -> Asked:
    """All against all, or, where most was matched before and the run is not full, the new and changed against all."""
    tables, settings, n = run.tables, run.config.match, lake.n_embedded
    n_items = lake.n_shards * (lake.n_shards + 1) // 2
    everything = Asked(match_plan.all_items(lake.shard_rows, lake.n_shards), n_items, n, n * (n - 1) / 2, None)
    if run.full or not lake.is_remembered:
        return everything
    remembered = tables.read(DENSITIES).where(F.col("fingerprint") == lake.fingerprint)
    matched = tables.stage("matched", increment.matched_before(lake.embedded, remembered))
    old_pairs = increment.near_pairs(tables.read(PAIRS))
    ids = tables.stage("asked", increment.images_to_ask(lake.embedded, matched, old_pairs, settings.neighbours))
    n_asked = ids.count()
    if n_asked > _FULL_MATCH_SHARE * n:
        return everything
    n_files = max(1, -(-n_asked // run.config.index.max_shard_rows))
    shard = lake.shard_rows.select("path", "sha256").orderBy("shard").first()
    assert shard is not None
    settings_of_files = increment.FileSettings(tables.root, f"{tables.staging}/queries", tuple(shard))
    files = increment.write_queries(vectors.join(ids, "image_id", "left_semi"), n_files, settings_of_files)
    items = match_plan.items_of_queries(tables.stage("query_files", files), n_files, lake.shard_rows, lake.n_shards)
    known = increment.still_valid(old_pairs, matched).withColumns({"best_of_a": F.lit(True), "best_of_b": F.lit(True)})
    return Asked(items, n_files * lake.n_shards, n_asked, float(n_asked) * n, known.select(*neighbours.FOUND, "engine"))


def _survey(run: Run, lake: Lake) -> tuple[DataFrame, match_survey.Survey]:
    """The sample's exact neighbours, staged, and what they say."""
    settings = run.config.match
    sample = match_survey.draw(lake.drawable, lake.n_queries, settings.seed)
    task = match_survey.SurveySettings(
        run.tables.root, settings.min_similarity, match_plan.lowest_floor(settings), settings.neighbours, settings.seed
    )
    spread = match_plan.one_task_a_shard(lake.shard_rows, lake.n_shards)
    surveyed = run.tables.stage("surveyed", match_survey.survey(spread, sample, task))
    return surveyed, match_survey.summarise(surveyed, sample[1], settings.min_recall)


def _join(
    run: Run, asked: Asked, settings: JoinSettings, n: int, profile: ResourceProfile | None
) -> tuple[DataFrame, dict[str, Any]]:
    """What the tasks found, staged, with its totals; stopped as soon as it is an explosion. Raises GuardError."""
    spark = run.tables.spark
    n_found, limit = spark.sparkContext.accumulator(0), match_plan.max_found(n, run.config.match)
    progress = Progress("match", "work items", asked.n_items)
    task = match_plan.task(settings, n_found)
    spark.sparkContext.setJobGroup(run.run_id, "match", interruptOnCancel=True)

    def stop_if_exploded() -> None:
        if n_found.value > limit:
            spark.sparkContext.cancelJobGroup(run.run_id)

    try:
        watch = progress.watching(spark, done_before=0, n_under_way=asked.n_items, check=stop_if_exploded)
        with watch:
            found = asked.items.mapInArrow(task, JOINED.ddl, profile=profile)
            return stage_with(run.tables, "found", found, **match_plan.totals(run.config.match))
    except (PySparkException, Py4JJavaError) as e:
        if n_found.value > limit:
            raise match_plan.explosion(f"more than {limit:,} pairs", n, run.config.match) from e
        raise


def _write_pairs(run: Run, sources: list[DataFrame]) -> None:
    tables, counted = run.tables, Observed()
    by_method = {m: F.count_if(F.col("method") == m) for m in METHODS}
    tables.overwrite(PAIRS, counted.watch(neighbours.each_once(sources), **by_method))
    seen = counted.get_or_query(lambda: tables.read(PAIRS))
    run.count(**{method: n for method, n in seen.items() if n})


def _write_densities(run: Run, lake: Lake, top: DataFrame) -> None:
    densities = neighbours.densities(lake.embedded, top)
    run.tables.overwrite(DENSITIES, densities.withColumn("fingerprint", F.lit(lake.fingerprint)))


def _audit(
    run: Run, surveyed: DataFrame, totals: dict[str, Any], floor: float, chosen: Choice, sizes: tuple[int, int]
) -> None:
    """Compare the sample with what was written; `totals` of what was found; `sizes`: of the sample, of all."""
    tables, settings = run.tables, run.config.match
    compared = audit.compare(surveyed, tables.read(PAIRS), floor, settings)
    rows = audit.measure(compared, *sizes, floor, settings)
    rows.append(audit.candidates_row(totals))
    said = audit.verdict(rows, chosen.engine, settings)
    tables.replace(QUALITY, audit.as_table(tables.spark, rows, run.run_id, said), run_id=run.run_id)
    run.note(recall=said)
    run.count(lost_in_sample=sum(r["metric"] == "lost_pair" for r in rows))
