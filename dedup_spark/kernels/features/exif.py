"""What the EXIF block of a file says of its origin: when, by which camera and with which program it was made.

A reader of its own instead of Pillow's, which copies the value of every tag: a hostile block of 64 KB could claim 5,000
values of 64 KB each. Here eight tags are read, at most 100 characters of each, and nothing raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dedup_spark.kernels.decoding.headers import unpack

MAX_CHARACTERS = 100
_MAX_ENTRIES = 512
_MAKE, _MODEL, _SOFTWARE, _EXIF_DIRECTORY = 271, 272, 305, 34665
_ORIGINAL_TIME, _DIGITISED_TIME, _ORIGINAL_OFFSET, _ORIGINAL_FRACTION, _MAKER_NOTE = 36867, 36868, 36881, 37521, 37500
_TEXTS = frozenset({_MAKE, _MODEL, _SOFTWARE, _ORIGINAL_TIME, _DIGITISED_TIME, _ORIGINAL_OFFSET, _ORIGINAL_FRACTION})
_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")
_OLDEST_YEAR = 1826  # that of the first photograph: scans of old prints carry such years


@dataclass(frozen=True, slots=True)
class ExifFacts:
    """Null where the file does not say it. `captured_at` is UTC; a time without an offset is taken as if it were."""

    captured_at: datetime | None = None
    camera: str | None = None
    software: str | None = None
    has_maker_note: bool = False


def exif_facts(block: bytes) -> ExifFacts:
    """The facts in an EXIF block, with or without its "Exif" header; a whole TIFF file is one too. Never raises."""
    tags = _tags(block[6:] if block[:6] == b"Exif\0\0" else block)
    make, model = tags.get(_MAKE), tags.get(_MODEL)
    named = (
        model if make and model and model.lower().startswith(make.lower()) else " ".join(filter(None, (make, model)))
    )
    time = tags.get(_ORIGINAL_TIME) or tags.get(_DIGITISED_TIME)
    return ExifFacts(
        _instant(time or "", tags.get(_ORIGINAL_OFFSET) or "", tags.get(_ORIGINAL_FRACTION) or ""),
        (named or "")[:MAX_CHARACTERS] or None,
        tags.get(_SOFTWARE),
        _MAKER_NOTE in tags,
    )


def clean_text(value: bytes) -> str | None:
    """Up to the first zero byte, without control characters, at most MAX_CHARACTERS; None where nothing is left."""
    text = value[: 4 * MAX_CHARACTERS].split(b"\0", 1)[0].decode("utf-8", "replace")
    return "".join(c for c in text if c.isprintable()).strip()[:MAX_CHARACTERS].strip() or None


def _tags(tiff: bytes) -> dict[int, str | None]:
    """The tags read here, of the first directory and of the EXIF directory that it names."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return {}
    tags, exif_at = _directory(tiff, sum(unpack(order + "I", tiff, 4)), order)
    return _directory(tiff, exif_at, order)[0] | tags if exif_at else tags


def _directory(tiff: bytes, at: int, order: str) -> tuple[dict[int, str | None], int]:
    """The texts of one directory, and where the EXIF directory is; 0 where it names none."""
    tags, exif_at = dict[int, str | None](), 0
    for i in range(min(sum(unpack(order + "H", tiff, at)), _MAX_ENTRIES)):
        place = at + 2 + 12 * i
        tag, _, count = unpack(order + "HHI", tiff, place) or (0, 0, 0)
        if tag == _EXIF_DIRECTORY:
            exif_at = sum(unpack(order + "I", tiff, place + 8))
        elif tag == _MAKER_NOTE:
            tags[tag] = None
        elif tag in _TEXTS:
            start = place + 8 if count <= 4 else sum(unpack(order + "I", tiff, place + 8))
            tags[tag] = clean_text(tiff[start : start + min(count, 4 * MAX_CHARACTERS)])
    return tags, exif_at


def _instant(time: str, offset: str, fraction: str) -> datetime | None:
    found, shift = _TIME.match(time), _OFFSET.match(offset)
    if not found or int(found[1]) < _OLDEST_YEAR:
        return None
    ahead = timedelta(hours=int(shift[2]), minutes=int(shift[3])) if shift else timedelta()
    try:
        numbers = (*(int(n) for n in found.groups()), _microseconds(fraction))
        local = datetime(*numbers, tzinfo=UTC)  # type: ignore[misc, arg-type]
        return local + ahead if shift and shift[1] == "-" else local - ahead
    except (ValueError, OverflowError):  # no such day, as in 0000:00:00 or 2019:02:30
        return None


def _microseconds(fraction: str) -> int:
    """Of the digits behind a second; 0 where the text is something else."""
    return int(f"{fraction:0<6}"[:6]) if fraction.isascii() and fraction.isdecimal() else 0
