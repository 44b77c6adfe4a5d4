"""The last finished run of a set of tables: the versions of its tables, and the settings that it was made with.

Tables are written one after the other, so while a run is under way they do not fit each other. What fits is what the
step cluster left when it was last complete; its mark in `runs` names the version of each table. Delta keeps these
until somebody vacuums them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow.compute as pc

from dedup_spark.config import Config, load_config
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.joins.sketches import SketchFilter
from dedup_spark.store import reader
from dedup_spark.store.schema import ALL, CLUSTERS, RUNS, TABLE_VERSIONS
from dedup_spark.vocabulary import RunStatus, StepName

Mark = dict[str, Any]

_OLDER = (
    "their last run does not say which versions of the tables belong together, as an older version of dedup-spark made "
    "it: give `dedup-spark run` once more"
)


@dataclass(frozen=True)
class FinishedRun:
    """What one finished run left.

    Attributes:
        root: Of the tables.
        lakes: Roots of all lakes that were listed into these tables.
        run_id: Of the run whose step cluster made the clusters.
        made_at: When that step was complete, UTC.
        checked_at: When a run last found nothing to change in it, or made it.
        changed_at: When its tables were last changed: by the step, or by a command since, such as forget.
        versions: Of each table, by its name.
        config: Of each section the settings of the step that used them: extract, match, cluster.
        floor: The cosine down to which match looked for the nearest neighbours; None where it compared no embeddings.
        sketch_filter: That of match, where an engine compared sketches.
    """

    root: str
    lakes: tuple[str, ...]
    run_id: str
    made_at: datetime
    checked_at: datetime
    changed_at: datetime
    versions: Mapping[str, int]
    config: Config
    floor: float | None
    sketch_filter: SketchFilter | None

    @property
    def name(self) -> str:
        """Equal names, equal tables."""
        text = json.dumps([self.run_id, sorted(self.versions.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def finished_run(tables: str) -> FinishedRun:
    """The last run of these tables whose clusters are complete.

    Raises:
        ConfigError: none is complete, or it does not say which versions of the tables belong together.
        TableError: there are no tables.
    """
    root = reader.root_of(tables)
    marks = _marks(root)
    cluster = _last(marks, StepName.CLUSTER, RunStatus.COMPLETE)
    if cluster is None:
        raise ConfigError(f"the tables at {root} hold no finished run: run `dedup-spark run` first")
    before = [mark for mark in marks if mark["at"] <= cluster["at"]]
    extract, match = (_last(before, step, RunStatus.COMPLETE) or cluster for step in _MADE_BY)
    notes = _parsed(match["notes"] or "{}", root)
    sketch = notes.get("sketch") if notes.get("engine") in _BY_SKETCHES else None
    return FinishedRun(
        root=root,
        lakes=tuple(dict.fromkeys(mark["lake"] for mark in before if _is_listing(mark))),
        run_id=cluster["run_id"],
        made_at=cluster["at"],
        checked_at=max(mark["at"] for mark in marks if _is_checked(mark, cluster)),
        changed_at=max([cluster["at"], *(mark["at"] for mark, _ in _naming_versions(marks, cluster))]),
        versions=_versions(root, marks, cluster),
        config=_config({"extract": extract, "match": match, "cluster": cluster}, root),
        floor=notes.get("floor"),
        sketch_filter=SketchFilter(**sketch) if sketch else None,
    )


_MADE_BY = (StepName.EXTRACT, StepName.MATCH)
_BY_SKETCHES = ("sketch", "routed")


def _marks(root: str) -> list[Mark]:
    """The end marks of steps, the oldest first."""
    columns = ["run_id", "lake", "step", "status", "at", "notes", "config"]
    ended = pc.field("status").isin([RunStatus.COMPLETE, RunStatus.UNCHANGED, RunStatus.STARTED])
    rows: list[Mark] = reader.read_table(RUNS.name, tables=root, columns=columns, where=ended).to_pylist()
    return sorted(rows, key=lambda row: row["at"])


def _last(marks: Iterable[Mark], step: str, status: str) -> Mark | None:
    return next((m for m in reversed([*marks]) if m["step"] == step and m["status"] == status), None)


def _is_listing(mark: Mark) -> bool:
    return mark["step"] == StepName.INVENTORY and mark["status"] == RunStatus.COMPLETE and bool(mark["lake"])


def _is_checked(mark: Mark, cluster: Mark) -> bool:
    """Whether this is the mark `cluster`, or one of a later run that had nothing to change."""
    return mark is cluster or (
        mark["step"] == StepName.CLUSTER and mark["status"] == RunStatus.UNCHANGED and mark["at"] > cluster["at"]
    )


def _versions(root: str, marks: list[Mark], cluster: Mark) -> dict[str, int]:
    """As the last mark says that names them: that of the step, or of a command that changed its tables since.

    Without one the newest versions, where nothing was begun since.
    """
    if named := _naming_versions(marks, cluster):
        return dict(named[-1][1])
    if any(m["at"] > cluster["at"] and m["step"] not in _HARMLESS for m in marks):
        raise ConfigError(f"the tables at {root} cannot be looked up: {_OLDER}")
    return {table.name: reader.newest_version(root, table) for table in ALL}


def _naming_versions(marks: list[Mark], cluster: Mark) -> list[tuple[Mark, dict[str, int]]]:
    """The mark of the step and those of commands since, where they name the versions, the oldest first."""
    later = [m for m in marks if m["at"] >= cluster["at"] and m["status"] == RunStatus.COMPLETE]
    named = [(m, json.loads(m["notes"])[TABLE_VERSIONS]) for m in later if TABLE_VERSIONS in (m["notes"] or "")]
    return [(mark, versions) for mark, versions in named if CLUSTERS.name in versions]


_HARMLESS = (StepName.REPORT, StepName.RUN, StepName.MAINTAIN)
"""Steps that change no row of the tables which are read here."""


def _parsed(text: str, root: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:  # as forget leaves it where a setting named an image
        raise ConfigError(
            f"the settings of the last run at {root} were forgotten: give `dedup-spark run` once more"
        ) from e


def _config(marks: Mapping[str, Mark], root: str) -> Config:
    """Of each section the settings of its step. Settings that this version does not know are left out."""
    known = asdict(Config())
    given = {
        f"{section}.{key}": tuple(value) if isinstance(value, list) else value
        for section, mark in marks.items()
        for key, value in _parsed(mark["config"], root)[section].items()
        if key in known[section]
    }
    return load_config(given=given)
