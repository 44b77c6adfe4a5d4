"""`spark-submit.sh --platform emr` in cluster mode on a real YARN, with the environment that `make package` builds.

Delta is another one than that of the local run, as on EMR: two jars, and no Python module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ROOT, Done, in_a_shell

from platforms import yarn
from platforms.jars import SPARK_HOME, delta_jars
from platforms.runs import FinishedFolder, keepers

pytestmark = pytest.mark.platforms


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[yarn.Yarn]:
    with yarn.started(tmp_path_factory.mktemp("yarn")) as running:
        yield running


def submit(cluster: yarn.Yarn, packed: Path, *job: str) -> Done:
    """With all settings of conf/emr but the sizes, and the place of Delta's jars and of Spark's own."""
    jars = delta_jars()
    settings = {
        "spark.jars": ",".join(f"file://{jar}" for jar in sorted(jars.glob("*.jar"))),
        "spark.yarn.jars": f"local:{SPARK_HOME}/jars/*",
        "spark.yarn.stagingDir": f"file://{cluster.folder}/staging",
        "spark.executor.instances": "2",
        "spark.executor.cores": "2",
        "spark.executor.memory": "900m",
        "spark.executor.memoryOverhead": "1100m",
        "spark.driver.memory": "1g",
        "spark.driver.memoryOverhead": "1g",
        "spark.driver.cores": "2",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
    }
    confs = [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    script = [str(ROOT / "spark-submit.sh"), "--platform", "emr", "--archive", str(packed), *confs]
    return in_a_shell([*script, *job], SPARK_HOME=str(SPARK_HOME), HADOOP_CONF_DIR=str(cluster.conf))


def test_a_run_in_the_cluster_gives_the_groups_and_keepers_of_a_local_run(
    cluster: yarn.Yarn, packed: Path, finished_folder: FinishedFolder, tmp_path: Path
) -> None:
    """Its packages come from the archive alone: the Python below has none of them."""
    tables = tmp_path / "my tables"
    (tmp_path / "settings.toml").write_text(
        '[extract]\ngpus_per_task = 1\nruntime = "onnx"\n[match]\ngpus_per_task = 0\n'
    )
    place = ("--lake", str(finished_folder.lake), "--tables", str(tables))
    done = submit(cluster, packed, "run_pipeline", "--", *place, "--config", str(tmp_path / "settings.toml"))
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{cluster.logs()}"
    assert keepers(tables) == keepers(finished_folder.tables)
    outcomes = [json.loads(file.read_text()) for file in (tables / "results").glob("*.json")]
    assert {outcome["exit_code"] for outcome in outcomes} == {0}
    (application,) = cluster.applications()
    assert application["finalStatus"] == "SUCCEEDED"


def test_the_code_of_a_refused_run_comes_through_and_its_driver_is_not_started_again(
    cluster: yarn.Yarn, packed: Path, tmp_path: Path
) -> None:
    tables = tmp_path / "tables"
    done = submit(cluster, packed, "run_pipeline", "--", "--lake", str(tmp_path / "absent"), "--tables", str(tables))
    assert done.returncode == 2, f"{done.stderr[-3000:]}\n{cluster.logs()}"
    newest = max(cluster.applications(), key=lambda application: application["startedTime"])
    assert newest["finalStatus"] == "FAILED"
    assert cluster.attempts(newest["id"]) == 1
