"""What the plan's tasks do on executors, and what is made of a sample on the driver: no Spark here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tiny_lake import TinyLake, build_tiny_lake

from dedup_spark.commands.plan import plan as planning
from dedup_spark.commands.plan import sample
from dedup_spark.commands.plan.core_rates import ToWeigh
from dedup_spark.commands.plan.estimates import SampleCounts, estimate
from dedup_spark.commands.plan.expected_pairs import near_in
from dedup_spark.commands.plan.forecast import Prices, Rates, SparkCluster, Workload, forecast
from dedup_spark.commands.plan.plan import Plan
from dedup_spark.commands.plan.speed import _core_batches, _demands
from dedup_spark.commands.plan.text import describe_plan, paper_markdown, plan_json
from dedup_spark.config import Config, ExtractSettings, load_config
from dedup_spark.kernels.features.signature import SignatureSettings
from dedup_spark.kernels.joins.sketches import NEGATIVES
from dedup_spark.models.registry import resolve
from dedup_spark.sources.base import Address
from dedup_spark.spark.gpus import TaskShare
from dedup_spark.stages.reading.embedding import ModelTask
from dedup_spark.stages.reading.read_ahead import TaskSettings

ADDRESS = ("image_id", "object_version", "uri", "member", "location", "position", "size_bytes")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> TinyLake:
    return build_tiny_lake(tmp_path_factory.mktemp("plan") / "lake")


class FolderSource:
    """Reads files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fetch(self, address: Address, max_bytes: int = 2**31 - 1) -> bytes:
        return (self.folder / address.uri).read_bytes()


def settings_for(source: Any, embedding: str) -> TaskSettings:
    has_model = embedding != "off"
    extract = dataclasses.replace(ExtractSettings(), embedding=embedding)
    signature = SignatureSettings(400_000_000, 16, 256, 80, 256 if has_model else 0)
    model = ModelTask(resolve(extract, on_gpu=False, threads=1), TaskShare(1, 0.0)) if has_model else None
    return TaskSettings(source, signature, extract, model, "planned", 1)


def batch_of(paths: list[str]) -> pa.RecordBatch:
    kinds = [pa.int64(), pa.int64(), pa.string(), pa.string(), pa.string(), pa.int64(), pa.int64()]
    rows = [{"image_id": i, "object_version": 1, "uri": path} for i, path in enumerate(paths)]
    return pa.RecordBatch.from_pylist(rows, schema=pa.schema(list(zip(ADDRESS, kinds, strict=True))))


@pytest.mark.parametrize("embedding", ["off", "sscd_distilled"])
def test_every_image_of_a_sample_is_a_row_with_its_share_of_the_time(lake: TinyLake, embedding: str) -> None:
    paths = [*list(lake.truth)[:5], *list(lake.rejects)[:2]]
    settings = settings_for(FolderSource(lake.folder), embedding)
    made = pa.Table.from_batches(list(sample._timed_batches([batch_of(paths)], settings)))
    assert made.schema == sample._READ.arrow
    assert made["status"].to_pylist() == ["ok"] * 5 + ["rejected"] * 2
    assert min(made["busy_seconds"].to_pylist()) > 0
    assert [t is not None for t in made["thumbnail"].to_pylist()] == [True] * 5 + [False] * 2
    assert [e is not None for e in made["embedding"].to_pylist()] == [embedding != "off"] * 5 + [False] * 2


def test_a_core_says_its_rates_in_one_row() -> None:
    batches = [pa.RecordBatch.from_pydict({"id": [0]})]
    [row] = _core_batches(batches, settings_for(None, "off"), [(0.7, 0.999)], NEGATIVES, ToWeigh([], []))
    [rates] = row.to_pylist()
    assert [rates[name] for name in ("embed_seconds", "describe_seconds", "weigh_seconds")] == [None] * 3
    assert min(rates["exact_pair_ns"], rates["sketch_pair_ns"]) > 0


def test_sketches_must_meet_the_threshold_and_the_floor() -> None:
    match = load_config(None, ["match.min_similarity=0.4", "match.floor_similarity=0.3"]).match
    assert _demands(match) == [(0.4, match.min_recall), (0.3, match.floor_recall)]
    assert _demands(dataclasses.replace(match, neighbours=0)) == [(0.4, match.min_recall)]


def test_near_pairs_are_estimated_among_distinct_pictures() -> None:
    rows = np.eye(6, dtype="<f2")[[0, 0, 1, 2, 3, 4]]
    ok = pa.table({
        "content_hash": list("abcdef"),
        "pixel_hash": ["p", "p", "q", "r", "s", "t"],  # the first two are one picture
        "model_id": ["sscd_distilled/1"] * 6,
        "embedding": [row.tobytes() for row in rows],
    })  # fmt: skip
    found = planning.estimate_duplicates(ok, 6, near_in(ok, 6, Config(), (0.5, 0.9)), (0.5, 0.9))
    assert list(found) == ["same bytes", "same pixels", "cosine >= 0.9", "cosine >= 0.5"]
    assert found["same pixels"].pairs.value == 1
    assert found["cosine >= 0.5"].pairs.value == 0


UNDECODED = "12 files named .svg will be unsupported_format: dedup_spark has no decoder for SVG"


def a_plan(n_sample: int) -> Plan:
    clusters = (SparkCluster(1, 2), SparkCluster(100, 16, 1))
    prices = Prices(0.05, 5.0)
    lake = Workload(1_000_000, 10**11, 990_000, 5000, n_weighed=4000, n_described=7000)
    seen = SampleCounts(3, 0, 6, 3, ((n_sample // 2, 1), (n_sample, 3)))
    costs = [(c, forecast(lake, c, Rates(), prices)) for c in clusters]
    duplicates = {"cosine >= 0.45": estimate(seen, n_sample, 1_000_000)}
    return Plan(1_000_000, 10**11, 990_000, n_sample, {"truncated": 4}, [UNDECODED], False, Rates(),
                ("embed_seconds",), duplicates, lake, costs, prices)  # fmt: skip


def test_the_text_says_lake_sample_duplicates_and_costs() -> None:
    text = describe_plan(a_plan(400))
    for words in ("1,000,000 images, 100 GB", "truncated 4", UNDECODED, "cosine >= 0.45",
                  "this cluster: 1 node of 2 cores", "cluster: 100 nodes of 1 GPU and 16 cores", "match (routed) *",
                  "about 5,000 pairs", "4,000 of them, of 7,000 images", "dollars",
                  "--set plan.sample_images="):  # fmt: skip
        assert words in text, words
    assert max(len(line) for line in text.splitlines()) < 160


def test_the_json_holds_every_number_of_the_text() -> None:
    record = json.loads(plan_json(a_plan(400)))
    assert record["n_images"] == 1_000_000
    assert record["duplicates"]["cosine >= 0.45"]["pairs"]["low"] > 0
    assert record["undecodable"] == [UNDECODED]
    small, large = record["clusters"]
    assert [s["step"] for s in small["steps"]].count("match") == 4
    assert large["total"]["gpu_hours"] > 0 == small["total"]["gpu_hours"]


def test_the_paper_has_a_table_for_each_cluster() -> None:
    text = paper_markdown(
        Workload(1000, 10**8, 900, 10), [SparkCluster(2, 4), SparkCluster(3, 16, 1)], Rates(), Prices(0.1, 2.0)
    )
    assert text.count("| step |") == 2
    assert "**1,000 images on 2 nodes of 4 cores**, at $0.1 per core-hour; 1 shard of 1.05 MB, 1 work item:" in text
