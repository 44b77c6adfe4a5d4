"""The file that takes what Java prints and the traces of errors, so that a person sees sentences. No Spark."""

from __future__ import annotations

import functools
import os
from datetime import UTC, datetime
from pathlib import Path

from dedup_spark.store import files

_LOGS_KEPT = 10


@functools.cache
def log_file() -> Path:
    """The log of this process, in a folder that only this user may write into; of older ones the last ten stay."""
    folder = files.private_folder("logs")
    older = sorted(folder.glob("*.log"))
    for path in older[: max(0, len(older) - _LOGS_KEPT + 1)]:
        path.unlink(missing_ok=True)
    return folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.log"
