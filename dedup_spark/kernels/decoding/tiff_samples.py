"""The samples of a TIFF page in the numbers of its file: what Pillow has no mode for, or reads as other numbers.

That is more than 8 bits per sample, signed and floating-point numbers, samples that are no colours (the bands of a
satellite), and planes one behind the other.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from dedup_spark.kernels.decoding import tiff_layout
from dedup_spark.kernels.decoding.tiff_layout import Layout

Samples = np.ndarray[Any, Any]

_UNPACKED_VALUES = 1 << 20
_BITS_REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def samples_of(data: bytes, layout: Layout) -> list[Samples]:
    """(h, w) of each sample that is shown, then of the alpha where there is one, in the type that the file has.

    One segment is held at a time, and of many bands those that are shown.

    Raises:
        OSError: The data end before the last pixel, or cannot be decompressed.
    """
    places = (*layout.colours, *(() if layout.alpha is None else (layout.alpha,)))
    width, height = layout.size
    found = [np.zeros((height, width), layout.dtype.newbyteorder("=")) for _ in places]
    for plane, left, top, values in _segments(data, layout, set(places)):
        for samples, place in zip(found, places, strict=True):
            if place == plane or not layout.is_planar:
                part = samples[top : top + len(values), left : left + values.shape[1]]
                part[:] = values[: part.shape[0], : part.shape[1], 0 if layout.is_planar else place]
    return found


def unseen_digest(data: bytes, layout: Layout) -> bytes:
    """SHA-256 of the samples that are not shown, in the order of the file; empty where all are, or where those are one
    number everywhere, as padding is. One segment is held.

    Raises:
        OSError: As `samples_of`.
    """
    if not layout.unseen:
        return b""
    digest, inside = hashlib.sha256(), [0] if layout.is_planar else list(layout.unseen)
    first, is_constant = None, True
    for _, _, _, values in _segments(data, layout, set(layout.unseen)):
        unseen = np.ascontiguousarray(values[..., inside], layout.dtype.newbyteorder("<"))
        digest.update(unseen.data)
        if is_constant and unseen.size:
            first = unseen.flat[0] if first is None else first
            is_constant = bool((unseen == first).all())
    return b"" if is_constant else digest.digest()


def inverted(values: Any, layout: Layout) -> Any:
    """Numbers of which the least is white as numbers of which it is black: unsigned ones by their distance from the
    highest, others on the other side of zero."""
    if layout.kind == "f":
        return -values
    return -1 - values if layout.kind == "i" else (1 << layout.bits) - 1 - values


def _segments(data: bytes, layout: Layout, planes: set[int]) -> Iterator[tuple[int, int, int, Samples]]:
    """(plane, left, top, (rows, columns, samples)) of each strip or tile that holds samples of these planes."""
    (width, height), (columns, rows) = layout.size, layout.segment
    n_planes = layout.n_samples if layout.is_planar else 1
    places = itertools.product(range(n_planes), range(0, height, rows), range(0, width, columns))
    counts = itertools.chain(layout.byte_counts, itertools.repeat(0))
    for (plane, top, left), offset, n_bytes in zip(places, _offsets(layout), counts, strict=False):
        if offset and (not layout.is_planar or plane in planes):  # GDAL leaves out a segment of zeros
            n_rows = rows if layout.is_tiled else min(rows, height - top)
            yield plane, left, top, _segment(data, layout, (offset, n_bytes), n_rows)


def _offsets(layout: Layout) -> Iterator[int]:
    yield from layout.offsets
    raise OSError("truncated: the file names too few strips or tiles")


def _segment(data: bytes, layout: Layout, extent: tuple[int, int], n_rows: int) -> Samples:
    n_values = layout.segment[0] * layout.n_interleaved
    row_bytes = -(-n_values * layout.bits // 8)
    packed = _decompressed(data, layout, extent, (row_bytes, n_rows))
    if len(packed) < row_bytes * n_rows:
        raise OSError(f"truncated: {len(packed)} of {row_bytes * n_rows} bytes of a strip or tile")
    rows = np.frombuffer(packed, np.uint8, row_bytes * n_rows).reshape(n_rows, row_bytes)
    shape = n_rows, layout.segment[0], layout.n_interleaved
    return _summed(_numbers(rows, layout, n_values), layout, shape) if n_rows else np.zeros(shape, layout.dtype)


def _decompressed(data: bytes, layout: Layout, extent: tuple[int, int], shape: tuple[int, int]) -> bytes | memoryview:
    """`shape` is the number of bytes in a row, and of rows; more than these are not decompressed."""
    offset, n_bytes = extent
    n_whole = shape[0] * shape[1]
    is_plain = layout.compression == tiff_layout.NO_COMPRESSION
    end = offset + (n_whole if is_plain else n_bytes or len(data))
    piece: bytes | memoryview = memoryview(data)[offset:end]
    if layout.is_bit_reversed:
        piece = bytes(piece).translate(_BITS_REVERSED)
    if is_plain:
        return piece
    if layout.compression not in tiff_layout.DEFLATE:
        return _by_libtiff(bytes(piece), layout.compression, shape)
    try:
        return zlib.decompressobj().decompress(piece, n_whole)
    except zlib.error as e:
        raise OSError(f"a strip or tile cannot be decompressed: {e}") from e


def _by_libtiff(piece: bytes, compression: int, shape: tuple[int, int]) -> bytes:
    """Decompressed as the only strip of a file of grey bytes."""
    from PIL import TiffImagePlugin  # imported here, as decoders are with the first file of their format

    entries = [
        (256, 4, shape[0]), (257, 4, shape[1]), (258, 3, 8), (259, 3, compression), (262, 3, 1), (273, 4, 134),
        (277, 3, 1), (278, 4, shape[1]), (279, 4, len(piece)), (339, 3, 1),
    ]  # fmt: skip
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    head += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + bytes(4)
    return TiffImagePlugin.TiffImageFile(io.BytesIO(head + piece)).tobytes()


def _numbers(rows: Samples, layout: Layout, n_values: int) -> Samples:
    """(rows, bytes) to (rows, values)."""
    if layout.bits == 8 * layout.dtype.itemsize:
        if layout.predictor == tiff_layout.FLOAT_DIFFERENCES and layout.kind == "f":
            return _of_float_differences(rows, layout)
        return rows.view(layout.dtype)
    found = np.empty((len(rows), n_values), np.uint16)
    step = max(1, _UNPACKED_VALUES // n_values)
    weights = (1 << np.arange(layout.bits)[::-1]).astype(np.uint16)
    for top in range(0, len(rows), step):  # a byte per bit, for some rows at a time
        bits = np.unpackbits(rows[top : top + step], axis=1)[:, : n_values * layout.bits]
        found[top : top + step] = bits.reshape(-1, n_values, layout.bits) @ weights
    return found


def _of_float_differences(rows: Samples, layout: Layout) -> Samples:
    """Adobe's third predictor: of each row first all highest bytes, then all next ones, each less that before it."""
    n_bytes = layout.dtype.itemsize
    sums = rows.reshape(len(rows), -1, layout.n_interleaved).cumsum(axis=1, dtype=np.uint8)
    planes = sums.reshape(len(rows), n_bytes, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(planes).reshape(len(rows), -1).view(layout.dtype.newbyteorder(">"))


def _summed(values: Samples, layout: Layout, shape: tuple[int, int, int]) -> Samples:
    """The values of which the file holds the differences from pixel to pixel, in the integers of their bits."""
    values = values.reshape(shape)
    if layout.predictor != tiff_layout.DIFFERENCES:
        return values
    dtype = values.dtype
    integers = values.view(f"{dtype.byteorder}u{dtype.itemsize}").astype(f"u{dtype.itemsize}")
    sums = integers.cumsum(axis=1, dtype=integers.dtype)
    if layout.bits < 8 * dtype.itemsize:
        sums &= (1 << layout.bits) - 1
    return sums.view(dtype.newbyteorder("="))
