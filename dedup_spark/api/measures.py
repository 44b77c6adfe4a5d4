"""Functions that measure what a run will cost, and how well copies are found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from dedup_spark.api.settings import Settings, config_of
from dedup_spark.commands import opening
from dedup_spark.commands.apart import Place
from dedup_spark.commands.calibrate import labelled_pairs
from dedup_spark.commands.calibrate import step as calibrating
from dedup_spark.commands.calibrate.calibration import OperatingPoint
from dedup_spark.commands.calibrate.settings_file import fitted_settings, overlay
from dedup_spark.commands.labels import read_labels
from dedup_spark.commands.opening import Opening
from dedup_spark.commands.plan import plan as planning
from dedup_spark.commands.plan.forecast import parse_cluster
from dedup_spark.commands.plan.plan import Plan
from dedup_spark.spark.task_errors import told_in_a_sentence
from dedup_spark.store.runs import new_run_id
from dedup_spark.vocabulary import StepName


@dataclass(frozen=True)
class Calibration:
    """The result of `calibrate`.

    Attributes:
        labels: Which labelled pairs were used and which were left out, in words; empty without `pairs`.
        point: The cut, with precision and recall on images that it was not chosen on, and the recall of each edit.
        settings: For the argument `settings` of `run`.
        toml: The same settings as the text of a settings file, with the measured figures in its comments.
    """

    run_id: str
    point: OperatingPoint
    settings: Mapping[str, Mapping[str, Any]]
    toml: str
    labels: str = ""


def plan(
    spark: SparkSession | None = None,
    *,
    lake: Place,
    tables: Place,
    clusters: Sequence[str] = (),
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
    run_id: str | None = None,
    break_lock: bool = False,
) -> Plan:
    """Estimate what a run will cost and find, from the listing and a sample. It may work while another run writes.

    Args:
        clusters: Spark clusters to forecast for too: `<nodes>x<cores>cpu` or `<nodes>xgpu`, as `100x16cpu`, `100xgpu`.
    """
    config, sizes = config_of(settings, settings_file), [parse_cluster(size) for size in clusters]
    asked = Opening("plan", spark, tables, database, lake, run_id, break_lock=break_lock)
    with told_in_a_sentence(), opening.open_run_beside(asked, config) as run:
        return planning.make_plan(run.tables.spark, config, run, sizes)


def calibrate(
    spark: SparkSession | None = None,
    *,
    lake: Place,
    tables: Place,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
    pairs: Place | None = None,
    run_id: str | None = None,
    break_lock: bool = False,
) -> Calibration:
    """Measure how well edited copies of this lake's own images are found; fit settings for the precision asked for.

    Needs the steps up to match; after the whole run it knows the lake's own copies by their clusters. Raises GuardError
    where no cut gives `cluster.target_precision`.

    Args:
        pairs: Measure on these pairs instead: CSV or Parquet with `image_id_a`, `image_id_b` or `uri_a`, `uri_b`, and
            `duplicate`, 1 or 0.
    """
    config = config_of(settings, settings_file)
    labels = read_labels(os.fspath(pairs)) if pairs is not None else None  # before Spark starts
    name = run_id or new_run_id()  # no part of a run that was interrupted
    asked = Opening("calibrate", spark, tables, database, lake, name, break_lock=break_lock)
    with told_in_a_sentence(), opening.open_run(asked, config) as run:
        with run.step(StepName.CALIBRATE):
            if labels:
                found = labelled_pairs.run(run.tables.spark, config, run, labels)
            else:
                found = calibrating.run(run.tables.spark, config, run)
        toml = overlay(found, config, run.run_id)
        return Calibration(run.run_id, found.point, fitted_settings(found, config), toml, found.labels)
