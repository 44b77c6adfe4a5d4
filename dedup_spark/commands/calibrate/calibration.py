"""From scores of labelled pairs to a probability, an operating point, and how sure its precision and recall are.

Labelled pairs come from edited copies of a sample of images: a copy with its original is a positive, a copy with
another image is a negative. The pairs of one image are right or wrong together (a picture that is hard is hard in each
of its copies), so the intervals count images, not pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from dedup_spark.kernels.arrays import Bools, Float64, Int64

_MAX_STEPS = 50


@dataclass(frozen=True)
class Logistic:
    """P(copy) = expit(bias + weights . features), in the units of the features."""

    weights: tuple[float, ...]
    bias: float

    def probability(self, features: Float64) -> Float64:
        """(n, k) features to (n,) probabilities."""
        return expit(features @ np.asarray(self.weights) + self.bias)


def fit_logistic(features: Float64, is_copy: Bools, start: Logistic | None = None, pull: float = 1.0) -> Logistic:
    """Logistic regression pulled towards a known model, by Newton's method on standardised features.

    Args:
        features: (n, k) finite.
        is_copy: (n,).
        start: The model to stay near where the pairs decide little; None: weights 0.
        pull: Ridge penalty on the differences of standardised weights and bias; 1 weighs about as much as one pair in
            doubt; pairs that are clear either way weigh nearly nothing.

    Cost: O(n k^2) per iteration, about ten iterations.
    Raises:
        ValueError: All pairs are of one kind, and there is no model to stay near.
    """
    if start is None and (is_copy.all() or not is_copy.any()):
        raise ValueError("found pairs of one kind only; the fit needs copies and negatives")
    centre, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    x = np.column_stack([np.ones(len(features)), (features - centre) / spread])
    known = np.zeros(x.shape[1])
    if start is not None:
        weights = np.asarray(start.weights)
        known = np.r_[start.bias + weights @ centre, weights * spread]
    penalty = pull * np.eye(len(known))
    if start is None:
        penalty[0, 0] = 1e-9  # nothing is known of the bias
    beta = known.copy()
    for _ in range(_MAX_STEPS):
        p = expit(x @ beta)
        gradient = x.T @ (is_copy - p) - penalty @ (beta - known)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + penalty
        step = np.linalg.solve(hessian, gradient)
        before = _loss(x, is_copy, beta, beta - known, penalty)
        while _loss(x, is_copy, beta + step, beta + step - known, penalty) > before:
            step = step / 2  # far from the optimum a full step overshoots; the loss is convex
            if np.abs(step).max() < 1e-9:
                break
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    weights = beta[1:] / spread
    return Logistic(tuple(float(w) for w in weights), float(beta[0] - weights @ centre))


def _loss(x: Float64, is_copy: Bools, beta: Float64, apart: Float64, penalty: Float64) -> float:
    logit = x @ beta
    return float(np.sum(np.logaddexp(0.0, logit) - is_copy * logit) + apart @ penalty @ apart / 2)


@dataclass(frozen=True)
class Share:
    """A share, `n_hits` of `n_pairs`, with the ends of its interval of 95 %, which counts `n_images` images."""

    value: float
    low: float
    high: float
    n_images: int
    n_hits: int
    n_pairs: int


def share_of(hits: Bools, image: Int64) -> Share:
    """Share of true `hits` (n,), with Wilson's interval, in which images, not pairs, are the independent trials.

    Wilson (1927) keeps the interval inside 0..1 and wide where a small sample shows no miss. To count all pairs of one
    image as a single trial is conservative: it is right when they are right or wrong together, else too wide.
    """
    if not len(hits):
        return Share(1.0, 0.0, 1.0, 0, 0, 0)
    n = len(np.unique(image))
    value = float(hits.mean())
    low, high = wilson_interval(value, n)
    return Share(value, low, high, n, int(hits.sum()), len(hits))


def wilson_interval(share: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Ends of the interval of a share observed in n trials."""
    z = float(norm.ppf(0.5 + confidence / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def choose_cut(score: Float64, is_copy: Bools, target_precision: float) -> float:
    """The smallest cut above which the finite scores reach the precision; infinite when there is none.

    The cut lies midway between two scores that occur, so that rounding of stored scores cannot move a pair over it.
    """
    finite = np.isfinite(score)
    order = np.argsort(-score[finite], kind="stable")
    descending, right = score[finite][order], np.cumsum(is_copy[finite][order])
    if not len(descending):
        return math.inf
    precision = right / np.arange(1, len(descending) + 1)
    last_of_ties = np.r_[descending[1:] != descending[:-1], True]
    reached = np.flatnonzero((precision >= target_precision) & last_of_ties)
    if not len(reached):
        return math.inf
    i = int(reached[-1])
    return float((descending[i] + descending[i + 1]) / 2) if i + 1 < len(descending) else float(descending[i])


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs of an edited copy with an image, each with its label. All arrays are (n,).

    `image` is the image that the copy was made of, `edit` the number of its edit, or negative where no edit is known.
    `is_copy` is true for the one pair of each copy with that image, and false for negatives. A copy whose original was
    no candidate has score -inf.
    """

    image: Int64
    edit: Int64
    is_copy: Bools
    score: Float64

    def of_images(self, chosen: Bools) -> LabelledPairs:
        """The pairs of those images; `chosen` is (n,) like the pairs."""
        return LabelledPairs(self.image[chosen], self.edit[chosen], self.is_copy[chosen], self.score[chosen])

    def halves(self) -> tuple[LabelledPairs, LabelledPairs]:
        """One half of the images to fit on, the other to measure on, each with all its pairs."""
        fit = first_half(self.image)
        return self.of_images(fit), self.of_images(~fit)


def first_half(image: Int64) -> Bools:
    """(n,) whether an image is in the half to fit on, by a bit of its id, so that every table of pairs splits alike.

    The top bit of the product with the golden ratio (Knuth's multiplicative hash): ids need not be random.
    """
    mixed = image.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(63)).astype(bool)


@dataclass(frozen=True)
class OperatingPoint:
    """A cut of the score, with its precision and recall on images that it was not chosen on."""

    cut: float
    precision: Share
    recall: Share
    edit_recall: dict[int, Share]


def operating_point(pairs: LabelledPairs, target_precision: float, lowest: float) -> OperatingPoint:
    """Choose the cut on one half of the images, measure precision and recall on the other.

    The cut is not below `lowest`: a sample without hard negatives must not let everything through.
    """
    fit, measure = pairs.halves()
    return measured(measure, max(lowest, choose_cut(fit.score, fit.is_copy, target_precision)))


def measured(pairs: LabelledPairs, cut: float) -> OperatingPoint:
    """Precision and recall of the pairs that reach `cut`."""
    found, copies = pairs.score >= cut, pairs.is_copy
    by_edit = {
        int(edit): share_of(found[mine], pairs.image[mine])
        for edit in np.unique(pairs.edit[pairs.edit >= 0])
        if (mine := copies & (pairs.edit == edit)).any()
    }
    return OperatingPoint(
        cut, share_of(copies[found], pairs.image[found]), share_of(found[copies], pairs.image[copies]), by_edit
    )
