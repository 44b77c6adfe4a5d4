"""The accuracy benchmark beside other programs: how they are called, and that what is absent is named, not left out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from accuracy import NotRun, linked, made_or_given, parse, peer_clusters
from corpora import write_corpus
from harness import photo_bytes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus("ukbench", tmp_path_factory.mktemp("corpora") / "ukbench", photo_bytes(None)[:3])


def test_imagehash_finds_the_square_of_a_photo_and_no_other_photo(corpus: Path) -> None:
    found = [sorted(members) for members in peer_clusters("imagehash", corpus, sys.executable)]
    assert ["000000__original.jpg", "000000__square.jpg"] in found
    assert {len({name.split("__")[0] for name in members}) for members in found} == {1}


@pytest.mark.parametrize("python", [None, sys.executable])
def test_a_program_that_is_not_installed_is_not_run_and_says_why(corpus: Path, python: str | None) -> None:
    with pytest.raises(NotRun, match="no --peer-python" if python is None else "fastdup"):
        peer_clusters("fastdup", corpus, python)


def test_a_crowd_stands_beside_the_corpus(corpus: Path, tmp_path: Path) -> None:
    crowd = tmp_path / "crowd"
    crowd.mkdir()
    (crowd / "x__original.jpg").write_bytes(b"x")
    both = linked(tmp_path / "both", [corpus, crowd])
    assert {p.name for p in both.iterdir()} == {p.name for p in corpus.iterdir()} | {"x__original.jpg"}


def test_given_corpora_are_taken_as_they_are(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--corpus", str(corpus)])
    assert made_or_given(parse(), tmp_path) == {"ukbench": corpus}


def test_quick_corpora_are_made_from_a_few_sample_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--quick"])
    made = made_or_given(parse(), tmp_path)
    assert set(made) == {"ukbench", "mixed", "family"}
    assert len(list(made["ukbench"].iterdir())) == 36
