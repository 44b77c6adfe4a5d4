"""Names and types of columns, written once in Spark's DDL and read by Spark, Arrow and SQL alike. No Spark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

_ARROW = {
    "bigint": pa.int64(), "int": pa.int32(), "smallint": pa.int16(), "float": pa.float32(), "double": pa.float64(),
    "string": pa.string(), "binary": pa.binary(), "boolean": pa.bool_(), "timestamp": pa.timestamp("us", "UTC"),
}  # fmt: skip
"""The Arrow type that Spark converts each of its types to."""

_COLUMN = re.compile(r"(\w+) ((?:[^,<]|<(?:[^<>]|<[^<>]*>)*>)+)")
"""Name and type, which may hold commas in brackets, and brackets in those."""


@dataclass(frozen=True)
class Columns:
    """The columns of a DataFrame, e.g. Columns("image_id bigint, similarities array<float>"), all nullable.

    Types: bigint, int, smallint, float, double, string, binary, boolean, timestamp, array<T> and map<K, V> of those.
    Spark's mapInArrow and StructType.fromDDL take `ddl`; tasks make batches with the schema `arrow`. That property
    raises ValueError for another type.
    """

    ddl: str

    @cached_property
    def types(self) -> dict[str, str]:
        """Type by name, in order."""
        return {name: type_name.strip() for name, type_name in _COLUMN.findall(self.ddl)}

    @cached_property
    def arrow(self) -> pa.Schema:
        return pa.schema([(name, arrow_type(type_name)) for name, type_name in self.types.items()])

    @property
    def names(self) -> list[str]:
        return list(self.types)

    def __iter__(self) -> Iterator[str]:
        return iter(self.types)

    def __add__(self, other: Columns) -> Columns:
        return Columns(f"{self.ddl}, {other.ddl}")

    def only(self, *names: str) -> Columns:
        """The columns of these names, in the order of this object."""
        return Columns(", ".join(f"{name} {type_name}" for name, type_name in self.types.items() if name in names))


def arrow_type(type_name: str) -> pa.DataType:
    """Arrow's type for one of Spark's, named as in DDL."""
    if inner := re.fullmatch(r"array<(.+)>", type_name):
        return pa.list_(arrow_type(inner[1].strip()))
    if inner := re.fullmatch(r"map<([^,]+),(.+)>", type_name):
        return pa.map_(arrow_type(inner[1].strip()), arrow_type(inner[2].strip()))
    if type_name not in _ARROW:
        raise ValueError(f"no such type of a column: {type_name!r}; known: {', '.join(_ARROW)}, array<T>, map<K, V>")
    return _ARROW[type_name]
