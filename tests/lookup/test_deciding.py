"""What is decided of pairs here and as Columns in the step cluster is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dedup_spark.config import Config
from dedup_spark.kernels.arrays import Int64
from dedup_spark.kernels.comparing.probability import Prior
from dedup_spark.lookup import deciding, proposing, run_pairs, snapshot
from dedup_spark.lookup.deciding import MOST_DECIDED, Judge, agreeing_frames
from dedup_spark.lookup.proposing import Candidates
from dedup_spark.lookup.weighing import Query
from dedup_spark.stages.cluster import evidence, guarded_images
from dedup_spark.stages.match import floors, hash_pairs
from dedup_spark.vocabulary import DecidedBy, Guard

PLAIN = {"luma_stddev": 50.0, "entropy_bits": 7.0, "sharpness": 500.0, "width_px": 40, "height_px": 30, "n_frames": 1,
         "pixel_hash": "0" * 64}  # fmt: skip


def test_numbers_that_steps_and_look_ups_share_are_equal() -> None:
    """The modules of the steps import Spark, which look-ups do without."""
    assert deciding._STROKES == guarded_images._STROKES
    assert (deciding._MAX_CHANGED, deciding._MAX_TWO_SIDED) == (
        guarded_images._MAX_CHANGED,
        guarded_images._MAX_TWO_SIDED,
    )
    assert run_pairs.MAX_CANDIDATES == evidence.MAX_CANDIDATES
    assert run_pairs.NEIGHBOURS == evidence.NEIGHBOURS
    assert run_pairs.NEIGHBOUR_SIMILARITY == evidence.NEIGHBOUR_SIMILARITY
    assert proposing._PARTS == hash_pairs._PHASH_PARTS
    assert snapshot._SKETCH_DEPTH == floors._FLOOR_DEPTH


def candidates(*rows: tuple[int, float, int]) -> Candidates:
    """(row, cosine, bits) each."""
    n = len(rows)
    similarity = np.array([r[1] for r in rows], np.float32)
    return Candidates(
        np.array([r[0] for r in rows], np.int64), similarity, np.array([r[2] for r in rows], np.int64),
        similarity.astype(np.float64) - 0.15, np.zeros(n, bool),
    )  # fmt: skip


class Facts:
    """Images of which only facts are known."""

    def __init__(self, facts: dict[int, dict[str, Any]]) -> None:
        self._facts = facts

    def thumbnail(self, row: int) -> bytes | None:
        return None

    def facts(self, row: int) -> dict[str, Any]:
        return {"image_id": row, "guard": None, "n_frames": 1} | self._facts.get(row, {})


class NoThumbnails:
    """Images of which none may be compared."""

    def described(self, row: int) -> Any:
        raise AssertionError(f"the thumbnail of {row} was asked for")

    def beside(self, row: int) -> Any:
        raise AssertionError(f"what is beside {row} was asked for")

    def content_keys(self, rows: Int64) -> Int64:
        return rows

    image_ids = content_keys


def test_without_a_calibration_the_cosine_decides_or_the_hash() -> None:
    judge = Judge(Config(), "unknown/1", max_weighed=10)
    found = candidates((1, 0.5, 40), (2, 0.4, 40), (3, np.nan, 3))
    decided = judge._by_likeness(Query(b"", PLAIN), candidates((2, 0.4, 40)), [Facts({}).facts(2)], Facts({}))
    assert decided.is_copy == [False]
    assert decided.copy_probability == [None]
    by = [DecidedBy.COSINE, DecidedBy.COSINE, DecidedBy.PHASH]
    with pytest.raises(ValueError, match="thumbnail"):  # copies are described, and this query has no thumbnail
        judge.decide(Query(b"", PLAIN), found, Facts({}), NoThumbnails())
    assert (
        judge._by_likeness(Query(b"", PLAIN), found.only(np.array([False, True, False])), [{}], Facts({})).decided_by
        == by[:1]
    )


def test_more_in_doubt_than_allowed_are_left_undecided() -> None:
    judge = Judge(Config(), "sscd/1", max_weighed=0)
    decided = judge.decide(Query(b"", PLAIN), candidates((1, 0.5, 40)), Facts({}), NoThumbnails())
    assert decided.decided_by == [DecidedBy.UNDECIDED]
    assert decided.is_copy == [False]


@pytest.mark.parametrize(
    ("facts", "guard"),
    [({"luma_stddev": 1.0}, Guard.BLANK), ({"entropy_bits": 1.0}, Guard.PLACEHOLDER),
     ({"entropy_bits": 4.0, "sharpness": 9000.0}, Guard.TEXT), ({}, None)],
)  # fmt: skip
def test_a_picture_that_shows_too_little_is_guarded(facts: dict[str, float], guard: Guard | None) -> None:
    assert deciding._guard(PLAIN | facts, 0, Config()) == guard


def test_a_picture_near_too_many_is_a_hub() -> None:
    assert deciding._guard(PLAIN, 1001, Config()) == Guard.HUB


FILM = {"n_frames": 3, "duration_ms": 100, "frame_phashes": [1, 2, 3]}
OTHER = {"n_frames": 3, "duration_ms": 100, "frame_phashes": [-1, -2, -3]}


def frames(query: dict[str, Any], known: dict[int, dict[str, Any]], near: bool = False) -> list[int]:
    found = candidates(*((row, 0.9, 3) for row in known))
    kept = agreeing_frames(query, found, Facts(known), lambda rows, others: np.full(len(rows), near))
    return found.rows[kept].tolist()


def test_films_are_joined_by_all_their_frames() -> None:
    assert frames(FILM, {1: FILM, 2: OTHER}) == [1]


def test_a_picture_is_joined_to_the_first_film_that_shows_it_and_its_copies() -> None:
    assert frames(PLAIN, {5: OTHER, 7: FILM, 6: OTHER, 9: {}}) == [5, 6, 9]


def test_a_film_is_joined_to_a_picture_that_no_other_film_shows() -> None:
    assert frames(FILM, {1: {}, 2: OTHER}, near=False) == [1]
    assert frames(FILM, {1: {}, 2: OTHER}, near=True) == []
    assert frames(FILM, {1: {}, 2: FILM}, near=True) == [1, 2]


def test_a_prior_that_was_fitted_to_the_lake_goes_before() -> None:
    from dedup_spark.config import load_config

    config = load_config(given={"cluster.prior": (-30.0, 0.0, 0.0, 0.0)})
    judge = Judge(config, "unknown/1", max_weighed=0)
    assert judge._prior == Prior(-30.0, 0.0, 0.0, 0.0)
    decided = judge.decide(Query(b"", PLAIN), candidates((1, 0.9, 40)), Facts({}), NoThumbnails())
    assert decided.is_copy == [False]
    assert decided.decided_by == [DecidedBy.COSINE]


@pytest.mark.parametrize("model", ["sscd/1", "unknown/1"])
def test_of_what_is_near_half_a_lake_a_few_hundred_are_looked_at(model: str) -> None:
    """The likeliest, and those in doubt; how many likely ones are left out is known."""
    rng = np.random.default_rng(5)
    cosine = np.concatenate([np.full(5_000, 0.99), rng.uniform(0.2, 0.97, 15_000)])
    found = candidates(*((row, s, 30) for row, s in enumerate(cosine.tolist())))
    keep, n_more = Judge(Config(), model, max_weighed=10).chosen(found)
    assert MOST_DECIDED <= keep.sum() <= MOST_DECIDED + 10
    assert keep[:5_000].sum() >= MOST_DECIDED
    assert 5_000 - MOST_DECIDED <= n_more < 20_000
    few, none_more = Judge(Config(), model, max_weighed=10).chosen(found.only(found.rows < 100))
    assert few.all()
    assert none_more == 0


def test_the_copies_that_are_left_out_count_where_a_picture_is_near_too_many() -> None:
    judge = Judge(Config(), "sscd/1", max_weighed=0)
    decided = judge.decide(Query(b"", PLAIN, n_more=2_000), candidates((1, 0.4, 40)), Facts({}), NoThumbnails())
    assert "hub" in (decided.guarded[0] or "")
