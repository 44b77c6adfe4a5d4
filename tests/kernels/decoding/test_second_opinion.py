"""What we see in a file is what OpenCV, libvips, tifffile, imagecodecs and the writer of the file see in it.

The files are made here: see `tests/second_opinion/`. Two decoders never agree to the last level, so the tolerance is
that of `second_opinion.comparison`; where they disagree for a reason, `second_opinion.known` has it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from odd_bytes import encoded
from PIL import Image
from second_opinion import cases, fixtures, jpegs, modern, pngs, rasters, tiffs
from second_opinion.cases import Case
from second_opinion.comparison import WRITER, Difference, compared
from second_opinion.known import KNOWN_DIFFERENCES, NO_OPINION, Known, judged

FEW = (fixtures.all_fixtures, pngs.all_pngs, jpegs.all_jpegs, rasters.all_rasters, modern.all_modern, tiffs.few_tiffs)
ALL = (*FEW[:-1], tiffs.all_tiffs)


@functools.cache
def results_of(corpus: Callable[[], Iterator[Case]]) -> dict[str, list[tuple[str, Difference | None]]]:
    """By file of a corpus, each decoder with an opinion and its difference."""
    return {case.name: compared(case) for case in corpus()}


def flat(results: dict[str, list[tuple[str, Difference | None]]]) -> Iterator[tuple[str, str, Difference | None]]:
    return ((name, *result) for name, found in results.items() for result in found)


def judged_all(corpora: tuple[Callable[[], Iterator[Case]], ...]) -> set[Known]:
    """Of the corpora; the known differences that were met."""
    found = [judged(flat(results_of(corpus))) for corpus in corpora]
    unknown, gone = ("\n".join(text for judgement in found for text in judgement[i]) for i in (0, 1))
    assert not unknown, f"differences that second_opinion.known does not have:\n{unknown}"
    assert not gone, f"differences that are gone, for second_opinion.known to forget:\n{gone}"
    return set().union(*(met for _, _, met in found))


@pytest.mark.parametrize("corpus", FEW, ids=lambda corpus: corpus.__name__)
def test_we_see_what_others_see(corpus: Callable[[], Iterator[Case]]) -> None:
    judged_all((corpus,))


@pytest.mark.slow
def test_we_see_what_others_see_in_every_layout_of_tiff_and_the_list_holds_nothing_else() -> None:
    assert set(KNOWN_DIFFERENCES) - judged_all(ALL) == set()


def test_every_file_has_an_opinion_and_most_have_two_beside_that_of_their_writer() -> None:
    found = [item for corpus in FEW for item in results_of(corpus).items()]
    asked = [(name, {decoder for decoder, _ in results}) for name, results in found]
    n_two = sum(len(decoders - {WRITER}) >= 2 for _, decoders in asked)
    assert n_two > 0.7 * len(asked)
    assert [name for name, decoders in asked if bool(decoders) == bool(re.fullmatch(NO_OPINION, name))] == []


@pytest.mark.parametrize(
    "change",
    [lambda v: v[::-1], lambda v: v[:, ::-1], lambda v: 255 - v, lambda v: v[..., ::-1], lambda v: np.roll(v, 2, 1),
     lambda v: np.minimum(v, 200), lambda v: v // 2, lambda v: np.where(v == 255, 0, v), lambda v: v[:, :-1]],
    ids=["upside down", "mirrored", "inverted", "colours exchanged", "shifted", "clipped", "darker", "wrapped", "cut"],
)  # fmt: skip
def test_a_picture_that_is_shown_wrongly_is_noticed(change: Callable[[cases.Values], cases.Values]) -> None:
    wrong = np.ascontiguousarray(change(cases.rgb())).astype(np.uint8)
    data = encoded(Image.fromarray(wrong), "JPEG", quality=95)
    ((_, difference), *_) = compared(Case("wrong", data, cases.rgb()))
    assert difference
    assert not compared(Case("right", data, wrong, like=8))[0][1]


def test_a_known_difference_that_is_gone_is_named_and_one_that_is_new_is_not_excused() -> None:
    name, decoder = "png grey 8, tRNS", "OpenCV"
    unknown, gone, met = judged([(name, decoder, None), (name, "libvips", Difference(name, "libvips", "size"))])
    assert gone == [f"{name} | {decoder} | no longer: it ignores the transparent grey"]
    assert unknown == [f"{name} | libvips | size"]
    assert len(met) == 1
