"""What PyTorch and FAISS of this environment see of GPUs, for `make test-gpu` and `make test-gpu-install`.

    python tests/gpu_packages.py [--must-have-a-gpu]

With the option it ends with status 1 where neither of them sees a GPU: then nothing was tested.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys


def installed(*names: str) -> list[str]:
    """`name version` of the distributions that are there."""
    every = importlib.metadata.distributions()
    there = {found.metadata["Name"].lower().replace("_", "-"): found.version for found in every}
    return [f"{name} {there[name]}" for name in names if name in there]


def of_faiss() -> tuple[int, str]:
    """GPUs that FAISS sees, and what is said of it."""
    packages = installed("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12", "faiss-gpu-cuvs")
    if not packages:
        return 0, "FAISS is missing: install the extra gpu"
    if len(packages) > 1:
        return 0, f"{' and '.join(packages)} install the same module: remove both, then install faiss-gpu again"
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        return 0, f"{packages[0]} was built for CPUs: install the extra gpu into a fresh environment"
    return faiss.get_num_gpus(), f"{packages[0]} has its GPU classes and sees {faiss.get_num_gpus()} GPUs"


def of_torch() -> tuple[int, str]:
    """CUDA devices that PyTorch sees, and what is said of it."""
    if importlib.util.find_spec("torch") is None:
        return 0, "PyTorch is missing: install the extra gpu"
    import torch

    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return n, f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) sees {n} CUDA devices"


def main() -> int:
    found = [of_torch(), of_faiss()]
    sys.stdout.write("".join(f"{said}\n" for _, said in found))
    if "--must-have-a-gpu" in sys.argv and not any(n for n, _ in found):
        sys.stdout.write("test-gpu: there is no GPU here: nothing was tested\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
