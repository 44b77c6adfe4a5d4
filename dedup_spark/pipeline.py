"""The six steps in order: run one, run all, continue an interrupted run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyspark.sql import SparkSession

from dedup_spark.config import Config
from dedup_spark.did_you_mean import did_you_mean
from dedup_spark.errors import ConfigError, LeaseError
from dedup_spark.spark.java_errors import root_cause
from dedup_spark.stages.cluster import step as cluster
from dedup_spark.stages.embed import step as embed
from dedup_spark.stages.extract import step as extract
from dedup_spark.stages.index import step as index
from dedup_spark.stages.inventory import step as inventory
from dedup_spark.stages.match import step as match
from dedup_spark.stages.report import step as report
from dedup_spark.store.compaction import compact
from dedup_spark.store.runs import WHOLE_RUN, Run, new_run_id, unfinished_run_id
from dedup_spark.store.schema import (
    CENTROIDS,
    CLUSTERS,
    COMPONENTS,
    DENSITIES,
    EVIDENCE,
    FEATURES,
    GUARDED,
    IMAGES,
    LOGS,
    PAIRS,
    SHARDS,
    TABLE_VERSIONS,
    Table,
)
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import StepName

log = logging.getLogger(__name__)

StepFunction = Callable[[SparkSession, Config, Run], None]


@dataclass(frozen=True)
class Step:
    """A step is skipped when its inputs, outputs and settings are those of its last completion.

    `inputs` empty: it is never skipped, and finds out itself what is new. `once_per_run`: it is not repeated where an
    interrupted run continues. `remembers`: it leaves out what it did before, unless the run is full; then it is not
    skipped either.
    """

    name: StepName
    run: StepFunction
    inputs: tuple[Table, ...] = ()
    outputs: tuple[Table, ...] = ()
    sections: tuple[str, ...] = ()
    once_per_run: bool = False
    remembers: bool = False


STEPS = (
    Step(StepName.INVENTORY, inventory.run, once_per_run=True),
    Step(StepName.EXTRACT, extract.run),
    Step(StepName.INDEX, index.run, (FEATURES,), (CENTROIDS, SHARDS), ("index",)),
    Step(StepName.MATCH, match.run, (FEATURES, SHARDS), (PAIRS, DENSITIES), ("match",), remembers=True),
    Step(
        StepName.CLUSTER,
        cluster.run,
        (IMAGES, FEATURES, PAIRS, DENSITIES),
        (CLUSTERS, EVIDENCE, COMPONENTS, GUARDED),
        ("cluster", "match"),
    ),
    Step(StepName.REPORT, report.run),
)

EMBED = Step(StepName.EMBED, embed.run)
"""Not one of the six: replaces the vectors that extract made by those of another model."""


@dataclass(frozen=True)
class StepResult:
    """What became of one step of a run.

    Attributes:
        status: `complete`, or `unchanged` where inputs and settings are those of its last completion.
        counts: As in `runs.counts`; empty where the step is unchanged.
    """

    step: str
    status: str
    counts: Mapping[str, int]
    elapsed_seconds: float


def run_all(spark: SparkSession, config: Config, run: Run) -> tuple[StepResult, ...]:
    """All steps, as one run. A step that is complete or unchanged is not done again."""
    with run.step(WHOLE_RUN):
        results = tuple(_in_a_whole_run(spark, config, run, step) for step in STEPS)
        _compact_logs(run.tables)
        return results


def _compact_logs(tables: Tables) -> None:
    """Upkeep, which must not make a failure of a run whose results are there; but for a lease that was lost."""
    for table in LOGS:
        try:
            compact(tables, table)
        except LeaseError:
            raise
        except Exception as e:  # Spark's, Delta's, and each store's own
            log.warning("%s: its small files stay until the next run: %s", table.name, root_cause(e))


def _in_a_whole_run(spark: SparkSession, config: Config, run: Run, step: Step) -> StepResult:
    if step.once_per_run and _is_done(config, run, step):
        log.info("%s: already done in run %s", step.name, run.run_id)
        return StepResult(step.name, "unchanged", {}, 0.0)
    return run_step(spark, config, run, step)


def _is_done(config: Config, run: Run, step: Step) -> bool:
    """A listing is old after some hours, but not before a match that goes on is done: one new image would be another
    lake to it, and in a lake that grows each day a match that is killed now and then would never end."""
    if run.is_complete(step.name, config.inventory.resume_hours):
        return True
    return bool(run.tables.progress_names(StepName.MATCH)) and run.is_complete(step.name)


def run_step(spark: SparkSession, config: Config, run: Run, step: Step, *, force: bool = False) -> StepResult:
    """One step, unless nothing changed since it was last completed; `force` does it anyway."""
    force |= run.full and step.remembers
    if step.inputs and not force and run.unchanged(step.name, _fingerprint(run, step)):
        return StepResult(step.name, "unchanged", {}, 0.0)
    log.info("%s: started", step.name)
    with run.step(step.name) as mark:
        step.run(spark, config, run)
        if step.inputs:
            versions = run.versions(*step.inputs, *step.outputs)
            mark.fingerprint = run.fingerprint(versions, sections=step.sections)
            run.note(**{TABLE_VERSIONS: versions})
    return StepResult(step.name, "complete", mark.counts, mark.elapsed_seconds)


def find_step(name: str) -> Step:
    """The step of that name. Raises ConfigError."""
    for step in STEPS:
        if step.name == name:
            return step
    names = [step.name for step in STEPS]
    raise ConfigError(f"no step '{name}'; the steps are {', '.join(names)}{did_you_mean(name, names)}")


def run_id_to_use(tables: Tables, lake: str, asked: str | None) -> str:
    """The run id asked for; else that of the interrupted run of this lake, which is continued; else a new one."""
    if asked:
        return asked
    unfinished = unfinished_run_id(tables, lake)
    if unfinished:
        log.info("continuing run %s, which did not complete", unfinished)
    return unfinished or new_run_id()


def _fingerprint(run: Run, step: Step) -> str:
    return run.fingerprint(run.versions(*step.inputs, *step.outputs), sections=step.sections)
