"""What `dedup-spark forget` says, and what its file of results holds: numbers, and no name of what was forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dedup_spark.commands.forget.command import Forgettable, Forgotten

_ELSEWHERE = (
    "What was written outside the tables (index export, removals.csv, answers and pages of --out, logs of Spark, older "
    "versions that a bucket keeps) is yours to delete"
)


def describe_found(found: Forgettable) -> str:
    """One sentence."""
    gone = found.images - found.listed
    where = f" ({gone:,} of them no longer listed)" if gone else ""
    rows = ", ".join(f"{name} {n:,}" for name, n in found.rows.items()) or "none"
    return f"{_n(found.images, 'image')}{where} in {_n(found.clusters, 'cluster')}; rows by table: {rows}"


def describe_forgotten(done: Forgotten) -> str:
    """One sentence on what was done, and what is left to do."""
    if done.run_id is None:
        return f"forget: this would erase {describe_found(done.found)}. Nothing was changed"
    texts = f", {_n(done.texts, 'text')} of the log and of results" if done.texts else ""
    lines = [
        f"forget: erased {describe_found(done.found)}{texts}; {done.log_files:,} files of the logs of tables went with "
        "all older versions. The index, pairs, clusters and the report are made anew by the next `dedup-spark run`",
        _ELSEWHERE,
    ]
    if done.others:
        lines.append(
            f"Below the tables lies what is not of dedup-spark: {', '.join(done.others)}. Nobody looked into it"
        )
    return "\n".join(lines)


def outcome_of(done: Forgotten, tables: str, database: str | None) -> dict[str, Any]:
    """For `results/<run_id>.json`."""
    found = done.found
    return {
        "command": "forget", "run_id": done.run_id, "tables": tables, "database": database, "status": "complete",
        "exit_code": 0, "images": found.images, "clusters": found.clusters, "rows": dict(found.rows),
        "texts": done.texts, "log_files": done.log_files,
    }  # fmt: skip


def _n(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
