"""The real spark-submit.sh on a small real cluster, and the real spark-sql on the tables that it wrote."""

from __future__ import annotations

from pathlib import Path

import pyspark
import pytest
from conftest import FinishedRun
from processes import ROOT, Done, in_a_shell
from table_contents import contents, rows

from dedup_spark.store import schema as definitions
from dedup_spark.store.view_definitions import VIEWS

pytestmark = pytest.mark.slow


def submit(master: str, lake: Path, root: Path, *settings: str) -> Done:
    script = [str(ROOT / "spark-submit.sh"), "--platform", "local", "--master", master, "run_pipeline"]
    return in_a_shell([*script, "--", "--lake", str(lake), "--tables", str(root), *settings])


def spark_sql(root: str, query: str) -> list[list[str]]:
    """Rows that spark-sql prints, with the Delta of conf/local and the views of the report."""
    spark_home = Path(pyspark.__file__).parent
    command = [
        *(str(spark_home / "bin" / "spark-sql"), "--master", "local[2]"),
        *("--properties-file", str(ROOT / "conf/local/spark-defaults.conf")),
        *("--conf", "spark.sql.catalogImplementation=in-memory"),  # the other one leaves a Derby folder behind
        *("--conf", f"spark.sql.warehouse.dir={root}/../warehouse"),
        *("-i", f"{root}/report/views.sql", "-e", query),
    ]
    done = in_a_shell(command, SPARK_HOME=str(spark_home), SPARK_LOCAL_IP="127.0.0.1")
    assert done.returncode == 0, done.stderr[-4000:]
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_a_cluster_of_processes_gives_the_tables_of_one_process(finished: FinishedRun, tmp_path: Path) -> None:
    root = tmp_path / "my tables"
    done = submit("local-cluster[2,1,2048]", finished.lake.folder, root)
    assert done.returncode == 0, done.stderr[-4000:]
    found, expected = contents(root), contents(finished.tables.root)
    for table in expected:
        assert found[table] == expected[table], table
        assert len(rows(root, table)) == len(rows(finished.tables.root, table)), table
    assert not (root / "_staging").exists()
    assert (root / "report" / "index.html").stat().st_size > 0


def test_the_exit_code_of_a_refused_run_comes_through(tmp_path: Path) -> None:
    done = submit("local[2]", tmp_path / "absent", tmp_path / "tables")
    assert done.returncode == 2
    # spark-submit sends both streams of the driver's Python to its standard output
    assert [line for line in done.stdout.splitlines() if "absent" in line] == done.stdout.splitlines()
    assert done.stdout.startswith(f"dedup-spark: lake {tmp_path / 'absent'}: ")


def test_spark_sql_opens_tables_and_views_by_name(finished: FinishedRun) -> None:
    root = finished.tables.root
    members = rows(root, "clusters")
    query = (
        "SHOW VIEWS;"
        "SELECT count(*) FROM duplicates;"
        "SELECT count(*), sum(size_bytes) FROM images;"
        "SELECT reject_reason FROM quarantine ORDER BY 1"
    )
    n_views = len(definitions.ALL) + len(VIEWS)
    answers = spark_sql(root, query)
    names, (duplicates, images, *reasons) = answers[:n_views], answers[n_views:]
    assert {name for [name] in names} == {t.name for t in definitions.ALL} | {v.name for v in VIEWS}
    assert duplicates == [str(sum(not member["is_keeper"] for member in members))]
    sizes = [row["size_bytes"] for row in rows(root, "images")]
    assert images == [str(len(sizes)), str(sum(sizes))]
    assert [reason for [reason] in reasons] == sorted(finished.lake.rejects.values())
