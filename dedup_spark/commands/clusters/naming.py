"""The cluster that a person names, and ids as a list shows them: no longer than needed. No Spark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dedup_spark.commands.image_ids import SHORT, condition, in_hex, readings, short_ids
from dedup_spark.commands.trace import find_one_image
from dedup_spark.errors import ConfigError
from dedup_spark.store.schema import Table
from dedup_spark.store.sql_tables import Given, SqlTables, first_row

_SHOWN = 5
_KEEPERS = "SELECT cluster_id, image_id, uri, member FROM $clusters WHERE is_keeper AND "


def clusters_of_id(tables: SqlTables, named: str) -> list[dict[str, Any]]:
    """The clusters whose id is, or begins with, what a person gives: cluster_id, and image_id, uri, member of the
    keeper. None where it is no id, or no cluster has it. Raises ConfigError where several have it."""
    ids = readings(named)
    found = tables.ask(f"{_KEEPERS}{condition('cluster_id', ids)} LIMIT {_SHOWN + 1}").to_pylist() if ids else []
    if len(found) > 1:
        some = ", ".join(f"{in_hex(row['cluster_id'])} (keeper {row['uri']})" for row in found[:_SHOWN])
        raise ConfigError(f"{named}: several clusters have an id that begins so; give more of it: {some}")
    return found


def find_cluster(tables: SqlTables, named: str) -> int:
    """The id of the cluster that is named by its id, the first digits of it, or by an image in it.

    Raises:
        ConfigError: There is no such cluster or image, or more than one, or the image is in no cluster.
    """
    if found := clusters_of_id(tables, named):
        return int(found[0]["cluster_id"])
    image = _image(tables, named)
    of_image = "SELECT cluster_id FROM $clusters WHERE image_id = :image_id"
    row = first_row(tables.ask(of_image, {"image_id": image["image_id"]}))
    if row is None:
        raise ConfigError(
            f"{image['uri']} is in no cluster: no other image is near enough, or it was rejected; `dedup-spark trace "
            f"--uri {in_hex(image['image_id'])}` with the same --tables shows what became of it"
        )
    return int(row["cluster_id"])


def _image(tables: SqlTables, named: str) -> dict[str, Any]:
    try:
        return find_one_image(tables, named)
    except ConfigError as e:
        if not readings(named):
            raise
        raise ConfigError(f"no cluster has an id that begins with '{named}', and {e}") from e


def shown_ids(tables: SqlTables, table: Table, column: str, ids: Sequence[int]) -> dict[int, str]:
    """For each id the first hex digits that no other of the column has. Cost: a scan of the column."""
    mask = -1 << 4 * (16 - SHORT)
    same = tables.ask(
        f"SELECT DISTINCT {column} AS id FROM ${table.name} WHERE ({column} & {mask}) IN (SELECT image_id FROM $given)",
        given=Given.ids(sorted({i & mask for i in ids})),
    )
    return short_ids(ids, same["id"].to_pylist())
