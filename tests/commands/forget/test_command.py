"""An erased image is in no file below the tables any more, whatever held it, and does not come back."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import FinishedRun, run_everything
from image_traces import Traces, found_in
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from table_contents import rows

from dedup_spark import api
from dedup_spark.commands.forget import command
from dedup_spark.commands.forget.command import Forgotten
from dedup_spark.config import load_config
from dedup_spark.errors import ConfigError
from dedup_spark.lookup.finished import finished_run
from dedup_spark.store import lease
from dedup_spark.store.delta_sql import newest_commit
from dedup_spark.store.reader import read_table
from dedup_spark.store.schema import ALL, CLUSTERS, FEATURES, PAIRS, RUNS
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import StepName

URIS = ("edits/original.jpg", "photos/coffee.jpg", "broken/truncated.jpg")
PREFIX = "singles/"


@dataclass(frozen=True)
class Erased:
    """Tables after a forget, what it said, and what the tables knew before."""

    tables: Tables
    lake: Path
    said: Forgotten
    dry: Forgotten
    traces: Traces
    before: dict[str, list[dict[str, Any]]]
    ids: set[int]

    def now(self, table: str) -> list[dict[str, Any]]:
        return rows(self.tables.root, table)


def is_erased(uri: str, lake: Path) -> bool:
    below = uri.removeprefix(f"file://{lake.resolve()}/")
    return below in URIS or below.startswith(PREFIX)


def traces_of(before: dict[str, list[dict[str, Any]]], ids: set[int]) -> Traces:
    """Of the images with these ids; what others have too (byte copies) says nothing of them."""
    features = {row["image_id"]: row for row in before["features"]}
    kept = [row for row in before["features"] if row["image_id"] not in ids]
    names = ("phash", "content_hash", "pixel_hash", "thumbnail", "embedding", "block_sample")
    shared = {row[name] for row in kept for name in names if row[name] is not None}
    others = [row for row in before["images"] if row["image_id"] not in ids]
    shared |= {row[name] for row in others for name in ("uri", "member") if row[name]}
    traces = Traces()
    for image in before["images"]:
        if image["image_id"] in ids:
            traces.add_image(image, features[image["image_id"]], shared)
    return traces


def leave_copies_everywhere(tables: Tables, lake: Path) -> None:
    """What runs that were killed, failed or are older leave, with rows of the images in it."""
    root, image = Path(tables.root), f"file://{lake.resolve()}/{URIS[0]}"
    image_id = next(row["image_id"] for row in rows(root, "images") if row["uri"] == image)
    features = tables.read(FEATURES)
    features.write.parquet(str(root / "_staging/guest-99990101-000000-abcd/rows"))
    features.write.parquet(str(root / "_staging/run-20200101-000000-abcd/rows"))
    tables.add_progress(StepName.EMBED, "0123456789abcdef", features.select(FEATURES.column_names))
    tables.add_progress(StepName.MATCH, "0123456789abcdef", tables.read(PAIRS))
    data = next(path for path in (root / "features").glob("*.parquet"))
    shutil.copy(data, root / "features/part-00000-of-nobody.parquet")
    left = [path for path in (root / "shard_files").rglob("shard-*") if path.is_file()]
    (root / "shard_files/killed").mkdir()
    for path in left:
        shutil.copy(path, root / "shard_files/killed")
    (root / "report/exported.html").write_text(base64.b64encode(features.first()["thumbnail"] or b"").decode() + image)
    told = {"message": f"of {image} the id is {image_id}", "steps": [{"counts": {"read": 3}}], "ids": [image_id, 5]}
    (root / "results/20200101-000000-abcd.json").write_text(json.dumps(told))
    (root / "results/.killed.json.12ab.tmp").write_text(json.dumps(told))
    failed = (
        tables.read(RUNS)
        .limit(1)
        .withColumns(
            {
                "message": F.lit(f"cannot read {lake.resolve()}/{URIS[0]}"),
                "notes": F.lit(json.dumps({"passed_over": {"x": {"n": 1, "example": image}}, "kept": "why"})),
                "run_id": F.lit("20200101-000000-abcd"),
            }
        )
    )
    tables.append(RUNS, failed)
    tables.upsert(CLUSTERS, tables.read(CLUSTERS).where("is_keeper"))  # change data, and older files


@pytest.fixture(scope="module")
def erased(spark: SparkSession, finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Erased:
    root = shutil.copytree(finished.tables.root, tmp_path_factory.mktemp("forget") / "tables")
    tables, lake = Tables(spark, str(root)), finished.lake.folder
    leave_copies_everywhere(tables, lake)
    before = {table.name: rows(root, table.name) for table in ALL}
    ids = {row["image_id"] for row in before["images"] if is_erased(row["uri"], lake)}
    traces = traces_of(before, ids)
    found = found_in(root, traces)
    assert len(found) > 20  # what is looked for is found where it is
    flat = {path.partition(".")[2]: what for path, what in found.items() if path.startswith("shard_files/killed/")}
    assert {name: "bytes" in what for name, what in flat.items()} == dict.fromkeys(
        ("faiss", "rows.npy", "vectors.npy"), True
    )  # vectors in two of them, sketches in the rows
    asked: dict[str, Any] = {"uris": [lake / name for name in URIS], "prefixes": [f"{lake}/{PREFIX}"]}
    dry = api.forget(spark, tables=root, dry_run=True, **asked)
    assert {table.name: rows(root, table.name) for table in ALL} == before
    said = api.forget(spark, tables=root, **asked)
    return Erased(tables, lake, said, dry, traces, before, ids)


pytestmark = pytest.mark.slow


def test_no_file_below_the_root_holds_anything_of_an_erased_image(erased: Erased) -> None:
    assert found_in(Path(erased.tables.root), erased.traces) == {}


def test_all_other_rows_are_as_they_were(erased: Erased) -> None:
    for table in ("images", "features"):
        kept = [row for row in erased.before[table] if row["image_id"] not in erased.ids]
        assert sorted(erased.now(table), key=str) == sorted(kept, key=str)
    pairs = [r for r in erased.before["pairs"] if not {r["image_id_a"], r["image_id_b"]} & erased.ids]
    assert sorted(erased.now("pairs"), key=str) == sorted(pairs, key=str)


def test_what_was_found_is_told_and_the_same_beforehand(erased: Erased) -> None:
    assert erased.dry.run_id is None
    assert erased.dry.found == erased.said.found
    assert erased.said.found.images == erased.said.found.listed == len(erased.ids)
    assert erased.said.texts == 3  # message and notes of one row, and a file of results
    outcome = json.loads(Path(erased.tables.root, f"results/{erased.said.run_id}.json").read_text())
    assert (outcome["command"], outcome["exit_code"], outcome["images"]) == ("forget", 0, len(erased.ids))


def test_clusters_keep_their_ids_and_name_members_of_their_own(erased: Erased) -> None:
    old = {row["image_id"]: row["cluster_id"] for row in erased.before["clusters"]}
    now = erased.now("clusters")
    assert now
    by_cluster: dict[int, list[dict[str, Any]]] = {}
    for row in now:
        by_cluster.setdefault(row["cluster_id"], []).append(row)
        assert row["cluster_id"] == old[row["image_id"]] or old[row["image_id"]] in erased.ids
    for cluster_id, members in by_cluster.items():
        ids = {row["image_id"] for row in members}
        assert {row["cluster_size"] for row in members} == {len(members)}, cluster_id
        assert sum(row["is_keeper"] for row in members) == 1
        assert {row["keeper_image_id"] for row in members} == {r["image_id"] for r in members if r["is_keeper"]}
        assert {row["near_image_id"] for row in members} <= ids
        assert all(row["near_distance"] <= row["bound"] for row in members)


def test_the_log_of_runs_and_the_results_keep_what_names_no_image(erased: Erased) -> None:
    [failed] = [row for row in erased.now("runs") if row["run_id"] == "20200101-000000-abcd"]
    assert failed["message"] == "(forgotten)"
    assert json.loads(failed["notes"]) == {"passed_over": {"x": {"n": 1, "example": "(forgotten)"}}, "kept": "why"}
    told = json.loads(Path(erased.tables.root, "results/20200101-000000-abcd.json").read_text())
    assert told == {"message": "(forgotten)", "steps": [{"counts": {"read": 3}}], "ids": [None, 5]}
    own = [row for row in erased.now("runs") if row["run_id"] == erased.said.run_id]
    assert sorted(row["status"] for row in own) == ["complete", "started"]
    assert len(erased.now("runs")) == len(erased.before["runs"]) + 2


def test_tables_have_their_own_properties_again_and_their_versions_go_on(erased: Erased) -> None:
    for table in ALL:
        properties = erased.tables.spark.sql(f"SHOW TBLPROPERTIES {erased.tables.sql_source(table)}").collect()
        named = {row["key"]: row["value"] for row in properties}
        assert "dedup_spark.before_forget" not in named
        assert "delta.deletedFileRetentionDuration" not in named
        assert named.get("delta.checkpointInterval") == table.properties.get("delta.checkpointInterval")
        assert named.get("delta.enableChangeDataFeed") == table.properties.get("delta.enableChangeDataFeed")
        assert newest_commit(f"{erased.tables.root}/{table.name}") == erased.tables.version(table)


def test_look_ups_read_the_tables_as_they_are_from_then_on(erased: Erased) -> None:
    run = finished_run(str(erased.tables.root))
    assert run.versions == {table.name: erased.tables.version(table) for table in ALL if table is not RUNS}
    assert run.changed_at > run.made_at
    held = read_table("features", tables=run.root, columns=["image_id"], version=run.versions["features"])
    assert not erased.ids & {*held["image_id"].to_pylist()}


def test_a_second_forget_finds_nothing_and_leaves_the_rows_as_they_are(erased: Erased, tmp_path: Path) -> None:
    root = shutil.copytree(erased.tables.root, tmp_path / "tables")
    again = api.forget(erased.tables.spark, tables=root, uris=[erased.lake / URIS[0]])
    assert again.found.images == 0
    assert again.found.rows == {}
    assert rows(root, "clusters") == erased.now("clusters")


def test_the_next_run_brings_none_of_them_back_and_decides_anew(erased: Erased, tmp_path: Path) -> None:
    root = shutil.copytree(erased.tables.root, tmp_path / "tables")
    tables = Tables(erased.tables.spark, str(root))
    run_everything(tables, erased.lake, load_config())
    assert {row["image_id"] for row in rows(root, "images")} == {row["image_id"] for row in erased.now("images")}
    assert found_in(root, erased.traces) == {}
    stayed = {row["image_id"]: row["cluster_id"] for row in erased.now("clusters")}
    after = {row["image_id"]: row["cluster_id"] for row in rows(root, "clusters")}
    kept = [after[image_id] == cluster_id for image_id, cluster_id in stayed.items() if image_id in after]
    assert kept
    assert all(kept)


@pytest.mark.parametrize(
    "killed_in", ["_clean_texts", "_erase_from_clusters", "_erase_addresses", "residue.delete_derived", "_erase_past"]
)
def test_a_forget_that_was_killed_is_ended_by_the_same_command(
    killed_in: str, spark: SparkSession, finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(finished.tables.root, tmp_path / "tables")
    before = {name: rows(root, name) for name in ("images", "features")}
    uri = finished.lake.folder / URIS[0]
    ids = {row["image_id"] for row in before["images"] if row["uri"].endswith(f"/{URIS[0]}")}

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"{command.__name__}.{killed_in}", killed)
        with pytest.raises(KeyboardInterrupt):
            api.forget(spark, tables=root, uris=[uri])
    monkeypatch.setattr(command, "_SECONDS_TO_APPEND", 0.0)
    monkeypatch.setattr(command, "_SECONDS_TO_CLEAN", 0.0)
    api.forget(spark, tables=root, uris=[uri])
    assert found_in(root, traces_of(before, ids)) == {}


def test_a_lake_all_of_which_was_forgotten_is_no_error(
    spark: SparkSession, finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(finished.tables.root, tmp_path / "tables")
    monkeypatch.setattr(command, "_SECONDS_TO_APPEND", 0.0)
    monkeypatch.setattr(command, "_SECONDS_TO_CLEAN", 0.0)
    n_listed = len(rows(root, "images"))
    api.forget(spark, tables=root, prefixes=[f"{finished.lake.folder}/"])
    run_everything(Tables(spark, str(root)), finished.lake.folder, load_config())
    listed = [row for row in rows(root, "runs") if (row["step"], row["status"]) == ("inventory", "complete")]
    counts = dict(max(listed, key=lambda row: row["at"])["counts"])
    assert (counts["listed"], counts["passed_over_image_that_was_forgotten"]) == (0, n_listed)
    assert rows(root, "images") == rows(root, "features") == rows(root, "clusters") == []


def test_what_is_not_confirmed_changes_nothing(spark: SparkSession, finished: FinishedRun, tmp_path: Path) -> None:
    root = shutil.copytree(finished.tables.root, tmp_path / "tables")
    shown = []
    with pytest.raises(ConfigError, match="nothing was changed"):
        api.forget(
            spark, tables=root, uris=[finished.lake.folder / URIS[0]], confirm=lambda f: shown.append(f) or False
        )
    assert [found.images for found in shown] == [1]
    assert {t.name: rows(root, t.name) for t in ALL} == {t.name: rows(finished.tables.root, t.name) for t in ALL}
    holder = lease.holder_of(str(root))
    assert holder is not None
    assert holder.released
