"""The probability that thumbnails give: keypoints align two pictures, or they lie on each other as they are; then what
differs in content counts against them.

A query image is compared with its candidates. Where cosine and pHash are sure already, that keypoints be found is not
needed: the two are laid over each other as they are, which costs half. There slides, letters and shirts of one
template are found, whose embeddings and pHashes are as near as those of copies.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dedup_spark.kernels.arrays import Bools, Float32, Float64, Int64, UInt8, expect
from dedup_spark.kernels.comparing import colours, content, geometry, probability, verification
from dedup_spark.kernels.comparing.content import Difference, Differences, Picture
from dedup_spark.kernels.comparing.geometry import Described
from dedup_spark.kernels.comparing.keypoints import Keypoints, find_keypoints
from dedup_spark.kernels.comparing.verification import Verification

_WORTH = 0.05
"""Aligned pairs that are less likely copies are not compared further: a difference could only lower that."""

_MANY_INLIERS = 25
"""With fewer the map may be off by some pixels at the far end."""

_UPRIGHT, _UPRIGHT_OF_PRIOR, _MOST_OF_PRIOR = 6.0, 0.25, 6.0
"""Logit where two whole pictures fit each other as they are, and what the logit of the prior adds to it."""
_TEMPLATE, _FREE_TEMPLATE = 110.0, 0.06
_ONE_SIDED, _FREE_ONE_SIDED = 20.0, 0.02
"""Taken from the logit per unit of the difference beyond what is free. Of 469 pairs of look-alikes 97 % have a template
difference above 0.09; of 660 pairs of a drawn picture and its edited copy 95 % have at most 0.05, of 400 pairs of
edited photos 99 % at most 0.064 (benchmarks/lookalikes.py without shirts and flags, which colours tell apart;
corpora.py)."""
_EXPLAINED = 0.85
_RECOLOURED = 9.0
_FAINT_AND_TONED = 4.0
"""Where little is to be seen, colours that differ are much of it: other gradients, other skies."""
_SMALL_PX, _DRAWN_GROUND, _SMALL_LOGIT = 160.0, 0.2, 3.0
"""In fewer pixels written and drawn content cannot be told apart: such a pair stays below every usual cut, unless
embeddings and pHashes agree and no difference at all can be measured."""
_EQUAL_BITS, _EQUAL_FIT, _SMALL_PRIOR = 3, 0.95, 0.95


_RICH_BYTES = 15_000
"""A thumbnail has about 22 bytes for each keypoint. With more than some 650, all their descriptors take longer than
scaling the picture twice."""


class Thumbnail:
    """A stored thumbnail, decoded and described when that is first asked for.

    `found` are its keypoints, where they were looked for before.
    """

    def __init__(self, jpeg: bytes, found: Keypoints | None = None) -> None:
        self._jpeg, self._found = jpeg, found

    @functools.cached_property
    def picture(self) -> Picture:
        return content.picture(self._jpeg)

    @functools.cached_property
    def described(self) -> Described:
        return geometry.described(self.picture.grey, self._found or _keypoints(self._jpeg, self.picture.grey))


def keypoints_of(jpeg: bytes) -> Keypoints:
    """Of a stored thumbnail; about 20 ms at 256 px on one core. Raises ValueError for no image."""
    return _keypoints(jpeg, content.grey_of(content.decoded(jpeg)))


def _keypoints(jpeg: bytes, grey: UInt8) -> Keypoints:
    return find_keypoints(grey, is_rich=len(jpeg) > _RICH_BYTES)


@dataclass(frozen=True, slots=True)
class Scores:
    """What is known of each candidate without its thumbnail, all (m,): `prior` that it is a copy, `hamming_bits` of the
    pHashes, and `is_sure`, whether cosine and pHash leave no doubt."""

    prior: Float64
    hamming_bits: Int64
    is_sure: Bools


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the thumbnails say of each candidate, all (m,). `a` of `differences` is the query image."""

    n_inliers: Float32
    agreement: Float32
    contested: Float64
    differences: Differences
    is_conclusive: Bools
    copy_probability: Float64


def weigh(
    query: Thumbnail,
    candidates: Sequence[Thumbnail],
    scores: Scores,
    neighbours: Callable[[], list[Thumbnail]],
    companions: Callable[[], list[Thumbnail]] = list,
    *,
    join_recoloured: bool = False,
) -> Weighed:
    """Compare each candidate with the query image. `neighbours` and `companions`, of which none is sure, are as in
    `verification.verify_candidates`.

    Cost: 5 ms for a pair that is sure, 2 ms for strangers, 6 ms for others, and 20 ms to describe an image, once.
    """
    expect(prior=(scores.prior, "m", np.float64), is_sure=(scores.is_sure, "m", np.bool_))
    found: list[Difference | None] = [
        content.compare_upright(query.picture, c.picture, flips=False) if sure else None
        for c, sure in zip(candidates, scores.is_sure, strict=True)
    ]
    rest = [k for k, one in enumerate(found) if one is None]
    verified = _verified(query, [candidates[k] for k in rest], neighbours, companions)
    likely = probability.posterior(scores.prior[rest], verified)
    upright = np.array([one is not None for one in found], np.bool_)
    for place, k in enumerate(rest):
        found[k], upright[k] = _compared(query.picture, candidates[k].picture, verified, place, float(likely[place]))
    return _together(scores, rest, verified, likely, Differences.of(found), upright, join_recoloured)


def _verified(query: Thumbnail, rest: list[Thumbnail], *voting: Callable[[], list[Thumbnail]]) -> Verification:
    if not rest:
        return verification.of_no_candidates()
    described = (functools.partial(_described, images) for images in voting)
    return verification.verify_candidates(query.described, _described(lambda: rest), *described)


def _described(images: Callable[[], list[Thumbnail]]) -> list[Described]:
    return [image.described for image in images()]


def _compared(
    query: Picture, candidate: Picture, verified: Verification, k: int, likely: float
) -> tuple[Difference | None, bool]:
    """The difference, and whether the two were laid over each other as they are: where keypoints give no map, or few
    keypoints one that fits less well."""
    if verified.n_inliers[k] == 0 or verified.comparable[k] == 0 or np.isnan(verified.agreement[k]):
        upright = content.compare_upright(query, candidate, flips=True)
        return upright, upright is not None
    found = content.compare(query, candidate, verified.matrix[k]) if likely >= _WORTH else None
    if verified.n_inliers[k] >= _MANY_INLIERS or (found and found.template <= _FREE_TEMPLATE):
        return found, False
    upright = content.compare_upright(query, candidate, flips=True)
    fits_better = upright is not None and (found is None or upright.template < found.template)
    return (upright, True) if fits_better else (found, False)


def _together(
    scores: Scores, rest: list[int], verified: Verification, likely: Float64, found: Differences, upright: Bools,
    join_recoloured: bool,
) -> Weighed:  # fmt: skip
    m = len(scores.prior)
    n_inliers, contested, p = np.zeros(m, np.float32), np.zeros(m), scores.prior.copy()
    agreement, conclusive = np.full(m, np.nan, np.float32), np.zeros(m, bool)
    n_inliers[rest], agreement[rest], p[rest] = verified.n_inliers, verified.agreement, likely
    contested[rest] = probability.contested(verified)
    conclusive[rest] = probability.is_conclusive(verified)
    agreement = np.where(upright, found.agreement, agreement).astype(np.float32)
    n_inliers[upright] = 0
    fits, aligned = _upright_logit(scores, found, p), probability.logit(p)
    base = np.where(upright | (_is_equal(scores, found) & (fits > aligned)), fits, aligned)
    explained = np.zeros(m)
    explained[rest] = verified.explained
    logit = np.where(found.compared, base - against(found, explained, join_recoloured=join_recoloured), base)
    logit = np.where(_is_too_small(scores, found), np.minimum(logit, _SMALL_LOGIT), logit)
    return Weighed(n_inliers, agreement, contested, found, conclusive | found.compared, probability.expit(logit))


def _upright_logit(scores: Scores, found: Differences, p: Float64) -> Float64:
    """Of pictures laid over each other as they are; with too little to be seen the prior stands, if colours agree."""
    prior = probability.logit(scores.prior)
    fits = _UPRIGHT + _UPRIGHT_OF_PRIOR * np.clip(prior, -_MOST_OF_PRIOR, _MOST_OF_PRIOR)
    fits = np.where(found.is_faint > 0, fits, np.minimum(fits, probability.logit_of_agreement(found.agreement)))
    unseen = np.where(found.colour == colours.NONE, prior, probability.logit(p))
    return np.where(np.isnan(found.fit), unseen, fits)


def against(found: Differences, explained: Float64, *, join_recoloured: bool) -> Float64:
    """(m,) what the differences in content take from the logit; nan where the two were not compared.

    `explained` (m,) is the share of the differences that supporting images explain by an overlay.
    """
    template = _TEMPLATE * np.maximum(found.template - _FREE_TEMPLATE, 0.0)
    one_sided = _ONE_SIDED * np.maximum(found.one_sided - _FREE_ONE_SIDED, 0.0)
    recoloured = np.where(found.colour == colours.HUE, 0.0 if join_recoloured else _RECOLOURED, 0.0)
    faint = np.where((found.is_faint > 0) & (found.colour == colours.TONE), _FAINT_AND_TONED, 0.0)
    exchanged = (template + one_sided) * (1 - _EXPLAINED * explained)
    return np.asarray(exchanged + recoloured + faint, np.float64)


def _is_equal(scores: Scores, found: Differences) -> Bools:
    """Where pHashes agree and no difference at all can be measured: blocks around the few keypoints of a logo may still
    disagree, by the noise of a JPEG."""
    return np.asarray((scores.hamming_bits <= _EQUAL_BITS) & (found.template == 0) & (found.fit >= _EQUAL_FIT))


def _is_too_small(scores: Scores, found: Differences) -> Bools:
    equal = _is_equal(scores, found) & (scores.prior >= _SMALL_PRIOR)
    return np.asarray((found.side_px < _SMALL_PX) & (found.ground > _DRAWN_GROUND) & ~equal)
