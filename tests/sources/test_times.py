"""Times of stores and disks: in UTC, and unknown where no calendar has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup_spark.sources.times import END, FIRST, from_nanoseconds, from_seconds, modified_at

AT = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    "facts",
    [
        {"LastModified": AT},
        {"last_modified": AT.replace(tzinfo=None)},
        {"mtime": AT.timestamp()},
        {"modificationTime": AT.timestamp() * 1000},
        {"updated": AT.astimezone(timezone(timedelta(hours=5)))},
        {"mtime": None, "created": AT},
    ],
    ids=str,
)
def test_each_store_has_its_own_name_for_the_time(facts: dict[str, Any]) -> None:
    assert modified_at(facts) == AT


ONE_HOUR = timedelta(hours=1)
NO_TIMES = [
    910675929600, -11644473600, 2**63, -(2**63), 1e300, float("nan"), float("inf"), "2024-05-01", None,
    datetime.min.replace(tzinfo=timezone(ONE_HOUR)), datetime.max.replace(tzinfo=timezone(-ONE_HOUR)),
]  # fmt: skip


@pytest.mark.parametrize("value", NO_TIMES, ids=str)
def test_what_is_no_time_is_unknown(value: Any) -> None:
    assert modified_at({"mtime": value}) is None


def test_times_of_files_keep_their_microseconds_and_may_lie_before_1970() -> None:
    assert from_nanoseconds(int(AT.timestamp() * 10**6) * 1000 + 999) == AT
    assert from_seconds(-34_560_000) == datetime(1968, 11, 27, tzinfo=UTC)
    assert from_seconds(FIRST.timestamp()) == FIRST
    assert from_nanoseconds(910_675_929_600 * 10**9) is None
    assert from_seconds(FIRST.timestamp() - 1) is from_seconds(END.timestamp()) is None


def test_times_that_are_known_are_those_that_other_readers_of_parquet_see(tmp_path: Path) -> None:
    times = pa.table({"at": pa.array([FIRST, END], pa.timestamp("us", "UTC"))})
    pq.write_table(times, tmp_path / "as Spark writes it.parquet", use_deprecated_int96_timestamps=True)
    read = pq.read_table(tmp_path / "as Spark writes it.parquet").column("at").cast(pa.timestamp("us"))
    assert [at.replace(tzinfo=UTC) for at in read.to_pylist()] == [FIRST, END]
