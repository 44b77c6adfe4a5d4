"""Cuts the keys of a store like S3 into ranges that tasks list side by side, without a request for each folder.

S3 gives keys in order, 1,000 a request, from any place on (`StartAfter`); a folder is only a part of their names. So n
keys take n / 1,000 requests, in however many folders they lie, and ranges of keys can be listed at the same time. Where
the keys lie is found by looking: of a prefix a page is asked for at the first key of each character that follows it,
and prefixes with more than a page are looked into again, until there are enough of them. Ranges come out uneven, by
about as much as a prefix has followers, so there are several for each core.

A range holds the keys behind `after` and up to `until`, which are keys that were seen: every key is in one range,
whatever comes and goes meanwhile.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

LAST = "\U0010ffff"
"""Behind a prefix: after all its keys but those that begin with it, too; S3 orders keys by the bytes of UTF-8, which is
the order of code points."""
_AT_ONCE = 16
_MOST_LEVELS = 64
"""Of prefixes: in a lake where each goes on with one other key, a longer search finds no better ranges."""
_SPREAD = 0x9E3779B1
"""Knuth's multiplier: neighbours are far from each other in the order of their products."""
_KEYS_WORTH_A_RANGE = 10_000
"""Ten requests; a task that lists less costs more than its listing."""


@dataclass(frozen=True)
class Page:
    """Keys of a prefix in their order; `is_last`: no more follow."""

    keys: list[str]
    is_last: bool


class GetPage(Protocol):
    """Asks the store for the first keys that begin with `prefix` and come after `after`."""

    def __call__(self, prefix: str, after: str) -> Page: ...


@dataclass(frozen=True)
class KeyRange:
    """The keys k with after < k <= until; "" is before all keys, None after all."""

    after: str = ""
    until: str | None = None


@dataclass(frozen=True)
class _Part:
    """The keys that begin with `prefix`: the first, and how many; None where they are more than a page."""

    prefix: str
    first: str
    n_keys: int | None


class UnorderedError(Exception):
    """The store does not give keys in the order of S3, so that ranges of them have no meaning."""


def key_ranges(get_page: GetPage, prefix: str, wanted: int) -> list[KeyRange]:
    """About `wanted` ranges that hold all keys that begin with `prefix`, or one where they are few.

    Asks the store some times for each range, 16 questions at a time.

    Raises:
        UnorderedError: the store has another order, or does not begin where it is told to.
    """
    parts = [_Part(prefix, "", None)]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="key-ranges") as pool:
        for _ in range(_MOST_LEVELS):
            if not 0 < _n_large(parts) < wanted:
                break
            parts = _looked_into(pool, get_page, parts, wanted)
    return _ranges(parts)


def _n_large(parts: list[_Part]) -> int:
    return sum(part.n_keys is None for part in parts)


def _looked_into(pool: ThreadPoolExecutor, get_page: GetPage, parts: list[_Part], wanted: int) -> list[_Part]:
    """The parts with those below the large ones in their place, some of all regions first, until there are enough."""
    large = sorted((n for n, part in enumerate(parts) if part.n_keys is None), key=lambda n: n * _SPREAD % (1 << 32))
    below: dict[int, list[_Part]] = {}
    n_large = len(large)
    for begin in range(0, len(large), _AT_ONCE):
        if n_large >= wanted:
            break
        places = large[begin : begin + _AT_ONCE]
        found = pool.map(lambda place: _parts_below(get_page, parts[place].prefix), places)
        below |= dict(zip(places, found, strict=True))
        n_large += sum(_n_large(below[place]) - 1 for place in places)
    return [one for n, part in enumerate(parts) for one in below.get(n, [part])]


def _parts_below(get_page: GetPage, prefix: str) -> list[_Part]:
    """The parts of a prefix by the character that follows it."""
    found: list[_Part] = []
    after = ""
    while True:
        page = _ask(get_page, prefix, after)
        whole, cut = _by_next_character(prefix, page)
        found += whole
        if page.is_last:
            return found
        if cut is None or whole:
            after = page.keys[-1 - (cut.n_seen if cut else 0)]  # what was cut begins the next page
        else:
            found.append(_lengthened(get_page, cut.prefix, page))
            after = max(cut.prefix + LAST, page.keys[-1])


@dataclass(frozen=True)
class _Cut:
    """The keys at the end of a page whose like may go on behind it."""

    prefix: str
    n_seen: int


def _by_next_character(prefix: str, page: Page) -> tuple[list[_Part], _Cut | None]:
    """The parts that a page holds to their ends, and the one at its end that may go on."""
    groups: dict[str, list[str]] = {}
    for key in page.keys:
        groups.setdefault(key[: len(prefix) + 1], []).append(key)
    cut = None
    if groups and not page.is_last and (last := next(reversed(groups))) != prefix:  # the prefix itself is one key
        cut = _Cut(last, len(groups.pop(last)))
    return [_Part(name, keys[0], len(keys)) for name, keys in groups.items()], cut


def _lengthened(get_page: GetPage, prefix: str, page: Page) -> _Part:
    """The part of a prefix that fills a page. As far as all its keys go on alike, its prefix does: else each character
    of a long name would be looked at by itself."""
    alike = _begin_alike(page.keys[0], page.keys[-1])
    while len(alike) > len(prefix):
        behind = _ask(get_page, prefix, alike + LAST).keys
        if not behind or behind[-1].startswith(alike):
            break
        alike = _begin_alike(alike, behind[-1])
    return _Part(max(alike, prefix, key=len), page.keys[0], None)


def _begin_alike(first: str, last: str) -> str:
    """What the first and the last of some keys in order begin with, and so all of them."""
    n_alike = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:n_alike]


def _ask(get_page: GetPage, prefix: str, after: str) -> Page:
    page = get_page(prefix, after)
    if any(a >= b for a, b in pairwise([after, *page.keys])):
        raise UnorderedError
    return page


def _ranges(parts: list[_Part]) -> list[KeyRange]:
    """A range for each part with more than a page, and for so many small ones that it is worth a task."""
    starts, n_keys = list[str](), 0
    for before, part in pairwise(parts):
        n_keys += _KEYS_WORTH_A_RANGE if before.n_keys is None else before.n_keys
        if n_keys >= _KEYS_WORTH_A_RANGE or part.n_keys is None:
            starts.append(part.first)
            n_keys = 0
    starts = sorted(set(starts))  # keys that begin with LAST may have been met twice
    ends: list[str | None] = [*starts, None]
    return [KeyRange(after, until) for after, until in zip(["", *starts], ends, strict=True)]
