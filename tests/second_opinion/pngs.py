"""PNG of every colour type, depth and filter, interlaced or not, with and without tRNS, and of several frames."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from odd_bytes import encoded, icc_profile, png_chunk
from PIL import Image

from second_opinion import cases
from second_opinion.cases import Case, Values

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
_NAMES = {GREY: "grey", RGB: "rgb", PALETTE: "palette", GREY_ALPHA: "grey with alpha", RGBA: "rgba"}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass: first column, first row, step between columns and between rows."""


def all_pngs() -> Iterator[Case]:
    for colour_type, depths in _DEPTHS.items():
        for n_bits, is_interlaced, is_keyed in itertools.product(depths, (False, True), (False, True)):
            if not (is_keyed and colour_type in (GREY_ALPHA, RGBA)):
                yield _png(colour_type, n_bits, is_interlaced, is_keyed)
    image = Image.fromarray(cases.rgb())
    frames = [Image.fromarray(cases.rgb()[::-1]), image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    film = encoded(image, "PNG", save_all=True, append_images=frames, duration=70)
    yield Case("png of three frames", film, cases.rgb(), 3)
    profiled = encoded(image, "PNG", icc_profile=icc_profile("RGB"))
    yield Case("png with a profile", profiled, has_profile=True)
    grey_profiled = encoded(image.convert("L"), "PNG", icc_profile=icc_profile("GRAY"))
    yield Case("png grey with a profile", grey_profiled, has_profile=True)


def png(
    values: Values, n_bits: int, colour_type: int, is_interlaced: bool, chunks: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """A file of (h, w, samples), its rows filtered by all five filters in turn, its pixels in three IDAT chunks."""
    height, width = values.shape[:2]
    passes = _ADAM7 if is_interlaced else ((0, 0, 1, 1),)
    rows = b"".join(_filtered(values[y::dy, x::dx], n_bits) for x, y, dx, dy in passes)
    packed = zlib.compress(rows)
    third = len(packed) // 3
    pieces = (packed[:third], packed[third : 2 * third], packed[2 * third :])
    header = struct.pack(">IIBBBBB", width, height, n_bits, colour_type, 0, 0, int(is_interlaced))
    parts = [(b"IHDR", header), *chunks, *((b"IDAT", piece) for piece in pieces), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, body) for name, body in parts)


def _png(colour_type: int, n_bits: int, is_interlaced: bool, is_keyed: bool) -> Case:
    values, shown, chunks = _content(colour_type, n_bits, is_keyed)
    name = f"png {_NAMES[colour_type]} {n_bits}{', interlaced' * is_interlaced}{', tRNS' * is_keyed}"
    return Case(name, png(values, n_bits, colour_type, is_interlaced, chunks), shown)


def _content(colour_type: int, n_bits: int, is_keyed: bool) -> tuple[Values, Values, list[tuple[bytes, bytes]]]:
    if colour_type == PALETTE:
        indices, table = cases.paletted(n_bits)
        clear = np.linspace(80, 255, len(table)).astype(np.uint8)[:, None]
        colours = np.concatenate([table, clear], axis=1) if is_keyed else table
        chunks = [(b"PLTE", table.tobytes()), (b"tRNS", clear.tobytes())]
        return indices, colours[indices[..., 0]], chunks[: 1 + is_keyed]
    grey, rgb, alpha = cases.grey(), cases.rgb(), cases.alpha()
    eight = {GREY: grey, RGB: rgb, GREY_ALPHA: np.dstack([grey, alpha]), RGBA: np.dstack([rgb, alpha])}[colour_type]
    values = cases.quantised(eight, n_bits)
    shown = values if colour_type == GREY and n_bits == 16 and not is_keyed else cases.in_8_bits(values, n_bits)
    if not is_keyed:
        return values, shown, []
    key = values[2, 2]  # of the corner, which has one colour
    hidden = (values == key).all(axis=2, keepdims=True)
    shown = np.concatenate([shown, np.where(hidden, 0, 255).astype(np.uint8)], axis=2)
    return values, shown, [(b"tRNS", b"".join(int(v).to_bytes(2) for v in key))]


def _filtered(values: Values, n_bits: int) -> bytes:
    """The rows of a pass, each behind the number of its filter."""
    if not values.size:
        return b""
    if n_bits < 8:
        bits = (values.reshape(len(values), -1, 1) >> np.arange(n_bits - 1, -1, -1)) & 1
        rows = np.packbits(bits.astype(np.uint8).reshape(len(values), -1), axis=1)
    else:
        rows = np.ascontiguousarray(values.astype(values.dtype.newbyteorder(">"))).view(np.uint8)
        rows = rows.reshape(len(values), -1)
    step = max(1, values.shape[2] * n_bits // 8)
    left = np.pad(rows, ((0, 0), (step, 0)))[:, :-step].astype(np.int64)
    above = np.pad(rows, ((1, 0), (0, 0)))[:-1].astype(np.int64)
    corner = np.pad(rows, ((1, 0), (step, 0)))[:-1, :-step].astype(np.int64)
    guesses = (np.zeros_like(left), left, above, (left + above) // 2, _paeth(left, above, corner))
    filtered = [((row - guesses[i % 5][i]) & 255).astype(np.uint8).tobytes() for i, row in enumerate(rows)]
    return b"".join(bytes([i % 5]) + row for i, row in enumerate(filtered))


def _paeth(left: Values, above: Values, corner: Values) -> Values:
    guess = left + above - corner
    far = [np.abs(guess - v) for v in (left, above, corner)]
    return np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], above, corner))
