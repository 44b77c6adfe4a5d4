"""Opens session, tables and run for a command, and checks what it was given before Spark starts.

`open_run` and `to_write` take the lease on the tables: nobody else writes to them until the block ends.
`open_run_beside` writes nothing but the log of runs and holds no lease, unless the tables are missing or older: then
it first takes the lease and makes them, or brings them up to date. `to_read` writes nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dedup_spark import pipeline
from dedup_spark.commands import places, sizes
from dedup_spark.commands.apart import Place, folder_below, root_of
from dedup_spark.commands.upgrade import make_current
from dedup_spark.config import Config
from dedup_spark.errors import ConfigError, LeaseError
from dedup_spark.models.registry import TABLE, require_model
from dedup_spark.sources import addresses, vector_table
from dedup_spark.sources.base import Source
from dedup_spark.sources.first_look import why_no_image
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.delta import require_delta
from dedup_spark.spark.session import require_startable, session_for
from dedup_spark.spark.surroundings import is_hosted, require_names
from dedup_spark.stages.cluster.cut import require_linkage
from dedup_spark.store import dbfs, erasure, files, lease, outcomes
from dedup_spark.store.catalog import require_database
from dedup_spark.store.runs import Run, lakes_listed, new_run_id
from dedup_spark.store.schema import IMAGES
from dedup_spark.store.tables import Tables, parts_of_name

log = logging.getLogger(__name__)

_LISTING = ("run", "inventory", "plan")
"""Commands that list the lake. The other ones work on what was listed, and need a lake that was."""


@dataclass(frozen=True)
class Opening:
    """The arguments that commands have in common; `dedup_spark.api` documents each.

    `tables` and `lake` are as the caller wrote them, for messages; `root` is the canonical place of the tables.
    `command` is the name under which the lease is taken, for the messages of other runs.
    """

    command: str
    spark: SparkSession | None
    tables: Place
    database: str | None = None
    lake: Place | None = None
    run_id: str | None = None
    full: bool = False
    break_lock: bool = False
    source: Source | None = None
    """The lake, opened; by its size a session is started."""

    @property
    def root(self) -> str:
        """See `root_of`."""
        return root_of(self.tables)


@contextmanager
def open_run(asked: Opening, config: Config) -> Iterator[Run]:
    """The run asked for, or the interrupted run of this lake, or a new one, with the lease. Raises ConfigError."""
    asked = _with_source(asked, config)
    with to_write(asked) as tables:
        make_current(tables)
        lake = _canonical_lake(asked, config)
        _require_listed(asked, tables, lake)
        run_id = pipeline.run_id_to_use(tables, lake, asked.run_id)
        if tables.lease:
            tables.lease.name_run(run_id)
        log.info("run %s: lake %s, tables %s", run_id, lake, tables.root)
        run = Run(tables, config, lake, run_id, full=asked.full)
        with outcomes.told(run, asked.command):
            yield run


@contextmanager
def open_run_beside(asked: Opening, config: Config) -> Iterator[Run]:
    """A run of a command that writes nothing but the log of runs, and may work while another run writes.

    Tables that are missing or older are made or brought up to date first, under the lease.
    """
    asked = _with_source(asked, config)
    with _session(asked) as spark:
        tables = Tables(spark, asked.root, asked.database)
        if not tables.are_current():  # they must be made first, and that needs the lease
            with to_write(asked) as taken:
                make_current(taken)
        run_id, is_logged = asked.run_id or new_run_id(), not _has_one_driver(asked.root)
        yield Run(tables, config, _canonical_lake(asked, config), run_id, is_logged=is_logged)


@contextmanager
def to_write(asked: Opening) -> Iterator[Tables]:
    """The tables, with the lease until the block ends; they are made where there are none. Raises ConfigError."""
    if asked.spark is None:
        require_startable()
    held = _take_lease(asked)
    try:
        with _session(asked) as spark:
            tables = Tables(spark, asked.root, asked.database, lease=held)
            tables.create_missing()
            erasure.end_killed(tables)
            if held:
                tables.sweep_staged()
            if held and held.took_over:
                log.warning("lease: the run that held the tables ended without giving it back; it was taken over")
            yield tables
    finally:
        if held:
            held.release()


@contextmanager
def to_read(asked: Opening) -> Iterator[Tables]:
    """Tables that are there and current. Raises ConfigError."""
    require_tables(asked)
    with _session(asked) as spark:
        tables = Tables(spark, asked.root, asked.database)
        if asked.database and tables.format() is None:
            raise ConfigError(
                f"--tables {asked.tables}: the files that belong to --database {asked.database} are not there: give "
                "the --tables of the run that made it, or `dedup-spark upgrade` it where version 0.1.0 did"
            )
        if not tables.are_current():
            raise ConfigError(
                f"--tables {asked.tables}: these tables were written by an older dedup-spark, or are missing; "
                "`dedup-spark upgrade` with the same --tables upgrades older ones, `dedup-spark run` makes new ones"
            )
        yield tables


@contextmanager
def _session(asked: Opening) -> Iterator[SparkSession]:
    if asked.database:
        parts_of_name(asked.database)  # before Spark starts
    starts = asked.spark is None and not is_hosted()
    is_small = starts and sizes.is_small(asked.root, asked.database, asked.source)
    with session_for(asked.spark, is_small=is_small) as spark:
        require_delta(spark)
        require_names(spark, asked.root)
        if asked.database:
            require_database(spark, asked.database)
        yield spark


def require_tables(asked: Opening) -> None:
    """Raise ConfigError where there are no tables. Spark is started only to ask a catalog or a store."""
    _require_mounted(asked)
    if asked.database or "://" in asked.root:
        with _session(asked) as spark:
            are_there = Tables(spark, asked.root, asked.database).are_there()
    else:
        are_there = os.path.isdir(f"{asked.root}/runs/_delta_log")  # False also where one may not look
    if not are_there:
        place = f"--database {asked.database}" if asked.database else f"--tables {asked.tables}"
        raise ConfigError(f"{place}: there are no dedup-spark tables; `dedup-spark run` makes them")


def require_writable(asked: Opening) -> None:
    """Raise ConfigError where the tables shall be in a local folder in which a run cannot make them."""
    if "://" in asked.root:
        return  # the lease is written before Spark starts
    lake = addresses.to_uri(os.fspath(asked.lake)) if asked.lake else "://"
    path = None if addresses.is_remote(lake) else addresses.to_path(lake)
    places.require_writable(os.fspath(asked.tables), asked.root, path)


def _take_lease(asked: Opening) -> lease.Lease | None:
    named = asked.run_id or "of a new name"
    try:
        held = lease.take(asked.root, named, f"dedup-spark {asked.command}", break_lock=asked.break_lock)
        if held is None:
            files.try_to_write(asked.root)
        return held
    except LeaseError as e:  # no work has begun, so it is an error of the surroundings
        raise ConfigError(str(e)) from e
    except (ImportError, ValueError) as e:  # no package, no such scheme: a sentence says what to do
        raise ConfigError(f"--tables {asked.tables}: cannot be written: {e}") from e
    except Exception as e:  # each store has error types of its own
        raise ConfigError(f"--tables {asked.tables}: cannot be written: {type(e).__name__}: {e}") from e


def _with_source(asked: Opening, config: Config) -> Opening:
    """`asked` with its lake opened. Raises ConfigError with everything that is wrong with it."""
    _require_all(asked, config)
    return replace(asked, source=_source(asked, config))


def _require_all(asked: Opening, config: Config) -> None:
    """Raise ConfigError with everything that is wrong with lake, tables and model."""
    problems: list[str] = []
    checks: tuple[Callable[[], object], ...] = (
        lambda: _require_mounted(asked),
        lambda: _require_lake(asked, config),
        lambda: _require_place(asked),
        lambda: require_model(config.extract),
        lambda: require_linkage(config, config.extract.embedding),
        lambda: _require_vectors(config),
    )
    for check in checks:
        try:
            check()
        except ConfigError as e:
            problems += [p for p in e.problems if p not in problems]
    if problems:
        raise ConfigError(problems)


def _require_mounted(asked: Opening) -> None:
    for option, place in (("--lake", asked.lake), ("--tables", asked.tables)):
        dbfs.require_mounted(option, os.fspath(place or ""))


def _require_lake(asked: Opening, config: Config) -> None:
    """Raise ConfigError where the lake is not there, or has no image that could be listed."""
    source = _source(asked, config)
    if source.root and asked.command in _LISTING and isinstance(source, FolderSource) and (why := why_no_image(source)):
        raise ConfigError(f"lake {asked.lake}: {why}")


def _require_place(asked: Opening) -> None:
    """Raise ConfigError where the tables cannot be made where they shall be, or are not there and should be."""
    _require_apart(asked)  # first: nothing is tried inside a lake
    if asked.lake and asked.command not in _LISTING and not asked.database and "://" not in asked.root:
        require_tables(asked)
    require_writable(asked)


def _require_listed(asked: Opening, tables: Tables, lake: str) -> None:
    """Raise ConfigError where a step shall work on another lake than these tables know."""
    if asked.command in _LISTING or lake in (known := lakes_listed(tables)):
        return
    if tables.read(IMAGES).where(F.col("lake") == lake).isEmpty():  # of a listing by an older version they are known
        theirs = f"are of {', '.join(known)}: give that lake, or other --tables" if known else "hold no listing yet"
        raise ConfigError(
            f"--lake {asked.lake}: these tables {theirs}. To add this lake to them, list it first: "
            f"dedup-spark inventory --lake {asked.lake} --tables {asked.tables}"
        )


def _require_vectors(config: Config) -> None:
    """Raise ConfigError where embeddings shall come from a table that is not there."""
    if config.extract.embedding == TABLE:
        vector_table.require_vectors(config.vectors)


def _canonical_lake(asked: Opening, config: Config) -> str:
    """The canonical address of the lake for any spelling. Raises ConfigError where the lake is not there."""
    return _source(asked, config).root


def _source(asked: Opening, config: Config) -> Source:
    if not asked.lake:
        raise ConfigError("--lake is missing: give the folder or URI that holds the images")
    return open_source(os.fspath(asked.lake), config.inventory)


def _require_apart(asked: Opening) -> None:
    """Raise ConfigError where tables and lake are one inside the other, by their canonical addresses.

    Tables inside the lake would be listed as images, and be lost with the lake. A lake in one of the folders that a run
    makes below the root of its tables would get files that are no images. With a database, shards and the report are
    below that root all the same.
    """
    if not asked.lake:
        return
    if folder_below(asked.tables, asked.lake) is not None:
        raise ConfigError(f"--tables {asked.tables}: is inside the lake ({asked.lake}); choose a folder outside it")
    below = folder_below(asked.lake, asked.tables)
    if below in places.OWN_FOLDERS:
        raise ConfigError(
            f"--lake {asked.lake}: lies in {below}/, which a run makes below --tables {asked.tables}; choose another "
            "folder for the tables"
        )


def _has_one_driver(root: str) -> bool:
    """Whether Delta lets only one driver commit there: on S3, of two commits at once one may be lost."""
    return root.startswith(("s3://", "s3a://", "s3n://"))
