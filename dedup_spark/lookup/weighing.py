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
from dedup_spark.kernels.clusters import colours, probability
from dedup_spark.kernels.clusters.query_images import content_key, is_query
from dedup_spark.kernels.clusters.weighing import Scores, Thumbnail, Weighed, weigh
from dedup_spark.lookup.proposing import Candidates
from dedup_spark.lookup.run_pairs import MAX_CANDIDATES, NEIGHBOUR_SIMILARITY, NEIGHBOURS, Beside
from dedup_spark.vocabulary import ColourChange

Facts = dict[str, Any]

_COLOUR_CHANGES = {colours.NONE: ColourChange.NONE, colours.TONE: ColourChange.TONE, colours.HUE: ColourChange.HUE}


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


def weigh_pairs(
    query: Query, found: Candidates, scored: tuple[Float64, Bools], stored: Stored, *, join_recoloured: bool
) -> Weights:
    """Compare the thumbnails of some candidates with that of the query.

    Cost: 20 ms to describe an image, 11 ms a pair. Where the image of the lake is the query image and the two are
    aligned, 6 ms more for each image that votes on them.

    Args:
        found: All candidates; rows ascend.
        scored: (m,) the prior of each, and whether it is to be compared.
    """
    ids, keys = stored.image_ids(found.rows), stored.content_keys(found.rows)
    weigher = _Weigher(query, found, scored[0], stored, join_recoloured)
    weights, nearest_first = Weights(len(found)), np.lexsort((ids, -found.similarity))
    of_query, of_lake = weigher.by_query_image(nearest_first[scored[1][nearest_first]], keys)
    near = nearest_first[np.nan_to_num(found.similarity[nearest_first]) >= NEIGHBOUR_SIMILARITY][:NEIGHBOURS]
    for start in range(0, len(of_query), MAX_CANDIDATES):
        part = of_query[start : start + MAX_CANDIDATES]
        weights.add(part, weigher.as_query(part, np.setdiff1d(near, part)), of_query=True)
    for k, beside in of_lake:
        weights.add(np.array([k]), weigher.as_candidate(k, beside), of_query=False)
    return weights


class _Weigher:
    """Compares thumbnails with that of one image that is looked up."""

    def __init__(self, query: Query, found: Candidates, prior: Float64, stored: Stored, join_recoloured: bool) -> None:
        self._query, self._found, self._prior, self._stored = query, found, prior, stored
        self._own, self._join_recoloured = Thumbnail(query.thumbnail), join_recoloured

    def by_query_image(self, doubtful: Int64, keys: Int64) -> tuple[Int64, list[tuple[int, Beside]]]:
        """Those of which the image that is looked up is the query image, and the others with what was beside them.

        It is that of an image that was added since the run, too: with what that will be compared nobody knows.
        """
        of_query, of_lake = [], []
        for k in doubtful.tolist():
            is_own = is_query(self._query.content_key, int(keys[k]))
            beside = None if is_own else self._stored.beside(int(self._found.rows[k]))
            if beside is None:
                of_query.append(k)
            else:
                of_lake.append((k, beside))
        return np.array(of_query, np.int64), of_lake

    def as_query(self, part: Int64, near: Int64) -> Weighed:
        """Candidates and nearest images by their places in what was found."""
        thumbnails = self._thumbnails(self._found.rows[part])
        return self._weigh(self._own, thumbnails(), part, self._thumbnails(self._found.rows[near]), list)

    def as_candidate(self, k: int, beside: Beside) -> Weighed:
        """The image that is looked up is the candidate of one of the lake."""
        row, similarity = int(self._found.rows[k]), float(self._found.similarity[k])
        companions, neighbours = beside.voting_on(self._query.own_rows, similarity)
        voting = self._thumbnails(neighbours), self._thumbnails(companions)
        return self._weigh(self._stored.described(row), [self._own], np.array([k]), *voting)

    def _weigh(
        self, query: Thumbnail, candidates: list[Thumbnail], part: Int64, *voting: Callable[[], list[Thumbnail]]
    ) -> Weighed:
        cosine, bits = self._found.similarity[part].astype(np.float64), self._found.hamming_bits[part]
        scores = Scores(self._prior[part], bits, probability.is_sure(cosine, bits.astype(np.float64)))
        return weigh(query, candidates, scores, *voting, join_recoloured=self._join_recoloured)

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
    colour = d.colour[place]
    row["colour_change"] = None if np.isnan(colour) else str(_COLOUR_CHANGES[int(colour)])
    return row


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
