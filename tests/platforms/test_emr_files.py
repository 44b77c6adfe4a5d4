"""The files of conf/emr as Amazon's API reads them, whose model botocore holds."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from platforms.schemas import CONF, read_settings

ROOT = CONF.parent
STEPS = json.loads((CONF / "emr/steps.json").read_text())
RELEASES = {"emr-spark-8.0.0": "4.0.2", "emr-spark-8.1.0": "4.1.1"}
"""Of Amazon's list, with the Spark of each; releases of 7 have Spark 3.5."""


def emr_model() -> ServiceModel:
    return botocore.session.get_session().get_service_model("emr")


def report(shape: str, value: Any) -> str:
    """What Amazon's model says against a value; enumerations count, which botocore leaves to the service."""
    found = emr_model().shape_for(shape)
    return str(ParamValidator().validate(value, found).generate_report())


def as_the_api_takes_it(step: dict[str, Any]) -> dict[str, Any]:
    """The command line's form of a step, with a type and its words, as it sends it."""
    rest = {key: value for key, value in step.items() if key not in ("Type", "Jar", "Args")}
    assert step["Type"] == "CUSTOM_JAR"
    return rest | {"HadoopJarStep": {"Jar": step["Jar"], "Args": step["Args"]}}


def test_steps_and_configurations_are_as_the_api_expects() -> None:
    assert report("StepConfigList", [as_the_api_takes_it(step) for step in STEPS]) == ""
    assert report("ConfigurationList", json.loads((CONF / "emr/configurations.json").read_text())) == ""
    assert report("StepConfigList", [{"Name": "x", "HadoopJarStep": {}}]) != ""


def test_a_failed_step_is_seen_as_failed() -> None:
    """CONTINUE would end the cluster as `Steps completed`, whatever became of the step."""
    allowed = emr_model().shape_for("ActionOnFailure").enum
    for step in STEPS:
        assert step["ActionOnFailure"] in set(allowed) - {"CONTINUE"}


def test_a_failed_driver_is_not_started_again() -> None:
    assert read_settings("emr")["spark.yarn.maxAppAttempts"] == "1"


def test_releases_that_are_named_exist_and_have_a_spark_that_runs() -> None:
    texts = "\n".join(path.read_text() for path in (CONF / "emr").iterdir()) + (ROOT / "docs/commands.md").read_text()
    named = set(re.findall(r"emr-spark-[\d.]+\d", texts))
    assert named
    assert named <= set(RELEASES)
    assert not re.search(r"\b8\.2\b", texts)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step["Name"])
def test_the_command_of_a_step_is_accepted_by_the_script(step: dict[str, Any], tmp_path: Path) -> None:
    """All that comes after `spark-submit.sh`, from a checkout, with a Spark that is never started."""
    assert step["Args"][:2] == ["bash", "-c"]
    submit = tmp_path / "bin/spark-submit"
    submit.parent.mkdir()
    submit.touch(0o755)
    words = shlex.split(step["Args"][2].partition("spark-submit.sh ")[2])
    done = subprocess.run(
        [str(ROOT / "spark-submit.sh"), "--dry-run", *words], cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "SPARK_HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--archives s3://CHANGE-ME/dedup_spark/environment.tar.gz" in done.stdout
    assert re.search(r"--result \S+$", done.stdout.strip())


def test_no_shell_script_has_a_wrong_word() -> None:
    subprocess.run(["bash", "-n", str(CONF / "emr/bootstrap.sh")], check=True)


def test_the_whole_request_to_start_a_cluster_is_as_the_api_expects() -> None:
    """The command of the page, by the shape that the API takes for it."""
    page = (CONF / "emr/README.md").read_text()
    groups = re.search(r"--instance-groups (.*?) *\\?$", page, re.MULTILINE)
    assert groups
    asked = [dict(pair.split("=") for pair in group.split(",")) for group in groups[1].split()]
    request = {
        "Name": "dedup_spark",
        "ReleaseLabel": re.findall(r"--release-label (\S+)", page)[0],
        "Applications": [{"Name": name} for name in re.findall(r"--applications Name=(\w+)", page)],
        "Instances": {
            "InstanceGroups": [
                {
                    "InstanceRole": g["InstanceGroupType"],
                    "InstanceCount": int(g["InstanceCount"]),
                    "InstanceType": g["InstanceType"],
                }
                for g in asked
            ]
        },
        "Steps": [as_the_api_takes_it(step) for step in STEPS],
        "Configurations": json.loads((CONF / "emr/configurations.json").read_text()),
    }
    assert report("RunJobFlowInput", request) == ""
    cores = next(g for g in asked if g["InstanceGroupType"] == "CORE")
    assert cores["InstanceCount"] == read_settings("emr")["spark.executor.instances"]


def test_the_state_machine_starts_that_cluster_runs_that_step_and_ends_the_cluster_whatever_became_of_it() -> None:
    machine = json.loads((CONF / "emr/step-functions.json").read_text())
    states = machine["States"]
    create, run = states["CreateCluster"]["Parameters"], states["Run"]["Parameters"]
    assert report("RunJobFlowInput", create) == ""
    assert create["Configurations"] == json.loads((CONF / "emr/configurations.json").read_text())
    assert report("StepConfig", run["Step"]) == ""
    assert run["Step"]["HadoopJarStep"] == as_the_api_takes_it(STEPS[0])["HadoopJarStep"]
    assert run["Step"]["ActionOnFailure"] == "CANCEL_AND_WAIT"  # the cluster stays for the second try
    assert "TimeoutSeconds" not in machine, "nothing catches that of the whole machine: the cluster would stay"
    assert states["Run"]["TimeoutSeconds"] > 0
    assert states["Run"]["Catch"][0]["ErrorEquals"] == ["States.ALL"]
    assert {end_of(states, name) for name in (states["Run"]["Next"], states["Run"]["Catch"][0]["Next"])} == {
        ("terminateCluster.sync", "Succeed"),
        ("terminateCluster.sync", "Fail"),
    }
    assert set(states) == {"CreateCluster", *reachable(states, "CreateCluster")}


def end_of(states: dict[str, Any], name: str) -> tuple[str, str]:
    """What a state does, and how the machine ends after it."""
    after = states[name].get("Next")
    return states[name]["Resource"].rpartition(":")[2], states[after]["Type"] if after else "Succeed"


def reachable(states: dict[str, Any], name: str) -> set[str]:
    state = states[name]
    following = {state.get("Next"), *(catch["Next"] for catch in state.get("Catch", ()))} - {None}
    return following.union(*(reachable(states, after) for after in following))
