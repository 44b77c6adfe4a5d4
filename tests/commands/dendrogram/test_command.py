"""The command line of `dendrogram`: what it asks for, prints and writes; the tree itself is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from known_trees import known_tree

from dedup_spark.api import questions as api
from dedup_spark.cli import main
from dedup_spark.commands.dendrogram.texts import to_newick
from dedup_spark.commands.dendrogram.tree import Dendrogram


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of the last call of `api.dendrogram`."""
    found: dict[str, Any] = {}

    def dendrogram(_: None, cluster: str | None, **options: Any) -> Dendrogram:
        found.update(options, cluster=cluster)
        return known_tree(at=0.5 if options["at"] is None else options["at"])

    monkeypatch.setattr(api, "dendrogram", dendrogram)
    return found


def test_without_options_the_tree_is_printed_and_nothing_more_is_read(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dendrogram", "--cluster", "10"]) == 0
    assert capsys.readouterr().out.strip() == to_newick(known_tree())
    assert (asked["cluster"], asked["image"], asked["max_thumbnails"], asked["of_lake"]) == ("10", None, 0, False)


def test_another_cut_is_listed_and_a_page_is_written_with_thumbnails_and_the_curves_of_the_lake(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, pairs = tmp_path / "tree.html", tmp_path / "pairs.csv"
    options = ["--at", "0.8", "--out", str(out), "--pairs", str(pairs), "--max-pictures", "60", "--thumbnails", "7"]
    assert main(["dendrogram", "--image", "a.jpg", *options]) == 0
    printed = capsys.readouterr().out
    assert "would join cluster 000000000000000a, 000000000000000b, 000000000000000c" in printed
    assert f"was written to {out}" in printed
    assert out.read_text().startswith("<!doctype html>")
    assert {name: asked[name] for name in ("image", "at", "pairs", "max_pictures", "max_thumbnails", "of_lake")} == {
        "image": "a.jpg", "at": 0.8, "pairs": str(pairs), "max_pictures": 60, "max_thumbnails": 7, "of_lake": True
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "tree.png"], "must end with one of .html, .svg, .json, .nwk"),
        (["--pairs", "p.csv"], "give --out with .html or .json"),
        (["--pairs", "p.csv", "--out", "t.svg"], "give --out with .html or .json"),
        (["--thumbnails", "9"], "--thumbnails: they are shown in a page or a drawing"),
        (["--thumbnails", "9", "--out", "t.nwk"], "give --out with .html or .svg"),
        (["--set", "cluster.linkage=complete"], "it takes the settings of the run that cut the tree from the tables"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_read(
    options: list[str], said: str, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dendrogram", "--cluster", "10", *options]) == 2
    assert said in capsys.readouterr().err
    assert not asked


def test_a_settings_file_is_refused_as_it_would_change_nothing(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[cluster]\nlinkage = 'complete'\n")
    assert main(["dendrogram", "--cluster", "10", "--config", str(file)]) == 2
    assert "found --config, which would change nothing" in capsys.readouterr().err
    assert not asked
