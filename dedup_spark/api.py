"""The functions of dedup_spark for Python: notebooks, jobs of one's own, and the command line, which calls these.

    import dedup_spark
    done = dedup_spark.run(spark, lake="s3a://bucket/photos", tables="s3a://bucket/dedup",
                           settings={"match.min_similarity": 0.5})
    print(done.groups, done.removable_bytes)
    answer = dedup_spark.sql(spark, "SELECT * FROM duplicates LIMIT 20", tables="s3a://bucket/dedup")

Each function stands for one command of `dedup-spark` and does what that does: the same checks before anything starts,
the same lease on the tables while it writes, the same resuming of an interrupted run. They return values; nothing is
printed. What they have in common:

* `spark`: the session to use. It is neither made nor stopped here; while a function runs, its time zone is UTC and its
  Arrow batches hold 1,024 rows, as our rows need it. None: the session that the platform has, or a local one is started
  (the log says so), which stays open.
* `tables`: where the tables live: a local path or a URI. `database`: the catalog's schema for them, as `main.dedup`.
* `lake`: the folder or URI of the images, in any spelling; `runs.lake` and `images.lake` hold the canonical one.
* `settings`: `{"match": {"min_similarity": 0.5}}` or `{"match.min_similarity": 0.5}`, or a whole `Config`; they go
  before those of `settings_file`, a TOML file such as `calibrate` gives. All wrong ones are named in one ConfigError.
* `run_id`: the name of the run. None: the interrupted run of this lake is continued, else it is a new name.
* `break_lock`: take the tables from a run that seems alive; that one ends before it writes again.

Every function raises `ConfigError` before anything is started where settings, paths or surroundings are not as needed,
also where another run holds the tables, and other kinds of `DedupError` (`errors.py`) in one sentence where the work
fails; what is finished is kept, and the same call goes on from there. Two calls of one process on the same tables at
the same time are two runs: the second one is refused.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from dedup_spark import pipeline
from dedup_spark.commands import dendrogram as dendrograms
from dedup_spark.commands import explain as explaining
from dedup_spark.commands import opening
from dedup_spark.commands import repair as repairing
from dedup_spark.commands import sql as asking
from dedup_spark.commands import trace as tracing
from dedup_spark.commands import upgrade as upgrading
from dedup_spark.commands.calibrate import step as calibrating
from dedup_spark.commands.calibrate.calibration import OperatingPoint
from dedup_spark.commands.calibrate.settings_file import fitted_settings, overlay
from dedup_spark.commands.demo_lake import build_demo_lake
from dedup_spark.commands.dendrogram import Dendrogram
from dedup_spark.commands.explain import Explanation
from dedup_spark.commands.opening import Opening, Place
from dedup_spark.commands.plan import plan as planning
from dedup_spark.commands.plan.forecast import parse_cluster
from dedup_spark.commands.plan.plan import Plan
from dedup_spark.commands.trace import Trace
from dedup_spark.commands.verify_removal import command as verifying
from dedup_spark.commands.verify_removal.command import VerifiedRemovals
from dedup_spark.config import Config, load_config
from dedup_spark.errors import ConfigError
from dedup_spark.pipeline import StepResult
from dedup_spark.spark.session import require_startable
from dedup_spark.spark.task_errors import told_in_a_sentence
from dedup_spark.stages.report.summary import collect_summary
from dedup_spark.stages.report.values import Summary
from dedup_spark.store import views
from dedup_spark.store.runs import new_run_id
from dedup_spark.store.views import ViewSettings

Settings = Config | Mapping[str, Any] | None


@dataclass(frozen=True)
class RunResult:
    """What a run did and found.

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
    def groups(self) -> int:
        """Clusters, each with a keeper."""
        return self.counts["report"]["clusters"]

    @property
    def removable(self) -> int:
        """Images that may go now, by the view duplicates."""
        return self.counts["report"]["removable"]

    @property
    def removable_bytes(self) -> int:
        """What removing them would free."""
        return self.counts["report"]["removable_bytes"]

    @property
    def report(self) -> str:
        """The page to open in a browser."""
        return f"{self.tables}/report/index.html"


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` measured.

    Attributes:
        point: The cut, with precision and recall on images that it was not chosen on, and the recall of each edit.
        settings: For the argument `settings` of `run`.
        toml: The same as the text of a settings file, with what was measured in its comments.
    """

    run_id: str
    point: OperatingPoint
    settings: Mapping[str, Mapping[str, Any]]
    toml: str


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
    config = _config(settings, settings_file)
    asked = Opening("run", spark, tables, database, lake, run_id, full, break_lock)
    with told_in_a_sentence(), opening.a_run(asked, config) as run:
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
        force: Do it even if nothing changed since it was last done.
    """
    config, found = _config(settings, settings_file), pipeline.find_step(step)
    asked = Opening(step, spark, tables, database, lake, run_id, full, break_lock)
    with told_in_a_sentence(), opening.a_run(asked, config) as run:
        return pipeline.run_step(run.tables.spark, config, run, found, force=force)


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
    """Embed all images again, with the model of the settings; hashes and thumbnails stay. `index` comes next."""
    config = _config(settings, settings_file)
    asked = Opening("embed", spark, tables, database, lake, run_id, break_lock=break_lock)
    with told_in_a_sentence(), opening.a_run(asked, config) as run:
        return pipeline.run_step(run.tables.spark, config, run, pipeline.EMBED)


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
    """What a run will cost and find, from the listing and a sample. It may work beside a run that writes.

    Args:
        clusters: Forecast for these too: `<nodes>x<cores>cpu` or `<nodes>xgpu`, as `100x16cpu` or `100xgpu`.
    """
    config, sizes = _config(settings, settings_file), [parse_cluster(size) for size in clusters]
    asked = Opening("plan", spark, tables, database, lake, run_id, break_lock=break_lock)
    with told_in_a_sentence(), opening.a_run_beside(asked, config) as run:
        return planning.make_plan(run.tables.spark, config, run, sizes)


def calibrate(
    spark: SparkSession | None = None,
    *,
    lake: Place,
    tables: Place,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
    run_id: str | None = None,
    break_lock: bool = False,
) -> Calibration:
    """How well edited copies of this lake's own images are found, and the settings for the precision asked for.

    Needs a finished run. Raises GuardError where no cut gives `cluster.target_precision`.
    """
    config = _config(settings, settings_file)
    name = run_id or new_run_id()  # no part of a run that was interrupted
    asked = Opening("calibrate", spark, tables, database, lake, name, break_lock=break_lock)
    with told_in_a_sentence(), opening.a_run(asked, config) as run:
        with run.step("calibrate"):
            found = calibrating.run(run.tables.spark, config, run)
        toml = overlay(found, config, run.run_id)
        return Calibration(run.run_id, found.point, fitted_settings(found, config), toml)


def sql(
    spark: SparkSession | None,
    query: str,
    *,
    tables: Place,
    max_rows: int | None = None,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
) -> pa.Table:
    """The answer to one query over all tables and views by their names, as an Arrow table on the driver.

    Args:
        max_rows: So many rows at most; None: all, which Spark refuses beyond spark.driver.maxResultSize.
    """
    config = _config(settings, settings_file)
    with told_in_a_sentence(), opening.to_read(Opening("sql", spark, tables, database)) as found:
        return asking.ask(found, query, ViewSettings.of(config), max_rows)


def open_views(
    spark: SparkSession | None = None,
    *,
    tables: Place,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
) -> SparkSession:
    """Every table and view by its name, as a temporary view of the session, which is returned; nothing is written.

    Temporary views of these names that the session has already are replaced.
    """
    config = _config(settings, settings_file)
    with told_in_a_sentence(), opening.to_read(Opening("sql", spark, tables, database)) as found:
        views.open_views(found, ViewSettings.of(config))
        return found.spark


def summary(
    spark: SparkSession | None = None,
    *,
    tables: Place,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
) -> Summary:
    """The headline figures of the tables: images found and read, clusters, what may go; a few counts."""
    config = _config(settings, settings_file)
    with told_in_a_sentence(), opening.to_read(Opening("report", spark, tables, database)) as found:
        return collect_summary(found, ViewSettings.of(config))


def trace(spark: SparkSession | None, uri: str, *, tables: Place, database: str | None = None) -> list[Trace]:
    """Where did an image go? Its rows in every table.

    Args:
        uri: Its address, or the end of one; with an end that up to five images have, there is a trace of each.
    """
    with told_in_a_sentence(), opening.to_read(Opening("trace", spark, tables, database)) as found:
        return tracing.trace_image(found, uri)


def explain(
    spark: SparkSession | None,
    uri_a: str,
    uri_b: str,
    *,
    tables: Place,
    database: str | None = None,
) -> Explanation:
    """Why two images are joined, or are not: their facts, the evidence between them, the path or what kept them apart.

    Args:
        uri_a: The address of one, or the end of one that no other image has.
        uri_b: That of the other.
    """
    with told_in_a_sentence(), opening.to_read(Opening("explain", spark, tables, database)) as found:
        return explaining.explain_pair(found, uri_a, uri_b)


def dendrogram(
    spark: SparkSession | None,
    cluster_id: int,
    *,
    tables: Place,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
) -> Dendrogram:
    """The hierarchy inside one cluster, by the linkage of the settings (`cluster.linkage`)."""
    config = _config(settings, settings_file)
    with told_in_a_sentence(), opening.to_read(Opening("dendrogram", spark, tables, database)) as found:
        return dendrograms.read_dendrogram(found, cluster_id, config.cluster.linkage)


def verify_removal(
    spark: SparkSession | None = None,
    *,
    tables: Place,
    out: Place,
    relations: Sequence[str] = (),
    limit: int | None = None,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
) -> VerifiedRemovals:
    """Look again at what may be removed, and write the list of what is still true. Nothing is removed.

    Args:
        out: A local file for the list, as CSV.
        relations: Only such copies: `same_bytes`, `same_pixels`, `edited_copy`. None named: all.
        limit: Look at so many at most, those first that free most.
    """
    config, wanted = _config(settings, settings_file), verifying.Wanted(tuple(relations), limit)
    verifying.require_file(os.fspath(out))  # before Spark starts
    with told_in_a_sentence(), opening.to_read(Opening("verify-removal", spark, tables, database)) as found:
        return verifying.verify_removal(found, config, wanted, os.fspath(out))


def upgrade(
    spark: SparkSession | None = None, *, tables: Place, database: str | None = None, break_lock: bool = False
) -> dict[str, int]:
    """Bring tables that an older version wrote to the format of this one. Returns how many rows changed, by what."""
    asked = Opening("upgrade", spark, tables, database, break_lock=break_lock)
    opening.require_tables(asked)
    with told_in_a_sentence(), opening.to_write(asked) as found:
        return upgrading.upgrade(found)


def repair(
    spark: SparkSession | None = None, *, tables: Place, database: str | None = None, break_lock: bool = False
) -> dict[str, int]:
    """Mend tables in which two runs wrote at once. Returns how many rows went, by what was wrong with them."""
    asked = Opening("repair", spark, tables, database, break_lock=break_lock)
    opening.require_tables(asked)
    with told_in_a_sentence(), opening.to_write(asked) as found:
        return repairing.repair(found)


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
    """`run` on a small lake of sample photos and edits of them, built in the folder `lake` beside the tables.

    Args:
        lake: A folder of one's own instead.
    """
    asked = Opening("demo", spark, tables, database)
    if spark is None:
        require_startable()  # before the lake of samples is built
    if lake is None:
        opening.require_writable(asked)
        lake = build_demo_lake(Path(asked.root).parent / "lake").folder
    return run(
        spark, lake=lake, tables=tables, database=database, settings=settings, settings_file=settings_file,
        break_lock=break_lock,
    )  # fmt: skip


def _config(settings: Settings, settings_file: Place | None) -> Config:
    if isinstance(settings, Config):
        if settings_file:
            raise ConfigError("settings: a whole Config leaves nothing for a settings_file to say: give one of the two")
        return settings
    return load_config(os.fspath(settings_file) if settings_file else None, given=settings)
