"""Progress lines: what they say, how often, and what they tell from inside one job."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from clocks import set_clock

from dedup_spark.spark import progress as progress_module
from dedup_spark.spark.progress import Progress, clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (3.21, "3.2s"), (59.9, "59.9s"), (60, "1m00s"), (62, "1m02s"), (119.6, "2m00s"), (3599, "59m59s"),
     (3599.6, "1h00m"), (7500, "2h05m"), (360_000, "100h00m")],
)  # fmt: skip
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert clock(seconds) == text


class Time:
    """A clock that stands still unless it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        set_clock(monkeypatch, progress_module, monotonic=lambda: self.now)


@pytest.fixture
def clock_in_hand(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.fixture
def caplog_at_info(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "dedup_spark.spark.progress")
    return caplog


def test_what_an_earlier_run_has_done_is_no_work_of_this_one(
    clock_in_hand: Time, caplog_at_info: pytest.LogCaptureFixture
) -> None:
    progress = Progress("match", "work items", 1000, every_seconds=5, done_before=900)
    clock_in_hand.now += 10
    progress.show(900)
    clock_in_hand.now += 10
    progress.show(920)
    assert messages(caplog_at_info) == [
        "match: 900/1,000 work items, 0.0/s",
        "match: 920/1,000 work items, 1.0/s, 1m20s left",
    ]


def test_progress_says_done_total_rate_and_time_left(
    clock_in_hand: Time, caplog_at_info: pytest.LogCaptureFixture
) -> None:
    progress = Progress("extract", "images", 5000, every_seconds=5)
    clock_in_hand.now += 20
    progress.show(1240)
    clock_in_hand.now += 80
    progress.show(5000)
    assert messages(caplog_at_info) == [
        "extract: 1,240/5,000 images, 62.0/s, 1m01s left",
        "extract: 5,000/5,000 images, 50.0/s",
    ]


def test_progress_is_told_at_most_every_so_many_seconds_unless_forced(
    clock_in_hand: Time, caplog_at_info: pytest.LogCaptureFixture
) -> None:
    progress = Progress("extract", "images", 100, every_seconds=5)
    for second in range(12):  # lines after 5 and 10 seconds
        progress.show(second)
        clock_in_hand.now += 1
    progress.show(12, force=True)
    assert [m.split()[1] for m in messages(caplog_at_info)] == ["5/100", "10/100", "12/100"]


def test_progress_of_nothing_divides_by_nothing(clock_in_hand: Time, caplog_at_info: pytest.LogCaptureFixture) -> None:
    Progress("extract", "images", 0).show(0, force=True)
    Progress("extract", "images", 7).show(0, force=True)
    assert messages(caplog_at_info) == ["extract: 0/0 images, 0.0/s", "extract: 0/7 images, 0.0/s"]


class Tracker:
    """Spark's status tracker while a stage of ten tasks runs, of which four have ended; others are done or unknown."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)

    def getActiveStageIds(self) -> list[int]:  # noqa: N802
        self.asked.release()
        return [7, 8, 9]

    def getStageInfo(self, stage: int) -> SimpleNamespace | None:  # noqa: N802
        tasks = {7: (10, 4), 8: (2, 2)}.get(stage)
        return SimpleNamespace(stageId=stage, numTasks=tasks[0], numCompletedTasks=tasks[1]) if tasks else None


@pytest.mark.parametrize(("n_tasks", "done"), [(None, "1,200"), (2, "1,500"), (3, None)])
def test_progress_inside_a_job_comes_from_the_share_of_its_tasks_that_have_ended(
    caplog_at_info: pytest.LogCaptureFixture, n_tasks: int | None, done: str | None
) -> None:
    tracker = Tracker()
    spark: Any = SimpleNamespace(sparkContext=SimpleNamespace(statusTracker=lambda: tracker))
    progress = Progress("extract", "images", 3000, every_seconds=0.01)
    counts = None if n_tasks is None else n_tasks.__eq__
    with progress.watching(spark, done_before=1000, n_under_way=500, is_counted=counts):
        for _ in range(3):
            assert tracker.asked.acquire(timeout=60)
    lines = messages(caplog_at_info)
    assert bool(lines) == (done is not None), "of a stage that has not begun nothing is known"
    assert all(line.startswith(f"extract: {done}/3,000 images") for line in lines)
    assert not [t for t in threading.enumerate() if t.name == "progress"]


def test_the_line_begins_anew_with_the_next_stage_that_counts(caplog_at_info: pytest.LogCaptureFixture) -> None:
    tracker = Tracker()
    spark: Any = SimpleNamespace(sparkContext=SimpleNamespace(statusTracker=lambda: tracker))
    stages = {8: (2, 2)}  # a scan that has ended as many tasks as the stage that is waited for has
    tracker.getStageInfo = lambda stage: (  # type: ignore[method-assign]
        SimpleNamespace(stageId=stage, numTasks=stages[stage][0], numCompletedTasks=stages[stage][1])
        if stage in stages
        else None
    )
    with Progress("cluster", "pairs", 100, every_seconds=0.01).watching(spark, 0, 100, is_counted=lambda n: n == 2):
        for _ in range(3):
            assert tracker.asked.acquire(timeout=60)
        stages[9] = (2, 1)
        for _ in range(3):
            assert tracker.asked.acquire(timeout=60)
    assert messages(caplog_at_info)[0].startswith("cluster: 100/100 pairs")
    assert messages(caplog_at_info)[-1].startswith("cluster: 50/100 pairs")


def test_the_watcher_ends_with_a_job_that_fails() -> None:
    spark: Any = SimpleNamespace(sparkContext=SimpleNamespace(statusTracker=Tracker))
    progress = Progress("extract", "images", 10, every_seconds=0.01)
    with pytest.raises(ValueError, match="the job"), progress.watching(spark, 0, 10):
        raise ValueError("the job")
    assert not [t for t in threading.enumerate() if t.name == "progress"]
