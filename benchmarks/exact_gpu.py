"""Claim: exact_gpu compares pairs at least half as fast as a GPU multiplies them; what else it does, by kind of work.

Kernels called directly: no Spark and no Java. One block stays on the device while others come one after the other, each
read from memory, as in a task of match that holds a stripe. The other side is the bare product in float16 in tiles of
the same rows, with nothing done with it, in the same run. Nothing is scored: `score_candidates` runs on the cores.

    python benchmarks/exact_gpu.py --device cuda:0
    python benchmarks/exact_gpu.py --device cpu --rows 8192      # the same code; shows what is not the product

`rest` is what PyTorch's profiler counts neither as product nor as maxima and top-k nor as comparison, in nanoseconds
for each pair; on a GPU the times are those of its kernels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from harness import Table, describe_machine, print_json
from torch.profiler import ProfilerActivity, profile
from vectors import lake_vectors

from dedup_spark.kernels.joins.base import Block
from dedup_spark.kernels.joins.device_blocks import on_device
from dedup_spark.kernels.joins.exact_gpu import Bounds, Wanted, exact_gpu_join

KINDS = {
    "product": ("aten::mm",),
    "maxima and top-k": ("aten::amax", "aten::topk", "aten::amin"),
    "comparison": ("aten::ge", "aten::bitwise_and", "aten::bitwise_not"),
}
SEED = 20_261_128


def make_blocks(n_blocks: int, rows: int) -> list[Block]:
    x = lake_vectors(n_blocks * rows, SEED, largest=50)
    ids = np.arange(n_blocks * rows)
    parts = [slice(i * rows, (i + 1) * rows) for i in range(n_blocks)]
    return [Block(ids[part], x[part], np.zeros(rows, np.int32)) for part in parts]


def seconds_of(work: Callable[[], object], device: str) -> float:
    begin = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def bare_product(blocks: list[Block], device: str) -> None:
    x = on_device(blocks[0], device).wait()
    for block in blocks[1:]:
        y = on_device(block, device).wait()
        for start in range(0, len(x), 16_384):
            _ = x[start : start + 16_384] @ y.T


def join(blocks: list[Block], wanted: Wanted, device: str) -> int:
    """Candidates of the first block with each of the others."""
    bounds = Bounds()
    return sum(len(i) for b in blocks[1:] for i, _ in exact_gpu_join(blocks[0], b, wanted, device, bounds))


def nanoseconds_by_kind(work: Callable[[], object], n_pairs: int, device: str) -> dict[str, float]:
    activities = [ProfilerActivity.CPU] if device == "cpu" else [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as seen:
        work()
    on_gpu = device != "cpu"
    times = {e.key: e.self_device_time_total if on_gpu else e.self_cpu_time_total for e in seen.key_averages()}
    of_kind = {kind: sum(times.get(op, 0) for op in ops) for kind, ops in KINDS.items()}
    of_ops = sum(time for op, time in times.items() if op.startswith("aten::"))
    of_kind["rest"] = of_ops - sum(of_kind.values())
    return {kind: 1e3 * microseconds / n_pairs for kind, microseconds in of_kind.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", metavar="cuda:0", help="torch's name of it")
    parser.add_argument("--rows", type=int, default=65_536, help="of a block")
    parser.add_argument("--blocks", type=int, default=6, help="blocks, the first of which is joined with the others")
    parser.add_argument("--k", type=int, nargs="+", default=[0, 32], help="match.neighbours; several to compare")
    parser.add_argument("--floor", type=float, default=0.3)
    parser.add_argument("--min-similarity", type=float, default=0.45)
    options = parser.parse_args()
    print(f"{describe_machine()}; PyTorch {torch.__version__} on {options.device}", flush=True)
    blocks, device = make_blocks(options.blocks, options.rows), options.device
    n_pairs = (options.blocks - 1) * options.rows**2
    bare_product(blocks, device)  # libraries start, and blocks cross
    table = Table(("k", "candidates a row", "pairs/s", "of the product", *KINDS, "rest"))
    for k in options.k:
        wanted = Wanted(options.floor, k, options.min_similarity)
        n_back = join(blocks, wanted, device)
        bare = seconds_of(lambda: bare_product(blocks, device), device)
        seconds = seconds_of(lambda wanted=wanted: join(blocks, wanted, device), device)
        kinds = nanoseconds_by_kind(lambda wanted=wanted: join(blocks, wanted, device), n_pairs, device)
        table.add(k, n_back / options.rows, n_pairs / seconds, bare / seconds, *kinds.values())
        figures = {"k": k, "rows": options.rows, "pairs_per_second": n_pairs / seconds, "of_product": bare / seconds}
        print_json(figures | {f"ns_{kind.replace(' ', '_')}": ns for kind, ns in kinds.items()})
    table.show()


if __name__ == "__main__":
    main()
