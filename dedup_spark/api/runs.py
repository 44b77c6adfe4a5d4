"""Functions that find duplicates: all steps, one step, new embeddings with another model, a demo on sample photos."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import SparkSession

from dedup_spark import pipeline
from dedup_spark.api.settings import Settings, config_of
from dedup_spark.commands import opening
from dedup_spark.commands.apart import Place
from dedup_spark.commands.demo_lake import build_demo_lake
from dedup_spark.commands.opening import Opening
from dedup_spark.errors import ConfigError
from dedup_spark.pipeline import StepResult
from dedup_spark.sources import addresses
from dedup_spark.spark.session import require_startable
from dedup_spark.spark.task_errors import told_in_a_sentence


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        lake: The canonical address of the lake.
        tables: Where the tables are: a path or URI; `database` where they are in a catalog.
        steps: What became of each step, in order.
        elapsed_seconds: Of the whole run, without the start of Spark.
    """

    run_id: str
    lake: str
    tables: str
    database: str | None
    steps: tuple[StepResult, ...]
    elapsed_seconds: float

    @property
    def counts(self) -> dict[str, Mapping[str, int]]:
        """Counts by step, as in `runs.counts`; a step that need not be done again has none."""
        return {step.step: step.counts for step in self.steps}

    @property
    def clusters(self) -> int:
        """Clusters, each with a keeper."""
        return self.counts["report"]["clusters"]

    @property
    def removable(self) -> int:
        """Images that may go now, by the view duplicates."""
        return self.counts["report"]["removable"]

    @property
    def removable_bytes(self) -> int:
        """The bytes that their removal would free."""
        return self.counts["report"]["removable_bytes"]

    @property
    def report(self) -> str:
        """The page to open in a browser."""
        return f"{self.tables}/report/index.html"


def run(
    spark: SparkSession | None = None,
    *,
    lake: Place,
    tables: Place,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
    run_id: str | None = None,
    full: bool = False,
    break_lock: bool = False,
) -> RunResult:
    """Find the duplicates of a lake: all six steps in order. What is done and unchanged is not done again.

    Afterwards every table and view is open in the session by its name: `spark.sql("SELECT * FROM duplicates")`.

    Args:
        full: Compare all images again, also those that were matched before.
    """
    config = config_of(settings, settings_file)
    asked = Opening("run", spark, tables, database, lake, run_id, full, break_lock)
    with told_in_a_sentence(), opening.open_run(asked, config) as run:
        begin = time.monotonic()
        steps = pipeline.run_all(run.tables.spark, config, run)
        return RunResult(run.run_id, run.lake, run.tables.root, database, steps, time.monotonic() - begin)


def run_step(
    spark: SparkSession | None,
    step: str,
    *,
    lake: Place,
    tables: Place,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
    run_id: str | None = None,
    full: bool = False,
    force: bool = False,
    break_lock: bool = False,
) -> StepResult:
    """One step: `inventory`, `extract`, `index`, `match`, `cluster` or `report`, as a scheduler calls them.

    Args:
        step: Its name.
        full: In match: compare all images again, also those that were matched before.
        force: In index, match and cluster: do it even if nothing changed since it was last done. The others find out
            themselves what is new, and are never skipped.
    """
    config, found = config_of(settings, settings_file), pipeline.find_step(step)
    _require_effect(found, full=full, force=force)
    asked = Opening(step, spark, tables, database, lake, run_id, full, break_lock)
    with told_in_a_sentence(), opening.open_run(asked, config) as run:
        return pipeline.run_step(run.tables.spark, config, run, found, force=force)


def _require_effect(step: pipeline.Step, *, full: bool, force: bool) -> None:
    """Raise ConfigError for an argument that would change nothing."""
    if full and not step.remembers:
        raise ConfigError(f"full=True would change nothing in {step.name}: match alone leaves out what it did before")
    if force and not step.inputs:
        raise ConfigError(f"force=True would change nothing in {step.name}: that step is never skipped")


def embed(
    spark: SparkSession | None = None,
    *,
    lake: Place,
    tables: Place,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
    run_id: str | None = None,
    break_lock: bool = False,
) -> StepResult:
    """Compute all embeddings again, with the model of the settings; hashes and thumbnails stay. Run `index` next."""
    config = config_of(settings, settings_file)
    asked = Opening("embed", spark, tables, database, lake, run_id, break_lock=break_lock)
    with told_in_a_sentence(), opening.open_run(asked, config) as run:
        return pipeline.run_step(run.tables.spark, config, run, pipeline.EMBED)


def demo(
    spark: SparkSession | None = None,
    *,
    tables: Place,
    lake: Place | None = None,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
    break_lock: bool = False,
) -> RunResult:
    """`run` on a small lake of sample photos and edits of them, built in the folder `lake` next to the tables.

    Args:
        lake: A folder of your own instead.
    """
    asked = Opening("demo", spark, tables, database)
    if lake is None:
        opening.require_writable(asked)
        if addresses.is_remote(asked.root):
            raise ConfigError(
                f"the photos of the demo are put next to the tables, on a disk, and not into {asked.root}: give --lake"
            )
        if spark is None:
            require_startable()  # before the lake of samples is built
        lake = build_demo_lake(Path(asked.root).parent / "lake").folder
    return run(
        spark, lake=lake, tables=tables, database=database, settings=settings, settings_file=settings_file,
        break_lock=break_lock,
    )  # fmt: skip
