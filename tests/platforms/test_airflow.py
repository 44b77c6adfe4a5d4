"""conf/airflow: its DAG, imported and called by a real Airflow in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT

from platforms.jars import built_once

pytestmark = pytest.mark.platforms

AIRFLOW = "3.3.2"
_TELL = """
import json, sys
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(dag_folder=sys.argv[1])
dag = bag.dags["dedup_spark"]
(task,) = dag.tasks
told = {"errors": bag.import_errors, "max_active_runs": dag.max_active_runs, "catchup": dag.catchup,
        "retries": task.retries, "params": dag.params.dump()}
try:
    task.python_callable({**dag.params.dump(), "lake": "s3://b/my photos", "more": ["--set", "a.b=c"]})
    told["raised"] = None
except Exception as e:
    told["raised"] = type(e).__name__
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def airflow() -> Path:
    """The Python of an environment with Airflow, which is made once."""
    return built_once(f"airflow-{AIRFLOW}", install) / "bin" / "python"


def install(folder: Path) -> None:
    """Its Python is a link, so that the folder may be renamed."""
    uv, python = [sys.executable, "-m", "uv"], folder / "bin" / "python"
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
    wanted = f"apache-airflow=={AIRFLOW}"
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), wanted], check=True)


@pytest.mark.parametrize(
    ("code", "raised"), [(0, None), (1, "AirflowException"), (2, "AirflowFailException"), (143, "AirflowException")]
)
def test_the_dag_is_imported_and_its_task_ends_as_the_job_does(
    airflow: Path, tmp_path: Path, code: int, raised: str | None
) -> None:
    (tmp_path / "code").mkdir()
    script = tmp_path / "code" / "spark-submit.sh"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words\nexit {code}\n')
    script.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path / "airflow"),
                   "AIRFLOW__CORE__LOAD_EXAMPLES": "false", "DEDUP_SPARK": str(tmp_path / "code")}  # fmt: skip
    done = subprocess.run([str(airflow), "-c", _TELL, str(ROOT / "conf/airflow")], env=environment, cwd=tmp_path,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["errors"] == {}
    assert told["raised"] == raised
    assert (told["max_active_runs"], told["catchup"], told["retries"]) == (1, False, 2)
    words = [
        "--platform",
        "emr",
        "run_pipeline",
        "--",
        "--lake",
        "s3://b/my photos",
        "--tables",
        "s3://CHANGE-ME/dedup",
    ]
    assert (tmp_path / "words").read_text().splitlines() == [*words, "--set", "a.b=c"]
