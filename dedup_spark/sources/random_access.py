"""Files open for reading at any place: those of tables, text files of columns, containers."""

from __future__ import annotations

import struct
from io import BufferedReader
from typing import BinaryIO

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses
from dedup_spark.sources.disk import open_regular

READ_BYTES = 4 * 2**20
"""One request to a store, or one read of a disk."""
_MOST_FOOTER_BYTES = 2**28
"""What a Parquet file may say of itself, which a reader takes whole: 256 MiB, as of a million column chunks."""
_FOOTER_END = struct.Struct("<I4s")


def open_bytes(uri: str, *, read_bytes: int = READ_BYTES) -> BinaryIO:
    """A file open for reading at any place; a store is read `read_bytes` at a time.

    Raises:
        ImageRejected: on a disk, `missing`, or `forbidden` where it is no regular file.
    """
    if not addresses.is_remote(uri):
        return BufferedReader(open_regular(addresses.to_path(uri)))
    filesystem, path = addresses.open_store(uri)
    file: BinaryIO = filesystem.open(path, "rb", block_size=read_bytes, cache_type="readahead")
    return file


class WatchedFile:
    """A file of bytes as pyarrow takes it, which remembers the last fault of its disk or store: what else pyarrow
    raises is damage."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.fault: Exception | None = None

    def read(self, n_bytes: int = -1) -> bytes:
        try:
            return self._file.read(n_bytes)
        except Exception as e:
            self.fault = e
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False


def require_small_footer(file: WatchedFile, uri: str) -> None:
    """Raise ImageRejected (`corrupt`) where a Parquet file would have a reader take over 256 MiB for its footer."""
    n_bytes = file.seek(0, 2)
    if n_bytes < _FOOTER_END.size:
        raise ImageRejected("corrupt", f"{uri}: {n_bytes:,} bytes are no Parquet file")
    file.seek(n_bytes - _FOOTER_END.size)
    n_footer, _ = _FOOTER_END.unpack(file.read(_FOOTER_END.size))
    file.seek(0)
    if n_footer > _MOST_FOOTER_BYTES:
        raise ImageRejected("corrupt", f"{uri}: its footer has {n_footer:,} bytes, more than {_MOST_FOOTER_BYTES:,}")
