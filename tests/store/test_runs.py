"""The log of runs: what a step leaves behind when it ends, fails or need not be done."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from fabricated import fill, frame, listed
from table_contents import rows

import dedup_spark
from dedup_spark.config import Config, load_config
from dedup_spark.errors import DedupError, GuardError
from dedup_spark.pipeline import STEPS, Step, run_step
from dedup_spark.results_version import RESULTS_VERSION
from dedup_spark.store import runs
from dedup_spark.store.runs import WHOLE_RUN, Run, new_run_id, unfinished_run_id
from dedup_spark.store.schema import FEATURES, IMAGES, RUNS, Table
from dedup_spark.store.tables import Tables

LAKE = "file:///lake"


def new_run(tables: Tables, run_id: str = "r1", *overrides: str, lake: str = LAKE) -> Run:
    return Run(tables, load_config(None, overrides), lake, run_id)


def log_of(tables: Tables) -> list[dict[str, Any]]:
    """Rows of `runs` in the order in which they were written."""
    return sorted(rows(tables.root, "runs"), key=lambda r: r["at"])


def marks(tables: Tables) -> list[tuple[str, str, str]]:
    return [(r["run_id"], r["step"], r["status"]) for r in log_of(tables)]


# --- marks -----------------------------------------------------------------------------------------------


def test_a_step_says_when_it_starts_and_last_of_all_that_it_is_complete(tables: Tables) -> None:
    run = new_run(tables)
    begin = datetime.now(UTC)
    with run.step("extract") as mark:
        assert marks(tables) == [("r1", "extract", "started")]
        run.count(read=5, rejected=2)
        run.count(read=7)
        mark.fingerprint = "abc"
    started, complete = log_of(tables)
    assert marks(tables)[1] == ("r1", "extract", "complete")
    assert (started["elapsed_seconds"], dict(started["counts"]), started["fingerprint"]) == (None, {}, None)
    assert dict(complete["counts"]) == {"read": 7, "rejected": 2}
    assert complete["fingerprint"] == "abc"
    assert 0 <= complete["elapsed_seconds"] <= (datetime.now(UTC) - begin).total_seconds()
    assert begin <= started["at"] <= complete["at"] <= datetime.now(UTC)
    for row in (started, complete):
        assert (row["lake"], row["version"], row["message"]) == (LAKE, dedup_spark.__version__, None)
        assert json.loads(row["config"]) == json.loads(Config().to_json())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GuardError("too many rejects; allow it with --set a=b"), "too many rejects; allow it with --set a=b"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (DedupError("x" * 5000), "x" * 4000),
    ],
    ids=["ours", "foreign", "interrupt", "long"],
)
def test_a_step_that_fails_says_why_keeps_its_counts_and_is_not_complete(
    tables: Tables, error: BaseException, message: str
) -> None:
    run = new_run(tables)

    def fail() -> None:
        with run.step("extract") as mark:
            run.count(read=3)
            mark.fingerprint = "must not be stored"
            raise error

    with pytest.raises(type(error)) as raised:
        fail()
    assert raised.value is error
    assert marks(tables) == [("r1", "extract", "started"), ("r1", "extract", "failed")]
    failed = log_of(tables)[1]
    assert (failed["message"], dict(failed["counts"]), failed["fingerprint"]) == (message, {"read": 3}, None)
    assert failed["elapsed_seconds"] >= 0
    assert not run.unchanged("extract", "must not be stored")


def test_an_error_is_not_hidden_by_a_log_that_cannot_be_written(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tables)

    def gone(*_: object) -> None:
        raise ConnectionError("the session is gone")

    def fail() -> None:
        with run.step("match"):
            monkeypatch.setattr(tables, "append", gone)
            raise GuardError("the real one")

    with pytest.raises(GuardError, match="the real one"):
        fail()
    assert marks(tables) == [("r1", "match", "started")]


def test_counts_of_a_step_inside_another_stay_its_own(tables: Tables) -> None:
    run = new_run(tables)
    with run.step(WHOLE_RUN):
        run.count(outer=1)
        with run.step("extract"):
            run.count(inner=2)
        with suppress(ValueError), run.step("match"):
            run.count(inner=3)
            raise ValueError
        run.count(outer_too=4)
    counts = {(r["step"], r["status"]): dict(r["counts"]) for r in log_of(tables) if r["status"] != "started"}
    assert counts == {
        ("extract", "complete"): {"inner": 2},
        ("match", "failed"): {"inner": 3},
        (WHOLE_RUN, "complete"): {"outer": 1, "outer_too": 4},
    }


# --- what need not be done again -------------------------------------------------------------------------


def complete(run: Run, step: str, fingerprint: str | None = None) -> None:
    with run.step(step) as mark:
        mark.fingerprint = fingerprint


def test_a_step_is_unchanged_when_its_last_completion_had_this_fingerprint(tables: Tables) -> None:
    first, second = new_run(tables, "r1"), new_run(tables, "r2")
    assert not first.unchanged("match", "a")
    complete(first, "match", "a")
    complete(first, "cluster", "b")
    assert not second.unchanged("match", "b")
    assert second.unchanged("match", "a")
    assert marks(tables)[-1] == ("r2", "match", "unchanged")
    complete(second, "match", "b")
    assert not second.unchanged("match", "a")  # the tables are those of b now
    with suppress(ValueError), second.step("match"):
        raise ValueError
    assert new_run(tables, "r3").unchanged("match", "b")  # inputs and outputs are part of a fingerprint


def test_a_fingerprint_changes_with_inputs_settings_and_version_and_with_nothing_else(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fingerprint(*overrides: str, run_id: str = "r1") -> str:
        run = new_run(tables, run_id, *overrides)
        return run.fingerprint(run.versions(IMAGES, FEATURES), sections=("match", "cluster"))

    first = fingerprint()
    assert fingerprint(run_id="another") == first
    assert fingerprint("extract.fetch_threads=3", "index.seed=5") == first
    complete(new_run(tables), "match")
    assert fingerprint() == first
    others = [fingerprint("match.max_hamming_bits=2"), fingerprint("cluster.linkage=complete")]
    run = new_run(tables)
    others.append(run.fingerprint(run.versions(IMAGES), sections=("match", "cluster")))
    others.append(run.fingerprint(run.versions(IMAGES, FEATURES), sections=("match",)))
    fill(tables, [listed(1)])
    others.append(fingerprint())
    tables.delete(IMAGES, tables.read(IMAGES).select("image_id"))
    others.append(fingerprint())
    monkeypatch.setattr(dedup_spark, "__version__", "99.0")
    others.append(fingerprint())
    monkeypatch.setattr(runs, "RESULTS_VERSION", RESULTS_VERSION + 1)
    others.append(fingerprint())
    assert len({first, *others}) == len(others) + 1


@pytest.mark.parametrize(
    ("remembers", "full", "force", "times"),
    [(True, False, False, 1), (True, True, False, 2), (True, False, True, 2), (False, True, False, 1)],
)
def test_an_unchanged_step_is_done_again_when_forced_or_when_a_full_run_would_leave_something_out(
    tables: Tables, remembers: bool, full: bool, force: bool, times: int
) -> None:
    done: list[str] = []
    step = Step("match", lambda spark, config, run: done.append(run.run_id), (IMAGES,), remembers=remembers)
    for run_id in ("r1", "r2"):
        run = Run(tables, Config(), LAKE, run_id, full=full)
        run_step(tables.spark, Config(), run, step, force=force)
    assert len(done) == times


def append_mark(tables: Tables, hours_ago: float, **facts: Any) -> None:
    row = {"run_id": "r1", "step": "inventory", "status": "complete", "lake": LAKE} | facts
    row["at"] = datetime.now(UTC) - timedelta(hours=hours_ago)
    tables.append(RUNS, frame(tables.spark, RUNS.schema, [row]))


def test_a_step_counts_as_done_in_its_own_run_and_for_so_many_hours(tables: Tables) -> None:
    run = new_run(tables, "r1")
    append_mark(tables, hours_ago=1, run_id="r2")
    append_mark(tables, hours_ago=1, step="extract")
    append_mark(tables, hours_ago=1, status="started")
    append_mark(tables, hours_ago=1, status="failed")
    assert not run.is_complete("inventory", within_hours=24)
    append_mark(tables, hours_ago=25)
    assert not run.is_complete("inventory", within_hours=24)
    assert run.is_complete("inventory", within_hours=26)
    append_mark(tables, hours_ago=0.5)
    assert run.is_complete("inventory", within_hours=1)
    assert not run.is_complete("inventory", within_hours=0.25)


def test_the_run_to_continue_is_the_newest_of_the_lake_if_it_did_not_complete(tables: Tables) -> None:
    assert unfinished_run_id(tables, LAKE) is None
    whole = {"step": WHOLE_RUN}
    append_mark(tables, 9, run_id="old", status="failed", **whole)
    append_mark(tables, 8, run_id="done", status="started", **whole)
    append_mark(tables, 7, run_id="done", **whole)
    assert unfinished_run_id(tables, LAKE) is None  # the failed one was overtaken
    append_mark(tables, 6, run_id="elsewhere", status="started", lake="s3://other", **whole)
    append_mark(tables, 5, run_id="one step", status="started", step="extract")
    assert unfinished_run_id(tables, LAKE) is None
    assert unfinished_run_id(tables, "s3://other") == "elsewhere"
    append_mark(tables, 4, run_id="killed", status="started", **whole)
    assert unfinished_run_id(tables, LAKE) == "killed"
    append_mark(tables, 3, run_id="killed", status="failed", **whole)
    assert unfinished_run_id(tables, LAKE) == "killed"
    append_mark(tables, 2, run_id="killed", **whole)
    assert unfinished_run_id(tables, LAKE) is None


# --- without Spark ---------------------------------------------------------------------------------------


class Versions:
    """Stands in for tables: their versions are looked at."""

    database = None

    def version(self, table: Table) -> int:
        return 7


@pytest.mark.parametrize("step", [step for step in STEPS if step.sections], ids=lambda step: step.name)
def test_an_index_or_a_match_stands_where_only_gpus_are_given_or_taken(step: Step) -> None:
    def fingerprint(*overrides: str) -> str:
        run = new_run(Versions(), "r1", *overrides)  # type: ignore[arg-type]
        run._known_at = 7  # no mark is there
        return run.fingerprint(run.versions(*step.inputs, *step.outputs), sections=step.sections)

    of_defaults = [dedup_spark.__version__, f"results {RESULTS_VERSION}"]
    of_defaults += [f"{table.name}@7" for table in (*step.inputs, *step.outputs)] + [Config().to_json(*step.sections)]
    assert fingerprint() == hashlib.sha256("\n".join(of_defaults).encode()).hexdigest()[:16]
    gpus = ("index.gpus_per_task=1", "match.gpus_per_task=1", "match.cpus_per_gpu_task=4")
    assert fingerprint(*gpus, "index.faiss_without_gpu=stop", "match.faiss_without_gpu=stop") == fingerprint()
    assert fingerprint("index.faiss_index=Flat", "match.seed=1") != fingerprint()


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = [new_run_id() for _ in range(20)]
    assert len(set(ids)) > 15  # 16 random bits within one second
    assert all(a[:15] <= b[:15] for a, b in pairwise(ids))
    datetime.strptime(ids[0][:15], "%Y%m%d-%H%M%S")


def test_marks_of_others_are_seen_also_where_the_log_is_remembered(tables: Tables) -> None:
    first, second = new_run(tables, "r1"), new_run(tables, "r2")
    complete(first, "match", "a")
    assert second.unchanged("match", "a")
    complete(first, "match", "b")
    assert not second.unchanged("match", "a")
    assert second.unchanged("match", "b")
    assert not second.is_complete("match", within_hours=1)  # it was done in the other run
    complete(second, "match", "c")
    assert second.is_complete("match", within_hours=1)
    assert first.unchanged("match", "c")


def test_a_log_that_grew_by_marks_of_this_run_alone_is_not_asked_for_again(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tables)
    complete(run, "index", "a")
    assert run.unchanged("index", "a")

    def ask(*_: object) -> None:
        raise AssertionError("the log was read again")

    monkeypatch.setattr(runs, "_completions", ask)
    complete(run, "match", "b")
    assert run.unchanged("match", "b")
    assert run.is_complete("index", within_hours=1)
