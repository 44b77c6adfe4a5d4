"""Each image of a few is looked up among the others: the thumbnails say what they say in a run that holds them all."""

from __future__ import annotations

import functools
import hashlib
import itertools
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from photos import Grey, cropped, framed, photo, reencoded, rotated, with_sticker
from stages.cluster.test_evidence_task import SCHEMA

from dedup_spark.kernels.arrays import Int64
from dedup_spark.kernels.comparing.query_images import NEIGHBOURS, content_key, is_query
from dedup_spark.kernels.comparing.weighing import Thumbnail
from dedup_spark.lookup import weighing
from dedup_spark.lookup.proposing import Candidates
from dedup_spark.lookup.run_pairs import Beside, beside_columns, numbers
from dedup_spark.lookup.weighing import Query, Weighing, Weights, weigh_pairs
from dedup_spark.stages.cluster.evidence_task import verify_batches

PICTURES: list[Grey] = [
    photo(1), reencoded(photo(1), 25), rotated(photo(1), 20), with_sticker(photo(1), 1), cropped(photo(1), 0.6),
    *(framed(photo(i)) for i in (0, 3, 4, 5)), framed(photo(1)), photo(2),
]  # fmt: skip
N = len(PICTURES)
HASHES = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in PICTURES]
KEYS = np.array([content_key(text) for text in HASHES])
IDS = np.arange(N) * 10
BITS, PRIOR = 20, 0.5
_cosines = np.random.default_rng(3).uniform(0.3, 0.8, (N, N)).astype(np.float32)
COSINES = np.maximum(_cosines, _cosines.T)
COSINES[1, 0] = COSINES[0, 1] = 0.99
PAIRS = [*itertools.combinations(range(N), 2)]


@pytest.fixture(scope="module")
def jpegs() -> list[bytes]:
    return [cv2.imencode(".jpg", picture)[1].tobytes() for picture in PICTURES]


def bits_of(a: int, b: int) -> int:
    return 2 if {a, b} == {0, 1} else BITS


@pytest.fixture(scope="module")
def of_run(jpegs: list[bytes]) -> dict[tuple[int, int], dict[str, Any]]:
    """Rows of VERIFIED of a run that holds all, whose queries are those of stages/cluster/evidence.py."""
    rows: list[dict[str, Any]] = [
        {"part": 0, "image_id": int(i), "thumbnail": jpeg} for i, jpeg in zip(IDS, jpegs, strict=True)
    ]
    for row in range(N):
        others = sorted((o for o in range(N) if o != row), key=lambda o: (-COSINES[row, o], IDS[o]))
        asked = [o for o in others if is_query(int(KEYS[row]), int(KEYS[o]))]
        scores = [
            {"prior": PRIOR, "hamming_bits": bits_of(row, o), "is_sure": bits_of(row, o) == 2} for o in asked
        ]  # fmt: skip
        near = [int(IDS[o]) for o in others[:NEIGHBOURS]]
        rows.append({"part": 0, "query_id": int(IDS[row]), "chunk": 0, "candidates": [int(IDS[o]) for o in asked],
                     "scores": scores, "neighbours": near})  # fmt: skip
    batches = pa.Table.from_pylist(rows, schema=SCHEMA).to_batches()
    found = (row for batch in verify_batches(batches) for row in batch.to_pylist())
    return {(r["image_id_a"] // 10, r["image_id_b"] // 10): r for r in found}


@functools.cache
def thumbnail(jpeg: bytes) -> Thumbnail:
    """Described once for all tests."""
    return Thumbnail(jpeg)


class Lake:
    """The pictures as a library, with what the run says of them; `is_added`: none of them was in a run."""

    def __init__(self, jpegs: list[bytes], of_run: dict[tuple[int, int], dict[str, Any]], is_added: bool = False):
        self._jpegs, self._is_added = jpegs, is_added
        inliers = pa.array([of_run[pair]["n_inliers"] for pair in PAIRS], pa.int32())
        evidence = pa.table({"similarity": pa.array([COSINES[pair] for pair in PAIRS]), "n_inliers": inliers})
        a, b = (np.array(side) for side in zip(*PAIRS, strict=True))
        self._lists = beside_columns(evidence, a, b, IDS, KEYS)

    def described(self, row: int) -> Thumbnail:
        return thumbnail(self._jpegs[row])

    def content_keys(self, rows: Int64) -> Int64:
        return KEYS[rows]

    def image_ids(self, rows: Int64) -> Int64:
        return IDS[rows]

    def beside(self, row: int) -> Beside | None:
        if self._is_added:
            return None
        candidates, similarity = numbers(self._lists["candidates"], row)
        sure = np.array([bits_of(row, o) == 2 for o in candidates.tolist()], bool)
        return Beside(candidates, similarity, sure, *numbers(self._lists["nearest"], row))


def looked_up(row: int, lake: Lake, jpegs: list[bytes], most_votes: int = 400) -> tuple[list[int], Weights]:
    others = np.array([o for o in range(N) if o != row])
    bits = np.array([bits_of(row, int(o)) for o in others])
    found = Candidates(others, COSINES[row, others], bits, np.zeros(N - 1), np.zeros(N - 1, bool))
    query = Query(jpegs[row], {"pixel_hash": HASHES[row]}, frozenset({row}))
    scored = np.full(N - 1, PRIOR), np.ones(N - 1, bool)
    return others.tolist(), weigh_pairs(query, found, scored, lake, Weighing(most_votes=most_votes))


@pytest.mark.parametrize("row", range(N))
def test_a_look_up_weighs_every_pair_as_the_run_did(
    row: int, jpegs: list[bytes], of_run: dict[tuple[int, int], dict[str, Any]]
) -> None:
    others, weights = looked_up(row, Lake(jpegs, of_run), jpegs)
    assert weights.known.all()
    for k, other in enumerate(others):
        expected = of_run[min(row, other), max(row, other)]
        assert weights.copy_probability[k] == pytest.approx(expected["copy_probability"], abs=1e-6)
        assert weights.conclusive[k] == expected["conclusive"]
        own, theirs = ("covered_a", "covered_b") if row < other else ("covered_b", "covered_a")
        measured = dict(weights.columns[k])
        named = {"covered_query": own, "covered_other": theirs}
        assert {named.get(name, name): value for name, value in measured.items()} == pytest.approx(
            {named.get(name, name): expected[named.get(name, name)] for name in measured}
        )


def test_of_what_was_added_since_the_run_the_image_that_is_looked_up_is_the_query_image(
    jpegs: list[bytes], of_run: dict[tuple[int, int], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("nothing is known of what is beside it")

    monkeypatch.setattr(weighing._Weigher, "as_candidate", never)
    assert looked_up(0, Lake(jpegs, of_run, is_added=True), jpegs)[1].known.all()


def test_beyond_so_many_votes_pairs_are_weighed_at_the_image_that_is_looked_up(
    jpegs: list[bytes], of_run: dict[tuple[int, int], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_at_lake: list[int] = []
    weigh_one = weighing._Weigher.as_candidate
    monkeypatch.setattr(
        weighing._Weigher, "as_candidate", lambda self, k, beside: n_at_lake.append(k) or weigh_one(self, k, beside)
    )
    row = max(range(N), key=lambda r: sum(not is_query(int(KEYS[r]), int(KEYS[o])) for o in range(N) if o != r))
    counts = []
    for most in (0, 1, 400):
        n_at_lake.clear()
        assert looked_up(row, Lake(jpegs, of_run), jpegs, most)[1].known.all()
        counts.append(len(n_at_lake))
    assert 0 == counts[0] < counts[1] < counts[2]
