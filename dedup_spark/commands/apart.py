"""Where the tables of a command are, and whether they and a lake are one inside the other. No Spark, no network."""

from __future__ import annotations

import os

from dedup_spark.sources import addresses

Place = str | os.PathLike[str]
"""A path or a URI, as a person writes it."""


def root_of(tables: Place) -> str:
    """The real path where the tables are local, however it was written, else the URI.

    Delta takes a path with `..` in it for another one than the same without.
    """
    given = os.fspath(tables)
    if addresses.is_remote(given):
        return given
    is_address = given.startswith(("file:", "dbfs:"))
    return addresses.to_path(addresses.to_uri(given)) if is_address else os.path.realpath(os.path.expanduser(given))


def folder_below(place: Place, outer: Place) -> str | None:
    """The first folder on the way from `outer` to `place`, empty where they are the same place; None where `place` is
    not below `outer`. By their canonical addresses. Raises ConfigError for an address that holds a key."""
    inner, root = (addresses.to_uri(os.fspath(given)) + "/" for given in (place, outer))
    return inner.removeprefix(root).partition("/")[0] if inner.startswith(root) else None
