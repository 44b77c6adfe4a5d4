"""Bytes of one object, or of a range of it, by URI; shared by all sources that read plain objects."""

from __future__ import annotations

from dedup_spark import storage
from dedup_spark.kernels.images import ImageRejected
from dedup_spark.sources import names


def read_object(uri: str, start: int | None = None, length: int | None = None) -> bytes:
    """The object's bytes; with `start` and `length`, that range of them.

    Raises:
        ImageRejected: `missing` or `forbidden`.
        OSError: another fault of the store, which may pass.
    """
    try:
        if uri.startswith("file:"):
            return _read_local(names.from_text(uri.removeprefix("file://")), start or 0, length)
        filesystem, path = storage.open_filesystem(uri)
        end = None if length is None else (start or 0) + length
        data: bytes = filesystem.cat_file(path, start=start, end=end)
        return data
    except FileNotFoundError as e:
        raise ImageRejected("missing", f"no such object: {e}") from e
    except (PermissionError, IsADirectoryError) as e:
        raise ImageRejected("forbidden", str(e)) from e


def _read_local(path: str, start: int, length: int | None) -> bytes:
    with open(path, "rb") as f:
        if start:
            f.seek(start)
        return f.read() if length is None else f.read(length)
