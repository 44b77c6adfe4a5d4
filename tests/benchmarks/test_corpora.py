"""The corpora that the accuracy benchmark makes: labelled, complete, the same each time."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cluster_scores import edit_of, group_of
from corpora import CORPORA, N_COPIES, bar_units_for, covering, write_corpus
from PIL import Image

from dedup_spark.kernels import edits


def photos(n: int) -> list[bytes]:
    noise = np.random.default_rng(7).integers(0, 256, (n, 12, 16, 3), dtype=np.uint8)
    return [edits.encoded(Image.fromarray(x).resize((320, 240)), "JPEG", quality=92) for x in noise]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("corpora")
    return {kind: write_corpus(kind, root / kind, photos(4)) for kind in CORPORA}


@pytest.mark.parametrize("kind", CORPORA)
def test_every_file_is_labelled_and_opens_under_its_suffix(kind: str, folders: dict[str, Path]) -> None:
    formats = Image.registered_extensions()
    for path in folders[kind].iterdir():
        assert group_of(path.name)
        with Image.open(path) as image:
            image.load()
            assert image.format == formats[path.suffix]


@pytest.mark.parametrize("kind", CORPORA)
def test_every_group_has_its_original(kind: str, folders: dict[str, Path]) -> None:
    names = [path.name for path in folders[kind].iterdir()]
    originals = Counter(group_of(name) for name in names if edit_of(name) == "original")
    assert originals == dict.fromkeys(map(group_of, names), 1)
    assert len(originals) == 4


@pytest.mark.parametrize("kind", CORPORA)
def test_a_corpus_is_the_same_each_time(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    again = write_corpus(kind, tmp_path / kind, photos(4))
    a, b = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (folders[kind], again))
    assert a == b


def test_mixed_has_every_kind_of_edit(folders: dict[str, Path]) -> None:
    kinds = Counter(edit_of(path.name) for path in folders["mixed"].iterdir())
    assert {kinds[edit] for edit in edits.EDITS} == {4}
    assert kinds["two"] == 20


def test_the_family_is_one_picture_with_its_copies_and_other_pictures_in_one_frame(folders: dict[str, Path]) -> None:
    sizes = Counter(group_of(path.name) for path in folders["family"].iterdir())
    assert sizes["000000"] == N_COPIES + 1
    framed = [
        path.read_bytes() for path in sorted(folders["family"].glob("*.png")) if not path.name.startswith("000000")
    ]
    a, b = (np.asarray(Image.open(io.BytesIO(data))) for data in framed[:2])
    same = (a == b).all(axis=2).mean()
    assert 0.4 < same < 0.6, "the share of the frame"


def test_photos_in_one_frame_share_it_pixel_for_pixel() -> None:
    opened = [Image.open(io.BytesIO(data)) for data in photos(2)]
    fitted = [
        covering(photo.resize(size), 200, 150) for photo, size in zip(opened, ((240, 180), (180, 240)), strict=True)
    ]
    units = bar_units_for(0.5, fitted[0])
    a, b = (np.asarray(edits.screenshot(p, 1, units)) for p in fitted)
    bar = (len(a) - 150) // 2
    assert np.array_equal(a[:bar], b[:bar])
    assert np.array_equal(a[-bar:], b[-bar:])
    assert not np.array_equal(a, b)
    assert 150 / len(a) == pytest.approx(0.5, abs=0.03)
