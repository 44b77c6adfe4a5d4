"""Which clusters a person asks for, and in what order; checked before tables are read. No Spark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dedup_spark.did_you_mean import did_you_mean
from dedup_spark.errors import ConfigError
from dedup_spark.vocabulary import Edit, Relation, RemovalTier

SORTS: Mapping[str, tuple[str, ...]] = {
    "size": ("cluster_size", "size_bytes"),
    "frees": ("removable_bytes", "cluster_size"),
    "removable": ("n_removable", "cluster_size"),
    "distance": ("max_distance", "cluster_size"),
    "path": ("keeper_uri", "keeper_member"),
}
"""What clusters are sorted by: the columns of the list, all of them from the largest on, but the path."""
_ASCENDING = "path"


@dataclass(frozen=True)
class Choice:
    """Conditions that a cluster meets, all of them; without any it is every cluster.

    Attributes:
        sort: One of `SORTS`.
        reverse: The other end first.
        relations, tiers, edits: A copy in it has one of these; where several kinds are given, the same copy has all.
        removable: That copy may be removed now.
        bridges: That copy has a pair with an image outside.
        paths: For each pattern there is an image in it whose address matches; see `like_patterns`.
    """

    sort: str = "size"
    reverse: bool = False
    min_size: int | None = None
    max_size: int | None = None
    relations: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()
    removable: bool = False
    bridges: bool = False
    paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = [
            *_unknown("--sort", [self.sort], SORTS),
            *_unknown("--relation", self.relations, list(Relation)),
            *_unknown("--tier", self.tiers, list(RemovalTier)),
            *_unknown("--edit", self.edits, list(Edit)),
            *(f"--path {path!r}: expected a part of an address" for path in self.paths if not path.strip("/")),
        ]
        if self.min_size is not None and self.max_size is not None and self.min_size > self.max_size:
            problems.append(f"--min-size {self.min_size} is above --max-size {self.max_size}: no cluster has both")
        if problems:
            raise ConfigError(problems)

    @property
    def is_every(self) -> bool:
        """Whether there are no conditions, whatever the order."""
        return replace(self, sort="size", reverse=False) == Choice()

    @property
    def order(self) -> str:
        """For ORDER BY; clusters that are equal in all of it stand by their id."""
        down = (self.sort == _ASCENDING) == self.reverse
        columns = (f"{column} {'DESC' if down else 'ASC'} NULLS LAST" for column in SORTS[self.sort])
        return ", ".join([*columns, "cluster_id"])


def like_patterns(path: str) -> tuple[str, ...]:
    """Patterns for LIKE with the escape `|`, of which an address matches one; both have `/` where they have `#`.

    In `path`, `*` stands for any characters, also slashes (as in `find -path`), and `?` for one. It matches an image
    and a folder that the image is in. What is absolute begins where the address does, the rest behind any slash.

    Args:
        path: A pattern whose absolute part is canonical.
    """
    escaped = "".join(f"|{c}" if c in "%_|" else {"*": "%", "?": "_"}.get(c, c) for c in path.replace("#", "/"))
    pattern = escaped.rstrip("/")
    begins = pattern if "://" in path else f"%/{pattern.lstrip('/')}"
    return begins, f"{begins}/%"


def _unknown(option: str, given: Iterable[str], known: Iterable[str]) -> list[str]:
    names = list(known)
    return [
        f"{option} {word}: expected one of {', '.join(names)}{did_you_mean(word, names)}"
        for word in given
        if word not in names
    ]
