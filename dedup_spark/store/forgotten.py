"""What `dedup-spark forget` keeps of an address, so that an object that is still in the lake is not listed again.

Below `<root>/_forgotten`, outside every table that SQL knows: `addresses`, a table of Delta with one digest for each
address, and `key`, 32 random bytes that the digests are made with. Without the key a digest says nothing of an address,
not even to one who guesses it, which a plain hash would; and whoever gets a table, a share or the answer of a query
does not get the key. An id (a plain hash of the address) is kept nowhere. To delete the folder lists all of it again.

An address is forgotten, not a folder: what is put below the same folder later is new. With the address of an object all
images in it are: members of a tar file, rows of a data file.
"""

from __future__ import annotations

import secrets
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.errors import TableError
from dedup_spark.sources.passed_over import FORGOTTEN, UNLISTED
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.store import files
from dedup_spark.store.tables import Tables

FOLDER = "_forgotten"
_ADDRESS = ("uri", "member")
_SEPARATOR = "\u0000"
"""In no address and no name of a member, so that two addresses never make one text."""


def without_forgotten(tables: Tables, rows: DataFrame) -> DataFrame:
    """`rows` (with uri and member, perhaps location) less those of which an address was forgotten."""
    marked = _marked(tables, rows)
    return rows if marked is None else marked.where("NOT is_forgotten").select(rows.columns)


def masking_forgotten(tables: Tables, listing: DataFrame) -> DataFrame:
    """A listing, in which of what was forgotten nothing is left but the row, as one that is passed over.

    A row that says that a folder or a container could not be listed stays as it is: else the images in it, which may
    be others, were taken for gone. Where nothing was forgotten, nothing is computed.
    """
    marked = _marked(tables, listing)
    if marked is None:
        return listing
    is_masked = F.col("is_forgotten") & ~F.coalesce(F.col("passed_over").isin(*UNLISTED), F.lit(False))
    reason = F.when(is_masked, F.coalesce("passed_over", F.lit(FORGOTTEN))).otherwise(F.col("passed_over"))
    left = {"passed_over": reason, "n_passed_over": F.col("n_passed_over")}
    return marked.select([left.get(c, F.when(~is_masked, F.col(c))).alias(c) for c in listing.columns])


def _marked(tables: Tables, rows: DataFrame) -> DataFrame | None:
    """`rows` with `is_forgotten`; None where nothing was forgotten.

    Three digests a row, of about a microsecond each, and as many joins with the digests: broadcasts where they are few.
    """
    known = tables.read_forgotten()
    if known is None:
        return None
    marked, held = _with_key(rows, _key(tables.root)), known.select("digest").distinct()
    of_object = _digest("uri")
    location = _digest("location") if "location" in rows.columns else F.lit(None)
    of_file = F.coalesce(location, of_object)
    digests = {"of_address": _digest("uri", "member"), "of_object": of_object, "of_file": of_file}
    for name, digest in digests.items():
        seen = held.select(F.col("digest").alias(name), F.lit(True).alias(f"{name}_known"))
        marked = marked.withColumn(name, digest).join(seen, name, "left")
    return marked.withColumn("is_forgotten", F.coalesce(*(F.col(f"{name}_known") for name in digests), F.lit(False)))


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
    return _with_key(rows, key).withColumn("digest", _digest("uri", "member")).drop("forgotten_key")


def _with_key(rows: DataFrame, key: str) -> DataFrame:
    """The key comes in as a row, not as a literal: plans, which show literals, are in Spark's event log."""
    return rows.crossJoin(F.broadcast(local_relation(rows.sparkSession, [(key,)], "forgotten_key string")))


def _digest(uri: str, member: str | None = None) -> Column:
    """32 bytes of SHA-256 of an address in these columns; null where there is none."""
    of_member = F.coalesce(member, F.lit("")) if member else F.lit("")
    text = F.concat_ws(_SEPARATOR, "forgotten_key", uri, of_member)
    return F.when(F.col(uri).isNotNull(), F.unhex(F.sha2(text, 256)))


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
