"""Edited copies as a source: every edit of every object, the same each time, through any inner source."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dedup_spark.commands.calibrate.edited_source import EditedCopies
from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.errors import ConfigError
from dedup_spark.kernels import edits
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources.base import Address
from dedup_spark.sources.folder import FolderSource


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    load_sample_photo("coffee.png").save(folder / "coffee.png")
    load_sample_photo("chelsea.png").convert("L").save(folder / "cat.jpg", quality=90)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff" + b"\0" * 40)
    return folder


def copies_of(lake: Path, seed: int = 1) -> EditedCopies:
    return EditedCopies(FolderSource(str(lake), True), seed, 10**7, 10**8, 1)


def fetched(source: EditedCopies, name: str, edit: str) -> bytes:
    return source.fetch(Address(f"{source.root}/{name}", f"#{edit}"))


@pytest.mark.parametrize("edit", edits.EDITS)
def test_every_edit_can_be_fetched_and_is_the_same_each_time(lake: Path, edit: str) -> None:
    source = copies_of(lake)
    data = fetched(source, "coffee.png", edit)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
    assert fetched(pickle.loads(pickle.dumps(source)), "coffee.png", edit) == data
    assert fetched(source, "cat.jpg", edit) != data


def test_another_seed_edits_otherwise(lake: Path) -> None:
    assert fetched(copies_of(lake, 1), "coffee.png", "crop") != fetched(copies_of(lake, 2), "coffee.png", "crop")


def test_a_large_photo_is_reduced_before_it_is_edited(lake: Path) -> None:
    load_sample_photo("coffee.png").resize((6000, 4200)).save(lake / "large.jpg")
    with Image.open(io.BytesIO(fetched(replace(copies_of(lake), max_pixels=10**8), "large.jpg", "flip"))) as image:
        assert 1536 <= min(image.size) < 4200


def test_what_cannot_be_read_is_rejected_with_the_reason_of_the_original(lake: Path) -> None:
    with pytest.raises(ImageRejected) as broken:
        fetched(copies_of(lake), "broken.jpg", "crop")
    assert broken.value.reason in ("truncated", "corrupt", "not_an_image")
    with pytest.raises(ImageRejected) as missing:
        fetched(copies_of(lake), "nowhere.jpg", "crop")
    assert missing.value.reason == "missing"


def test_the_lake_is_that_of_the_originals(lake: Path) -> None:
    assert copies_of(lake).root == FolderSource(str(lake), True).root
    with pytest.raises(ConfigError):
        _ = copies_of(lake / "nowhere").root
