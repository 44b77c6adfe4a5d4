"""What one of two images of one picture is to the other, from facts and evidence. Nothing is claimed that is not known.

`reencoded` leads to removal, so it takes proof: the thumbnails were laid over each other and show the same, the shapes
are those of one picture in two sizes, and no other evidence speaks against it: neither keypoints, nor the times at
which the two were taken, which tell the shots of a burst, or of a camera on a wall, that look alike. Without
thumbnails, and in doubt, two images of one picture are edited copies of each other. Equal bytes and pixels are decided
before, by their hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from dedup_spark.kernels.arrays import Bools, Float32, Int64, expect
from dedup_spark.kernels.comparing.layout import Differences
from dedup_spark.vocabulary import ColourChange, Edit, Relation

_CROPPED, _CONTAINED = 0.97, 0.5
"""Of the area of the one that the other shows less of. An alignment is off by a pixel or two of 256; and a part smaller
than half is more than the loss of a margin."""
_MARKED, _TWO_SIDED = 0.02, 0.02
_CHANGED_THOUGH_EQUAL, _COVERED_THOUGH_EQUAL = 0.05, 0.95
"""Where thumbnails show the same as they lie, keypoints have to say so much to be believed more."""
_ROUNDED_PX = 1.5
"""By so much the sides of a resized copy may differ from the exact ones."""
PAGE_BITS, MOMENT_BITS, ODD_MOMENTS = 2, 6, 2
"""Of documents every page differs in at most so many bits of its pHash, of films all moments but so many; measured in
stages/cluster/several_frames.py, which has the same rule as a Column."""
_WORDS = (ColourChange.HUE, ColourChange.TONE)

type Taken = tuple[datetime | None, str | None]
"""When a photo was taken, and by which camera: `features.captured_at` and `camera`. Programs write a time of their own
into files of no camera."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """(m,) int64: of two images each, their sides in pixels, and the frames or pages of their files."""

    width_a: Int64
    height_a: Int64
    width_b: Int64
    height_b: Int64
    frames_a: Int64
    frames_b: Int64


@dataclass(frozen=True, slots=True)
class Evidence:
    """(m,) as in the table evidence, where thumbnails were aligned: `covered` the lesser of covered_a and covered_b;
    nan, and None as `colour_change`, where it is not known. `by_keypoints` (m,) bool: whether keypoints aligned the
    two, or they were laid over each other as they are."""

    covered: Float32
    changed: Float32
    two_sided: Float32
    colour_change: list[str | None]
    by_keypoints: Bools


@dataclass(frozen=True, slots=True)
class Related:
    """One of Relation for each pair, and what is known of the edit: words of Edit, comma between, or None."""

    relation: list[str]
    edit: list[str | None]


def relate(
    shapes: Shapes, frames_agree: Bools, evidence: Evidence, seen: Differences, is_seen: Bools, are_two_shots: Bools
) -> Related:
    """The relation of (m,) pairs of different pixels.

    Args:
        frames_agree: Whether two films of as many frames agree frame by frame (`frames_agree`).
        are_two_shots: Whether the two were taken at two times (`are_two_shots`).
        seen: The thumbnails laid over each other; counts only where `is_seen`.
    """
    # A tone by the evidence does not count against what fits: it is measured on 64 pixels, where a third of the copies
    # of 30 % of the size have one, and the layouts see the edits of tone that it sees (102 of 106 by 4 to 60 %).
    expect(is_seen=(is_seen, "m", np.bool_), frames_agree=(frames_agree, "m", np.bool_))
    expect(are_two_shots=(are_two_shots, "m", np.bool_))
    hue, tone = (np.array([c == word for c in evidence.colour_change], bool) for word in _WORDS)
    shape_fits = is_proportional(shapes)
    is_single = (shapes.frames_a == 1) & (shapes.frames_b == 1)
    shows_the_same = is_seen & ~seen.is_changed & ~seen.is_toned
    proven = shows_the_same & shape_fits & is_single & ~are_two_shots & ~_contradicted(evidence)
    choices = [
        (~is_single & ~((shapes.frames_a == shapes.frames_b) & frames_agree), Relation.STILL),
        (hue, Relation.RECOLOURED),
        (evidence.covered < _CONTAINED, Relation.CONTAINED),
        (proven, Relation.REENCODED),
    ]
    where, words = [where for where, _ in choices], [word.value for _, word in choices]
    relation = np.select(where, words, Relation.EDITED_COPY.value)
    edits = _edits(shape_fits, evidence, tone, seen, is_seen)
    is_edit = np.isin(relation, (Relation.EDITED_COPY, Relation.CONTAINED))
    return Related(relation.tolist(), [edit if edited else None for edit, edited in zip(edits, is_edit, strict=True)])


def _contradicted(evidence: Evidence) -> Bools:
    """Whether the evidence says that something was lost, added or exchanged; false where it says nothing.

    Where it rests on no keypoints, what is on one side only does not count: the layouts compare the same two as they
    lie, and are not misled by the noise of a JPEG on faint gradients.
    """
    lost = evidence.covered < _COVERED_THOUGH_EQUAL
    changed = evidence.by_keypoints & (evidence.changed > _CHANGED_THOUGH_EQUAL)
    return np.asarray(lost | changed | (evidence.two_sided > _TWO_SIDED))


def _edits(shape_fits: Bools, evidence: Evidence, tone: Bools, seen: Differences, is_seen: Bools) -> list[str | None]:
    """Words of Edit for each pair; None where nothing is known."""
    whole = ~(evidence.covered < _CROPPED)
    found = {
        Edit.TURNED: is_seen & seen.is_turned,
        Edit.CROPPED: ~whole,
        Edit.STRETCHED: is_seen & ~shape_fits & ~seen.is_changed & whole,
        Edit.MARKED: evidence.changed > _MARKED,
        Edit.TONE: tone | (is_seen & seen.is_toned & ~seen.is_changed),
    }
    rows = zip(*(where.tolist() for where in found.values()), strict=True)
    return [", ".join(word for word, is_so in zip(found, row, strict=True) if is_so) or None for row in rows]


def is_proportional(shapes: Shapes) -> Bools:
    """(m,) whether one is the other in another size: its sides, rounded, from the larger one by one factor."""
    s = shapes
    a_is_larger = s.width_a * s.height_a >= s.width_b * s.height_b
    sides = [np.stack(pair).astype(np.float64) for pair in ((s.width_a, s.height_a), (s.width_b, s.height_b))]
    large, small = np.where(a_is_larger, *sides), np.where(a_is_larger, *sides[::-1])
    exact = large * (small[::-1] / np.maximum(large[::-1], 1))  # each side by the factor of the other
    return np.asarray((np.abs(small - exact).min(axis=0) <= _ROUNDED_PX) & (small > 0).all(axis=0))


def are_two_shots(a: Taken, b: Taken) -> bool:
    """Whether cameras took two photos at two times; false where that is not known of one of them.

    A copy keeps the time of its original. It may lose the fraction of a second, which older programs do not know: times
    of which one has no fraction are one time. Of one that lost the zone nothing is known: it could as well be another
    shot of a camera that takes one every hour, and is taken for that.
    """
    if None in (*a, *b):
        return False
    times = [time for time, _ in (a, b) if time]
    seconds, fractions = {time.replace(microsecond=0) for time in times}, {time.microsecond for time in times}
    return len(seconds) == 2 or (len(fractions) == 2 and 0 not in fractions)


def frames_agree(a: list[int] | None, b: list[int] | None, *, are_films: bool) -> bool:
    """Whether two films, or two documents, agree in the pHashes of their frames; false where these are not known."""
    if not a or not b or len(a) != len(b):
        return False
    bits = [((x ^ y) & (2**64 - 1)).bit_count() for x, y in zip(a, b, strict=True)]
    if are_films:
        return sum(n > MOMENT_BITS for n in bits) <= ODD_MOMENTS
    return all(n <= PAGE_BITS for n in bits)
