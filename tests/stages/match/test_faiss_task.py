"""Tasks of faiss_ivf, without Spark: on a GPU that works, on one that fails, and what is said and measured of it."""

from __future__ import annotations

import gc
import logging
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fabricated import families, near_pairs, random_ids, write_shards
from faiss_gpus import Library

from dedup_spark.config import load_config
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.faiss_index import fill_index, train_index
from dedup_spark.kernels.joins import faiss_ivf
from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.faiss_device import FaissGpu, open_gpu
from dedup_spark.kernels.joins.faiss_ivf import SearchCounts, SearchLimits
from dedup_spark.kernels.vectors import nearest_cells, train_centroids
from dedup_spark.stages.match import faiss_report, faiss_task, gpu, survey_task
from dedup_spark.stages.match import task as match_tasks
from dedup_spark.stages.match.faiss_task import FaissSettings
from dedup_spark.stages.match.survey_task import RANK_BINS, SurveySettings, survey_shard
from dedup_spark.stages.match.task import JoinSettings
from dedup_spark.stages.match.work_items import FILES
from dedup_spark.store import shards

RNG = np.random.default_rng(21)
VECTORS = families([6] * 50, 0.75, RNG)[RNG.permutation(300)]
IDS = random_ids(300, RNG)


@pytest.fixture(autouse=True)
def nothing_in_memory() -> None:
    shards._kept.clear()
    faiss_task._given_up.clear()
    faiss_task._copies.clear()


def hold(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    """Tasks hold GPU 0 of this library."""

    def gpu_of_task(share: float) -> FaissGpu:
        return open_gpu("cuda:0", library)

    for module in (faiss_task, gpu):
        monkeypatch.setattr(module, "gpu_of_task", gpu_of_task)


def join(root: Path, k: int, without_gpu: str = "cpu", on_gpu: bool = True) -> list[dict[str, Any]]:
    files = write_shards(root, IDS, VECTORS, [170, 130])
    settings = JoinSettings(
        str(root), "faiss_ivf", 0.45, 0.45, 0, None, 0.0,
        FaissSettings(SearchLimits(1, k, 0.45, 0.45), without_gpu, on_gpu), 1, 200, 1.0,
    )  # fmt: skip
    items = [
        {"item": n} | {f"{side}_{c}": files[which][c] for side, which in (("a", a), ("b", b)) for c in FILES}
        for n, (a, b) in enumerate([(0, 0), (0, 1), (1, 1)])
    ]  # fmt: skip
    batches = list(match_tasks.join_items([pa.RecordBatch.from_pylist(items)], settings))
    return pa.Table.from_batches(batches, schema=match_tasks.JOINED.arrow).to_pylist()


def pairs_of(found: list[dict[str, Any]]) -> set[tuple[int, int]]:
    return {(r["image_id_a"], r["image_id_b"]) for r in found if r["item"] is None}


def ends_of(found: list[dict[str, Any]], name: str) -> list[Any]:
    return [r[name] for r in found if r["item"] is not None]


@pytest.mark.parametrize("k", [0, 4, 64])
def test_a_gpu_finds_what_brute_force_finds_and_counts_what_it_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    library = Library()
    hold(monkeypatch, library)
    found = join(tmp_path, k)
    assert pairs_of(found) == near_pairs(IDS, VECTORS, 0.45)
    assert (sum(ends_of(found, "n_full_queries")) > 0) == (k == 4)
    assert ends_of(found, "gave_up_gpu") == [None] * 3
    assert library.n_copies == 2  # one of each shard, for all items


@pytest.mark.parametrize(
    ("library", "why"),
    [
        (SimpleNamespace(__version__="1.15.1", get_num_gpus=lambda: 0), "FAISS 1.15.1 here was built for CPUs"),
        (Library(0), "sees 0 GPUs here, and the task holds GPU 0"),
        (Library(is_full=True), "GPU 0 did not take a copy of an index (IndexIVFScalarQuantizer, "),
        (Library(most_queries=1), "its memory is full"),
    ],
)
def test_a_gpu_that_faiss_cannot_use_is_said_and_the_cpu_finds_the_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Any, why: str
) -> None:
    hold(monkeypatch, library)
    found = join(tmp_path, 0)
    assert pairs_of(found) == near_pairs(IDS, VECTORS, 0.45)
    assert all(why in said for said in ends_of(found, "gave_up_gpu"))


@pytest.mark.parametrize("n_searches", range(9))
def test_a_gpu_that_fails_within_an_item_leaves_the_other_queries_to_the_cpu_and_no_pair_is_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_searches: int
) -> None:
    """The items have 2, 2 + 2 and 2 searches: with 8 the GPU answers all that it is asked."""
    for queries in ("_QUERIES", "_GPU_QUERIES"):
        monkeypatch.setattr(faiss_ivf, queries, 100)
    hold(monkeypatch, Library())
    unhurt = join(tmp_path, 0)
    faiss_task._copies.clear()
    hold(monkeypatch, Library(n_searches=n_searches))
    found = join(tmp_path, 0)
    assert pairs_of(found) == pairs_of(unhurt) == near_pairs(IDS, VECTORS, 0.45)
    across = [sorted((r["image_id_a"], r["image_id_b"]) for r in rows if r["item"] is None) for rows in (found, unhurt)]
    assert across[0] == across[1]  # as often as without a failure
    assert (ends_of(found, "gave_up_gpu") == [None] * 3) == (n_searches == 8)


def test_a_gpu_that_faiss_cannot_use_stops_the_task_where_the_setting_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(monkeypatch, Library(is_full=True))
    with pytest.raises(
        ConfigError, match=r"^match\.faiss_without_gpu=stop: GPU 0 did not take .*memory is full.*=cpu to"
    ):
        join(tmp_path, 0, without_gpu="stop")


def test_a_task_without_a_gpu_asks_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(monkeypatch, None)
    assert pairs_of(join(tmp_path, 0, on_gpu=False)) == near_pairs(IDS, VECTORS, 0.45)


def test_a_worker_that_gave_its_gpu_up_asks_it_no_more_in_this_join_and_keeps_nothing_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item of two shards does not fit: those of one do before it, and are not tried after it."""
    library = Library(most_copies=1)
    hold(monkeypatch, library)
    assert pairs_of(join(tmp_path, 0)) == near_pairs(IDS, VECTORS, 0.45)
    assert (library.n_copies, library.n_refused, len(faiss_task._copies)) == (1, 1, 0)
    found = join(tmp_path, 0)
    assert (library.n_copies, library.n_refused) == (1, 1)
    assert all("its memory is full" in said for said in ends_of(found, "gave_up_gpu"))
    join(tmp_path, 7)  # asks for something else
    assert (library.n_copies, library.n_refused) == (2, 2)


def test_copies_of_other_shards_make_room_before_a_gpu_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(most_copies=2)
    hold(monkeypatch, library)
    for part in range(3):
        found = join(tmp_path / str(part), 0, without_gpu="stop")
        assert pairs_of(found) == near_pairs(IDS, VECTORS, 0.45)
        assert ends_of(found, "gave_up_gpu") == [None] * 3
    assert (library.n_refused, len(faiss_task._copies)) == (2, 2)


def test_a_worker_keeps_copies_of_many_shards_on_its_gpu_and_the_vectors_of_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, blocks = Library(), weakref.WeakSet[Block]()
    hold(monkeypatch, library)
    for part in range(5):
        row = write_shards(tmp_path / str(part), IDS, VECTORS, [300])[0]
        named = shards.ShardFiles.of(row)
        shard = shards.read_shard.__wrapped__(str(tmp_path / str(part)), named, with_index=True)
        blocks.add(shard.block)
        settings = FaissSettings(SearchLimits(1, 0, 0.45, 0.45), on_gpu=True)
        assert list(faiss_task.search_shards(shard, None, settings, 1.0, SearchCounts()))
        del shard
    gc.collect()
    assert (library.n_copies, len(faiss_task._copies), len(blocks)) == (5, 5, 0)
    assert faiss_task._copies.currsize == 5 * 300 * (2 * VECTORS.shape[1] + 8)


# --- what is measured


def test_a_search_on_the_gpu_is_timed_and_a_gpu_that_is_not_usable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = write_shards(tmp_path, IDS, VECTORS, [300])
    shard = shards.read_shard(str(tmp_path), shards.ShardFiles.of(row), with_index=True)
    hold(monkeypatch, Library())
    ns, why = gpu.faiss_on_gpu(shard, 1.0, 0)
    assert why == ""
    assert ns is not None
    assert ns > 0
    hold(monkeypatch, Library(0))
    ns, why = gpu.faiss_on_gpu(shard, 1.0, 0)
    assert ns is None
    assert "sees 0 GPUs" in why


def surveyed(root: Path, index_type: str) -> list[dict[str, Any]]:
    """Rows of the survey of one shard with an index of this type."""
    (row,) = write_shards(root, IDS, VECTORS, [300])
    if index_type != "IVF,SQfp16":
        block = shards.read_shard(str(root), shards.ShardFiles.of(row)).block
        x = block.unit_vectors(slice(None))
        index = fill_index(train_index(index_type, x[:1], x), block.ids, x, block.cells, x[:1])
        row |= {"index_path": "other.faiss", "index_sha256": shards.write_index(str(root), "other.faiss", index)}
    shard = shards.read_shard(str(root), shards.ShardFiles.of(row), with_index=True)
    settings = SurveySettings(str(root), 0.45, 0.3, 2, 1, faiss_k=0)
    batches = survey_shard(shard, np.array(IDS[:60]), VECTORS[:60].astype("f2"), settings, times_sketches=True)
    return pa.Table.from_batches(list(batches)).to_pylist()


@pytest.mark.parametrize(("index_type", "least", "most"), [("IVF,SQfp16", -0.001, 0.001), ("PQ8", 0.01, 1.0)])
def test_the_survey_measures_how_far_the_scores_of_faiss_lie_below_cosines(
    tmp_path: Path, index_type: str, least: float, most: float
) -> None:
    found = surveyed(tmp_path, index_type)
    errors = [r["faiss_error"] for r in found if r["rank"] is not None]
    assert len(errors) == 60 * 5
    assert least <= max(errors) <= most
    measured = next(dict(r["measured"]) for r in found if r["query_id"] is None)
    assert measured["faiss_ns"] > 0
    assert measured["n_cells"] == 1


def test_the_survey_counts_the_rows_that_each_number_of_probes_visits(tmp_path: Path) -> None:
    x = VECTORS.astype(np.float32)
    centroids = train_centroids(x, 20, 1)
    cells = nearest_cells(x, centroids)
    order = np.argsort(cells, kind="stable")
    block = Block(np.array(IDS)[order], VECTORS.astype("f2")[order], cells[order])
    queries = Block(block.ids[:40], block.vectors[:40], block.cells[:40])
    counts = survey_task._rank_counts(queries, block, centroids)
    products = queries.unit_vectors(slice(None)) @ centroids.T
    visited = np.argsort(-products, axis=1)
    for n_probes in (1, 2, 4, 8):
        by_hand = sum(int(np.isin(block.cells, cells_of[:n_probes]).sum()) for cells_of in visited)
        assert counts[n_probes >= RANK_BINS].sum() == by_hand
    assert counts.sum() == 40 * 300


# --- what is said


class Notes:
    """Stands in for a run: its settings and its notes are looked at."""

    def __init__(self, *overrides: str) -> None:
        self.config, self.notes = load_config(None, overrides), dict[str, Any]()

    def note(self, **notes: Any) -> None:
        self.notes |= notes


WHY = "FAISS 1.15.1 here was built for CPUs"


def test_a_faiss_without_gpus_is_said_once_and_noted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for engine, level in (("faiss_ivf", "WARNING"), ("auto", "INFO")):
        run = Notes(f"match.engine={engine}")
        caplog.clear()
        faiss_report.say_whether_faiss_has_a_gpu(run, WHY)  # type: ignore[arg-type]
        (said,) = caplog.records
        assert (said.levelname, WHY in said.getMessage()) == (level, True)
        assert run.notes == {"faiss_unusable_on_gpu": WHY}
    faiss_report.say_whether_faiss_has_a_gpu(Notes(), "")  # type: ignore[arg-type]
    assert len(caplog.records) == 1


def test_a_faiss_without_gpus_stops_match_before_the_join_where_the_setting_says_so() -> None:
    with pytest.raises(ConfigError, match=r"faiss_without_gpu=stop: FAISS 1\.15\.1 here was built for CPUs; use --set"):
        faiss_report.say_whether_faiss_has_a_gpu(
            Notes("match.engine=faiss_ivf", "match.faiss_without_gpu=stop"), WHY  # type: ignore[arg-type]
        )  # fmt: skip


def test_searches_made_twice_and_gpus_given_up_are_counted_in_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = Notes()
    none = {"n_full_queries": 0, "n_gave_up_gpu": 0, "gave_up_gpu": None}
    faiss_report.say_what_searches_came_to(run, none)  # type: ignore[arg-type]
    assert (caplog.records, run.notes) == ([], {})
    some = {"n_full_queries": 1200, "n_gave_up_gpu": 3, "gave_up_gpu": "its memory is full"}
    faiss_report.say_what_searches_came_to(run, some)  # type: ignore[arg-type]
    assert "1,200 searches found more near images" in caplog.text
    assert "joined 3 pairs of files on CPUs" in caplog.text
    assert run.notes["faiss_full_queries"] == 1200
    assert run.notes["faiss_gave_up_gpu"] == 3
