"""Which of two files was made from the other: by qualities, tables and chroma, and whatever the original inherited."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels import edits
from dedup_spark.kernels.comparing import descent
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.decoding.rendering import render
from dedup_spark.kernels.features.origin import origin_facts

PHOTOS = ("chelsea.png", "rocket.jpg", "china.jpg")
FLAT = [[8] * 64, [12] * 64]


def photo(name: str = "chelsea.png") -> Image.Image:
    """Reduced, so that no JPEG's grid is left in it."""
    return edits.scaled(load_sample_photo(name).convert("RGB"), 0.7)


def jpeg(image: Image.Image | bytes, quality: int, **options: Any) -> bytes:
    return edits.encoded(decoded(image) if isinstance(image, bytes) else image, "JPEG", quality=quality, **options)


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def sample(data: bytes) -> bytes | None:
    image = decode_image(data, max_pixels=10**8, min_side_px=8)
    return origin_facts(data, image, render(image, 256)).block_sample


def family(*files: bytes) -> list[str]:
    """Of each file whether it is a copy or has copies."""
    found = descent.find_copies([sample(data) for data in files], np.tile(np.array([300, 200, 1]), (len(files), 1)))
    named = {(True, False): "copy", (False, True): "original", (False, False): ""}
    return [named[pair] for pair in zip(found.is_made_from_another.tolist(), found.has_copies.tolist(), strict=True)]


def is_told(name: str, found: list[str], right: list[str]) -> bool:
    """Whether each file is what it is. The rocket stands before an empty sky: some of its files stay untold, but its
    original is no copy."""
    return found[right.index("original")] != "copy" if name == "rocket.jpg" else found == right


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("first", "second"), [(85, 20), (85, 60), (85, 81), (85, 89), (85, 98), (60, 90), (95, 92)])
def test_a_copy_is_told_at_lower_higher_and_near_quality(name: str, first: int, second: int) -> None:
    original = jpeg(photo(name), first)
    assert is_told(name, family(original, jpeg(original, second)), ["original", "copy"])
    assert is_told(name, family(jpeg(original, second), original), ["copy", "original"])


@pytest.mark.parametrize("name", PHOTOS)
def test_neither_whole_chroma_nor_other_tables_nor_scans_hide_a_copy(name: str) -> None:
    original = jpeg(photo(name), 80, subsampling=2)
    copies = [jpeg(original, 95, subsampling=0), jpeg(original, 92, progressive=True), jpeg(original, 75, qtables=FLAT)]
    assert family(original, *copies) == ["original", "copy", "copy", "copy"]
    assert family(jpeg(photo(name), 75, qtables=FLAT), jpeg(jpeg(photo(name), 75, qtables=FLAT), 85)) == [
        "original", "copy"
    ]  # fmt: skip


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("before", "own"), [(50, 86), (72, 96), (90, 80)])
def test_an_original_that_inherited_traces_is_no_copy_of_its_copies(name: str, before: int, own: int) -> None:
    original = jpeg(jpeg(photo(name), before), own)
    found = family(original, *[jpeg(original, q) for q in (35, 60, 70)])
    assert is_told(name, found, ["original", "copy", "copy", "copy"])


@pytest.mark.parametrize("name", PHOTOS)
def test_a_lossless_file_may_be_the_source_and_the_copy(name: str) -> None:
    clean, first = photo(name), jpeg(photo(name), 80)
    assert family(edits.encoded(clean, "PNG"), jpeg(clean, 90), jpeg(clean, 97)) == ["original", "copy", "copy"]
    marked = decoded(first)
    marked.paste("white", (0, 0, 40, 40))
    assert family(edits.encoded(marked, "PNG"), first) == ["copy", "original"]


@pytest.mark.parametrize("name", PHOTOS)
def test_what_is_no_plain_copy_is_not_told(name: str) -> None:
    original = jpeg(photo(name), 90)
    assert family(original, jpeg(original, 90)) == ["", ""]  # equal tables: next to nothing is rounded
    toned = edits.relit(decoded(original), 1.1, 1.0, 1.0)
    assert family(original, jpeg(toned, 95)) == ["", ""]
    stranger = photo("coffee.png").resize(decoded(original).size)
    assert family(original, jpeg(stranger, 85)) == ["", ""]


@pytest.mark.parametrize("name", PHOTOS)
def test_an_original_is_no_copy_of_a_copy_whose_source_is_missing(name: str) -> None:
    original = jpeg(photo(name), 90)
    assert family(original, jpeg(jpeg(original, 60), 96))[0] != "copy"


def test_only_files_of_one_grid_with_a_sample_are_compared() -> None:
    first = jpeg(photo(), 85)
    samples = [sample(first), sample(jpeg(first, 60)), None]
    assert not descent.find_copies(samples, np.array([[300, 200], [200, 300], [300, 200]])).has_copies.any()
    assert descent.find_copies(samples, np.array([[300, 200]] * 3)).has_copies.tolist() == [True, False, False]
    assert not descent.find_copies([], np.zeros((0, 2), np.int64)).has_copies.any()
    small, plain = sample(jpeg(photo().crop((0, 0, 40, 40)), 85)), sample(jpeg(Image.new("RGB", (300, 200)), 85))
    assert not descent.find_copies([samples[0], small, plain], np.array([[300, 200]] * 3)).has_copies.any()


def test_files_beyond_the_limit_are_compared_with_the_finest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent, "_MAX_FILES", 2)
    original = jpeg(photo(), 92)
    assert family(jpeg(original, 40), original, *[jpeg(original, q) for q in (50, 60)]) == [
        "copy", "original", "copy", "copy"
    ]  # fmt: skip
