"""Pages of a TIFF that are no pictures of their own: reduced copies of a page, and masks."""

from __future__ import annotations

import itertools
import struct

from dedup_spark.kernels.decoding.headers import tiff_directory_at, tiff_pages

_REDUCED, _MASK, _OLD_REDUCED = 1, 4, 2
_SUB_IFDS = 330
_MAX_PAGES = 32


def is_whole(tags: dict[int, tuple[int, ...]]) -> bool:
    """Whether a directory with these tags is a page itself, by its NewSubfileType or the older SubfileType."""
    kind, old_kind = sum(tags.get(254, ())[:1]), sum(tags.get(255, ())[:1])
    return not kind & (_REDUCED | _MASK) and old_kind != _OLD_REDUCED


def before_previews(data: bytes) -> bytes:
    """The file, with the picture that stands in a subdirectory as its first page where its pages are all reduced.

    So libtiff's own program writes thumbnails: the reduced page is the first, the whole one below it.
    """
    offset = _hidden_page(data)
    if not offset:
        return data
    order, is_big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    pointer = struct.pack(order + ("Q" if is_big else "I"), offset)
    at = 8 if is_big else 4
    return data[:at] + pointer + data[at + len(pointer) :]


def _hidden_page(data: bytes) -> int:
    """The offset of the largest whole directory below reduced pages; 0 where a page is whole, or none is there."""
    pages = list(itertools.islice(tiff_pages(data), _MAX_PAGES))
    if any(is_whole(tags) for tags in pages):
        return 0
    below = itertools.chain.from_iterable(tags.get(_SUB_IFDS, ()) for tags in pages)
    sizes = {offset: _area(tiff_directory_at(data, offset)) for offset in itertools.islice(below, _MAX_PAGES)}
    largest = max(sizes, key=lambda offset: sizes[offset], default=0)
    return largest if sizes.get(largest) else 0


def _area(tags: dict[int, tuple[int, ...]]) -> int:
    """In pixels; 0 where the directory is no whole page."""
    return sum(tags.get(256, ())[:1]) * sum(tags.get(257, ())[:1]) if is_whole(tags) else 0
