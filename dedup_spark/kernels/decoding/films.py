"""Decodes the frames of a film, or the pages of a document, one after the other: what all of them show, and which one
describes the file.

Only two frames are held at a time. Work is bounded: no frame is decoded after so many pixels (`MAX_FILM_PIXELS`,
`MAX_PAGE_PIXELS`) or `MAX_FRAMES` frames, and of a file whose headers say that it has more than these none after
`FRAMES_OF_LONGER`, among which one describes it. Of a longer file, and of one with frames that cannot be decoded,
nobody knows all that it shows: its digests cover its bytes, so that it equals byte copies alone, and it has no moments
to be compared by.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dedup_spark.kernels.decoding.digests import picture_digest
from dedup_spark.kernels.decoding.frames import Frames
from dedup_spark.kernels.decoding.picture import Picture
from dedup_spark.kernels.decoding.rendering import hashable
from dedup_spark.kernels.grey_square import grey_square

FRAMES_OF_LONGER = 256
MAX_FILM_PIXELS, MAX_PAGE_PIXELS, MAX_FRAMES = 1 << 27, 1 << 28, 4_096
"""134 million pixels are 775 frames of 480 x 360: 6 to 9 seconds of GIF, AVIF and WebP, 23 of PNG. 268 million are 31
pages of A4 at 300 dots per inch."""
MAX_MOMENTS = 64
_MOMENT_OFFSET = 0.13
"""Of a moment's share of the time, so that frames of equal length, at any usual number, do not begin at a moment."""
SMALL_PX = 32

_ENOUGH_LEVELS, _RATIO = 32.0, 1.6
"""A frame takes the place of an earlier one that describes the film where its contrast is 1.6 times as large, counted
up to 32 levels of 255. So an opening of 20 levels or more stays, a black, blank or fading one does not. A copy that
was compressed again, whose contrast is a few percent off, is described by the same frame, but where a frame is just at
the limit; in a fade the next one shows the same picture."""


@dataclass(frozen=True, slots=True)
class Film:
    """What the frames show together.

    Attributes:
        n_frames: In the file, decoded or not.
        duration_ms: Of all frames; None for pages, and where the file does not say it.
        pictures_digest: SHA-256 of the pictures in their order; of a film, equal neighbours count once.
        digest: SHA-256 of the pictures, and of a film also how long each is shown.
        moments: (32, 32) grey images of the pages of a document, or of a film at MAX_MOMENTS moments spread evenly over
            its time; empty where not all of them are known.
        described: The number of the frame that describes the file.
    """

    n_frames: int
    duration_ms: int | None
    pictures_digest: str
    digest: str
    moments: tuple[Image.Image, ...]
    described: int


Timed = tuple[Picture, int | None]
"""A frame, and for how many milliseconds it is shown, where only the decoder knows."""


def read_film(frames: Frames, first: Timed, decode: Callable[[int], Timed | None], data: bytes) -> tuple[Picture, Film]:
    """The picture that describes the file `data`, and what all frames show.

    `first` is its first frame; `decode` gives the one at another place, or None where it cannot be decoded.
    """
    reader = _Reader(frames)
    for i, (picture, shown_ms) in enumerate(_decoded(frames, first, decode)):
        reader.add(i, picture, shown_ms)
    return reader.described, reader.film(data)


def _decoded(frames: Frames, first: Timed, decode: Callable[[int], Timed | None]) -> Iterator[Timed]:
    yield first
    n_pixels, most_pixels = _area(first), MAX_FILM_PIXELS if frames.is_film else MAX_PAGE_PIXELS
    most_frames = MAX_FRAMES if len(frames.places) <= MAX_FRAMES else min(MAX_FRAMES, FRAMES_OF_LONGER)
    for place in frames.places[1:most_frames]:
        found = decode(place) if n_pixels < most_pixels else None
        if found is None:
            return
        yield found
        n_pixels += _area(found)


def _area(frame: Timed) -> int:
    return frame[0].source.width * frame[0].source.height


class _Reader:
    """Takes frames in their order."""

    described: Picture

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._wanted = None if _says_times_late(frames) else set(_frames_of_moments(frames, frames.durations_ms))
        self._small: dict[int, Image.Image] = {}
        self._digests: list[bytes] = []
        self._shown_ms: list[int | None] = []
        self._place, self._contrast = 0, -1.0

    def add(self, i: int, picture: Picture, shown_ms: int | None) -> None:
        self._digests.append(picture_digest(picture).digest())
        self._shown_ms.append(shown_ms)
        if self._wanted is None or i in self._wanted or i in (0, self._frames.main):
            self._small[i] = Image.fromarray(grey_square(hashable(picture).convert("L"), SMALL_PX))
            self._consider(i, picture, contrast_of(self._small[i]))

    def _consider(self, i: int, picture: Picture, contrast: float) -> None:
        """Hold the picture if it describes the file better than the one held."""
        is_main, says_enough = i == self._frames.main, min(contrast, _ENOUGH_LEVELS)
        if is_main or (says_enough > _RATIO * self._contrast and self._frames.main is None) or not i:
            self.described, self._place, self._contrast = picture, i, says_enough

    def film(self, data: bytes) -> Film:
        n, durations = len(self._frames.places), self._durations()
        is_whole = len(self._digests) == n
        rest = b"" if is_whole else hashlib.sha256(data).digest()
        runs = _runs(self._digests, durations) if self._frames.is_film else [(d, 0) for d in self._digests]
        moments = _frames_of_moments(self._frames, durations) if is_whole else []
        return Film(
            n_frames=n,
            duration_ms=sum(durations) if durations and len(durations) == n else None,
            pictures_digest=_joined((digest for digest, _ in runs), rest),
            digest=_joined((digest + ms.to_bytes(8, "little") for digest, ms in runs), rest),
            moments=tuple(self._small[i] for i in moments),
            described=self._place,
        )

    def _durations(self) -> tuple[int, ...]:
        """In milliseconds: of all frames by the headers, or of those that were decoded; empty for pages."""
        if self._frames.durations_ms is not None or not self._frames.is_film:
            return self._frames.durations_ms or ()
        return tuple(ms for ms in self._shown_ms if ms is not None)


def _says_times_late(frames: Frames) -> bool:
    return frames.is_film and frames.durations_ms is None


def contrast_of(small: Image.Image) -> float:
    """Standard deviation of grey values, levels of 255."""
    return float(np.asarray(small).std(dtype=np.float64))


def _frames_of_moments(frames: Frames, durations: Sequence[int] | None) -> list[int]:
    """The number of the frame at each moment; of a document each page, but none of a longer one."""
    n = len(frames.places)
    if not frames.is_film:
        return list(range(n)) if n <= MAX_MOMENTS else []
    known = durations if durations and len(durations) == n and any(durations) else [1] * n
    ends = list(itertools.accumulate(known))
    times = ((i + _MOMENT_OFFSET) * ends[-1] / MAX_MOMENTS for i in range(MAX_MOMENTS))
    return [min(bisect.bisect_right(ends, t), n - 1) for t in times]


def _runs(digests: list[bytes], durations: Sequence[int]) -> list[tuple[bytes, int]]:
    """Each picture once for all its neighbours that show the same, and how long it is shown."""
    shown = itertools.zip_longest(digests, durations[: len(digests)], fillvalue=0)
    groups = itertools.groupby(shown, key=lambda one: one[0])
    return [(bytes(digest), sum(ms for _, ms in run)) for digest, run in groups]


def _joined(pictures: Iterable[bytes], rest: bytes) -> str:
    return hashlib.sha256(b"frames:" + b"".join(pictures) + rest).hexdigest()
