"""`dedup-spark clusters`: the list, its order and conditions, and one cluster with its images; without Spark."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import FinishedRun
from known_tables import known_rows
from made_tables import write_tables

import dedup_spark
from dedup_spark.cli import main
from dedup_spark.commands.clusters import reading
from dedup_spark.commands.clusters.choosing import SORTS, Choice, like_patterns
from dedup_spark.commands.clusters.text import describe_list
from dedup_spark.errors import ConfigError
from dedup_spark.store.duck import DuckTables
from dedup_spark.store.spark_sql import SparkTables


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The known images: cluster 1 has 5, cluster 6 has 4; the first copy of each has the same bytes."""
    return write_tables(tmp_path_factory.mktemp("known") / "it's a root", known_rows())


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    """What the command says on standard output or, where it refuses, in its one sentence on standard error."""
    assert main(["clusters", *arguments]) == code
    out, err = capsys.readouterr()
    assert bool(out) != bool(err)
    return (err or out).splitlines()


def listed(root: str, **conditions: Any) -> list[int]:
    found = dedup_spark.clusters(None, tables=root, **conditions)
    return list(found["cluster_id"].to_pylist())


def test_the_list_has_a_line_for_each_cluster_the_largest_first(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    heading, _, first, second = said(capsys, "--tables", root)
    assert heading.split() == ["cluster", "images", "removable", "frees", "relations", "keeper"]
    assert first.split("  ")[0] == "0000000000000001"
    assert " ".join(first.split()[1:]) == (
        "5 3 450 bytes 1 same_bytes, 1 same_pixels, 2 edited_copy file:///lake/a/x/kept.jpg"
    )
    assert second.startswith("0000000000000006")


def test_figures_are_those_of_the_views(root: str) -> None:
    tables = DuckTables(root)
    of_view = tables.answer(
        "SELECT cluster_id, count(*) AS n, sum(freed_bytes) AS bytes FROM duplicates WHERE removable GROUP BY 1"
    ).to_pylist()
    asked = reading.list_of(Choice())
    of_list = tables.ask(asked.query, asked.values).to_pylist()
    assert {r["cluster_id"]: (r["n_removable"], r["removable_bytes"]) for r in of_list} == {
        r["cluster_id"]: (r["n"], r["bytes"]) for r in of_view
    }


@pytest.mark.parametrize(("sort", "first"), [("size", 1), ("frees", 6), ("removable", 1), ("distance", 1), ("path", 1)])
def test_each_order_and_its_reverse(root: str, sort: str, first: int) -> None:
    assert listed(root, sort=sort) == [first, 7 - first]
    last_first = [first, 7 - first] if sort == "removable" else [7 - first, first]  # three each: then by their size
    assert sorted(listed(root, sort=sort, reverse=True)) == [1, 6]
    if sort != "removable":
        assert listed(root, sort=sort, reverse=True) == last_first
    assert set(SORTS) == {"size", "frees", "removable", "distance", "path"}


@pytest.mark.parametrize(
    ("conditions", "ids"),
    [
        ({"min_size": 5}, [1]), ({"max_size": 4}, [6]), ({"min_size": 4, "max_size": 5}, [1, 6]), ({"min_size": 6}, []),
        ({"relations": ["same_pixels"]}, [1]), ({"relations": ["same_pixels", "same_bytes"]}, [1, 6]),
        ({"tiers": ["still"]}, []), ({"tiers": ["edited_copy"], "removable": True}, [1, 6]),
        ({"relations": ["same_pixels"], "bridges": True}, []), ({"bridges": True}, [1]), ({"edits": ["cropped"]}, []),
        ({"paths": ["/lake/a/*"]}, [1]), ({"paths": ["/lake/a"]}, [1]), ({"paths": ["a/x/"]}, [1]),
        ({"paths": ["file:///lake/*"]}, [1, 6]), ({"paths": ["s3a://bucket/photos/t"]}, [6]), ({"paths": ["t"]}, [6]),
        ({"paths": ["photos.tar#one/two.jpg"]}, [6]), ({"paths": ["one/*.jpg"]}, [6]),
        ({"paths": ["copy.???"]}, [1, 6]),
        ({"paths": ["/lake/c", "s3://elsewhere/*"]}, [6]), ({"paths": ["/lake/c", "/lake/a"]}, []),
        ({"paths": ["copy_jpg"]}, []), ({"paths": ["%"]}, []), ({"paths": ["x' OR '1'='1"]}, []),
        ({"paths": ["ake/a"]}, []), ({"sort": "frees", "max_rows": 1}, [6]),
    ],
)  # fmt: skip
def test_conditions_choose(root: str, conditions: dict[str, Any], ids: list[int]) -> None:
    assert listed(root, **conditions) == ids


def test_words_of_edits_are_found_among_several(tmp_path: Path) -> None:
    rows = known_rows()
    for row in rows["clusters"]:
        row["edit"] = {4: "cropped,tone", 7: "marked"}.get(row["image_id"])
    root = write_tables(tmp_path, rows)
    assert (listed(root, edits=["tone"]), listed(root, edits=["marked", "turned"])) == ([1], [6])


def test_a_pattern_matches_from_the_beginning_or_behind_a_slash_and_what_is_below() -> None:
    assert like_patterns("*/2019/*.jp?") == ("%/%/2019/%.jp_", "%/%/2019/%.jp_/%")
    assert like_patterns("s3://b/100%_|#x/") == ("s3://b/100|%|_||/x", "s3://b/100|%|_||/x/%")


@pytest.mark.parametrize(
    ("named", "cluster"),
    [
        ("1", 1), ("0x0000000000000001", 1), ("0000000000000001", 1), ("copy.png", 1), ("c/small.jpg", 6),
        ("0000000000000007", 6),
    ],
)  # fmt: skip
def test_one_cluster_is_named_by_its_id_or_by_an_image_in_it(root: str, named: str, cluster: int) -> None:
    assert set(listed(root, named=named)) == {cluster}


def test_one_cluster_shows_all_its_images_and_why(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    sentence, _, heading, _, *blocks = said(capsys, "copy.png", "--tables", root)
    assert sentence == "cluster 0000000000000001: 5 images, 3 removable, which frees 450 bytes"
    assert heading.split() == ["image", "size", "pixels", "relation", "distance", "address"]
    assert [line.split()[0] for line in blocks[::2]] == ["keeper", "removable", "removable", "removable", "stays"]
    assert [line.strip() for line in blocks[1::2]] == [f"because of {i}" for i in (1, 2, 3, 4, 5)]
    assert blocks[2].endswith("  file:///lake/a/x/deep/down/copy.jpg")


def test_an_image_that_is_gone_or_changed_stays_and_says_so(tmp_path: Path) -> None:
    rows = known_rows()
    rows["images"] = [row for row in rows["images"] if row["image_id"] != 2]
    found = dedup_spark.clusters(None, 1, tables=write_tables(tmp_path, rows)).to_pylist()
    gone = next(row for row in found if row["image_id"] == 2)
    assert (gone["removable"], gone["freed_bytes"]) == (False, 0)
    assert gone["reason"] == "because of 2; stays: it is gone, or has changed since it was read"


def test_answers_are_written_in_each_format(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_csv = list(csv.DictReader(io.StringIO("\n".join(said(capsys, "--tables", root, "--csv")))))
    as_json = json.loads("\n".join(said(capsys, "--tables", root, "--json", "--limit", "1")))
    assert [row["cluster_id"] for row in as_csv] == ["1", "6"]
    assert [(row["cluster_id"], row["n_removable"]) for row in as_json] == [(1, 3)]
    said(capsys, "1", "--tables", root, "--out", str(tmp_path / "one.parquet"))
    assert pq.read_table(tmp_path / "one.parquet")["image_id"].to_pylist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["alone.jpg"], "file:///lake/c/alone.jpg is in no cluster: no other image is near enough"),
        (["ffff0000"], "no cluster has an id that begins with 'ffff0000', and no image has an id that begins"),
        (["no/such.jpg"], "no image has a uri that ends with 'no/such.jpg'"),
        (["00000000"], "several clusters have an id that begins so; give more of it: 0000000000000001 (keeper "),
        (["1", "--min-size", "3"], "leave them out with one cluster"),
        (["--min-size", "9", "--max-size", "3"], "no cluster has both"),
        (["--path", "/"], "expected a part of an address"),
        (["--out", "x.xlsx"], "expected a file that ends with .csv, .json or .parquet"),
        (["--parquet"], "--parquet: it is no text"),
    ],
)
def test_a_mistake_is_one_sentence(
    root: str, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    [line] = said(capsys, *arguments, "--tables", root, code=2)
    assert line.startswith("dedup-spark: ")
    assert sentence in line


def test_wrong_words_are_named_all_at_once_with_what_was_meant() -> None:
    with pytest.raises(ConfigError) as e:
        Choice(sort="sise", relations=("same_byte",), tiers=("x",))
    assert len(e.value.problems) == 3
    assert "did you mean 'size'?" in e.value.problems[0]
    assert "did you mean 'same_bytes'?" in e.value.problems[1]


def test_where_nothing_is_found_a_sentence_says_so(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "--tables", root, "--min-size", "99") == ["no cluster meets these conditions"]
    empty = write_tables(tmp_path, {})
    assert said(capsys, "--tables", empty) == ["there are no clusters: no two images are near enough"]


def test_on_a_terminal_addresses_are_cut_at_their_beginning_and_the_cut_of_the_list_is_said() -> None:
    row = {"cluster_id": 1, "cluster_size": 2, "n_removable": 0, "removable_bytes": 0, "relations": None,
           "keeper_uri": f"file:///{'deep/' * 40}the name.jpg", "keeper_member": None}  # fmt: skip
    text = describe_list([row, row], {1: "00000001"}, 1, width=100)
    *_, line, more = text.splitlines()
    assert len(line) == 100
    assert line.endswith("/the name.jpg")
    assert more == "... there are more than 1 clusters; --limit N shows more"


def test_both_engines_answer_alike(finished: FinishedRun) -> None:
    by_spark, by_duckdb = SparkTables(finished.tables), DuckTables(finished.tables.root)
    first = listed(finished.tables.root, max_rows=1)[0]
    questions = [
        reading.list_of(Choice()),
        reading.list_of(Choice("frees", paths=("*.jpg", "photos"), removable=True)).limited(2),
        reading.images_of(first),
        reading.freed_of(first),
    ]
    for asked in questions:
        of_both = [tables.ask(asked.query, asked.values) for tables in (by_spark, by_duckdb)]
        assert of_both[0].to_pylist() == of_both[1].to_pylist()
        assert len(of_both[0])


@pytest.mark.parametrize(
    ("here", "meant"), [("./a/x", "/lake/a/x"), ("../lake/a/x", "/lake/a/x"), ("./a/x/", "/lake/a/x/"), (".", "/lake")]
)
def test_a_path_as_a_shell_completes_it_is_one_from_the_current_folder(
    here: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: "/lake")
    assert reading.list_of(Choice(paths=(here,))).values == reading.list_of(Choice(paths=(meant,))).values
