"""What the footer of a Parquet file says, where a damaged one would end the process. On executors."""

from __future__ import annotations

import io

import pyarrow.parquet as pq

from dedup_spark.sources.random_access import READ_BYTES

_MOST_BYTES = 2**62
"""Longer than any file, so that no column is found to end behind it."""


class _NoPages(io.RawIOBase):
    """In the place of a Parquet file whose footer is known: long enough for any, and no byte of it can be read."""

    def __init__(self) -> None:
        self._at, self.was_asked = 0, False

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: _MOST_BYTES}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        self.was_asked = True
        raise OSError("only the footer is asked for")


def require_sound_facts(file: pq.ParquetFile, group: int, column: str | None) -> None:
    """Raise pyarrow's error where what the footer says of a column in a row group contradicts itself.

    `RowGroupMetaData.column` ends the process at such a footer, as no one catches what its C++ throws ("Definition
    level histogram size mismatch"); a reader, which makes the same object first, raises it. So a reader is made here,
    of a file without pages: nothing is read.
    """
    pages = _NoPages()
    try:
        known = pq.ParquetFile(pages, metadata=file.metadata, buffer_size=READ_BYTES, pre_buffer=False)
        next(known.iter_batches(1, row_groups=[group], columns=[column], use_threads=False), None)
    except Exception:
        if not pages.was_asked:
            raise
