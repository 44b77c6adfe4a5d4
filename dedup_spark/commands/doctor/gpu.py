"""GPUs: what the driver of NVIDIA says, and whether PyTorch and FAISS can use them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from dedup_spark.commands.doctor.extras import GPU
from dedup_spark.commands.doctor.findings import Finding
from dedup_spark.commands.doctor.trying import tried

_SECONDS = 30
_QUERY = "--query-gpu=name,memory.total,driver_version"


def devices() -> list[str]:
    """A line for each GPU: its name, memory and driver. Empty where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        said = subprocess.run(
            [program, _QUERY, "--format=csv,noheader"], capture_output=True, text=True, timeout=_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):  # a driver without a device, or one that hangs
        return []
    return [line.strip() for line in said.splitlines() if line.strip()]


def gpu_findings(found: list[str], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """`known`: what modules say of themselves, as `tried` gives it."""
    yield Finding(
        GPU, "GPU", "; ".join(found) or None, problem="none that nvidia-smi knows",
        without="models and FAISS run on the CPU, which is enough below some million images",
    )  # fmt: skip
    if not found:
        return
    torch = tried(["torch"])["torch"] if find_spec("torch") else {"works": False, "error": "not installed"}
    uses = f"CUDA {torch.get('cuda')}, {torch.get('gpus')} GPUs" if torch["works"] and torch.get("gpus") else None
    yield Finding(
        GPU, "PyTorch", uses, problem=str(torch.get("error") or "it sees no GPU: it was built without CUDA, or for "
        "another driver"), without="models run on the CPU; see extra gpu",
    )  # fmt: skip
    faiss = known.get("faiss", {})
    yield Finding(
        GPU, "FAISS on a GPU", f"{faiss.get('gpus')} GPUs" if faiss.get("gpus") else None,
        problem="this FAISS is built for the CPU" if not faiss.get("has_gpu") else "it sees no GPU",
        without="index and match search on the CPU; see extra gpu",
    )  # fmt: skip
