"""Bytes of one object, or of a range of it, by URI; shared by all sources that read plain objects."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dedup_spark.kernels.images import ImageRejected
from dedup_spark.sources import addresses


def read_object(uri: str, start: int | None = None, length: int | None = None) -> bytes:
    """The object's bytes; with `start` and `length`, that range of them, or less where the object ends.

    One request to the store and no retry: see `fetching.py`.

    Raises:
        ImageRejected: `missing` or `forbidden`.
        OSError: another fault of the store, which may pass.
        ImportError: this machine has no package for the scheme.
    """
    if length == 0:
        return b""
    if not addresses.is_remote(uri):
        with store_errors():
            return _read_local(addresses.to_path(uri), start or 0, length)
    store, path = addresses.split_store(uri)
    filesystem, base = addresses.open_for_reading(store)
    end = None if length is None else (start or 0) + length
    with store_errors():
        try:
            data: bytes = filesystem.cat_file(f"{base.rstrip('/')}/{path}", start=start, end=end)
        except OSError as e:
            if _is_past_the_end(e):
                return b""
            raise
        return data


@contextmanager
def store_errors() -> Iterator[None]:
    """What the libraries of the stores raise becomes ImageRejected or OSError, as `Source.fetch` promises."""
    try:
        yield
    except ImageRejected:
        raise
    except FileNotFoundError as e:
        raise ImageRejected("missing", f"no such object: {e}") from e
    except (PermissionError, IsADirectoryError) as e:
        raise ImageRejected("forbidden", str(e)) from e
    except OSError:
        raise
    except Exception as e:  # time-outs and broken connections of botocore, aiohttp and others are no OSError
        raise OSError(f"{type(e).__name__}: {e}") from e


def _read_local(path: str, start: int, length: int | None) -> bytes:
    """Looks before it opens: to open a device or a pipe may do something, or never end."""
    try:
        _require_regular(Path(path).stat(), path)
        with open(path, "rb", opener=_open_without_waiting) as f:
            _require_regular(os.fstat(f.fileno()), path)  # it may have been replaced meanwhile
            if start:
                f.seek(start)
            return f.read() if length is None else f.read(length)
    except OSError as e:
        if e.errno in _LEADS_NOWHERE and Path(path).is_symlink():
            raise ImageRejected("missing", f"{path} is a link to nowhere: {Path(path).readlink()}") from e
        if e.errno in _LEADS_NOWHERE:
            raise ImageRejected("missing", f"no such object: {e}") from e
        raise


_LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(facts: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise ImageRejected("forbidden", f"{path} is no regular file; a pipe or device may never end")


def _is_past_the_end(error: OSError) -> bool:
    """Whether an S3 store said 416: the range begins where the object has ended."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in ("InvalidRange", "416")
