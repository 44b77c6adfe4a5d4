"""The plan of a lake: what it reads, what it leaves alone, and that its numbers are those of the lake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import FinishedRun
from fabricated import frame
from tiny_lake import TinyLake, build_tiny_lake

from dedup_spark.commands.plan import plan as planning
from dedup_spark.commands.plan.expected_pairs import near_in
from dedup_spark.commands.plan.forecast import parse_cluster
from dedup_spark.commands.plan.listing import ListingFacts, listing_facts
from dedup_spark.commands.plan.plan import make_plan
from dedup_spark.commands.plan.text import describe_plan, plan_json
from dedup_spark.config import Config, load_config
from dedup_spark.errors import ConfigError
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.draw import seeded_hash
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import FEATURES, IMAGES, RUNS
from dedup_spark.store.tables import Tables

QUICK = ["extract.embedding=sscd_distilled"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> TinyLake:
    return build_tiny_lake(tmp_path_factory.mktemp("plan") / "lake")


def run_of(tables: Tables, folder: Path, config: Config) -> Run:
    return Run(tables, config, open_source(str(folder), config.inventory).root, "planned")


def n_pairs(groups: list[tuple[str, ...]]) -> int:
    return sum(len(g) * (len(g) - 1) // 2 for g in groups)


@pytest.mark.slow
def test_a_sample_of_everything_counts_the_lake_and_leaves_only_its_mark(tables: Tables, lake: TinyLake) -> None:
    config = load_config(None, [*QUICK, "plan.sample_images=1000"])
    made = make_plan(tables.spark, config, run_of(tables, lake.folder, config), [parse_cluster("100xgpu")])

    assert made.n_images == len(lake.truth) + len(lake.rejects)
    assert made.n_sample == made.n_readable == len(lake.truth)
    assert sum(made.rejected.values()) == len(lake.rejects)
    same_bytes = made.duplicates["same bytes"].pairs
    assert same_bytes.low == same_bytes.value == same_bytes.high == n_pairs(lake.same_bytes)
    assert made.duplicates["same pixels"].pairs.value == n_pairs(lake.same_bytes) + n_pairs(lake.same_pixels)
    counts = [e.pairs.value for kind, e in made.duplicates.items() if kind.startswith("cosine")]
    assert counts == sorted(counts)  # a lower threshold finds more
    assert counts[-1] > 0
    assert tables.read(IMAGES).isEmpty()
    assert tables.read(FEATURES).isEmpty()
    assert not made.from_features
    marks = {(r["step"], r["status"]) for r in tables.read(RUNS).collect()}
    assert marks == {("plan", "started"), ("plan", "complete")}
    assert not list(Path(tables.root).glob("_staging/*"))
    assert {"decode_seconds", "embed_seconds", "sketch_pair_ns", "exact_pair_ns", "weigh_seconds"} <= set(made.measured)

    text = describe_plan(made)
    for word in ("this cluster", "100 nodes of 1 GPU and 16 cores", "match (exact)", "same bytes", "dollars"):
        assert word in text
    record = json.loads(plan_json(made))
    assert [c["gpus_per_node"] for c in record["clusters"]] == [0, 1]
    assert all(c["total"]["dollars"] > 0 for c in record["clusters"])


def test_rows_of_features_are_taken_where_they_are_there(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables(finished.tables.spark, str(shutil.copytree(finished.tables.root, tmp_path / "tables")))
    monkeypatch.setattr(planning, "of_images", lambda *_: pytest.fail("images were read"))
    config = load_config(None, ["plan.sample_images=10"])
    made = make_plan(tables.spark, config, run_of(tables, finished.lake.folder, config), [])
    assert made.from_features
    assert made.n_sample == len(finished.lake.truth)
    assert "decode_seconds" not in made.measured
    assert {"weigh_seconds", "describe_seconds"} <= set(made.measured)
    assert made.duplicates["same bytes"].pairs.value == n_pairs(finished.lake.same_bytes)


def test_the_draw_depends_on_the_seed_alone(finished: FinishedRun) -> None:
    images = finished.tables.read(IMAGES).select("image_id")

    def drawn(seed: int, n_parts: int) -> list[int]:
        rows = images.repartition(n_parts).orderBy(seeded_hash(seed), "image_id").limit(10).collect()
        return [r["image_id"] for r in rows]

    assert drawn(1, 1) == drawn(1, 5)
    assert drawn(1, 1) != drawn(2, 1)


def test_the_listing_bounds_byte_copies(tables: Tables) -> None:
    x, y = "0" * 31 + "a", "0" * 31 + "b"
    rows = [(100, x), (100, x), (100, None), (200, y), (300, None), (300, None), (300, None)]
    assert looked_at(tables, rows) == ListingFacts(7, 1400, most_pairs=6, most_images=6, least_pairs=1, least_images=2)
    assert looked_at(tables, [(100, x), (None, x)]) == ListingFacts(2, 200, None, None, 0, 0)


@pytest.mark.parametrize(
    ("uris", "etag", "n_pairs"),
    [
        (["s3://lake/1", "s3://lake/2"], f"{'0' * 32}-17", 1),  # written in parts
        (["s3://lake/1", "s3://other/2"], "0" * 32, 0),  # which may be encrypted otherwise
        (["abfss://lake@account/1", "abfss://lake@account/2"], "0x8DB0A1B2C3D4E5F", 0),  # a version token
        (["abfss://lake@account/1", "abfss://lake@account/2"], "0" * 32, 0),
        (["s3://lake/1", "s3://lake/2"], "6718a-4fa2", 0),  # made of time and size
        (["file:///lake/1", "file:///lake/2"], "0" * 32, 0),
    ],
)
def test_equal_etags_say_that_bytes_are_equal_only_where_they_are_md5_sums(
    uris: list[str], etag: str, n_pairs: int, tables: Tables
) -> None:
    assert looked_at(tables, [(100, etag), (100, etag)], uris).least_pairs == n_pairs


def looked_at(tables: Tables, rows: list[tuple[int | None, str | None]], uris: list[str] | None = None) -> ListingFacts:
    """Of images of these sizes and ETags, in one bucket unless `uris` say otherwise."""
    images = [
        {"uri": uris[i] if uris else f"s3://lake/{i}.jpg", "size_bytes": size_bytes, "etag": etag}
        for i, (size_bytes, etag) in enumerate(rows)
    ]
    return listing_facts(frame(tables.spark, IMAGES.schema, images))


def test_without_embeddings_only_equal_files_are_forecast() -> None:
    ok = pa.table({"content_hash": ["a", "a", "b"], "pixel_hash": ["p", "p", "p"],
                   "embedding": pa.array([None, None, None], pa.binary())})  # fmt: skip
    found = planning.estimate_duplicates(ok, 30, near_in(ok, 30, Config(), (0.5,)), (0.5,))
    assert list(found) == ["same bytes", "same pixels"]
    assert (found["same bytes"].seen.n_pairs, found["same pixels"].seen.n_pairs) == (1, 3)


def test_a_lake_of_which_nothing_can_be_read_has_no_plan(tables: Tables, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    for name in "abc":
        (tmp_path / "lake" / f"{name}.jpg").write_bytes(b"no image")
    config = load_config(None, ["extract.embedding=off"])
    with pytest.raises(ConfigError, match="a plan needs 2"):
        make_plan(tables.spark, config, run_of(tables, tmp_path / "lake", config), [])
