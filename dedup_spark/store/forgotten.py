"""What `dedup-spark forget` keeps of an address, so that an object that is still in the lake is not listed again.

Below `<root>/_forgotten`, outside every table that SQL knows: `addresses`, a table of Delta with one digest for each
address, and `key`, 32 random bytes that the digests are made with. Without the key a digest says nothing of an address,
not even to one who guesses it, which a plain hash would; and whoever gets a table, a share or the answer of a query
does not get the key. An id (a plain hash of the address) is kept nowhere. To delete the folder lists all of it again.

An address is forgotten, not a folder: what is put below the same folder later is new.
"""

from __future__ import annotations

import secrets
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.errors import TableError
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.store import files
from dedup_spark.store.tables import Tables

FOLDER = "_forgotten"
_ADDRESS = ("uri", "member")
_SEPARATOR = "\u0000"
"""In no address and no name of a member, so that two addresses never make one text."""


def without_forgotten(tables: Tables, rows: DataFrame) -> DataFrame:
    """`rows` (with uri and member) less those whose address was forgotten. Where none was, nothing is computed.

    A digest a row, of about a microsecond, and a join with the digests: a broadcast where they are few.
    """
    known = tables.read_forgotten()
    if known is None:
        return rows
    marked = _with_digest(rows, _key(tables.root))
    return marked.join(known.select("digest"), "digest", "left_anti").select(rows.columns)


def remember(tables: Tables, addresses: DataFrame, run_id: str, at: datetime) -> int:
    """Add the digests of `addresses` (uri, member) that are not known yet; returns how many. A retry adds nothing."""
    known = tables.read_forgotten()
    new = _with_digest(addresses.select(*_ADDRESS), _key_to_write(tables)).select("digest").distinct()
    new = new if known is None else new.join(known.select("digest"), "digest", "left_anti")
    marks = {"run_id": F.lit(run_id), "forgotten_at": F.lit(at).cast("timestamp")}
    rows = tables.stage("digests", new.withColumns(marks))
    n_new = rows.count()
    if n_new:
        tables.add_forgotten(rows)
    return n_new


def new_ids(tables: Tables, ids: DataFrame) -> DataFrame:
    """(old_id, new_id) of `ids` (image_id), for clusters that bear the id of an image that is forgotten.

    By the same key, so that nobody finds the old id by the new one, and a killed command gives the same again.
    """
    keyed = _with_key(ids, _key_to_write(tables))
    digest = F.sha2(F.concat_ws(_SEPARATOR, "forgotten_key", F.lit("cluster"), F.col("image_id").cast("string")), 256)
    number = F.conv(F.substring(digest, 1, 16), 16, -10).cast("bigint")
    return keyed.select(F.col("image_id").alias("old_id"), number.alias("new_id"))


def _with_digest(rows: DataFrame, key: str) -> DataFrame:
    return _with_key(rows, key).withColumn("digest", _digest()).drop("forgotten_key")


def _with_key(rows: DataFrame, key: str) -> DataFrame:
    """The key comes in as a row, not as a literal: plans, which show literals, are in Spark's event log."""
    return rows.crossJoin(F.broadcast(local_relation(rows.sparkSession, [(key,)], "forgotten_key string")))


def _digest() -> Column:
    """32 bytes of SHA-256; null where there is no address."""
    text = F.concat_ws(_SEPARATOR, "forgotten_key", "uri", F.coalesce("member", F.lit("")))
    return F.when(F.col("uri").isNotNull(), F.unhex(F.sha2(text, 256)))


def _key_to_write(tables: Tables) -> str:
    """The key; made where there is none and no digest needs an older one. Under the lease."""
    if tables.read_forgotten() is not None:
        return _key(tables.root)
    try:
        return _read_key(tables.root)
    except FileNotFoundError:
        tables.require_lease()
        files.write_atomically(f"{tables.root}/{FOLDER}/key", secrets.token_hex(32).encode())
        return _read_key(tables.root)


def _key(root: str) -> str:
    try:
        return _read_key(root)
    except FileNotFoundError as e:
        raise TableError(
            f"{root}/{FOLDER}/key is missing: without it nobody knows which objects of the lake were forgotten, and "
            f"they would be listed again. Put it back; or delete {root}/{FOLDER} to have them listed again"
        ) from e


def _read_key(root: str) -> str:
    return files.read_bytes(f"{root}/{FOLDER}/key").decode()
