"""`dedup-spark doctor`: what it says of this machine is true, and of one that lacks something, what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from dedup_spark.cli import main
from dedup_spark.commands.doctor import checks, gpu, spark
from dedup_spark.commands.doctor.extras import EXTRAS
from dedup_spark.commands.doctor.findings import Finding, can_start, lacking
from dedup_spark.commands.doctor.packages import Requirement, fits, install, requirements
from dedup_spark.commands.doctor.text import describe_findings, findings_json
from dedup_spark.commands.doctor.trying import tried
from dedup_spark.config import load_config
from dedup_spark.kernels.decoding import formats

ROOT = Path(__file__).resolve().parents[3]


def asked_in_a_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As a person asks it: the command itself, and what it loads."""
    code = (
        "import sys; from dedup_spark.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'pyspark', 'numpy', 'pandas', 'pyarrow', 'scipy', 'torch', 'faiss', 'duckdb'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def test_it_finds_what_is_there_and_imports_nothing_heavy() -> None:
    said = asked_in_a_process("--json")
    told = json.loads(said.stdout)
    found = {finding["name"]: finding for finding in told["findings"]}
    assert said.returncode == (0 if told["can_start"] else 2), said.stderr
    assert found["Spark"]["found"].startswith(metadata.version("pyspark"))
    assert found["FAISS"]["state"] == found["Pillow"]["state"] == found["packages"]["state"] == "ok"
    assert "JPEG, PNG" in found["Pillow"]["found"]
    assert {name for name in found if name.startswith("extra ")} == {f"extra {name}" for name in EXTRAS}


def test_without_java_no_run_can_start_and_the_command_is_told(tmp_path: Path) -> None:
    said = asked_in_a_process(JAVA_HOME=str(tmp_path))
    assert said.returncode == 2
    assert said.stderr.splitlines()[-1].startswith("dedup-spark: a run cannot start: Java")
    line = next(line for line in said.stdout.splitlines() if line.startswith("  NEEDED  Java"))
    assert f"JAVA_HOME={tmp_path} has no bin/java" in line
    assert "apt-get install openjdk-17-jre-headless" in said.stdout


def test_the_model_that_the_settings_ask_for_is_looked_at() -> None:
    there, lacking_weights = (
        checks._model(load_config(None, [f"extract.embedding={name}"])) for name in ("off", "resnet50")
    )
    assert there.state == "ok"
    assert lacking_weights.state == "needed"
    assert "extract.weights" in lacking_weights.problem


def test_every_extra_is_explained_and_its_packages_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"])
    asked = requirements()
    assert [str(r) for r in asked["cpu"]] == ["faiss-cpu>=1.11", "onnxruntime>=1.20"]
    assert [str(r) for r in asked["spark"]] == ["pyspark>=4.0.1,<4.3"]
    assert len(asked[""]) == len(project["dependencies"])


def test_formats_named_with_a_decoder_are_those_it_reads() -> None:
    for extra, decoder in (("raw", formats.RAW), ("heif", formats.HEIF), ("jxl", formats.JXL)):
        reads = [name for name, of in formats._DECODER_OF.items() if of is decoder]
        assert all(name in EXTRAS[extra].what for name in reads)


@pytest.mark.parametrize(
    ("version", "bounds", "is_within"),
    [
        ("4.1.1", ">=4.0.1,<4.3", True), ("4.3.0", ">=4.0.1,<4.3", False), ("4.0", ">=4.0.1", False),
        ("3", ">=3.0.0", True),
        ("2.9.1+cu128", ">=2.9,<2.10", True), ("2.10.0", ">=2.9,<2.10", False), ("8.7.1", "<=8.7.1", True),
        ("8.7.2", "<=8.7.1", False), ("1", "", True), ("1.2", "==1.2.0", True), ("1.2", "!=1.2", False),
        ("1.7.0.post4", ">=1.7", True), ("3.0.0rc1", "<3", False),
    ],
)  # fmt: skip
def test_versions_are_compared_by_their_numbers(version: str, bounds: str, is_within: bool) -> None:
    assert fits(version, bounds) == is_within


def test_the_command_names_what_is_missing_quoted_for_a_shell() -> None:
    assert install([Requirement("a", ">=1,<2"), Requirement("b", "")]).endswith("-m pip install 'a>=1,<2' b")


def test_a_module_that_fails_or_kills_its_process_is_found_and_the_others_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "falls.py").write_text("import os; os.abort()")
    (tmp_path / "lacks.py").write_text("raise ImportError('libGL.so.1: no such file')")
    (tmp_path / "talks.py").write_text("print('hello'); __version__ = '1.5'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = tried(["json", "falls", "lacks", "talks", "absent"])
    assert {name: facts["works"] for name, facts in found.items()} == {
        "json": True, "falls": False, "lacks": False, "talks": True, "absent": False
    }  # fmt: skip
    assert found["falls"]["error"] == "the process that imported it was ended by signal 6"
    assert found["lacks"]["error"] == "ImportError: libGL.so.1: no such file"
    assert found["talks"]["version"] == "1.5"


def test_a_broken_package_is_no_package() -> None:
    broken = {"PIL": {"works": False, "error": "ImportError: libjpeg"}}
    [version, ours, packages] = checks._python({"": (Requirement("pillow", ""),)}, broken)
    assert (version.state, ours.state, packages.state) == ("ok", "ok", "needed")
    assert packages.problem.endswith("does not work: ImportError: libjpeg")
    assert checks._pillow(broken).state == "needed"


@pytest.mark.parametrize(
    ("jar", "problem"),
    [(None, "holds no Spark"), ("spark-core_2.12-3.5.1.jar", "is another Spark"), ("spark-core_2.13-{}.jar", None)],
)
def test_a_home_of_another_spark_is_told(
    jar: str | None, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    if jar:
        for name in ("bin/spark-submit", f"jars/{jar.format(metadata.version('pyspark'))}"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
    found = list(spark._foreign_home(metadata.version("pyspark")))
    assert [problem in finding.problem for finding in found if problem] == [True] * bool(problem)
    assert bool(found) == bool(problem)


def test_a_jar_of_delta_for_another_spark_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "io.delta_delta-spark_4.0_2.13-4.4.0.jar").touch()
    monkeypatch.setattr(spark.surroundings, "settings_of_home", lambda: {"spark.jars.ivy": str(tmp_path)})
    monkeypatch.setattr(spark, "_home", lambda: None)
    monkeypatch.delenv("SPARK_HOME", raising=False)
    assert "is fetched" in (spark._delta("io.delta:delta-spark_4.1_2.13:4.4.0").found or "")
    assert "delta-spark_4.0" in (spark._delta("io.delta:delta-spark_4.0_2.13:4.4.0").found or "")


def test_a_spark_that_no_delta_is_built_for_and_spark_connect_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark, "_spark_version", lambda: "3.5.1")
    monkeypatch.setenv("SPARK_REMOTE", "sc://host")
    found = {finding.name: finding for finding in spark.spark_findings((Requirement("pyspark", ">=4.0.1,<4.3"),))}
    assert found["Spark"].state == found["Spark Connect"].state == "needed"
    assert "dedup-spark runs on Spark 4.0 to 4.2" in found["Spark"].problem
    assert found["Spark"].command.endswith("pip install 'pyspark>=4.0.1,<4.3'")
    assert found["Spark Connect"].command == "unset SPARK_REMOTE"


def test_gpus_are_those_that_the_driver_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.devices() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB, 570.1'\n")
    program.chmod(0o755)
    assert gpu.devices() == ["NVIDIA H100, 81559 MiB, 570.1"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert gpu.devices() == []
    [none] = gpu.gpu_findings([], {})
    assert none.state == "missing"


def test_text_and_json_say_the_same() -> None:
    found = [
        Finding("A", "one", "1.0"),
        Finding("A", "two", needed=True, problem="broken", without="all", command="do it"),
        Finding("B", "three", without="some"),
    ]
    assert describe_findings(found).splitlines() == [
        "A",
        "  ok      one    1.0",
        "  NEEDED  two    broken",
        "                 without it: all",
        "                 do it",
        "",
        "B",
        "  -       three  not installed",
        "                 without it: some",
    ]
    told = json.loads(findings_json(found))
    assert (told["can_start"], [f["state"] for f in told["findings"]]) == (False, ["ok", "needed", "missing"])
    assert (lacking(found), can_start(found[:1])) == (["two"], True)
    assert describe_findings(found[:1]).endswith("\n\nA run can start.")


def test_settings_that_are_wrong_are_told_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--set", "extract.embeding=off"]) == 2
    assert "did you mean 'extract.embedding'?" in capsys.readouterr().err
