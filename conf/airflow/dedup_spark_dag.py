"""The job each night by Airflow 3: copy this file into the folder of DAGs, and the code to DEDUP_SPARK (README.md)."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

CODE = os.environ.get("DEDUP_SPARK", "/opt/dedup_spark")
"""A checkout, or the folder `code` that `make package` makes, where tasks run."""

_NOTHING_STARTED = 2


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # one run writes the tables at a time: the lease would refuse a second one
    params={
        "platform": Param("emr", enum=["emr", "k8s", "standalone", "local"]),
        "lake": Param("s3://CHANGE-ME/photos", type="string"),
        "tables": Param("s3://CHANGE-ME/dedup", type="string"),
        "more": Param([], type="array", description='more arguments: ["--set", "extract.embedding=sscd"]'),
    },
)
def dedup_spark() -> None:
    """Find duplicate images. A run that was stopped is continued by the next try."""

    @task(retries=2, retry_delay=timedelta(minutes=10))
    def run_pipeline(params: dict[str, Any]) -> None:
        place = ["--lake", params["lake"], "--tables", params["tables"]]
        command = [f"{CODE}/spark-submit.sh", "--platform", params["platform"], "run_pipeline", "--", *place]
        code = subprocess.run([*command, *params["more"]], check=False).returncode
        if code == _NOTHING_STARTED:
            raise AirflowFailException("wrong settings, or another run writes the tables: to try again changes nothing")
        if code:
            raise AirflowException(f"a step failed (exit code {code}): the last line of the log says why")

    run_pipeline()


dedup_spark()
