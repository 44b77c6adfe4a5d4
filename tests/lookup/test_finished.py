"""Which run is the last finished one, and which versions of the tables are its own."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import lookups
import pytest
from deltalake import write_deltalake

from dedup_spark.errors import ConfigError, TableError
from dedup_spark.lookup.finished import finished_run
from dedup_spark.store.reader import read_table
from lookup.conftest import COFFEE, images_of_lake

ONE = {COFFEE: images_of_lake()[COFFEE]}


def test_the_versions_are_those_that_the_step_cluster_left(tmp_path: Path) -> None:
    lookups.finish_run(tmp_path, ONE)
    lookups.finish_run(tmp_path, images_of_lake(), "r2")
    lookups.begin_run(tmp_path, "r3")
    run = finished_run(str(tmp_path))
    assert (run.run_id, run.versions["features"], run.versions["clusters"]) == ("r2", 1, 1)
    assert len(read_table("features", tables=tmp_path, version=run.versions["features"])) == 6
    assert run.made_at == run.checked_at == run.changed_at


def test_settings_are_those_of_the_steps_that_used_them(tmp_path: Path) -> None:
    lookups.finish_run(tmp_path, ONE, settings={"match.neighbours": 7, "cluster.target_precision": 0.9})
    run = finished_run(str(tmp_path))
    assert (run.config.match.neighbours, run.config.cluster.target_precision, run.floor) == (7, 0.9, 0.15)


def test_a_sketch_filter_is_that_of_match(tmp_path: Path) -> None:
    sketch = {"first_bits": 256, "rest_bits": 256, "first_radius": 100, "radius": 200}
    lookups.finish_run(tmp_path, ONE, engine="sketch", floor=0.3, sketch=sketch)
    run = finished_run(str(tmp_path))
    assert run.sketch_filter is not None
    assert (run.sketch_filter.n_bits, run.floor) == (512, 0.3)


def test_without_a_finished_run_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="run the earlier steps first"):
        finished_run(str(tmp_path / "nothing"))
    lookups.finish_run(tmp_path, ONE)
    runs = read_table("runs", tables=tmp_path).to_pylist()
    started = [row for row in runs if row["step"] != "cluster"]
    write_runs(tmp_path, started)
    with pytest.raises(ConfigError, match="hold no finished run"):
        finished_run(str(tmp_path))


def test_tables_of_an_older_version_are_read_while_nothing_was_begun_since(tmp_path: Path) -> None:
    lookups.finish_run(tmp_path, ONE)
    lookups.finish_run(tmp_path, images_of_lake(), "r2")
    runs = [row | {"notes": None} for row in read_table("runs", tables=tmp_path).to_pylist()]
    write_runs(tmp_path, runs)
    assert finished_run(str(tmp_path)).versions["features"] == 1
    lookups.begin_run(tmp_path, "r3")
    with pytest.raises(ConfigError, match=r"an older version .* once more"):
        finished_run(str(tmp_path))


def test_a_later_mark_that_names_versions_goes_before(tmp_path: Path) -> None:
    """As of a command that changes the tables of a finished run."""
    lookups.finish_run(tmp_path, ONE)
    before = finished_run(str(tmp_path))
    lookups.begin_run(tmp_path, "r2")
    versions = dict(before.versions) | {"features": 1}
    last = read_table("runs", tables=tmp_path).to_pylist()[0]
    notes = json.dumps({"table_versions": versions})
    at = max(row["at"] for row in read_table("runs", tables=tmp_path).to_pylist()) + timedelta(seconds=1)
    rows = read_table("runs", tables=tmp_path).to_pylist()
    write_runs(tmp_path, [*rows, last | {"step": "repair", "status": "complete", "notes": notes, "at": at}])
    run = finished_run(str(tmp_path))
    assert (run.versions["features"], run.run_id) == (1, before.run_id)
    assert run.name != before.name
    assert run.changed_at == at > before.changed_at


def write_runs(root: Path, rows: list[dict[str, object]]) -> None:
    import pyarrow as pa

    from dedup_spark.store.schema import RUNS

    write_deltalake(str(root / "runs"), pa.Table.from_pylist(rows, RUNS.schema.arrow), mode="overwrite")
