"""Blocks of vectors on a device of PyTorch, a GPU or for tests the CPU: unit rows in float16, each block sent once.

Imports PyTorch, which takes seconds: only the engine exact_gpu does.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dedup_spark.kernels.joins.base import Block

GROUP = 64
"""Rows of a block on a device are a multiple of it; those added are zeros."""

_BYTES_AT_ONCE = 16 << 20
"""Of float16 vectors: while the GPU fetches one buffer, the next is filled. Both are pinned, unknown to Spark."""


@dataclass(frozen=True, eq=False)
class DeviceBlock:
    """A block on a device.

    Attributes:
        rows: (n rounded up to GROUP, d) float16 of length 1, or 0 where the block has zeros.
        n_rows: Of the block.
        sent: Passes when the rows are there; None on the CPU.
    """

    rows: torch.Tensor
    n_rows: int
    sent: torch.cuda.Event | None

    def wait(self) -> torch.Tensor:
        """The rows, for work that is added to the current stream from now on."""
        if self.sent is not None:
            torch.cuda.current_stream(self.rows.device).wait_event(self.sent)
        return self.rows


_held: weakref.WeakKeyDictionary[Block, dict[str, DeviceBlock]] = weakref.WeakKeyDictionary()
"""As long as the block lives: a shard of 65,536 rows takes 64 MB, and a worker keeps a few."""
_sending = threading.Lock()


def on_device(block: Block, device: str) -> DeviceBlock:
    """The block on the device of that name; it is sent if it is not there.

    A thread that reads ahead may call it, and it does not wait for the GPU.
    """
    with _sending:
        held = _held.setdefault(block, {})
        if device not in held:
            held[device] = _send(block, torch.device(device))
        return held[device]


def _send(block: Block, device: torch.device) -> DeviceBlock:
    n, d = block.vectors.shape
    step = rows_at_once(d)
    channel = _channel(device, d) if device.type == "cuda" else None
    with channel.active() if channel else contextlib.nullcontext():
        rows = torch.zeros((-(-n // GROUP) * GROUP, d), dtype=torch.float16, device=device)
        for start in range(0, n, step):
            there = rows[start : min(start + step, n)]
            given = block.vectors[start : start + len(there)]
            if channel:
                channel.send(given, there)
            else:
                np.copyto(there.numpy(), given)
            _scale(there)
        return DeviceBlock(rows, n, recorded(channel.stream) if channel else None)


def rows_at_once(d: int) -> int:
    """How many rows of `d` dimensions cross together."""
    return max(1, _BYTES_AT_ONCE // (2 * d))


def _scale(rows: torch.Tensor) -> None:
    """To length 1, in float32. They cross as they are stored, half as long. Rows that are no numbers become zeros: the
    maximum of a group would be none either, whatever else is in it."""
    x = rows.float()
    unit = x * torch.rsqrt(x.square().sum(1, keepdim=True).clamp(min=1e-30))
    rows.copy_(unit.nan_to_num(nan=0.0))


def new_stream(device: torch.device) -> torch.cuda.Stream:
    """Of PyTorch, whose own types say nothing here."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def recorded(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """An event that passes when all work of the stream so far is done."""
    return stream.record_event()  # type: ignore[no-untyped-call]


class _Channel:
    """Sends rows to one GPU by two pinned buffers in turns, on a stream of its own: copies run beside products."""

    def __init__(self, device: torch.device, d: int) -> None:
        self.stream = new_stream(device)
        shape = (rows_at_once(d), d)
        self._buffers = [torch.empty(shape, dtype=torch.float16, pin_memory=True) for _ in range(2)]
        self._sent: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0

    def active(self) -> Any:
        return torch.cuda.stream(self.stream)

    def send(self, given: np.ndarray, there: torch.Tensor) -> None:
        """Returns when `given` may change; it waits where both buffers are on their way."""
        self._turn = 1 - self._turn
        buffer, before = self._buffers[self._turn][: len(given)], self._sent[self._turn]
        if before is not None:
            before.synchronize()
        np.copyto(buffer.numpy(), given)
        there.copy_(buffer, non_blocking=True)
        self._sent[self._turn] = recorded(self.stream)


@functools.cache
def _channel(device: torch.device, d: int) -> _Channel:
    return _Channel(device, d)
