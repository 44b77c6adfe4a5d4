"""Run ids, step marks and counts.

`runs` is an append-only log: a step writes `started`, does its work, and writes `complete` last, so a
killed step has no end mark and is done again. The mark is never the artefact.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import functions as F

import dedup_spark
from dedup_spark.config import Config
from dedup_spark.errors import DedupError, TaskError
from dedup_spark.redaction import without_secrets
from dedup_spark.results_version import RESULTS_VERSION
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.spark.task_errors import told_in_a_sentence
from dedup_spark.spark.work import Work
from dedup_spark.step_figures import in_words
from dedup_spark.store.schema import RUNS, Table
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import RunStatus, StepName

log = logging.getLogger(__name__)

WHOLE_RUN = StepName.RUN
_SAME_ROWS = "same_rows"
"""In the notes of `maintain`: by table the version that had the rows first, and the newest that has just these."""


@dataclass
class Mark:
    """What the end mark of a step will hold besides its status and time."""

    counts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    fingerprint: str | None = None
    elapsed_seconds: float = 0.0


@dataclass(frozen=True)
class StepOutcome:
    """How a step ended in this process. `status` as in `runs`."""

    step: str
    status: str
    counts: dict[str, int]
    elapsed_seconds: float


@dataclass(frozen=True)
class _Completion:
    """The last completion of a step: its run, its fingerprint, and when this run last completed the step."""

    run_id: str
    fingerprint: str | None
    here_at: datetime | None
    notes: str | None = None


class Run:
    """One run: its id, lake, settings and tables. Each step gets it, to read, write and count.

    `full`: what was compared before is compared again. `is_logged`: steps write their marks to `runs`.
    """

    def __init__(
        self, tables: Tables, config: Config, lake: str, run_id: str, *, full: bool = False, is_logged: bool = True
    ) -> None:
        self.tables, self.config, self.lake, self.run_id = tables, config, lake, run_id
        self.full, self._is_logged = full, is_logged
        self._mark = Mark()
        self.outcomes: list[StepOutcome] = []
        self._known: dict[str, _Completion] = {}
        self._known_at: int | None = None

    def count(self, **counts: int) -> None:
        """Set counts of the step under way; they are stored with its end mark."""
        self._mark.counts.update(counts)

    def note(self, **notes: Any) -> None:
        """Set what the step under way chose and why; values become JSON in `runs.notes`."""
        self._mark.notes.update(notes)

    @contextmanager
    def step(self, step: str) -> Iterator[Mark]:
        """Log the start, and at the end `complete` (or `failed`) with counts and fingerprint.

        A line tells time, rate and the work of Spark at the end, which `runs.notes` has as `work`.

        Raises:
            DedupError: what failed in a task, in one sentence; other errors of the block pass as they are.
        """
        outer, mark = self._mark, Mark()
        self._mark = mark
        self._write(step, RunStatus.STARTED, None, Mark())
        begin, work = time.monotonic(), Work(self.tables.spark)
        try:
            with told_in_a_sentence():
                yield mark
        except BaseException as e:
            seconds = time.monotonic() - begin
            self._end(step, RunStatus.FAILED, seconds, mark)
            self._write_failure(step, seconds, mark, e)
            raise
        finally:
            self._mark = outer
        mark.elapsed_seconds = seconds = time.monotonic() - begin
        mark.notes["work"] = done = work.done()
        self._write(step, RunStatus.COMPLETE, seconds, mark)
        self._end(step, RunStatus.COMPLETE, seconds, mark)
        figures = ", ".join(f"{k} {v:,}" for k, v in mark.counts.items())
        told = in_words(step, seconds, mark.counts, done)
        log.info("%s: done in %s%s", step, told, f" ({figures})" if figures else "")

    def unchanged(self, step: str, fingerprint: str) -> bool:
        """Whether the last completed `step` had this fingerprint; if so, marks it `unchanged` in this run."""
        last = self._completions().get(step)
        if last is None or last.fingerprint != fingerprint:
            return False
        self._write(step, RunStatus.UNCHANGED, 0.0, Mark())
        self._end(step, RunStatus.UNCHANGED, 0.0, Mark())
        log.info("%s: nothing changed since run %s", step, last.run_id)
        return True

    def is_complete(self, step: str, within_hours: float | None = None) -> bool:
        """Whether `step` was completed in this run within the last `within_hours`, or at all."""
        last = self._completions().get(step)
        if last is None or last.here_at is None:
            return False
        return within_hours is None or last.here_at >= datetime.now(UTC) - timedelta(hours=within_hours)

    def versions(self, *tables: Table) -> dict[str, int]:
        """The number of the newest commit of each table, by its name, in this order."""
        return {table.name: self.tables.version(table) for table in tables}

    def fingerprint(self, versions: Mapping[str, int], sections: tuple[str, ...]) -> str:
        """Hash of the versions of package, results and tables (`versions`), and of the settings of `sections` that
        decide. Of versions that `maintain` made, which have the rows of an older one, it is that of the older."""
        same = _same_rows(self._completions().get(StepName.MAINTAIN))
        named = [f"{name}@{first_with_rows(same, name, version)}" for name, version in versions.items()]
        text = "\n".join(
            [dedup_spark.__version__, f"results {RESULTS_VERSION}", *named, self.config.deciding_json(*sections)]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _completions(self) -> dict[str, _Completion]:
        """The last completion of each step. Asked for again only where the log has grown by more than marks of ours."""
        version = None if self.tables.database else self.tables.version(RUNS)  # there it takes a query as well
        if version is None or version != self._known_at:
            self._known, self._known_at = _completions(self.tables, self.run_id), version
        return self._known

    def _remember(self, step: str, status: str, at: datetime, fingerprint: str | None, version: int | None) -> None:
        """A mark that was written, where the log was known as it was in `version`, and has grown by this one alone."""
        if version is None or version != self._known_at or self.tables.version(RUNS) != version + 1:
            return
        self._known_at = version + 1
        if status == RunStatus.COMPLETE:
            self._known[step] = _Completion(self.run_id, fingerprint, at)  # never of `maintain`, which is no step

    def _end(self, step: str, status: str, seconds: float, mark: Mark) -> None:
        if step != WHOLE_RUN:
            self.outcomes.append(StepOutcome(step, status, dict(mark.counts), round(seconds, 3)))

    def _write_failure(self, step: str, seconds: float, mark: Mark, failure: BaseException) -> None:
        try:
            text = _reason(failure)[:4000].encode(errors="replace").decode()  # a name that is no UTF-8 may be in it
            self._write(step, RunStatus.FAILED, seconds, Mark(mark.counts, mark.notes), text)
            if "\n" in text and self._is_logged:
                log.info("%s: failed; the whole trace is in the column message of runs", step)
        except Exception as e:  # the session may be what failed; the error under way must not be hidden by this one
            log.warning("%s: failed, and its mark could not be written: %s", step, e)

    def _write(self, step: str, status: str, seconds: float | None, mark: Mark, message: str | None = None) -> None:
        if not self._is_logged:
            return
        notes = without_secrets(json.dumps(mark.notes, sort_keys=True)) if mark.notes else None
        config, message = without_secrets(self.config.to_json()), without_secrets(message or "") or None
        at, version = datetime.now(UTC), self._known_at
        row = (self.run_id, step, status, at, seconds, mark.counts, notes, self.lake, mark.fingerprint, config,
               dedup_spark.__version__, message)  # fmt: skip
        self.tables.append(RUNS, local_relation(self.tables.spark, [row], RUNS.schema))
        self._remember(step, status, at, mark.fingerprint, version)


def _completions(tables: Tables, run_id: str) -> dict[str, _Completion]:
    """By step, in one query: a row for each step reaches the driver."""
    notes = F.when(F.col("step") == StepName.MAINTAIN, F.col("notes")).alias("notes")
    last = F.max_by(F.struct("run_id", "fingerprint", notes), "at").alias("last")
    here_at = F.max(F.when(F.col("run_id") == run_id, F.unix_micros("at"))).alias("here_at")
    done = tables.read(RUNS).where(F.col("status") == RunStatus.COMPLETE).groupBy("step").agg(last, here_at)
    return {
        r["step"]: _Completion(
            r["last"]["run_id"], r["last"]["fingerprint"], _as_time(r["here_at"]), r["last"]["notes"]
        )
        for r in done.collect()
    }


def _same_rows(maintained: _Completion | None) -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads(maintained.notes or "{}").get(_SAME_ROWS, {}) if maintained else {}
    return found


def first_with_rows(same_rows: Mapping[str, Sequence[int]], name: str, version: int) -> int:
    """The oldest version of a table that has the rows of `version`, as far as is known."""
    first, newest = same_rows.get(name, (version, version))
    return first if version == newest else version


def mark_same_rows(tables: Tables, run_id: str, table: Table, before: int, after: int) -> None:
    """Leave a mark of `maintain` in `runs`: version `after` of the table has the rows of version `before`.

    What earlier marks say of other tables is said again, as the last one is read.
    """
    known = _same_rows(_completions(tables, run_id).get(StepName.MAINTAIN))
    now = {table.name: [first_with_rows(known, table.name, before), after]}
    notes = json.dumps({_SAME_ROWS: known | now}, sort_keys=True)
    facts = {"run_id": run_id, "step": StepName.MAINTAIN, "status": RunStatus.COMPLETE, "at": datetime.now(UTC),
             "counts": {}, "notes": notes, "version": dedup_spark.__version__}  # fmt: skip
    row = tuple(facts.get(name) for name in RUNS.column_names)
    tables.append(RUNS, local_relation(tables.spark, [row], RUNS.schema))


def _as_time(micros: int | None) -> datetime | None:
    """Whatever the time zone of the session and of this machine."""
    return None if micros is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def _reason(e: BaseException) -> str:
    """Why a step failed, in a sentence; where the sentence was made from a trace, with the trace."""
    if isinstance(e, TaskError):
        return f"{e}\n{e.__cause__}"
    return str(e) if isinstance(e, DedupError) else f"{type(e).__name__}: {e}"


def new_run_id() -> str:
    """Sortable by time, unique without coordination: `20261123-181502-9f3a`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def lakes_listed(tables: Tables) -> list[str]:
    """The lakes of which these tables hold a complete listing."""
    done = (F.col("step") == StepName.INVENTORY) & (F.col("status") == RunStatus.COMPLETE)
    return sorted(row["lake"] for row in tables.rows_now(RUNS).where(done).select("lake").distinct().collect())


def unfinished_run_id(tables: Tables, lake: str) -> str | None:
    """The newest run of this lake if it has not completed: the one that the same command continues."""
    whole = tables.rows_now(RUNS).where((F.col("step") == WHOLE_RUN) & (F.col("lake") == lake))
    last = whole.orderBy(F.desc("at")).first()
    return last["run_id"] if last is not None and last["status"] != RunStatus.COMPLETE else None
