"""Which candidates of a query image are copies of it: spatial verification of thumbnails, with supporting images.

Two different pictures in one screenshot frame align well and agree on most of their area; so does a true copy under an
emoji. What tells them apart is the supporting images: other images that share what the two have in common. Where a copy
carries an overlay, the supporting images still show what the other one shows there. Where a template holds different
pictures, the supporting images agree with neither. Such blocks are telling: they decide alone, however small they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from dedup_spark.kernels.arrays import Bools, Float32, Float64
from dedup_spark.kernels.comparing import geometry
from dedup_spark.kernels.comparing.geometry import Described

MIN_SUPPORTING = 2
_ENOUGH_SUPPORTING = 5
_CLEAR_AGREEMENT = 0.97
"""More neighbours are compared where a pair agrees on less than this and has fewer supporting images than that."""
_MIN_KEYPOINTS = 30
_MIN_COMMON_BLOCKS = 6
_SUPPORTING_AGREEMENT = 0.3
"""A frame may be a third of the picture: images that agree on that much with both support, if they are no copies."""
_MAX_SUPPORT = 0.4
"""A block is telling when at most this share of the supporting images shows there what one of the two images shows. In
true groups of 60 edited copies hardly any block fell below 0.3; in 60 different pictures in one frame all blocks of the
inner photo did."""
_MIN_TELLING_BLOCKS = 3
_ALONE, _MOST = 0.1, 0.6
"""At an overlay at most the first share of the supporting images shows what the one shows, and at least the second what
the other one shows."""
_NO_MATRIX = np.full((2, 3), np.nan)


@dataclass(frozen=True, slots=True)
class Verification:
    """One value for each candidate of a query image; all (m,) float32.

    `n_inliers` matches that fit one affine map (0: not aligned); `agreement` share of the textured blocks common to
    both that agree (nan: not aligned, or fewer than 6 such blocks); `telling_share` of those blocks are telling;
    `telling_agreement` share of them that agree (nan: fewer than 3 of them); `overlap` share of the query image's
    blocks that the candidate covers; `n_supporting` other images that share what the two have in common; `comparable` 0
    where one of the two has too few keypoints to be aligned with anything, else 1. `matrix` (m, 2, 3) float64, nan: not
    aligned, takes points of the query image to the candidate. `explained` share of the blocks that differ in which one
    of the two is alone, as under an overlay: no supporting image shows what it shows, and most show what the other one
    shows.
    """

    n_inliers: Float32
    agreement: Float32
    telling_share: Float32
    telling_agreement: Float32
    overlap: Float32
    n_supporting: Float32
    comparable: Float32
    explained: Float32
    matrix: Float64

    def first(self, n: int) -> Verification:
        """Those of the first `n` candidates."""
        return Verification(*(getattr(self, field.name)[:n] for field in fields(self)))


def verify_candidates(
    query: Described,
    candidates: list[Described],
    neighbours: Callable[[], list[Described]],
    companions: Callable[[], list[Described]] = list,
) -> Verification:
    """Align every candidate with the query image, compare by blocks, and let the others vote where the two differ.

    Cost: about 6 ms and 200 KB per image on one core.

    Args:
        neighbours: Further images that may resemble the query image; called only where too few of the candidates
            support a pair.
        companions: Candidates that are asked nothing of: they vote, and the result of the others is as if all were
            candidates. Called only where a candidate is aligned and does not agree everywhere: nobody's vote counts
            elsewhere, as votes are on blocks that differ.
    """
    aligned = _AlignedImages(query)
    aligned.add(candidates)
    found = _measure(aligned, len(candidates))
    if (found.agreement < 1).any():
        aligned.add(companions())
    n = len(aligned.row)
    found = _measure(aligned, n) if n > len(candidates) else found
    unsure = (found.agreement < _CLEAR_AGREEMENT) & (found.n_supporting < _ENOUGH_SUPPORTING)
    if unsure.any():
        aligned.add(neighbours())
        found = _measure(aligned, n)
    return found.first(len(candidates))


def of_no_candidates() -> Verification:
    """Empty columns."""
    return _unknown(np.empty((0, 2, 3)))


def _unknown(matrix: Float64) -> Verification:
    """Nothing known yet of the candidates under these maps."""

    def of(value: float) -> Float32:
        return np.full(len(matrix), value, np.float32)

    return Verification(of(0), of(np.nan), of(0), of(np.nan), of(0), of(0), of(0), of(0), matrix)


class _AlignedImages:
    """Images laid over one query image; row 0 is the query image itself."""

    def __init__(self, query: Described) -> None:
        self.query = query
        own = geometry.centred_blocks(query.grey)
        self.blocks = [own]
        self.covered = [np.ones(len(own), bool)]
        self.n_inliers: list[int] = []
        self.row: list[int] = []
        self.comparable: list[bool] = []
        self.matrix: list[Float64] = []

    def add(self, images: list[Described]) -> None:
        """Align more images with the query image and keep what they show there."""
        for image in images:
            alignment = geometry.align(self.query, image)
            self.n_inliers.append(alignment.n_inliers)
            self.comparable.append(min(len(self.query.points), len(image.points)) >= _MIN_KEYPOINTS)
            self.row.append(len(self.blocks) if alignment.matrix is not None else 0)
            self.matrix.append(_NO_MATRIX if alignment.matrix is None else alignment.matrix)
            if alignment.matrix is not None:
                blocks, covered = geometry.overlay(self.query, image, alignment.matrix)
                self.blocks.append(blocks)
                self.covered.append(covered)


def _measure(aligned: _AlignedImages, n_candidates: int) -> Verification:
    matrix = np.array(aligned.matrix[:n_candidates], np.float64).reshape(-1, 2, 3)
    found = _unknown(matrix)
    found.n_inliers[:] = aligned.n_inliers[:n_candidates]
    found.comparable[:] = aligned.comparable[:n_candidates]
    covered = np.stack(aligned.covered, axis=1)
    agree, counted = _compare(np.stack(aligned.blocks, axis=1), covered)
    total = counted.sum(axis=0)
    share = (agree & counted).sum(axis=0) / np.maximum(total, 1)
    share[total < _MIN_COMMON_BLOCKS] = np.nan
    supports = share >= _SUPPORTING_AGREEMENT
    for k, row in enumerate(aligned.row[:n_candidates]):
        if row:
            found.agreement[k] = share[0, row]
            found.overlap[k] = covered[:, row].mean()
            _vote(found, k, row, supports, agree, counted, covered)
    return found


def _compare(blocks: Float32, covered: Bools) -> tuple[Bools, Bools]:
    """For each block and two images (blocks, n, n): do they agree there, and does the block count?

    They agree when they correlate, or differ by less than texture does (two blocks of plain sky). A block counts
    when both images cover it and one of them has texture.
    """
    norm = np.linalg.norm(blocks, axis=2)
    product = blocks @ blocks.swapaxes(1, 2)
    correlated = product > geometry.MIN_CORRELATION * norm[:, :, None] * norm[:, None, :] + 1e-3
    flat = geometry.MIN_TEXTURE * geometry.BLOCK_PX
    equal = norm[:, :, None] ** 2 + norm[:, None, :] ** 2 - 2 * product < flat**2
    textured = norm >= flat
    both = covered[:, :, None] & covered[:, None, :]
    return (correlated | equal) & both, both & (textured[:, :, None] | textured[:, None, :])


def _vote(
    found: Verification, candidate: int, row: int, supports: Bools, agree: Bools, counted: Bools, covered: Bools
) -> None:
    """Fill in the telling blocks between the query image and the image of this row."""
    supporting = supports[0] & supports[row]
    supporting[[0, row]] = False
    found.n_supporting[candidate] = supporting.sum()
    if supporting.sum() < MIN_SUPPORTING:
        return
    found.explained[candidate] = _explained(agree, counted[:, 0, row], row, supporting, covered)
    shows = (agree[:, 0, supporting] | agree[:, row, supporting]).sum(axis=1)
    n_seeing = covered[:, supporting].sum(axis=1)
    among = agree[:, supporting][:, :, supporting].sum(axis=(1, 2)) - n_seeing  # each agrees with itself
    differ = among <= _MAX_SUPPORT * n_seeing * (n_seeing - 1)
    telling = counted[:, 0, row] & (n_seeing >= MIN_SUPPORTING) & (shows <= _MAX_SUPPORT * n_seeing) & differ
    n_telling = telling.sum()
    found.telling_share[candidate] = n_telling / counted[:, 0, row].sum()
    if n_telling >= _MIN_TELLING_BLOCKS:
        found.telling_agreement[candidate] = agree[telling, 0, row].mean()


def _explained(agree: Bools, counted: Bools, row: int, supporting: Bools, covered: Bools) -> float:
    """See Verification. Copies of one picture among pictures of a template are not alone: its other copies show it."""
    differ = counted & ~agree[:, 0, row]
    n_seeing = np.maximum(covered[differ][:, supporting].sum(axis=1), 1)
    as_query, as_candidate = (agree[differ, k][:, supporting].sum(axis=1) / n_seeing for k in (0, row))
    alone = np.minimum(as_query, as_candidate) <= _ALONE
    return float((alone & (np.maximum(as_query, as_candidate) >= _MOST)).sum() / max(1, differ.sum()))
