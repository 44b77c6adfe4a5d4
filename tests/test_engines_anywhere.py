"""Every engine finds the same pairs whatever the cluster, the files, the order of the rows and the size of shards."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fabricated import near_pairs
from match_anywhere import ENGINES, lake
from processes import ROOT, in_a_shell

PLACES = (("local[1]", 0, 5_000), ("local[3]", 2, 900), ("local-cluster[2,1,1024]", 6, 400))
"""Master, files besides the first and order of the rows, rows of a shard."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each place found, by engine."""
    said = []
    for master, seed, max_shard_rows in PLACES:
        folder = tmp_path_factory.mktemp("anywhere")
        script = Path(__file__).with_name("match_anywhere.py")
        command = [sys.executable, str(script), str(folder), master, str(seed), str(max_shard_rows)]
        done = in_a_shell(command, PYTHONPATH=str(ROOT), PYSPARK_PYTHON=sys.executable)
        assert done.returncode == 0, done.stderr[-4000:]
        said.append(json.loads(done.stdout.splitlines()[-1]))
    return said


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_finds_the_same_pairs_everywhere(found: list[dict[str, Any]], engine: str) -> None:
    first, *others = (place[engine] for place in found)
    assert len({place[engine]["n_shards"] for place in found}) == len(PLACES)
    for other in others:
        assert other["chosen"] == first["chosen"]
        assert other["pairs"] == first["pairs"]
        assert other["densities"] == first["densities"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_reads_each_file_once_whatever_the_number_of_items(found: list[dict[str, Any]], engine: str) -> None:
    """Vectors, and an eighth as much of rows, by each of the workers."""
    for place, n_workers in zip(found, (1, 1, 2), strict=True):
        assert 1.1 < place[engine]["read"] < 1.3 * n_workers


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sketch", "routed"])
def test_the_engines_that_may_miss_pairs_did(found: list[dict[str, Any]], engine: str) -> None:
    """Without this the test above would say nothing of which ones."""
    exact, some = ({(a, b) for a, b, _ in found[0][name]["pairs"]} for name in ("exact", engine))
    assert 0 < len(exact - some) < len(exact) / 2


@pytest.mark.slow
def test_the_exact_engine_finds_the_pairs_of_brute_force(found: list[dict[str, Any]]) -> None:
    ids, vectors = lake()
    near = {(a, b) for a, b, similarity in found[0]["exact"]["pairs"] if similarity >= 0.45}
    assert near == near_pairs(ids, vectors, 0.45)
