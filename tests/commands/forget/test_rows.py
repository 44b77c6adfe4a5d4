"""What forget does to rows made up for it: what it finds, what it leaves, and what a listing of before cannot know."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from clustering import append_pairs
from fabricated import fill, frame, listed, readable
from table_contents import rows

from dedup_spark.commands.forget import command
from dedup_spark.commands.forget.asked import Asked
from dedup_spark.sources.base import LISTING
from dedup_spark.stages.inventory.step import identified
from dedup_spark.store.schema import RUNS, SHARDS
from dedup_spark.store.tables import Tables

LAKE = "s3://b/users"
AT = datetime(2026, 1, 2, 3, tzinfo=UTC)


def mark(run_id: str, lake: str, **more: Any) -> dict[str, Any]:
    return {"run_id": run_id, "step": "run", "status": "complete", "at": AT, "lake": lake} | more


def test_a_row_that_names_two_images_counts_once(tables: Tables) -> None:
    fill(tables, [listed(n, lake=LAKE, uri=f"{LAKE}/{n}.jpg") for n in (1, 2, 3)], [readable(n) for n in (1, 2, 3)])
    append_pairs(tables, [(1, 2, "phash", None, 0), (2, 3, "phash", None, 0)])
    found = command.look_for(tables, Asked.of([f"{LAKE}/1.jpg", f"{LAKE}/2.jpg"], []))
    assert dict(found.found.rows) == {"pairs": 2, "features": 2, "images": 2}


@pytest.mark.slow
def test_rows_and_texts_go_and_what_is_of_others_stays(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    member = frame(tables.spark, LISTING.ddl, [{"uri": "s3://b/x.tar", "member": "d/1.jpg"}])
    [unknown] = [row["image_id"] for row in identified(member, LAKE).collect()]
    images = [
        listed(1, lake=LAKE, uri=f"{LAKE}/42/a.jpg"), listed(2, lake=f"{LAKE}/42/list.csv", uri=f"{LAKE}/43/b.jpg"),
        listed(3, lake=f"{LAKE}/42/all.csv", uri=f"{LAKE}/42/c.jpg"),
    ]  # fmt: skip
    fill(tables, images, [readable(n) for n in (1, 2, 3, unknown)])
    tables.append(SHARDS, frame(tables.spark, SHARDS.schema, [{"shard": 0, "path": "shard_files/build/0"}]))
    marks = [
        mark("r1", LAKE, message=f"cannot read {LAKE}/42/a.jpg"), mark("r2", f"{LAKE}/42/list.csv"),
        mark("r3", f"{LAKE}/42/all.csv", notes="s3://b/x.tar d/1.jpg"), mark("r4", LAKE, message=f"x{LAKE}/42/a.jpg"),
    ]  # fmt: skip
    tables.append(RUNS, frame(tables.spark, RUNS.schema, marks))
    monkeypatch.setattr(command, "_erase_past", lambda *_: command._Past())
    asked = Asked.of(["s3://b/nothing.jpg", "s3://b/x.tar#d/1.jpg"], [f"{LAKE}/42/"])
    with caplog.at_level(logging.WARNING):
        done = command.forget(tables, asked)
    assert done.found.images == 2
    assert {row["image_id"] for row in rows(tables.root, "images")} == {2}
    assert {row["image_id"] for row in rows(tables.root, "features")} == {2}
    assert rows(tables.root, "shards") == []
    left = {row["run_id"]: row for row in rows(tables.root, "runs") if row["step"] == "run"}
    assert [left[name]["message"] for name in ("r1", "r4")] == ["(forgotten)", f"x{LAKE}/42/a.jpg"]
    lakes = [left[name]["lake"] for name in ("r1", "r2", "r3")]
    assert lakes == [LAKE, f"{LAKE}/42/list.csv", "(forgotten)"]  # of the last no image is left
    assert left["r3"]["notes"] == "(forgotten)"
    own = sorted(row["status"] for row in rows(tables.root, "runs") if row["run_id"] == done.run_id)
    assert own == ["complete", "started"]
    said = [record.getMessage() for record in caplog.records if "names no image" in record.getMessage()]
    assert [text.split(" names")[0] for text in said] == ["forget: --uri number 1", "forget: --uri number 2"]
