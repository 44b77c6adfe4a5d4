"""Canonical addresses for rows of a listing whose addresses others have spelled; on executors.

A batch whose addresses are all in S3 or GCS passes unchanged: 0.1 us per row (measured on a busy machine). Other stores
take a regular expression or two, 2 to 4 us; local files take the system calls that follow links and identify the file,
40 us.
"""

from __future__ import annotations

import functools
import itertools
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from dedup_spark.sources import addresses, names
from dedup_spark.sources.base import LISTING
from dedup_spark.sources.entries import identity_of_file
from dedup_spark.sources.passed_over import BEHIND_LINK, LINK_TO_FILE, PassedOver


def spelled_canonically(listing: DataFrame, folder: str) -> DataFrame:
    """`listing` (LISTING) with canonical uris; relative ones count from `folder`, which is canonical itself.

    A local file also gets its `file_id` and `n_links`, unless it is a container, whose images share one file.
    """
    return listing.mapInArrow(functools.partial(_spell, folder=folder), LISTING.ddl)


def without_links(listing: DataFrame) -> DataFrame:
    """`listing` of local files with their `file_id` and `n_links`; files found through a link are passed over."""
    return listing.mapInArrow(_mark_links, LISTING.ddl)


def _spell(batches: Iterable[pa.RecordBatch], folder: str) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        as_given = batch.column("uri")
        if pc.all(pc.match_substring_regex(as_given, "^(s3|gs)://")).as_py():
            yield batch
            continue
        uris = [addresses.canonical(uri, folder) for uri in as_given.to_pylist()]
        is_whole = pc.and_(pc.is_null(batch.column("member")), pc.is_null(batch.column("position"))).to_pylist()
        yield _changed(batch, uri=uris, **_identities(uris, is_whole))


def _mark_links(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    passed_over = PassedOver()
    for batch in batches:
        found = [names.to_text(uri) for uri in batch.column("uri").to_pylist()]  # Java has the names as they are
        is_direct = [not _is_through_link(uri, passed_over) for uri in found]
        uris = list(itertools.compress(found, is_direct))
        yield _changed(batch.filter(pa.array(is_direct)), uri=uris, **_identities(uris, [True] * len(uris)))
    yield passed_over.to_arrow()


def _is_through_link(uri: str, passed_over: PassedOver) -> bool:
    if addresses.canonical(uri) == uri:
        return False
    is_link = Path(addresses.to_path(uri)).is_symlink()
    passed_over.add(LINK_TO_FILE if is_link else BEHIND_LINK, uri)
    return True


def _changed(batch: pa.RecordBatch, **columns: list[Any]) -> pa.RecordBatch:
    new = [pa.array(columns[f.name], f.type) if f.name in columns else batch.column(f.name) for f in batch.schema]
    return pa.RecordBatch.from_arrays(new, schema=batch.schema)


def _identities(uris: list[str], is_whole: list[bool]) -> dict[str, list[Any]]:
    """`file_id` and `n_links` of the addresses that are a whole local file."""
    host = socket.gethostname()
    files = [_identity(uri, host) if whole else (None, None) for uri, whole in zip(uris, is_whole, strict=True)]
    return {"file_id": [file_id for file_id, _ in files], "n_links": [n for _, n in files]}


def _identity(uri: str, host: str) -> tuple[str | None, int | None]:
    if addresses.is_remote(uri):
        return None, None
    try:
        return identity_of_file(Path(addresses.to_path(uri)).stat(), host)
    except (OSError, ValueError):  # missing or forbidden: reading it gives the reason
        return None, None
