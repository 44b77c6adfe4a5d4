"""What a group tells of a member: whether it was marked, bordered, or made from another one. Part of the step cluster.

Of each group the distinct pictures are described by their thumbnails, 7 KB each, and compared with the median of those
in the same frame (kernels/clusters/consensus.py): work grows with the number of members, not of their pairs. Files of
one size are compared with at most 32 others by samples of their blocks, 1 KB each (kernels/comparing/descent.py).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import fields

import cv2
import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.kernels.arrays import Float64, UInt8
from dedup_spark.kernels.clusters import consensus
from dedup_spark.kernels.comparing import bars, descent, layout
from dedup_spark.spark.arrow_groups import whole_groups
from dedup_spark.spark.needed_rows import only_needed

NAMES = ("differs_from_most", "has_added_border", "is_made_from_another", "has_copies")
_FACTS = Columns(
    "label bigint, representative_id bigint, width_px int, height_px int, added_share float, shown_width_px int, "
    "shown_height_px int, exif_orientation int, has_colour_profile boolean, block_sample binary"
)
_FROM_THUMBNAIL = Columns("layout binary, layout_px int, within binary, within_ratio float, lines binary")
_DESCRIBED = _FACTS + _FROM_THUMBNAIL
_FOUND = Columns(f"label bigint, representative_id bigint, {', '.join(f'{name} boolean' for name in NAMES)}")


def with_consensus(members: DataFrame, features: DataFrame, max_images: int) -> DataFrame:
    """Add NAMES to members (label, representative_id, image_id); false where a group has one picture only.

    Args:
        max_images: Of a label; a larger one consists of equal vectors, and is compared in pieces.
    Cost: 1 ms to describe a picture, 1 ms to compare it, and 1 ms for each other of its size; a join of the members'
    ids, and one shuffle of 8 KB for each picture.
    """
    pictures = _file_of_each(members, features)
    n_of_label = F.count("*").over(Window.partitionBy("label"))
    several = pictures.withColumn("n", n_of_label).where("n > 1").drop("n")
    described_by = features.select("image_id", *_FACTS.names[2:], "thumbnail")
    rows = several.join(only_needed(described_by, several), "image_id").select(*_FACTS.names, "thumbnail")
    described = rows.mapInArrow(_describe_batches, _DESCRIBED.ddl).repartition("label")
    ordered = described.sortWithinPartitions("label", "representative_id")
    found = ordered.mapInArrow(functools.partial(_compare_batches, max_images=max_images), _FOUND.ddl)
    return members.join(found, ["label", "representative_id"], "left").fillna(False, list(NAMES))


def _file_of_each(members: DataFrame, features: DataFrame) -> DataFrame:
    """(label, representative_id, image_id): of the files with one picture a JPEG, where there is one. A lossless export
    of it has the same pixels, and does not say by which steps they were rounded."""
    known = members.select("label", "representative_id", "image_id").join(
        features.select("image_id", F.col("jpeg_quality").isNull().alias("is_other")), "image_id"
    )
    first = F.min(F.struct("is_other", "image_id")).alias("first")
    return known.groupBy("label", "representative_id").agg(first).select("label", "representative_id", "first.image_id")


def without_consensus(members: DataFrame) -> DataFrame:
    """Add NAMES, false: of what is not grouped."""
    return members.withColumns({name: F.lit(False) for name in NAMES})


def _describe_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On executors: the last column, a thumbnail, to what is compared; null for a picture without a thumbnail."""
    cv2.setNumThreads(1)
    for batch in batches:
        shares = batch["added_share"].to_pylist()
        rows = [_described(j, s) for j, s in zip(batch["thumbnail"].to_pylist(), shares, strict=True)]
        columns = [pa.array([row[k] for row in rows], kind) for k, kind in enumerate(_FROM_THUMBNAIL.arrow.types)]
        yield pa.RecordBatch.from_arrays([*batch.columns[:-1], *columns], _DESCRIBED.names)


def _described(jpeg: bytes | None, added_share: float | None) -> tuple[bytes | int | float | None, ...]:
    if not jpeg:
        return (None,) * len(_FROM_THUMBNAIL.names)
    within = consensus.describe_within(jpeg) if added_share else None
    return (*layout.describe(jpeg), *(within or (None, None)), bars.describe(jpeg))


def _compare_batches(batches: Iterable[pa.RecordBatch], max_images: int) -> Iterator[pa.RecordBatch]:
    """On executors: whole groups to rows of _FOUND."""
    for group in whole_groups(batches, "label"):
        for start in range(0, len(group), max_images):
            part = group.slice(start, max_images).combine_chunks()
            columns = [part["label"].combine_chunks(), part["representative_id"].combine_chunks()]
            for found in (consensus.compare_with_most(_members(part)), _copies(part)):
                columns += [pa.array(getattr(found, field.name)) for field in fields(found)]
            yield pa.RecordBatch.from_arrays(columns, _FOUND.names)


def _members(rows: pa.Table) -> consensus.Members:
    names = ("width_px", "height_px", "shown_width_px", "shown_height_px")
    width, height, shown_width, shown_height = (np.maximum(_numbers(rows, name, 1), 1) for name in names)
    return consensus.Members(
        layouts=_levels(rows, "layout", layout.N_BYTES),
        shorter_px=_numbers(rows, "layout_px", 0).astype(np.int64),
        ratio=width / height,
        added_share=_numbers(rows, "added_share", 0),
        shown_share=shown_width * shown_height / (width * height),
        within=_levels(rows, "within", consensus.SIDE**2),
        within_ratio=_numbers(rows, "within_ratio", np.nan),
        has_profile=rows["has_colour_profile"].fill_null(False).to_numpy(),
        lines=rows["lines"].to_pylist(),
    )


def _copies(rows: pa.Table) -> descent.Descent:
    grids = [_numbers(rows, name, 0).astype(np.int64) for name in ("width_px", "height_px", "exif_orientation")]
    return descent.find_copies(rows["block_sample"].to_pylist(), np.stack(grids, axis=1))


def _numbers(rows: pa.Table, name: str, unknown: float) -> Float64:
    return np.asarray(rows[name].cast(pa.float64()).fill_null(unknown).to_numpy(), np.float64)


def _levels(rows: pa.Table, name: str, n_bytes: int) -> UInt8:
    """(m, n_bytes); zeros where there are none."""
    data = b"".join(found or bytes(n_bytes) for found in rows[name].to_pylist())
    return np.frombuffer(data, np.uint8).reshape(len(rows), n_bytes)
