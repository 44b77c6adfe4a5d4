"""Match: find the pairs of images that may show the same picture, score each exactly, and measure what was missed.

Reads: features, centroids, shards, densities, pairs
Writes: pairs, densities, quality
Kernels: joins, vectors, faiss_index, comparing
Scale: all images new: every two shards are joined once, n^2 / 2 comparisons of 1 to 3 ns by sketches, fewer when
routed; m new images: m x n. Memory of a task: two shards, or 100 MB of hashes. Shuffled: 20 bytes per pair and side;
490 bytes of hashes per image (250 up to 200,000 images).

There are three sources of pairs, from cheap to expensive: equal hashes (SQL), near pHash (an exact join on parts of the
hash), near embedding (work items of two shards each, joined by one of five engines). All but the first compare
representatives only.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import Config
from dedup_spark.spark.background import Start, background
from dedup_spark.spark.gpus import NO_GPU, TaskShare, gpu_tasks_at_once, match_share
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.match import audit, engine_choice, faiss_report, hash_pairs, neighbours
from dedup_spark.stages.match.comparisons import Comparisons, comparisons_to_make
from dedup_spark.stages.match.engine_choice import Choice, Slots
from dedup_spark.stages.match.floors import lowest_floor
from dedup_spark.stages.match.gpu import GpuSpeeds, gpu_speeds
from dedup_spark.stages.match.guards import PairGuard
from dedup_spark.stages.match.inputs import Inputs, read_inputs
from dedup_spark.stages.match.joining import Join
from dedup_spark.stages.match.sample import draw
from dedup_spark.stages.match.survey import Survey, compare_with_shards, summarise
from dedup_spark.stages.match.survey_task import SurveySettings
from dedup_spark.stages.match.task import JoinSettings
from dedup_spark.stages.match.totals import Totals
from dedup_spark.stages.match.waves import Waves, name_of
from dedup_spark.stages.match.work_items import one_task_per_shard
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.store.observed import Observed
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import DENSITIES, FEATURES, PAIRS, QUALITY
from dedup_spark.vocabulary import Engine, Method, Metric, StepName

log = logging.getLogger(__name__)


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Collect pairs from the three sources, keep each once, write, audit."""
    features = run.tables.read(FEATURES)
    with background(spark) as start:
        given = read_inputs(run, features, start)
        by_hash = start(lambda: _pairs_by_hash(run, given, features))
        if given.n_embedded < 2:
            n_compared = given.n_embedded
            _write_pairs(run, by_hash.result())
            _write_densities(run, given, local_relation(spark, [], neighbours.NEAREST))
        else:
            n_compared = _match_embeddings(run, given, features.select("image_id", "embedding"), by_hash, start)
    run.tables.drop_staged()
    run.tables.drop_progress(StepName.MATCH)
    run.count(representatives=given.n_unique, asked=n_compared)


def _pairs_by_hash(run: Run, given: Inputs, features: DataFrame) -> list[DataFrame]:
    """The first two sources, near pHashes staged with their cosines."""
    settings = run.config.match
    near = run.tables.stage("near_phash", hash_pairs.phash_pairs(given.unique, given.n_unique, settings))
    near_enough = run.tables.stage("near_enough", hash_pairs.near_enough(_scored(near, features), settings))
    return [hash_pairs.identical_pairs(features, given.with_copies, given.n_with_copies), near_enough]


def _scored(pairs: DataFrame, features: DataFrame) -> DataFrame:
    """Pairs by pHash with their cosine. They are few, so their images are picked before embeddings are shuffled."""
    ids = pairs.select(F.explode(F.array("image_id_a", "image_id_b")).alias("image_id")).distinct()
    return score_pairs(pairs, features.join(ids, "image_id", "left_semi").select("image_id", "phash", "embedding"))


def _match_embeddings(
    run: Run, given: Inputs, vectors: DataFrame, by_hash: Future[list[DataFrame]], start: Start
) -> int:
    """Survey, choose or go on, join, merge, write, audit. Returns how many images were compared with everything."""
    tables, settings = run.tables, run.config.match
    wanted = comparisons_to_make(run, given, vectors)
    surveyed, survey = _survey(run, given)
    guard = PairGuard(given.n_embedded, settings)
    guard.check_survey(survey)
    share = match_share(tables.spark, settings)
    waves = Waves.open(tables, name_of(given, wanted), settings.min_similarity)
    chosen = _kept_choice(run, given, waves, survey, share) or _choose_engine(run, given, wanted, survey, share)

    sources = by_hash.result()  # nothing else runs while the join shows its progress
    joining = JoinSettings.of(tables.root, chosen, settings, share.gpus, share.cpus)
    join = Join(run, wanted.items, chosen, joining, share if chosen.needs_gpu else NO_GPU)
    pairs, totals = join.find(waves, guard)
    faiss_report.say_what_searches_came_to(run, totals)
    run.note(shard_bytes_read=survey.read_bytes + (totals["read_bytes"] or 0))
    if wanted.known is not None:
        pairs = pairs.unionByName(wanted.known)
    top = neighbours.nearest(pairs, settings.neighbours)
    if settings.neighbours:
        top = tables.stage("nearest", top)
    kept = neighbours.with_hamming(neighbours.kept_pairs(pairs, top, settings.min_similarity), given.unique)
    _write_pairs(run, [*sources, kept])
    start(
        lambda: _write_densities(run, given, top, wanted.incomplete)
    )  # after the pairs: densities list the images whose pairs are complete
    _audit(run, surveyed, totals, chosen, (survey.n_queries, given.n_embedded))
    return wanted.n_images


def _survey(run: Run, given: Inputs) -> tuple[DataFrame, Survey]:
    """The sample's exact neighbours, staged, and the survey made of them."""
    settings = run.config.match
    sample = draw(given.drawable, given.n_queries, settings.seed)
    of_task = SurveySettings(
        run.tables.root, settings.min_similarity, lowest_floor(settings), settings.neighbours, settings.seed,
        settings.faiss_k if settings.engine in ("auto", "faiss_ivf") else None,
    )  # fmt: skip
    spread = one_task_per_shard(given.shard_rows, given.n_shards)
    surveyed = run.tables.stage("surveyed", compare_with_shards(spread, sample, of_task))
    return surveyed, summarise(surveyed, sample[1], settings.min_recall)


def _choose_engine(run: Run, given: Inputs, wanted: Comparisons, survey: Survey, share: TaskShare) -> Choice:
    """The engine that match.engine names, or the cheapest; noted in `runs` with the reasons."""
    settings = run.config.match
    gpu = gpu_speeds(given.shard_rows, run.tables.root, share, settings) if share.gpus else GpuSpeeds()
    if gpu.exact_unusable:
        log.warning("match: exact_gpu is left out, though tasks hold GPUs: %s", gpu.exact_unusable)
        run.note(exact_gpu_unusable=gpu.exact_unusable)
    faiss_report.say_whether_faiss_has_a_gpu(run, gpu.faiss_unusable)
    slots = _slots(run.tables.spark, share)
    choices = engine_choice.predict(
        survey, wanted.n_comparisons, settings, gpu.exact_ns, gpu.faiss_ns, given.index_type, slots
    )
    chosen = engine_choice.choose(choices, settings.engine)
    run.note(**engine_choice.notes(choices, chosen, survey))
    log.info("match: engine %s, about %.1f s by %d tasks at once", chosen.engine, chosen.seconds, chosen.slots)
    return chosen


def _slots(spark: SparkSession, share: TaskShare) -> Slots:
    return Slots(spark.sparkContext.defaultParallelism, gpu_tasks_at_once(spark, share), share.cpus)


def _kept_choice(run: Run, given: Inputs, waves: Waves, survey: Survey, share: TaskShare) -> Choice | None:
    """The engine of the waves that an interrupted run kept, for as many tasks as run at the same time now. Where it
    cannot be used now, they are deleted: another engine may reach down to another floor."""
    kept = waves.choice
    if kept is None:
        return None
    if why := _why_unusable(run, given, kept, share):
        log.warning("match: an interrupted run joined by %s, and now %s: it begins anew", kept.engine, why)
        waves.begin_anew()
        return None
    slots = _slots(run.tables.spark, share)
    run.note(**engine_choice.notes({kept.engine: kept}, kept, survey), items_done_before=waves.totals["n_items"])
    return replace(kept, slots=slots.gpus if kept.needs_gpu else slots.cores)


def _why_unusable(run: Run, given: Inputs, kept: Choice, share: TaskShare) -> str:
    """Empty if the engine can be used; where a person named it, what is missing is an error of its own later on."""
    if kept.needs_gpu and not share.gpus:
        return "tasks hold no GPU"
    if kept.engine != Engine.EXACT_GPU or run.config.match.engine != "auto":
        return ""
    return gpu_speeds(given.shard_rows, run.tables.root, share, run.config.match).exact_unusable


def _write_pairs(run: Run, sources: list[DataFrame]) -> None:
    tables, counted = run.tables, Observed()
    by_method = {m: F.count_if(F.col("method") == m) for m in Method}
    tables.overwrite(PAIRS, counted.watch(neighbours.each_once(sources), **by_method))
    seen = counted.get_or_query(lambda: tables.read(PAIRS))
    run.count(**{method: n for method, n in seen.items() if n})


def _write_densities(run: Run, given: Inputs, top: DataFrame, incomplete: DataFrame | None = None) -> None:
    densities = neighbours.densities(given.embedded, top, incomplete)
    run.tables.overwrite(DENSITIES, densities.withColumn("fingerprint", F.lit(given.fingerprint)))


def _audit(run: Run, surveyed: DataFrame, totals: Totals, chosen: Choice, sizes: tuple[int, int]) -> None:
    """Compare the sample with what was written. `totals` are those of the join; `sizes`: of the sample, of all."""
    tables, settings = run.tables, run.config.match
    compared = audit.compare(surveyed, tables.read(PAIRS), chosen.floor, settings)
    rows = audit.measure(compared, *sizes, chosen.floor, settings)
    rows.append(audit.candidates_row(totals))
    note = audit.recall_in_words(rows, chosen.engine, settings)
    tables.replace(QUALITY, audit.as_table(tables.spark, rows, run.run_id, note), run_id=run.run_id)
    run.note(recall=note)
    run.count(lost_in_sample=sum(r["metric"] == Metric.LOST_PAIR for r in rows))
