"""A look-up of an image says of its pairs what the run that holds it said: proposed, weighed, joined."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import pytest

from dedup_spark import read_table
from dedup_spark.kernels.comparing.probability import cut_for
from dedup_spark.lookup.answers import Found
from dedup_spark.lookup.lookup import Lookup
from dedup_spark.sources.addresses import to_path
from dedup_spark.vocabulary import IDENTICAL
from lookup.conftest import options

Pairs = dict[int, dict[int, dict[str, Any]]]


def by_image(rows: list[dict[str, Any]]) -> Pairs:
    found: Pairs = collections.defaultdict(dict)
    for row in rows:
        a, b = row["image_id_a"], row["image_id_b"]
        found[a][b] = found[b][a] = row
    return found


@pytest.fixture(scope="module")
def asked(finished_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[int, Found]]:
    """What look-ups of all representatives of the finished run found, by image_id; its own pixels are left out."""
    root = finished_root / "tables"
    features = read_table("features", tables=root, columns=["image_id", "pixel_hash", "status"]).to_pylist()
    first: dict[str, int] = {}
    for row in sorted((row for row in features if row["status"] == "ok"), key=lambda row: row["image_id"]):
        first.setdefault(row["pixel_hash"], row["image_id"])
    images = read_table("images", tables=root, columns=["image_id", "uri", "member"]).to_pylist()
    paths = {row["image_id"]: to_path(row["uri"]) for row in images if row["member"] is None}
    found = {}
    with Lookup.open(root, options(tmp_path_factory.mktemp("agreement"), max_weighed=1000)) as lookup:
        for image_id in first.values():
            answer = lookup.lookup(Path(paths[image_id]).read_bytes(), exhaustive=True, others=True)
            near = [one for one in (*answer.copies, *answer.others) if one.decided_by not in _BY_HASH]
            found[image_id] = {one.image_id: one for one in near if one.image_id is not None}
    return found


_BY_HASH = ("content_hash", "pixel_hash")


def test_the_pairs_are_those_of_match(finished_root: Path, asked: dict[int, dict[int, Found]]) -> None:
    rows = read_table("pairs", tables=finished_root / "tables").to_pylist()
    pairs = by_image([row for row in rows if row["method"] not in IDENTICAL])
    n_pairs = n_missed = n_more = 0
    for image_id, found in asked.items():
        expected = {other for other, row in pairs[image_id].items() if (row["similarity"] or 1) >= 0.16}
        n_pairs, n_missed = n_pairs + len(expected), n_missed + len(expected - set(found))
        n_more += len({other for other, one in found.items() if (one.similarity or 1) >= 0.16} - set(pairs[image_id]))
    assert n_pairs > 100
    assert (n_missed, n_more) == (0, 0)


def test_what_the_run_joins_is_a_copy_and_what_it_refuses_is_none(
    finished_root: Path, asked: dict[int, dict[int, Found]]
) -> None:
    """Which of the two is the query image decides in which direction they are aligned: a few numbers differ by that."""
    rows = read_table("evidence", tables=finished_root / "tables").to_pylist()
    evidence = by_image([row for row in rows if row["compared_for"] == "match"])
    cut, n_pairs, n_other = cut_for(0.99), 0, 0
    for image_id, found in asked.items():
        for other, one in found.items():
            row = evidence[image_id].get(other)
            joined = row is not None and row["copy_probability"] >= cut
            n_pairs, n_other = n_pairs + 1, n_other + (joined != one.is_copy and "guarded" not in one.why)
            assert row is None or row["decided_by"] == one.decided_by
    assert n_other <= 0.002 * n_pairs
