from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from dedup_spark.commands.plan.forecast import (
    CORES_PER_GPU,
    HOUR,
    Prices,
    Rates,
    SparkCluster,
    StepCost,
    Workload,
    forecast,
    is_compared_exactly,
    parse_cluster,
    shards_of,
    total,
)
from dedup_spark.errors import ConfigError
from dedup_spark.store.shards import rows_per_shard

BENCHMARKS = Path(__file__).resolve().parents[3] / "docs" / "benchmarks.md"
PRICES = Prices(0.05, 5.0)
LAKE = Workload(n_images=1_000_000, n_bytes=10**11, n_distinct=900_000, n_pairs=500_000)
TEN = SparkCluster(10, 16)
FREE = replace(Rates(), core_flop=1e30, step_seconds=0.0)  # nothing that does not grow with the work


def by_engine(steps: list[StepCost]) -> dict[str, StepCost]:
    return {s.engine or s.step: s for s in steps}


@pytest.mark.parametrize(
    ("text", "cluster"),
    [
        ("100x16cpu", SparkCluster(100, 16)),
        ("1x2cpu", SparkCluster(1, 2)),
        ("100xgpu", SparkCluster(100, CORES_PER_GPU, 1)),
        (" 8XGPU ", SparkCluster(8, CORES_PER_GPU, 1)),
    ],
)
def test_clusters_are_described_in_a_word(text: str, cluster: SparkCluster) -> None:
    assert parse_cluster(text) == cluster


@pytest.mark.parametrize("text", ["", "100", "x16cpu", "0x16cpu", "4x0cpu", "100x16", "100gpu", "-1xgpu", "1.5xgpu"])
def test_other_words_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="100x16cpu"):
        parse_cluster(text)


def test_the_sketch_engine_costs_half_the_matrix_times_its_rate() -> None:
    cost = by_engine(forecast(replace(LAKE, n_pairs=0), TEN, Rates(sketch_pair_ns=2.0), PRICES))["sketch"]
    assert cost.core_hours == pytest.approx(900_000 * 899_999 / 2 * 2e-9 / HOUR)
    assert cost.hours == pytest.approx(cost.core_hours / 160 + 2.5 * Rates().step_seconds / HOUR)
    assert cost.dollars == pytest.approx(cost.hours * 160 * 0.05)


def test_comparing_grows_with_the_square_and_reading_with_the_number() -> None:
    once, ten_times = (
        by_engine(forecast(Workload(n, 10**5 * n, n, 0), TEN, Rates(), PRICES)) for n in (10_000_000, 100_000_000)
    )
    assert ten_times["sketch"].core_hours == pytest.approx(100 * once["sketch"].core_hours, rel=1e-3)
    assert ten_times["extract"].core_hours == pytest.approx(10 * once["extract"].core_hours)
    assert ten_times["extract"].read_bytes == 10 * once["extract"].read_bytes


def test_twice_the_nodes_take_half_the_time_and_the_same_money() -> None:
    ten, twenty = (total(forecast(LAKE, SparkCluster(n, 16), FREE, PRICES)) for n in (10, 20))
    assert twenty.hours == pytest.approx(ten.hours / 2, rel=1e-6)
    assert twenty.dollars == pytest.approx(ten.dollars, rel=1e-6)


def test_the_quicker_of_the_engines_of_known_recall_is_chosen_and_alone_counted() -> None:
    steps = forecast(LAKE, TEN, Rates(), PRICES)
    engines = [s for s in steps if s.step == "match"]
    assert {s.engine for s in engines} == {"exact", "sketch", "routed", "faiss_ivf"}
    [chosen] = [s for s in engines if s.is_chosen]
    assert chosen.hours == min(s.hours for s in engines if s.engine in ("exact", "sketch"))
    others = sum(s.hours for s in steps if s.step != "match")
    assert total(steps).hours == pytest.approx(others + chosen.hours)


def test_a_gpu_cluster_compares_and_embeds_on_gpus_and_pays_for_them() -> None:
    steps = by_engine(forecast(LAKE, SparkCluster(10, 16, 1), Rates(), PRICES))
    assert steps["exact"].gpu_hours == pytest.approx(900_000**2 / 2 * Rates().gpu_pair_ns * 1e-9 / HOUR, rel=1e-3)
    assert steps["extract"].gpu_hours > 0
    assert steps["extract"].core_hours == pytest.approx((1e6 * 0.003 + 1e11 * 7.2e-8) / HOUR)
    assert steps["extract"].dollars == pytest.approx(steps["extract"].hours * 10 * 5.0)


def test_the_speeds_of_a_gpu_are_those_of_the_benchmarks() -> None:
    """SSCD's ResNet-50 in float16 at 224 px, in images per second; exact_gpu of a million vectors, in seconds."""
    page = BENCHMARKS.read_text().partition("## Speed on one H100")[2]
    images_per_second = float(
        re.findall(r"\| `sscd` \(ResNet-50\) \| fp16 \| 224 px \| ([\d,]+) ", page)[0].replace(",", "")
    )
    assert 1 / Rates().gpu_embed_seconds == pytest.approx(images_per_second, rel=0.05)
    seconds = float(re.findall(r"\| 1,000,000 \| [\d,]+ \| [\d.]+ \| [\d.]+ \| ([\d.]+) ", page)[0])
    assert Rates().gpu_pair_ns == pytest.approx(seconds * 1e9 / (1e6**2 / 2), rel=0.05)


def test_a_slow_network_bounds_the_reading() -> None:
    slow = by_engine(forecast(LAKE, TEN, replace(Rates(), node_bytes=1e6), PRICES))["extract"]
    assert slow.hours >= LAKE.n_bytes / (10 * 1e6) / HOUR
    assert slow.core_hours == by_engine(forecast(LAKE, TEN, Rates(), PRICES))["extract"].core_hours


@pytest.mark.parametrize("n", [1, 2])
def test_the_smallest_lakes_have_a_forecast(n: int) -> None:
    assert total(forecast(Workload(n, 100, n, 0), SparkCluster(1, 2), Rates(), PRICES)).hours > 0


def test_match_reads_each_shard_once_a_node_and_never_more_than_its_items_ask_for() -> None:
    lake = Workload(100_000_000, 10**13, 95_000_000, 10**8)
    for n_nodes in (1, 10, 100):
        cluster = SparkCluster(n_nodes, 16)
        shards = shards_of(lake, cluster)
        assert shards.n_rows == rows_per_shard(lake.n_distinct, cluster.n_cores, 65_536)
        assert shards.n_shards * shards.n_rows >= lake.n_distinct
        read = by_engine(forecast(lake, cluster, Rates(), PRICES))["sketch"].read_bytes
        assert read == n_nodes * shards.n_shards * shards.file_bytes
    few = replace(lake, n_distinct=10_000)
    shards = shards_of(few, SparkCluster(100, 16))
    assert by_engine(forecast(few, SparkCluster(100, 16), Rates(), PRICES))["sketch"].read_bytes == (
        (shards.n_items + shards.n_shards) * shards.file_bytes
    )


def test_thumbnails_are_paid_for_by_the_pairs_that_are_weighed_and_by_their_images() -> None:
    none, some = (
        by_engine(forecast(replace(LAKE, n_weighed=n, n_described=n // 4), TEN, Rates(), PRICES))["cluster, report"]
        for n in (0, 100_000)
    )
    rates, sent = Rates(), 0.8 * 100_000 * (12_600 + 60_000)
    of_pairs = 100_000 * rates.weigh_seconds + 25_000 * rates.describe_seconds + sent * rates.moved_byte_seconds
    assert some.core_hours - none.core_hours == pytest.approx(of_pairs / HOUR)
    assert none.read_bytes == 0
    assert some.read_bytes == pytest.approx(2 * 1_000_000 * 12_600)


def test_a_lake_that_is_cheap_to_compare_exactly_is_so_compared() -> None:
    of = {
        n: next(
            s.engine
            for s in forecast(Workload(n, 100 * n, n, 0), SparkCluster(1, 2), Rates(), PRICES)
            if s.step == "match" and s.is_chosen
        )
        for n in (30_000, 100_000)
    }
    assert of == {30_000: "exact", 100_000: "sketch"}
    assert is_compared_exactly(Workload(30_000, 1, 30_000, 0), Rates())
    assert not is_compared_exactly(Workload(30_000, 1, 30_000, 0, n_dimensions=2048), Rates())
