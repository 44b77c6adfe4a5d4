"""The child process that decodes: `python -m dedup_spark.stages.reading.decoder_child`.

Only `decoder_pool.py` starts it. It reads frames on standard input (first what to derive of an image, pickled with its
settings, then the bytes of one image each, behind the memory that may be allocated for it) and answers each with
("ok", what was derived), ("rejected", reason, message) or ("needs", bytes) where the image needs more memory, in the
form of `answers.py`. It ends with its input. It is a process of its own, with a memory limit and confined
(`sandbox.py`), because image decoders are C libraries that read unknown bytes: they may crash, hang, or do what the
bytes tell them to.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pickle
import resource
import select
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from dedup_spark.stages.reading import sandbox

FRAME = struct.Struct("<Q")
"""The length of the frame's body in bytes, in front of it."""
ALLOWED = struct.Struct("<Q")
"""In front of an image, in its frame: the bytes that may be allocated to decode it."""


def write_message(stream: BinaryIO, message: Any) -> None:
    """Write one frame that holds a pickle: from the parent to its child, never the other way."""
    write_frame(stream, pickle.dumps(message, protocol=5))


def write_frame(stream: BinaryIO, *parts: bytes) -> None:
    """Write one frame of these parts as they are, so that no image is copied into a pickle and out of it."""
    stream.write(FRAME.pack(sum(map(len, parts))))
    for part in parts:
        stream.write(part)
    stream.flush()


def main() -> None:
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a C library prints must not get between the frames
    derive, settings, memory_bytes, is_confined = pickle.loads(_read_frame(requests))
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    from dedup_spark.kernels.decoding import images, memory  # noqa: F401 - as much as an image of any format imports
    from dedup_spark.stages.reading.answers import pack

    space = _AddressSpace()
    mapped_bytes = space.mapped()
    write_frame(answers, pack(["ready", sandbox.confine() if is_confined else [], mapped_bytes]))
    while True:
        try:
            n_allowed, data = _read_image(requests)
        except EOFError:
            return
        is_large = n_allowed > memory.ORDINARY_BYTES
        with _ended_with_its_parent() if is_large else contextlib.nullcontext():
            answer = pack(_answer(derive, data, settings, min(n_allowed, space.left()), n_allowed))
        if is_large:
            _give_back_memory()
        write_frame(answers, answer)


def _answer(derive: Callable[[bytes, Any], Any], data: bytes, settings: Any, room: int, n_allowed: int) -> list[Any]:
    """An image that is rejected while memory is short may be sound: not every decoder says what it lacked.

    Memory is also short where earlier images left this process large, as libraries lose some on damaged files: `room`
    is what it may still map of the `n_allowed` bytes.
    """
    from dedup_spark.kernels.decoding.images import ImageRejected, OutOfMemory
    from dedup_spark.kernels.decoding.memory import ORDINARY_BYTES, NeedsMemory, allowed

    with allowed(n_allowed) as allowance:
        try:
            return ["ok", derive(data, settings)]
        except NeedsMemory as e:
            return ["needs", e.n_bytes]
        except ImageRejected as e:
            may_be_short = n_allowed == ORDINARY_BYTES and 2 * allowance.asked_bytes > room
            was_short = may_be_short or isinstance(e, OutOfMemory)
            if was_short and _may_have_more():
                return ["needs", 2 * n_allowed, str(e.reason), e.message]
            return ["rejected", str(e.reason), e.message]
        except Exception:  # unforeseen in a decoder: the parent makes a row with the last lines of the trace
            return ["rejected", "decoder_crashed", traceback.format_exc()[-500:]]


def _may_have_more() -> bool:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    return soft != hard


class _AddressSpace:
    """What this process has mapped, in bytes, asked of a file that stays open when files are out of reach."""

    def __init__(self) -> None:
        try:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        except OSError:
            self._statm = -1

    def mapped(self) -> int:
        """0 where the system does not say it."""
        try:
            return int(os.pread(self._statm, 100, 0).split()[0]) * resource.getpagesize()
        except (OSError, ValueError, IndexError):
            return 0

    def left(self) -> int:
        """Bytes that may still be mapped."""
        limit, mapped = resource.getrlimit(resource.RLIMIT_AS)[0], self.mapped()
        return max(0, limit - mapped) if mapped and limit != resource.RLIM_INFINITY else sys.maxsize


@contextlib.contextmanager
def _ended_with_its_parent() -> Iterator[None]:
    """Inside of it the process ends when its input does, not only when it next reads: whoever ends the parent in the
    middle of a large image wants its memory back.

    The system sends SIGIO, which ends a process, when the other end of the pipe is closed; nothing else comes through
    it meanwhile.
    """
    requests = sys.stdin.fileno()
    flags = fcntl.fcntl(requests, fcntl.F_GETFL)
    fcntl.fcntl(requests, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(requests, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        watched = select.poll()
        watched.register(requests, 0)
        if watched.poll(0):  # it was closed before
            os._exit(0)
        yield
    finally:
        fcntl.fcntl(requests, fcntl.F_SETFL, flags)


def _give_back_memory() -> None:
    """The C library keeps what was freed in pieces between others; glibc alone can be asked for it."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _read_frame(stream: BinaryIO) -> bytes:
    return stream.read(_read_length(stream))


def _read_image(stream: BinaryIO) -> tuple[int, bytes]:
    """What may be allocated for an image, and its bytes."""
    length = _read_length(stream) - ALLOWED.size
    (n_allowed,) = ALLOWED.unpack(stream.read(ALLOWED.size))
    return n_allowed, stream.read(length)


def _read_length(stream: BinaryIO) -> int:
    header = stream.read(FRAME.size)
    if len(header) < FRAME.size:
        raise EOFError
    length: int = FRAME.unpack(header)[0]
    return length


if __name__ == "__main__":
    main()
