"""Takes images out of texts: messages and notes of the log of runs, and files of results. No Spark, no files.

A text that names an image is replaced as a whole, and of JSON each value that names it: what is around a name may tell
as much as the name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

FORGOTTEN = "(forgotten)"
_IDS = re.compile(r"(?<![0-9a-fA-F])(?:-?\d{1,19}|(?:0x)?[0-9a-fA-F]{16})(?![0-9a-fA-F])")
"""Whole numbers, and ids as commands show them."""
_SHORTEST = 10**6
"""Numbers below are counts and seconds: of 2^64 ids one in 10^13 is so small."""

Named = Callable[[str], bool]
"""Whether a text names an image that is to be forgotten."""


def ids_in(text: str) -> set[int]:
    """The numbers in a text that may be ids of images, as signed numbers of 64 bits."""
    found = set()
    for word in _IDS.findall(text):
        if re.fullmatch(r"(?:0x)?[0-9a-fA-F]{16}", word):
            found.add(_signed(int(word, 16)))
        if re.fullmatch(r"-?\d+", word):
            found.add(int(word))
    return {number for number in found if _SHORTEST <= abs(number) <= 2**63}


def naming(pattern: str, ids: Collection[int]) -> Named:
    """Of texts that have something like `pattern` (`Asked.pattern`) or one of the ids in them."""
    address, wanted = re.compile(pattern), frozenset(ids)
    return lambda text: bool(address.search(text) or (wanted and ids_in(text) & wanted))


def without(text: str, is_named: Named) -> str:
    """The text as it may stay: itself where it names no such image."""
    if not is_named(text) and not is_named(_unescaped(text)):
        return text
    try:
        parsed = json.loads(text)
    except ValueError:
        return FORGOTTEN
    left = json.dumps(_value(parsed, is_named), sort_keys=True) if isinstance(parsed, dict | list) else text
    return FORGOTTEN if is_named(_unescaped(left)) else left


def redact_batches(
    batches: Iterable[pa.RecordBatch],
    columns: Collection[str],
    pattern: str,
    ids: Collection[int],
    kept: Collection[str] = (),
) -> Iterator[pa.RecordBatch]:
    """On executors: the rows in which one of these columns of text may not stay, with all of them as they may.

    `kept`: texts that stay as they are, whatever they name.
    """
    is_named, stays = naming(pattern, ids), frozenset(kept)
    for batch in batches:
        changes = np.zeros(batch.num_rows, bool)
        for name in columns:
            texts = batch.column(name).to_pylist()
            left = [text if text is None or text in stays else without(text, is_named) for text in texts]
            changes |= [old != new for old, new in zip(texts, left, strict=True)]
            at = batch.schema.get_field_index(name)
            batch = batch.set_column(at, batch.schema.field(name), pa.array(left, pa.string()))
        yield batch.filter(pa.array(changes))


def _unescaped(text: str) -> str:
    """JSON as a person reads it: an address with an umlaut is written with `\\u` in it."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        return text


def _value(held: Any, is_named: Named) -> Any:
    if isinstance(held, dict):
        return {FORGOTTEN if is_named(key) else key: _value(value, is_named) for key, value in held.items()}
    if isinstance(held, list):
        return [_value(item, is_named) for item in held]
    if isinstance(held, str):
        return without(held, is_named)
    if isinstance(held, int) and not isinstance(held, bool) and is_named(str(held)):
        return None
    return held


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
