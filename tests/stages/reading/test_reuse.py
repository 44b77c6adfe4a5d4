"""Which images have a forward pass: a model that counts, over rows in any order and batches of any size."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from cachetools import LRUCache

from dedup_spark.errors import ArtifactError
from dedup_spark.kernels.arrays import UInt8
from dedup_spark.models.base import Embedder
from dedup_spark.stages.reading.embedding import with_embeddings
from dedup_spark.stages.reading.reuse import EqualPixels, EveryImage, ModelInput, NearPixels, Planner

PICTURES = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in range(12)]


class Counting:
    """Remembers every image that it sees; a vector is made of the first pixels."""

    model_id, dimensions = "counting/1", 4

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def embed(self, images: UInt8) -> np.ndarray:
        self.seen += [image.tobytes() for image in images]
        return images[:, 0, :2, :2].reshape(len(images), 4).astype(np.float32)


def known(size: int = 1000) -> LRUCache[bytes, ModelInput]:
    return LRUCache(size)


def embedded(pictures: Iterable[UInt8 | None], planner: Planner, model: Embedder, batch_images: int = 4) -> list[Any]:
    """The vectors, and None where there is no picture; each picture is a file of its own."""
    rows = ({} if p is None else {"model_input": planner.input_of(p, phash=5)} for p in pictures)
    groups = with_embeddings(rows, batch_images, lambda: model, planner)
    return [row.get("embedding") for group in groups for row in group]


def lake(n: int, seed: int = 0) -> list[UInt8 | None]:
    """Copies of twelve pictures and rejects, at random; the copies are other arrays."""
    drawn = random.Random(seed)
    return [None if drawn.random() < 0.1 else drawn.choice(PICTURES).copy() for _ in range(n)]


@pytest.mark.parametrize("batch_images", [1, 3, 8, 256])
@pytest.mark.parametrize("seed", range(5))
def test_equal_pixels_have_one_pass_and_the_vectors_of_a_pass_each(batch_images: int, seed: int) -> None:
    pictures = lake(200, seed)
    every, once = Counting(), Counting()
    wanted = embedded(pictures, EveryImage(), every)
    assert embedded(pictures, EqualPixels(known()), once, batch_images) == wanted
    assert len(every.seen) == sum(p is not None for p in pictures)
    assert len(once.seen) == len(set(once.seen)) == len(PICTURES)


def test_what_is_forgotten_is_seen_again_and_still_right() -> None:
    pictures, model = lake(300), Counting()
    assert embedded(pictures, EqualPixels(known(2)), model) == embedded(pictures, EveryImage(), Counting())
    assert len(PICTURES) < len(model.seen) < 300


def test_the_next_task_of_a_worker_knows_the_vectors() -> None:
    vectors, model = known(), Counting()
    first = embedded(PICTURES, EqualPixels(vectors), model)
    assert embedded(PICTURES, EqualPixels(vectors), model) == first
    assert len(model.seen) == len(PICTURES)


def test_nothing_is_taken_from_a_task_that_failed() -> None:
    class Failing(Counting):
        def embed(self, images: UInt8) -> np.ndarray:
            raise ArtifactError("not finite")

    vectors, model = known(), Counting()
    with pytest.raises(ArtifactError):
        embedded(PICTURES, EqualPixels(vectors), Failing())
    assert embedded(PICTURES, EqualPixels(vectors), model) == embedded(PICTURES, EveryImage(), Counting())
    assert len(model.seen) == len(PICTURES)


def test_images_of_equal_bytes_share_an_input_and_keep_its_vector_however_small_the_memory() -> None:
    planner, model = EqualPixels(known(1)), Counting()
    shared = planner.input_of(PICTURES[0])
    others = [planner.input_of(p) for p in PICTURES[1:]]
    rows = [{"model_input": one} for one in (shared, *others, shared, *others[:2], shared)]
    made = [row["embedding"] for group in with_embeddings(iter(rows), 2, lambda: model, planner) for row in group]
    assert made[0] == made[len(PICTURES)] == made[-1]
    assert len(model.seen) == len(PICTURES)
    assert shared.pixels is None  # as many as a task has images must not be kept


def test_off_asks_the_model_for_each_image_also_of_equal_bytes() -> None:
    planner, model = EveryImage(), Counting()
    shared = planner.input_of(PICTURES[0])
    groups = list(with_embeddings(iter([{"model_input": shared} for _ in range(9)]), 4, lambda: model, planner))
    assert len(model.seen) == 9
    assert len({row["embedding"] for group in groups for row in group}) == 1


def test_passes_are_counted_in_the_first_row_of_a_group() -> None:
    planner, model = EqualPixels(known()), Counting()
    rows = [{} if p is None else {"model_input": planner.input_of(p)} for p in lake(100)]
    n_pictures = sum("model_input" in row for row in rows)
    groups = list(with_embeddings(iter(rows), 4, lambda: model, planner))
    assert sum(group[0]["forward_passes"] for group in groups) == len(model.seen) == len(PICTURES)
    assert sum(group[0]["forward_passes_saved"] for group in groups) == n_pictures - len(PICTURES)
    assert not [row for group in groups for row in group[1:] if "forward_passes" in row]


# --- near ------------------------------------------------------------------------------------------------------


def lighter(picture: UInt8, levels: int) -> UInt8:
    return (picture // 2 + levels).astype(np.uint8)


def test_near_takes_the_vector_of_what_looks_the_same_and_only_of_that() -> None:
    model = Counting()
    series = [lighter(PICTURES[0], levels) for levels in (0, 3, 60, 61)]
    a, near_a, b, near_b = embedded([*series, PICTURES[1]], NearPixels(known()), model)[:4]
    assert (a, b) == (near_a, near_b)
    assert a != b
    assert len(model.seen) == 3


def test_a_vector_that_was_taken_over_is_not_passed_on() -> None:
    """Else a slow change of light would end far from where it began."""
    model = Counting()
    embedded([lighter(PICTURES[0], levels) for levels in range(0, 30, 3)], NearPixels(known()), model)
    assert len(model.seen) == 5


def test_near_needs_phashes_that_agree() -> None:
    planner, model = NearPixels(known()), Counting()
    rows = [{"model_input": planner.input_of(lighter(PICTURES[0], k), phash=7 * k)} for k in (0, 1)]
    list(with_embeddings(iter(rows), 4, lambda: model, planner))
    assert len(model.seen) == 2
