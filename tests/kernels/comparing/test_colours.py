"""Colours: an edit of the whole picture is told from another colour of a thing in it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.comparing import colours

WHOLE = np.array([[1.0, 0, 0], [0, 1, 0]])


def sample(name: str) -> np.ndarray:
    rgb = np.asarray(load_sample_photo(name).resize((256, 192)))
    return np.ascontiguousarray(rgb[..., ::-1])


def shirt(bgr: tuple[int, int, int]) -> np.ndarray:
    image = np.full((240, 240, 3), 255, np.uint8)
    cv2.rectangle(image, (50, 40), (190, 220), bgr, -1)
    return image


def change(a: np.ndarray, b: np.ndarray) -> int:
    return colours.compare(colours.small_lab(a), colours.small_lab(b), WHOLE)["colour"]


def grey(bgr: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def sepia(bgr: np.ndarray) -> np.ndarray:
    return np.clip(grey(bgr) * np.array([0.7, 0.88, 1.05]), 0, 255).astype(np.uint8)


EDITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "grey": grey,
    "sepia": sepia,
    "warm": lambda x: np.clip(x * np.array([0.85, 1.0, 1.12]), 0, 255).astype(np.uint8),
    "dark": lambda x: (x * 0.65).astype(np.uint8),
    "contrast": lambda x: np.clip(128 + 1.4 * (x.astype(float) - 128), 0, 255).astype(np.uint8),
    "pale": lambda x: (0.5 * x + 0.5 * grey(x)).astype(np.uint8),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png", "chelsea.png"])
def test_an_edit_of_the_whole_is_a_tone(name: str, edit: str) -> None:
    assert change(sample(name), EDITS[edit](sample(name))) == colours.TONE
    assert change(EDITS[edit](sample(name)), sample(name)) == colours.TONE


@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png"])
def test_a_filter_of_hues_is_another_hue(name: str) -> None:
    hsv = cv2.cvtColor(sample(name), cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + 60) % 180
    assert change(sample(name), cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)) == colours.HUE


def test_one_thing_in_two_colours_is_another_hue() -> None:
    made = [shirt(c) for c in ((200, 60, 40), (60, 150, 40), (40, 40, 200), (30, 200, 230), (30, 30, 30))]
    found = [change(a, b) for i, a in enumerate(made) for b in made[:i]]
    assert set(found) == {colours.HUE}


def test_a_recompressed_copy_has_the_same_colours() -> None:
    for image in (sample("coffee.png"), shirt((200, 60, 40))):
        again = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
        assert change(image, again) == colours.NONE


@pytest.mark.parametrize("share", [0.9, 0.95, 0.98, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 60, 61, 1000, 4096])
def test_the_quantile_is_that_of_numpy_bit_for_bit(n: int, share: float) -> None:
    values = np.random.default_rng(n).normal(20, 9, n).astype(np.float32).astype(np.float64)
    assert colours.quantile(values, share) == np.quantile(values, share)


def test_the_column_says_it_in_words_and_nothing_where_nothing_was_compared() -> None:
    codes = np.array([colours.HUE, np.nan, colours.NONE, colours.TONE])
    assert colours.changes(codes) == ["hue", None, "none", "tone"]
