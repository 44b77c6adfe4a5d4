"""Whether candidates are copies, by the prior, the thumbnails and the bounds that the step cluster has for pairs.

What is a Column there is arrays here; the kernels are the same: `kernels/comparing/probability.py`, `weighing.py` and
`relations.py`. What cannot be known of one image alone is left out: whether a chain of pairs would be cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dedup_spark.config import Config
from dedup_spark.kernels.arrays import Bools, Float32, Float64, Int64
from dedup_spark.kernels.comparing import layout, probability, relations
from dedup_spark.kernels.comparing.probability import Prior
from dedup_spark.lookup.proposing import Candidates
from dedup_spark.lookup.weighing import Query, Stored, Weighing, weigh_pairs
from dedup_spark.vocabulary import DecidedBy, Guard

Facts = dict[str, Any]

MOST_DECIDED = 200
"""Candidates that are looked at one by one, beside those in doubt: 2 ms each of those that are copies."""
_VOTES_PER_PAIR = 6
"""See `Weighing.most_votes`: an image has some five candidates in a usual lake. With 64 pairs 2.3 s at most."""
_STROKES, _MAX_CHANGED, _MAX_TWO_SIDED = 3.5, 0.05, 0.01
"""As in `stages/cluster/guarded_images.py`."""


class Images(Protocol):
    """Where candidates come from: rows of a snapshot, and of what was added since."""

    def thumbnail(self, row: int) -> bytes | None: ...
    def facts(self, row: int) -> Facts: ...


@dataclass(frozen=True, eq=False)
class Decided:
    """(m,) what was decided of candidates; `weighed` has columns of evidence where thumbnails were compared, with
    `covered_query` and `covered_other`; `relation` and `edit` are of copies."""

    is_copy: list[bool]
    copy_probability: list[float | None]
    decided_by: list[DecidedBy]
    guarded: list[str | None]
    weighed: list[dict[str, Any]]
    relation: list[str | None]
    edit: list[str | None]


class Judge:
    """Decides with the settings and the prior of one run."""

    def __init__(self, config: Config, model_id: str | None, *, max_weighed: int) -> None:
        self._config, self._max_weighed = config, max_weighed
        self._how = Weighing(config.cluster.join_recoloured, _VOTES_PER_PAIR * max_weighed)
        self._prior = probability.prior_of(model_id, config.cluster.prior)
        wanted = config.cluster.min_copy_probability
        self.cut = wanted or probability.cut_for(config.cluster.target_precision)

    def chosen(self, found: Candidates) -> tuple[Bools, int]:
        """(m,) which candidates to look at, and how many others are likely copies by their scores alone.

        Those are the likeliest, and the least certain of those in doubt: a template, a scan or a dark frame is near
        half a lake, and whatever is asked of each candidate takes a tenth of a millisecond.
        """
        if self._prior is None:
            p, in_doubt, cut = _likeness(found), np.zeros(len(found), bool), self._config.cluster.min_similarity
        else:
            (p, in_doubt), cut = self._weights(self._prior, found), self.cut
        keep = np.zeros(len(found), bool)
        keep[np.argsort(-p, kind="stable")[:MOST_DECIDED]] = True
        doubtful = np.flatnonzero(in_doubt)
        keep[doubtful[np.argsort(np.abs(2 * p[doubtful] - 1), kind="stable")[: self._max_weighed]]] = True
        return keep, int(np.count_nonzero(p[~keep].astype(np.float32) >= np.float32(cut)))

    def decide(self, query: Query, found: Candidates, images: Images, stored: Stored) -> Decided:
        """Cost: that of `weigh_pairs`; without a pair in doubt 0.1 ms.

        Args:
            query: `n_more` are further images that are likely copies, and are not among the candidates.
            stored: Thumbnails, which may be kept described from look-up to look-up, and what was beside them.
        """
        facts = [images.facts(row) for row in found.rows.tolist()]
        if self._prior is None:
            return self._by_likeness(query, found, facts, images)
        prior, in_doubt = self._weights(self._prior, found)
        weighed = weigh_pairs(query, found, (prior, self._compared(prior, in_doubt)), stored, self._how)
        p = np.where(weighed.known, weighed.copy_probability, prior)
        sure = probability.is_sure(found.similarity.astype(np.float64), found.hamming_bits.astype(np.float64))
        decided_by = self._decided_by(found, in_doubt & ~sure & ~weighed.known, weighed.conclusive)
        return self._bounded(query, found, facts, images, (p, decided_by, weighed.columns))

    def _weights(self, prior: Prior, found: Candidates) -> tuple[Float64, Bools]:
        """As `with_prior` and `in_doubt` of stages/cluster/evidence.py."""
        cosine = found.similarity.astype(np.float64)
        by_hash = 1 - found.hamming_bits * probability.HASH_ONLY_LOSS
        is_known = ~np.isnan(cosine)
        by_cosine = probability.prior(prior, np.nan_to_num(cosine), np.nan_to_num(found.normalised))
        p = np.where(is_known, by_cosine, by_hash)
        return p, probability.in_doubt(p, cosine, found.is_dense)

    def _compared(self, prior: Float64, in_doubt: Bools) -> Bools:
        """Of those in doubt at most `max_weighed`: the least certain."""
        doubtful = np.flatnonzero(in_doubt)
        certainty = np.abs(2 * prior[doubtful] - 1)
        chosen = np.zeros(len(prior), bool)
        chosen[doubtful[np.argsort(certainty, kind="stable")[: self._max_weighed]]] = True
        return chosen

    def _decided_by(self, found: Candidates, undecided: Bools, conclusive: Bools) -> list[DecidedBy]:
        choices = [
            (conclusive, DecidedBy.GEOMETRY.value),
            (np.isnan(found.similarity), DecidedBy.PHASH.value),
            (undecided, DecidedBy.UNDECIDED.value),
        ]
        words = np.select([c for c, _ in choices], [w for _, w in choices], DecidedBy.COSINE.value)
        return [DecidedBy(word) for word in words.tolist()]

    def _by_likeness(self, query: Query, found: Candidates, facts: list[Facts], images: Images) -> Decided:
        """Without a calibration: the cosine, or the share of equal bits."""
        by = [DecidedBy.PHASH if np.isnan(s) else DecidedBy.COSINE for s in found.similarity.tolist()]
        known = (_likeness(found), by, [dict[str, Any]() for _ in facts])
        return self._bounded(query, found, facts, images, known, self._config.cluster.min_similarity)

    def _bounded(
        self, query: Query, found: Candidates, facts: list[Facts], images: Images,
        known: tuple[Float64, list[DecidedBy], list[Facts]], cut: float | None = None,
    ) -> Decided:  # fmt: skip
        """What is likely enough, and what no guard keeps apart. `cut` is given where no probabilities are known."""
        p, decided_by, columns = known
        likely = p.astype(np.float32) >= np.float32(self.cut if cut is None else cut)
        own = _guard(query.facts, int(likely.sum()) + query.n_more, self._config)
        guards = [_apart(own, one.get("guard")) for one in facts]
        trusted = [
            not guard or (Guard.BLANK not in (own, one.get("guard")) and self._agrees(found, k, columns[k]))
            for k, (guard, one) in enumerate(zip(guards, facts, strict=True))
        ]
        is_copy = [bool(a) and b for a, b in zip(likely.tolist(), trusted, strict=True)]
        jpegs = [
            images.thumbnail(row) if copy else None for row, copy in zip(found.rows.tolist(), is_copy, strict=True)
        ]
        relation, edit = _related(query, facts, columns, is_copy, jpegs)
        kept_apart = [g if not t else None for g, t in zip(guards, trusted, strict=True)]
        shown = [None if cut is not None else float(value) for value in p.tolist()]
        return Decided(is_copy, shown, decided_by, kept_apart, columns, relation, edit)

    def _agrees(self, found: Candidates, k: int, columns: Facts) -> bool:
        """As `trusted_pairs`: embedding and pHash agree, or the thumbnails show the same."""
        by_both = not np.isnan(found.similarity[k]) and found.hamming_bits[k] <= self._config.match.max_hamming_bits
        differ = (columns.get("changed"), columns.get("two_sided"))
        bounds = (_MAX_CHANGED, _MAX_TWO_SIDED)
        return bool(by_both or all(x is not None and x <= most for x, most in zip(differ, bounds, strict=True)))


def _likeness(found: Candidates) -> Float64:
    """(m,) the cosine, or the share of equal bits."""
    likeness = np.where(np.isnan(found.similarity), 1 - found.hamming_bits / 64, found.similarity)
    return likeness.astype(np.float64)


def _guard(facts: Facts, n_neighbours: int, config: Config) -> Guard | None:
    """As `_guard` of stages/cluster/guarded_images.py, of the image that is looked up."""
    cluster = config.cluster
    if facts["luma_stddev"] < cluster.min_luma_stddev:
        return Guard.BLANK
    if facts["entropy_bits"] < cluster.min_entropy_bits:
        return Guard.PLACEHOLDER
    if facts["entropy_bits"] < cluster.max_text_entropy_bits and (
        facts["sharpness"] > _STROKES * facts["luma_stddev"] ** 2
    ):
        return Guard.TEXT
    return Guard.HUB if n_neighbours > cluster.max_hub_neighbours else None


def _apart(own: Guard | None, other: str | None) -> str | None:
    """The guards of the two, in words; None where neither is guarded."""
    sides = [f"{which} is guarded as {guard}" for which, guard in (("it", own), ("the other", other)) if guard]
    return " and ".join(sides) or None


def agreeing_frames(query: Facts, found: Candidates, images: Images, near: Callable[[Int64, Int64], Bools]) -> Bools:
    """(m,) which candidates may be joined by likeness: as `with_agreeing_frames` of stages/cluster/several_frames.py.

    Of the films that a single picture resembles the first by id counts, and those that agree with it. Which id a film
    will have that is looked up nobody knows: a picture that resembles another film, too, is left to that one.

    Args:
        near: Of which of the first rows match would propose a pair with one of the second ones.
    """
    rows = found.rows.tolist()
    facts = [images.facts(row) for row in rows]
    several = [(one.get("n_frames") or 1) > 1 for one in facts]
    if (query.get("n_frames") or 1) > 1:
        agree = [film and _agree(query, one) for film, one in zip(several, facts, strict=True)]
        is_film, agrees = np.array(several, bool), np.array(agree, bool)
        others = found.rows[is_film & ~agrees]
        is_bound = near(found.rows, others) if len(others) else np.zeros(len(found), bool)
        return agrees | (~is_film & ~is_bound)
    films = [one for one, film in zip(facts, several, strict=True) if film]
    first = min(films, key=lambda one: (one["image_id"] is None, one["image_id"])) if films else None
    keep = [
        not film or one is first or (first is not None and _agree(one, first))
        for one, film in zip(facts, several, strict=True)
    ]
    return np.array(keep, bool)


def _agree(a: Facts, b: Facts) -> bool:
    is_film, is_other = a.get("duration_ms") is not None, b.get("duration_ms") is not None
    if is_film != is_other or (not is_film and a["n_frames"] != b["n_frames"]):
        return False
    return relations.frames_agree(a.get("frame_phashes"), b.get("frame_phashes"), are_films=is_film)


def _related(
    query: Query, facts: list[Facts], columns: list[Facts], is_copy: Sequence[bool], jpegs: list[bytes | None]
) -> tuple[list[str | None], list[str | None]]:
    """The relation and the edit of the copies, by the thumbnails as they lie; None of the others. 2 ms a copy."""
    relation: list[str | None] = [None] * len(facts)
    edit: list[str | None] = [None] * len(facts)
    own = layout.describe(query.thumbnail) if any(is_copy) else (b"", 0)
    for k in (k for k, copy in enumerate(is_copy) if copy):
        found = _relate(query.facts, own, facts[k], columns[k], jpegs[k])
        relation[k], edit[k] = found.relation[0], found.edit[0]
    return relation, edit


def _relate(
    own: Facts, described: tuple[bytes, int], other: Facts, weighed: Facts, jpeg: bytes | None
) -> relations.Related:
    """Of one pair, as `_relate` of stages/cluster/relations.py of many."""
    laid, px = layout.describe(jpeg) if jpeg else (bytes(layout.N_BYTES), 0)
    (a, b) = (np.frombuffer(data, np.uint8)[None] for data in (described[0], laid))
    shorter = min(described[1], px)
    seen = layout.compare(a, b, np.array([shorter], np.int64))
    sides = [np.array([int(f.get(name) or 0)], np.int64) for f in (own, other) for name in ("width_px", "height_px")]
    frames = [np.array([int(f.get("n_frames") or 1)], np.int64) for f in (own, other)]
    covered, other_covered, changed, two_sided = (_share(weighed, name) for name in _SHARES)
    evidence = relations.Evidence(
        np.minimum(covered, other_covered),  # nan where one is
        changed,
        two_sided,
        [weighed.get("colour_change")],
        np.array([(weighed.get("n_inliers") or 0) > 0]),
    )
    shot, other_shot = ((f.get("captured_at"), f.get("camera")) for f in (own, other))
    return relations.relate(
        relations.Shapes(*sides, *frames),
        np.array([_agree(own, other)]),
        evidence,
        seen,
        is_seen=np.array([shorter > 0]),
        are_two_shots=np.array([relations.are_two_shots(shot, other_shot)]),
    )


_SHARES = ("covered_query", "covered_other", "changed", "two_sided")


def _share(weighed: Facts, name: str) -> Float32:
    value = weighed.get(name)
    return np.array([np.nan if value is None else value], np.float32)
