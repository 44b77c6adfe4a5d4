"""Every error that dedup_spark raises on purpose.

    DedupError
    ├── ConfigError      settings, paths or the machine are not as needed; nothing was started (exit code 2)
    ├── TableError       a table is missing, has another schema, or breaks a rule such as count conservation
    ├── ArtifactError    a shard or a weights file is unreadable, missing or has another checksum
    ├── GuardError       a guard stopped the run: a pair explosion, a giant cluster, too many rejects
    │   └── UncalibratedError    nothing says from which cosine on two images are copies; calibrate first
    ├── TaskError        a task of Spark failed by an unforeseen error, or its executor was lost
    ├── AttentionError   `status` found something that a person should look at (exit code 1)
    ├── LeaseError       another run writes to the tables, or took them over; at the start: nothing began (exit code 2)
    └── SourceError      a lake could not be listed to its end, so that its content is unknown

A message says what was found, what was expected, and what to do. A bad *image* is never an error: it is
a row of `features` with a `reject_reason`.
"""

from __future__ import annotations

from collections.abc import Iterable


class DedupError(Exception):
    """Base of all errors that the command line reports as one sentence, without a traceback."""


class ConfigError(DedupError):
    """One or more problems with settings, paths or the machine, all of them named at once."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class TableError(DedupError):
    """A table is not there, or does not hold what its definition in `store/schema.py` promises."""


class ArtifactError(DedupError):
    """A file that a step depends on (a FAISS shard, model weights) is missing or not the one expected."""


class GuardError(DedupError):
    """A guard stopped a run before it could do damage; the message names the setting that allows it."""


class UncalibratedError(GuardError):
    """The model of the lake has no calibration; the message has the commands that make one and go on with it."""


class TaskError(DedupError):
    """A task of Spark failed by an error that is no DedupError; the message has its type, its text and its place."""


class LeaseError(DedupError):
    """The tables belong to another run: one that is alive, or one that took them while this one seemed dead."""


class SourceError(DedupError):
    """A listing is incomplete. It is not used: no image is taken for new, changed or gone."""


class AttentionError(DedupError):
    """`dedup-spark status` answered, and what it found needs somebody: the message says what."""
