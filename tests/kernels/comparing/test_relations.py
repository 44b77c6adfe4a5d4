"""Relations from facts and evidence made by hand: each rule, and that nothing is claimed that is not known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from dedup_spark.kernels.comparing import relations
from dedup_spark.kernels.comparing.layout import Differences
from dedup_spark.kernels.comparing.relations import Evidence, Shapes

PLAIN: dict[str, Any] = {
    "size_a": (800, 600), "size_b": (400, 300), "frames": (1, 1), "agree": False,
    "covered": None, "changed": None, "two_sided": None, "colour_change": None,
    "is_changed": False, "is_toned": False, "is_turned": False, "is_seen": True,
    "by_keypoints": True, "two_shots": False,
}  # fmt: skip
"""A copy in half the size whose thumbnail fits; keypoints were not asked."""
ALIGNED = {"covered": 0.999, "changed": 0.0, "two_sided": 0.0, "colour_change": "none"}
UNSEEN = {"is_seen": False}


def relate(**case: Any) -> tuple[str, str | None]:
    """Relation and edit of one pair that differs from PLAIN in the values named."""
    c = PLAIN | case
    sides = [np.array([n]) for n in (*c["size_a"], *c["size_b"], *c["frames"])]
    numbers = [np.array([np.nan if c[n] is None else c[n]], np.float32) for n in ("covered", "changed", "two_sided")]
    flags = [np.array([c[name]]) for name in ("is_changed", "is_toned", "is_turned")]
    related = relations.relate(
        Shapes(*sides), np.array([c["agree"]]), Evidence(*numbers, [c["colour_change"]], np.array([c["by_keypoints"]])),
        Differences(np.zeros(1, np.float32), *flags), np.array([c["is_seen"]]),
        np.array([c["two_shots"]]),
    )  # fmt: skip
    return related.relation[0], related.edit[0]


CASES: dict[str, tuple[dict[str, Any], tuple[str, str | None]]] = {
    "what fits is re-encoded, though nothing was aligned": ({}, ("reencoded", None)),
    "and where keypoints agree": (ALIGNED, ("reencoded", None)),
    "nothing is known without thumbnails": (UNSEEN, ("edited_copy", None)),
    "keypoints alone do not make it re-encoded": (UNSEEN | ALIGNED, ("edited_copy", None)),
    "what differs as it lies is edited, nobody knows how": ({"is_changed": True}, ("edited_copy", None)),
    "cropped": ({"is_changed": True, "covered": 0.8}, ("edited_copy", "cropped")),
    "marked": (ALIGNED | {"is_changed": True, "changed": 0.1}, ("edited_copy", "marked")),
    "cropped and marked": ({"is_changed": True, "covered": 0.7, "changed": 0.2}, ("edited_copy", "cropped, marked")),
    "a tone by the thumbnails": ({"is_toned": True}, ("edited_copy", "tone")),
    "a tone by the colours of what differs": (
        ALIGNED | {"is_changed": True, "colour_change": "tone"}, ("edited_copy", "tone")),
    "a tone that only the few pixels of a small copy have": (ALIGNED | {"colour_change": "tone"}, ("reencoded", None)),
    "turned": ({"is_changed": True, "is_turned": True}, ("edited_copy", "turned")),
    "stretched": ({"size_b": (400, 400)}, ("edited_copy", "stretched")),
    "one side cut by a hair": ({"size_b": (800, 596)}, ("edited_copy", "stretched")),
    "keypoints see a crop that cells do not": ({"covered": 0.94}, ("edited_copy", "cropped")),
    "keypoints see a mark that cells do not": (ALIGNED | {"changed": 0.06}, ("edited_copy", "marked")),
    "noise on one side, without keypoints": (ALIGNED | {"changed": 0.2, "by_keypoints": False}, ("reencoded", None)),
    "another text where both have one": (ALIGNED | {"two_sided": 0.03}, ("edited_copy", None)),
    "a small part of the keeper": ({"is_changed": True, "covered": 0.3}, ("contained", "cropped")),
    "a strong hue that became another": (ALIGNED | {"colour_change": "hue"}, ("recoloured", None)),
    "two shots that look alike": ({"two_shots": True}, ("edited_copy", None)),
    "two shots, aligned": (ALIGNED | {"two_shots": True}, ("edited_copy", None)),
    "a film and its still": ({"frames": (1, 12)}, ("still", None)),
    "films of as many other frames": ({"frames": (12, 12)}, ("still", None)),
    "a film that agrees frame by frame": ({"frames": (12, 12), "agree": True}, ("edited_copy", None)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_relation_and_edit(case: str) -> None:
    given, expected = CASES[case]
    assert relate(**given) == expected
    swapped = {"size_a": (PLAIN | given)["size_b"], "size_b": (PLAIN | given)["size_a"]}
    assert relate(**(given | swapped)) == expected


@pytest.mark.parametrize(
    ("size_a", "size_b", "fits"),
    [
        ((4000, 3000), (400, 300), True),
        ((4000, 3000), (64, 48), True),
        ((640, 427), (32, 21), True),
        ((641, 427), (320, 214), True),  # both rounded up
        ((1000, 667), (150, 100), True),
        ((800, 600), (800, 600), True),
        ((800, 600), (800, 597), False),
        ((800, 600), (790, 600), False),
        ((800, 600), (600, 600), False),
        ((800, 600), (300, 400), False),
        ((0, 0), (400, 300), False),
    ],
)
def test_a_resized_copy_has_the_shape_of_its_original(
    size_a: tuple[int, int], size_b: tuple[int, int], fits: bool
) -> None:
    for first, second in ((size_a, size_b), (size_b, size_a)):
        sides = [np.array([n]) for n in (*first, *second, 1, 1)]
        assert relations.is_proportional(Shapes(*sides)).tolist() == [fits]


@pytest.mark.parametrize("are_films", [True, False])
def test_frames_are_compared_one_by_one_where_they_are_known(are_films: bool) -> None:
    def agree(a: list[int] | None, b: list[int] | None) -> bool:
        return relations.frames_agree(a, b, are_films=are_films)

    assert agree([0, -1, 7], [1, -2, 4])
    assert not agree([0] * 3, [-1] * 3)
    assert not agree([0, 1], [0, 1, 2])
    assert not agree(None, [0])
    assert not agree([], [])


def test_a_film_may_have_odd_moments_and_a_document_no_odd_page() -> None:
    pages, noisy, odd = [0] * 64, [0b111111] * 62 + [0, 0], [-1, -1] + [0] * 62
    assert relations.frames_agree(pages, noisy, are_films=True)
    assert relations.frames_agree(pages, odd, are_films=True)
    assert not relations.frames_agree(pages, [-1, *odd[:-1]], are_films=True)
    assert not relations.frames_agree(pages, noisy, are_films=False)
    assert not relations.frames_agree(pages, [-1, *pages[1:]], are_films=False)


TAKEN = datetime(2024, 5, 1, 12, 0, 7, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("later", "camera", "two"),
    [
        (timedelta(), "Canon", False),
        (timedelta(seconds=1), "Canon", True),
        (timedelta(seconds=-61), "Canon", True),
        (timedelta(hours=1), "Canon", True),  # a camera on a wall
        (timedelta(days=31), "Canon", True),
        (timedelta(microseconds=-250_000), "Canon", False),  # and one that lost the fraction
        (timedelta(microseconds=100_000), "Canon", True),  # a burst
        (timedelta(seconds=1), None, False),  # a time that a program wrote
    ],
)
def test_two_shots_are_told_by_the_times_at_which_cameras_took_them(
    later: timedelta, camera: str | None, two: bool
) -> None:
    a, b = (TAKEN, "Canon"), (TAKEN + later, camera)
    assert relations.are_two_shots(a, b) is relations.are_two_shots(b, a) is two
    assert not relations.are_two_shots((None, "Canon"), b)
