"""What is read and what becomes of the rows that stay, as SQL that Spark and DuckDB take alike (view_definitions.py).

`$images`, ... stand for tables; `$asked` for what a person asks for (`asked.COLUMNS`); `$erased` for the ids that go
(image_id, each once); `$renamed` for new ids of clusters (old_id, new_id). All joins are by equal values, so that
millions of ids are a join and no list; only prefixes, which are few, are compared with each address.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template

from dedup_spark.store.schema import CLUSTERS, COMPONENTS

FOUND = """\
WITH held AS (
  SELECT image_id, uri, member, location FROM $images
  UNION ALL SELECT image_id, uri, member, location FROM $tombstones
  UNION ALL SELECT image_id, uri, member, cast(NULL AS string) AS location FROM $clusters
), objects AS (SELECT * FROM $asked WHERE NOT is_prefix), prefixes AS (SELECT * FROM $asked WHERE is_prefix)
SELECT image_id, uri, member, position FROM (
  SELECT held.image_id, held.uri, held.member, position FROM held JOIN objects ON held.uri = objects.address
    WHERE objects.member IS NULL OR objects.member = held.member
  UNION ALL
  SELECT held.image_id, held.uri, held.member, position FROM held JOIN objects ON held.location = objects.address
    WHERE objects.member IS NULL
  UNION ALL
  SELECT held.image_id, held.uri, held.member, position FROM held
    JOIN prefixes ON startswith(held.uri, prefixes.address) OR startswith(held.location, prefixes.address)
) AS found GROUP BY image_id, uri, member, position"""
"""The images that are asked for, by whatever still knows their address: one row for each uri or prefix that asks."""

NEIGHBOURS = """\
SELECT image_id FROM (
  SELECT pairs.image_id_b AS image_id FROM $pairs AS pairs JOIN $erased AS erased ON pairs.image_id_a = erased.image_id
  UNION ALL
  SELECT pairs.image_id_a AS image_id FROM $pairs AS pairs JOIN $erased AS erased ON pairs.image_id_b = erased.image_id
  UNION ALL
  SELECT image_id FROM $erased
) AS near GROUP BY image_id"""
"""The images that go, and those that had one of them as a neighbour: these are compared again, as the next nearest of a
full list is not known. Match finds out by a pair with an image that is gone, and no such pair stays."""

_TOUCHED = """\
  SELECT cluster_id FROM (
    SELECT c.cluster_id FROM $clusters AS c JOIN $erased AS e ON c.image_id = e.image_id
    UNION ALL SELECT c.cluster_id FROM $clusters AS c JOIN $erased AS e ON c.keeper_image_id = e.image_id
    UNION ALL SELECT c.cluster_id FROM $clusters AS c JOIN $erased AS e ON c.near_image_id = e.image_id
    UNION ALL SELECT c.cluster_id FROM $clusters AS c JOIN $erased AS e ON c.cluster_id = e.image_id
  ) AS named GROUP BY cluster_id"""

_STAYING = f"""\
WITH touched AS (
{_TOUCHED}
), members AS (
  SELECT c.*, gone.image_id IS NOT NULL AS is_gone, near.image_id IS NOT NULL AS lost_near,
         keeper.image_id IS NOT NULL AS lost_keeper,
         count(gone.image_id) OVER (PARTITION BY c.cluster_id) AS n_gone,
         coalesce(renamed.new_id, c.cluster_id) AS new_cluster_id
  FROM $clusters AS c
  JOIN touched ON touched.cluster_id = c.cluster_id
  LEFT JOIN $erased AS gone ON gone.image_id = c.image_id
  LEFT JOIN $erased AS near ON near.image_id = c.near_image_id
  LEFT JOIN $erased AS keeper ON keeper.image_id = c.keeper_image_id
  LEFT JOIN $renamed AS renamed ON renamed.old_id = c.cluster_id
), staying AS (
  SELECT *, count(*) OVER (PARTITION BY cluster_id) AS n_staying,
         row_number() OVER (PARTITION BY cluster_id ORDER BY CASE WHEN is_keeper THEN 0 ELSE 1 END,
           CASE WHEN is_reference THEN 0 ELSE 1 END, CASE WHEN is_protected THEN 0 ELSE 1 END,
           coalesce(CASE WHEN lost_keeper THEN keeper_distance END, 9), image_id) AS place
  FROM members WHERE NOT is_gone
), kept AS (
  SELECT cluster_id AS kept_cluster_id, image_id AS kept_id, is_keeper AS was_keeper,
         object_version AS kept_version, etag AS kept_etag, content_hash AS kept_hash
  FROM staying WHERE place = 1
)
"""
"""Of the clusters that name an image that goes: the members that stay, and the one that is the keeper from now on. That
is the keeper, else a protected member, else the one nearest to what was the keeper."""

_IS_COPY = "(content_hash = kept_hash AND image_id <> kept_id)"
_TO_KEPT = {
    "relation": ("'same_bytes'", "'edited_copy'"),
    "similarity": ("CASE WHEN similarity IS NOT NULL THEN cast(1 AS float) END", "NULL"),
    "hamming_bits": ("0", "NULL"),
    "keeper_distance": ("cast(0 AS float)", "NULL"),
    "decided_by": ("'content_hash'", "NULL"),
    "copy_probability": ("CASE WHEN copy_probability IS NOT NULL THEN cast(1 AS float) END", "NULL"),
    "is_direct": ("true", "false"),
    "removal_tier": ("'same_bytes'", "'edited_copy'"),
    "near_image_id": ("kept_id", "image_id"),
    "near_distance": ("cast(0 AS float)", "cast(0 AS float)"),
    "near_object_version": ("kept_version", "object_version"),
    "near_content_hash": ("kept_hash", "content_hash"),
    "reason": (
        "'byte for byte the keeper, which took the place of an image that was forgotten; stays: until the next run'",
        "'its keeper was forgotten, and what it is to the others the next run decides; stays: until then'",
    ),
}
"""What a member is to a new keeper: of a byte copy, and of any other, which stands for itself until it is compared."""
_OF_KEEPER = {
    "relation": "NULL",
    "similarity": _TO_KEPT["similarity"][0],
    "hamming_bits": "0",
    "keeper_distance": "cast(0 AS float)",
    "decided_by": "NULL",
    "copy_probability": _TO_KEPT["copy_probability"][0],
    "is_direct": "true",
    "removal_tier": "NULL",
    "near_image_id": "image_id",
    "near_distance": "cast(0 AS float)",
    "near_object_version": "object_version",
    "near_content_hash": "content_hash",
    "reason": "'took the place of a keeper that was forgotten, until the next run decides'",
}
_NOT_COMPARED = ("agreement", "contested", "n_inliers", "edit", "differing_share")
_ALONE = {
    "removal_tier": "relation",
    "near_image_id": "image_id",
    "near_distance": "cast(0 AS float)",
    "near_object_version": "object_version",
    "near_content_hash": "content_hash",
    "reason": "'what stood for it was forgotten, and what does now the next run decides; stays: until then'",
}
"""A member whose own near image goes, while its keeper stays, stands for itself."""
_KEPT_BESIDE = "'kept: it came before an image that was forgotten; why it is before the others the next run says'"
"""Of a keeper that stays: its reason names the file that came second (keeper_reason.py), which may be the one that
goes."""

_STANDS = "image_id <> kept_id AND NOT lost_keeper AND NOT lost_near"
"""What is kept for the member is still there."""


def _kept(new: str, old: str) -> str:
    """Of the new keeper, where the row has lost its own or becomes the keeper of the cluster."""
    return f"CASE WHEN lost_keeper OR image_id = kept_id THEN {new} ELSE {old} END"


_ALWAYS = {
    "cluster_id": "new_cluster_id",
    "cluster_size": "n_staying",
    "keeper_image_id": _kept("kept_id", "keeper_image_id"),
    "is_keeper": "image_id = kept_id",
    "keeper_object_version": _kept("kept_version", "keeper_object_version"),
    "keeper_etag": _kept("kept_etag", "keeper_etag"),
    "keeper_content_hash": _kept("kept_hash", "keeper_content_hash"),
    "is_removable": f"CASE WHEN {_STANDS} THEN is_removable ELSE false END",
    "freed_bytes": f"CASE WHEN {_STANDS} THEN freed_bytes ELSE 0 END",
}


def _changed(column: str, kind: str) -> str:
    """The value of a column of clusters in a cluster that loses members. `kind`: its type in SQL."""
    if column in _ALWAYS:
        return f"cast({_ALWAYS[column]} AS {kind}) AS {column}"
    cases = []
    if column in _OF_KEEPER:
        copy, other = _TO_KEPT[column]
        cases = [
            f"WHEN NOT was_keeper AND image_id = kept_id THEN {_OF_KEEPER[column]}",
            f"WHEN lost_keeper AND {_IS_COPY} THEN {copy}",
            f"WHEN lost_keeper THEN {other}",
        ]
    elif column in _NOT_COMPARED:
        cases = ["WHEN lost_keeper OR (NOT was_keeper AND image_id = kept_id) THEN NULL"]
    if column == "reason":
        cases.append(f"WHEN is_keeper AND n_gone > 0 THEN {_KEPT_BESIDE}")
    if column in _ALONE:
        cases.append(f"WHEN lost_near THEN {_ALONE[column]}")
    return f"cast(CASE {' '.join(cases)} ELSE {column} END AS {kind}) AS {column}" if cases else column


CLUSTERS_THAT_STAY = f"""\
{_STAYING}SELECT {", ".join(_changed(name, kind) for name, kind, _ in CLUSTERS.columns)}
FROM staying JOIN kept ON kept.kept_cluster_id = staying.cluster_id WHERE n_staying > 1"""
"""The rows of `clusters`, as they are from now on, of clusters that name an image that goes and of which two or more
members stay. A cluster keeps its id, unless that is the id of an image that goes. Nothing is removable that was so for
the sake of such an image: the next run decides anew."""

CLUSTERS_THAT_GO = f"""\
{_STAYING}SELECT image_id FROM members WHERE is_gone
UNION ALL SELECT image_id FROM staying WHERE n_staying = 1"""
"""The rows of `clusters` that go: those images, and the last member of a cluster that has no other."""

CLUSTERS_BEFORE = f"""\
WITH touched AS (
{_TOUCHED}
)
SELECT c.image_id, coalesce(renamed.new_id, c.cluster_id) AS cluster_id
FROM $clusters AS c JOIN touched ON touched.cluster_id = c.cluster_id
LEFT JOIN $renamed AS renamed ON renamed.old_id = c.cluster_id"""
"""The members of these clusters as they were, under the ids that they have from now on."""

CLUSTER_IDS = """\
SELECT erased.image_id FROM $erased AS erased JOIN (
  SELECT cluster_id FROM $clusters
  UNION SELECT cluster_id FROM $cluster_history
  UNION SELECT cluster_id FROM $previous
) AS used ON used.cluster_id = erased.image_id"""
"""The images that go and whose ids are those of clusters. `$previous` (cluster_id) are those in
`cluster_history.previous_cluster_ids`."""

_COMPONENTS = """\
WITH touched AS (
  SELECT c.component_id FROM $components AS c JOIN $erased AS e ON c.image_id = e.image_id GROUP BY c.component_id
), staying AS (
  SELECT c.*, count(*) OVER (PARTITION BY c.component_id) AS n_staying,
         min(c.image_id) OVER (PARTITION BY c.component_id) AS new_component_id,
         min(c.image_id) OVER (PARTITION BY c.component_id, c.first_group_id) AS new_first_group_id,
         min(c.image_id) OVER (PARTITION BY c.component_id, c.group_id) AS new_group_id
  FROM $components AS c JOIN touched ON touched.component_id = c.component_id
  LEFT JOIN $erased AS e ON e.image_id = c.image_id WHERE e.image_id IS NULL
)
"""
_OF_COMPONENT = {
    "component_id": "new_component_id",
    "first_group_id": "CASE WHEN first_group_id IS NOT NULL THEN new_first_group_id END",
    "group_id": "new_group_id",
}
COMPONENTS_THAT_STAY = f"""\
{_COMPONENTS}SELECT {
    ", ".join(f"{_OF_COMPONENT[n]} AS {n}" if n in _OF_COMPONENT else n for n in COMPONENTS.column_names)
}
FROM staying WHERE n_staying > 1"""
"""The rows of `components` whose component loses an image, with the smallest ids of those that stay."""

COMPONENTS_THAT_GO = f"""\
{_COMPONENTS}SELECT image_id FROM staying WHERE n_staying = 1
UNION ALL SELECT c.image_id FROM $components AS c JOIN $erased AS e ON e.image_id = c.image_id"""


def written(query: str, sources: Mapping[str, str]) -> str:
    """The query over `sources`: by the names above, how SQL refers to them."""
    return Template(query).substitute(sources)
