"""The corpus of look-alikes is the same for the same seed, and holds each picture with its copies."""

from __future__ import annotations

import io

from lookalikes import LOOKALIKES, copies, lookalikes
from PIL import Image, ImageChops

from dedup_spark.kernels.edits import copy_generator


def test_the_same_seed_gives_the_same_files() -> None:
    kinds = ["plate", "board", "slice"]
    assert list(lookalikes(kinds, n=2)) == list(lookalikes(kinds, n=2)) != list(lookalikes(kinds, n=2, seed=1))


def test_pictures_of_a_kind_have_one_size_and_differ() -> None:
    for kind, draw in LOOKALIKES.items():
        first, second = draw(copy_generator(1, 2, 3), 2)
        assert first.size == second.size, kind
        assert ImageChops.difference(first, second).getbbox(), kind


def test_copies_are_files_named_by_their_edit() -> None:
    picture = LOOKALIKES["logo"](copy_generator(1, 2, 3), 1)[0]
    made = dict(copies(picture, copy_generator(4, 5, 6)))
    assert {"original.png", "jpeg.jpg", "webp.webp", "small.jpg", "crop.jpg", "grey.jpg"} <= set(made)
    assert all(Image.open(io.BytesIO(data)).width >= 100 for data in made.values())
