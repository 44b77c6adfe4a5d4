"""One damaged file for each seed: bytes changed anywhere, or a part changed, lost, repeated, moved or exchanged."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence

from fuzzing.structure import parts_of, repaired

Mutation = Callable[[random.Random, bytearray, bytes], bytearray]
"""Of a file, with another one at hand."""

_NUMBERS = (0, 1, 2, 7, 8, *(2**n - d for n in (7, 8, 15, 16, 31, 32, 63, 64) for d in (0, 1)))
_REPAIRED_SHARE = 0.8


def mutated(files: Sequence[tuple[str, bytes]], seed: int) -> tuple[str, bytes]:
    """What was done to which file, and the result; equal for an equal seed and equal files."""
    rng = random.Random(seed)
    name, whole = files[seed % len(files)]
    alike = [data for _, data in files if data[:4] == whole[:4]]
    other = rng.choice(alike) if rng.random() < 0.5 else rng.choice(files)[1]
    data, done = bytearray(whole), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice(_MUTATIONS)
        data = change(rng, data, other)
        done.append(change.__name__.strip("_"))
    mended = rng.random() < _REPAIRED_SHARE
    return f"{name}: {', '.join(done)}{', repaired' * mended}", repaired(bytes(data)) if mended else bytes(data)


def _flip(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """A few bits, anywhere or near the beginning."""
    end = len(data) if rng.random() < 0.5 else min(len(data), 300)
    for _ in range(rng.randrange(1, 12) if end else 0):
        data[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return data


def _cut(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    return data[: rng.randrange(len(data) + 1)]


def _number(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """A number at the limit of its type in place of another, in a part."""
    begin, end = _part(rng, data)
    n_bytes, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
    at = rng.randrange(begin, end) if end > begin else begin
    value = rng.choice(_NUMBERS) % 256**n_bytes
    data[at : at + n_bytes] = value.to_bytes(n_bytes, order)
    return data


def _near(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """A byte of a part a little more or less: a count, a length, an offset."""
    begin, end = _part(rng, data)
    if end > begin:
        at = rng.randrange(begin, min(end, begin + 32))
        data[at] = (data[at] + rng.choice((-2, -1, 1, 2))) % 256
    return data


def _lose(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    begin, end = _part(rng, data)
    return data[:begin] + data[end:]


def _repeat(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    begin, end = _part(rng, data)
    return data[:end] + data[begin:end] * rng.choice((1, 1, 3, 200)) + data[end:]


def _move(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    begin, end = _part(rng, data)
    part, rest = data[begin:end], data[:begin] + data[end:]
    at = _part(rng, rest)[0]
    return rest[:at] + part + rest[at:]


def _exchange(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """A part for one of another file."""
    begin, end = _part(rng, data)
    begin_other, end_other = _part(rng, other)
    return data[:begin] + other[begin_other:end_other] + data[end:]


def _splice(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """Up to somewhere, then another file from somewhere on."""
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _zeros(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """As of a lost sector."""
    at, n = rng.randrange(len(data) + 1), rng.choice((16, 64, 512, 4096))
    data[at : at + n] = bytes(len(data[at : at + n]))
    return data


def _inflate(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """Changed bytes inside deflated ones, deflated again: behind the checks of the compression."""
    at = next((i for i in range(len(data) - 1) if data[i] == 0x78 and data[i + 1] in (0x01, 0x5E, 0x9C, 0xDA)), -1)
    if at < 0:
        return _flip(rng, data, other)
    unpacker = zlib.decompressobj()
    try:
        inside = bytearray(unpacker.decompress(bytes(data[at:]), 1 << 20))
    except zlib.error:
        return _flip(rng, data, other)
    packed = zlib.compress(bytes(_flip(rng, inside, other)))
    room = len(data) - at - len(unpacker.unused_data)
    return data[:at] + packed[:room].ljust(room, b"\0") + data[at + room :]


def _part(rng: random.Random, data: bytes | bytearray) -> tuple[int, int]:
    return rng.choice(parts_of(bytes(data)))


_MUTATIONS: tuple[Mutation, ...] = (
    _flip, _flip, _cut, _number, _number, _number, _near, _near, _lose, _repeat, _move, _exchange, _exchange, _splice,
    _zeros, _inflate,
)  # fmt: skip
