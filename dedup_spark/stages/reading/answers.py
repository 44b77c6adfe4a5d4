"""What a decoder process answers, as bytes: a header in JSON, and behind it the bytes that its values refer to.

The process may have been taken over by the image that it reads, so its answers are data that a stranger wrote. No
pickle is read from it (unpickling runs code); lengths are checked before anything is made of them, and the types of a
signature are those that the row of a table will ask for. Cost: some 100 microseconds for a signature of 260 KB, 1.5
times that of a pickle.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import struct
import types
import typing
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import numpy as np

from dedup_spark.kernels.arrays import UInt8
from dedup_spark.kernels.features.signature import Signature

MAX_BYTES = 64 << 20
"""Longest answer; the largest honest one, a model input of 1,024 px with a thumbnail, has 4 MB."""
_HEADER = struct.Struct("<I")
_BYTES, _ARRAY, _TIME, _SIGNATURE = "bytes", "array", "time", "signature"


class NotAnAnswer(ValueError):
    """The process did not write what `pack` writes."""


def pack(answer: list[Any]) -> bytes:
    """None, booleans, numbers, text, bytes, times, uint8 arrays, signatures; in lists and in dicts with text keys."""
    parts: list[bytes] = []
    header = json.dumps(answer, default=functools.partial(_refer, parts=parts)).encode()
    return b"".join([_HEADER.pack(len(header)), header, *parts])


def unpack(data: bytes | bytearray) -> list[Any]:
    """What was packed, a list. Raises NotAnAnswer."""
    try:
        (size,) = _HEADER.unpack_from(data)
        body = memoryview(data)[_HEADER.size + size :]
        position = 0

        def take(length: int) -> memoryview:
            nonlocal position
            if type(length) is not int or not 0 <= length <= len(body) - position:
                raise NotAnAnswer("a value is longer than the answer")
            position += length
            return body[position - length : position]

        answer = json.loads(
            bytes(data[_HEADER.size : _HEADER.size + size]), object_hook=functools.partial(_restore, take=take)
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, struct.error) as e:
        raise NotAnAnswer(f"the answer of a decoder process does not parse: {e}"[:300]) from e
    if not isinstance(answer, list) or not answer:
        raise NotAnAnswer("the answer of a decoder process is no list")
    return answer


def _refer(value: Any, parts: list[bytes]) -> dict[str, Any]:
    """Of a value that JSON has no form for: its kind, and the length of its bytes, which join `parts`."""
    if isinstance(value, bytes):
        parts.append(value)
        return {"": _BYTES, "length": len(value)}
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        parts.append(np.ascontiguousarray(value).tobytes())
        return {"": _ARRAY, "length": value.size, "shape": list(value.shape)}
    if isinstance(value, datetime):
        return {"": _TIME, "text": value.isoformat()}
    if isinstance(value, Signature):
        return {"": _SIGNATURE, "values": [getattr(value, name) for name in _types()]}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a decoder process answers with a {type(value).__name__}")


def _restore(found: dict[str, Any], take: Callable[[int], memoryview]) -> Any:
    kind = found.get("")
    if kind == _BYTES:
        return bytes(take(found["length"]))
    if kind == _ARRAY:
        pixels: UInt8 = np.frombuffer(take(found["length"]), np.uint8)
        return pixels.reshape([int(n) for n in found["shape"]])
    if kind == _TIME:
        return datetime.fromisoformat(found["text"])
    if kind == _SIGNATURE:
        return _signature(found["values"])
    return found


def _signature(values: list[Any]) -> Signature:
    allowed = _types()
    for (name, types_of_field), value in zip(allowed.items(), values, strict=True):
        if type(value) not in types_of_field or (type(value) is list and {type(item) for item in value} - {int}):
            raise NotAnAnswer(f"{name} is a {type(value).__name__}")
    return Signature(*values)


@functools.cache
def _types() -> dict[str, frozenset[type]]:
    """The fields of a signature in order, and the types that a value of each may have; lists hold integers."""
    hints = typing.get_type_hints(Signature)
    return {field.name: frozenset(_alternatives(hints[field.name])) for field in dataclasses.fields(Signature)}


def _alternatives(hint: Any) -> Iterator[type]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        for one in typing.get_args(hint):
            yield from _alternatives(one)
    elif hint == UInt8:
        yield np.ndarray
    else:
        yield typing.get_origin(hint) or hint
