"""Claim: on 100 nodes match takes as long as `plan` says, stragglers, lost nodes, slow reads and caches included.

A simulation, event by event, of the stage that joins shards: every work item on the core that would run it, and every
shard on the link that would carry it. Nothing is measured on 100 nodes: the seconds of an item and the bytes of a shard
are given, or taken from a real run here (`--check`), which the same simulation of this machine's cores must predict.

What it holds, beside the arithmetic of `plan`:

- scheduling: tasks go out in order, each to the core that is free first; the last ones leave cores idle;
- stragglers: the seconds of items vary (log-normal), and a share of the nodes is slower than the others;
- reads: a shard comes over the link of its node, one after the other, and the store answers so many requests a second;
- cache: a node keeps what it has read, up to its disk; a core the last two shards;
- losses: a node that is lost takes its tasks and its cache with it; the tasks go out again at the end of the queue.

    python benchmarks/cluster_simulation.py --quick
    python benchmarks/cluster_simulation.py --images 1e8 --nodes 100 --cores 14 --ns-per-pair 1.15
    python benchmarks/cluster_simulation.py --check scale-tables/100000   # tables of `scale.py --keep`
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from harness import Table, print_json

from dedup_spark.config import Config
from dedup_spark.kernels.joins.sketches import SketchFilter
from dedup_spark.stages.match.engine_choice import Choice
from dedup_spark.stages.match.task import JoinSettings, join_items
from dedup_spark.stages.match.work_items import FILES, STRIPE, n_tasks
from dedup_spark.store.shards import rows_per_shard
from dedup_spark.vocabulary import RunStatus, StepName

_SHARD_ROWS, _MOST_TASKS = 65_536, 20_000
"""Those of index.max_shard_rows, and of a job of match."""
_TIMED = 12


@dataclass(frozen=True)
class Machines:
    """What the stage runs on.

    `link_bytes` a second into a node; `store_requests` a second that the store answers, all nodes together;
    `cache_bytes` of disk per node for shards; `slow_share` of the nodes take `slow_factor` as long; `losses` of nodes
    in an hour, of all together.
    """

    nodes: int
    cores: int
    link_bytes: float = 1e9
    store_requests: float = 5_500.0
    cache_bytes: float = 200e9
    slow_share: float = 0.05
    slow_factor: float = 1.5
    losses: float = 0.5
    task_seconds: float = 0.1


@dataclass(frozen=True)
class Work:
    """The items: every two of `shards` once. `spread` is the standard deviation of the logarithm of their seconds."""

    shards: int
    shard_bytes: float
    item_seconds: float
    spread: float = 0.25

    @property
    def items(self) -> int:
        return self.shards * (self.shards + 1) // 2


@dataclass
class Outcome:
    """Of one simulated stage. `busy` is the share of all core-seconds that compared vectors."""

    seconds: float = 0.0
    ideal_seconds: float = 0.0
    busy: float = 0.0
    read_bytes: float = 0.0
    reads: int = 0
    waited_seconds: float = 0.0
    tail_seconds: float = 0.0
    items_done: int = 0
    items_again: int = 0
    nodes_lost: int = 0


def pairs_of_shards(n: int) -> Iterator[tuple[int, int]]:
    """The order of `stages/match/work_items.py`: a stripe of shards `a` with one `b` after the other, up and down."""
    size = min(STRIPE, n)
    for stripe, column, place in itertools.product(range(-(-n // size)), range(n // 2 + size), range(size)):
        j = size - 1 - place if column % 2 else place
        a, step = stripe * size + j, column - j
        if a < n and 0 <= step <= n // 2 and (2 * step < n or 2 * a < n):
            yield a, (a + step) % n


@dataclass
class _Node:
    slowness: float
    link_free: float = 0.0
    shards: OrderedDict[int, float] = field(default_factory=OrderedDict)  # when each is there; the last used is last
    lost_at: float = math.inf


@dataclass
class _Core:
    node: int
    held: deque[int] = field(default_factory=lambda: deque(maxlen=2))
    task: list[tuple[int, int]] = field(default_factory=list)
    done: int = 0


class Simulation:
    """One stage. `run` may be called once."""

    def __init__(self, work: Work, machines: Machines, seed: int) -> None:
        self._work, self._machines, self._rng = work, machines, np.random.default_rng(seed)
        slow = self._rng.random(machines.nodes) < machines.slow_share
        self._nodes = [_Node(machines.slow_factor if is_slow else 1.0) for is_slow in slow]
        self._cores = [_Core(node) for _ in range(machines.cores) for node in range(machines.nodes)]
        self._store_free, self.outcome = 0.0, Outcome()
        self._draw_losses()

    def run(self) -> Outcome:
        tasks, idle = self._tasks(), list[int]()
        queue = [(0.0, number) for number in range(len(self._cores))]  # when each core is free for its next item
        seconds = first_idle = 0.0
        while queue:
            now, number = heapq.heappop(queue)
            core = self._cores[number]
            node = self._nodes[core.node]
            if now >= node.lost_at:
                if core.done < len(core.task):
                    self._give_back(core, tasks)
                    if idle:
                        heapq.heappush(queue, (now, idle.pop()))
                continue
            if core.done == len(core.task):
                if not tasks:
                    first_idle = first_idle or now
                    idle.append(number)
                    continue
                core.task, core.done = tasks.popleft(), 0
                now += self._machines.task_seconds
            end = self._item(core, node, now)
            core.done += 1
            self.outcome.items_done += 1
            seconds = max(seconds, end)
            heapq.heappush(queue, (end, number))
        self._sum_up(seconds, first_idle)
        return self.outcome

    def _tasks(self) -> deque[list[tuple[int, int]]]:
        """Items in as many tasks as the step makes, neighbours together."""
        items = list(pairs_of_shards(self._work.shards))
        n_cores = self._machines.nodes * self._machines.cores
        n = min(_MOST_TASKS, n_tasks(len(items), len(items) * self._work.item_seconds, n_cores))
        bounds = np.linspace(0, len(items), n + 1).astype(int)
        return deque(items[low:high] for low, high in itertools.pairwise(bounds.tolist()) if high > low)

    def _item(self, core: _Core, node: _Node, now: float) -> float:
        """When the item is done that begins now."""
        a, b = core.task[core.done]
        ready = max([now, *(self._arrival(core, node, shard, now) for shard in {a, b} if shard not in core.held)])
        core.held.extend(shard for shard in (b, a) if shard not in core.held)
        self.outcome.waited_seconds += ready - now
        mean = self._work.item_seconds / (2 if a == b else 1)
        varied = mean * math.exp(self._rng.normal(-(self._work.spread**2) / 2, self._work.spread))
        return ready + varied * node.slowness

    def _arrival(self, core: _Core, node: _Node, shard: int, now: float) -> float:
        """When the shard is on the disk of the node; one core fetches it for all."""
        if shard in node.shards:
            node.shards.move_to_end(shard)
            return node.shards[shard]
        begin = max(now, node.link_free, self._store_free)
        self._store_free = max(self._store_free, now) + 1 / self._machines.store_requests
        node.link_free = end = begin + self._work.shard_bytes / self._machines.link_bytes
        self.outcome.reads += 1
        self.outcome.read_bytes += self._work.shard_bytes
        node.shards[shard] = end
        if len(node.shards) * self._work.shard_bytes > self._machines.cache_bytes:
            node.shards.popitem(last=False)
        return end

    def _draw_losses(self) -> None:
        """Nodes are lost at random times of the ideal length of the stage; their machines are not replaced."""
        hours = self._work.items * self._work.item_seconds / len(self._cores) / 3600
        n = min(int(self._rng.poisson(self._machines.losses * hours)), self._machines.nodes - 1)
        for node in self._rng.choice(self._machines.nodes, n, replace=False).tolist():
            self._nodes[node].lost_at = float(self._rng.uniform(0, hours * 3600))
        self.outcome.nodes_lost = n

    def _give_back(self, core: _Core, tasks: deque[list[tuple[int, int]]]) -> None:
        """The task of a core on a lost node begins again on another one, at the end of the queue."""
        tasks.append(core.task)
        self.outcome.items_again += core.done
        core.task, core.done = [], 0

    def _sum_up(self, seconds: float, first_idle: float) -> None:
        work, n_cores = self._work.items * self._work.item_seconds, len(self._cores)
        found = self.outcome
        found.seconds, found.ideal_seconds = seconds, work / n_cores
        found.busy = work / (seconds * n_cores)
        found.tail_seconds = seconds - first_idle


def work_of(images: float, ns_per_pair: float, vector_bytes: float, machines: Machines) -> Work:
    """Of a lake of so many distinct images; the shards are as many as the step index makes for so many cores."""
    n_cores = machines.nodes * machines.cores
    rows = rows_per_shard(math.ceil(images), n_cores, _SHARD_ROWS)
    shards = math.ceil(images / rows)
    return Work(shards, rows * vector_bytes, rows * rows * ns_per_pair * 1e-9)


def check(folder: Path) -> dict[str, float]:
    """The join of a real match (tables of `scale.py --keep`) and what the simulation says of it.

    Items are timed one by one in this process, as one core joins them; the simulation adds scheduling, variation and
    the last tasks. Both figures are of this machine.
    """
    root = f"{folder}/tables"
    notes = _notes_of_match(root)
    files = DeltaTable(f"{root}/shards").to_pyarrow_table().sort_by("shard").to_pylist()
    seconds = [_timed(root, notes, files, *pair) for pair in _sample(len(files))]
    spread = float(np.std(np.log(seconds)))
    work = Work(len(files), 0.0, float(np.mean(seconds)), spread)
    here = Machines(1, notes["join"]["tasks_at_once"], link_bytes=1e12, slow_share=0.0, losses=0.0)
    simulated, real = Simulation(work, here, 1).run().seconds, notes["join"]["seconds"]
    return {"item_seconds": work.item_seconds, "items": work.items, "real_seconds": real,
            "simulated_seconds": simulated, "ratio": simulated / real}  # fmt: skip


def _notes_of_match(root: str) -> dict[str, Any]:
    rows = DeltaTable(f"{root}/runs").to_pyarrow_table().to_pylist()
    marks = [r for r in rows if r["step"] == StepName.MATCH and r["status"] == RunStatus.COMPLETE]
    found: dict[str, Any] = json.loads(max(marks, key=lambda r: r["at"])["notes"])
    return found


def _sample(n: int) -> list[tuple[int, int]]:
    """Pairs of different shards, spread over all of them."""
    pairs = [(a, b) for a, b in pairs_of_shards(n) if a != b] or [(0, 0)]
    return pairs[:: max(1, len(pairs) // _TIMED)][:_TIMED]


def _timed(root: str, notes: dict[str, Any], files: list[dict[str, Any]], a: int, b: int) -> float:
    """The seconds of one item, its shards read before."""
    sketch = SketchFilter(**notes["sketch"]) if notes["sketch"] else None
    chosen = Choice(notes["engine"], 0.0, notes["floor"], sketch, notes["margin"])
    settings = JoinSettings.of(root, chosen, Config().match)
    item = {"item": 0} | {f"{side}_{name}": files[k][name] for side, k in (("a", a), ("b", b)) for name in FILES}
    batch = pa.RecordBatch.from_pylist([item])
    list(join_items([batch], settings))
    begun = time.perf_counter()
    list(join_items([batch], settings))
    return time.perf_counter() - begun


CASES: dict[str, dict[str, Any]] = {
    "nothing goes wrong": {"slow_share": 0.0, "losses": 0.0, "store_requests": 1e9, "link_bytes": 1e12},
    "and reads take time": {"slow_share": 0.0, "losses": 0.0},
    "and a twentieth of the nodes is slow": {"losses": 0.0},
    "and nodes are lost, one every two hours": {},
    "and the store answers a hundredth": {"store_requests": 55.0},
    "and nodes keep no shard": {"cache_bytes": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=float, default=1e8, help="distinct images")
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--cores", type=int, default=14, help="cores of a node that run tasks")
    parser.add_argument("--ns-per-pair", type=float, default=1.15, help="of all pairs, on one core; 4.6 / 4: routed")
    parser.add_argument("--vector-bytes", type=float, default=1160, help="of a vector in a shard, with its sketch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", type=Path, help="folder of a size of `scale.py --keep`, made on this machine")
    parser.add_argument("--quick", action="store_true", help="a million images on 4 nodes")
    options = parser.parse_args()
    if options.check:
        print_json(check(options.check))
        return
    if options.quick:
        options.images, options.nodes = 1e6, 4
    machines = Machines(options.nodes, options.cores)
    work = work_of(options.images, options.ns_per_pair, options.vector_bytes, machines)
    table = Table(("what happens", "hours", "to ideal", "busy", "read TB", "waited core-h", "last tasks s", "lost"))
    found = {}
    for name, changed in CASES.items():
        one = Simulation(work, replace(machines, **changed), options.seed).run()
        found[name] = asdict(one)
        table.add(
            name, one.seconds / 3600, one.seconds / one.ideal_seconds, one.busy, one.read_bytes / 1e12,
            one.waited_seconds / 3600, one.tail_seconds, one.nodes_lost,
        )  # fmt: skip
    print(f"{options.images:,.0f} images: {work.shards:,} shards, {work.items:,} items of {work.item_seconds:.3g} s")
    table.show()
    print_json({"images": options.images, "nodes": options.nodes, "shards": work.shards, "items": work.items, **found})


if __name__ == "__main__":
    main()
