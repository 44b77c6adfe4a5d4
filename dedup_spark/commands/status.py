"""`dedup-spark status`: how the last run ended, whether one is under way, what is left, and what to do next. No Spark.

By the log of runs, the lease, and counts over two narrow columns: an answer within seconds whatever the lake.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dedup_spark.config import ClusterSettings, MatchSettings
from dedup_spark.stages.command_lines import command_line
from dedup_spark.step_figures import MAIN_COUNT, in_words
from dedup_spark.store.lease import Holder
from dedup_spark.store.sql_tables import SqlTables, first_row
from dedup_spark.vocabulary import Metric, RunStatus, StepName

_ORDER = (StepName.INVENTORY, StepName.EXTRACT, StepName.INDEX, StepName.MATCH, StepName.CLUSTER)
"""Each of these steps works on what those before it wrote."""
_CHANGED_BY = {
    StepName.INVENTORY: ("new_or_changed", "gone", "brought_back"),
    StepName.EXTRACT: ("read", "copied", "forgotten"),
}
"""Steps that are made anew each time, with the counts that say whether anything changed."""
_NO_RUN = (StepName.PLAN, StepName.CALIBRATE, StepName.FORGET, StepName.MAINTAIN)
UNDER_WAY, COMPLETE, FAILED, INTERRUPTED = "under way", "complete", "failed", "interrupted"
UNKNOWN = "not known to be alive"
"""It has begun and not ended, and nothing in this store tells whether somebody is doing it."""


@dataclass(frozen=True)
class StepState:
    """The last mark of a step in a run.

    Attributes:
        status: As in `runs`, or `interrupted`: it has begun, and nobody is doing it; or UNKNOWN.
        rate: Images a second, by the count of the step that its time goes into; None where it has none.
        work: What Spark did for it, by name: see docs/operations.md; empty in runs of older versions.
    """

    step: str
    status: str
    at: datetime
    elapsed_seconds: float | None
    rate: float | None
    counts: Mapping[str, int]
    work: Mapping[str, float]
    message: str | None


@dataclass(frozen=True)
class LastRun:
    """`status` is `under way`, `complete`, `failed`, `interrupted` or UNKNOWN."""

    run_id: str
    lake: str
    status: str
    began_at: datetime
    ended_at: datetime | None
    steps: tuple[StepState, ...]


@dataclass(frozen=True)
class Status:
    """What is known of a set of tables.

    Attributes:
        holder: Who is writing to the tables, in words; None where nobody is.
        images: Images listed.
        features: Images read, by status; `unread` are those without a row.
        clusters: Clusters that the tables hold.
        attention: What a person should look at, a sentence each; empty where all is well.
        next: The command to type next; None while a run is under way, or may be.
    """

    tables: str
    run: LastRun | None
    holder: str | None
    images: int
    features: Mapping[str, int]
    unread: int
    clusters: int
    attention: tuple[str, ...]
    next: str | None

    @property
    def is_healthy(self) -> bool:
        return not self.attention


def status_of(
    tables: SqlTables,
    place: str,
    holder: Holder | None,
    now: datetime | None = None,
    database: str | None = None,
    *,
    has_lease: bool = True,
) -> Status:
    """The status of tables that `place` names in commands.

    Args:
        holder: The last holder of the lease on them.
        now: Of the clock; None: now.
        has_lease: Whether the lease tells who is alive, which it does not in every store.
    """
    now = now or datetime.now(UTC)
    writing = holder if holder is not None and not holder.is_over() else None
    marks = _marks(tables)
    run = _last_run(marks, writing, INTERRUPTED if has_lease else UNKNOWN)
    features = {row["status"]: row["n"] for row in _asked(tables, _FEATURES)}
    images, clusters = (_asked(tables, query)[0]["n"] for query in (_IMAGES, _CLUSTERS))
    unread = max(0, images - sum(features.values()))
    attention = tuple(_attention(tables, marks, run, writing is not None, unread, now, has_lease)) if run else ()
    return Status(
        place, run, writing.describe() if writing else None, images, features, unread, clusters,
        attention or (() if run or writing else ("no run has begun on these tables",)),
        None if writing or (run and run.status == UNKNOWN) else _next(run, attention, place, database),
    )  # fmt: skip


_MARKS = """\
SELECT runs.run_id, runs.step, runs.status, runs.at AS moment, runs.elapsed_seconds, runs.counts, runs.notes,
       runs.lake, runs.message
FROM $runs AS runs ORDER BY runs.at DESC LIMIT 500"""
"""More than two runs have, with a mark of each step that began and one of its end."""
_IMAGES = "SELECT count(*) AS n FROM $images"
_CLUSTERS = "SELECT count(*) AS n FROM $clusters WHERE is_keeper"
_FEATURES = "SELECT status, count(*) AS n FROM $features GROUP BY status"
_RECALL = (
    "SELECT quality.value, quality.run_id FROM $quality AS quality "
    f"WHERE metric = '{Metric.RECALL}' ORDER BY run_id DESC LIMIT 1"
)
_SETTINGS = f"""\
SELECT runs.config FROM $runs AS runs WHERE step = '{StepName.MATCH}' AND status = '{RunStatus.COMPLETE}'
ORDER BY runs.at DESC LIMIT 1"""
_LISTINGS = f"""\
SELECT runs.lake, max(runs.at) AS moment FROM $runs AS runs
WHERE step = '{StepName.INVENTORY}' AND status = '{RunStatus.COMPLETE}'
  AND runs.lake IN (SELECT images.lake FROM $images AS images)
GROUP BY runs.lake ORDER BY runs.lake"""
"""Of lakes that have images: one that was listed once under another name, or is empty now, stands for nothing."""

Mark = dict[str, Any]


def _asked(tables: SqlTables, query: str) -> list[Mark]:
    rows: list[Mark] = tables.ask(query).to_pylist()
    return rows


def _marks(tables: SqlTables) -> list[Mark]:
    """The last marks of the log, the newest first, with times in UTC, counts as a dict and notes as one."""
    marks = _asked(tables, _MARKS)
    for mark in marks:
        mark["moment"] = _utc(mark["moment"])
        mark["counts"] = dict(mark["counts"] or {})
        mark["work"] = _work(mark["notes"])
    return marks


def _work(notes: str | None) -> dict[str, float]:
    try:
        found = json.loads(notes or "{}").get("work", {})
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _last_run(marks: Sequence[Mark], writing: Holder | None, otherwise: str) -> LastRun | None:
    """By the marks of its run id. A run that a person made step by step has one id for each, unless --run-id was given:
    then it is the last step that was done. `otherwise`: what began and did not end is, where no holder says it."""
    newest = next((mark for mark in marks if mark["step"] not in _NO_RUN), None)
    if newest is None:
        return None
    own = [mark for mark in marks if mark["run_id"] == newest["run_id"]]
    begun = UNDER_WAY if writing is not None and writing.run_id == newest["run_id"] else otherwise
    whole = next((mark for mark in own if mark["step"] == StepName.RUN), newest)
    ended = whole["status"] != RunStatus.STARTED
    state = whole["status"] if ended else begun
    steps = _steps(own, begun)
    return LastRun(
        newest["run_id"], newest["lake"], COMPLETE if state == RunStatus.UNCHANGED else state, own[-1]["moment"],
        whole["moment"] if ended else None, steps,
    )  # fmt: skip


def _steps(own: Sequence[Mark], begun: str) -> tuple[StepState, ...]:
    """The last mark of each step, in the order in which they were done."""
    last = {mark["step"]: mark for mark in reversed(own) if mark["step"] != StepName.RUN}
    return tuple(_step(mark, begun) for mark in sorted(last.values(), key=lambda mark: mark["moment"]))


def _step(mark: Mark, begun: str) -> StepState:
    status, seconds, counts = mark["status"], mark["elapsed_seconds"], mark["counts"]
    status = begun if status == RunStatus.STARTED else status
    n = counts.get(MAIN_COUNT.get(mark["step"], ""))
    rate = round(n / seconds, 2) if n and seconds else None
    message = (mark["message"] or "").splitlines()[:1]
    return StepState(
        mark["step"], status, mark["moment"], seconds, rate, counts, mark["work"], "".join(message) or None
    )


def _attention(
    tables: SqlTables,
    marks: Sequence[Mark],
    run: LastRun,
    is_writing: bool,
    unread: int,
    now: datetime,
    has_lease: bool,
) -> Iterator[str]:
    if is_writing:
        return  # what is behind is being done
    if run.status == UNKNOWN:
        yield (
            f"run {run.run_id} has begun and not ended, and it is not known whether it is alive: this store has no "
            "exclusive creation of files, so there is no lease; look for its process"
        )
        return
    if run.status in (FAILED, INTERRUPTED):
        last = run.steps[-1] if run.steps else None
        where = f" in {last.step}" if last else ""
        why = f": {last.message}" if last and last.message and run.status == FAILED else ""
        yield (
            f"run {run.run_id} was {run.status}{where}{why}"
            if run.status == INTERRUPTED
            else (f"run {run.run_id} failed{where}{why}")
        )
    forget = next((mark for mark in marks if mark["step"] == StepName.FORGET), None)
    if forget and forget["status"] == RunStatus.STARTED:
        state = "was stopped before its end" if has_lease else "has not ended; where its process is gone"
        yield f"forget {forget['run_id']} {state}: give the same `dedup-spark forget` again"
    if unread:
        yield f"{unread:,} images are listed and not read"
    if behind := _behind(marks):
        yield f"{behind[0]} is older than {behind[1]}: clusters and what may be removed are not of the newest features"
    yield from _of_settings(tables, now)


def _of_settings(tables: SqlTables, now: datetime) -> Iterator[str]:
    """What is beyond the bounds of the settings of the last match: its recall, and the age of listings."""
    settings = first_row(tables.ask(_SETTINGS))
    known: dict[str, dict[str, Any]] = json.loads(settings["config"]) if settings and settings["config"] else {}
    measured = first_row(tables.ask(_RECALL))
    least = float(known.get("match", {}).get("min_recall", MatchSettings().min_recall))
    if measured and measured["value"] is not None and measured["value"] < least:
        yield f"the recall of the last match was {measured['value']:.4f}, below match.min_recall ({least:g})"
    hours = float(known.get("cluster", {}).get("max_listing_age_hours", ClusterSettings().max_listing_age_hours))
    for listing in _asked(tables, _LISTINGS):
        if (age := now - _utc(listing["moment"])) > timedelta(hours=hours):
            yield (
                f"{listing['lake']} was last listed {age.total_seconds() / 3600:,.0f} hours ago, longer ago than "
                f"cluster.max_listing_age_hours ({hours:g}): nothing that it stands for is removable"
            )


def _behind(marks: Sequence[Mark]) -> tuple[str, str] | None:
    """The first step that was last done before one that it builds on changed something, and that one."""
    changed: Mark | None = next((m for m in marks if m["step"] == StepName.FORGET and _has_changed(m)), None)
    for step in _ORDER:
        ends = [m for m in marks if m["step"] == step and m["status"] in (RunStatus.COMPLETE, RunStatus.UNCHANGED)]
        is_later_step = step in (StepName.INDEX, StepName.MATCH, StepName.CLUSTER)
        if is_later_step and changed and (not ends or ends[0]["moment"] < changed["moment"]):
            return step, changed["step"]
        own = next((m for m in ends if _has_changed(m)), None)
        if own and (changed is None or own["moment"] > changed["moment"]):
            changed = own
    return None


def _has_changed(mark: Mark) -> bool:
    """Whether a step that ended so left other rows than it found; forget, whether it was about to."""
    if mark["step"] == StepName.FORGET:
        return any(mark["counts"].values())
    if mark["status"] != RunStatus.COMPLETE:
        return False
    counts = _CHANGED_BY.get(mark["step"])
    return counts is None or any(mark["counts"].get(name) for name in counts)


def _next(run: LastRun | None, attention: Sequence[str], place: str, database: str | None) -> str:
    if run is None:
        return f"dedup-spark run --lake LAKE --tables {place}"
    if attention:
        return command_line("run", run.lake, place, database)
    return f"dedup-spark sql --tables {place}{f' --database {database}' if database else ''} 'SELECT * FROM duplicates'"


def describe_status(found: Status) -> str:
    """A few lines."""
    lines = [f"writing   {found.holder}"] if found.holder else []
    if found.run:
        ended = f", ended {_when(found.run.ended_at)}" if found.run.ended_at else ""
        lines += [
            f"run       {found.run.run_id}: {found.run.status}, began {_when(found.run.began_at)}{ended}",
            f"lake      {found.run.lake}",
            *(f"  {_step_in_words(step)}" for step in found.run.steps),
        ]
    read = ", ".join(f"{n:,} {status}" for status, n in sorted(found.features.items()))
    lines += [
        f"images    {found.images:,} listed{f', {read}' if read else ''}, {found.unread:,} unread",
        f"clusters  {found.clusters:,}",
        *(f"look at   {sentence}" for sentence in found.attention),
        *([f"next      {found.next}"] if found.next else []),
    ]
    return "\n".join(lines)


def _step_in_words(step: StepState) -> str:
    if step.status in (UNDER_WAY, INTERRUPTED, UNKNOWN):
        return f"{step.step:<10}{step.status} since {_when(step.at)}"
    told = in_words(step.step, step.elapsed_seconds or 0.0, step.counts, step.work)
    return f"{step.step:<10}{step.status}{f', {told}' if told and step.status != RunStatus.UNCHANGED else ''}"


def _when(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "?"


def status_json(found: Status) -> str:
    """One line; times are ISO 8601, UTC."""
    return json.dumps(asdict(found) | {"is_healthy": found.is_healthy}, default=datetime.isoformat, sort_keys=True)
