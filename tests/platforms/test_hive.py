"""`--database` on a Hive metastore (Derby): two nights in processes of their own, every command, other clients."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT, in_a_shell
from table_contents import rows

from platforms.daemons import Daemons, free_ports
from platforms.jars import SPARK_HOME, delta_jars
from platforms.runs import FinishedFolder, keepers

pytestmark = pytest.mark.platforms

SCHEMA = "photos"
Answer = dict[str, Any]


class Nights:
    """A metastore, the tables of its schema, and the commands that were run on them."""

    def __init__(self, folder: Path, lake: Path) -> None:
        self.folder, self.lake = folder, lake
        self.tables = folder / "warehouse" / f"{SCHEMA}.db"  # of the schema; other files are at `place`
        self.place = ["--tables", str(folder / "files"), "--database", SCHEMA]
        self.on_lake = ["--lake", str(lake), *self.place]

    def night(self, *commands: list[str]) -> list[Answer]:
        """Run commands in a new process."""
        script = [sys.executable, str(ROOT / "tests/platforms/hive_nights.py"), str(self.folder), json.dumps(commands)]
        path = f"{ROOT}:{ROOT / 'tests'}"
        done = in_a_shell(script, PYTHONPATH=path, SPARK_LOCAL_IP="127.0.0.1", PYSPARK_PYTHON=sys.executable)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    def confs(self) -> list[str]:
        """The words that lead a program of Spark's to the metastore."""
        settings = {
            "spark.sql.catalogImplementation": "hive",
            "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={self.folder}/metastore",
            "spark.sql.warehouse.dir": f"{self.folder}/warehouse",
            "spark.driver.extraJavaOptions": f"-Dderby.stream.error.file={self.folder}/derby.log",
        }
        file = ["--master", "local[2]", "--properties-file", str(ROOT / "conf/local/spark-defaults.conf")]
        return [*file, *(word for key, value in settings.items() for word in ("--conf", f"{key}={value}"))]

    def spark_sql(self, query: str) -> list[list[str]]:
        """Rows by Spark's own command on the metastore."""
        command = [str(SPARK_HOME / "bin/spark-sql"), *self.confs(), "-e", query]
        done = in_a_shell(command, SPARK_HOME=str(SPARK_HOME), SPARK_LOCAL_IP="127.0.0.1")
        assert done.returncode == 0, done.stderr[-4000:]
        return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def nights(finished_folder: FinishedFolder, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    """After the first night, and the refusal before it of a schema that nobody made."""
    made = Nights(tmp_path_factory.mktemp("hive"), finished_folder.lake)
    refused, first = made.night(["run", *made.on_lake], ["CREATE", "SCHEMA", SCHEMA], ["run", *made.on_lake])
    assert refused["code"] == 2
    assert f"--database {SCHEMA}: there is no such schema: create it" in refused["err"]
    assert first["code"] == 0, first["err"]
    return made


def test_the_first_night_gives_the_groups_and_keepers_of_tables_at_a_path(
    nights: Nights, finished_folder: FinishedFolder
) -> None:
    assert keepers(nights.tables) == keepers(finished_folder.tables)


def test_every_command_finds_the_tables_in_the_second_night(nights: Nights, tmp_path: Path) -> None:
    copy = next(row for row in rows(nights.tables, "clusters") if not row["is_keeper"])
    keeper = next(row["uri"] for row in rows(nights.tables, "clusters") if row["image_id"] == copy["keeper_image_id"])
    image, cluster = copy["uri"], str(copy["cluster_id"])
    again = ["inventory", "extract", "index", "match", "cluster", "report"]
    told = nights.night(
        ["run", *nights.on_lake],
        *([step, *nights.on_lake] for step in again),
        ["sql", *nights.place, "SELECT count(*) AS n FROM duplicates", "--csv"],
        ["trace", *nights.place, "--uri", image],
        ["explain", *nights.place, "--uri", image, "--uri", keeper],
        ["dendrogram", *nights.place, f"--cluster={cluster}"],
        ["verify-removal", *nights.place, "--out", str(tmp_path / "removals.csv")],
        ["plan", *nights.on_lake],
        ["index", "export", *nights.place, "--to", str(tmp_path / "faiss")],
        ["calibrate", *nights.on_lake, "--out", str(tmp_path / "c.toml"), "--set", "calibrate.n_images=20"],
        ["upgrade", *nights.place],
        ["repair", *nights.place],
        ["embed", *nights.on_lake],
    )
    assert [(a["command"][0], a["code"], a["err"]) for a in told if a["code"]] == []
    by_name = {a["command"][0]: a["out"] for a in told}
    n_copies = sum(not row["is_keeper"] for row in rows(nights.tables, "clusters"))
    assert by_name["sql"].split() == ["n", str(n_copies)]
    assert image.rpartition("/")[2] in by_name["trace"]
    assert (tmp_path / "removals.csv").read_text().count("\n") > 1


def expected(nights: Nights) -> tuple[int, int]:
    """How many images are in groups, and how many of them are copies."""
    members = rows(nights.tables, "clusters")
    return len(members), sum(not member["is_keeper"] for member in members)


def test_other_programs_find_tables_and_views_by_their_names_in_the_metastore(nights: Nights) -> None:
    n_members, n_copies = expected(nights)
    query = f"SELECT count(*) FROM {SCHEMA}.clusters; SELECT count(*) FROM {SCHEMA}.duplicates; SHOW TABLES IN {SCHEMA}"
    members, copies, *named = nights.spark_sql(query)
    assert (members, copies) == ([str(n_members)], [str(n_copies)])
    assert {"clusters", "features", "images", "pairs", "runs", "duplicates"} <= {name for row in named for name in row}


def test_a_client_of_the_thrift_server_asks_the_views(nights: Nights, tmp_path: Path) -> None:
    """Hive's own client, beeline, as a program for figures would ask by JDBC.

    The sessions of that server find Delta on its class path alone, not among what `spark.jars.packages` fetches.
    """
    (port,) = free_ports(1)
    jars = ":".join(str(jar) for jar in sorted(delta_jars().glob("*.jar")))
    delta = ["--conf", "spark.jars.packages=", "--driver-class-path", jars]
    program = [*delta, "--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"]
    words = ["spark-internal", "--hiveconf", f"hive.server2.thrift.port={port}", "--hiveconf",
             "hive.server2.thrift.bind.host=127.0.0.1"]  # fmt: skip
    environment = {"SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1"}
    with Daemons(tmp_path) as daemons:
        daemons.start("thrift", [str(SPARK_HOME / "bin/spark-submit"), *nights.confs(), *program, *words], environment)
        daemons.wait_until(lambda: is_open(port))
        shown = ["--silent=true", "--showHeader=false", "--outputformat=tsv2"]
        asked = [
            "-u",
            f"jdbc:hive2://127.0.0.1:{port}",
            "-n",
            "anyone",
            "-e",
            f"SELECT count(*) FROM {SCHEMA}.duplicates",
        ]
        done = in_a_shell([str(SPARK_HOME / "bin/beeline"), *shown, *asked], **environment)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split()[-1] == str(expected(nights)[1])  # behind a prompt, which it prints to no terminal too


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
