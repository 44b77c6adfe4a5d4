"""Files of this machine: only regular ones are opened, and they are read up to a limit.

What is no regular file is never opened: a device or a pipe may act, or never end. Files that the kernel makes (/proc)
say that they are regular and empty, and a file may grow while it is read: so their size is no limit.
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources.limits import Part, read_up_to


def open_regular(path: str) -> FileIO:
    """A regular file, unbuffered.

    Raises:
        ImageRejected: `missing`, or `forbidden` where it is something else.
        OSError: it cannot be opened.
    """
    try:
        _require_regular(Path(path).stat(), path)
        file = FileIO(path, "rb", opener=_open_without_waiting)
    except ValueError as e:  # it holds a NUL or half of a surrogate pair
        raise ImageRejected("missing", f"no file can have this name: {e}") from e
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:
            n_bytes = len(os.fsencode(path))
            raise ImageRejected("missing", f"a path of {n_bytes:,} bytes, which this system does not take") from e
        if e.errno in _LEADS_NOWHERE and Path(path).is_symlink():
            raise ImageRejected("missing", f"{path} is a link to nowhere: {Path(path).readlink()}") from e
        if e.errno in _LEADS_NOWHERE:
            raise ImageRejected("missing", f"no such object: {e}") from e
        raise
    try:
        _require_regular(os.fstat(file.fileno()), path)  # it may have been replaced in between
    except BaseException:
        file.close()
        raise
    return file


def read_file(path: str, part: Part) -> bytes:
    """A part of a regular file, or less where it ends. Raises as `open_regular`, and ImageRejected (`too_large`)."""
    with open_regular(path) as file:
        n_bytes = os.fstat(file.fileno()).st_size - part.start
        part.require_fits(n_bytes)
        if part.start:
            if n_bytes <= 0:
                return b""
            file.seek(part.start)
        return part.cut(read_up_to(file.read, part.end - part.start, max(0, n_bytes)))


_LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(facts: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise ImageRejected("forbidden", f"{path} is no regular file; a pipe or device may never end")
