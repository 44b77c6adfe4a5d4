"""The negative list: which hashes it takes, what it refuses, and that processes share it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedup_spark.errors import ArtifactError, ConfigError
from dedup_spark.lookup.never import FILE, NeverMatch

A, B = "a" * 64, "B" * 64


def test_listed_hashes_match_nothing_and_others_may(tmp_path: Path) -> None:
    listed, other = NeverMatch(tmp_path), NeverMatch(tmp_path)
    listed.add("content_hash", A, "a logo")
    listed.add("pixel_hash", B, "a blank frame")
    assert other.listed().reason(A) == "a logo"
    assert other.listed().reason("c" * 64, B.lower()) == "a blank frame"
    assert other.listed().reason("c" * 64, A, 5) is None
    assert len(other.listed()) == 2


@pytest.mark.parametrize(("bits", "phash", "is_listed"), [(0, 7, True), (0, 6, False), (2, 4, True), (2, 0, False)])
def test_a_phash_lists_also_those_within_its_bits(tmp_path: Path, bits: int, phash: int, is_listed: bool) -> None:
    NeverMatch(tmp_path).add("phash", f"{7:016x}", "bad", bits)
    assert (NeverMatch(tmp_path).listed().reason(A, B, phash) == "bad") == is_listed


def test_a_negative_phash_is_that_of_its_bits(tmp_path: Path) -> None:
    NeverMatch(tmp_path).add("phash", "f" * 16, "bad")
    assert NeverMatch(tmp_path).listed().reason(A, B, -1) == "bad"


@pytest.mark.parametrize(
    ("kind", "value", "bits"),
    [("phash", A, 0), ("content_hash", "a" * 16, 0), ("sha1", A, 0), ("phash", "g" * 16, 0), ("pixel_hash", A, 1),
     ("phash", "a" * 16, 4)],
)  # fmt: skip
def test_what_is_no_hash_is_refused(tmp_path: Path, kind: str, value: str, bits: int) -> None:
    with pytest.raises(ConfigError, match="never_match"):
        NeverMatch(tmp_path).add(kind, value, "", bits)
    assert len(NeverMatch(tmp_path).listed()) == 0


def test_a_half_written_line_is_cut_off_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    listed = NeverMatch(tmp_path)
    listed.add("content_hash", A, "a")
    with (tmp_path / FILE).open("ab") as f:
        f.write(b'{"kind": "pix')
    assert len(NeverMatch(tmp_path).listed()) == 1
    listed.add("pixel_hash", B, "b")
    assert len(NeverMatch(tmp_path).listed()) == 2
    with (tmp_path / FILE).open("ab") as f:
        f.write(b"no json\n")
    with pytest.raises(ArtifactError, match="damaged"):
        NeverMatch(tmp_path).listed().reason(A)
