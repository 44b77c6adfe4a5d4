"""`dedup-spark explain`: shows two images side by side, the evidence between them, and why they are joined or not."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dedup_spark.commands.image_ids import in_hex
from dedup_spark.commands.last_settings import last_settings, least_probability
from dedup_spark.commands.text_table import format_table
from dedup_spark.commands.trace import find_one_image
from dedup_spark.errors import ConfigError
from dedup_spark.kernels import vectors
from dedup_spark.kernels.clusters.components import shortest_path
from dedup_spark.store.schema import ALL, EVIDENCE, FEATURES, FIRST_READ, PAIRS
from dedup_spark.store.sql_tables import SqlTables, first_row
from dedup_spark.vocabulary import IDENTICAL, FeatureStatus, Guard

Facts = dict[str, Any]

_SHOWN = (
    "image_id", "status", "reject_reason", "format", "width_px", "height_px", "size_bytes", "content_hash",
    "pixel_hash", "phash", "luma_stddev", "entropy_bits", "model_id", "guard", "cluster_id", "is_keeper",
)  # fmt: skip
_IDS = ("image_id", "phash", "cluster_id")
_MAX_PATH_PAIRS = 5_000_000  # 24 bytes each in memory


@dataclass(frozen=True)
class Comparison:
    """Two images compared; a value is None where it is not known, or was not computed.

    Attributes:
        pair: The row of `pairs`, if match proposed the pair.
        evidence: The row of `evidence`, if the pair is an edge there.
    """

    same_bytes: bool
    same_pixels: bool
    hamming_bits: int | None
    similarity: float | None
    pair: Facts | None
    evidence: Facts | None = None


@dataclass(frozen=True)
class Hop:
    """One image on the path of pairs between two images; `similarity` to the one before, None for the first."""

    uri: str
    similarity: float | None


@dataclass(frozen=True)
class Explanation:
    """Two images, the evidence between them, and whether and why they are joined.

    Attributes:
        a: The rows of the first image in images, features, clusters and guarded, as one.
        b: Those of the second.
        rows: By table name, the row between the two in every table about pairs of images; None where there is none.
        settings: The settings of the last finished step cluster, by section.
        cluster_id: The cluster that both are in; None where they are not joined.
        path: The shortest path between the two over pairs inside that cluster.
        why_not: What kept them apart, as a text; None where they are joined.
    """

    a: Facts
    b: Facts
    comparison: Comparison
    rows: Mapping[str, Facts | None]
    settings: Facts
    cluster_id: int | None
    path: tuple[Hop, ...]
    why_not: str | None


def explain_pair(tables: SqlTables, uri_a: str, uri_b: str) -> Explanation:
    """Facts and evidence for two images, and why they are joined or not; each is given by its address or its end.

    Raises:
        ConfigError: No image, or more than one, has an address; the two are one; or no step cluster has finished.
    """
    settings = last_settings(tables, "explain")
    first, second = (find_one_image(tables, uri) for uri in (uri_a, uri_b))
    if first["image_id"] == second["image_id"]:
        raise ConfigError(f"explain: both are the same image, {first['uri']}; give two different ones")
    a, b = (_facts(tables, image) for image in (first, second))
    about_pairs = [table for table in ALL if table.key == PAIRS.key]
    rows = {table.name: _between(tables, table.name, a, b) for table in about_pairs}
    comparison = _comparison(a, b, rows[PAIRS.name], rows[EVIDENCE.name])
    if a.get("cluster_id") is not None and a["cluster_id"] == b.get("cluster_id"):
        path = _joining_path(tables, a, b, settings)
        return Explanation(a, b, comparison, rows, settings, a["cluster_id"], path, None)
    return Explanation(a, b, comparison, rows, settings, None, (), why_not(a, b, comparison, settings))


def describe_explanation(found: Explanation) -> str:
    """A text for the terminal: the facts side by side, the evidence, and the path or what kept the two apart."""
    a, b = found.a, found.b
    shown = [name for name in _SHOWN if a.get(name) is not None or b.get(name) is not None]
    lines = [
        f"a  {a['uri']}\nb  {b['uri']}\n",
        format_table(["", "a", "b"], [[name, _text(name, a), _text(name, b)] for name in shown]),
        "\nevidence",
        *(f"  {line}" for line in _describe_evidence(found)),
    ]
    if found.cluster_id is None:
        return "\n".join([*lines, f"\nnot joined: {found.why_not}"])
    sides = (("a", a), ("b", b))
    hops = [f"    {'' if h.similarity is None else f'-> {h.similarity:.3f} '}{h.uri}" for h in found.path]
    return "\n".join(
        [
            *lines,
            f"\njoined: both are in cluster {in_hex(found.cluster_id)}",
            *(f"  {name}: {side.get('reason')} (keeper {in_hex(side['keeper_image_id'])})" for name, side in sides),
            f"  path of pairs, with the similarity of each:{'' if hops else ' none'}",
            *hops,
        ]
    )


def why_not(a: Facts, b: Facts, compared: Comparison, settings: Facts) -> str:
    """The first condition for two images to share a cluster that these two do not meet, as a text."""
    for name, side in (("a", a), ("b", b)):
        if side.get("status") is None:
            return f"{name} is listed and was not read yet"
        if side["status"] != FeatureStatus.OK:
            return f"{name} could not be read ({side['reject_reason']})"
    cut, match = settings["cluster"], settings["match"]
    if compared.pair is None:
        return "no candidate pair: " + _why_no_pair(compared, match)
    if compared.evidence is not None:
        probability, least = compared.evidence["copy_probability"], least_probability(settings)
        if probability < least:
            by = compared.evidence["decided_by"]
            return f"a pair, but a copy with probability {probability:.3f} only (by {by}); {least:.3f} is needed"
    elif compared.similarity is not None and compared.similarity < cut["min_similarity"]:
        limit = f"cluster.min_similarity ({cut['min_similarity']:g})"
        return f"a pair, but its cosine {compared.similarity:.3f} is below {limit}"
    guards = [f"{name} is guarded as {side['guard']}" for name, side in (("a", a), ("b", b)) if side.get("guard")]
    agreed = compared.similarity is not None and (compared.hamming_bits or 0) <= match["max_hamming_bits"]
    if guards and not (agreed and Guard.BLANK not in (a.get("guard"), b.get("guard"))):
        return f"a pair, but {' and '.join(guards)}: such an image is not joined by likeness alone"
    return (
        f"a pair above the cut, but the chain was cut between them: by {cut['linkage']} linkage the two groups are too "
        "far apart, or one keeper does not reach both in two steps"
    )


def _why_no_pair(compared: Comparison, match: Facts) -> str:
    bits = (
        f"pHash differs in {compared.hamming_bits} bits, more than match.max_hamming_bits ({match['max_hamming_bits']})"
    )
    if compared.similarity is None:
        return bits
    if compared.similarity < match["min_similarity"]:
        return (
            f"cosine {compared.similarity:.3f} is below match.min_similarity ({match['min_similarity']:g}), and neither"
            f" is among the match.neighbours ({match['neighbours']}) nearest of the other"
        )
    return (
        f"match did not propose it, although the cosine {compared.similarity:.3f} is not below "
        f"match.min_similarity ({match['min_similarity']:g}): see match.min_recall, or run match and cluster again"
    )


def _facts(tables: SqlTables, image: Facts) -> Facts:
    """The rows of one image in images, features, clusters and guarded as one row, with its representative."""
    facts, me = dict(image), {"image_id": image["image_id"]}
    wanted = [name for name in FEATURES.column_names if name != "thumbnail"]
    held = tables.rows(FEATURES, [image["image_id"]], wanted)
    member = tables.ask("SELECT * FROM $clusters WHERE image_id = :image_id", me)
    for row in filter(None, (first_row(held), first_row(member))):
        facts = facts | {k: v for k, v in row.items() if facts.get(k) is None}
    facts["representative_id"] = image["image_id"]
    if facts.get("pixel_hash"):
        same = f"SELECT image_id AS first FROM $features WHERE pixel_hash = :pixel_hash ORDER BY {FIRST_READ} LIMIT 1"
        facts["representative_id"] = tables.ask(same, {"pixel_hash": facts["pixel_hash"]})["first"][0].as_py()
    guards = "SELECT guard FROM $guarded WHERE image_id = :image_id"
    guarded = first_row(tables.ask(guards, {"image_id": facts["representative_id"]}))
    return facts | {"guard": guarded["guard"] if guarded else None}


def _comparison(a: Facts, b: Facts, pair: Facts | None, evidence: Facts | None) -> Comparison:
    cosine = bits = None
    if a.get("embedding") and b.get("embedding") and a["model_id"] == b["model_id"]:
        cosine = float(vectors.cosines(*(vectors.from_bytes([side["embedding"]]) for side in (a, b)))[0])
    if a.get("phash") is not None and b.get("phash") is not None:
        bits = ((a["phash"] ^ b["phash"]) & (2**64 - 1)).bit_count()
    same = {name: a.get(name) is not None and a.get(name) == b.get(name) for name in ("content_hash", "pixel_hash")}
    return Comparison(same["content_hash"], same["pixel_hash"], bits, cosine, pair, evidence)


def _between(tables: SqlTables, table: str, a: Facts, b: Facts) -> Facts | None:
    """The row between the two representatives; identical images have one only with their representative."""
    low, high = sorted((a["representative_id"], b["representative_id"]))
    if low == high:
        low, high = sorted((a["image_id"], b["image_id"]))
    row = f"SELECT * FROM ${table} WHERE image_id_a = :low AND image_id_b = :high"
    return first_row(tables.ask(row, {"low": low, "high": high}))


def _describe_evidence(found: Explanation) -> list[str]:
    yes = {True: "yes", False: "no"}
    compared, settings = found.comparison, found.settings
    lines = [f"same bytes: {yes[compared.same_bytes]}; same pixels: {yes[compared.same_pixels]}"]
    if compared.hamming_bits is not None:
        limit = f"match.max_hamming_bits {settings['match']['max_hamming_bits']}"
        lines.append(f"pHash: differs in {compared.hamming_bits} of 64 bits ({limit})")
    if compared.similarity is not None:
        asked = ("match",) if compared.evidence else ("match", "cluster")  # pairs with evidence are not cut by cosine
        thresholds = ", ".join(f"{s}.min_similarity {settings[s]['min_similarity']:g}" for s in asked)
        lines.append(f"cosine: {compared.similarity:.4f} ({thresholds})")
    for name, row in found.rows.items():
        values = {k: v for k, v in (row or {}).items() if k not in PAIRS.key and v is not None}
        known = ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        lines.append(f"{name}: {known or 'no row'}")
    return lines


def _joining_path(tables: SqlTables, a: Facts, b: Facts, settings: Facts) -> tuple[Hop, ...]:
    """The path from one image to the other over the pairs that join images of their cluster."""
    asked = {
        "cluster_id": a["cluster_id"],
        "least": least_probability(settings),
        "min_similarity": float(settings["cluster"]["min_similarity"]),
    }
    path = _path(tables.ask(_JOINING_PAIRS, asked), a["image_id"], b["image_id"])
    of_path = ", ".join(str(image_id) for image_id, _ in path) or "NULL"
    rows = tables.ask(f"SELECT image_id, uri FROM $clusters WHERE image_id IN ({of_path})").to_pylist()
    uris = {r["image_id"]: r["uri"] for r in rows}
    return tuple(Hop(uris[image_id], similarity) for image_id, similarity in path)


_IDENTICAL = ", ".join(f"'{relation}'" for relation in IDENTICAL)
_JOINING_PAIRS = f"""\
WITH members AS (SELECT image_id FROM $clusters WHERE cluster_id = :cluster_id),
inside AS (
  SELECT * FROM $pairs
  WHERE image_id_a IN (SELECT image_id FROM members) AND image_id_b IN (SELECT image_id FROM members)
),
weighed AS (
  SELECT image_id_a, image_id_b, copy_probability FROM $evidence
  WHERE image_id_a IN (SELECT image_id FROM members) AND image_id_b IN (SELECT image_id FROM members)
)
SELECT inside.image_id_a, inside.image_id_b,
       CASE WHEN inside.method IN ({_IDENTICAL}) THEN cast(1 AS double)
            ELSE coalesce(cast(inside.similarity AS double), 1 - cast(inside.hamming_bits AS double) / 64)
       END AS similarity
FROM inside
LEFT JOIN weighed ON weighed.image_id_a = inside.image_id_a AND weighed.image_id_b = inside.image_id_b
WHERE inside.method IN ({_IDENTICAL})
   OR coalesce(weighed.copy_probability >= :least, inside.similarity IS NULL OR inside.similarity >= :min_similarity)
LIMIT {_MAX_PATH_PAIRS}"""
"""The pairs inside one cluster that join two of its images, each with its similarity, 0 to 1."""


def _path(edges: pa.Table, start: int, goal: int) -> list[tuple[int, float | None]]:
    """Image ids from `start` to `goal` over pairs, each with its similarity to the one before."""
    a, b, s = (np.asarray(edges[c].to_numpy()) for c in edges.column_names)
    path = shortest_path(a, b, s, start, goal)
    scores = {(low, high): score for low, high, score in zip(a.tolist(), b.tolist(), s.tolist(), strict=True)}
    hops = [scores[min(pair), max(pair)] for pair in itertools.pairwise(path)]
    return list(zip(path, [None, *hops], strict=False))


def _text(name: str, side: Facts) -> str:
    value = side.get(name)
    if name in _IDS and value is not None:
        return in_hex(value)
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
