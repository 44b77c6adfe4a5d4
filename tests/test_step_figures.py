"""The figures of a step in words."""

from __future__ import annotations

import pytest

from dedup_spark.cli.arguments import STEPS
from dedup_spark.step_figures import MAIN_COUNT, in_words

WORK = {"stages": 3, "tasks": 96, "task_seconds": 312.44, "read_bytes": 21_400_000, "written_bytes": 0,
        "shuffled_bytes": 3_000_000_000, "spilled_bytes": 12, "skew": 2.14}  # fmt: skip


@pytest.mark.parametrize(
    ("step", "seconds", "counts", "work", "told"),
    [
        ("extract", 40.2, {"read": 2452, "ok": 2400}, {}, "40.2s, 61.0 images/s"),
        ("extract", 40.2, {"read": 0}, {}, "40.2s"),
        ("report", 62.0, {"clusters": 7}, {}, "1m02s"),
        ("match", 0.0, {"asked": 7}, {"tasks": 0}, "0.0s"),
        (
            "match", 7500.0, {"asked": 15_000_000}, WORK,
            "2h05m, 2,000.0 images/s; 312.4 s of 96 tasks, read 21.4 MB, shuffled 3.00 GB, spilled 12 bytes, "
            "slowest task of the longest stage 2.1 times the median",
        ),
    ],
)  # fmt: skip
def test_what_is_not_known_is_left_out(
    step: str, seconds: float, counts: dict[str, int], work: dict[str, float], told: str
) -> None:
    assert in_words(step, seconds, counts, work) == told


def test_every_step_but_the_report_has_a_rate() -> None:
    assert set(STEPS) - set(MAIN_COUNT) == {"report"}
