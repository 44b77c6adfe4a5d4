"""The keys of S3 below a folder, in however many folders they lie: ranges of them, and the entries of a range.

The entries are those that a listing folder by folder gives: folder markers are none, and a hidden folder is one entry,
which is passed over, as are all keys in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dedup_spark.errors import SourceError
from dedup_spark.sources import addresses
from dedup_spark.sources.entries import Entry
from dedup_spark.sources.key_ranges import LAST, KeyRange, Page, UnorderedError, key_ranges
from dedup_spark.sources.passed_over import HIDDEN_FILE, HIDDEN_FOLDER
from dedup_spark.sources.store_entries import bucket_and_prefix, s3_entry, s3_pages

_KEYS_PER_PAGE = 1000
_DIRECTORY_BUCKET = "--x-s3"
"""The end of the name of a bucket of S3 Express One Zone, which gives keys in no order."""


def ranges_of_keys(folder: str, wanted: int) -> list[KeyRange] | None:
    """Ranges of the keys below `folder`; None where its store is none of S3's kind, or gives keys in another order.

    Raises:
        ListingRefused: the store refuses to list all keys of the folder, or from a place on.
        FileNotFoundError: there is no such bucket.
        SourceError: the store fails for longer than five minutes, or takes no credentials.
    """
    store = addresses.split_store(folder)[0]
    if not addresses.is_remote(folder) or store.endswith(_DIRECTORY_BUCKET):
        return None
    if not hasattr(addresses.open_for_reading(store)[0], "call_s3"):
        return None
    prefix = bucket_and_prefix(folder)[1]
    if not _begins_where_told(folder, prefix):
        return None
    try:
        return key_ranges(lambda prefix, after: _page(folder, prefix, after), prefix, wanted)
    except UnorderedError:
        return None


def _begins_where_told(folder: str, prefix: str) -> bool:
    """Whether the store knows `StartAfter`, by one request: a task that passes over a hidden folder needs it, where
    all keys fit into one page too, and could not list by folders any more."""
    after = prefix + LAST
    return all(key > after for key in _page(folder, prefix, after).keys)


def entries_of_range(folder: str, wanted: KeyRange, *, skip_hidden: bool) -> Iterator[Entry]:
    """The entries of a range; n keys take n / 1,000 requests, and those of a hidden folder one.

    Raises:
        SourceError: as of `ranges_of_keys`, and where the store does not keep to the order of keys.
    """
    prefix = bucket_and_prefix(folder)[1]
    last = after = wanted.after
    while True:
        hidden = None
        for facts in _contents(folder, prefix, after):
            key = facts["Key"]
            if key <= last:
                raise _out_of_order(folder)
            last = key
            if wanted.until is not None and key > wanted.until:
                return
            name = key.removeprefix(prefix)
            hidden = _hidden_folder(name) if skip_hidden else None
            if hidden is not None:
                break
            if (name and not name.endswith("/")) or facts["Size"]:
                yield _shown(s3_entry(folder, name, facts), name, skip_hidden=skip_hidden)
        if hidden is None:
            return
        if not wanted.after.startswith(prefix + hidden):  # else an earlier range has counted it
            yield Entry(f"{folder}/{hidden.removesuffix('/')}", is_folder=True, passed_over=HIDDEN_FOLDER)
        after = prefix + hidden + LAST


def _contents(folder: str, prefix: str, after: str) -> Iterator[dict[str, Any]]:
    for page in s3_pages(folder, Prefix=prefix, MaxKeys=_KEYS_PER_PAGE, **_start(after)):
        yield from page.get("Contents", [])


def _page(folder: str, prefix: str, after: str) -> Page:
    """The first page that holds a key; the last, where none does."""
    for page in s3_pages(folder, Prefix=prefix, MaxKeys=_KEYS_PER_PAGE, **_start(after)):
        if page.get("Contents"):
            return Page([facts["Key"] for facts in page["Contents"]], not page.get("IsTruncated"))
    return Page([], is_last=True)


def _start(after: str) -> dict[str, str]:
    return {"StartAfter": after} if after else {}


def _hidden_folder(name: str) -> str | None:
    """The outermost hidden folder that holds a name below the lake, with the slash at its end."""
    *folders, _ = name.split("/")
    place = next((n for n, folder in enumerate(folders) if folder.startswith(".")), None)
    return None if place is None else "".join(f"{folder}/" for folder in folders[: place + 1])


def _shown(entry: Entry, name: str, *, skip_hidden: bool) -> Entry:
    is_hidden = skip_hidden and name.rpartition("/")[2].startswith(".")
    return entry._replace(passed_over=HIDDEN_FILE) if is_hidden else entry


def _out_of_order(folder: str) -> SourceError:
    return SourceError(
        f"{folder}: the store does not give keys in the order of S3: what it left out is unknown, so nothing was "
        "changed; give the lake as a manifest"
    )
