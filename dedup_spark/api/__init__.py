"""The functions of dedup_spark for Python: notebooks, jobs of one's own, and the command line, which calls these.

    import dedup_spark
    done = dedup_spark.run(spark, lake="s3a://bucket/photos", tables="s3a://bucket/dedup",
                           settings={"match.min_similarity": 0.5})
    print(done.clusters, done.removable_bytes)
    answer = dedup_spark.sql(spark, "SELECT * FROM duplicates LIMIT 20", tables="s3a://bucket/dedup")

Each function stands for one command of `dedup-spark` and does what that does: the same checks before anything starts,
the same lease on the tables while it writes, the same resuming of an interrupted run. They return values; nothing is
printed. What they have in common:

* `spark`: the session to use. It is neither made nor stopped here; while a function runs, its time zone is UTC and its
  Arrow batches hold 1,024 rows, as our rows need it. None: the session that the platform has, or else a new local one
  (with a line in the log), which stays open. Questions (`sql`, `clusters`, `trace`, ...) need none: see their
  module, `questions.py`.
* `tables`: where the tables are: a local path or a URI. `database`: the catalog's schema for them, as `main.dedup`.
* `lake`: the folder or URI of the images, in any spelling; `runs.lake` and `images.lake` hold the canonical one.
* `settings`: `{"match": {"min_similarity": 0.5}}` or `{"match.min_similarity": 0.5}`, or a whole `Config`; they go
  before those of `settings_file`, a TOML file such as `calibrate` gives. All wrong ones are named in one ConfigError.
* `run_id`: the name of the run. None: the interrupted run of this lake is continued, else it is a new name.
* `break_lock`: take the tables from a run that seems alive; that run stops before it writes again.

Every function raises `ConfigError` before it starts anything where settings, paths or surroundings are not as needed,
also where another run holds the tables. It raises other kinds of `DedupError` (`errors.py`), each with a message of one
sentence, where the work fails; finished work is kept, and the same call goes on from there. Two calls of one process on
the same tables at the same time are two runs: the second one is refused.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dedup_spark.api.measures import Calibration as Calibration
    from dedup_spark.api.measures import calibrate as calibrate
    from dedup_spark.api.measures import plan as plan
    from dedup_spark.api.questions import Status as Status
    from dedup_spark.api.questions import clusters as clusters
    from dedup_spark.api.questions import dendrogram as dendrogram
    from dedup_spark.api.questions import explain as explain
    from dedup_spark.api.questions import open_views as open_views
    from dedup_spark.api.questions import sql as sql
    from dedup_spark.api.questions import status as status
    from dedup_spark.api.questions import summary as summary
    from dedup_spark.api.questions import trace as trace
    from dedup_spark.api.runs import RunResult as RunResult
    from dedup_spark.api.runs import demo as demo
    from dedup_spark.api.runs import embed as embed
    from dedup_spark.api.runs import run as run
    from dedup_spark.api.runs import run_step as run_step
    from dedup_spark.api.upkeep import export_index as export_index
    from dedup_spark.api.upkeep import forget as forget
    from dedup_spark.api.upkeep import maintain as maintain
    from dedup_spark.api.upkeep import repair as repair
    from dedup_spark.api.upkeep import upgrade as upgrade
    from dedup_spark.api.upkeep import verify_removal as verify_removal

_HOMES = {
    "measures": ("Calibration", "calibrate", "plan"),
    "questions": (
        "Status",
        "clusters",
        "dendrogram",
        "explain",
        "open_views",
        "sql",
        "status",
        "summary",
        "trace",
    ),
    "runs": ("RunResult", "demo", "embed", "run", "run_step"),
    "upkeep": ("export_index", "forget", "maintain", "repair", "upgrade", "verify_removal"),
}
"""The names of each module; it is loaded when the first of them is used, as questions are answered without Spark."""

__all__ = [
    "Calibration", "RunResult", "Status", "calibrate", "clusters", "demo", "dendrogram", "embed", "explain",
    "export_index", "forget", "maintain", "open_views", "plan", "repair", "run", "run_step", "sql", "status", "summary",
    "trace", "upgrade", "verify_removal",
]  # fmt: skip


def __getattr__(name: str) -> object:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'dedup_spark.api' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"dedup_spark.api.{home}"), name)
    globals()[name] = value
    return value
