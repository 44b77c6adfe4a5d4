"""`dedup-spark explain`: shows two images side by side, the evidence between them, and why they are joined or not."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.commands.last_settings import last_settings, least_probability
from dedup_spark.commands.text_table import format_table
from dedup_spark.commands.trace import find_images
from dedup_spark.errors import ConfigError
from dedup_spark.kernels import vectors
from dedup_spark.kernels.clusters.components import shortest_path
from dedup_spark.store.schema import ALL, CLUSTERS, EVIDENCE, FEATURES, GUARDED, PAIRS
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import IDENTICAL, FeatureStatus, Guard

Facts = dict[str, Any]

_SHOWN = (
    "image_id", "status", "reject_reason", "format", "width_px", "height_px", "size_bytes", "content_hash",
    "pixel_hash", "phash", "luma_stddev", "entropy_bits", "model_id", "guard", "cluster_id", "is_keeper",
)  # fmt: skip
_MAX_PATH_PAIRS = 5_000_000  # 24 bytes each on the driver


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


def explain_pair(tables: Tables, uri_a: str, uri_b: str) -> Explanation:
    """Facts and evidence for two images, and why they are joined or not; each is given by its address or its end.

    Raises:
        ConfigError: No image, or more than one, has an address, or no step cluster has finished.
    """
    settings = last_settings(tables, "explain")
    a, b = (_facts(tables, uri) for uri in (uri_a, uri_b))
    about_pairs = [table for table in ALL if table.key == PAIRS.key]
    found = {table.name: _between(tables.read(table), a, b).first() for table in about_pairs}
    rows = {name: row.asDict() if row else None for name, row in found.items()}
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
            f"\njoined: both are in cluster {found.cluster_id}",
            *(f"  {name}: {side.get('reason')} (keeper {side['keeper_image_id']})" for name, side in sides),
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


def _facts(tables: Tables, uri: str) -> Facts:
    """The rows of one image in images, features, clusters and guarded as one row, with its representative."""
    found = find_images(tables, uri)
    if len(found) > 1:
        raise ConfigError(f"{len(found)} images have a uri that ends with '{uri}'; give a longer part of it")
    facts = found[0].asDict()
    for table in (FEATURES, CLUSTERS):
        row = tables.read(table).where(F.col("image_id") == facts["image_id"]).first()
        facts = facts | {k: v for k, v in (row.asDict() if row else {}).items() if facts.get(k) is None}
    facts["representative_id"] = facts["image_id"]
    if facts.get("pixel_hash"):
        same = tables.read(FEATURES).where(F.col("pixel_hash") == facts["pixel_hash"])
        facts["representative_id"] = same.agg(F.min("image_id").alias("first")).collect()[0]["first"]
    guarded = tables.read(GUARDED).where(F.col("image_id") == facts["representative_id"]).first()
    return facts | {"guard": guarded["guard"] if guarded else None}


def _comparison(a: Facts, b: Facts, pair: Facts | None, evidence: Facts | None) -> Comparison:
    cosine = bits = None
    if a.get("embedding") and b.get("embedding") and a["model_id"] == b["model_id"]:
        cosine = float(vectors.cosines(*(vectors.from_bytes([side["embedding"]]) for side in (a, b)))[0])
    if a.get("phash") is not None and b.get("phash") is not None:
        bits = ((a["phash"] ^ b["phash"]) & (2**64 - 1)).bit_count()
    same = {name: a.get(name) is not None and a.get(name) == b.get(name) for name in ("content_hash", "pixel_hash")}
    return Comparison(same["content_hash"], same["pixel_hash"], bits, cosine, pair, evidence)


def _between(pairs: DataFrame, a: Facts, b: Facts) -> DataFrame:
    """The row between the two representatives; identical images have one only with their representative."""
    low, high = sorted((a["representative_id"], b["representative_id"]))
    if low == high:
        low, high = sorted((a["image_id"], b["image_id"]))
    return pairs.where((F.col("image_id_a") == low) & (F.col("image_id_b") == high))


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
        values = {k: v for k, v in (row or {}).items() if k not in PAIRS.key}
        known = ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        lines.append(f"{name}: {known or 'no row'}")
    return lines


def _joining_path(tables: Tables, a: Facts, b: Facts, settings: Facts) -> tuple[Hop, ...]:
    """The path from one image to the other over the pairs that join images of their cluster."""
    members = tables.read(CLUSTERS).where(F.col("cluster_id") == a["cluster_id"])
    ids = ["image_id_a", "image_id_b"]
    evidence = tables.read(EVIDENCE).select(*ids, "copy_probability")
    by_likeness = F.col("similarity").isNull() | (F.col("similarity") >= settings["cluster"]["min_similarity"])
    joins = F.coalesce(F.col("copy_probability") >= least_probability(settings), by_likeness)
    pairs = tables.read(PAIRS).join(evidence, ids, "left").where(F.col("method").isin(*IDENTICAL) | joins)
    path = _path(pairs, members.select("image_id"), a["image_id"], b["image_id"])
    rows = members.where(F.col("image_id").isin([image_id for image_id, _ in path])).select("image_id", "uri").collect()
    uris = {r["image_id"]: r["uri"] for r in rows}
    return tuple(Hop(uris[image_id], similarity) for image_id, similarity in path)


def _path(pairs: DataFrame, members: DataFrame, start: int, goal: int) -> list[tuple[int, float | None]]:
    """Image ids from `start` to `goal` over pairs inside a cluster, each with its similarity to the one before."""
    inside = pairs
    for end in ("image_id_a", "image_id_b"):
        inside = inside.join(members.withColumnRenamed("image_id", end), end, "left_semi")
    identical = F.col("method").isin(*IDENTICAL)
    similarity = F.when(identical, 1.0).otherwise(F.coalesce("similarity", 1 - F.col("hamming_bits") / 64))
    edges = inside.select("image_id_a", "image_id_b", similarity.cast("double").alias("similarity"))
    columns = edges.limit(_MAX_PATH_PAIRS).toArrow()
    a, b, s = (np.asarray(columns[c].to_numpy()) for c in edges.columns)
    path = shortest_path(a, b, s, start, goal)
    scores = {(low, high): score for low, high, score in zip(a.tolist(), b.tolist(), s.tolist(), strict=True)}
    hops = [scores[min(pair), max(pair)] for pair in itertools.pairwise(path)]
    return list(zip(path, [None, *hops], strict=False))


def _text(name: str, side: Facts) -> str:
    value = side.get(name)
    if name == "phash" and value is not None:
        return f"{value & (2**64 - 1):016x}"
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
