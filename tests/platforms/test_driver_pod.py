"""What `spark-submit.sh --platform k8s` asks Kubernetes for: the real Spark, and a stand-in for the API server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from processes import ROOT, Done, in_a_shell

from platforms import kubernetes_api
from platforms.jars import SPARK_HOME
from platforms.schemas import read_settings

pytestmark = pytest.mark.platforms


def submit(api: kubernetes_api.Api, folder: Path, *job: str) -> Done:
    """With all settings of conf/k8s but the place where the code is uploaded to."""
    script = [str(ROOT / "spark-submit.sh"), "--platform", "k8s", "--master", f"k8s://{api.address}"]
    upload = f"spark.kubernetes.file.upload.path=file://{folder}/upload"
    (folder / "upload").mkdir(exist_ok=True)
    return in_a_shell([*script, "--conf", upload, *job], SPARK_HOME=str(SPARK_HOME), KUBECONFIG=str(folder / "none"))


def driver(code: int, pods: list[dict]) -> kubernetes_api.Ended:
    """A container that leaves its exit code where the real command leaves it, and ends with it."""

    def run(pod: dict) -> int:
        pods.append(pod)
        words = pod["spec"]["containers"][0]["args"]
        tables, name = (words[words.index(option) + 1] for option in ("--tables", "--result"))
        Path(tables, "results").mkdir(parents=True)
        Path(tables, "results", f"{name}.json").write_text(json.dumps({"command": "run", "exit_code": code}, indent=1))
        return code

    return run


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text("[extract]\ninput_px = 224\n")
    return file


def test_the_pod_of_the_driver_has_the_image_the_account_the_cores_and_the_memory_of_the_platform(
    tmp_path: Path, settings_file: Path
) -> None:
    pods: list[dict] = []
    tables = tmp_path / "my tables"
    with kubernetes_api.started(driver(0, pods)) as api:
        asked = ("--lake", "s3a://b/photos", "--tables", str(tables), "--config", str(settings_file))
        done = submit(api, tmp_path, "run_pipeline", "--", *asked)
    assert done.returncode == 0, done.stderr[-4000:]
    (pod,) = pods
    (container,) = pod["spec"]["containers"]
    expected = read_settings("k8s")
    assert container["image"] == expected["spark.kubernetes.container.image"]
    assert pod["spec"]["serviceAccountName"] == "spark"
    assert container["resources"]["requests"] == {"cpu": "4", "memory": "16384Mi"}
    words = container["args"]
    assert words[words.index("--config") + 1] == "mine.toml"
    assert words[words.index("--tables") + 1] == str(tables)
    uploaded = {file.name for file in (tmp_path / "upload").rglob("*") if file.is_file()}
    assert {"run_pipeline.py", "mine.toml"} <= uploaded
    assert any(re.fullmatch(r"dedup_spark-\w+\.zip", name) for name in uploaded)
    given = "\n".join(text for config in api.of("ConfigMap") for text in config["data"].values())
    for key in ("spark.executor.resource.gpu.vendor", "spark.executor.instances", "spark.executor.memoryOverhead",
                "spark.hadoop.fs.s3a.aws.credentials.provider", "spark.executorEnv.PYTHONSAFEPATH"):  # fmt: skip
        assert f"{key}={expected[key]}" in given


@pytest.mark.parametrize("code", [1, 2])
def test_the_code_of_a_failed_driver_comes_through_though_spark_ends_with_zero(tmp_path: Path, code: int) -> None:
    pods: list[dict] = []
    with kubernetes_api.started(driver(code, pods)) as api:
        done = submit(api, tmp_path, "run_pipeline", "--", "--lake", "s3a://b/l", "--tables", str(tmp_path / "tables"))
    assert len(pods) == 1
    assert done.returncode == code, done.stderr[-4000:]
