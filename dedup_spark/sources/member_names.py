"""Names for the members of one container, so that two members are two images also where they bear one name.

The first member of a name keeps it. Every further one gets a suffix (`a.jpg#2`), and never one that makes the name of
another member: which names there are is known only at the end, so further members wait until then. Two passes over one
container give the same names. Memory: a container's names, and the rows of members whose name came before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]


class MemberNames:
    """The names of one container; rows are those of LISTING as dicts, with `member`."""

    def __init__(self) -> None:
        self._borne: set[str] = set()
        self._waiting: list[Row] = []

    def add(self, row: Row) -> Iterator[Row]:
        """The row, if its name is new; else it comes with `rest`."""
        if row["member"] in self._borne:
            self._waiting.append(row)
        else:
            self._borne.add(row["member"])
            yield row

    def rest(self) -> Iterator[Row]:
        """The rows that wait, in the order in which they came, under names of their own."""
        next_number: dict[str, int] = {}
        for row in self._waiting:
            name = row["member"]
            for n in itertools.count(next_number.get(name, 2)):
                new = f"{name}#{n}"
                if new not in self._borne:
                    break
            next_number[name] = n + 1
            self._borne.add(new)
            yield row | {"member": new}
        self._waiting = []
