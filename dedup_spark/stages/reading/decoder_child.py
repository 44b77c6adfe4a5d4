"""The child process that decodes: `python -m dedup_spark.stages.reading.decoder_child`.

Only `decoder_pool.py` starts it. It reads frames on standard input (first what to derive of an image, pickled with its
settings, then the bytes of one image each) and answers each with ("ok", what was derived) or ("rejected", reason,
message), in the form of `answers.py`. It ends with its input. It is a process of its own, with a memory limit and
confined (`sandbox.py`), because image decoders are C libraries that read unknown bytes: they may crash, hang, or do
what the bytes tell them to.
"""

from __future__ import annotations

import os
import pickle
import resource
import struct
import sys
import traceback
from typing import Any, BinaryIO

from dedup_spark.stages.reading import sandbox

FRAME = struct.Struct("<Q")
"""The length of the frame's body in bytes, in front of it."""


def write_message(stream: BinaryIO, message: Any) -> None:
    """Write one frame that holds a pickle: from the parent to its child, never the other way."""
    write_frame(stream, pickle.dumps(message, protocol=5))


def write_frame(stream: BinaryIO, body: bytes) -> None:
    """Write one frame that holds `body` itself, so that no image is copied into a pickle and out of it."""
    stream.write(FRAME.pack(len(body)))
    stream.write(body)
    stream.flush()


def main() -> None:
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a C library prints must not get between the frames
    derive, settings, memory_bytes, is_confined = pickle.loads(_read_frame(requests))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    from dedup_spark.kernels.decoding.images import ImageRejected
    from dedup_spark.stages.reading.answers import pack

    write_frame(answers, pack(["ready", sandbox.confine() if is_confined else []]))
    while True:
        try:
            data = _read_frame(requests)
        except EOFError:
            return
        try:
            answer = pack(["ok", derive(data, settings)])
        except ImageRejected as e:
            answer = pack(["rejected", str(e.reason), e.message])
        except Exception:  # unforeseen in a decoder: the parent makes a row with the last lines of the trace
            answer = pack(["rejected", "decoder_crashed", traceback.format_exc()[-500:]])
        write_frame(answers, answer)


def _read_frame(stream: BinaryIO) -> bytes:
    header = stream.read(FRAME.size)
    if len(header) < FRAME.size:
        raise EOFError
    return stream.read(FRAME.unpack(header)[0])


if __name__ == "__main__":
    main()
