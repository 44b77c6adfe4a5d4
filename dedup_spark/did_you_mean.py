"""The valid word that somebody meant who wrote another one: only where the two are near, else a hint misleads."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LEAST_RATIO = 0.75
"""Of difflib: `similarity` and `min_similarity` have 0.83, `colour` and `neighbours` 0.63."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The word of `known` that `word` is a slip of; None where there is none. Case does not count."""
    names = {name.lower(): name for name in known}
    swapped = [name for name in names if sorted(name) == sorted(word.lower())]  # in `rnu` the ratio is 0.67
    close = swapped or difflib.get_close_matches(word.lower(), names, n=1, cutoff=_LEAST_RATIO)
    return names[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about a word that is not valid; empty where nothing is near."""
    found = nearest(word, known)
    return f"; did you mean '{found}'?" if found else ""
