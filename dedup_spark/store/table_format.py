"""Which version of dedup_spark a set of tables fits: the file `_format.json` below their root, one per database.

New columns are added by the next run. The number rises where rows must be changed, which `dedup-spark upgrade` does:
1: version 0.1.0, without this file. 2: addresses are canonical, so that one object has one row.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from dedup_spark.errors import TableError
from dedup_spark.store import files

FORMAT = 2
"""The format of the tables that this version reads and writes."""


@dataclass(frozen=True)
class Format:
    """`columns` is a digest of the columns of all tables."""

    number: int
    columns: str


def read_format(root: str, database: str | None) -> Format | None:
    """None where there is no such file. Raises TableError where a newer version wrote it, or the file is damaged."""
    try:
        found = Format(**json.loads(files.read_bytes(_path(root, database))))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as e:
        raise TableError(f"{_path(root, database)} is damaged ({e}): delete it, and run `dedup-spark upgrade`") from e
    if found.number > FORMAT:
        raise TableError(
            f"the tables at {root} have format {found.number}, this version of dedup-spark knows up to {FORMAT}: "
            "use the newer version that wrote them"
        )
    return found


def write_format(root: str, database: str | None, found: Format) -> None:
    files.write_atomically(_path(root, database), json.dumps(asdict(found)).encode())


def _path(root: str, database: str | None) -> str:
    return f"{root}/_format-{database}.json" if database else f"{root}/_format.json"
