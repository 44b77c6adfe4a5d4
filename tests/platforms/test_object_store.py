"""A lake and its tables on S3 (moto on loopback), by `spark-submit.sh`: killed, continued, and run again at night.

Spark reaches the store by S3A, Python by s3fs and delta-rs: each with its own spelling of one address and credentials.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import EVERYTHING, ROOT, Command, Done, in_a_shell, none_left, shell_environment
from s3_server import S3Server, running_s3_server
from table_contents import rows

from dedup_spark.sources.addresses import to_path
from dedup_spark.spark.delta import delta_jar
from platforms.runs import FinishedFolder, keepers

pytestmark = pytest.mark.platforms

HADOOP_AWS = "org.apache.hadoop:hadoop-aws:3.4.2"
"""Of the Hadoop that is in PySpark 4.1."""
LAKE, TABLES = "my photos/über 1", "dedup/my tables"


@pytest.fixture(scope="module")
def store(finished_folder: FinishedFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The tiny lake at keys with spaces and letters beyond ASCII, and an empty bucket for the tables."""
    with running_s3_server(tmp_path_factory.mktemp("moto") / "log") as s3:
        files = [path for path in finished_folder.lake.rglob("*") if path.is_file()]
        s3.put("lake", {f"{LAKE}/{path.relative_to(finished_folder.lake)}": path.read_bytes() for path in files})
        s3.put("tables", {})
        yield s3


@pytest.fixture
def run_pipeline(store: S3Server, tmp_path: Path) -> Iterator[Callable[[], Command]]:
    """`spark-submit.sh` with all that README says of S3, and the address of this store."""
    confs = {
        "spark.jars.packages": f"{delta_jar()},{HADOOP_AWS}",
        "spark.hadoop.fs.s3a.endpoint": store.endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
        "spark.driver.memory": "2g",
    }
    settings = [word for key, value in confs.items() for word in ("--conf", f"{key}={value}")]
    place = ["--lake", f"s3a://lake/{LAKE}", "--tables", f"s3a://tables/{TABLES}"]
    started: list[Command] = []

    def start() -> Command:
        environment = shell_environment() | of_python(store) | {"SPARK_LOCAL_IP": "127.0.0.1"}
        command = [str(ROOT / "spark-submit.sh"), "--platform", "local", *settings, "run_pipeline", "--", *place]
        started.append(Command(command, tmp_path / f"log-{len(started)}", environment))
        return started[-1]

    with none_left(started):
        yield start


def of_python(store: S3Server) -> dict[str, str]:
    """Where s3fs and delta-rs find the store, and who asks."""
    return store.environment | {"AWS_ENDPOINT_URL": store.endpoint, "AWS_ALLOW_HTTP": "true"}


def answer(store: S3Server, *words: str) -> Done:
    """A command that needs no Spark."""
    command = [sys.executable, "-m", "dedup_spark", *words, "--tables", f"s3a://tables/{TABLES}"]
    return in_a_shell(command, PYTHONPATH=str(ROOT), **of_python(store))


def downloaded(store: S3Server, folder: Path) -> Path:
    """The tables as they are now."""
    pages = store.client.get_paginator("list_objects_v2").paginate(Bucket="tables", Prefix=f"{TABLES}/")
    for found in (one for page in pages for one in page.get("Contents", [])):
        path = folder / found["Key"].removeprefix(f"{TABLES}/")
        if not found["Key"].endswith("/"):
            path.parent.mkdir(parents=True, exist_ok=True)
            store.client.download_file("tables", found["Key"], str(path))
    return folder


def by_name(groups: frozenset[tuple[str, frozenset[str]]], root: str, lake: Path) -> set[tuple[bytes, frozenset[str]]]:
    """With names below the lake in the place of addresses, and of the keeper what is in it: which of equal files was
    there first is decided by the seconds of their upload."""

    def name(uri: str) -> str:
        return (to_path(uri) if uri.startswith("file:") else uri).partition(f"{root}/")[2]

    return {((lake / name(keeper)).read_bytes(), frozenset(map(name, members))) for keeper, members in groups}


def has_rows(store: S3Server, table: str) -> bool:
    """Whether a commit behind the one that made the table was written."""
    return ("PUT", f"/tables/{TABLES}/{table}/_delta_log/00000000000000000001.json") in store.requests


def test_a_run_on_s3_that_is_killed_goes_on_and_gives_what_a_local_run_gives(
    store: S3Server, run_pipeline: Callable[[], Command], finished_folder: FinishedFolder, tmp_path: Path
) -> None:
    first = run_pipeline()
    first.wait_for(lambda _: has_rows(store, "features"), tmp_path)
    first.kill(EVERYTHING)
    first.wait_until_nothing_is_left()

    again = run_pipeline()
    assert again.wait() == 0, again.output()
    told = again.log.read_text(errors="replace")
    assert "which did not complete" in told  # it continues the killed run
    tables = downloaded(store, tmp_path / "tables")
    local = finished_folder.lake
    here = by_name(keepers(finished_folder.tables), str(local), local)
    assert by_name(keepers(tables), LAKE, local) == here
    listed = {row["uri"] for row in rows(tables, "images")}
    assert any(uri.startswith(f"s3://lake/{LAKE}/odd names/") and "写真" in uri for uri in listed)
    assert len(rows(tables, "features")) == len(listed)
    assert not any(name.startswith("_staging") for name in os.listdir(tables))

    night = run_pipeline()
    assert night.wait() == 0, night.output()
    last = max((row for row in rows(downloaded(store, tmp_path / "next"), "runs") if row["step"] == "extract"),
               key=lambda row: row["at"])  # fmt: skip
    assert dict(last["counts"])["read"] == 0

    status = answer(store, "status")
    assert status.returncode == 0, status.stderr
    counted = answer(store, "sql", "--json", "SELECT count(*) AS n FROM duplicates")
    assert counted.returncode == 0, counted.stderr
    assert json.loads(counted.stdout)[0]["n"] == sum(len(members) - 1 for _, members in here)
