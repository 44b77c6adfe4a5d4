"""How likely a pair is a copy: before its thumbnails were compared (the prior) and after (the posterior).

Both are logistic functions of a few numbers, fitted with scikit-learn on pairs of edited photos of three kinds (five
plain edits; nineteen edits with memes, screenshots and overlays; families that share a frame, and one picture with
eighty copies), each kind with the same weight. What the thumbnails say does not depend on the model of the embeddings,
so only the prior has numbers per model. What differs in content is weighed afterwards, by weighing.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dedup_spark.kernels.arrays import Bools, Float64, expect
from dedup_spark.kernels.comparing.verification import MIN_SUPPORTING, Verification

VERSION = "2026-11-28"
"""Names the numbers of this file in the tables; raise it with them."""


DENSITY_RANK = 16
"""How dense the neighbourhood of an image is, and how far a pair stands out of it.

A cosine of 0.7 is a copy in an empty neighbourhood and nothing special among two hundred pictures in one screenshot
frame. The normalised similarity is the cosine less the mean density of its two images; density is the cosine of an
image's 16th neighbour. Of the ranks tried, that one separated best where the cosine alone cannot decide: at cosine 0.3
to 0.4 it ranks a true pair above a false one with probability 0.97 (edits of 250 photos, distilled SSCD, 224 px),
against 0.94 at rank 32 and 0.91 at rank 64. It fails where more than 16 copies of one picture lie together: so it
orders the pairs for verification and never decides against a pair by itself.
"""


@dataclass(frozen=True)
class Prior:
    """Weights of a logistic function: logit = bias + cosine c + cosine_squared c^2 + normalised n.

    c is the cosine of the pair, n its normalised similarity (see DENSITY_RANK).
    """

    bias: float
    cosine: float
    cosine_squared: float
    normalised: float


PRIORS = {
    "sscd": Prior(-10.193, 27.767, -15.045, 3.973),
    "sscd_distilled": Prior(-10.193, 27.767, -15.045, 3.973),
}
"""By the name of the model: `model_id` up to its first slash."""

_BIAS, _AGREEMENT, _CONTESTED, _CONTESTED_OF_REST, _UNSEEN_REST = -1.66, 9.32, -4.23, -16.40, -6.78
_NOT_ALIGNED_LOGIT = -4.0
"""Added to the prior's logit where two textured thumbnails do not fit each other under any map."""

_NO_TEXTURE_LOGIT = -3.0
"""Added where one of the two has too little texture to be aligned with anything. Dark corners, plain walls and sky are
near each other without being copies: of the 15 likeliest of 2,500 pairs of different pieces of photos most were of that
kind. With this they need a cosine of about 0.93."""

_CUT_BY_TARGET = 0.85
"""Logit of the cut divided by the logit of the target precision: the cut is 0.98 for 0.99. Measured, in clusters: pairs
from 0.95 up gave precision 0.991 on the hardest corpus (groups of up to 40 with half of their copies in frames) and
1.000 on the others, from 0.985 up 0.996 and 1.000, for a loss of 0.1 to 1 point of recall."""

MIN_GROUP_PROBABILITY = 0.5
"""Two groups merge while the mean over their pairs is at least this: more likely copies than not."""


DOUBT_FROM = 0.01
"""Of pairs with a smaller prior, 1 in 150 was a copy: not worth the comparison, except where an image has a dense
neighbourhood."""
DENSE_SIMILARITY = 0.45
"""An image whose whole list of neighbours is nearer than this has a dense neighbourhood (a frame), which hides its
copies from the normalised similarity: its pairs are compared down to the floor."""
SURE_SIMILARITY, SURE_HAMMING_BITS = 0.97, 4
"""A pair as near as this by both is laid out alike: its thumbnails are compared without keypoints."""
HASH_ONLY_LOSS = 1e-4
"""Of probability, per differing bit, where only hashes are known: match.max_hamming_bits has decided already."""


def prior_of(model_id: str | None, fitted: tuple[float, ...] = ()) -> Prior | None:
    """The prior fitted to the lake (cluster.prior), else that of the model, else None: then cosines decide."""
    if fitted:
        return Prior(*fitted)
    return PRIORS.get((model_id or "").partition("/")[0])


def in_doubt(prior_probability: Float64, cosine: Float64, is_dense: Bools) -> Bools:
    """(m,) whether thumbnails should be compared.

    `is_dense`: the neighbourhood of one of the two is dense, or the pair is to be compared in any case.
    A cosine that is not known is NaN. stages/cluster/evidence.py has the same rule as a Column.
    """
    return np.asarray(((prior_probability >= DOUBT_FROM) | is_dense) & ~np.isnan(cosine))


def is_sure(cosine: Float64, hamming_bits: Float64) -> Bools:
    """(m,) whether cosine and pHash say that two images are laid out alike, so that no keypoints are needed."""
    return np.asarray((cosine >= SURE_SIMILARITY) & (hamming_bits <= SURE_HAMMING_BITS))


def prior(model: Prior, cosine: Float64, normalised: Float64) -> Float64:
    """(m,) probabilities from cosine and normalised similarity."""
    expect(cosine=(cosine, "m", np.floating), normalised=(normalised, "m", np.floating))
    return expit(model.bias + model.cosine * cosine + model.cosine_squared * cosine**2 + model.normalised * normalised)


def contested(found: Verification) -> Float64:
    """(m,) share of the common content that is telling (see verification.py) and differs."""
    return np.asarray(found.telling_share * (1.0 - np.nan_to_num(found.telling_agreement, nan=1.0)), np.float64)


def posterior(prior_probability: Float64, found: Verification) -> Float64:
    """(m,) probabilities after the thumbnails were compared.

    Aligned pairs are judged by their content alone, or, with too few textured blocks in common, by the prior. Images
    without keypoints (plain sky) cannot be aligned with anything: there the prior is lowered, less than where two
    textured images do not fit.
    """
    expect(prior=(prior_probability, "m", np.floating), n_inliers=(found.n_inliers, "m", np.float32))
    agreement = np.nan_to_num(np.asarray(found.agreement, np.float64))
    rest = 1.0 - agreement
    against = contested(found)
    aligned = (
        _BIAS
        + _AGREEMENT * agreement
        + _CONTESTED * against
        + _CONTESTED_OF_REST * np.where(agreement < 0.98, against / np.maximum(rest, 0.02), 0.0)
        + _UNSEEN_REST * np.where(found.n_supporting < MIN_SUPPORTING, rest, 0.0)
    )
    no_texture = np.where(found.n_inliers > 0, 0.0, _NO_TEXTURE_LOGIT)
    unaligned = logit(prior_probability) + np.where(is_conclusive(found), _NOT_ALIGNED_LOGIT, no_texture)
    return expit(np.where(is_conclusive(found) & (found.n_inliers > 0), aligned, unaligned))


def logit_of_agreement(agreement: Float64) -> Float64:
    """(m,) the logit of `posterior` where no supporting image votes and nothing is telling."""
    return np.asarray(_BIAS + _AGREEMENT * agreement + _UNSEEN_REST * (1.0 - agreement), np.float64)


def is_conclusive(found: Verification) -> Bools:
    """(m,) whether the thumbnails can decide: enough keypoints and, where aligned, content in common."""
    return np.asarray((found.comparable > 0) & ~((found.n_inliers > 0) & np.isnan(found.agreement)))


def cut_for(target_precision: float) -> float:
    """The least probability that joins two images, for a precision of clusters between 0.5 and 1."""
    return float(expit(_CUT_BY_TARGET * logit(np.array([max(target_precision, 0.5)])))[0])


def expit(x: Float64) -> Float64:
    """The logistic function, whose inverse is the logit."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -40.0, 40.0))))


def logit(p: Float64) -> Float64:
    """log(p / (1 - p)) of probabilities, which are kept 1e-9 away from 0 and 1."""
    known = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(known / (1 - known)), np.float64)
