"""Functions that check a list for removal, export the index, and upgrade, repair, maintain and erase from tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from pyspark.sql import SparkSession

from dedup_spark.api.settings import Settings, config_of
from dedup_spark.commands import maintain as maintaining
from dedup_spark.commands import opening
from dedup_spark.commands import repair as repairing
from dedup_spark.commands import upgrade as upgrading
from dedup_spark.commands.apart import Place
from dedup_spark.commands.export_index import command as exporting
from dedup_spark.commands.export_index.values import ExportedIndex
from dedup_spark.commands.forget import command as forgetting
from dedup_spark.commands.forget.asked import Asked
from dedup_spark.commands.forget.command import Forgettable, Forgotten
from dedup_spark.commands.forget.words import outcome_of
from dedup_spark.commands.maintain import Maintained
from dedup_spark.commands.opening import Opening
from dedup_spark.commands.verify_removal import command as verifying
from dedup_spark.commands.verify_removal.command import VerifiedRemovals
from dedup_spark.spark.task_errors import told_in_a_sentence
from dedup_spark.store import outcomes
from dedup_spark.store.delta_log import KEEP_DAYS


def verify_removal(
    spark: SparkSession | None = None,
    *,
    tables: Place,
    out: Place,
    relations: Sequence[str] = (),
    tiers: Sequence[str] = (),
    limit: int | None = None,
    database: str | None = None,
    settings: Settings = None,
    settings_file: Place | None = None,
) -> VerifiedRemovals:
    """Check again what may be removed, and write the list of what is still true. Nothing is removed.

    Args:
        out: A local file for the list, as CSV.
        relations: Only copies of these relations to the keeper, e.g. `same_bytes`. None named: all.
        tiers: Only copies of these removal tiers, e.g. `same_bytes` and `same_pixels`. None named: all.
        limit: Check at most so many copies, those that free most first.
    """
    config, wanted = config_of(settings, settings_file), verifying.Wanted(tuple(relations), limit, tuple(tiers))
    verifying.require_file(os.fspath(out))  # before Spark starts
    with told_in_a_sentence(), opening.to_read(Opening("verify-removal", spark, tables, database)) as found:
        return verifying.verify_removal(found, config, wanted, os.fspath(out))


def export_index(
    spark: SparkSession | None = None,
    *,
    tables: Place,
    to: Place,
    merged: bool = False,
    database: str | None = None,
) -> ExportedIndex:
    """Write the index as plain FAISS files with a map from their ids to addresses, for people without dedup_spark.

    The files are float16 by cells (`IVF,SQfp16`), whatever type of index `index.faiss_index` names for match.

    Args:
        to: A folder outside tables and lakes that is empty or not there: a path or a URI.
        merged: One file for the whole index, up to 4 GiB, in place of one per shard.
    """
    asked = Opening("index export", spark, tables, database)
    exporting.require_place(os.fspath(to), asked.root)  # before Spark starts
    with told_in_a_sentence(), opening.to_read(asked) as found:
        return exporting.export_index(found, os.fspath(to), merged=merged)


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


def maintain(
    spark: SparkSession | None = None,
    *,
    tables: Place,
    vacuum: bool = False,
    keep_days: int = KEEP_DAYS,
    dry_run: bool = False,
    database: str | None = None,
    break_lock: bool = False,
) -> tuple[Maintained, ...]:
    """Put small files of all tables together, and with `vacuum` delete what old versions left. No row
    changes.

    Args:
        vacuum: Delete the files that no version of the last `keep_days` days names. What look-ups read, the versions
            of the last finished run, stays.
        keep_days: At least 1.
        dry_run: Only say what would be done.
    """
    asked = Opening("maintain", spark, tables, database, break_lock=break_lock)
    opening.require_tables(asked)
    if dry_run:
        with told_in_a_sentence(), opening.to_read(asked) as found:
            return maintaining.maintain(found, with_vacuum=vacuum, keep_days=keep_days, dry_run=True)
    with told_in_a_sentence(), opening.to_write(asked) as found:
        return maintaining.maintain(found, with_vacuum=vacuum, keep_days=keep_days)


def forget(
    spark: SparkSession | None = None,
    *,
    tables: Place,
    uris: Sequence[Place] = (),
    prefixes: Sequence[Place] = (),
    dry_run: bool = False,
    confirm: Callable[[Forgettable], bool] | None = None,
    nobody_writes: bool = False,
    state: Place | None = None,
    database: str | None = None,
    break_lock: bool = False,
) -> Forgotten:
    """Erase images from everything below the root of the tables, older versions and files that nobody names too.

    It cannot be undone. An image that is still in the lake is not listed again; the lake itself is not touched. Where
    it was stopped, the same call goes on.

    Args:
        uris: Addresses of objects; of a container all images in it, or one as `address#member`.
        prefixes: Beginnings of addresses; a folder ends with a slash. What is put there later is new.
        dry_run: Only count what would go.
        confirm: Is called with what was found, and says whether to go on. None: go on.
        nobody_writes: Promised by the caller where the store has no lease: files of a commit under way would go.
        state: The folder of additions (`serve --state`), where it is neither the usual one nor below the tables.
    """
    asked, opened = Asked.of(uris, prefixes), Opening("forget", spark, tables, database, break_lock=break_lock)
    opening.require_tables(opened)
    if dry_run:
        with told_in_a_sentence(), opening.to_read(opened) as found:
            return forgetting.look_for(found, asked)
    with told_in_a_sentence(), opening.to_write(opened) as found:
        forgetting.require_alone(found, nobody_writes=nobody_writes)
        upgrading.make_current(found)
        done = forgetting.forget(found, asked, confirm)
        _forget_added(tables, asked, state)
        outcomes.write(found.root, str(done.run_id), outcome_of(done, found.root, database))
        return done


def _forget_added(tables: Place, asked: Asked, state: Place | None) -> None:
    from dedup_spark.lookup.forgetting import forget_added  # here, as other commands need no FAISS

    forget_added(os.fspath(tables), asked.uris, asked.prefixes, None if state is None else os.fspath(state))
