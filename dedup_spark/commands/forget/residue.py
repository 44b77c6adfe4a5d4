"""What lies below the root of the tables besides them, and holds images too: index, report, files of results."""

from __future__ import annotations

from collections.abc import Mapping

from dedup_spark.commands import places
from dedup_spark.commands.forget import texts
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.store import files, outcomes, shards
from dedup_spark.store.schema import CENTROIDS, SHARDS
from dedup_spark.store.tables import Tables

_REPORT = "report"
_KEPT_OF_REPORT = ("views.sql",)
"""It names tables, and no image."""


def delete_derived(tables: Tables) -> None:
    """Delete the pages of the report, and files of the index that the tables do not name: after `empty_index` all."""
    tables.require_lease()
    listed = {row["path"].split("/")[1] for row in tables.read(SHARDS).select("path").distinct().collect()}
    for build in files.list_names(f"{tables.root}/{shards.FOLDER}"):
        if build not in listed:
            files.delete_tree(f"{tables.root}/{shards.FOLDER}/{build}")
    for name in files.list_names(f"{tables.root}/{_REPORT}"):
        if name not in _KEPT_OF_REPORT:
            files.delete_tree(f"{tables.root}/{_REPORT}/{name}")


def empty_index(tables: Tables) -> None:
    """Leave no cell and no shard, as of a lake without embeddings: the next run makes the index anew."""
    for table in (CENTROIDS, SHARDS):
        if not tables.read(table).isEmpty():
            tables.overwrite(table, local_relation(tables.spark, [], table.schema))


def outcome_texts(root: str) -> dict[str, str]:
    """The files of results, by name: small, and one for each run."""
    folder = f"{root}/{outcomes.FOLDER}"
    return {name: files.read_bytes(f"{folder}/{name}").decode(errors="replace") for name in files.list_names(folder)}


def clean_outcomes(tables: Tables, held: Mapping[str, str], is_named: texts.Named) -> int:
    """Write anew the files of results that name an image. Returns how many did.

    What a killed writer left beside them is deleted.
    """
    n_named, folder = 0, f"{tables.root}/{outcomes.FOLDER}"
    tables.require_lease()
    for name, text in held.items():
        if name.endswith(".tmp"):
            files.delete_tree(f"{folder}/{name}")
        elif (cleaned := texts.without(text, is_named)) != text:
            files.write_atomically(f"{folder}/{name}", cleaned.encode())
            n_named += 1
    return n_named


def others(root: str) -> tuple[str, ...]:
    """What lies directly below the root and is not of dedup-spark: only those who put it there know what it is."""
    names = files.list_names(root)
    return tuple(name for name in names if name not in places.OWN_FOLDERS and not name.startswith("_format"))
