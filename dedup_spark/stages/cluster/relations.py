"""What each member shows of its keeper: the thumbnails of the two are laid over each other. Part of the step cluster.

Every member of other pixels than its keeper is compared, also those that cosine and pHash decided without a doubt:
these cannot tell a re-encoded copy from one that was cropped or marked, and one of the two may be removed. That is much
less work than spatial verification: a thumbnail is described once, as 6 KB, in 1 ms, and a pair compared in about 1 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.kernels.arrays import Bools, Float32, Int64, UInt8
from dedup_spark.kernels.comparing import layout, relations
from dedup_spark.spark.needed_rows import only_needed

EVIDENCE_USED = ("covered_a", "covered_b", "changed", "two_sided", "colour_change", "n_inliers")
"""The columns of evidence that relations rest on."""

FACTS = Columns(
    "width_px int, height_px int, n_frames int, frame_phashes array<bigint>, duration_ms int, captured_at timestamp, "
    "camera string"
)
"""Columns of features that relations rest on, beside the thumbnail."""
_KNOWN = Columns("covered float, changed float, two_sided float, colour_change string, n_inliers int")
_IDS = Columns("keeper_representative_id bigint, representative_id bigint, is_member boolean")
_DESCRIBED = Columns(f"{_IDS.ddl}, {_KNOWN.ddl}, {FACTS.ddl}, layout binary, layout_px int")
RELATED = Columns("representative_id bigint, relation string, edit string, differing_share float")
_PAIRS_PER_CALL = 64


def related_to_keeper(kept: DataFrame, measured: DataFrame, pictures: DataFrame) -> DataFrame:
    """Rows of RELATED for each representative whose pixels are not those of its keeper; lazy.

    Args:
        kept: Members with representative_id and keeper_representative_id.
        measured: (image_id_a, image_id_b) of the two, with EVIDENCE_USED where there is evidence.
        pictures: image_id, FACTS and thumbnail of these representatives, and perhaps of others.
    Cost: thumbnails (10 KB) of these images move once, with the join; what is described of them (6 KB) once more.
    """
    apart = kept.where("representative_id <> keeper_representative_id")
    pairs = apart.select("keeper_representative_id", "representative_id").distinct()
    ends = F.least(*pairs.columns).alias("image_id_a"), F.greatest(*pairs.columns).alias("image_id_b")
    known = measured.select(
        "image_id_a", "image_id_b", F.least("covered_a", "covered_b").alias("covered"), *EVIDENCE_USED[2:]
    )
    members = pairs.select("*", F.lit(True).alias("is_member"), *ends)
    of_members = members.join(known, ["image_id_a", "image_id_b"], "left")
    keeper = F.col("keeper_representative_id")
    of_keepers = pairs.select(keeper, keeper.alias("representative_id"), F.lit(False).alias("is_member")).distinct()
    rows = of_members.drop("image_id_a", "image_id_b").unionByName(of_keepers, allowMissingColumns=True)
    described = _with_facts(rows, pictures).mapInArrow(_describe_batches, _DESCRIBED.ddl)
    together = described.repartition("keeper_representative_id")
    ordered = together.sortWithinPartitions("keeper_representative_id", "is_member", "representative_id")
    return ordered.mapInArrow(_relate_batches, RELATED.ddl)


def _with_facts(rows: DataFrame, pictures: DataFrame) -> DataFrame:
    facts = [_column(pictures, name, kind) for name, kind in FACTS.types.items()]
    ids = rows.select(F.col("representative_id").alias("image_id"))
    needed = only_needed(pictures.select("image_id", *facts, "thumbnail"), ids)
    joined = rows.join(needed.withColumnRenamed("image_id", "representative_id"), "representative_id")
    return joined.select(*_IDS.names, *_KNOWN.names, *FACTS.names, "thumbnail")


def _column(pictures: DataFrame, name: str, kind: str) -> Column:
    """A column of features, null where tables of this version have none."""
    return (F.col(name) if name in pictures.columns else F.lit(None)).cast(kind).alias(name)


def _describe_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On executors: the last column, a thumbnail, to its layout; null for an image without a thumbnail."""
    cv2.setNumThreads(1)
    for batch in batches:
        described = [layout.describe(jpeg) if jpeg else (None, None) for jpeg in batch["thumbnail"].to_pylist()]
        columns = batch.columns[:-1]
        columns += [pa.array([d[0] for d in described], pa.binary()), pa.array([d[1] for d in described], pa.int32())]
        yield pa.RecordBatch.from_arrays(columns, _DESCRIBED.names)


def _relate_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On executors: rows in order, each keeper before its members, to rows of RELATED. One keeper is held."""
    held: pa.Table | None = None
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        rows = pa.concat_tables([held, rows]) if held is not None else rows
        is_member = rows["is_member"].to_numpy(zero_copy_only=False)
        keeper = np.maximum.accumulate(np.where(is_member, 0, np.arange(len(rows))))
        members = np.flatnonzero(is_member)
        for start in range(0, len(members), _PAIRS_PER_CALL):
            part = members[start : start + _PAIRS_PER_CALL]
            yield _relate(rows.take(part), rows.take(keeper[part]))
        held = rows.slice(int(keeper[-1]), 1) if len(rows) else held


def _relate(members: pa.Table, keepers: pa.Table) -> pa.RecordBatch:
    (a, px_a), (b, px_b) = (_layouts(rows) for rows in (members, keepers))
    is_seen = (px_a > 0) & (px_b > 0)
    seen = layout.compare(a, b, np.minimum(px_a, px_b))
    covered, changed, two_sided = (_floats(members, name) for name in ("covered", "changed", "two_sided"))
    by_keypoints = members["n_inliers"].fill_null(0).to_numpy() > 0
    colour_change = members["colour_change"].to_pylist()
    evidence = relations.Evidence(covered, changed, two_sided, colour_change, by_keypoints)
    shapes, agree = _shapes(members, keepers), _frames_agree(members, keepers)
    related = relations.relate(shapes, agree, evidence, seen, is_seen, _are_two_shots(members, keepers))
    columns = [
        members["representative_id"].combine_chunks(),
        pa.array(related.relation),
        pa.array(related.edit, pa.string()),
        pa.array(seen.share, mask=~is_seen),
    ]
    return pa.RecordBatch.from_arrays(columns, RELATED.names)


def _layouts(rows: pa.Table) -> tuple[UInt8, Int64]:
    """(m, N_BYTES) layouts and (m,) shorter sides; zeros where there is no thumbnail."""
    empty = bytes(layout.N_BYTES)
    data = b"".join(found or empty for found in rows["layout"].to_pylist())
    px = rows["layout_px"].fill_null(0).to_numpy().astype(np.int64)
    return np.frombuffer(data, np.uint8).reshape(len(rows), layout.N_BYTES), px


def _shapes(members: pa.Table, keepers: pa.Table) -> relations.Shapes:
    names = ("width_px", "height_px")
    sides = [rows[name].fill_null(0).to_numpy().astype(np.int64) for rows in (members, keepers) for name in names]
    frames = [rows["n_frames"].fill_null(1).to_numpy().astype(np.int64) for rows in (members, keepers)]
    return relations.Shapes(*sides, *frames)


def _frames_agree(members: pa.Table, keepers: pa.Table) -> Bools:
    frames = (rows["frame_phashes"].to_pylist() for rows in (members, keepers))
    is_film, is_other_film = (rows["duration_ms"].is_valid().to_pylist() for rows in (members, keepers))
    rows = zip(*frames, is_film, is_other_film, strict=True)
    return np.array([f == g and relations.frames_agree(a, b, are_films=f) for a, b, f, g in rows], bool)


def _are_two_shots(members: pa.Table, keepers: pa.Table) -> Bools:
    taken = (
        zip(rows["captured_at"].to_pylist(), rows["camera"].to_pylist(), strict=True) for rows in (members, keepers)
    )
    return np.array([relations.are_two_shots(a, b) for a, b in zip(*taken, strict=True)], bool)


def _floats(rows: pa.Table, name: str) -> Float32:
    return np.asarray(rows[name].fill_null(np.nan).to_numpy(), np.float32)
