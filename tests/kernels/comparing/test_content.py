"""Content: what was exchanged between two pictures of one layout is told from what edits do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from photos import Grey, cropped, page, photo, reencoded, rotated

from dedup_spark.kernels.comparing import colours, content, geometry
from dedup_spark.kernels.comparing.laying import Laid

WHOLE = np.array([[1.0, 0, 0], [0, 1, 0]])


def picture(image: np.ndarray, quality: int = 90) -> content.Picture:
    return content.picture(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


def smaller(grey: Grey, factor: float) -> Grey:
    return np.asarray(cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


EDITS = {
    "as it is": lambda g: g,
    "compressed": lambda g: reencoded(g, 15),
    "half size": lambda g: smaller(g, 0.5),
    "dark": lambda g: (g * 0.6).astype(np.uint8),
    "low contrast": lambda g: (80 + g * 0.4).astype(np.uint8),
    "blurred": lambda g: np.asarray(cv2.GaussianBlur(g, (0, 0), 1.5), np.uint8),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("original", [page(1), photo(1)], ids=["page", "photo"])
def test_an_edited_copy_has_nothing_exchanged(original: Grey, edit: str) -> None:
    found = content.compare_upright(picture(original), picture(EDITS[edit](original)), flips=False)
    assert found is not None
    assert found.two_sided < 0.01
    assert found.template < 0.06
    assert min(found.covered_a, found.covered_b) > 0.98


@pytest.mark.parametrize("edit", EDITS)
def test_another_page_of_one_letterhead_is_exchanged(edit: str) -> None:
    factor = 0.5 if edit == "half size" else 1.0
    found = content.compare(picture(page(1)), picture(EDITS[edit](page(2))), WHOLE * factor)
    assert found.template > 0.1


def test_a_mark_on_plain_ground_is_one_sided() -> None:
    marked = page(3).copy()
    marked[:40, -60:] = 120
    found = content.compare(picture(page(3)), picture(marked), WHOLE)
    assert found.changed > 0.01
    assert found.one_sided == 0


@pytest.mark.parametrize("degrees", [3, 14])
def test_an_alignment_that_is_off_by_pixels_is_refined(degrees: float) -> None:
    a, b = photo(0), rotated(photo(0), degrees)
    matrix = geometry.align(geometry.describe_grey(a), geometry.describe_grey(b)).matrix
    assert matrix is not None
    off = matrix + np.array([[0.01, 0, 1.5], [0, -0.01, -1.5]])
    assert content.compare(picture(a), picture(b), off).two_sided < 0.02


def test_which_is_asked_about_the_other_makes_no_difference() -> None:
    a, b = picture(photo(2)), picture(cropped(photo(2), 0.6))
    matrix = geometry.align(geometry.describe_grey(a.grey), geometry.describe_grey(b.grey)).matrix
    assert matrix is not None
    forth = content.compare(a, b, matrix)
    back = content.compare(b, a, cv2.invertAffineTransform(matrix).astype(np.float64))
    assert (forth.covered_a, forth.covered_b) == pytest.approx((back.covered_b, back.covered_a))
    assert forth.two_sided == pytest.approx(back.two_sided, abs=0.01)


def test_flipped_pictures_are_laid_over_each_other() -> None:
    for flipped in (photo(4)[:, ::-1], photo(4)[::-1], photo(4)[::-1, ::-1]):
        found = content.compare_upright(picture(photo(4)), picture(flipped.copy()), flips=True)
        assert found is not None
        assert found.fit > 0.95


def test_other_photos_and_other_proportions_are_not_laid_over_each_other() -> None:
    assert content.compare_upright(picture(photo(0)), picture(photo(1)), flips=True) is None
    assert content.compare_upright(picture(photo(1)), picture(photo(1)[:, :150]), flips=True) is None


def test_of_gradients_the_colours_are_compared() -> None:
    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    red, blue = np.zeros((200, 256, 3), np.uint8), np.zeros((200, 256, 3), np.uint8)
    red[..., 2], blue[..., 0] = ramp, ramp
    same = content.compare_upright(picture(red), picture(red, 40), flips=False)
    assert same is not None
    assert same.colour == colours.NONE


def test_the_longest_side_of_what_both_show_is_that_of_the_smaller() -> None:
    found = content.compare_upright(picture(photo(3)), picture(smaller(photo(3), 0.25)), flips=False)
    assert found is not None
    assert found.side_px == pytest.approx(64, abs=1)


@pytest.mark.parametrize("height", [1, 3, 17, 18])
def test_of_a_thin_picture_little_is_said(height: int) -> None:
    thin = photo(0)[100 : 100 + height]
    found = content.compare_upright(picture(thin), picture(thin, 40), flips=True)
    assert found is None or found.two_sided == 0


def test_thumbnails_that_cannot_be_decoded_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        content.picture(b"not a jpeg")
    with pytest.raises(ValueError, match="cannot be decoded"):
        content.picture(b"")
    with pytest.raises(ValueError, match=r"matrix: expected float64"):
        content.compare(picture(photo(0)), picture(photo(1)), np.eye(3)[:2].astype(np.float32))


@pytest.mark.parametrize("shape", [(18, 18), (64, 50), (193, 256), (130, 131)])
def test_windows_are_those_measured_one_by_one(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0])
    a, b = (cv2.GaussianBlur(rng.integers(0, 256, shape).astype(np.float32), (0, 0), 1.5) for _ in range(2))
    found = content.windows(Laid(a, b, np.ones(shape, bool), np.eye(3)[:2]))
    rows, columns = (((s - 2) // 8 - 1) for s in shape)
    places = [(8 * i, 8 * j) for i in range(rows) for j in range(columns)]
    at_b = [[b[y + dy : y + dy + 16, x + dx : x + dx + 16] for dy in range(3) for dx in range(3)] for y, x in places]
    at_a = [a[1 + y : 17 + y, 1 + x : 17 + x] for y, x in places]
    best = [
        max(np.corrcoef(p.ravel(), q.ravel())[0, 1] for q in shifted) for p, shifted in zip(at_a, at_b, strict=True)
    ]
    assert found.correlation == pytest.approx(best, abs=2e-3)
    assert found.a == pytest.approx([p.std() for p in at_a], abs=1e-2)
    assert found.b == pytest.approx([shifted[4].std() for shifted in at_b], abs=1e-2)
