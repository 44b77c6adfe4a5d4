"""Which addresses `dedup-spark forget` has forgotten: what look-ups keep beside the tables goes, too."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import pyarrow.compute as pc

from dedup_spark.store import files, reader
from dedup_spark.store.schema import Table

_FOLDER = "_forgotten"
_REGISTER = Table(
    f"{_FOLDER}/addresses",
    "Digests of what was forgotten, as store/forgotten.py writes them.",
    ("digest",),
    (("digest", "binary", "SHA-256 of key and address"),),
)


def forgotten_among(root: str, uris: Collection[str]) -> set[str]:
    """Those of these addresses that were forgotten, each as a whole. Raises TableError where the list is unreadable."""
    if not uris or "addresses" not in files.list_names(f"{root}/{_FOLDER}"):
        return set()
    key = files.read_bytes(f"{root}/{_FOLDER}/key").decode()
    digests = {_digest(key, uri): uri for uri in uris}
    known = reader.dataset_of(root, _REGISTER).to_table(columns=["digest"], filter=pc.field("digest").isin([*digests]))
    return {digests[digest] for digest in known["digest"].to_pylist()}


def _digest(key: str, uri: str) -> bytes:
    return hashlib.sha256(f"{key}\0{uri}\0".encode("utf-8", "replace")).digest()
