"""Calibrate by pairs that people have labelled: a prior from their scores, a cut from their evidence.

Reads: images, features, pairs, densities
Writes: quality
Kernels: comparing, decoding, features, vectors
Scale: two scans of the ids and hashes of features; the labelled pairs, some thousand, on the driver; thumbnails of
those in doubt are compared, about 10 ms each on one core. No image is read.

Works for any model, also for vectors that were made elsewhere. A labelled pair gets the evidence that the step cluster
gives it, with the same supporting images. One that match did not propose is never joined, whatever the cut.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.commands.calibrate import calibration
from dedup_spark.commands.calibrate.step import PULL, PULL_OF_UNKNOWN, UNKNOWN, Calibrated, write_quality
from dedup_spark.commands.labelled_images import known_images
from dedup_spark.commands.labels import LabelCounts, Labels, UsablePairs, usable_pairs
from dedup_spark.config import Config
from dedup_spark.errors import ConfigError, TableError
from dedup_spark.kernels.arrays import Float64
from dedup_spark.kernels.comparing.probability import MIN_GROUP_PROBABILITY, Prior, prior_of
from dedup_spark.models.registry import computes
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster.evidence import EvidenceSettings, evidence_of, evidence_settings, with_prior
from dedup_spark.stages.reading.model_choice import held_models
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import DENSITIES, FEATURES, PAIRS
from dedup_spark.store.spark_sql import SparkTables
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import IDENTICAL

LEAST_OF_A_KIND = 20
"""Duplicates, and others, that a fit needs: half of them are fitted on and half measured on. So few give wide
intervals: 20 without an error say no more than that 84 % are right."""
_NO_EDIT = -1
_SCORES = ("similarity", "normalised_similarity")


def run(spark: SparkSession, config: Config, run: Run, labels: Labels) -> Calibrated:
    """Find the labelled images, score their pairs, fit a prior on half of the pictures, choose and measure a cut."""
    tables = run.tables
    held = held_models(tables.read(FEATURES))
    _require_matched(tables, held, config.extract.embedding)
    found, counts = usable_pairs(labels, known_images(SparkTables(tables), labels, run.lake))
    require_enough(found, counts, labels.file)

    known = prior_of(held[0], config.cluster.prior)
    start = evidence_settings(config, known or UNKNOWN)
    asked = tables.stage("labelled", labelled(spark, found))
    scored = tables.stage("labelled_scored", with_scores(asked, tables, start))
    prior = fitted_prior(found, scores_of(found, scored, *_SCORES), start.prior, PULL if known else PULL_OF_UNKNOWN)
    evidence = evidence_of_asked(asked, tables, evidence_settings(config, prior))
    probability = scores_of(found, evidence, "copy_probability")[:, 0]
    tables.drop_staged()

    edits = np.full(len(found.a), _NO_EDIT, np.int64)
    pairs = calibration.LabelledPairs(found.group, edits, found.is_copy, probability)
    point = calibration.operating_point(pairs, config.cluster.target_precision, MIN_GROUP_PROBABILITY)
    write_quality(run, point, f"on pairs labelled in {labels.file}")
    counts = replace(counts, proposed=int(np.isfinite(probability[found.is_copy]).sum()))
    run.count(duplicates=counts.duplicates, proposed=counts.proposed or 0, negatives=counts.others)
    return Calibrated(prior, point, f"other labelled pairs of {labels.file}", counts.in_words(labels.file))


def _require_matched(tables: Tables, held: list[str], name: str) -> None:
    if not held or tables.read(DENSITIES).isEmpty():
        raise TableError("there are no embeddings that were matched: run the steps up to match first")
    if len(held) > 1:
        raise TableError(f"features holds embeddings of two models, {' and '.join(held)}, which cannot be compared")
    if computes(held[0]) and held[0].partition("/")[0] != name:
        raise TableError(
            f"features holds embeddings of model {held[0]}, and extract.embedding is {name}: give calibrate the "
            "settings of the run, as it writes them all for the next one"
        )


def require_enough(found: UsablePairs, counts: LabelCounts, file: str) -> None:
    """Raise ConfigError unless there are enough pairs of both kinds, on both sides of the split."""
    fewest = min(counts.duplicates, counts.others)
    if fewest < LEAST_OF_A_KIND:
        raise ConfigError(
            f"--pairs {file}: a fit needs at least {LEAST_OF_A_KIND} duplicates and {LEAST_OF_A_KIND} others; 300 of "
            f"each tell a precision of 0.99 from one of 0.97. {counts.in_words(file)}"
        )
    fit = calibration.first_half(found.group)
    if any(len(np.unique(found.is_copy[half])) < 2 for half in (fit, ~fit)):
        raise ConfigError(
            f"--pairs {file}: the pairs are of too few pictures to fit on some of them and to measure on others; label "
            f"pairs of more pictures. {counts.in_words(file)}"
        )


def labelled(spark: SparkSession, found: UsablePairs) -> DataFrame:
    """(image_id_a, image_id_b) of the labelled pairs."""
    rows = zip(found.a.tolist(), found.b.tolist(), strict=True)
    return local_relation(spark, rows, "image_id_a bigint, image_id_b bigint")


def with_scores(asked: DataFrame, tables: Tables, settings: EvidenceSettings) -> DataFrame:
    """The labelled pairs with cosine and normalised similarity, also those that match did not propose."""
    ids = asked.select(F.explode(F.array("image_id_a", "image_id_b")).alias("image_id")).distinct()
    signatures = tables.read(FEATURES).join(F.broadcast(ids), "image_id").select("image_id", "phash", "embedding")
    densities = tables.read(DENSITIES).select("image_id", "similarities")
    return with_prior(score_pairs(asked, signatures), densities, settings)


def evidence_of_asked(asked: DataFrame, tables: Tables, settings: EvidenceSettings) -> DataFrame:
    """Rows of `evidence` for the labelled pairs that match proposed, by the pairs around them."""
    candidates = tables.read(PAIRS).where(~F.col("method").isin(*IDENTICAL))
    ids = asked.select(F.explode(F.array("image_id_a", "image_id_b")).alias("image_id")).distinct()
    a, b = (F.broadcast(ids.withColumnRenamed("image_id", f"image_id_{side}")) for side in "ab")
    of_a = candidates.join(a, "image_id_a", "left_semi")
    of_b_alone = candidates.join(b, "image_id_b", "left_semi").join(a, "image_id_a", "left_anti")
    around = of_a.unionByName(of_b_alone).select("image_id_a", "image_id_b", "similarity", "hamming_bits")
    return evidence_of(around, tables.read(DENSITIES), tables.read(FEATURES), tables, settings, asked=asked)


def scores_of(found: UsablePairs, rows: DataFrame, *columns: str) -> Float64:
    """(n, columns) of the labelled pairs, in their order; -inf where `rows` has none."""
    ids = local_relation(
        rows.sparkSession,
        zip(found.a.tolist(), found.b.tolist(), range(len(found.a)), strict=True),
        "image_id_a bigint, image_id_b bigint, place int",
    )
    table = ids.join(rows, ["image_id_a", "image_id_b"]).select("place", *columns).toArrow()
    scores = np.full((len(found.a), len(columns)), -np.inf)
    for i, name in enumerate(columns):
        scores[table["place"].to_numpy(), i] = table[name].to_numpy()
    return scores


def fitted_prior(found: UsablePairs, scores: Float64, start: Prior, pull: float) -> Prior:
    """The prior fitted to half of the pictures; `scores` are (n, 2), cosine and normalised similarity."""
    cosine, normalised = scores.T
    features = np.column_stack([cosine, cosine**2, normalised])
    fit = calibration.first_half(found.group)
    near = calibration.Logistic((start.cosine, start.cosine_squared, start.normalised), start.bias)
    model = calibration.fit_logistic(features[fit], found.is_copy[fit], near, pull)
    return Prior(model.bias, *model.weights)
