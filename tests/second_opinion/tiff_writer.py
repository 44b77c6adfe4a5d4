"""Writes TIFF files of kinds that no library writes: any depth, byte order, layout, predictor and order of bits."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from second_opinion.cases import Values

_LAYOUT = {1: "B", 2: "s", 3: "H", 4: "I", 16: "Q"}

Tags = dict[int, tuple[int, Sequence[int] | bytes]]
"""Tag -> (type, values)."""

UINT, INT, FLOAT = 1, 2, 3


@dataclass(frozen=True)
class Layout:
    """How values are laid out in a file.

    `tile` is the side of a tile, 0 for strips of `rows`. `compress` takes the bytes of a block and of one of its rows.
    """

    order: str = "<"
    is_planar: bool = False
    tile: int = 0
    rows: int = 16
    compression: int = 1
    compress: Callable[[bytes, int], bytes] = lambda data, row_bytes: data
    predictor: int = 1
    fill_order: int = 1
    is_big: bool = False
    more: Tags = field(default_factory=dict)


def tiff(values: Values, n_bits: int, photometric: int, layout: Layout, sample_format: int = UINT) -> bytes:
    """A file of one page with (h, w, samples); values of fewer bits than their type are packed."""
    height, width, n_samples = values.shape
    blocks = [layout.compress(*_coded(block, n_bits, layout)) for block in _blocks(values, layout)]
    if layout.fill_order == 2:
        blocks = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in block) for block in blocks]
    tags: Tags = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [n_bits] * n_samples), 259: (3, [layout.compression]),
        262: (3, [photometric]), 266: (3, [layout.fill_order]), 277: (3, [n_samples]),
        284: (3, [2 if layout.is_planar else 1]), 317: (3, [layout.predictor]), 339: (3, [sample_format] * n_samples),
    }  # fmt: skip
    tags |= {322: (4, [layout.tile]), 323: (4, [layout.tile])} if layout.tile else {278: (4, [layout.rows])}
    return file_of([(tags | layout.more, blocks)], layout)


def file_of(pages: Sequence[tuple[Tags, Sequence[bytes]]], layout: Layout) -> bytes:
    """A chain of directories, each behind its blocks of pixels."""
    order, pointer = layout.order, "Q" if layout.is_big else "I"
    head = struct.pack(order + "HHHQ", 43, 8, 0, 0) if layout.is_big else struct.pack(order + "HI", 42, 0)
    out = bytearray((b"II" if order == "<" else b"MM") + head)
    link = len(out) - struct.calcsize(pointer)
    for tags, blocks in pages:
        places = []
        for block in blocks:
            places.append(len(out))
            out += block + b"\0" * (len(block) % 2)
        where = (324, 325) if 322 in tags else (273, 279)
        kind = 16 if layout.is_big else 4
        struct.pack_into(order + pointer, out, link, len(out))
        full = tags | {where[0]: (kind, places), where[1]: (kind, [len(block) for block in blocks])}
        directory, link_in_it = _directory(full, len(out), order, layout.is_big)
        link = len(out) + link_in_it
        out += directory
    return bytes(out)


def _directory(tags: Tags, at: int, order: str, is_big: bool) -> tuple[bytes, int]:
    """The directory, and where in it the offset of the next one stands."""
    inline, pointer, n_entries = (8, "Q", "Q") if is_big else (4, "I", "H")
    entry_bytes = 4 + 2 * inline
    link = struct.calcsize(n_entries) + entry_bytes * len(tags)
    far_at, far, entries = at + link + inline, b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        raw = values if isinstance(values, bytes) else struct.pack(f"{order}{len(values)}{_LAYOUT[kind]}", *values)
        entries += struct.pack(order + "HH" + pointer, tag, kind, len(values))
        if len(raw) > inline:
            entries += struct.pack(order + pointer, far_at + len(far))
            far += raw + b"\0" * (len(raw) % 2)
        else:
            entries += raw.ljust(inline, b"\0")
    return struct.pack(order + n_entries, len(tags)) + entries + bytes(inline) + far, link


def _blocks(values: Values, layout: Layout) -> Iterator[Values]:
    planes = np.split(values, values.shape[2], axis=2) if layout.is_planar else [values]
    for plane in planes:
        height, width = plane.shape[:2]
        if not layout.tile:
            yield from (plane[top : top + layout.rows] for top in range(0, height, layout.rows))
            continue
        side = layout.tile
        padded = np.pad(plane, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
        corners = itertools.product(range(0, height, side), range(0, width, side))
        yield from (padded[y : y + side, x : x + side] for y, x in corners)


def _coded(block: Values, n_bits: int, layout: Layout) -> tuple[bytes, int]:
    """The bytes of a block before they are compressed, and of how many bytes a row is."""
    if n_bits not in (8, 16, 32, 64):
        rows = _packed(block.reshape(len(block), -1), n_bits)
        return rows.tobytes(), rows.shape[1]
    if layout.predictor == 2:
        block = np.concatenate([block[:, :1], np.diff(block, axis=1).astype(block.dtype)], axis=1)
    if layout.predictor == 3:
        rows = np.stack([_float_predicted(row) for row in block])
        return rows.tobytes(), rows.shape[1]
    ordered = np.ascontiguousarray(block.astype(block.dtype.newbyteorder(layout.order)))
    return ordered.tobytes(), ordered[0].nbytes


def _packed(rows: Values, n_bits: int) -> Values:
    """(h, bytes) uint8 of (h, samples), the highest bit first, each row from a new byte on."""
    shifts = np.arange(n_bits - 1, -1, -1)
    bits = (rows.astype(np.uint32)[..., None] >> shifts) & 1
    return np.packbits(bits.astype(np.uint8).reshape(len(rows), -1), axis=1)


def _float_predicted(row: Values) -> Values:
    """By Adobe's technical note 3: bytes of equal weight together, the highest first, then differences of pixels."""
    n_samples = row.shape[-1]
    planes = row.astype(row.dtype.newbyteorder(">")).reshape(-1, 1).view(np.uint8).T
    flat = np.ascontiguousarray(planes).reshape(-1)
    return np.concatenate([flat[:n_samples], (flat[n_samples:] - flat[:-n_samples]).astype(np.uint8)])
