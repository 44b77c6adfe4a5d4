"""Imports packages in a process of its own: a library that is broken, or does not fit, says so there and not here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dedup_spark

_SECONDS = 120
_CODE = """
import importlib, json, sys
def say(name, **told):
    print(json.dumps({"name": name, **told}), flush=True)
for name in sys.argv[1].split(","):
    say(name)
    try:
        module = importlib.import_module(name)
        told = {"version": str(getattr(module, "__version__", ""))}
        if name == "onnxruntime":
            told["devices"] = module.get_available_providers()
        elif name == "faiss":
            told["gpus"] = module.get_num_gpus() if hasattr(module, "StandardGpuResources") else 0
            told["has_gpu"] = hasattr(module, "StandardGpuResources")
        elif name == "torch":
            told["gpus"], told["cuda"] = module.cuda.device_count(), module.version.cuda
        say(name, works=True, **told)
    except BaseException as e:
        say(name, works=False, error=f"{type(e).__name__}: {e}")
"""


def tried(modules: Iterable[str]) -> dict[str, dict[str, Any]]:
    """By module: `works`, the `error` where it does not, and what it says of devices.

    One process imports them one after the other, in seconds. Where it dies, the module that it had begun is at fault,
    and another process goes on with those behind it.
    """
    left, found = list(modules), dict[str, dict[str, Any]]()
    while left:
        told, how = _told(left)
        found |= {name: facts for name, facts in told.items() if "works" in facts}
        begun = [name for name in left if name in told and name not in found]
        found |= {name: {"works": False, "error": how} for name in begun[:1]}
        behind = left[left.index(begun[0]) + 1 :] if begun else []
        if not told:
            return found | {name: {"works": False, "error": how} for name in left}
        left = behind
    return found


def child_environment() -> dict[str, str]:
    """Of a process that imports what this one would; nothing from the current folder, where images may lie."""
    here = str(Path(dedup_spark.__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}


def _told(modules: list[str]) -> tuple[dict[str, dict[str, Any]], str]:
    """What the process said of each module, the last word of each, and how it ended."""
    command = [sys.executable, "-P", "-c", _CODE, ",".join(modules)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=child_environment()
        )
        out, how = done.stdout, _ended(done.returncode)
    except subprocess.TimeoutExpired as e:
        said, how = e.stdout or "", f"it is not imported within {_SECONDS} seconds"
        out = said.decode(errors="replace") if isinstance(said, bytes) else said
    lines = [json.loads(line) for line in out.splitlines() if line.startswith('{"name"')]
    return {line["name"]: line for line in lines}, how


def _ended(code: int) -> str:
    return f"the process that imported it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"
