"""TIFF of every mode, depth, photometric interpretation, compression, byte order and layout that goes together."""

from __future__ import annotations

import itertools
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import imagecodecs
import numpy as np
from odd_bytes import encoded
from PIL import Image

from second_opinion import cases
from second_opinion.cases import Case, Values
from second_opinion.tiff_writer import FLOAT, INT, UINT, Layout, Tags, file_of, tiff


@dataclass(frozen=True)
class Kind:
    """One kind of pixels: `values` as they are stored, `shown` as a person sees them."""

    name: str
    values: Values
    n_bits: int
    photometric: int
    shown: Values
    sample_format: int = UINT
    more: Tags | None = None
    like: float = 3.0


def _packbits(data: bytes, row_bytes: int) -> bytes:
    rows = (data[at : at + row_bytes] for at in range(0, len(data), row_bytes))
    return b"".join(imagecodecs.packbits_encode(row) for row in rows)


_COMPRESSIONS: dict[str, tuple[int, Callable[[bytes, int], bytes]]] = {
    "raw": (1, lambda data, _: data),
    "lzw": (5, lambda data, _: imagecodecs.lzw_encode(data)),
    "deflate": (8, lambda data, _: zlib.compress(data)),
    "old deflate": (32946, lambda data, _: zlib.compress(data)),
    "packbits": (32773, _packbits),
    "zstd": (50000, lambda data, _: imagecodecs.zstd_encode(data)),
    "lzma": (34925, lambda data, _: lzma.compress(data, check=lzma.CHECK_NONE)),
}


def all_tiffs() -> Iterator[Case]:
    """Every kind of pixels in every layout that goes with it, then what other libraries compress."""
    for kind in _kinds():
        for name, layout in _layouts(kind):
            yield _case(kind, name, layout)
    yield from _fax()
    yield from _jpeg_in_tiff()
    yield from _subsampled()
    yield from _chains()


def few_tiffs() -> Iterator[Case]:
    """Every kind of pixels twice, every layout at least once; and what other libraries compress."""
    for i, kind in enumerate(_kinds()):
        layouts = list(_layouts(kind))
        for name, layout in (layouts[(7 * i) % len(layouts)], layouts[(13 * i + 5) % len(layouts)]):
            yield _case(kind, name, layout)
    yield from itertools.chain(_fax(), _jpeg_in_tiff(), _subsampled(), _chains())


def _case(kind: Kind, name: str, layout: Layout) -> Case:
    full = replace(layout, more=kind.more or {})
    data = tiff(kind.values, kind.n_bits, kind.photometric, full, kind.sample_format)
    return Case(f"tiff {kind.name}, {name}", data, kind.shown, like=kind.like)


def _layouts(kind: Kind) -> Iterator[tuple[str, Layout]]:
    orders, sides = (("<", "little"), (">", "big")), ((0, 16), (0, 61), (32, 0))
    several = kind.values.shape[2] > 1
    for (name, (code, compress)), (order, order_name), (tile, rows) in itertools.product(
        _COMPRESSIONS.items(), orders, sides
    ):
        place = f"tiles of {tile}" if tile else f"strips of {rows}"
        layout = Layout(order, tile=tile, rows=rows or 61, compression=code, compress=compress)
        yield f"{name}, {order_name}, {place}", layout
        if several:
            yield f"{name}, {order_name}, {place}, planar", replace(layout, is_planar=True)
        if name in ("lzw", "deflate", "zstd") and (predictor := _predictor(kind)):
            yield f"{name}, {order_name}, {place}, predictor {predictor}", replace(layout, predictor=predictor)
    yield "raw, little, strips of 16, big TIFF", Layout(is_big=True)
    yield (
        "lzw, big, tiles of 32, big TIFF",
        replace(Layout(">", tile=32, is_big=True), compression=5, compress=_COMPRESSIONS["lzw"][1]),
    )
    if kind.n_bits < 8:
        yield "raw, little, strips of 16, lowest bit first", Layout(fill_order=2)


def _predictor(kind: Kind) -> int:
    if kind.sample_format == FLOAT:
        return 3
    return 2 if kind.n_bits in (8, 16, 32) else 0


def _kinds() -> Iterator[Kind]:
    yield from _grey_kinds()
    yield from _colour_kinds()
    yield from _palette_kinds()


def _grey_kinds() -> Iterator[Kind]:
    grey = cases.grey()
    for n_bits in (1, 2, 4, 8):
        values = cases.quantised(grey, n_bits)
        shown = cases.in_8_bits(values, n_bits)
        yield Kind(f"grey {n_bits}", values, n_bits, 1, shown)
        yield Kind(f"white is zero {n_bits}", (2**n_bits - 1 - values).astype(np.uint8), n_bits, 0, shown)
    for n_bits in (12, 16, 32):
        values = cases.quantised(grey, n_bits)
        yield Kind(f"grey {n_bits}", values, n_bits, 1, values)
        yield Kind(f"white is zero {n_bits}", 2**n_bits - 1 - values, n_bits, 0, values)
    for n_bits, kind in ((8, np.int8), (16, np.int16), (32, np.int32)):
        middle = 2 ** (n_bits - 1)
        values = (cases.quantised(grey, n_bits).astype(np.int64) - middle).astype(kind)
        yield Kind(f"grey signed {n_bits}", values, n_bits, 1, values, INT)
    for n_bits, kind in ((16, np.float16), (32, np.float32), (64, np.float64)):
        values = (grey / 255).astype(kind)
        yield Kind(f"grey float {n_bits}", values, n_bits, 1, values, FLOAT)
    clear = np.dstack([grey, cases.alpha()])
    yield Kind("grey with alpha 8", clear, 8, 1, clear, more={338: (3, [2])})
    deep = cases.quantised(clear, 16)
    yield Kind("grey with alpha 16", deep, 16, 1, clear, more={338: (3, [2])})


def _colour_kinds() -> Iterator[Kind]:
    rgb = cases.rgb()
    clear = np.dstack([rgb, cases.alpha()])
    for n_bits in (4, 8, 16, 32):
        values = cases.quantised(rgb, n_bits)
        yield Kind(f"rgb {n_bits}", values, n_bits, 2, cases.in_8_bits(values, n_bits))
    yield Kind("rgb float 32", (rgb / 255).astype(np.float32), 32, 2, rgb, FLOAT)
    for n_bits in (8, 16):
        values = cases.quantised(clear, n_bits)
        yield Kind(f"rgba {n_bits}", values, n_bits, 2, clear, more={338: (3, [2])})
        held = np.dstack([np.round(clear[..., :3] * (clear[..., 3:] / 255.0)), clear[..., 3:]])
        held = cases.quantised(held, n_bits)
        yield Kind(f"rgba premultiplied {n_bits}", held, n_bits, 2, clear, more={338: (3, [1])})
        unnamed = np.dstack([values, values[..., :1]])
        yield Kind(f"rgb {n_bits} and two unnamed", unnamed, n_bits, 2, rgb, more={338: (3, [0, 0])})
        inks = cases.quantised(_inks(rgb), n_bits)
        yield Kind(f"cmyk {n_bits}", inks, n_bits, 5, rgb, like=12)
        yield Kind(f"lab {n_bits}", _lab(rgb, n_bits), n_bits, 8, rgb, like=12)
    ycc = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    yield Kind("ycbcr 8", ycc, 8, 6, rgb, more={530: (3, [1, 1])})


def _inks(rgb: Values) -> Values:
    """Cyan, magenta and yellow without black: what Pillow makes of it is the picture again."""
    return np.dstack([255 - rgb, np.zeros(rgb.shape[:2], np.uint8)])


def _lab(rgb: Values, n_bits: int) -> Values:
    """CIE L*a*b* as TIFF stores it: a and b signed, as NumPy sees them in Pillow's mode LAB, too."""
    from PIL import ImageCms

    spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.applyTransform(Image.fromarray(rgb), ImageCms.buildTransform(*spaces, "RGB", "LAB"))
    stored = np.asarray(lab)
    if n_bits == 8:
        return stored
    return np.dstack([stored[..., 0].astype(np.int64) * 257, stored[..., 1:].astype(np.int64) * 256]).astype(np.uint16)


def _palette_kinds() -> Iterator[Kind]:
    for n_bits in (1, 2, 4, 8):
        indices, table = cases.paletted(n_bits)
        colour_map = (table.T.astype(np.int64) * 257).reshape(-1).tolist()
        yield Kind(f"palette {n_bits}", indices, n_bits, 3, table[indices[..., 0]], more={320: (3, colour_map)})


def _fax() -> Iterator[Case]:
    line = Image.fromarray(cases.rgb()).convert("1")
    shown = np.asarray(line.convert("L"))[..., None]
    for compression in ("tiff_ccitt", "group3", "group4"):
        yield Case(f"tiff fax {compression}", encoded(line, "TIFF", compression=compression), shown)


def _jpeg_in_tiff() -> Iterator[Case]:
    image = Image.fromarray(cases.rgb())
    for subsampling in ("4:4:4", "4:2:0"):
        data = encoded(image, "TIFF", compression="jpeg", quality=95, subsampling=subsampling)
        yield Case(f"tiff jpeg {subsampling}", data, cases.rgb(), like=12)
    yield Case("tiff jpeg grey", encoded(image.convert("L"), "TIFF", compression="jpeg", quality=95), cases.grey())
    webp = imagecodecs.webp_encode(cases.rgb(), lossless=True)
    yield _coded_by(50001, [8] * 3, 2, webp, "tiff webp", cases.rgb())


def _coded_by(code: int, bits: list[int], photometric: int, block: bytes, name: str, shown: Values) -> Case:
    tags: Tags = {256: (4, [83]), 257: (4, [61]), 258: (3, bits), 259: (3, [code]), 262: (3, [photometric]),
                  277: (3, [len(bits)]), 278: (4, [61])}  # fmt: skip
    return Case(name, file_of([(tags, [block])], Layout()), shown)


def _subsampled() -> Iterator[Case]:
    """YCbCr without compression, with one chroma sample for 2 x 2 pixels, in TIFF's own order of samples."""
    ycc = np.asarray(Image.fromarray(cases.rgb()).convert("YCbCr"))
    padded = np.pad(ycc, ((0, 1), (0, 1), (0, 0)), mode="edge")
    luma = padded[..., 0].reshape(31, 2, 42, 2).transpose(0, 2, 1, 3).reshape(31, 42, 4)
    chroma = padded[..., 1:].reshape(31, 2, 42, 2, 2).mean((1, 3)).round()
    stored = np.concatenate([luma, chroma], axis=2).astype(np.uint8).tobytes()
    tags: Tags = {256: (4, [83]), 257: (4, [61]), 258: (3, [8, 8, 8]), 259: (3, [1]), 262: (3, [6]), 277: (3, [3]),
                  278: (4, [61]), 284: (3, [1]), 530: (3, [2, 2]), 531: (3, [1])}  # fmt: skip
    yield Case("tiff ycbcr 8, raw, 4:2:0", file_of([(tags, [stored])], Layout()), cases.rgb(), like=12)


def _chains() -> Iterator[Case]:
    """Several pages, and what is no page: a reduced copy, a mask."""
    rgb = cases.rgb()
    tags: Tags = {258: (3, [8, 8, 8]), 259: (3, [1]), 262: (3, [2]), 277: (3, [3]), 284: (3, [1])}

    def page(values: Values, kind: int) -> tuple[Tags, list[bytes]]:
        height, width = values.shape[:2]
        own: Tags = {254: (4, [kind]), 256: (4, [width]), 257: (4, [height]), 278: (4, [height])}
        return tags | own, [values.tobytes()]

    small = np.asarray(Image.fromarray(rgb).resize((20, 15)))
    for name, pages, n in (
        ("three pages", [(rgb, 2), (rgb[::-1], 2), (rgb, 2)], 3),
        ("a page and its reduced copy", [(rgb, 0), (small, 1)], 1),
        ("a reduced copy and its page", [(small, 1), (rgb, 0)], 1),
    ):
        for order in "<>":
            data = file_of([page(*p) for p in pages], Layout(order))
            yield Case(f"tiff {name}, {'little' if order == '<' else 'big'}", data, rgb, n)
