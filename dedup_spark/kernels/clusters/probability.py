"""How likely a pair is a copy: before its thumbnails were compared (the prior) and after.

Both are logistic functions of a few numbers, fitted with scikit-learn on pairs of edited photos of three kinds (five
plain edits; nineteen edits with memes, screenshots and overlays; families that share a frame, and one picture with
eighty copies), each kind weighted alike. What the thumbnails say does not depend on the model of the embeddings, so
that only the prior has a table by model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dedup_spark.kernels.clusters.evidence import MIN_MATES, StarEvidence

Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]

VERSION = "2026-11"
"""Names the numbers of this file in the tables; raise it with them."""


@dataclass(frozen=True)
class Prior:
    """logit = bias + cosine c + cosine_squared c^2 + normalised n: c the cosine, n as in density.py."""

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

_SILENT_LOGIT = -3.0
"""Added where one of the two has too little texture to be aligned with anything. Dark corners, plain walls and sky are
near each other without being copies: of the 15 likeliest of 2,500 pairs of different pieces of photos most were of that
kind. With this they need a cosine of about 0.93."""

_CUT_BY_TARGET = 0.85
"""Logit of the cut over logit of the precision asked for: 0.98 for 0.99. Measured, in clusters: pairs from 0.95 up gave
precision 0.991 on the hardest corpus (groups of up to 40 with half of their copies in frames) and 1.000 on the others,
from 0.985 up 0.996 and 1.000, for a loss of 0.1 to 1 point of recall."""

MIN_GROUP_PROBABILITY = 0.5
"""Two groups merge while the mean over their pairs is at least this: more likely copies than not."""


DOUBT_FROM = 0.01
"""Of pairs with a smaller prior, 1 in 150 was a copy: not worth a look, except beside a crowded image."""
CROWDED = 0.45
"""An image whose whole list of neighbours is nearer than this sits in a crowd (a frame), which hides its own copies
from the normalised similarity: its pairs are looked at down to the floor."""
SURE_SIMILARITY, SURE_HAMMING_BITS = 0.97, 4
"""A pair as near as this by both is a copy without a look."""
HASH_ONLY_LOSS = 1e-4
"""Of each differing bit, where only hashes speak: match.max_hamming_bits has decided already."""


def prior_of(model_id: str | None, fitted: tuple[float, ...] = ()) -> Prior | None:
    """The prior fitted to the lake (cluster.prior), else that of the model, else None: then cosines decide."""
    if fitted:
        return Prior(*fitted)
    return PRIORS.get((model_id or "").partition("/")[0])


def in_doubt(prior_probability: Floats, cosine: Floats, hamming_bits: Floats, crowded: Truths) -> Truths:
    """(m,) whether thumbnails should speak. `crowded`: one side is, or the pair is to be looked at in any case.

    A cosine that is not known is NaN. stages/cluster/evidence.py has the same rule as a Column.
    """
    near = (prior_probability >= DOUBT_FROM) | crowded
    return near & ~np.isnan(cosine) & ~((cosine >= SURE_SIMILARITY) & (hamming_bits <= SURE_HAMMING_BITS))


def prior(model: Prior, cosine: Floats, normalised: Floats) -> Floats:
    """(m,) probabilities from cosine and normalised similarity."""
    return _expit(model.bias + model.cosine * cosine + model.cosine_squared * cosine**2 + model.normalised * normalised)


def contested(star: StarEvidence) -> Floats:
    """(m,) share of the common content that is telling and differs."""
    return np.asarray(star.telling_share * (1.0 - np.nan_to_num(star.telling_agreement, nan=1.0)), np.float64)


def posterior(prior_probability: Floats, star: StarEvidence) -> Floats:
    """(m,) probabilities after the thumbnails were compared.

    Aligned pairs are judged by their content alone, or, with too few textured blocks in common, by the prior. Images
    without keypoints (plain sky) cannot be aligned with anything: there the prior is lowered, less than where two
    textured images do not fit.
    """
    agreement = np.nan_to_num(np.asarray(star.agreement, np.float64))
    rest = 1.0 - agreement
    against = contested(star)
    logit = (
        _BIAS
        + _AGREEMENT * agreement
        + _CONTESTED * against
        + _CONTESTED_OF_REST * np.where(agreement < 0.98, against / np.maximum(rest, 0.02), 0.0)
        + _UNSEEN_REST * np.where(star.n_mates < MIN_MATES, rest, 0.0)
    )
    known = np.clip(prior_probability, 1e-9, 1 - 1e-9)
    silent = np.where(star.n_inliers > 0, 0.0, _SILENT_LOGIT)
    unaligned = np.log(known / (1 - known)) + np.where(spoke(star), _NOT_ALIGNED_LOGIT, silent)
    return _expit(np.where(spoke(star) & (star.n_inliers > 0), logit, unaligned))


def spoke(star: StarEvidence) -> npt.NDArray[np.bool_]:
    """(m,) whether the thumbnails have anything to say: enough keypoints, and content in common where aligned."""
    return np.asarray((star.comparable > 0) & ~((star.n_inliers > 0) & np.isnan(star.agreement)))


def cut_for(target_precision: float) -> float:
    """The least probability that joins two images, for a precision of clusters between 0.5 and 1."""
    target = min(max(target_precision, 0.5), 1 - 1e-9)
    return float(_expit(np.array([_CUT_BY_TARGET * np.log(target / (1 - target))]))[0])


def _expit(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -40.0, 40.0))))
