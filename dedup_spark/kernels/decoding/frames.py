"""How many frames or pages a file has, and how long each is shown, read from its headers before any is decoded.

A count is bounded by `MAX_COUNTED`, whatever a header claims: a file with more has that count. Nothing here raises for
damaged files; damage ends the count.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from dedup_spark.kernels.decoding.decoder_errors import DECODER_ERRORS
from dedup_spark.kernels.decoding.headers import is_jxl_film, tiff_pages, unpack
from dedup_spark.kernels.decoding.tiff_previews import is_whole

MAX_COUNTED = 16_384
_UNSET_MS, _LEAST_MS = 100, 11
"""Viewers show a frame whose delay is none or next to none for a tenth of a second."""
_PHOTOMETRIC, _PIXEL_OFFSETS = 262, (273, 324, 513)
_LAST_PHOTOMETRIC, _FIRST_PRIVATE = 10, 32_768


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of one file, in order.

    Attributes:
        places: Of each frame, its number for `Image.seek`. Reduced copies and masks of a page are none.
        durations_ms: How long each is shown; None where the format has no times, or says them only while it is decoded.
        is_film: Whether frames follow each other in time; else they are pages or shots beside each other.
        main: The number, among `places`, of the picture that the file itself calls the main one; None where none is.
    """

    places: tuple[int, ...]
    durations_ms: tuple[int, ...] | None = None
    is_film: bool = False
    main: int | None = None


_ONE = Frames((0,))


def frames_of(image: Image.Image, data: bytes, image_format: str) -> Frames:
    """The frames of an opened image; `data` is its file."""
    count = _COUNTS.get(image_format)
    return count(image, data) if count else _ONE


def _of_gif(image: Image.Image, data: bytes) -> Frames:
    return _film(tuple(itertools.islice(_gif_delays(data), MAX_COUNTED)))


def _of_png(image: Image.Image, data: bytes) -> Frames:
    if getattr(image, "n_frames", 1) == 1:
        return _ONE
    delays = tuple(itertools.islice(_png_delays(data), MAX_COUNTED))
    has_still = bool(getattr(image, "default_image", False))  # shown by viewers that know no films, by others not
    n = len(delays) + has_still
    return Frames(tuple(range(has_still, n)), delays, is_film=True) if len(delays) > 1 else _ONE


def _of_webp(image: Image.Image, data: bytes) -> Frames:
    if getattr(image, "n_frames", 1) == 1:
        return _ONE
    return _film(tuple(itertools.islice(_webp_delays(data), MAX_COUNTED)))


def _of_avif(image: Image.Image, data: bytes) -> Frames:
    n = min(int(getattr(image, "n_frames", 1)), MAX_COUNTED)
    return Frames(tuple(range(n)), is_film=True) if n > 1 else _ONE


def _of_heif(image: Image.Image, data: bytes) -> Frames:
    """Shots beside each other; depth and gain maps are not among them."""
    n = min(int(getattr(image, "n_frames", 1)), MAX_COUNTED)
    return Frames(tuple(range(n)), main=image.tell()) if n > 1 else _ONE


def _of_mpo(image: Image.Image, data: bytes) -> Frames:
    """Further pictures of another size are previews, gain maps and depth maps of the first."""
    n, size, places = min(int(getattr(image, "n_frames", 1)), MAX_COUNTED), image.size, [0]
    if n == 1:
        return _ONE
    with contextlib.suppress(*DECODER_ERRORS):
        for i in range(1, n):
            image.seek(i)
            places += [i] if image.size == size else []
    image.seek(0)
    return Frames(tuple(places), main=0) if len(places) > 1 else _ONE


def _of_jxl(image: Image.Image, data: bytes) -> Frames:
    """Its decoder gives the first frame alone: of a film it is said that there are more, which cannot be decoded."""
    return Frames((0, 1), is_film=True) if is_jxl_film(data) else _ONE


def _of_tiff(image: Image.Image, data: bytes) -> Frames:
    """The chain of directories, but for what shows nothing, and for reduced copies and masks, where there are whole
    pages too."""
    pages = itertools.islice(tiff_pages(data), MAX_COUNTED)
    whole = [i for i, tags in enumerate(pages) if _is_shown(tags) and is_whole(tags)]
    return Frames(tuple(whole)) if whole else _ONE


def _is_shown(tags: dict[int, tuple[int, ...]]) -> bool:
    """Whether a directory describes pixels: it says where they are, and how they are seen by a number that the
    specification defines or leaves to companies. A chain that leads into other data finds directories without."""
    photometric = sum(tags.get(_PHOTOMETRIC, ())[:1])
    return any(tag in tags for tag in _PIXEL_OFFSETS) and not _LAST_PHOTOMETRIC < photometric < _FIRST_PRIVATE


def _of_pages(image: Image.Image, data: bytes) -> Frames:
    n = min(int(getattr(image, "n_frames", 1)), MAX_COUNTED)
    return Frames(tuple(range(n))) if n > 1 else _ONE


def _of_fli(image: Image.Image, data: bytes) -> Frames:
    """All frames are shown equally long."""
    n = min(int(getattr(image, "n_frames", 1)), MAX_COUNTED)
    return _film((_shown_ms(image.info.get("duration", 0)),) * n)


def _film(delays: tuple[int, ...]) -> Frames:
    return Frames(tuple(range(len(delays))), delays, is_film=True) if len(delays) > 1 else _ONE


def _shown_ms(delay: float) -> int:
    return round(delay) if delay >= _LEAST_MS else _UNSET_MS


_GIF_BLOCK = re.compile(rb"[!,;]")


def _gif_delays(data: bytes) -> Iterator[int]:
    """Of each image of a GIF."""
    at = 13 + _table_bytes(data, 10)
    delay = 0
    while block := _GIF_BLOCK.search(data, at):
        at = block.end()
        if block[0] == b";":
            return
        if block[0] == b",":
            yield _shown_ms(10 * delay)
            at, delay = at + 10 + _table_bytes(data, at + 8), 0
        else:
            if data[at : at + 1] == b"\xf9":
                delay = sum(unpack("<H", data, at + 3))
            at += 1
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1


def _table_bytes(data: bytes, at: int) -> int:
    """The size of the colour table that the flags at `at` announce."""
    flags = sum(data[at : at + 1])
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _png_delays(data: bytes) -> Iterator[int]:
    at = 8
    while (length := unpack(">I", data, at)) and data[at + 4 : at + 8] != b"IEND":
        if data[at + 4 : at + 8] == b"fcTL" and (delay := unpack(">HH", data, at + 28)):
            yield _shown_ms(1000 * delay[0] / (delay[1] or 100))
        at += 12 + length[0]


def _webp_delays(data: bytes) -> Iterator[int]:
    at = 12
    while length := unpack("<I", data, at + 4):
        if data[at : at + 4] == b"ANMF":
            yield _shown_ms(int.from_bytes(data[at + 20 : at + 23], "little"))
        at += 8 + length[0] + length[0] % 2


_COUNTS: dict[str, Callable[[Image.Image, bytes], Frames]] = {
    "GIF": _of_gif, "PNG": _of_png, "WEBP": _of_webp, "AVIF": _of_avif, "HEIF": _of_heif, "JPEG": _of_mpo,
    "TIFF": _of_tiff, "JXL": _of_jxl, "FLI": _of_fli, "DCX": _of_pages, "SPIDER": _of_pages, "IM": _of_pages,
}  # fmt: skip
