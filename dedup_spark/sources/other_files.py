"""Files that are no images by their names: a listing passes them over and counts them by kind.

On a disk their first bytes are read, 20 us per file, so that an image under such a name stays. In a store the name
decides alone: to ask for the first bytes would take a request per caption of a lake.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from dedup_spark.kernels.decoding.other_kinds import HEAD_BYTES, NAME_PATTERN, kind_of_name, may_be_image
from dedup_spark.sources import addresses
from dedup_spark.sources.base import LISTING
from dedup_spark.sources.passed_over import PassedOver


def without_other_kinds(listing: DataFrame) -> DataFrame:
    """`listing` (LISTING) of whole objects; those of other kinds are passed over. 0.2 us a row."""
    return listing.mapInArrow(_sort_out, LISTING.ddl)


def other_kind(uri: str) -> str | None:
    """What a file is that is no image, in words for `passed_over`; None where it may be one."""
    kind = kind_of_name(uri)
    return None if kind is None or may_be_image(first_bytes(uri)) else kind


def _sort_out(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    passed_over = PassedOver()
    for batch in batches:
        is_object = pc.and_(pc.is_null(batch["passed_over"]), pc.is_null(batch["member"]))
        asked = pc.and_(pc.match_substring_regex(batch["uri"], NAME_PATTERN), is_object)
        kinds = {uri: kind for uri in batch.filter(asked)["uri"].to_pylist() if (kind := other_kind(uri))}
        for uri, kind in kinds.items():
            passed_over.add(kind, uri)
        others = pc.is_in(batch["uri"], pa.array(kinds, pa.string()))
        yield batch.filter(pc.invert(pc.and_(asked, others))) if kinds else batch
    yield passed_over.to_arrow()


def first_bytes(uri: str) -> bytes:
    """The first bytes of a regular file on a disk; none where it is in a store or cannot be read.

    Anything else is not opened: a pipe or a device may act, or never end.
    """
    if addresses.is_remote(uri):
        return b""
    path = addresses.to_path(uri)
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return b""
        with open(path, "rb", buffering=0) as file:
            return file.read(HEAD_BYTES)
    except (OSError, ValueError):  # then its name decides
        return b""
