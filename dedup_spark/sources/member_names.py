"""Names for the members of one container, so that two members are two images also where they bear one name.

The first member of a name keeps it. Every further one gets a suffix (`a.jpg#2`), and never one that makes the name of
another member: which names there are is known only at the end, so further members wait until then. Two passes over one
container give the same names. Memory: a container's names, and the rows of members whose name came before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame

from dedup_spark.sources.base import LISTING

_ROWS_PER_BATCH = 4096
Row = dict[str, Any]


class MemberNames:
    """The names of one container; rows are those of LISTING as dicts, with `member` and `position`.

    Two rows with one name and one position are one member, named twice.
    """

    def __init__(self) -> None:
        self._places: dict[str, int | None] = {}
        self._waiting: list[Row] = []

    def add(self, row: Row) -> Iterator[Row]:
        """The row, if no other member has its name; else it comes with `rest`."""
        if self._places.setdefault(row["member"], row["position"]) == row["position"]:
            yield row
        else:
            self._waiting.append(row)

    def rest(self) -> Iterator[Row]:
        """The rows that wait, in the order in which they came, under names of their own."""
        given: dict[tuple[str, int | None], str] = {}
        numbers: dict[str, Iterator[int]] = {}
        for row in self._waiting:
            name, place = row["member"], row["position"]
            if (name, place) not in given:
                count = numbers.setdefault(name, itertools.count(2))
                given[name, place] = next(new for n in count if (new := f"{name}#{n}") not in self._places)
                self._places[given[name, place]] = place
            yield row | {"member": given[name, place]}
        self._waiting = []


def named_apart(listing: DataFrame) -> DataFrame:
    """`listing` (LISTING) of members by their places, as others named them: each member has a name of its own.

    One shuffle; a task has all members of a container, which must be of one file (`uri`).
    """
    by_container = listing.repartition("uri").sortWithinPartitions("uri", "member", "position")
    return by_container.mapInArrow(_name_apart, LISTING.ddl)


def _name_apart(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
    named = _named(rows)
    while some := list(itertools.islice(named, _ROWS_PER_BATCH)):
        yield pa.RecordBatch.from_pylist(some, schema=LISTING.arrow)


def _named(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows that are ordered by `uri`, with names of their own."""
    for _, members in itertools.groupby(rows, lambda row: row["uri"]):
        names = MemberNames()
        for row in members:
            yield from [row] if row["member"] is None else names.add(row)
        yield from names.rest()
