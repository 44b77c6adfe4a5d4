"""What this package changes in the Python workers that Spark starts."""

from __future__ import annotations

import sys
import zipimport


def read_zips_once() -> None:
    """Keep the directories of zip files on the import path, in a worker on Python 3.12.

    PySpark calls `importlib.invalidate_caches()` before every task, and Python 3.12 then reads the directory of every
    zip file on the path again, entry by entry, in Python (cpython gh-103200; later ones read it at the next import).
    `spark.jars.packages` puts all jars on that path: with Delta's 40,000 entries each task took 0.4 s to begin. The
    files that a worker imports from do not change while it lives.
    """
    if "pyspark.worker" in sys.modules and sys.version_info < (3, 13):
        zipimport.zipimporter.invalidate_caches = _keep  # type: ignore[assignment, method-assign]


def _keep(_: zipimport.zipimporter) -> None:
    """Replaces `zipimporter.invalidate_caches` and does nothing."""
