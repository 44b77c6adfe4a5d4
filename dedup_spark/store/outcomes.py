"""How a run or a command ended, as a file `results/<name>.json` below the root of the tables, outside every table.

Schedulers read it where the platform hides the exit code: YARN makes 1 of every code, Kubernetes in cluster mode 0. A
run writes `<run id>.json`, which the next command of the same run replaces; a command with `--result NAME` writes that
name too, also where it was refused before a run began, or ended by a signal.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dedup_spark
from dedup_spark.errors import ConfigError
from dedup_spark.redaction import without_secrets
from dedup_spark.store import files

if TYPE_CHECKING:
    from dedup_spark.store.runs import Run

log = logging.getLogger(__name__)

FOLDER = "results"


@contextmanager
def told(run: Run, command: str) -> Iterator[None]:
    """Write the outcome of what a run does in this block, whether it ends well or not."""
    began = time.monotonic()
    try:
        yield
    except BaseException as e:
        write(run.tables.root, run.run_id, _of(run, command, time.monotonic() - began, e))
        raise
    write(run.tables.root, run.run_id, _of(run, command, time.monotonic() - began, None))


def write(root: str, name: str, outcome: Mapping[str, Any]) -> None:
    """Write the file. Where that fails, a line of the log says so: the work and its exit code stand.

    Characters of a name that are not letters, digits, `.`, `_` or `-` are `_` in that of the file.
    """
    place = f"{root}/{FOLDER}/{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.json"
    written = {**outcome, "at": datetime.now(UTC).isoformat(timespec="seconds"), "version": dedup_spark.__version__}
    text = without_secrets(json.dumps(written, indent=1, sort_keys=True)) + "\n"
    try:
        files.write_atomically(place, text.encode(errors="replace"))
    except Exception as e:  # each store has error types of its own
        log.warning("the outcome could not be written to %s: %s", place, e)


def exit_code_of(failure: BaseException | None) -> int:
    """The exit code of the command, as `dedup_spark.cli` gives it."""
    return 0 if failure is None else 2 if isinstance(failure, ConfigError) else 1


def _of(run: Run, command: str, seconds: float, failure: BaseException | None) -> dict[str, Any]:
    return {
        "command": command,
        "run_id": run.run_id,
        "lake": run.lake,
        "tables": run.tables.root,
        "database": run.tables.database,
        "status": "complete" if failure is None else "failed",
        "exit_code": exit_code_of(failure),
        "message": None if failure is None else str(failure) or type(failure).__name__,
        "elapsed_seconds": round(seconds, 3),
        "steps": [asdict(step) for step in run.outcomes],
    }
