"""A match in waves: killed at any of them and started again, it gives the tables of one that nobody disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated import families, far_hash, fill, frame, random_ids, readable, write_shards
from pyspark.sql import DataFrame
from table_contents import rows

from dedup_spark.config import load_config
from dedup_spark.errors import GuardError
from dedup_spark.kernels.joins.sketches import SketchFilter
from dedup_spark.stages.match import engine_choice, joining, totals
from dedup_spark.stages.match import step as match
from dedup_spark.stages.match.engine_choice import Choice
from dedup_spark.stages.match.task import JOINED
from dedup_spark.stages.match.waves import Waves
from dedup_spark.store.runs import Mark, Run
from dedup_spark.store.schema import DENSITIES, FEATURES, PAIRS, SHARDS
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import StepName

OPTIONS = ("match.neighbours=3", "match.engine=sketch")
N_SHARDS = 6


class Killed(BaseException):
    """As a process that ends: nothing of the package catches it."""


@pytest.fixture(autouse=True)
def small_waves(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """As small as may be: of six shards three waves, of 20 of 56 numbers each."""
    monkeypatch.setattr(joining, "_WAVE_SECONDS", 1e-9)
    monkeypatch.setattr(joining, "_ITEMS_PER_SLOT", 20 // tables.spark.sparkContext.defaultParallelism)


def fill_lake(tables: Tables, n: int = 90, seed: int = 31) -> None:
    """`n` images of a lake in six shards, in place of what is there."""
    for table in (FEATURES, SHARDS):
        tables.overwrite(table, tables.read(table).where("false"))
    rng = np.random.default_rng(seed)
    vectors = np.concatenate([families([6] * 10, 0.7, rng), families([8] * 5, 0.38, rng)])
    chosen = rng.permutation(len(vectors))[:n]
    ids = [random_ids(len(vectors), np.random.default_rng(seed))[i] for i in chosen]
    made = [readable(i, v, phash=far_hash(i)) for i, v in zip(ids, vectors[chosen], strict=True)]
    sizes = [len(part) for part in np.array_split(np.arange(n), N_SHARDS)]
    fill(tables, feature_rows=made, shard_rows=write_shards(tables.root, ids, vectors[chosen], sizes))


def run_match(tables: Tables, *overrides: str, run_id: str = "r1", full: bool = False) -> Mark:
    config = load_config(None, [*OPTIONS, *overrides])
    run = Run(tables, config, "file:///lake", run_id, full=full)
    with run.step("match") as mark:
        match.run(tables.spark, config, run)
    return mark


def written(tables: Tables) -> dict[str, list[Any]]:
    """All that match writes, but for when and by which run."""
    ignored = {"run_id", "note"}
    return {
        name: sorted((sorted((k, v) for k, v in row.items() if k not in ignored) for row in rows(tables.root, name)),
                     key=repr)
        for name in ("pairs", "densities", "quality")
    }  # fmt: skip


def killed_after(n_waves: int, monkeypatch: pytest.MonkeyPatch, do: Any) -> None:
    """Run `do` in a process that is killed when it begins a wave after `n_waves` more of them are kept."""
    keep, n = Waves.keep, [0]

    def killing(waves: Waves, joined: DataFrame, done_below: int) -> None:
        if n[0] == n_waves:
            raise Killed
        keep(waves, joined, done_below)
        n[0] += 1

    with monkeypatch.context() as patched:
        patched.setattr(Waves, "keep", killing)
        with pytest.raises(Killed):
            do()


@pytest.fixture
def kept_waves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The `done_below` of each wave that is kept from now on."""
    keep, kept = Waves.keep, list[int]()

    def counting(waves: Waves, joined: DataFrame, done_below: int) -> None:
        keep(waves, joined, done_below)
        kept.append(done_below)

    monkeypatch.setattr(Waves, "keep", counting)
    return kept


def progress_of(tables: Tables) -> list[str]:
    return tables.progress_names(StepName.MATCH)


@pytest.mark.slow
def test_a_match_that_was_killed_twice_writes_what_an_undisturbed_one_does(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, kept_waves: list[int]
) -> None:
    fill_lake(tables)
    with monkeypatch.context() as patched:
        patched.setattr(joining, "_WAVE_SECONDS", 1e9)
        run_match(tables)
    assert kept_waves == []
    assert len(rows(tables.root, "pairs")) > 100
    undisturbed = written(tables)
    for table in (PAIRS, DENSITIES):
        tables.overwrite(table, tables.read(table).where("false"))

    killed_after(1, monkeypatch, lambda: run_match(tables))
    assert (len(progress_of(tables)), rows(tables.root, "pairs")) == (1, [])
    other = Choice("exact", 1.0, 0.45)  # which measured times would make another run choose
    monkeypatch.setattr(engine_choice, "choose", lambda *_: other)
    killed_after(1, monkeypatch, lambda: run_match(tables))
    begun = list(kept_waves)
    mark = run_match(tables)
    assert written(tables) == undisturbed
    assert kept_waves == sorted(set(kept_waves)), "a wave was made twice"
    assert len(kept_waves) > len(begun) == 2
    assert mark.notes["engine"] == "sketch"
    assert mark.notes["items_done_before"] > 0
    assert not Path(tables.root, "_match").exists()


@pytest.mark.slow
def test_new_images_are_compared_in_waves_too(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_lake(tables, 90)
    run_match(tables)
    fill_lake(tables, 100)
    monkeypatch.setattr(joining, "_ITEMS_PER_SLOT", 1)
    killed_after(1, monkeypatch, lambda: run_match(tables, run_id="r2"))
    assert len(progress_of(tables)) == 1
    again = run_match(tables, run_id="r2")
    assert again.counts["asked"] == 10
    assert again.notes["items_done_before"] > 0
    resumed = written(tables)
    run_match(tables, run_id="r3", full=True)
    assert [p for p in resumed["pairs"] if dict(p)["similarity"] >= 0.45] == [
        p for p in written(tables)["pairs"] if dict(p)["similarity"] >= 0.45
    ]
    assert lists(resumed) == lists(written(tables))


def lists(written: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Of each image its nearest, but for how far down they are known to be all: after a night that is less."""
    return [
        {k: v for k, v in row if k != "complete_above"}
        for row in sorted(written["densities"], key=lambda r: dict(r)["image_id"])
    ]


@pytest.mark.slow
def test_waves_of_another_match_are_not_gone_on_with(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, kept_waves: list[int]
) -> None:
    fill_lake(tables)
    killed_after(1, monkeypatch, lambda: run_match(tables))
    [first] = progress_of(tables)
    killed_after(1, monkeypatch, lambda: run_match(tables, "match.floor_recall=0.9"))
    [second] = progress_of(tables)
    assert second != first
    fill_lake(tables, seed=32)
    mark = run_match(tables, "match.floor_recall=0.9")
    assert "items_done_before" not in mark.notes
    assert kept_waves[2] == kept_waves[1] == kept_waves[0]


@pytest.mark.slow
def test_the_guard_counts_all_waves(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_lake(tables)
    run_match(tables)
    undisturbed = written(tables)
    killed_after(1, monkeypatch, lambda: run_match(tables, full=True))
    with monkeypatch.context() as patched:
        patched.setattr(joining.PairGuard, "check_survey", lambda *_: None)
        with pytest.raises(GuardError, match=r"pairs among 90 distinct images"):
            run_match(tables, "match.max_pairs_per_image=1", full=True)
    run_match(tables, full=True)
    assert written(tables) == undisturbed


def test_a_wave_that_was_cut_off_is_joined_again(tables: Tables) -> None:
    """Its items hold some of their pairs: more are allowed now, or the guard would stop the match once more."""

    def rows_of(*items: dict[str, Any]) -> DataFrame:
        return frame(tables.spark, JOINED, items)

    pair = {"image_id_a": 1, "image_id_b": 2, "similarity": 0.5, "best_of_a": True, "best_of_b": False}
    waves = Waves.open(tables, "one", 0.45)
    assert (waves.choice, waves.done_below, waves.totals) == (None, 0, totals.NOTHING)
    waves.begin(Choice("sketch", 1.0, 0.3))
    waves.keep(rows_of(pair, {"item": 3, "n_candidates": 5, "overflow": False}), 20)
    waves.keep(rows_of(pair, pair, {"item": 25, "n_candidates": 9, "overflow": True}), 40)
    assert (waves.totals["n_pairs"], waves.totals["is_cut_off"]) == (3, True)
    again = Waves.open(tables, "one", 0.45)
    assert (again.choice, again.done_below) == (Choice("sketch", 1.0, 0.3), 20)
    assert again.totals == totals.NOTHING | {"n_items": 1, "n_pairs": 1, "n_near": 1, "n_candidates": 5}
    again.keep(rows_of(pair, {"item": 25, "n_candidates": 9, "overflow": False}), 40)
    assert sorted(row["item"] for row in again.found().where("item IS NOT NULL").collect()) == [3, 25]
    other = Waves.open(tables, "two", 0.45)
    assert (other.choice, progress_of(tables)) == (None, [])


@pytest.mark.slow
def test_an_engine_that_needs_a_gpu_is_not_gone_on_with_where_there_is_none(
    tables: Tables, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_lake(tables)
    killed_after(1, monkeypatch, lambda: run_match(tables))
    [name] = progress_of(tables)
    tables.drop_progress(StepName.MATCH)
    Waves(tables, name, 0.45).begin(Choice("exact_gpu", 1.0, 0.3))
    run_match(tables)
    assert "joined by exact_gpu, and now tasks hold no GPU: it begins anew" in caplog.text


def test_a_choice_is_the_same_after_it_was_kept() -> None:
    for choice in (Choice("sketch", 1.5, 0.3, SketchFilter(128, 384, 40, 150), margin=0.1), Choice("exact", 0.1, 0.2)):
        assert engine_choice.from_json(engine_choice.to_json(choice)) == choice


def test_totals_of_two_parts_are_those_of_both() -> None:
    one = totals.NOTHING | {"n_items": 3, "n_pairs": 5, "is_cut_off": False, "gave_up_gpu": "memory"}
    other = totals.NOTHING | {"n_items": 4, "n_pairs": None, "is_cut_off": True, "n_candidates": 7}
    both = totals.together(one, other)
    assert both == totals.NOTHING | {
        "n_items": 7, "n_pairs": 5, "is_cut_off": True, "n_candidates": 7, "gave_up_gpu": "memory"
    }  # fmt: skip
    assert totals.together(totals.NOTHING, one) == one
