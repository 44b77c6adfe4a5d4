"""`dedup-spark explain`: facts and evidence of two images, the path of pairs between them, or what kept them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import FinishedRun
from fabricated import fill, frame, hamming, listed, readable, rejected

from dedup_spark.cli import main
from dedup_spark.commands.explain import Comparison, describe_explanation, explain_pair, why_not
from dedup_spark.commands.image_ids import in_hex
from dedup_spark.config import Config, load_config
from dedup_spark.errors import ConfigError
from dedup_spark.store.duck import DuckTables
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import CLUSTERS, PAIRS
from dedup_spark.store.spark_sql import SparkTables
from dedup_spark.store.tables import Tables

SETTINGS = {
    "match": {"min_similarity": 0.4, "min_recall": 0.999, "max_hamming_bits": 3, "neighbours": 32},
    "cluster": {
        "min_similarity": 0.45,
        "linkage": "average",
        "min_copy_probability": 0.0,
        "target_precision": 0.99,
    },
}
OK: dict[str, Any] = {"status": "ok", "guard": None}
PAIR = {"method": "embedding"}
WEIGHED = {"copy_probability": 0.1, "decided_by": "geometry"}


@pytest.mark.parametrize(
    ("a", "b", "bits", "cosine", "pair", "said"),
    [
        ({}, OK, None, None, None, "a is listed and was not read yet"),
        (OK, {"status": "rejected", "reject_reason": "truncated"}, None, None, None, "b could not be read (truncated)"),
        (OK, OK, 9, 0.31, None, "no candidate pair: cosine 0.310 is below match.min_similarity (0.4), and neither is "),
        (OK, OK, 9, 0.7, None, "no candidate pair: match did not propose it, although the cosine 0.700 is not below"),
        (OK, OK, 9, None, None, "no candidate pair: pHash differs in 9 bits, more than match.max_hamming_bits (3)"),
        (OK, OK, 9, 0.42, PAIR, "a pair, but its cosine 0.420 is below cluster.min_similarity (0.45)"),
        (OK, OK, 9, 0.42, PAIR | WEIGHED, "a pair, but a copy with probability 0.100 only (by geometry); 0."),
        (OK | {"guard": "text"}, OK, 9, 0.8, PAIR, "a pair, but a is guarded as text"),
        (OK, OK | {"guard": "blank"}, 0, 0.9, PAIR, "a pair, but b is guarded as blank"),
        (OK | {"guard": "text"}, OK, 2, 0.8, PAIR, "a pair above the cut, but the chain was cut between them"),
        (OK, OK, 30, 0.6, PAIR, "a pair above the cut, but the chain was cut between them: by average linkage"),
    ],
)
def test_what_kept_two_images_apart_is_told_in_words(
    a: dict[str, Any], b: dict[str, Any], bits: int | None, cosine: float | None, pair: Any, said: str
) -> None:
    evidence = pair if pair and "copy_probability" in pair else None
    assert why_not(a, b, Comparison(False, False, bits, cosine, pair, evidence), SETTINGS).startswith(said)


def explain(tables: Tables, uri_a: str, uri_b: str) -> str:
    return describe_explanation(explain_pair(DuckTables(tables.root), uri_a, uri_b))


@pytest.mark.slow
def test_joined_images_show_the_shortest_path_of_pairs(tables: Tables) -> None:
    hashes = {1: 0, 2: 1, 3: 3, 4: 7, 5: 7, 9: -1}
    pixels = {5: "pixels of 4"}
    fill(tables, map(listed, (*hashes, 8)), [
        *(readable(i, phash=p, pixel_hash=pixels.get(i, f"pixels of {i}")) for i, p in hashes.items()), rejected(8)
    ])  # fmt: skip
    near = [(1, 2, "phash"), (2, 3, "phash"), (3, 4, "phash"), (1, 3, "phash"), (4, 5, "same_pixels")]
    tables.append(PAIRS, frame(tables.spark, PAIRS.schema, [
        {"image_id_a": a, "image_id_b": b, "method": m, "hamming_bits": hamming(hashes[a], hashes[b])}
        for a, b, m in near
    ]))  # fmt: skip
    members = [
        {"image_id": i, "uri": f"file:///lake/{i}.jpg", "cluster_id": 1, "keeper_image_id": 1, "is_keeper": i == 1,
         "reason": f"because of {i}"}
        for i in (1, 2, 3, 4, 5)
    ]  # fmt: skip
    tables.append(CLUSTERS, frame(tables.spark, CLUSTERS.schema, members))
    with pytest.raises(ConfigError, match="no step cluster has finished"):
        explain(tables, "/1.jpg", "/5.jpg")
    with Run(tables, load_config(), "file:///lake", "r1").step("cluster"):
        pass
    said = explain(tables, "/1.jpg", "/5.jpg")
    assert f"joined: both are in cluster {in_hex(1)}" in said
    assert f"b: because of 5 (keeper {in_hex(1)})" in said
    path = [line.split()[-1][-5:] for line in said.split("path of pairs")[1].splitlines()[1:]]
    assert path == ["1.jpg", "3.jpg", "4.jpg", "5.jpg"]
    assert "pHash: differs in 3 of 64 bits (match.max_hamming_bits 3)" in said
    assert "pairs: no row" in said
    assert "not joined: no candidate pair: pHash differs in 64 bits" in explain(tables, "/1.jpg", "/9.jpg")
    assert "not joined: a could not be read (corrupt)" in explain(tables, "/8.jpg", "/1.jpg")


def test_facts_and_scores_of_two_read_images_stand_side_by_side(finished: FinishedRun) -> None:
    config = Config()
    said = explain(finished.tables, "photos/coffee.jpg", "singles/moon.png")
    assert "same bytes: no; same pixels: no" in said
    assert f"match.min_similarity {config.match.min_similarity:g}" in said
    assert "not joined: no candidate pair: cosine" in said
    first, second = (c for c in finished.lake.same_bytes[0][:2])
    said = explain(finished.tables, first, second)
    assert "same bytes: yes; same pixels: yes" in said
    assert "pHash: differs in 0 of 64 bits" in said
    assert "joined: both are in cluster" in said


def test_both_engines_explain_alike(finished: FinishedRun) -> None:
    uris = finished.lake.same_bytes[0][:2]
    by_spark, by_duckdb = (
        describe_explanation(explain_pair(asked, *uris))
        for asked in (SparkTables(finished.tables), DuckTables(finished.tables.root))
    )
    assert by_spark == by_duckdb


def test_an_image_is_not_explained_with_itself(finished: FinishedRun) -> None:
    with pytest.raises(ConfigError, match="both are the same image"):
        explain(finished.tables, "photos/coffee.jpg", "photos/coffee.jpg")


def test_an_end_that_several_images_have_is_an_error(finished: FinishedRun) -> None:
    with pytest.raises(ConfigError, match="give a longer part of it"):
        explain(finished.tables, ".jpg", "moon.png")


@pytest.mark.parametrize("uris", [["a"], ["a", "b", "c"]])
def test_other_than_two_images_are_refused_before_spark_starts(
    uris: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for uri in uris for word in ("--uri", uri)]
    assert main(["explain", *words, "--tables", str(tmp_path)]) == 2
    assert "expected --uri twice" in capsys.readouterr().err
