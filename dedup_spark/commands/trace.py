"""`dedup-spark trace`: shows what became of one image, from its listing to its cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dedup_spark.commands.image_ids import condition, in_hex, readings
from dedup_spark.commands.values import shown_columns
from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.sql_tables import SqlTables, first_row

_MAX_IMAGES, _MAX_ROWS = 5, 20


@dataclass(frozen=True)
class Trace:
    """One image's rows in images, features, pairs, clusters and cluster_history.

    Attributes:
        rows: By table, as Arrow: `images`, `features`, `pairs` (the most similar first), `clusters` (of the whole
            cluster, by image_id) and `cluster_history`. At most 21 rows each, of which 20 are shown. A table is empty
            where the image has no row in it, and so are the last two where it is in no cluster.
        n_cells: Cells of the index; 0 where there is none.
    """

    uri: str
    image_id: int
    rows: Mapping[str, pa.Table]
    n_cells: int


def trace_image(tables: SqlTables, uri: str) -> list[Trace]:
    """All rows about each image that `find_images` finds. Raises ConfigError as that does."""
    return [_trace(tables, image["uri"], image["image_id"]) for image in find_images(tables, uri)]


def describe_trace(found: Trace) -> str:
    """The rows as text without values that are null; of bytes the text gives their number."""
    lines = [f"\n{found.uri}"]
    for table, rows in found.rows.items():
        if table == "clusters" and not len(rows):
            lines.append("  clusters: it is in no cluster: no other image is near enough, or it was rejected")
        elif table != "cluster_history" or len(found.rows["clusters"]):
            lines += _lines(table, rows)
    return "\n".join([*lines, f"  index: {found.n_cells} cells" if found.n_cells else "  index: empty"])


def find_images(tables: SqlTables, named: str) -> list[dict[str, Any]]:
    """The rows of `images` that a person names: by their uri, an id, or else by the end of their uri.

    An id is given in hex, or as the number in the tables; of hex digits the first few are enough.

    Raises:
        ConfigError: No image, or more than five, have such a name; the message lists some that come near.
    """
    whole = addresses.canonical(named) if addresses.is_absolute(named) else named
    found = _images(tables, "uri = :uri", uri=whole)
    ids = readings(named)
    if not found and ids:
        found = _images(tables, condition("image_id", ids))
    found = found or _images(tables, "endswith(uri, :uri)", uri=named)
    if not found:
        by_id = f"an id that begins with '{named}', or " if ids else ""
        raise ConfigError(
            f"no image has {by_id}a uri that ends with '{named}'{_near(tables, named)}: check its spelling, and that "
            "its lake was listed"
        )
    if len(found) > _MAX_IMAGES:
        raise ConfigError(
            f"more than {_MAX_IMAGES} images have a uri that ends with '{named}'; give a longer part of it, or an id: "
            f"{candidates(found)}, ..."
        )
    return found


def find_one_image(tables: SqlTables, named: str) -> dict[str, Any]:
    """The one row of `images` that has this name. Raises ConfigError with the candidates where there are several."""
    found = find_images(tables, named)
    if len(found) > 1:
        raise ConfigError(
            f"{len(found)} images have a uri that ends with '{named}'; give a longer part of it, or an id: "
            f"{candidates(found)}"
        )
    return found[0]


def candidates(images: Sequence[Mapping[str, Any]]) -> str:
    """Ids and addresses, for a message."""
    return ", ".join(
        f"{in_hex(row['image_id'])} ({row['uri']}{'#' + row['member'] if row['member'] else ''})"
        for row in images[:_MAX_IMAGES]
    )


def _images(tables: SqlTables, where: str, **values: str) -> list[dict[str, Any]]:
    rows = tables.ask(f"SELECT * FROM $images WHERE {where} LIMIT {_MAX_IMAGES + 1}", values)
    return rows.to_pylist()


def _near(tables: SqlTables, named: str) -> str:
    """Images whose address has the first part of the file's name in it, as words in a sentence."""
    name = re.split("[.?*%_ -]", named.rstrip("/").rpartition("/")[2])[0].lower()
    found = _images(tables, "contains(lower(uri), :name)", name=name) if len(name) > 2 else []
    return f"; near are {candidates(found)}" if found else ""


def _trace(tables: SqlTables, uri: str, image_id: int) -> Trace:
    own = first_row(tables.ask("SELECT cluster_id FROM $clusters WHERE image_id = :image_id", {"image_id": image_id}))
    of_cluster = f"= {own['cluster_id']}" if own and own["cluster_id"] is not None else "IS NULL AND false"
    most = f"LIMIT {_MAX_ROWS + 1}"
    rows = {
        "images": tables.ask(f"SELECT * FROM $images WHERE image_id = {image_id} {most}"),
        "features": tables.rows(FEATURES, [image_id]),
        "pairs": tables.ask(
            f"SELECT * FROM $pairs WHERE image_id_a = {image_id} OR image_id_b = {image_id} "
            f"ORDER BY similarity DESC {most}"
        ),
        "clusters": tables.ask(f"SELECT * FROM $clusters WHERE cluster_id {of_cluster} ORDER BY image_id {most}"),
        "cluster_history": tables.ask(
            f"SELECT * FROM $cluster_history WHERE cluster_id {of_cluster} ORDER BY clusters_version {most}"
        ),
    }
    n_cells = tables.ask("SELECT count(*) AS n FROM $centroids")["n"][0].as_py()
    return Trace(uri, image_id, rows, n_cells)


def _lines(table: str, rows: pa.Table) -> list[str]:
    if not len(rows):
        return [f"  {table}: no row"]
    lines = []
    columns = shown_columns(rows.slice(0, _MAX_ROWS))
    for values in zip(*columns, strict=True):
        known = {name: value for name, value in zip(rows.column_names, values, strict=True) if value is not None}
        lines += [f"  {table}:", *(f"    {name}: {_text(value)}" for name, value in known.items())]
    if len(rows) > _MAX_ROWS:
        lines.append(f"  {table}: more than {_MAX_ROWS} rows")
    return lines


def _text(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes | bytearray) else str(value)
