"""An image is added, the service is killed at once, and the next run takes the image over: by commands, as users do."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import lookups
import pytest
from processes import in_a_shell

from dedup_spark import read_table
from dedup_spark.lookup.added_log import MANIFEST, AddedLog
from dedup_spark.lookup.places import state_folder
from lookup.conftest import images_of_lake
from lookup.service.test_service import started

COMMAND = [sys.executable, "-m", "dedup_spark"]


def run(lake: str, tables: Path, *options: str) -> None:
    done = in_a_shell([*COMMAND, "run", "--lake", lake, "--tables", str(tables), *options])
    assert done.returncode == 0, done.stderr[-4000:]


def look(data: bytes, folder: Path) -> list[dict[str, Any]]:
    """The copies that `dedup-spark lookup` names, in a process of its own."""
    path = folder / "asked.jpg"
    path.write_bytes(data)
    places = ["--cache", str(folder / "cache"), "--state", str(folder / "state")]
    done = in_a_shell([*COMMAND, "lookup", "--tables", str(folder / "tables"), *places, "--json", str(path)])
    assert done.returncode == 0, done.stderr[-4000:]
    copies: list[dict[str, Any]] = json.loads(done.stdout)["copies"]
    return copies


@pytest.mark.slow
def test_an_addition_outlives_a_kill_and_becomes_part_of_the_lake_with_the_next_run(tmp_path: Path) -> None:
    lake, uploads, tables = (tmp_path / name for name in ("lake", "uploads", "tables"))
    for folder, name, data in (
        (lake, "a.jpg", images_of_lake()["file:///lake/coffee.jpg"]),
        (lake, "b.jpg", images_of_lake()["file:///lake/rocket.jpg"]),
        (uploads, "new.jpg", lookups.jpeg(lookups.photo("coins.png"))),
    ):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    run(str(lake), tables)
    edited, address = lookups.edited(lookups.photo("coins.png")), str(uploads / "new.jpg")
    assert look(edited, tmp_path) == []

    for service in started(tables, tmp_path, "--allow", str(uploads)):
        status, said, _ = service.ask("POST", f"/v1/images?uri={address}", (uploads / "new.jpg").read_bytes())
        os.kill(service.pid, signal.SIGKILL)
        assert (status, said["added"]) == (201, True)
    [found] = look(edited, tmp_path)
    assert (found["is_added"], found["image_id"], found["uri"]) == (True, None, f"file://{address}")

    state = state_folder(str(tables), str(tmp_path / "state"))
    assert [row["uri"] for row in csv.DictReader((state / MANIFEST).open())] == [f"file://{address}"]
    run(str(state / MANIFEST), tables, "--set", f'inventory.allowed_prefixes=["{uploads}/"]')
    [found] = look(edited, tmp_path)
    listed = {row["uri"]: row["image_id"] for row in read_table("images", tables=tables).to_pylist()}
    assert len(listed) == 3
    assert (found["is_added"], found["image_id"]) == (False, str(listed[f"file://{address}"]))
    assert AddedLog(state).entries() == []
    assert [*csv.DictReader((state / MANIFEST).open())] == []
