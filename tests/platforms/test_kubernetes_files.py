"""The files of conf/k8s as the Spark operator, Kubernetes and Docker read them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from platforms.schemas import CONF, cron_job_schema, problems, read_settings, read_yaml, resource_schema

SINGLE, NIGHTLY, CRON_JOB = "k8s/spark-application.yaml", "k8s/scheduled-spark-application.yaml", "k8s/cronjob.yaml"
DOCKERFILE = (CONF / "k8s/Dockerfile").read_text()


def test_an_application_is_as_the_operator_expects() -> None:
    assert problems(resource_schema("spark-application"), read_yaml(SINGLE)) == []


def test_a_scheduled_application_is_as_the_operator_expects() -> None:
    assert problems(resource_schema("scheduled-spark-application"), read_yaml(NIGHTLY)) == []


def test_a_cron_job_is_as_kubernetes_expects() -> None:
    job = read_yaml(CRON_JOB)
    assert problems(cron_job_schema(), job) == []
    job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolcy"] = "Never"
    assert len(problems(cron_job_schema(), job)) == 1


def test_a_wrong_field_would_be_noticed() -> None:
    """Here `schedule` without a template, as an application of its own would be written with a schedule."""
    wrong = read_yaml(NIGHTLY)
    wrong["spec"] = {"schedule": "0 2 * * *", "driver": wrong["spec"]["template"]["driver"] | {"coers": 4}}
    said = problems(resource_schema("scheduled-spark-application"), wrong)
    assert any("'template' is a required property" in line for line in said)
    assert any("'driver' was unexpected" in line for line in said)
    application = read_yaml(SINGLE)
    application["spec"]["driver"]["coers"] = 4
    assert len(problems(resource_schema("spark-application"), application)) == 1


def test_the_nightly_application_is_the_single_one_with_a_schedule_and_never_two_at_once() -> None:
    nightly = read_yaml(NIGHTLY)["spec"]
    assert nightly["template"] == read_yaml(SINGLE)["spec"]
    assert nightly["concurrencyPolicy"] == "Forbid"
    assert read_yaml(CRON_JOB)["spec"]["concurrencyPolicy"] == "Forbid"
    assert read_yaml(CRON_JOB)["spec"]["schedule"] == nightly["schedule"]


def test_the_cron_job_submits_by_the_script_and_does_not_repeat_what_is_set_wrong() -> None:
    job = read_yaml(CRON_JOB)["spec"]["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert container["command"] == ["/opt/dedup_spark/spark-submit.sh", "--platform", "k8s"]
    assert container["args"][2:] == read_yaml(SINGLE)["spec"]["arguments"]
    assert container["image"] == read_settings("k8s")["spark.kubernetes.container.image"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [2]}
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy demands it


def test_spark_finds_the_role_of_the_pods_account_as_python_does() -> None:
    """S3A's own list of Hadoop 3.4 lacks it; the SDK's has it, in the order in which s3fs asks."""
    key = "spark.hadoop.fs.s3a.aws.credentials.provider"
    provider = "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"
    assert read_settings("k8s")[key] == provider
    assert read_yaml(SINGLE)["spec"]["sparkConf"][key] == provider


@pytest.mark.parametrize("platform", ["emr", "k8s"])
def test_a_driver_in_the_cluster_has_more_than_one_core(platform: str) -> None:
    settings = read_settings(platform)
    assert settings["spark.submit.deployMode"] == "cluster"
    assert int(settings["spark.driver.cores"]) >= 4


def test_the_image_takes_each_package_with_its_version_and_hash() -> None:
    installs = re.findall(r"pip install (.*?)(?: \\)?$", DOCKERFILE, re.MULTILINE)
    assert installs
    for install in installs:
        assert "--no-deps" in install
        assert "--require-hashes -r requirements.txt" in install or install.endswith("./*.whl")
    assert all(":" in base for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))


def test_the_image_has_all_that_the_files_of_the_platform_name_in_it(built_context: Path) -> None:
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.*) \./$", DOCKERFILE, re.MULTILINE)
    assert [word for line in copied for word in line.split()] == ["requirements.txt", "*.whl", "code/"]
    texts = [DOCKERFILE, *(path.read_text() for path in (CONF / "k8s").glob("*.yaml")), str(read_settings("k8s"))]
    named = set(re.findall(r"/opt/dedup_spark/([\w./-]*\w)", "\n".join(texts)))
    assert {"spark-submit.sh", "conf/getGpusResources.sh", "jobs/run_pipeline.py"} <= named
    assert [name for name in named if not (built_context / "code" / name).exists()] == []
    assert len(list(built_context.glob("*.whl"))) == 1
