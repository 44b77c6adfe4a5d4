"""Ids and hashes as people see and give them: 16 hex digits, of which the first few are enough. No Spark, no files.

One id is shown whole; lists of many show the first eight digits, or as many as tell it from all others.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable

import pyarrow as pa

from dedup_spark.printable import in_hex as in_hex

_DIGITS = 16
_LEAST = 4
SHORT = 8
"""Digits that lists of many ids show at least."""
_HEX = re.compile(rf"(?:0x)?([0-9a-f]{{{_LEAST},{_DIGITS}}})", re.IGNORECASE)
_DECIMAL = re.compile(r"-?\d{1,19}")
_NAME = re.compile(r"(?:\w+_)?(?:id|ids|id_a|id_b|phash(?:es)?|dhash)")


def short_ids(ids: Collection[int], others: Iterable[int]) -> dict[int, str]:
    """For each id its first digits, eight or as many more as tell it from all of `others`, which may hold it too."""
    if not ids:
        return {}
    in_order = sorted({in_hex(i) for i in (*ids, *others)})
    common = [_common_digits(a, b) for a, b in itertools.pairwise(in_order)]
    needed = [max(SHORT, 1 + max(around)) for around in zip([0, *common], [*common, 0], strict=True)]
    digits = dict(zip(in_order, needed, strict=True))
    return {i: in_hex(i)[: digits[in_hex(i)]] for i in ids}


def _common_digits(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def is_id(name: str, kind: pa.DataType) -> bool:
    """Whether a column of this name and type holds ids or hashes of 64 bits, or lists of them."""
    if pa.types.is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_int64(kind) and _NAME.fullmatch(name))


def readings(text: str) -> list[tuple[int, int]]:
    """What a text may stand for: ranges (first, last) of signed numbers; none where it is no id.

    A decimal number is itself. From 4 hex digits on a text is the beginning of all ids that begin so. 5432 is both.
    """
    found = []
    if _DECIMAL.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        found.append((int(text), int(text)))
    if given := _HEX.fullmatch(text):
        free = 4 * (_DIGITS - len(given[1]))
        first = int(given[1], 16) << free
        last = first + (1 << free) - 1
        found.append((_signed(first), _signed(last)))
    return found


def condition(column: str, ranges: list[tuple[int, int]]) -> str:
    """In SQL, whether a column is in one of the ranges."""
    tests = [f"{column} = {low}" if low == high else f"{column} BETWEEN {low} AND {high}" for low, high in ranges]
    return f"({' OR '.join(tests)})"


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
