"""What is there and what is missing, found without starting Spark and without importing a heavy package here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dedup_spark
from dedup_spark.commands.doctor import extras, gpu, spark
from dedup_spark.commands.doctor.extras import EXTRAS
from dedup_spark.commands.doctor.findings import Finding
from dedup_spark.commands.doctor.packages import Requirement, in_its_own_environment, install, requirements
from dedup_spark.commands.doctor.trying import child_environment, tried
from dedup_spark.config import Config, as_overrides, changed_settings
from dedup_spark.kernels.decoding.pillow_plugins import READ_BY

_MODULES = {
    "opencv-python-headless": "cv2", "pillow": "PIL", "faiss-cpu": "faiss", "faiss-gpu": "faiss",
    "pi-heif-decoder": "pi_heif", "pillow-jxl-plugin": "pillow_jxl", "imagehash": "imagehash",
    **{name: name for name in ("numpy", "pandas", "pyarrow", "scipy", "onnxruntime", "deltalake", "duckdb", "rawpy")},
}  # fmt: skip
"""Packages with compiled parts, which may be there and not work, and what Python imports of each."""
_NO_TEXT = "nothing tells which packages it needs: it was not installed by pip"
_MODEL = """
import sys
from dedup_spark.config import load_config
from dedup_spark.errors import DedupError
from dedup_spark.models.registry import OFF, TABLE, load, require_model, resolve
try:
    extract = load_config(None, sys.argv[1:]).extract
    require_model(extract)
    if extract.embedding not in (OFF, TABLE):
        load(resolve(extract, on_gpu=False, threads=1))
except DedupError as e:
    print("not usable:", str(e).replace("\\n", "; "))
"""
_MODEL_SECONDS = 120

Tried = Mapping[str, Mapping[str, Any]]


def examine(config: Config) -> list[Finding]:
    """Everything, in the order of its parts. Cost: some seconds of two processes, which import what is installed."""
    asked = requirements()
    present = list(dict.fromkeys(module for module in _MODULES.values() if find_spec(module)))
    with ThreadPoolExecutor() as pool:  # each waits for a process
        graphics = pool.submit(gpu.devices)
        model = pool.submit(_model, config)
        imported = pool.submit(tried, present)
        java = pool.submit(lambda: list(spark.spark_findings(asked.get("spark", ()))))
        known = imported.result()
        of_extras = {name: _extra(name, asked[name], known) for name in EXTRAS if name in asked}
        found = [*_python(asked, known), *java.result(), model.result(), _faiss(asked, known), _pillow(known)]
        found += [*gpu.gpu_findings(graphics.result(), known), *of_extras.values()]
    parts = list(dict.fromkeys(["Python", extras.SPARK, extras.MODEL, *(extra.part for extra in EXTRAS.values())]))
    return sorted(found, key=lambda finding: parts.index(finding.part))


def _python(asked: Mapping[str, tuple[Requirement, ...]], known: Tried) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 12) <= sys.version_info[:2] <= (3, 13)
    yield Finding(
        "Python", "Python", f"{version} ({sys.executable})" if fits else None, needed=True,
        problem=f"{version} ({sys.executable}); 3.12 or 3.13 is needed", without="no run",
        command="install Python 3.12 and make an environment with it: python3.12 -m venv .venv",
    )  # fmt: skip
    base = asked.get("", ())
    yield Finding("Python", "dedup-spark", f"{dedup_spark.__version__} ({Path(dedup_spark.__file__).parent})")
    wrong = _wrong(base, known)
    told = f"all {len(base)} that it always needs" if base else _NO_TEXT
    yield Finding(
        "Python", "packages", None if wrong else told, needed=True, problem="; ".join(wrong.values()),
        without="no run", command=install(wrong),
    )  # fmt: skip


def _wrong(asked: tuple[Requirement, ...], known: Tried) -> dict[Requirement, str]:
    """Why a package is none to work with, for those that are none."""
    told = {requirement: _why_wrong(requirement, known) for requirement in asked}
    return {requirement: why for requirement, why in told.items() if why}


def _why_wrong(requirement: Requirement, known: Tried) -> str:
    version, facts = requirement.installed, known.get(_MODULES.get(requirement.name.lower(), ""), {})
    if version is None:
        return f"{requirement.name} is not installed"
    if not requirement.is_met:
        return f"{requirement.name} is {version}, needed is {requirement.bounds}"
    return f"{requirement.name} {version} does not work: {facts['error']}" if facts.get("works") is False else ""


def _extra(name: str, asked: tuple[Requirement, ...], known: Tried) -> Finding:
    extra, wrong = EXTRAS[name], _wrong(asked, known)
    versions = ", ".join(f"{requirement.name} {requirement.installed}" for requirement in asked)
    return Finding(
        extra.part, f"extra {name}", None if wrong else f"{versions}: {extra.what}{spark.connector(name)}",
        problem=f"{extra.what}: {'; '.join(wrong.values())}", without=extra.without,
        command=in_its_own_environment(asked) if name == "gpu" else install(wrong),
    )  # fmt: skip


def _pillow(known: Tried) -> Finding:
    facts = known.get("PIL", {"works": False, "error": "not installed"})
    reads = f"{facts.get('version')}: {', '.join(READ_BY)}"
    return Finding(
        extras.DECODERS, "Pillow", reads if facts["works"] else None, needed=True,
        problem=str(facts.get("error", "")), without="no image is read", command=install([Requirement("pillow", "")]),
    )  # fmt: skip


def _faiss(asked: Mapping[str, tuple[Requirement, ...]], known: Tried) -> Finding:
    facts = known.get("faiss", {"works": False, "error": "not installed"})
    both = [r.name for extra in ("cpu", "gpu") for r in asked.get(extra, ()) if r.name.startswith("faiss")]
    twice = len([name for name in both if Requirement(name, "").installed]) > 1
    note = f" - {' and '.join(both)} are both installed and overwrite each other: uninstall one" if twice else ""
    cpu = tuple(r for r in asked.get("cpu", ()) if r.name.startswith("faiss"))
    return Finding(
        extras.MODEL, "FAISS", f"{facts.get('version')}{note}" if facts["works"] else None, needed=True,
        problem=str(facts.get("error", "")), without="no run: the step index needs it", command=install(cpu),
    )  # fmt: skip


def _model(config: Config) -> Finding:
    """Whether the model that the settings ask for is there and loads, by the checks of a run itself."""
    name = config.extract.embedding
    overrides = as_overrides(changed_settings(config, "extract"))
    command = [sys.executable, "-P", "-c", _MODEL, *overrides]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_MODEL_SECONDS, check=False, env=child_environment()
        )
        told = [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("not usable: ")]
        why = "; ".join(told) if done.returncode == 0 else (done.stderr.strip() or "?").splitlines()[-1]
    except subprocess.TimeoutExpired:
        why = f"it was not looked at within {_MODEL_SECONDS} seconds"
    return Finding(
        extras.MODEL, "model", None if why else f"{name} ({config.extract.weights or 'installed'})", needed=True,
        problem=why, without="no run but with --set extract.embedding=off, which finds fewer edited copies",
        command=_weights_command(why),
    )  # fmt: skip


def _weights_command(why: str) -> str:
    asked = requirements()
    wanted = [r for extra in ("weights", "cpu") for r in asked.get(extra, ()) if not r.is_met]
    return install(wanted) if why and wanted else ""
