"""What a HEIF or AVIF file holds, by its boxes (ISO/IEC 14496-12 and 23008-12): items, where they lie, and what is
behind them.

Both functions take the whole file, which may be damaged or hostile, and never raise.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from dedup_spark.kernels.decoding.headers import boxes_side_by_side, unpack

_MAX_ITEMS, _MAX_EXTENTS = 4096, 64
_OF_PICTURE = frozenset({b"ftyp", b"meta", b"mdat", b"free", b"skip", b"uuid", b"pdin"})
_ALPHA = (b"alpha", b":auxid:1\0")
"""How the type of an auxiliary picture ends, or what is in it, where it is the transparency of another one."""
_IN_FILE, _IN_BOX = 0, 1
_FULL = 4  # bytes of version and flags, with which most boxes here begin


@dataclass
class Items:
    """Of each item its kind, and (offset, size) of its parts. `has_auxiliary`: there are pictures for other purposes
    than transparency, as gain maps and depths are."""

    kinds: dict[int, bytes] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    has_auxiliary: bool = False


def heif_items(data: bytes) -> Items | None:
    """None where there are none, or where they cannot be followed."""
    meta, end = next(
        ((at, last) for kind, at, last in boxes_side_by_side(data, 0, len(data)) if kind == b"meta"), (0, 0)
    )
    inside = {kind: (at, last) for kind, at, last in boxes_side_by_side(data, meta + _FULL, min(end, len(data)))}
    if b"iloc" not in inside or b"iinf" not in inside:
        return None
    items = Items(has_auxiliary=_has_auxiliary(data, inside.get(b"iprp", (0, 0))))
    at, last = inside[b"iinf"]
    first = at + _FULL + (4 if sum(unpack("B", data, at)) else 2)
    for kind, entry, _ in itertools.islice(boxes_side_by_side(data, first, last), _MAX_ITEMS):
        version = sum(unpack("B", data, entry))
        if kind == b"infe" and version >= 2:
            number = sum(unpack(">H" if version == 2 else ">I", data, entry + _FULL))
            after = entry + _FULL + (4 if version == 2 else 6)
            items.kinds[number] = data[after : after + 4]
    try:
        items.extents = _locations(data, inside[b"iloc"][0], inside.get(b"idat", (len(data), 0))[0])
    except ValueError:
        return None
    return items


def heif_boxes_beside(data: bytes) -> list[tuple[int, int]]:
    """Where boxes that belong to no picture begin and end, as the film of a motion photo; and all from where another
    file begins."""
    found = list[tuple[int, int]]()
    for n, (kind, content, end) in enumerate(boxes_side_by_side(data, 0, len(data))):
        if n and kind == b"ftyp":
            return [*found, (content - 8, len(data))]
        if kind not in _OF_PICTURE:
            found.append((content - 8, min(end, len(data))))
    return found


def _has_auxiliary(data: bytes, properties: tuple[int, int]) -> bool:
    for kind, at, end in boxes_side_by_side(data, *properties):
        if kind == b"ipco":
            named = (
                data[a + _FULL : min(z, len(data))] for k, a, z in boxes_side_by_side(data, at, end) if k == b"auxC"
            )
            return any(not any(alpha in name for alpha in _ALPHA) for name in named)
    return False


def _locations(data: bytes, at: int, idat: int) -> dict[int, list[tuple[int, int]]]:
    """(offset, size) of the parts of each item. ValueError where a part lies elsewhere, or the box is cut off."""
    version = sum(unpack("B", data, at))
    sizes = int.from_bytes(data[at + 4 : at + 6], "big")
    of_offset, of_length, of_base, of_index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    at += 6

    def take(n_bytes: int) -> int:
        nonlocal at
        at += n_bytes
        if at > len(data):
            raise ValueError("the box of locations is cut off")
        return int.from_bytes(data[at - n_bytes : at], "big")

    found: dict[int, list[tuple[int, int]]] = {}
    for _ in range(min(take(4 if version == 2 else 2), _MAX_ITEMS)):
        number = take(4 if version == 2 else 2)
        place = take(2) & 15 if version else _IN_FILE
        if place not in (_IN_FILE, _IN_BOX):
            raise ValueError("an item is made of others")
        take(2)
        base = take(of_base) + (idat if place == _IN_BOX else 0)
        n_extents = take(2)
        if n_extents > _MAX_EXTENTS:
            raise ValueError("an item has too many parts")
        parts = []
        for _ in range(n_extents):
            take(of_index if version else 0)
            offset = base + take(of_offset)
            parts.append((offset, take(of_length)))
        found[number] = parts
    return found
