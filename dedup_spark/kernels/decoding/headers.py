"""What image headers claim, read without a decoder: before it allocates for them, and where it would misread them.

Every function takes the whole file, which may be damaged or hostile, returns None or nothing where it cannot read it,
and never raises. A page of Python per format; no pixels are decoded here.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator

Size = tuple[int, int]

_TIFF_INTEGERS = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
_TIFF_TAGS_READ = frozenset(
    {254, 255, 256, 257, 259, 262, 271, 273, 279, 322, 323, 324, 325, 330, 513, 514, 37724, 50706}
)
_MAX_DIRECTORIES, _MAX_ENTRIES, _MAX_BOXES, _MAX_DEPTH = 32, 512, 10_000, 6
_ENTRIES_OF_PAGE = 64
"""Tags are in rising order, and those of a page's kind and size are the first; so a chain of hostile directories costs
no more than 0.1 ms each."""
_WEBP_SIDE = (1 << 14) - 1
_CONTAINER_BOXES = frozenset({b"meta", b"iprp", b"ipco", b"jp2h"})


def tiff_directories(data: bytes, max_values: int = 256) -> Iterator[dict[int, tuple[int, ...]]]:
    """The tags that are used here, of each of the first directories: IFD0, its SubIFDs, then the chain. BigTIFF too.

    Tags with more than `max_values` values are there without them.
    """
    order, big = _tiff_layout(data)
    first = unpack(order + ("Q" if big else "I"), data, 8 if big else 4)
    waiting: list[int] = list(first)
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_DIRECTORIES:
        offset = waiting.pop(0)
        if offset not in seen and 8 <= offset < len(data):
            seen.add(offset)
            tags, after = _tiff_directory(data, offset, order, big, max_values)
            waiting = [*tags.get(330, ())[:16], *waiting, after]
            yield tags


def tiff_pages(data: bytes) -> Iterator[dict[int, tuple[int, ...]]]:
    """The tags that are used here, of each directory of the chain that has a size, which is a page; as long as it goes.

    A chain that comes back to where it was, or leads out of the file, ends there.
    """
    order, big = _tiff_layout(data)
    waiting = sum(unpack(order + ("Q" if big else "I"), data, 8 if big else 4))
    seen: set[int] = set()
    while waiting not in seen and 8 <= waiting < len(data):
        seen.add(waiting)
        tags, waiting = _tiff_directory(data, waiting, order, big, max_values=4, max_entries=_ENTRIES_OF_PAGE)
        if not (any(tags.get(256, ())) and any(tags.get(257, ()))):
            return
        yield tags


def tiff_directory_at(data: bytes, offset: int) -> dict[int, tuple[int, ...]]:
    """The tags that are used here of the directory at an offset; none where there is none."""
    return _tiff_directory(data, offset, *_tiff_layout(data), max_values=64)[0]


def claimed_size(data: bytes, image_format: str) -> Size | None:
    """Largest width and height that the decoder of this format might allocate when it only opens the file."""
    read = _SIZE_READERS.get(image_format)
    sizes = [size for size in read(data) if all(size)] if read else []
    return max(sizes, key=lambda size: size[0] * size[1]) if sizes else None


def jpeg_frame(data: bytes) -> tuple[int, int] | None:
    """(marker, bits per sample) of the first frame header of a JPEG file, e.g. (0xC2, 8) for a progressive one."""
    at = 2
    while (head := unpack(">BBH", data, at)) and head[0] == 0xFF:
        marker, length = head[1], head[2]
        if marker == 0xFF:
            at += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return (marker, data[at + 4]) if at + 4 < len(data) else None
        else:
            at += 2 + length
    return None


def png_bits(data: bytes) -> int:
    """Bits per sample of a PNG; 8 for other files."""
    return data[24] if data[:4] == b"\x89PNG" and len(data) > 24 else 8


def jpeg2000_bits(data: bytes) -> int:
    """Bits per value of the first component of a JPEG 2000 file; 0 where they are signed or cannot be read."""
    siz = data.find(b"\xff\x4f\xff\x51")
    bits = sum(unpack("B", data, siz + 42)) if siz >= 0 else 0x80
    return 0 if bits & 0x80 else bits + 1


def avif_bits(data: bytes) -> int:
    """Bits per value by the configuration (av1C) of the first picture in an AVIF file; 0 where there is none."""
    at = next((at for kind, at in _boxes(data) if kind == b"av1C"), len(data))
    return sum((8, 8, 10, 12)[flags >> 5 & 3] for flags in unpack("B", data, at + 2))


def is_turned(data: bytes) -> bool:
    """Whether a HEIF file asks its decoder to rotate or mirror a picture."""
    return any(kind in (b"irot", b"imir") for kind, _ in _boxes(data))


def jxl_orientation(data: bytes) -> int:
    """The orientation 1-8 in the codestream of a JPEG XL file, which its decoder applies."""
    return _jxl_header(data)[2] or 1


def is_jxl_film(data: bytes) -> bool:
    """Whether a JPEG XL file says that it has several frames, of which its decoder gives the first."""
    return bool(_jxl_header(data)[3])


def jxl_bits(data: bytes) -> int:
    """Bits per value of a JPEG XL file; 0 where they are not read: of a film, and behind a preview."""
    return _jxl_header(data)[4]


def unpack(layout: str, data: bytes, at: int) -> tuple[int, ...]:
    """The integers at `at`; none at all where the data end before the last of them."""
    try:
        return struct.unpack_from(layout, data, at)
    except (struct.error, OverflowError):
        return ()


def _tiff_layout(data: bytes) -> tuple[str, bool]:
    """The byte order, for `struct`, and whether it is a BigTIFF."""
    return "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")


def _tiff_directory(
    data: bytes, offset: int, order: str, big: bool, max_values: int, max_entries: int = _MAX_ENTRIES
) -> tuple[dict[int, tuple[int, ...]], int]:
    """Tags and the offset of the next directory in the chain, 0 for none."""
    count_layout, entry_layout, pointer, inline = ("Q", "HHQ", "Q", 8) if big else ("H", "HHI", "I", 4)
    n_entries = sum(unpack(order + count_layout, data, offset))
    at, step = offset + struct.calcsize(order + count_layout), struct.calcsize(order + entry_layout) + inline
    tags: dict[int, tuple[int, ...]] = {}
    end = at + n_entries * step
    for _ in range(min(n_entries, max_entries)):
        tag, kind, count = unpack(order + entry_layout, data, at) or (0, 0, 0)
        value_at = at + step - inline
        if kind in _TIFF_INTEGERS and tag in _TIFF_TAGS_READ and tag not in tags:
            count = count if count <= max_values else 0
            layout = f"{order}{count}{_TIFF_INTEGERS[kind]}"
            if struct.calcsize(layout) > inline:
                value_at = sum(unpack(order + pointer, data, value_at))
            tags[tag] = unpack(layout, data, value_at)
        at += step
    return tags, sum(unpack(order + pointer, data, end))


def _tiff_sizes(data: bytes) -> Iterator[Size]:
    for tags in itertools.islice(tiff_directories(data), 1):
        for width, height in ((256, 257), (322, 323)):  # of the image and of one tile
            yield max(tags.get(width, ()), default=0), max(tags.get(height, ()), default=0)


def _webp_sizes(data: bytes) -> Iterator[Size]:
    if len(data) < 30:
        return
    if data[12:16] == b"VP8X":
        yield int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    elif data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        yield (bits & _WEBP_SIDE) + 1, (bits >> 14 & _WEBP_SIDE) + 1
    elif data[12:16] == b"VP8 ":
        yield int.from_bytes(data[26:28], "little") & _WEBP_SIDE, int.from_bytes(data[28:30], "little") & _WEBP_SIDE


def ico_entries(data: bytes) -> list[tuple[int, int]]:
    """(offset, size) of the pictures of an icon."""
    n = sum(unpack("<H", data, 4))
    return [(e[1], e[0]) for i in range(min(n, _MAX_ENTRIES)) if (e := unpack("<II", data, 6 + 16 * i + 8))]


def _ico_sizes(data: bytes) -> Iterator[Size]:
    for offset, _ in ico_entries(data):
        is_png = data[offset : offset + 4] == b"\x89PNG"
        size = unpack(">II" if is_png else "<ii", data, offset + (16 if is_png else 4))
        if size:
            yield abs(size[0]), abs(size[1]) // (1 if is_png else 2)


def _jpeg2000_sizes(data: bytes) -> Iterator[Size]:
    for kind, at in _boxes(data):
        if kind == b"ihdr" and (size := unpack(">II", data, at)):
            yield size[1], size[0]
    siz = data.find(b"\xff\x4f\xff\x51")
    if siz >= 0 and (size := unpack(">IIII", data, siz + 8)):
        yield max(0, size[0] - size[2]), max(0, size[1] - size[3])


def _heif_sizes(data: bytes) -> Iterator[Size]:
    for kind, at in _boxes(data):
        if kind == b"ispe" and (size := unpack(">II", data, at + 4)):
            yield size[0], size[1]


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """(type, offset of the content) of the boxes of an ISO base media file, down to the item properties."""
    return itertools.islice(_boxes_within(data, 0, len(data), _MAX_DEPTH), _MAX_BOXES)


def _boxes_within(data: bytes, at: int, end: int, depth: int) -> Iterator[tuple[bytes, int]]:
    for kind, content, box_end in boxes_side_by_side(data, at, end):
        yield kind, content
        if kind in _CONTAINER_BOXES and depth:
            yield from _boxes_within(data, content + (4 if kind == b"meta" else 0), min(box_end, end), depth - 1)


def boxes_side_by_side(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, offset of the content, end) of the boxes that begin between `at` and `end`, without those in them."""
    for _ in range(_MAX_BOXES):
        if at + 8 > end:
            return
        content, box_end = box(data, at)
        yield data[at + 4 : at + 8], content, box_end
        at = box_end


def box(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of a box begins and where the box ends; beyond all data where its length is impossible."""
    length, head = sum(unpack(">I", data, at)), 8
    if length == 1:
        length, head = sum(unpack(">Q", data, at + 8)), 16
    if length == 0 and at + 8 <= len(data):
        return at + head, len(data)  # "to the end of the file"
    return at + head, at + length if length >= head else len(data) + 1


def _jxl_header(data: bytes) -> tuple[int, int, int, int, int]:
    """Width, height, orientation, whether it is a film, and bits per value, by ISO/IEC 18181-1: bit fields, lowest bit
    first. Zeros where there is none; behind a preview the last two are not read, and the last one not of a film."""
    start = 0
    if not data.startswith(b"\xff\x0a"):
        content = {kind: at for kind, at in _boxes(data) if kind in (b"jxlc", b"jxlp")}
        start = content[b"jxlc"] if b"jxlc" in content else data.find(b"\xff\x0a", 0, 1 << 16)
    bits = int.from_bytes(data[start + 2 : start + 18], "little") if start >= 0 else 0
    if not bits:
        return 0, 0, 0, 0, 0

    def take(n: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << n) - 1), bits >> n
        return value

    def side(is_small: int) -> int:
        return (take(5) + 1) * 8 if is_small else take((9, 13, 18, 30)[take(2)]) + 1

    def size() -> Size:
        is_small = take(1)
        height = side(is_small)
        ratio = take(3)
        numerator, denominator = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
        return height * numerator // denominator if ratio else side(is_small), height

    def depth() -> int:
        is_float, kind = take(1), take(2)
        return take(6) + 1 if kind == 3 else ((32, 16, 24) if is_float else (8, 10, 12))[kind]

    width, height = size()
    all_default = take(1)
    has_extra_fields = 0 if all_default else take(1)
    if not has_extra_fields:
        return width, height, 1, 0, 8 if all_default else depth()
    orientation, has_intrinsic_size = take(3) + 1, take(1)
    if has_intrinsic_size:
        size()
    has_preview = take(1)
    is_film = 0 if has_preview else take(1)
    return width, height, orientation, is_film, 0 if has_preview or is_film else depth()


def _jxl_sizes(data: bytes) -> Iterator[Size]:
    yield _jxl_header(data)[:2]


_SIZE_READERS: dict[str, Callable[[bytes], Iterator[Size]]] = {
    "TIFF": _tiff_sizes, "WEBP": _webp_sizes, "ICO": _ico_sizes, "JPEG2000": _jpeg2000_sizes,
    "HEIF": _heif_sizes, "AVIF": _heif_sizes, "JXL": _jxl_sizes,
}  # fmt: skip
