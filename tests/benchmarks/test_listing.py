"""The store that `benchmarks/listing.py` lists gives its keys as S3 does: in order, a page at a time."""

from __future__ import annotations

import re

import listing
import pytest

KEYS = [f"photos/{listing.name_of(number)}" for number in range(2_500)]


def pages(**asked: str) -> list[str]:
    found = [listing._page(KEYS, asked)]
    while token := re.search(r"<NextContinuationToken>(.*?)</", found[-1]):
        found.append(listing._page(KEYS, asked | {"continuation-token": token[1]}))
    return found


def keys_in(text: str) -> list[str]:
    return re.findall(r"<Key>(.*?)</Key>", text)


def test_pages_hold_every_key_once_and_at_most_a_thousand() -> None:
    found = [keys_in(page) for page in pages(prefix="photos/")]
    assert [len(page) for page in found] == [1000, 1000, 500]
    assert [key for page in found for key in page] == KEYS


@pytest.mark.parametrize(("after", "n"), [("photos/0002498/zzz", 1), ("photos/0002499/photo.jpg", 0), ("q", 0)])
def test_a_listing_begins_behind_the_key_that_is_named(after: str, n: int) -> None:
    assert keys_in("".join(pages(prefix="photos/", **{"start-after": after}))) == KEYS[len(KEYS) - n :]


def test_a_delimiter_gives_the_folders_below_a_prefix() -> None:
    found = [
        re.findall(r"<CommonPrefixes><Prefix>(.*?)</Prefix>", page) for page in pages(prefix="photos/", delimiter="/")
    ]
    assert [len(page) for page in found] == [1000, 1000, 500]
    assert found[0][0] == "photos/0000000/"
    inside = pages(prefix="photos/0000007/", delimiter="/")
    assert keys_in("".join(inside)) == ["photos/0000007/photo.jpg"]
