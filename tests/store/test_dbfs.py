"""Places in DBFS, on a machine with its mount and on one without; what Spark is given for them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dedup_spark.errors import ConfigError
from dedup_spark.store import dbfs
from dedup_spark.store.reader import root_of
from dedup_spark.store.schema import PAIRS
from dedup_spark.store.tables import Tables


@pytest.mark.parametrize("place", ["dbfs:/mnt/x", "DBFS:///mnt/x", "/dbfs/mnt/x", "dbfs:/VolumesOfMine"])
def test_dbfs_is_refused_with_what_to_use_where_python_cannot_see_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbfs.os.path, "isdir", lambda path: path != "/dbfs")
    with pytest.raises(ConfigError, match=f"^--lake {place}: this machine has no folder /dbfs.*/Volumes/CATALOG"):
        dbfs.require_mounted("--lake", place)
    monkeypatch.setattr(dbfs.os.path, "isdir", lambda path: path == "/dbfs")
    dbfs.require_mounted("--lake", place)


@pytest.mark.parametrize("place", ["/Volumes/main/x/v", "dbfs:/Volumes/main/x/v", "s3://dbfs/x", "/data/dbfs/x", "x"])
def test_places_elsewhere_need_no_mount(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbfs.os.path, "isdir", lambda path: path != "/dbfs")
    dbfs.require_mounted("--tables", place)


def session(hadoop: dict[str, str]) -> Any:
    """Stands in for one: only Hadoop's settings are asked for."""
    state = SimpleNamespace(newHadoopConf=lambda: SimpleNamespace(get=hadoop.get))
    return SimpleNamespace(_jsparkSession=SimpleNamespace(sessionState=lambda: state))


DATABRICKS = {"fs.dbfs.impl": "com.databricks.backend.daemon.data.client.DBFSV2"}


@pytest.mark.parametrize(
    ("path", "on_databricks"),
    [("/dbfs/mnt/x", "dbfs:/mnt/x"), ("/Volumes/main/x", "/Volumes/main/x"), ("/dbfsx/y", "/dbfsx/y"),
     ("s3://b/dbfs/x", "s3://b/dbfs/x"), ("/dbfs/Volumes/m", "/dbfs/Volumes/m")],
)  # fmt: skip
def test_spark_takes_the_mount_for_the_store_behind_it(path: str, on_databricks: str) -> None:
    assert dbfs.to_spark(session(DATABRICKS), path) == on_databricks
    assert dbfs.to_spark(session({}), path) == path  # a folder of that name on any other machine


def test_tables_in_dbfs_have_one_place_for_spark_and_for_files() -> None:
    tables = Tables(session(DATABRICKS), "/dbfs/mnt/dedup")
    assert tables.sql_source(PAIRS) == "delta.`dbfs:/mnt/dedup/pairs`"
    assert tables.place(PAIRS) == "/dbfs/mnt/dedup/pairs"


@pytest.mark.parametrize(
    ("address", "path"),
    [("dbfs:/mnt/x", "/dbfs/mnt/x"), ("DBFS:///mnt/x", "/dbfs/mnt/x"), ("dbfs:/Volumes/m/x", "/Volumes/m/x"),
     ("dbfs:/VolumesOfMine", "/dbfs/VolumesOfMine")],
)  # fmt: skip
def test_questions_without_spark_read_the_mount_too(address: str, path: str) -> None:
    assert dbfs.to_path(address) == path
    assert root_of(address) == path
