"""Asks for the list of clusters, or for the images of one, by one query each over clusters and duplicates. No Spark."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dedup_spark.commands.clusters.choosing import Choice, like_patterns
from dedup_spark.sources import addresses
from dedup_spark.store.sql_tables import Value
from dedup_spark.vocabulary import Relation, RemovalTier


@dataclass(frozen=True)
class Question:
    """A query of ours with its values; see `SqlTables.ask`."""

    query: str
    values: Mapping[str, Value] = field(default_factory=dict)

    def limited(self, most: int | None) -> Question:
        """At most so many rows; None: all."""
        return self if most is None else Question(f"{self.query}\nLIMIT {int(most)}", self.values)


def list_of(choice: Choice) -> Question:
    """One row per cluster: what it holds, what of it may be removed now (as in duplicates), its keeper.

    Cost: one scan of narrow columns of clusters, one of duplicates, and one of clusters for each kind of condition.
    """
    values = {name: pattern for i, path in enumerate(choice.paths) for name, pattern in _path_values(i, path).items()}
    conditions = [
        *([f"cluster_size >= {int(choice.min_size)}"] if choice.min_size is not None else []),
        *([f"cluster_size <= {int(choice.max_size)}"] if choice.max_size is not None else []),
        *_of_one_copy(choice),
        *(_of_any_image(i) for i in range(len(choice.paths))),
    ]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return Question(f"{_LIST.replace('<where>', where)}\nORDER BY {choice.order}", values)


def images_of(cluster_id: int) -> Question:
    """One row per image of a cluster: the keeper, what may be removed now, the safest first, and what stays."""
    return Question(_IMAGES, _named(cluster_id))


def freed_of(cluster_id: int) -> Question:
    """One row: n_removable and removable_bytes of a cluster."""
    return Question(
        f"SELECT {_FREED} FROM $duplicates WHERE removable AND cluster_id = :cluster_id", _named(cluster_id)
    )


def _named(cluster_id: int) -> dict[str, Value]:
    return {"cluster_id": cluster_id}


def _of_one_copy(choice: Choice) -> list[str]:
    """That one copy in the cluster meets all these conditions."""
    of_edits = " OR ".join(f"contains(edit, '{edit}')" for edit in choice.edits)
    conditions = [
        *([f"relation IN ({_texts(choice.relations)})"] if choice.relations else []),
        *([f"coalesce(removal_tier, relation) IN ({_texts(choice.tiers)})"] if choice.tiers else []),
        *([f"({of_edits})"] if choice.edits else []),
        *(["is_bridge"] if choice.bridges else []),
        *(["removable"] if choice.removable else []),
    ]
    source = "$duplicates" if choice.removable else "$clusters"
    return [f"cluster_id IN (SELECT cluster_id FROM {source} WHERE {' AND '.join(conditions)})"] if conditions else []


def _of_any_image(i: int) -> str:
    tests = " OR ".join(f"{_ADDRESS} LIKE :path_{i}_{k} ESCAPE '|'" for k in range(2))
    return f"cluster_id IN (SELECT cluster_id FROM $clusters WHERE {tests})"


_IS_HERE = re.compile(r"\.\.?(?:/|$)")
"""A path from the current folder on, as a shell completes it; `a/b` without dots is a part of any address."""


def _path_values(i: int, path: str) -> dict[str, Value]:
    absolute = os.path.abspath(path) if _IS_HERE.match(path) else os.path.expanduser(path)
    absolute += "/" if path.endswith("/") and not absolute.endswith("/") else ""
    pattern = addresses.to_prefix(absolute) if addresses.is_absolute(absolute) else path
    return {f"path_{i}_{k}": text for k, text in enumerate(like_patterns(pattern))}


def _texts(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


_ADDRESS = "replace(CASE WHEN member IS NULL THEN uri ELSE uri || '/' || member END, '#', '/')"
_FREED = "count(*) AS n_removable, cast(coalesce(sum(freed_bytes), 0) AS bigint) AS removable_bytes"
_COUNTS = ",\n         ".join(f"count(*) FILTER (WHERE relation = '{name}') AS n_{name}" for name in Relation)
_WORDS = ",\n         ".join(
    f"CASE WHEN n_{name} > 0 THEN cast(n_{name} AS string) || ' {name}' END" for name in Relation
)
_LIST = f"""\
WITH held AS (
  SELECT cluster_id, max(cluster_size) AS cluster_size, cast(coalesce(sum(size_bytes), 0) AS bigint) AS size_bytes,
         max(keeper_distance) AS max_distance,
         max(CASE WHEN is_keeper THEN uri END) AS keeper_uri,
         max(CASE WHEN is_keeper THEN member END) AS keeper_member,
         {_COUNTS}
  FROM $clusters AS clusters <where> GROUP BY cluster_id
), freed AS (
  SELECT cluster_id, {_FREED} FROM $duplicates AS duplicates WHERE removable GROUP BY cluster_id
)
SELECT held.cluster_id, held.cluster_size, coalesce(freed.n_removable, 0) AS n_removable,
       coalesce(freed.removable_bytes, 0) AS removable_bytes, held.size_bytes, held.max_distance,
       concat_ws(', ',
         {_WORDS}
       ) AS relations,
       held.keeper_uri, held.keeper_member
FROM held LEFT JOIN freed ON freed.cluster_id = held.cluster_id"""

_TIERS = " ".join(f"WHEN '{tier}' THEN {i}" for i, tier in enumerate(RemovalTier))
_IMAGES = f"""\
WITH members AS (SELECT * FROM $clusters WHERE cluster_id = :cluster_id),
now AS (SELECT image_id, removable, freed_bytes, reason FROM $duplicates WHERE cluster_id = :cluster_id),
facts AS (
  SELECT image_id, width_px, height_px, format FROM $features WHERE image_id IN (SELECT image_id FROM members)
)
SELECT members.cluster_id, members.cluster_size, members.image_id, members.uri, members.member, members.is_keeper,
       coalesce(now.removable, false) AS removable, coalesce(now.freed_bytes, 0) AS freed_bytes,
       members.size_bytes, facts.width_px, facts.height_px, facts.format, members.relation,
       coalesce(members.removal_tier, members.relation) AS removal_tier, members.edit,
       members.similarity, members.hamming_bits, members.keeper_distance, members.distance_unit, members.is_bridge,
       CASE WHEN members.is_keeper OR now.image_id IS NOT NULL THEN coalesce(now.reason, members.reason)
            ELSE concat_ws('; ', members.reason, 'stays: it is gone, or has changed since it was read') END AS reason
FROM members
LEFT JOIN now ON now.image_id = members.image_id
LEFT JOIN facts ON facts.image_id = members.image_id
ORDER BY members.is_keeper DESC, coalesce(now.removable, false) DESC,
         CASE coalesce(members.removal_tier, members.relation) {_TIERS} END NULLS FIRST, members.keeper_distance,
         members.uri, members.member, members.image_id"""
