"""`dedup-spark forget`: erases images from everything below the root of the tables, files that nobody names too.

The order makes a command that was killed start again from its beginning and end well: what tells that an image is
asked for (its address in `clusters`, `tombstones` and `images`) goes last, and the past of all tables is taken away
every time. First its address is remembered by a keyed digest (store/forgotten.py), so that an object that is still in
the lake is not listed again.

Work: a MERGE of each table that holds the ids, which rewrites the files with such rows alone; one pass over addresses;
the driver gets counts. The index is deleted as a whole, as the next run makes it anew whatever changed: a shard that
lacks some vectors is of no use, and its centroids are means of all.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

import dedup_spark
from dedup_spark.commands.forget import queries, residue, texts
from dedup_spark.commands.forget.asked import COLUMNS, ROW_OF_A_FILE, Asked
from dedup_spark.errors import ConfigError, TableError
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.spark.session import putting_back
from dedup_spark.stages.cluster.history import changes
from dedup_spark.stages.inventory.step import id_of_address
from dedup_spark.store import erasure, forgotten
from dedup_spark.store.runs import new_run_id
from dedup_spark.store.schema import (
    ALL,
    CLUSTER_HISTORY,
    CLUSTERS,
    COMPONENTS,
    DENSITIES,
    EVIDENCE,
    FEATURES,
    GUARDED,
    IMAGES,
    PAIRS,
    QUALITY,
    RUNS,
    TABLE_VERSIONS,
    TOMBSTONES,
    Table,
)
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import RunStatus, StepName

log = logging.getLogger(__name__)

HOLDERS: tuple[tuple[Table, str], ...] = (
    (PAIRS, "image_id_a"), (PAIRS, "image_id_b"), (EVIDENCE, "image_id_a"), (EVIDENCE, "image_id_b"),
    (QUALITY, "image_id_a"), (QUALITY, "image_id_b"), (GUARDED, "image_id"), (FEATURES, "image_id"),
)  # fmt: skip
"""Tables of which rows with an erased id go, without any other row being changed, in the order in which they go."""
KNOW_ADDRESSES: tuple[tuple[Table, str], ...] = ((TOMBSTONES, "image_id"), (IMAGES, "image_id"))
"""The same, after all else that is made of images."""
_TEXTS = ("notes", "lake", "config", "message")
"""Columns of `runs` in which an address or an id may stand."""
_ROW_OF_RUNS = ["run_id", "step", "status", "at"]
"""What tells two rows of `runs` apart. Rows are changed one by one, as others may be adding some at the same time."""
_SECONDS_TO_APPEND, _SECONDS_TO_CLEAN = 20.0, 10.0
"""A command without a lease may be appending to `runs`: its file is there for a moment before the commit names it."""


@dataclass(frozen=True)
class Forgettable:
    """What would be erased.

    Attributes:
        images: Images of the tables that are asked for.
        listed: Those of them that the last listing had; the others were gone from the lake.
        rows: Rows that name these images, by table. With them go rows of what is left of their clusters.
        clusters: Clusters that lose members.
    """

    images: int
    listed: int
    rows: Mapping[str, int]
    clusters: int


@dataclass(frozen=True)
class Forgotten:
    """What was erased: `found`, and `texts` of the log of runs and of results that named such an image.

    Attributes:
        run_id: The name of its file of results; None where nothing was to be changed (a dry run).
        log_files: Files of the logs of tables that went.
        others: What lies below the root and is not of dedup-spark; nobody looked into it.
    """

    run_id: str | None
    found: Forgettable
    texts: int
    log_files: int
    others: tuple[str, ...]


@dataclass(frozen=True)
class _Staged:
    """`found` (image_id, uri, member) and the ids to erase, each once, both staged."""

    asked: DataFrame
    found: DataFrame
    erased: DataFrame


def look_for(tables: Tables, asked: Asked) -> Forgotten:
    """What would be erased. Writes nothing but rows of its own below `_staging`."""
    with _own_views(tables):
        return Forgotten(None, _count(tables, _find(tables, asked)), 0, 0, residue.others(tables.root))


def require_alone(tables: Tables, *, nobody_writes: bool) -> None:
    """Raise ConfigError where no lease keeps others from writing, and nobody promises that there are none.

    Files that no version names are deleted at once, and those of a commit under way are such files.
    """
    if tables.lease is None and not nobody_writes:
        raise ConfigError(
            f"forget: {tables.root} is in a store without exclusive creation of files, so that no lease keeps others "
            "from writing, and what they write meanwhile would be lost: nothing was changed. Make sure that no run and "
            "no OPTIMIZE is under way, and give --nobody-writes"
        )


def forget(tables: Tables, asked: Asked, confirm: Callable[[Forgettable], bool] | None = None) -> Forgotten:
    """Erase what is asked for, and take the past of all tables away.

    Args:
        confirm: Is shown what was found; where it says no, nothing is changed.

    Raises:
        ConfigError: it was not confirmed.
        TableError: a part could not be erased; the same command goes on.
    """
    with _own_views(tables):
        staged = _find(tables, asked)
        found = _count(tables, staged)
        if confirm is not None and not confirm(found):
            raise ConfigError("forget: nothing was changed, as it was not confirmed")
        return _forget(tables, asked, staged, found)


def _forget(tables: Tables, asked: Asked, staged: _Staged, found: Forgettable) -> Forgotten:
    run_id, at, began = new_run_id(), datetime.now(UTC), time.monotonic()
    _mark(tables, run_id, RunStatus.STARTED, found)
    n_new = forgotten.remember(tables, _addresses(staged), run_id, at)
    log.info("forget: %s addresses are remembered by a digest, so that they are not listed again", f"{n_new:,}")
    n_texts = _clean_texts(tables, asked, staged)
    _erase_rows(tables, staged, run_id, at)
    if found.images or found.rows:
        residue.empty_index(tables)  # before the addresses go: a second call knows by them that it must
    _erase_addresses(tables, staged)
    residue.delete_derived(tables)
    past = _erase_past(tables, began)
    _mark(tables, run_id, RunStatus.COMPLETE, found, time.monotonic() - began, _versions(tables))
    past.require_logs_gone()
    return Forgotten(run_id, found, n_texts, past.n_files, residue.others(tables.root))


def _versions(tables: Tables) -> str:
    """The versions that the tables have from now on, as the notes of a mark: those that look-ups had open are gone."""
    versions = {table.name: tables.version(table) for table in ALL if table is not RUNS}
    return json.dumps({TABLE_VERSIONS: versions}, sort_keys=True)


def _mark(
    tables: Tables, run_id: str, status: RunStatus, found: Forgettable, seconds: float | None = None,
    notes: str | None = None,
) -> None:  # fmt: skip
    """Leave a row in `runs`, by which others see that clusters are older than what they are made of.

    The first one has the counts too: a second call after a kill finds fewer rows, or none.
    """
    counts = {"found": found.images, "clusters_touched": found.clusters, **found.rows}
    row = (run_id, StepName.FORGET, status, datetime.now(UTC), seconds, counts, notes, None, None, None,
           dedup_spark.__version__, None)  # fmt: skip
    tables.append(RUNS, local_relation(tables.spark, [row], RUNS.schema))


def _find(tables: Tables, asked: Asked) -> _Staged:
    """The images by all that knows addresses, and the ids that uris and members would have, known or not."""
    spark = tables.spark
    rows = local_relation(spark, asked.rows(), COLUMNS)
    sources = _sources(tables) | {"asked": _view(rows, "asked")}
    asking = tables.stage("asking", spark.sql(queries.written(queries.FOUND, sources)))
    _warn(asked, asking)
    found = asking.select("image_id", "uri", "member").distinct()
    objects = rows.where("NOT is_prefix").select(F.col("address").alias("uri"), "member")
    by_address = objects.select(id_of_address(F.col("uri")).alias("image_id"), F.struct("uri", "member").alias("own"))
    held = [tables.read(table).select("image_id", "uri", "member") for table in (IMAGES, TOMBSTONES)]
    others = held[0].unionByName(held[1]).join(F.broadcast(by_address), "image_id")
    of_others = others.where(~F.struct("uri", "member").eqNullSafe(F.col("own"))).select("image_id")
    computed = by_address.select("image_id").join(of_others, "image_id", "left_anti")
    erased = tables.stage("erased", found.select("image_id").union(computed).distinct())
    return _Staged(rows, found, erased)


def _warn(asked: Asked, asking: DataFrame) -> None:
    """Say what matched nothing, and which images may come back under another name. Logs get no address."""
    matched = {row["position"] for row in asking.select("position").distinct().collect()}
    for name in asked.names_of_others(matched):
        log.warning("forget: %s names no image that these tables know, nor one that they knew", name)
    by_row = asking.where(F.col("member").rlike(ROW_OF_A_FILE)).select("image_id").distinct().count()
    if by_row:
        log.warning(
            "forget: %s images are known by the number of a row in a data file: where the table is written anew, they "
            "get other numbers and are listed again, and their numbers may hide others. Set inventory.key_column and "
            "run inventory before, or take the rows out of the table first",
            f"{by_row:,}",
        )


def _count(tables: Tables, staged: _Staged) -> Forgettable:
    naming: dict[str, tuple[Table, list[str]]] = {}
    for table, column in (*HOLDERS, *KNOW_ADDRESSES, (CLUSTERS, "image_id")):
        naming.setdefault(table.name, (table, []))[1].append(column)
    rows = {name: _n_rows(tables, staged.erased, *table_and_columns) for name, table_and_columns in naming.items()}
    members = _rows_of(tables, staged.erased, CLUSTERS, "image_id")
    n_clusters = members.select("cluster_id").distinct().count()
    n_images = staged.found.select("image_id").distinct().count()
    return Forgettable(n_images, rows[IMAGES.name], {name: n for name, n in rows.items() if n}, n_clusters)


def _n_rows(tables: Tables, erased: DataFrame, table: Table, columns: list[str]) -> int:
    """Rows that name one of the images in any of these columns; one that names two of them counts once."""
    n, rows = 0, tables.read(table)
    for column in columns:
        ids = erased.withColumnRenamed("image_id", column)
        n += rows.join(ids, column, "left_semi").count()
        rows = rows.join(ids, column, "left_anti")
    return n


def _rows_of(tables: Tables, erased: DataFrame, table: Table, column: str) -> DataFrame:
    return tables.read(table).join(erased.withColumnRenamed("image_id", column), column, "left_semi")


def _addresses(staged: _Staged) -> DataFrame:
    """(uri, member) to remember: of the images found, and of the objects asked for, whether tables knew them or not."""
    objects = staged.asked.where("NOT is_prefix").select(F.col("address").alias("uri"), "member")
    return staged.found.select("uri", "member").union(objects).distinct()


def _lakes_left(tables: Tables, staged: _Staged, lakes: set[str]) -> set[str]:
    """Those of these lakes that keep an image: by the name of its lake the next run finds what it goes on with."""
    if not lakes:
        return set()
    staying = tables.read(IMAGES).where(F.col("lake").isin(*lakes)).join(staged.erased, "image_id", "left_anti")
    return {row["lake"] for row in staying.select("lake").distinct().collect()}


def _erase_rows(tables: Tables, staged: _Staged, run_id: str, at: datetime) -> None:
    """The rows of all tables but those that know addresses, in the order that a second call needs."""
    erased = staged.erased
    sources = _sources(tables) | {"erased": _view(erased, "erased")}
    ask = functools.partial(_ask, tables, sources)
    _delete(tables, DENSITIES, ask("neighbours", queries.NEIGHBOURS))  # before the pairs that say which they are
    for table, column in HOLDERS:
        _delete(tables, table, erased.withColumnRenamed("image_id", column))
    tables.drop_progress(StepName.MATCH)  # pairs of an index that goes, too: nobody could continue that match
    for name in tables.progress_names(StepName.EMBED):
        tables.delete_progress(StepName.EMBED, name, erased, are_few=False)
    _erase_from_components(tables, ask)
    _erase_from_clusters(tables, sources, run_id, at)


def _erase_addresses(tables: Tables, staged: _Staged) -> None:
    for table, column in KNOW_ADDRESSES:
        _delete(tables, table, staged.erased.withColumnRenamed("image_id", column))


def _erase_from_components(tables: Tables, ask: Callable[[str, str], DataFrame]) -> None:
    staying, going = ask("components", queries.COMPONENTS_THAT_STAY), ask("lone", queries.COMPONENTS_THAT_GO)
    _change(tables, COMPONENTS, staying, going)


def _erase_from_clusters(tables: Tables, sources: Mapping[str, str], run_id: str, at: datetime) -> None:
    """History first, clusters last: what is killed in between finds the old clusters when it is done again."""
    history = tables.read(CLUSTER_HISTORY)
    previous = history.select(F.explode("previous_cluster_ids").alias("cluster_id")).distinct()
    named = dict(sources) | {"previous": _view(previous, "previous")}
    renamed = forgotten.new_ids(tables, _ask(tables, named, "cluster_ids", queries.CLUSTER_IDS))
    renamed = tables.stage("renamed", renamed)
    ask = functools.partial(_ask, tables, dict(named) | {"renamed": _view(renamed, "renamed")})
    staying, going = ask("members", queries.CLUSTERS_THAT_STAY), ask("leaving", queries.CLUSTERS_THAT_GO)
    before = ask("before", queries.CLUSTERS_BEFORE)
    _rename_in_history(tables, history, renamed)
    version = tables.version(CLUSTERS)
    events = changes(staying.select("image_id", "cluster_id"), before, version, run_id, at)
    events = tables.stage("events", events)
    if not events.isEmpty():
        tables.upsert(CLUSTER_HISTORY, events)
    _change(tables, CLUSTERS, staying, going)


def _rename_in_history(tables: Tables, history: DataFrame, renamed: DataFrame) -> None:
    """Give clusters that bear the id of an erased image their new id in `cluster_history` too.

    The new rows are written before the old ones go: a second call finds what is left, and writes the same.
    """
    if renamed.isEmpty():
        return
    key = list(CLUSTER_HISTORY.key)
    old, new = F.col("old_id"), F.col("new_id")
    ids = history.select(*key, F.explode_outer("previous_cluster_ids").alias("previous_id"))
    ids = ids.join(renamed.select(old.alias("previous_id"), new.alias("new_previous")), "previous_id", "left")
    ids = ids.join(renamed.select(old.alias("cluster_id"), new.alias("new_cluster")), "cluster_id", "left")
    lists = ids.groupBy(*key).agg(
        F.first("new_cluster").alias("new_cluster"),
        F.count("new_previous").alias("n_renamed"),
        F.sort_array(F.collect_list(F.coalesce("new_previous", "previous_id"))).alias("ids"),
    )
    changed = lists.where("new_cluster IS NOT NULL OR n_renamed > 0")
    rows = tables.stage("history", history.join(changed, key))
    by_name = {"cluster_id": F.coalesce("new_cluster", "cluster_id"), "previous_cluster_ids": F.col("ids")}
    tables.upsert(CLUSTER_HISTORY, rows.withColumns(by_name).select(CLUSTER_HISTORY.column_names))
    _delete(tables, CLUSTER_HISTORY, rows.where("new_cluster IS NOT NULL").select(*key))


def _clean_texts(tables: Tables, asked: Asked, staged: _Staged) -> int:
    """Take the images out of the log of runs and the files of results. Returns how many texts named one.

    The driver reads both: they grow with the runs, not with the lake.
    """
    known = tables.read(RUNS).select(*_TEXTS).distinct().toArrow()
    held = {text for name in _TEXTS for text in known[name].to_pylist() if text is not None}
    outcomes = residue.outcome_texts(tables.root)
    numbers = set[int]().union(*(texts.ids_in(text) for text in (*held, *outcomes.values())))
    there = local_relation(tables.spark, [(number,) for number in sorted(numbers)], "image_id bigint")
    ids = [row["image_id"] for row in staged.erased.join(F.broadcast(there), "image_id", "left_semi").collect()]
    is_named = texts.naming(asked.pattern(), ids)
    named = {text for text in held if texts.without(text, is_named) != text}
    named -= (kept := _lakes_left(tables, staged, named & {*known["lake"].to_pylist()}))
    if n_named := len(named):
        cleaned = functools.partial(texts.redact_batches, columns=_TEXTS, pattern=asked.pattern(), ids=ids, kept=kept)
        rows = tables.read(RUNS).mapInArrow(cleaned, RUNS.schema.ddl).select(*_ROW_OF_RUNS, *_TEXTS)
        tables.update(RUNS, tables.stage("runs", rows.dropDuplicates(_ROW_OF_RUNS)), key=_ROW_OF_RUNS)
    return n_named + residue.clean_outcomes(tables, outcomes, is_named)


@dataclass
class _Past:
    """What became of the past of tables: files of logs that went, tables whose catalog keeps the log, and failures."""

    n_files: int = 0
    kept: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def erase(self, tables: Tables, place: str, name: str, in_use_seconds: float = 0.0) -> None:
        try:
            n_files = erasure.erase_past(tables, name, in_use_seconds=in_use_seconds)
        except TableError as e:
            self.failed.append(str(e))  # the other tables hold the same images
            return
        self.n_files += n_files or 0
        if n_files is None:
            self.kept.append(place)

    def require_files_gone(self) -> None:
        if self.failed:
            raise TableError("forget: " + "; ".join(self.failed))

    def require_logs_gone(self) -> None:
        if self.kept:
            raise TableError(
                f"forget: rows, older files and all else are erased, but the logs of {', '.join(self.kept)} are kept "
                "by their catalog, which alone can shorten them: what was forgotten stays in their statistics until it "
                "does (delta.logRetentionDuration). To give this command again changes nothing"
            )


def _erase_past(tables: Tables, began: float) -> _Past:
    """Take the past of every table away, that of `runs` last, and what other commands staged.

    By then as long has passed since the command `began` as files of `runs` may be in use, so that those with the texts
    that were cleaned, by a command that was killed too, are older.
    """
    places, past = tables.places(), _Past()
    runs = places.pop(RUNS.name)
    with erasure.under_way(tables):
        for i, (place, name) in enumerate(places.items(), 1):
            past.erase(tables, place, name)
            log.info("forget: the past of %d of %d tables is taken away", i, len(places) + 1)
        time.sleep(max(0.0, began + _SECONDS_TO_APPEND + _SECONDS_TO_CLEAN - time.monotonic()))
        past.erase(tables, RUNS.name, runs, _SECONDS_TO_APPEND)
        tables.sweep_staged(of_guests=True)
        past.require_files_gone()
    return past


def _delete(tables: Tables, table: Table, keys: DataFrame) -> None:
    """Delete rows by keys, each once; no commit where there are none, so that steps can keep their work."""
    if not tables.read(table).join(keys, keys.columns, "left_semi").isEmpty():
        tables.delete(table, keys)


def _change(tables: Tables, table: Table, staying: DataFrame, going: DataFrame) -> None:
    if not (staying.isEmpty() and going.isEmpty()):
        tables.change(table, staying, going)


def _ask(tables: Tables, sources: Mapping[str, str], name: str, query: str) -> DataFrame:
    """The answer, staged: what it is made of changes next."""
    return tables.stage(name, tables.spark.sql(queries.written(query, sources)))


def _sources(tables: Tables) -> dict[str, str]:
    known = (IMAGES, TOMBSTONES, CLUSTERS, COMPONENTS, PAIRS, CLUSTER_HISTORY)
    return {table.name: tables.sql_source(table) for table in known}


_VIEW = "dedup_spark_forget_"


def _view(rows: DataFrame, name: str) -> str:
    """Rows under a name for SQL, in this session, until the block of `_own_views` ends."""
    rows.createOrReplaceTempView(_VIEW + name)
    return _VIEW + name


@contextmanager
def _own_views(tables: Tables) -> Iterator[None]:
    """Afterwards nothing is left of what was staged, and of the views in the session."""

    def drop() -> None:
        for name in ("asked", "erased", "previous", "renamed"):
            tables.spark.catalog.dropTempView(_VIEW + name)
        tables.drop_staged()

    with putting_back(drop):
        yield
