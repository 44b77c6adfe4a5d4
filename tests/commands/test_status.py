"""`dedup-spark status` over logs of runs made up for it: what it takes for well, and what somebody should look at."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from made_tables import write_tables

from dedup_spark.cli import main
from dedup_spark.commands.status import UNKNOWN, Status, describe_status, status_json, status_of
from dedup_spark.store.duck import duck_tables
from dedup_spark.store.lease import Holder, holder_of, take

LAKE = "file:///lake"
NOW = datetime.now(UTC).replace(microsecond=0)
STEPS = ("inventory", "extract", "index", "match", "cluster", "report")
COUNTS = {"inventory": {"listed": 4, "new_or_changed": 4}, "extract": {"read": 4}, "index": {"vectors": 4},
          "match": {"asked": 4}, "cluster": {"members": 2}, "report": {"clusters": 1}}  # fmt: skip
CONFIG = json.dumps({"match": {"min_recall": 0.99}, "cluster": {"max_listing_age_hours": 48.0}})
Rows = list[dict[str, Any]]


def mark(run_id: str, step: str, status: str, minutes_ago: float, **more: Any) -> dict[str, Any]:
    seconds = None if status == "started" else 2.0
    counts = list(COUNTS.get(step, {}).items()) if status == "complete" else []
    at = NOW - timedelta(minutes=minutes_ago)
    row = {"run_id": run_id, "step": step, "status": status, "at": at, "elapsed_seconds": seconds, "counts": counts,
           "lake": LAKE, "config": CONFIG, "version": "0"}  # fmt: skip
    return row | more


def marks_of(run_id: str, began: float, status: str = "complete", steps: tuple[str, ...] = STEPS) -> Rows:
    """Of a run that began so many minutes ago, each step of which took a minute."""
    rows = [mark(run_id, "run", "started", began)]
    for i, step in enumerate(steps):
        rows += [mark(run_id, step, "started", began - i - 0.1), mark(run_id, step, status, began - i - 0.9)]
    return [*rows, mark(run_id, "run", "complete", began - len(steps))]


def changed(rows: Rows, step: str, status: str, **more: Any) -> Rows:
    return [row | more if (row["step"], row["status"]) == (step, status) else row for row in rows]


def tables(folder: Path, runs: Rows, n_read: int = 4, recall: float = 1.0) -> str:
    images = [{"image_id": n, "uri": f"{LAKE}/{n}.jpg", "lake": LAKE} for n in range(4)]
    features = [{"image_id": n, "status": "rejected" if n == 3 else "ok"} for n in range(n_read)]
    clusters = [{"image_id": n, "cluster_id": 0, "is_keeper": n == 0} for n in range(2)]
    quality = [{"run_id": "r1", "metric": "recall", "value": recall}]
    rows = {"images": images, "features": features, "clusters": clusters, "runs": runs, "quality": quality}
    return write_tables(folder / "tables", rows)


def status(root: str, holder: Holder | None = None, now: datetime = NOW, *, has_lease: bool = True) -> Status:
    with duck_tables(root) as opened:
        return status_of(opened, root, holder, now, has_lease=has_lease)


def holder(run_id: str = "r1", **more: Any) -> Holder:
    """One that is alive, on another machine."""
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    return replace(Holder("n", run_id, "dedup-spark run", "me", "there", "", 1, "", stamp, stamp), **more)


def test_a_run_that_went_well_leaves_nothing_to_look_at(tmp_path: Path) -> None:
    root = tables(tmp_path, marks_of("r1", 20))
    found = status(root)
    assert found.is_healthy
    assert found.run is not None
    assert (found.run.run_id, found.run.status, found.run.lake) == ("r1", "complete", LAKE)
    assert [step.step for step in found.run.steps] == list(STEPS)
    assert [step.rate for step in found.run.steps] == [2.0, 2.0, 2.0, 2.0, 1.0, None]
    assert (found.images, found.features, found.unread, found.clusters) == (4, {"ok": 3, "rejected": 1}, 0, 1)
    assert found.holder is None
    assert found.next == f"dedup-spark sql --tables {root} 'SELECT * FROM duplicates'"


def test_a_run_that_failed_is_told_with_its_step_and_why(tmp_path: Path) -> None:
    runs = [*marks_of("r1", 60), mark("r2", "run", "started", 9), mark("r2", "match", "started", 8),
            mark("r2", "match", "failed", 7, message="the disk is full\nand a trace"),
            mark("r2", "run", "failed", 7, message="the disk is full")]  # fmt: skip
    root = tables(tmp_path, runs)
    found = status(root)
    assert found.attention == ("run r2 failed in match: the disk is full",)
    assert found.next == f"dedup-spark run --lake {LAKE} --tables {root}"


@pytest.mark.parametrize(
    ("held", "state", "healthy"),
    [(None, "interrupted", False), ({}, "under way", True), ({"released": True}, "interrupted", False),
     ({"heartbeat": "2020-01-01T00:00:00+00:00"}, "interrupted", False)],
)  # fmt: skip
def test_a_run_without_an_end_is_under_way_only_while_its_lease_is_alive(
    held: dict[str, Any] | None, state: str, healthy: bool, tmp_path: Path
) -> None:
    runs = [*marks_of("r1", 60), mark("r2", "run", "started", 9), mark("r2", "extract", "started", 8)]
    holds = None if held is None else holder("r2", **held)  # its heartbeat is of now
    found = status(tables(tmp_path, runs, n_read=2), holds)
    assert found.run is not None
    assert (found.run.status, found.is_healthy) == (state, healthy)
    assert found.run.steps[-1].status == state
    assert (found.next is None) == healthy
    assert (found.holder is not None) == healthy
    if not healthy:
        assert found.attention == ("run r2 was interrupted in extract", "2 images are listed and not read")


def test_where_the_store_has_no_lease_nobody_knows_whether_a_run_is_alive(tmp_path: Path) -> None:
    runs = [*marks_of("r1", 60), mark("r2", "run", "started", 9), mark("r2", "extract", "started", 8)]
    root = tables(tmp_path, runs, n_read=2)
    found = status(root, has_lease=False)
    assert found.run is not None
    assert (found.run.status, found.run.steps[-1].status, found.next) == (UNKNOWN, UNKNOWN, None)
    [told] = found.attention
    assert "not known whether it is alive" in told
    assert status(tables(tmp_path / "ended", marks_of("r1", 60)), has_lease=False).is_healthy
    assert status(root, holder("r2"), has_lease=False).is_healthy


@pytest.mark.parametrize("status_of_last", ["failed", "started"])
def test_while_somebody_is_writing_all_is_well_whatever_was_before(status_of_last: str, tmp_path: Path) -> None:
    runs = [*marks_of("r1", 60), mark("r2", "run", "started", 9), mark("r2", "run", status_of_last, 7, message="full")]
    found = status(tables(tmp_path, runs, n_read=2), holder("r3"))
    assert (found.is_healthy, found.next) == (True, None)
    assert status(tables(tmp_path / "first", []), holder("r1")).is_healthy


def test_a_lake_of_which_the_tables_hold_no_image_is_not_too_old(tmp_path: Path) -> None:
    runs = [mark("r0", "inventory", "complete", 60 * 24 * 30, lake="file:///lake-of-march"), *marks_of("r1", 20)]
    assert status(tables(tmp_path, runs)).is_healthy


def test_a_forget_that_was_stopped_is_told_and_made_the_index_old(tmp_path: Path) -> None:
    counts: dict[str, Any] = {"lake": None, "config": None, "counts": [("found", 2)]}
    runs = [*marks_of("r1", 60), mark("f1", "forget", "started", 5, **counts)]
    told = status(tables(tmp_path, runs)).attention
    assert told[0] == "forget f1 was stopped before its end: give the same `dedup-spark forget` again"
    assert told[1].startswith("index is older than forget")
    again = [mark("f2", "forget", "started", 4, **counts | {"counts": []}),
             mark("f2", "forget", "complete", 3, **counts | {"counts": []})]  # fmt: skip
    [left] = status(tables(tmp_path / "again", [*runs, *again])).attention
    assert left == told[1]


def test_images_that_nobody_has_read_are_counted(tmp_path: Path) -> None:
    found = status(tables(tmp_path, marks_of("r1", 20), n_read=1))
    assert (found.unread, found.attention) == (3, ("3 images are listed and not read",))


def test_clusters_that_are_older_than_features_are_told(tmp_path: Path) -> None:
    runs = [*marks_of("r1", 60), mark("r2", "inventory", "complete", 9), mark("r3", "extract", "complete", 8)]
    found = status(tables(tmp_path, runs))
    assert found.attention == (
        "index is older than extract: clusters and what may be removed are not of the newest features",
    )


@pytest.mark.parametrize("last", ["index", "match"])
def test_steps_that_were_done_one_by_one_are_behind_up_to_the_last_one(last: str, tmp_path: Path) -> None:
    done = STEPS[: STEPS.index(last) + 1]
    runs = [*marks_of("r1", 60), *(mark(f"s{i}", step, "complete", 20 - i) for i, step in enumerate(done))]
    found = status(tables(tmp_path, runs))
    assert found.attention[0].startswith(f"{STEPS[STEPS.index(last) + 1]} is older than {last}")


def test_a_night_in_which_nothing_changed_makes_nothing_older(tmp_path: Path) -> None:
    night = marks_of("r2", 20, "unchanged", STEPS[2:5])
    listed = [mark("r2", "inventory", "complete", 22, counts=[("listed", 4), ("new_or_changed", 0)]),
              mark("r2", "extract", "complete", 21, counts=[("read", 0)])]  # fmt: skip
    assert status(tables(tmp_path, [*marks_of("r1", 60), *listed, *night])).attention == ()
    assert status(tables(tmp_path / "alone", [*marks_of("r1", 60), *listed])).attention == ()


@pytest.mark.parametrize(("found", "behind"), [(3, True), (0, False)])
def test_clusters_are_older_than_a_forget_that_found_something(found: int, behind: bool, tmp_path: Path) -> None:
    forget = mark("f1", "forget", "complete", 5, counts=[("found", found)], lake=None, config=None)
    seen = status(tables(tmp_path, [*marks_of("r1", 60), forget]))
    assert seen.run is not None
    assert seen.run.run_id == "r1"
    assert (not seen.is_healthy) == behind
    assert ("index is older than forget" in " ".join(seen.attention)) == behind


def test_a_listing_that_is_too_old_is_told(tmp_path: Path) -> None:
    root = tables(tmp_path, marks_of("r1", 20))
    assert status(root, now=NOW + timedelta(hours=47)).is_healthy
    [told] = status(root, now=NOW + timedelta(hours=49)).attention
    assert told.startswith(f"{LAKE} was last listed 49 hours ago, longer ago than cluster.max_listing_age_hours (48)")


def test_a_recall_below_what_was_asked_for_is_told(tmp_path: Path) -> None:
    [told] = status(tables(tmp_path, marks_of("r1", 20), recall=0.95)).attention
    assert told == "the recall of the last match was 0.9500, below match.min_recall (0.99)"


def test_a_plan_is_no_run(tmp_path: Path) -> None:
    runs = [*marks_of("r1", 20), mark("p1", "plan", "started", 2), mark("p1", "plan", "failed", 1, message="x")]
    found = status(tables(tmp_path, runs))
    assert found.run is not None
    assert (found.run.run_id, found.attention) == ("r1", ())


def test_tables_without_a_run_say_so(tmp_path: Path) -> None:
    root = tables(tmp_path, [])
    found = status(root)
    assert found.attention == ("no run has begun on these tables",)
    assert found.next == f"dedup-spark run --lake LAKE --tables {root}"


def test_the_work_of_spark_is_told_where_a_run_has_it(tmp_path: Path) -> None:
    work = {"stages": 3, "tasks": 12, "task_seconds": 7.25, "read_bytes": 2_000_000, "spilled_bytes": 0, "skew": 2.5}
    runs = changed(marks_of("r1", 20), "match", "complete", notes=json.dumps({"engine": "exact", "work": work}))
    found = status(tables(tmp_path, runs))
    said = describe_status(found)
    assert (
        "match     complete, 2.0s, 2.0 images/s; 7.2 s of 12 tasks, read 2.00 MB, slowest task of the longest stage "
        "2.5 times the median"
    ) in said
    assert "extract   complete, 2.0s, 2.0 images/s\n" in said


def test_json_has_the_same_in_one_line(tmp_path: Path) -> None:
    told = json.loads(status_json(status(tables(tmp_path, marks_of("r1", 20), n_read=3))))
    assert (told["is_healthy"], told["unread"], told["run"]["status"]) == (False, 1, "complete")
    assert told["run"]["steps"][1]["counts"] == {"read": 4}
    assert datetime.fromisoformat(told["run"]["ended_at"]) == NOW - timedelta(minutes=14)


def test_the_command_needs_no_java_and_ends_with_1_where_somebody_should_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tables(tmp_path, marks_of("r1", 20), n_read=3)
    assert main(["status", "--tables", root]) == 1
    said = capsys.readouterr()
    assert f"next      dedup-spark run --lake {LAKE} --tables {root}\n" in said.out
    assert said.err == "dedup-spark: status: 1 images are listed and not read\n"
    assert main(["status", "--json", "--tables", tables(tmp_path / "well", marks_of("r1", 20))]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["is_healthy"]
    assert said.err == ""
    assert main(["status", "--tables", str(tmp_path / "nothing")]) == 2


def test_the_holder_of_the_lease_is_the_last_one(tmp_path: Path) -> None:
    assert holder_of(str(tmp_path)) is None
    held = take(str(tmp_path), "r7", "dedup-spark run")
    assert held is not None
    found = holder_of(str(tmp_path))
    assert found is not None
    assert (found.run_id, found.is_over()) == ("r7", False)
    held.release()
    after = holder_of(str(tmp_path))
    assert after is not None
    assert after.is_over()
