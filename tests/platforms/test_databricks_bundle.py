"""conf/databricks/databricks.yml as Databricks reads it."""

from __future__ import annotations

import re
from pathlib import Path

from platforms.schemas import CONF, read_yaml

BUNDLE = "databricks/databricks.yml"


def job() -> dict:
    (found,) = read_yaml(BUNDLE)["resources"]["jobs"].values()
    return found


def test_the_job_does_not_run_twice_at_once_and_takes_its_addresses_from_the_scheduler() -> None:
    assert job()["max_concurrent_runs"] == 1
    (task,) = job()["tasks"]
    used = re.findall(r"\{\{job\.parameters\.(\w+)\}\}", " ".join(task["spark_python_task"]["parameters"]))
    assert sorted(used) == sorted(p["name"] for p in job()["parameters"])
    assert {"lake", "tables"} <= set(used)


def test_the_lake_that_is_named_is_one_whose_files_python_reads() -> None:
    """External locations give their credentials to Spark alone; volumes are plain files."""
    for parameter in job()["parameters"]:
        assert parameter["default"].startswith("/Volumes/")


def test_the_cluster_has_workers_and_leaves_delta_and_gpu_scheduling_to_the_runtime() -> None:
    (cluster,) = (c["new_cluster"] for c in job()["job_clusters"])
    assert cluster["num_workers"] >= 1  # the runtime schedules no GPUs on single-node compute
    assert cluster["data_security_mode"] == "SINGLE_USER"
    assert cluster["runtime_engine"] == "STANDARD"
    assert not [key for key in cluster["spark_conf"] if "delta" in key or "jars" in key]
    assert cluster["spark_env_vars"]["PYTHONSAFEPATH"] == "1"


def test_every_file_that_the_bundle_names_is_built_beside_it(built_bundle: Path) -> None:
    named = re.findall(r"\./(\S+)", (CONF / BUNDLE).read_text())
    assert {"jobs/run_pipeline.py", "*.whl", "requirements.txt"} <= set(named)
    assert [name for name in named if not list(built_bundle.glob(name))] == []
    assert (built_bundle / "databricks.yml").exists()
