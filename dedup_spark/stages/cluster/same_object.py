"""Whether a member and what stands for it may be one object under two names. Part of the step cluster.

Listings give one object one address where they can tell. This check covers what they cannot tell: mounted folders,
links, aliases of a bucket, tables of an older version. It errs on the safe side: two objects that are taken for one are
both kept.

It uses the columns FACTS of the member and, with `near_` before their names, those of the image that stands for it: as
a rule its keeper.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

from dedup_spark.sources.base import ADDRESS_COLUMNS

FACTS = (*ADDRESS_COLUMNS, "file_id", "modified_at", "content_hash")
"""The columns of either that `may_be_one_object` uses."""

_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss", "wasb": "abfss", "wasbs": "abfss", "": "file"}
"""Spellings of one scheme: rows of older tables hold them."""

_LITERAL_KEYS = ("s3", "gs")
"""Stores where a doubled slash, `..`, another case or another normal form makes another key."""

_NAMED_STORES = (*_LITERAL_KEYS, "abfss")
"""Schemes whose authority names one store, wherever it is used."""

_ALIAS = r"^arn:|-s3alias$|--(ol|op|xa)-s3$|\.mrap$|@onelake$"
"""Authorities that lead into another store: access points of S3 (of Object Lambda, Outposts, directory buckets and many
regions, too), shortcuts of OneLake."""

_BY_ITS_NAME = ("hdfs", *_NAMED_STORES)
"""Schemes where, below one authority, another path is another object."""

_MOUNTED_STORES = "^(dbfs|Volumes)/"
"""Paths of Databricks where inodes are made up from names: two of them do not tell two objects apart."""

_ANY_CASE = "UNICODE_CI"
"""Collation under which text is equal whatever its case and normal form."""


@dataclass(frozen=True)
class _Object:
    """Where an image is, and what is known of it."""

    scheme: Column
    authority: Column
    path: Column
    facts: dict[str, Column]

    @property
    def has_inode(self) -> Column:
        """Whether it is a file with an inode of a disk; mounted stores have none, or make them up."""
        return (self.scheme == "file") & ~self.path.rlike(_MOUNTED_STORES) & F.coalesce(self.inode != "0", F.lit(False))

    @property
    def name(self) -> Column:
        """The last part of the path; a URL's without its query."""
        path = F.when(self.scheme.isin("http", "https"), F.regexp_replace(self.path, "(?s)[?#].*$", ""))
        return F.substring_index(F.coalesce(path, self.path), "/", -1)

    @property
    def inode(self) -> Column:
        return F.substring_index(self.facts["file_id"], ":", -1)

    @property
    def device(self) -> Column:
        """With the host that counts it."""
        return F.regexp_extract(self.facts["file_id"], "^(.*):[^:]*$", 1)

    @property
    def has_own_disk(self) -> Column:
        """Whether its device is a disk, which numbers its files for good. What is mounted over a network or by a
        program (NFS, SMB, FUSE) has a device of major number 0, and another mount of it may number otherwise."""
        device = F.substring_index(self.device, "/", -1).try_cast("bigint")
        return F.coalesce(F.shiftright(device, 8).bitwiseAND(0xFFF) != 0, F.lit(False))

    @property
    def host(self) -> Column:
        return F.regexp_extract(self.facts["file_id"], "^(.*)/[^/]*:[^:]*$", 1)


def may_be_one_object() -> Column:
    """Never null. The module's docstring names the columns that it needs."""
    a, b = _object(""), _object("near_")
    same_store = (a.scheme == b.scheme) & (a.authority == b.authority)
    return F.coalesce(
        F.when(_one_place_in_one_file(a, b), True)
        .when(~a.facts["member"].eqNullSafe(b.facts["member"]), False)  # two images, of one container or of two
        .when(same_store & (a.path == b.path), True)
        .when(a.has_inode & b.has_inode, _on_disks(a, b))
        .when(same_store & ~a.scheme.isin(*_LITERAL_KEYS) & _alike(_plain(a.path), _plain(b.path)), True)
        .when(same_store & a.scheme.isin(*_BY_ITS_NAME) & ~a.authority.startswith("arn:"), False)
        .when(_are_different_stores(a, b), False)
        .otherwise(_by_facts(a, b)),
        F.lit(True),
    )


def is_hard_link() -> Column:
    """For two that may be one object: whether they are two names of one file on one disk."""
    return F.coalesce(F.col("file_id") == F.col("near_file_id"), F.lit(False)) & (F.col("n_links") > 1)


def _object(prefix: str) -> _Object:
    uri = F.col(f"{prefix}uri")
    spelling = F.lower(F.regexp_extract(uri, "^([A-Za-z][A-Za-z0-9+.-]*):", 1))
    # looked up, not a chain of conditions: each would hold the expression before it twice, 128 times in all
    scheme = F.coalesce(F.try_element_at(_scheme_names(), spelling), spelling)
    authority = F.lower(F.regexp_extract(uri, "(?s)^[^:/]+://([^/]*)", 1))
    account = F.regexp_replace(F.regexp_extract(authority, "^[^.]*", 0), "-secondary$", "")  # container@account
    path = F.regexp_replace(uri, "(?s)^[A-Za-z][A-Za-z0-9+.-]*:(//[^/]*)?/?", "")
    facts = {name: F.col(f"{prefix}{name}") for name in FACTS}
    return _Object(scheme, F.when(scheme == "abfss", account).otherwise(authority), path, facts)


def _scheme_names() -> Column:
    return F.create_map(*[F.lit(text) for pair in _SCHEMES.items() for text in pair])


def _one_place_in_one_file(a: _Object, b: _Object) -> Column:
    """For two images inside containers: whether they are the same bytes there, whatever names their lakes give them."""
    file_a, file_b = (F.coalesce(o.facts["location"], o.facts["uri"]) for o in (a, b))
    return F.coalesce((file_a == file_b) & (a.facts["position"] == b.facts["position"]), F.lit(False))


def _on_disks(a: _Object, b: _Object) -> Column:
    """For two local files whose inodes are known.

    One disk may be mounted twice, and has other device numbers on other hosts. A copy of a whole disk has the inodes of
    the original, too; where size and time agree as well, it cannot be told from a second mount. Two mounts of what is
    no disk of this host may give one file different inodes.
    """
    disks = a.has_own_disk & b.has_own_disk
    known = F.coalesce(_equal(a, b, "size_bytes"), F.lit(True))
    maybe_one_disk = (a.host != b.host) | F.coalesce(_same_second(a, b), F.lit(True))
    return (
        F.when(
            (a.device == b.device) | (a.host == b.host) & (a.inode != b.inode) & disks,
            a.facts["file_id"] == b.facts["file_id"],
        )
        .when(a.inode == b.inode, known & maybe_one_disk)
        .otherwise(_by_facts(a, b))
    )


def _are_different_stores(a: _Object, b: _Object) -> Column:
    """Two stores with names, of one kind, neither of which is an alias that may lead into the other.

    A container of ADLS without its account belongs to the account that the process is configured with.
    """
    named = (a.scheme == b.scheme) & a.scheme.isin(*_NAMED_STORES)
    containers = [F.substring_index(o.authority, "@", 1) for o in (a, b)]
    accounts = [o.authority.contains("@") for o in (a, b)]
    named &= ~((a.scheme == "abfss") & (accounts[0] != accounts[1]) & (containers[0] == containers[1]))
    return named & (a.authority != b.authority) & ~a.authority.rlike(_ALIAS) & ~b.authority.rlike(_ALIAS)


def _by_facts(a: _Object, b: _Object) -> Column:
    """No fact that both listings have differs, and both have size and time, or the bytes are the same.

    Stores of two kinds, one of which leads into the other (a mount, S3's interface to another store), have ETags of two
    forms, and times of their own: for them equal bytes are enough.
    """
    is_one_kind = a.scheme == b.scheme
    size, second, etag = _equal(a, b, "size_bytes"), _same_second(a, b), _equal(a, b, "etag")
    same_bytes = F.coalesce(_equal(a, b, "content_hash"), F.lit(False))
    nothing_differs = (
        F.coalesce(size, F.lit(True))
        & (F.coalesce(second, F.lit(True)) | ~is_one_kind & same_bytes)
        & (F.coalesce(etag, F.lit(True)) | ~is_one_kind)
    )
    known = (size.isNotNull() & second.isNotNull()) | same_bytes
    return nothing_differs & known & (_alike(a.name, b.name) | _alike(_unescaped(a.name), _unescaped(b.name)))


def _equal(a: _Object, b: _Object, fact: str) -> Column:
    return a.facts[fact] == b.facts[fact]


def _same_second(a: _Object, b: _Object) -> Column:
    """Stores and their gateways cut times to seconds."""
    return F.date_trunc("second", a.facts["modified_at"]) == F.date_trunc("second", b.facts["modified_at"])


def _alike(a: Column, b: Column) -> Column:
    return F.collate(a, _ANY_CASE) == F.collate(b, _ANY_CASE)


def _unescaped(name: Column) -> Column:
    """A URL's name without escapes, as other addresses have it; any other name unchanged."""
    return F.coalesce(F.try_url_decode(F.replace(name, F.lit("+"), F.lit("%2B"))), name)


def _plain(path: Column) -> Column:
    """Without doubled slashes, `.` and `..`."""
    parts = F.filter(F.split(path, "/"), lambda part: ~part.isin("", "."))
    walked = F.aggregate(
        parts,
        F.array().cast("array<string>"),
        lambda so_far, part: F.when(
            part == "..", F.slice(so_far, F.lit(1), F.greatest(F.size(so_far) - 1, F.lit(0)))
        ).otherwise(F.array_append(so_far, part)),
    )
    return F.array_join(walked, "/")
