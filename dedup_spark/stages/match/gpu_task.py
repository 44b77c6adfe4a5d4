"""What tasks of match do for exact_gpu: read shards ahead, send them to the GPU that they hold, and multiply there.

Imports no PyTorch until a task has a GPU to work on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from cachetools import LRUCache, cached

from dedup_spark.kernels.joins.base import Block, Candidates
from dedup_spark.stages.match.gpu import open_device
from dedup_spark.stages.match.work_items import STRIPE
from dedup_spark.store.shards import Shard, read_shard

Item = dict[str, Any]
Shards = tuple[Shard, Shard | None, int]
"""Of an item, and the bytes that were read for it."""

_SHARDS_KEPT = STRIPE + 2
"""In memory and on the GPU: a stripe, and the shards that are joined with it now and next."""


class GpuJoin:
    """The joins of one task, which share what they know of how near the nearest of each image are.

    Args:
        gpus: As match.gpus_per_task.
        wanted: floor, k and keep, as `exact_gpu.Wanted` has them.
    """

    def __init__(self, gpus: float, wanted: tuple[float, int, float]) -> None:
        self._device = open_device(gpus)
        from dedup_spark.kernels.joins import device_blocks, exact_gpu  # here, as importing PyTorch takes seconds

        self._blocks, self._kernel = device_blocks, exact_gpu
        self._wanted, self._bounds = exact_gpu.Wanted(*wanted, gpu_share=min(1.0, gpus)), exact_gpu.Bounds()
        self.read = cached(LRUCache(_SHARDS_KEPT), key=lambda *file: file)(self._read)
        """`read_shard`, for the thread that reads ahead; the shards stay that were used last."""

    def candidates(self, a: Block, b: Block | None) -> Candidates:
        """Rows that may be wanted; with `b` None: pairs within `a`."""
        return self._kernel.exact_gpu_join(a, b, self._wanted, self._device, self._bounds)

    def shards_ahead(self, items: Iterator[Item], read: Callable[[Item], Shards]) -> Iterator[tuple[Item, Shards]]:
        """Each item with its shards, while a thread reads those of the next, which calls `read`."""
        with ThreadPoolExecutor(1, thread_name_prefix="shards") as reader:
            coming: tuple[Item, Future[Shards]] | None = None
            for item in items:
                after = item, reader.submit(read, item)
                if coming:
                    yield coming[0], coming[1].result()
                coming = after
            if coming:
                yield coming[0], coming[1].result()

    def _read(self, *file: Any) -> Shard:
        shard = read_shard(*file)
        self._blocks.on_device(shard.block, self._device)
        return shard
