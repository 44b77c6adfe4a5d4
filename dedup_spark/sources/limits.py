"""Reads that end at a limit.

Whoever writes a lake decides what a read finds, and a listing may know no size, or a wrong one. So no read asks for
more than one byte above the limit, whatever the store says of the object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from dedup_spark.kernels.decoding.images import ImageRejected

MOST_BYTES = 2**31 - 1
"""The limit of those who name none: what one value of Arrow or Java holds."""
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Part:
    """What is asked of an object: `length` bytes from `start`, or all from there, of which there may be `max_bytes`."""

    start: int
    length: int | None
    max_bytes: int

    @classmethod
    def of(cls, start: int | None, length: int | None, max_bytes: int) -> Self:
        """Raises ImageRejected: `missing` where no object has such a part, `too_large` for a length above the limit."""
        if (start or 0) < 0 or (length or 0) < 0:
            raise ImageRejected("missing", f"no object has {length} bytes from byte {start}")
        if length is not None and length > max_bytes:
            raise too_large(max_bytes, length)
        return cls(start or 0, length, max_bytes)

    @property
    def end(self) -> int:
        """Behind the last byte that is asked for: one above the limit tells that there is more."""
        return self.start + (self.max_bytes + 1 if self.length is None else self.length)

    @property
    def is_whole(self) -> bool:
        return self.start == 0 and self.length is None

    def require_fits(self, n_bytes: int | None) -> None:
        """Raise ImageRejected (`too_large`) where the store says beforehand that so many bytes would come."""
        if self.length is None and n_bytes is not None and n_bytes > self.max_bytes:
            raise too_large(self.max_bytes, n_bytes)

    def cut(self, data: bytes) -> bytes:
        """The bytes that came, less what was not asked for. Raises ImageRejected (`too_large`)."""
        if self.length is not None:
            return data[: self.length] if len(data) > self.length else data
        if len(data) > self.max_bytes:
            raise too_large(self.max_bytes)
        return data


def too_large(max_bytes: int, n_bytes: int | None = None) -> ImageRejected:
    """`n_bytes`: None where it is not known how many there are, as no more were read."""
    found = f"more than {max_bytes:,} bytes" if n_bytes is None else f"{n_bytes:,} bytes"
    return ImageRejected("too_large", f"{found}; extract.max_object_bytes is {max_bytes:,}")


def read_up_to(read: Callable[[int], bytes | None], n_bytes: int, n_expected: int) -> bytes:
    """What `read` gives, `n_bytes` at most: a reader takes memory for all that it is asked for, so it is asked for what
    is expected, and then in steps.

    Raises:
        ImageRejected: `forbidden` where a reader has nothing yet: it would have to be waited for.
    """
    chunks: list[bytes] = []
    n_left, n_next = n_bytes, n_expected + 1
    while n_left > 0:
        chunk = read(min(n_left, n_next))
        if chunk is None:
            raise ImageRejected("forbidden", "its bytes are still to be written: only files that are there are read")
        if not chunk:
            break
        chunks.append(chunk)
        n_left, n_next = n_left - len(chunk), _CHUNK_BYTES
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
