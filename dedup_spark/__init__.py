"""dedup_spark: duplicate and near-duplicate images in a data lake, as tables that SQL can query.

    import dedup_spark
    dedup_spark.run(spark, lake="s3a://bucket/photos", tables="s3a://bucket/dedup")

The functions are those of `dedup_spark.api`; they and Spark are loaded when the first of them is used, because the
processes that decode images import this package too. `read_table` and `open_table` (`store/reader.py`) need no Spark,
nor does `Lookup`. `dedup_spark.functions` has functions for SQL.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dedup_spark.spark.python_workers import read_zips_once

if TYPE_CHECKING:
    from dedup_spark.api import Calibration as Calibration
    from dedup_spark.api import RunResult as RunResult
    from dedup_spark.api import Status as Status
    from dedup_spark.api import calibrate as calibrate
    from dedup_spark.api import clusters as clusters
    from dedup_spark.api import demo as demo
    from dedup_spark.api import dendrogram as dendrogram
    from dedup_spark.api import embed as embed
    from dedup_spark.api import explain as explain
    from dedup_spark.api import export_index as export_index
    from dedup_spark.api import forget as forget
    from dedup_spark.api import maintain as maintain
    from dedup_spark.api import open_views as open_views
    from dedup_spark.api import plan as plan
    from dedup_spark.api import repair as repair
    from dedup_spark.api import run as run
    from dedup_spark.api import run_step as run_step
    from dedup_spark.api import sql as sql
    from dedup_spark.api import status as status
    from dedup_spark.api import summary as summary
    from dedup_spark.api import trace as trace
    from dedup_spark.api import upgrade as upgrade
    from dedup_spark.api import verify_removal as verify_removal
    from dedup_spark.lookup.lookup import Lookup as Lookup
    from dedup_spark.spark.session import get_session as get_session
    from dedup_spark.store.reader import open_table as open_table
    from dedup_spark.store.reader import read_table as read_table

__version__ = "0.2.0"

_API = (
    "Calibration", "RunResult", "Status", "calibrate", "clusters", "demo", "dendrogram", "embed", "explain",
    "export_index", "forget", "maintain", "open_views", "plan", "repair", "run", "run_step", "sql", "status", "summary",
    "trace", "upgrade", "verify_removal",
)  # fmt: skip
_HOMES = dict.fromkeys(_API, "dedup_spark.api") | {
    "Lookup": "dedup_spark.lookup.lookup",
    "get_session": "dedup_spark.spark.session",
    "open_table": "dedup_spark.store.reader",
    "read_table": "dedup_spark.store.reader",
}
"""Where each name of this package is defined; it is looked up when it is first used."""

__all__ = [*_HOMES, "__version__"]

read_zips_once()


def __getattr__(name: str) -> object:
    if name == "functions":  # a module of this package, for which `import dedup_spark` is enough
        return importlib.import_module("dedup_spark.functions")
    if name not in _HOMES:
        raise AttributeError(f"module 'dedup_spark' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
