"""The names in one folder of a store, as fsspec lists them; those of S3 page by page.

A fact that a store does not give, or gives in a form that nobody has, is unknown; the entry is listed all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dedup_spark.errors import SourceError
from dedup_spark.sources import addresses
from dedup_spark.sources.entries import Entry
from dedup_spark.sources.passed_over import LINK_TO_FILE, NAME_IS_NO_TEXT
from dedup_spark.sources.patience import ask_patiently
from dedup_spark.sources.times import modified_at


def store_entries(folder: str) -> Iterator[Entry]:
    """The entries of a folder of a store; faults that may pass are outlasted, as in `ask_patiently`."""
    filesystem, path = addresses.open_store(folder)
    if hasattr(filesystem, "call_s3"):
        yield from _s3_entries(folder)
        return
    for facts in ask_patiently(lambda: addresses.open_store(folder)[0].ls(path, detail=True, refresh=True), folder):
        if facts["name"].rstrip("/") != path.rstrip("/"):  # some stores list a folder marker inside the folder
            yield _store_entry(folder, facts)


def _store_entry(folder: str, facts: Mapping[str, Any]) -> Entry:
    uri = f"{folder}/{facts['name'].rstrip('/').rsplit('/', 1)[-1]}"
    if not _is_text(uri):
        return Entry(uri.encode("utf-8", "backslashreplace").decode(), passed_over=NAME_IS_NO_TEXT)
    kind = facts.get("type")
    if kind == "directory":
        return Entry(uri, is_folder=True)
    if kind == "link":  # sftp and similar filesystems list links
        return Entry(uri, passed_over=LINK_TO_FILE)
    etag = _etag(facts.get("ETag") or facts.get("etag"))
    return Entry(uri, size_bytes=_size(facts.get("size")), modified_at=modified_at(facts), etag=etag)


def _s3_entries(folder: str) -> Iterator[Entry]:
    """Entries page by page (`S3FileSystem.ls` would hold the whole folder); keys such as `a//b` keep their form."""
    _, folder_prefix = bucket_and_prefix(folder)
    for page in s3_pages(folder, Prefix=folder_prefix, Delimiter="/"):
        for below in page.get("CommonPrefixes", []):
            uri = f"{folder}/{below['Prefix'].removeprefix(folder_prefix).removesuffix('/')}"
            yield Entry(uri, is_folder=True)
        for facts in page.get("Contents", []):
            name = facts["Key"].removeprefix(folder_prefix)
            if name or facts["Size"]:  # else it is the empty marker of the folder itself
                yield s3_entry(folder, name, facts)


def s3_entry(folder: str, name: str, facts: Mapping[str, Any]) -> Entry:
    """The object of this name below `folder`, by what a page says of it."""
    return Entry(
        f"{folder}/{name}",
        size_bytes=facts["Size"],
        modified_at=modified_at(facts),
        etag=_etag(facts.get("ETag")),
        attributes=_storage_class(facts),
    )


def bucket_and_prefix(folder: str) -> tuple[str, str]:
    """Of `s3://bucket/a/b` the bucket, and what keys below the folder begin with: `a/b/`; "" for a whole bucket."""
    bucket, below_bucket, path = folder.partition("://")[2].partition("/")
    return bucket, f"{path}/" if below_bucket else ""


def s3_pages(folder: str, **asked: str | int) -> Iterator[dict[str, Any]]:
    """Pages until the store says that there are no more. Raises SourceError when it does not say how to go on."""
    request = {"Bucket": bucket_and_prefix(folder)[0], **asked}
    store = addresses.split_store(folder)[0]

    def ask() -> dict[str, Any]:
        filesystem, _ = addresses.open_for_reading(store)  # one try: ask_patiently repeats it
        page: dict[str, Any] = filesystem.call_s3("list_objects_v2", **request)
        return page

    while True:
        page = ask_patiently(ask, folder)
        yield page
        if not page.get("IsTruncated"):
            return
        token = page.get("NextContinuationToken")
        if not token or token == request.get("ContinuationToken"):
            raise SourceError(
                f"{folder}: the store ended its listing in the middle (IsTruncated, but no new NextContinuationToken): "
                "what follows is unknown, so nothing was changed; run again, or give the lake as a manifest"
            )
        request["ContinuationToken"] = token


def _storage_class(facts: Mapping[str, Any]) -> dict[str, str] | None:
    """Attribute `storage_class`, as an S3 Inventory has it; None for STANDARD, the usual one."""
    name = facts.get("StorageClass") or "STANDARD"
    return None if name == "STANDARD" else {"storage_class": name}


def _size(found: object) -> int | None:
    """Bytes; None where the store gives no number, or none that a column of sizes holds."""
    is_size = isinstance(found, int | float) and 0 <= found < 2**63
    return int(found) if is_size else None  # type: ignore[call-overload]


def _etag(quoted: object) -> str | None:
    return quoted.strip('"') if quoted and isinstance(quoted, str) else None


def _is_text(uri: str) -> bool:
    """Whether a column can hold the address: names may come with half of a surrogate pair."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True
