"""Keeps the files of a table few: small ones are put together, in a commit that changes no row (OPTIMIZE of Delta).

A task of extract writes a file of some megabytes, a night as many as the cluster has cores, and each mark in `runs` is
one. Every later query opens them all. What is put together are files below 128 MB alone, so that a night costs what it
added, and at most one file more: in no night the whole table. The files that were put together stay until a VACUUM, for
readers of older versions.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from dedup_spark.spark.background import background
from dedup_spark.spark.session import with_settings
from dedup_spark.store import delta_sql, files
from dedup_spark.store.schema import Table
from dedup_spark.store.tables import Tables

log = logging.getLogger(__name__)

SMALL_BYTES = 128 << 20
"""A file from this size on is left as it is."""
_FULL_BYTES = 256 << 20
"""Of a file that is written. A row of `features` that goes costs writing its file anew: a few seconds of one core."""
_ROW_GROUP_BYTES = 16 << 20
"""Of Parquet's row groups: who wants one thumbnail reads a row group of them, by default 128 MB."""
_FEW_FILES = 8
"""So many files are no burden, however small; one query of Delta takes longer than to open them."""

_SETTINGS = {
    "spark.databricks.delta.optimize.minFileSize": str(SMALL_BYTES),
    "spark.databricks.delta.optimize.maxFileSize": str(_FULL_BYTES),
    "parquet.block.size": str(_ROW_GROUP_BYTES),
}


@dataclass(frozen=True)
class Files:
    """How many data files the newest version of a table has, and their bytes."""

    n_files: int
    n_bytes: int

    @property
    def are_too_many(self) -> bool:
        """More than one for each 128 MB; OPTIMIZE leaves at most as many."""
        return self.n_files > max(_FEW_FILES, -(-self.n_bytes // SMALL_BYTES))


def files_of(tables: Tables, table: Table) -> Files:
    """By a query of Delta's, some tenths of a second."""
    detail = delta_sql.detail(tables.spark, tables.sql_source(table))
    return Files(detail["numFiles"], detail["sizeInBytes"])


def compact(tables: Tables, table: Table) -> bool:
    """Put the small files of a table together where there are too many. Returns whether it did.

    Only under the lease. Appends may run beside it. On a disk one listing where the table's folder holds few files.
    """
    if _has_few(tables, table) or not files_of(tables, table).are_too_many:
        return False
    tables.require_lease()
    with with_settings(tables.spark, _SETTINGS):
        tables.spark.sql(f"OPTIMIZE {tables.sql_source(table)}")
    left = files_of(tables, table)
    log.info("%s: small files were put together; %s are left, of %s bytes", table.name, left.n_files, left.n_bytes)
    return True


def _has_few(tables: Tables, table: Table) -> bool:
    """Whether its folder on a disk says so, with the files of older versions: in a store these may be many pages."""
    is_on_disk = not tables.database and "://" not in tables.root
    return is_on_disk and len(files.list_names(tables.place(table))) <= _FEW_FILES


@contextmanager
def compacting(tables: Tables, table: Table) -> Iterator[Callable[[], None]]:
    """Gives a function to be called after each append: `compact` runs beside what follows, one at a time.

    So files hold rows that were written one after the other. `features` are written in the order of reading, and the
    step embed reads ranges of it: a file of rows from everywhere it would read for every range. At the end what is left
    is put together.
    """
    with background(tables.spark) as start:
        under_way = list[Future[bool]]()

        def appended() -> None:
            if all(work.done() for work in under_way):
                under_way[:] = [start(functools.partial(compact, tables, table))]

        yield appended
        for work in under_way:
            work.result()
    compact(tables, table)
