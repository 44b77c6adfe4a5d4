"""The thumbnails of the pairs in doubt, compared as the step cluster compares those of a run that holds the image.

Of each pair one image is the query image, chosen by the pixels of both (query_images.py). Of some pairs that is the
image that is looked up, whose candidates and nearest images the look-up has found. Of the others it is the image of the
lake: the run has left with what it was compared (run_pairs.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dedup_spark.kernels.arrays import Bools, Float64, Int64
from dedup_spark.kernels.comparing import colours, probability
from dedup_spark.kernels.comparing.query_images import (
    MAX_CANDIDATES,
    NEIGHBOUR_SIMILARITY,
    NEIGHBOURS,
    content_key,
    is_query,
)
from dedup_spark.kernels.comparing.weighing import Scores, Thumbnail, Weighed, weigh
from dedup_spark.lookup.proposing import Candidates
from dedup_spark.lookup.run_pairs import Beside

Facts = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """The image that is looked up: its thumbnail, and its facts by the names of features.

    `own_rows` are those of images with its pixels, which the lake may hold already; `n_more`: see `Judge.decide`.
    """

    thumbnail: bytes
    facts: Facts
    own_rows: frozenset[int] = frozenset()
    n_more: int = 0

    @property
    def content_key(self) -> int:
        return content_key(self.facts["pixel_hash"])


class Stored(Protocol):
    """Images that can be found; rows ascend."""

    def described(self, row: int) -> Thumbnail: ...
    def content_keys(self, rows: Int64) -> Int64: ...
    def image_ids(self, rows: Int64) -> Int64: ...
    def beside(self, row: int) -> Beside | None: ...


class Weights:
    """What thumbnails say of (m,) candidates, filled in part by part."""

    def __init__(self, m: int) -> None:
        self.known, self.conclusive = np.zeros(m, bool), np.zeros(m, bool)
        self.copy_probability = np.zeros(m)
        self.columns: list[Facts] = [{} for _ in range(m)]

    def add(self, part: Int64, found: Weighed, *, of_query: bool) -> None:
        """`of_query`: whether the image that is looked up was the query image."""
        self.known[part], self.conclusive[part] = True, found.is_conclusive
        self.copy_probability[part] = found.copy_probability
        for place, k in enumerate(part.tolist()):
            self.columns[k] = _columns(found, place, of_query)


@dataclass(frozen=True)
class Weighing:
    """How pairs are weighed: `join_recoloured` as in `weigh`.

    `most_votes` bounds the time where a lake has thousands of one template: so many of its images are aligned to others
    of it; the pairs beyond are weighed at the image that is looked up, whichever a run would choose.
    """

    join_recoloured: bool = False
    most_votes: int = 400


def weigh_pairs(
    query: Query, found: Candidates, scored: tuple[Float64, Bools], stored: Stored, how: Weighing
) -> Weights:
    """Compare the thumbnails of some candidates with that of the query.

    Cost: 12 to 40 ms to describe an image, and for each pair that of kernels/comparing/weighing.py. Where the image of
    the lake is the query image and the two agree on a part only, as much again for each image that votes on them.

    Args:
        found: All candidates; rows ascend.
        scored: (m,) the prior of each, and whether it is to be compared.
    """
    ids = stored.image_ids(found.rows)
    weigher, weights = _Weigher(query, found, scored[0], stored, how), Weights(len(found))
    nearest_first = np.lexsort((ids, -found.similarity))
    of_query = weigher.weigh_at_lake(nearest_first[scored[1][nearest_first]], weights)
    near = nearest_first[np.nan_to_num(found.similarity[nearest_first]) >= NEIGHBOUR_SIMILARITY][:NEIGHBOURS]
    for start in range(0, len(of_query), MAX_CANDIDATES):
        part = of_query[start : start + MAX_CANDIDATES]
        weights.add(part, weigher.as_query(part, np.setdiff1d(near, part)), of_query=True)
    return weights


class _Weigher:
    """Compares thumbnails with that of one image that is looked up."""

    def __init__(self, query: Query, found: Candidates, prior: Float64, stored: Stored, how: Weighing) -> None:
        self._query, self._found, self._prior, self._stored, self._how = query, found, prior, stored, how
        self._own, self._n_votes = Thumbnail(query.thumbnail), 0

    def weigh_at_lake(self, doubtful: Int64, weights: Weights) -> Int64:
        """Add those whose query image is that of the lake; returns the others, in their order.

        Of what was added since the run the image that is looked up is the query image, too: what will be beside it
        nobody knows yet.
        """
        keys, left = self._stored.content_keys(self._found.rows), []
        for k in doubtful.tolist():
            at_query = is_query(self._query.content_key, int(keys[k])) or self._n_votes >= self._how.most_votes
            beside = None if at_query else self._stored.beside(int(self._found.rows[k]))
            if beside is None:
                left.append(k)
            else:
                weights.add(np.array([k]), self.as_candidate(k, beside), of_query=False)
        return np.array(left, np.int64)

    def as_query(self, part: Int64, near: Int64) -> Weighed:
        """Candidates and nearest images by their places in what was found."""
        thumbnails = self._thumbnails(self._found.rows[part])
        return self._weigh(self._own, thumbnails(), part, self._thumbnails(self._found.rows[near]), list)

    def as_candidate(self, k: int, beside: Beside) -> Weighed:
        """The image that is looked up is the candidate of one of the lake."""
        row, similarity = int(self._found.rows[k]), float(self._found.similarity[k])
        companions, neighbours = beside.voting_on(self._query.own_rows, similarity)
        voting = self._voting(neighbours), self._voting(companions)
        return self._weigh(self._stored.described(row), [self._own], np.array([k]), *voting)

    def _weigh(
        self, query: Thumbnail, candidates: list[Thumbnail], part: Int64, *voting: Callable[[], list[Thumbnail]]
    ) -> Weighed:
        cosine, bits = self._found.similarity[part].astype(np.float64), self._found.hamming_bits[part]
        scores = Scores(self._prior[part], bits, probability.is_sure(cosine, bits.astype(np.float64)))
        return weigh(query, candidates, scores, *voting, join_recoloured=self._how.join_recoloured)

    def _voting(self, rows: Int64) -> Callable[[], list[Thumbnail]]:
        def asked() -> list[Thumbnail]:
            self._n_votes += len(rows)
            return self._thumbnails(rows)()

        return asked

    def _thumbnails(self, rows: Int64) -> Callable[[], list[Thumbnail]]:
        return lambda: [self._stored.described(row) for row in rows.tolist()]


_WEIGHED = ("agreement", "contested", "covered_query", "covered_other", "changed", "two_sided")


def _columns(found: Weighed, place: int, of_query: bool) -> Facts:
    """What was measured of one pair, by the names of evidence, with `covered_query` and `covered_other`."""
    d = found.differences
    covered = (d.covered_a, d.covered_b) if of_query else (d.covered_b, d.covered_a)
    values: tuple[npt.NDArray[Any], ...] = (found.agreement, found.contested, *covered, d.changed, d.two_sided)
    row: Facts = {"n_inliers": int(found.n_inliers[place])}
    row |= {name: _or_none(float(v[place])) for name, v in zip(_WEIGHED, values, strict=True)}
    if row["agreement"] is None:
        row["contested"] = None
    [row["colour_change"]] = colours.changes(d.colour[place : place + 1])
    return row


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
