"""What a plan expects of a lake that has copies and a crowd, beside what is counted in the whole of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from fabricated import to_bytes, unit_rows

from dedup_spark.commands.plan.expected_pairs import ExpectedPairs, NearInSample, cosines, expected_pairs, near_in
from dedup_spark.config import Config, load_config
from dedup_spark.kernels.arrays import Float32

N_LAKE, N_PAIRS, N_CROWD = 6_000, 300, 200
MODEL = "sscd_distilled/1"


@pytest.fixture(scope="module")
def lake() -> Float32:
    """Strangers, 300 couples at cosine 0.8 and 200 images at 0.3 to each other; in random order."""
    rng = np.random.default_rng(5)
    x = unit_rows(rng.standard_normal((N_LAKE, 512)).astype(np.float32))
    x[N_PAIRS : 2 * N_PAIRS] = at_cosine(x[:N_PAIRS], x[N_PAIRS : 2 * N_PAIRS], 0.8)
    crowd = slice(2 * N_PAIRS, 2 * N_PAIRS + N_CROWD)
    x[crowd] = at_cosine(unit_rows(rng.standard_normal((1, 512))), x[crowd], np.sqrt(0.3))
    return np.asarray(x[rng.permutation(N_LAKE)], np.float32)


def at_cosine(to: Float32, other: Float32, cosine: float) -> Float32:
    across = unit_rows(other - (other * to).sum(axis=1, keepdims=True) * to)
    return np.asarray(cosine * to + np.sqrt(1 - cosine**2) * across, np.float32)


def near_of(lake: Float32, config: Config, model: str = MODEL) -> NearInSample:
    ok = pa.table({
        "pixel_hash": [str(i) for i in range(len(lake))],
        "model_id": [model] * len(lake),
        "embedding": pa.array([bytes(to_bytes(row)) for row in lake], pa.binary()),
    })  # fmt: skip
    seen = near_in(ok, N_LAKE, config, ())
    assert seen is not None
    return seen


def expected(lake: Float32, n_sample: int, *options: str, model: str = MODEL) -> ExpectedPairs:
    config = load_config(None, list(options))
    seen = near_of(lake[:n_sample], config, model)
    return expected_pairs(seen, N_LAKE, config, cosines(seen, N_LAKE, config, exact=False))


@pytest.mark.parametrize("n_sample", [3_000, N_LAKE])
def test_an_image_of_a_crowd_counts_by_the_places_of_its_list_and_copies_by_their_pairs(
    lake: Float32, n_sample: int
) -> None:
    found = expected(lake, n_sample)
    of_crowd = 0.64 * Config().match.neighbours * N_CROWD
    assert found.weighed == pytest.approx(N_PAIRS + of_crowd, rel=0.15)
    assert found.kept == found.weighed
    assert found.described == pytest.approx(2 * N_PAIRS + N_CROWD, rel=0.25)


def test_without_lists_of_neighbours_only_pairs_above_the_threshold_count(lake: Float32) -> None:
    found = expected(lake, N_LAKE, "match.neighbours=0")
    assert (found.kept, found.weighed, found.described) == (N_PAIRS, N_PAIRS, 2 * N_PAIRS)


def test_the_budget_of_pairs_is_kept(lake: Float32) -> None:
    found = expected(lake, N_LAKE, "cluster.max_verified_pairs=500")
    assert found.weighed == 500
    assert found.described == expected(lake, N_LAKE).described  # the pairs of few images are left out
    assert expected(lake, N_LAKE, "cluster.max_verified_pairs=100").described == 200


def test_a_model_without_a_prior_has_pairs_and_none_in_doubt(lake: Float32) -> None:
    found = expected(lake, 3_000, model="other/1")
    assert found.kept > 0
    assert (found.weighed, found.described) == (0, 0)


def test_only_pairs_in_doubt_are_weighed(lake: Float32) -> None:
    """By this prior doubt begins at 0.64, above what match keeps; by that no pair of the lake is in doubt."""
    found = expected(lake, N_LAKE, "cluster.prior=[-30.0, 40.0, 0.0, 0.0]")
    assert found.kept > N_PAIRS
    assert found.weighed == pytest.approx(N_PAIRS, rel=0.01)
    assert expected(lake, N_LAKE, "cluster.prior=[-50.0, 50.0, 0.0, 0.0]").weighed == 0


def test_where_nothing_may_be_weighed_no_cosine_is_doubted(lake: Float32) -> None:
    config = load_config(None, ["cluster.max_verified_pairs=0"])
    seen = near_of(lake[:2_000], config)
    of = cosines(seen, N_LAKE, config, exact=False)
    assert of.doubted is None
    assert expected_pairs(seen, N_LAKE, config, of).weighed == 0


def test_an_exact_join_keeps_more_and_a_crowd_raises_its_floor(lake: Float32) -> None:
    config = Config()
    seen = near_of(lake[:2_000], config)
    exact, other = (cosines(seen, N_LAKE, config, exact=exact).kept for exact in (True, False))
    assert (exact, other) == (0.15, 0.3)
    assert cosines(seen, 1_000_000_000, config, exact=True).kept > 0.3


def test_images_are_drawn_as_those_of_pairs_in_doubt_are_made_up(lake: Float32) -> None:
    """A tenth of the couples is in a third of the lake; of the crowd a third is."""
    sample = lake[:2_000]
    seen = near_of(sample, Config())
    in_crowd = (sample @ sample.T >= 0.23).sum(axis=1) > 3
    described = [row for seed in range(20) for row in seen.to_describe(10, 0.24, 32, seed)]
    assert np.mean(in_crowd[described]) == pytest.approx(200 / (200 + 600), abs=0.12)
    queries = [query for seed in range(20) for query in seen.to_weigh(5, 0.24, 32, seed)]
    assert np.mean(in_crowd[[query[0] for query in queries]]) == pytest.approx(6400 / 7000, abs=0.1)
    for query in queries:
        assert len(set(query)) == len(query)
        assert min(float(lake[query[0]] @ lake[other]) for other in query[1:]) > 0.23
    assert seen.to_weigh(5, 0.24, 32, 1) == seen.to_weigh(5, 0.24, 32, 1)
    assert seen.to_weigh(5, 0.24, 0, 1), "where all pairs are kept no image is left out"
