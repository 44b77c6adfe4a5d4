"""Decoding in child processes, so that a decoder that crashes or hangs costs one image and not the task.

It runs on executors, in the tasks of extract and embed. A child lives as long as the Python worker and is replaced
after a crash or a time-out. It is started as a new process, not forked: FAISS and ONNX Runtime do not survive a fork.

A child may allocate what an ordinary image takes. One that needs more says so by its header, and is decoded when the
executor has room for it: see `budget.py`. Its child decodes others meanwhile.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import resource
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

import dedup_spark
from dedup_spark.config import ExtractSettings
from dedup_spark.errors import DedupError
from dedup_spark.kernels.decoding.images import REJECT_REASONS, ImageRejected
from dedup_spark.kernels.decoding.memory import ORDINARY_BYTES
from dedup_spark.kernels.features.signature import Signature, sign_image
from dedup_spark.spark.python_memory import UNKNOWN, ExecutorMemory
from dedup_spark.stages.reading import decoder_child, sandbox
from dedup_spark.stages.reading.answers import MAX_BYTES, NotAnAnswer, unpack
from dedup_spark.stages.reading.budget import LARGE_OBJECT_BYTES, Rooms, rooms_of
from dedup_spark.stages.reading.decoder_child import ALLOWED, FRAME, write_frame, write_message

log = logging.getLogger(__name__)

_START_SECONDS = 120.0
"""Limit for the first answer of a child, which loads Python and NumPy; ample even for a cold disk under load."""


_MAX_MESSAGE = 2000
_MAPPED_BYTES = 128 << 20
"""Address space beside what images take: libraries of rare formats, and the files of Python's modules."""
_told: set[str] = set()
"""What this Python worker has said to be missing of the sandbox."""


@dataclass(frozen=True, slots=True)
class DecoderLimits:
    """`memory_bytes` of address space and `timeout_seconds` per image for each process; `sandbox` is `auto`, `required`
    or `off`: see `sandbox.py`. The others say what the executor has, as in `budget.rooms_of`."""

    memory_bytes: int
    timeout_seconds: float
    sandbox: str = "auto"
    executor: ExecutorMemory = UNKNOWN
    python_memory_bytes: int = 0
    inflight_bytes: int = ExtractSettings().inflight_bytes
    max_object_bytes: int = ExtractSettings().max_object_bytes

    @classmethod
    def of(cls, extract: ExtractSettings, executor: ExecutorMemory = UNKNOWN) -> DecoderLimits:
        return cls(
            memory_bytes=extract.decoder_memory_bytes,
            timeout_seconds=extract.decoder_timeout_seconds,
            sandbox=extract.decoder_sandbox,
            executor=executor,
            python_memory_bytes=extract.python_memory_bytes,
            inflight_bytes=extract.inflight_bytes,
            max_object_bytes=extract.max_object_bytes,
        )

    def rooms(self, decoders: int) -> Rooms:
        """What the workers of this executor share, each with so many decoders."""
        return rooms_of(self.executor, self.python_memory_bytes, decoders, self.inflight_bytes, self.max_object_bytes)


class _NeedsMemory(Exception):
    """The image was not decoded: it needs more than was allowed. `rejection` is what became of it, if it was tried."""

    def __init__(self, n_bytes: int, rejection: ImageRejected | None = None) -> None:
        super().__init__(n_bytes)
        self.n_bytes, self.rejection = n_bytes, rejection


Derive = Callable[[bytes, Any], Any]
"""What a decoder process makes of the bytes of an image and the settings of its pool: a function of a module in
kernels/, which the process imports by its name. It raises ImageRejected."""


class DecoderPool:
    """`n` decoder processes; `sign` may be called from any number of threads, `n` of which make progress.

    With another `derive` than `sign_image` use `derive`, or `input_of` for that of `input_of_image`.
    """

    def __init__(
        self,
        n: int,
        settings: Any,
        limits: DecoderLimits,
        *,
        derive: Derive = sign_image,
    ) -> None:
        self._n, self._settings, self._limits, self._derive = n, settings, limits, derive
        self._idle: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
        self._children: list[_Child] = []
        self._is_closed = False
        for _ in range(n):
            self._idle.put(None)  # started on first use
        atexit.register(self.close)

    def sign(self, data: bytes, timeout_seconds: float | None = None) -> Signature:
        """`kernels.features.signature.sign_image` in a child, which may take so long, and no longer than any image.

        Raises:
            ImageRejected: also with `decoder_crashed` (the process died) and `decoder_timeout`.
            DedupError: the pool was closed.
        """
        n_allowed, has_died = ORDINARY_BYTES, False
        seconds = min(self._limits.timeout_seconds, timeout_seconds or self._limits.timeout_seconds)
        while True:
            try:
                return self._sign_in_room(data, n_allowed, seconds)
            except _NeedsMemory as e:
                n_allowed = self._more_than(n_allowed, e)
            except (EOFError, BrokenPipeError) as e:
                if has_died:
                    raise ImageRejected("decoder_crashed", f"the decoder process died twice, last with {e}") from e
                # the first death may have another cause: the kernel was short of memory, an operator
                log.warning("an image decoder process died; trying its image once more in a fresh one")
                has_died, n_allowed = True, min(2 * n_allowed, self._most_bytes)

    def input_of(self, data: bytes) -> npt.NDArray[np.uint8]:
        """`kernels.features.signature.input_of_image` in a child of such a pool. Raises as `sign` does."""
        return cast("npt.NDArray[np.uint8]", self.sign(data))

    def derive(self, data: bytes) -> Any:
        """What the function of this pool makes of `data`, in a child. Raises as `sign` does."""
        return self.sign(data)

    @property
    def _most_bytes(self) -> int:
        """For one image."""
        return ORDINARY_BYTES + self._limits.rooms(self._n).pixels.n_bytes

    def _more_than(self, n_allowed: int, needs: _NeedsMemory) -> int:
        """What is to be allowed next. An image that asks again and again gets twice as much each time at least.

        Raises:
            ImageRejected: More than the executor has.
        """
        if needs.n_bytes > (most := self._most_bytes):
            raise needs.rejection or ImageRejected("too_many_pixels", self._too_much(needs.n_bytes)) from needs
        return needs.n_bytes if n_allowed == ORDINARY_BYTES else max(needs.n_bytes, min(2 * n_allowed, most))

    def _too_much(self, n_bytes: int) -> str:
        rooms = self._limits.rooms(self._n)
        return (
            f"decoding needs about {n_bytes:,} bytes; the executor has {rooms.python_bytes:,} for all its Python, of "
            f"which {self._most_bytes:,} may be one image's: raise spark.executor.memoryOverhead (or "
            "extract.python_memory_bytes), or lower spark.executor.cores"
        )

    def _sign_in_room(self, data: bytes, n_allowed: int, seconds: float) -> Signature:
        """Waits, without a child, until the executor has room for what is more than an ordinary image takes."""
        if n_allowed <= ORDINARY_BYTES:
            return self._sign_once(data, n_allowed, seconds)
        with self._limits.rooms(self._n).pixels.admitted(n_allowed - ORDINARY_BYTES):
            return self._sign_once(data, n_allowed, seconds)

    def _sign_once(self, data: bytes, n_allowed: int, seconds: float) -> Signature:
        child = self._idle.get()
        try:
            self._require_open()
            child = child or self._start()
            return child.sign(data, n_allowed, seconds)
        except TimeoutError as e:
            self._discard(child)
            child = None
            raise ImageRejected("decoder_timeout", f"no answer in {seconds:g} s") from e
        except (EOFError, BrokenPipeError, ValueError, KeyError) as e:  # the latter where a close came between
            self._require_open()
            if not isinstance(e, EOFError | BrokenPipeError):
                raise
            code = child.stop() if child else None
            self._discard(child)
            child = None
            raise EOFError(f"exit code {code}" if not str(e) else str(e)) from e
        finally:
            self._idle.put(child)

    def _discard(self, child: _Child | None) -> None:
        if child in self._children:
            child.stop()
            self._children.remove(child)

    def close(self) -> None:
        """End all children; none is started afterwards."""
        self._is_closed = True
        for child in self._children:
            child.stop()
        self._children = []

    def _require_open(self) -> None:
        """Raise DedupError after `close`."""
        if self._is_closed:
            raise DedupError("the image decoder processes were ended")

    def _start(self) -> _Child:
        self._require_open()
        child = _Child(self._derive, self._settings, self._limits)
        self._children.append(child)
        return child


class _Child:
    def __init__(self, derive: Derive, settings: Any, limits: DecoderLimits) -> None:
        # The package may be in a zip that Spark put on sys.path; a child does not inherit that path.
        package_root = str(Path(dedup_spark.__file__).resolve().parent.parent)
        self._process = subprocess.Popen(
            [sys.executable, "-m", decoder_child.__name__],
            env=sandbox.environment(package_root),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._requests = cast(BinaryIO, self._process.stdin)
        self._answers = cast(BinaryIO, self._process.stdout)
        os.set_blocking(self._answers.fileno(), False)
        self._limited_to = 0
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)
        try:
            write_message(self._requests, (derive, settings, limits.memory_bytes, limits.sandbox != "off"))
            _, refused, self._mapped_bytes = self._answer(_START_SECONDS)
        except (EOFError, BrokenPipeError, TimeoutError) as e:
            raise DedupError(
                f"the image decoder process does not start (exit code {self.stop()}); "
                f"try `{sys.executable} -m dedup_spark.stages.reading.decoder_child` on the executor"
            ) from e
        if refused and limits.sandbox == "required":
            self.stop()
            raise DedupError(
                f"extract.decoder_sandbox=required, and this machine has no {' and no '.join(refused)} for the decoder "
                "process; auto does without"
            )
        if new := set(refused) - _told:
            _told.update(new)
            log.warning("decoder processes run without %s, which this machine does not have", " and ".join(sorted(new)))

    def sign(self, data: bytes, n_allowed: int, timeout_seconds: float) -> Signature:
        self._limit(n_allowed + max(0, len(data) - LARGE_OBJECT_BYTES))
        write_frame(self._requests, ALLOWED.pack(n_allowed), data)
        answer = self._answer(timeout_seconds)
        match answer:
            case ["rejected", str(reason), str(message)] if reason in REJECT_REASONS:
                raise ImageRejected(reason, message[:_MAX_MESSAGE])
            case ["needs", int(n_bytes)] if n_bytes > n_allowed:
                raise _NeedsMemory(n_bytes)
            case ["needs", int(n_bytes), str(reason), str(message)] if n_bytes > n_allowed and reason in REJECT_REASONS:
                raise _NeedsMemory(n_bytes, ImageRejected(reason, message[:_MAX_MESSAGE]))
            case ["ok", value]:
                return cast("Signature", value)
        raise EOFError("an answer of no known form")

    def _limit(self, n_bytes: int) -> None:
        """Let the process map so much beside what it began with, a quarter more for what allocators waste; where the
        system can limit another process (Linux), and no more than its own limit."""
        if not self._mapped_bytes or not hasattr(resource, "prlimit") or n_bytes == self._limited_to:
            return
        most = resource.prlimit(self._process.pid, resource.RLIMIT_AS)[1]
        soft = self._mapped_bytes + _MAPPED_BYTES + LARGE_OBJECT_BYTES + n_bytes + n_bytes // 4
        resource.prlimit(self._process.pid, resource.RLIMIT_AS, (min(soft, most), most))
        self._limited_to = n_bytes

    def stop(self) -> int | None:
        """Kill the process and return its exit code."""
        self._process.kill()
        self._process.wait()
        self._selector.close()
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):  # bytes not yet sent to a process that is gone
            self._requests.close()
        return self._process.returncode

    def _answer(self, timeout_seconds: float) -> list[Any]:
        """Raises EOFError also for an answer that no child of ours writes: its process is then of no use."""
        deadline = time.monotonic() + timeout_seconds
        size = FRAME.unpack(self._read(FRAME.size, deadline))[0]
        if size > MAX_BYTES:
            raise EOFError(f"an answer of {size:,} bytes")
        try:
            return unpack(self._read(size, deadline))
        except NotAnAnswer as e:
            raise EOFError(str(e)) from e

    def _read(self, size: int, deadline: float) -> bytearray:
        buffer = bytearray()
        while len(buffer) < size:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            chunk = os.read(self._answers.fileno(), min(size - len(buffer), 1 << 20))
            if not chunk:
                raise EOFError
            buffer += chunk
        return buffer
