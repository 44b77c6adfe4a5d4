"""What runs on different platforms must agree on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from table_contents import rows


@dataclass(frozen=True)
class FinishedFolder:
    """A lake, and the tables of a local run over it."""

    lake: Path
    tables: Path


def keepers(tables: Path) -> frozenset[tuple[str, frozenset[str]]]:
    """The keeper and the members of each group, by their addresses."""
    keeper: dict[int, str] = {}
    members: dict[int, set[str]] = {}
    for row in rows(tables, "clusters"):
        members.setdefault(row["cluster_id"], set()).add(row["uri"])
        if row["is_keeper"]:
            keeper[row["cluster_id"]] = row["uri"]
    assert keeper
    return frozenset((keeper[cluster], frozenset(uris)) for cluster, uris in members.items())
