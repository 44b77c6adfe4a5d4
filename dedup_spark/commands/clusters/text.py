"""A list of clusters, and one cluster with its images, as text for a terminal. No Spark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dedup_spark.commands.image_ids import in_hex
from dedup_spark.commands.text_table import aligned
from dedup_spark.stages.report.values import readable_bytes

Row = Mapping[str, Any]

_LIST = ("cluster", "images", "removable", "frees", "relations", "keeper")
_IMAGES = ("", "image", "size", "pixels", "relation", "distance", "address")
_LEAST_ADDRESS = 24
_INDENT = " " * 11


def describe_list(rows: list[Row], ids: Mapping[int, str], most: int, width: int | None = None) -> str:
    """A line for each of at most `most` clusters, and a last one where there are more.

    Args:
        rows: Of `reading.list_of`.
        ids: By cluster_id, what to show of it.
        width: Of the terminal, to which addresses are cut at their beginning; None: they are not.
    """
    cells = [_cluster_cells(row, ids) for row in rows[:most]]
    right = [False, True, True, True, False, False]
    lines = _with_addresses(_LIST, cells, right, width).splitlines()
    if len(rows) > most:
        lines.append(f"... there are more than {most:,} clusters; --limit N shows more")
    return "\n".join(lines)


def nothing_found(*, is_every: bool) -> str:
    """Where the list is empty; `is_every`: no condition was given."""
    return "there are no clusters: no two images are near enough" if is_every else "no cluster meets these conditions"


def describe_cluster(rows: list[Row], freed: Row, ids: Mapping[int, str], most: int) -> str:
    """The cluster in a sentence, and of each of at most `most` images two lines: what it is, and why it stays or may
    go. Addresses are whole, so that they can be copied.

    Args:
        rows: Of `reading.images_of`; at least one.
        freed: The row of `reading.freed_of`.
        ids: By image_id, what to show of it.
    """
    shown = rows[:most]
    table = aligned(_IMAGES, [_image_cells(row, ids) for row in shown], [False, False, True, True, False, True, False])
    heading, rule, *lines = table.splitlines()
    blocks = [f"{line}\n{_INDENT}{_one_line(row['reason'])}".rstrip() for line, row in zip(lines, shown, strict=True)]
    if len(rows) > most:
        blocks.append(f"... there are more than {most:,} images; --limit N shows more")
    return "\n".join([_sentence(rows[0], freed), "", heading, rule, *blocks])


def _sentence(row: Row, freed: Row) -> str:
    n = freed["n_removable"]
    frees = f", which frees {readable_bytes(freed['removable_bytes'])}" if n else ""
    return f"cluster {in_hex(row['cluster_id'])}: {row['cluster_size']:,} images, {n:,} removable{frees}"


def _cluster_cells(row: Row, ids: Mapping[int, str]) -> list[str]:
    return [
        ids[row["cluster_id"]],
        f"{row['cluster_size']:,}",
        f"{row['n_removable']:,}",
        readable_bytes(row["removable_bytes"]) if row["removable_bytes"] else "",
        row["relations"] or "",
        address_of({"uri": row["keeper_uri"], "member": row["keeper_member"]}),
    ]


def _image_cells(row: Row, ids: Mapping[int, str]) -> list[str]:
    pixels = f"{row['width_px']}x{row['height_px']} {row['format'] or ''}" if row["width_px"] else ""
    distance = "" if row["is_keeper"] or row["keeper_distance"] is None else f"{row['keeper_distance']:.3f}"
    relation = " ".join(filter(None, [row["relation"], f"({row['edit']})" if row["edit"] else ""]))
    return [
        "keeper" if row["is_keeper"] else "removable" if row["removable"] else "stays",
        ids[row["image_id"]],
        "" if row["size_bytes"] is None else readable_bytes(row["size_bytes"]),
        pixels.strip(),
        relation,
        distance,
        address_of(row),
    ]


def address_of(row: Row) -> str:
    """The address of an image, on one line; in a container with its name behind a `#`."""
    return _one_line(f"{row['uri']}#{row['member']}" if row["member"] else row["uri"] or "")


def _one_line(text: str | None) -> str:
    return (text or "").replace("\r", "\\r").replace("\n", "\\n")


def _with_addresses(columns: tuple[str, ...], cells: list[list[str]], right: list[bool], width: int | None) -> str:
    """The table with its last column, of addresses, cut to the room that the others leave."""
    others = sum(max(map(len, column)) + 2 for column in list(zip(columns, *cells, strict=True))[:-1])
    room = max(width - others, _LEAST_ADDRESS) if width else None
    return aligned(columns, [[*row[:-1], _end_of(row[-1], room)] for row in cells], right)


def _end_of(text: str, most: int | None) -> str:
    """The end of an address, where its name is."""
    return text if most is None or len(text) <= most else "..." + text[3 - most :]
