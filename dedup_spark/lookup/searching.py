"""One look-up, from hashes and vector to what was found: equal bytes, equal pixels, then what is near."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dedup_spark.kernels.arrays import Bools, Float16
from dedup_spark.kernels.features.signature import Signature
from dedup_spark.lookup.answers import Found
from dedup_spark.lookup.deciding import Decided, Judge, Query, agreeing_frames
from dedup_spark.lookup.library import Library
from dedup_spark.lookup.never import NeverMatch
from dedup_spark.lookup.proposing import Candidates, Compared, candidates_of
from dedup_spark.lookup.reading import facts_of
from dedup_spark.lookup.snapshot import Facts
from dedup_spark.lookup.why import why, why_identical
from dedup_spark.vocabulary import DecidedBy, Relation

MOST_IDENTICAL = 100
"""Images of equal bytes or pixels that an answer names; `n_equal` counts them all."""
_BY = {
    "content_hash": (DecidedBy.CONTENT_HASH, Relation.SAME_BYTES),
    "pixel_hash": (DecidedBy.PIXEL_HASH, Relation.SAME_PIXELS),
}


@dataclass(frozen=True)
class Searcher:
    """Finds in one library, by the settings of its run."""

    library: Library
    judge: Judge
    never: NeverMatch

    def identical(self, column: str, digest: str, but: set[int]) -> list[tuple[int, Found]]:
        """The images whose `content_hash` or `pixel_hash` is this one, each with its row."""
        rows = [row for row in self.library.rows_with(column, digest) if row not in but]
        decided_by, relation = _BY[column]
        found = []
        for row in rows[:MOST_IDENTICAL]:
            facts = self.library.facts(row)
            shown = self._shown(row, facts, len(rows) + len(but))
            found.append((row, Found(
                is_copy=True, relation=relation, edit=None, similarity=1.0 if self.library.snapshot.model_id else None,
                hamming_bits=0, copy_probability=1.0, decided_by=decided_by, why=why_identical(decided_by), **shown,
            )))  # fmt: skip
        return found

    def compare(
        self, content_hash: str, signature: Signature, vector: Float16 | None, *, exactly: bool
    ) -> tuple[Compared, bool]:
        """The scores of what may be near, and whether an image of these pixels is known."""
        same = {*self.library.rows_with("pixel_hash", signature.pixel_hash)}
        same |= {*self.library.rows_with("content_hash", content_hash)}
        return self.library.compare(signature.phash, vector, same, exactly=exactly), bool(same)

    def near(self, signature: Signature, compared: Compared, *, is_known: bool) -> list[Found]:
        """What is near with other pixels, copies first, the likeliest before."""
        snapshot = self.library.snapshot
        found = candidates_of(compared, snapshot.run.config.match, snapshot.floor, is_known=is_known)
        if len(self.never):
            found = found.only(self._may_match(found))
        query = Query(signature.thumbnail, facts_of(signature))
        found = found.only(agreeing_frames(query.facts, found, self.library, self.library.are_near))
        if not len(found):
            return []
        decided = self.judge.decide(query, found, self.library, self.library.described)
        shown = [self._found(found, decided, k) for k in range(len(found))]
        return sorted(shown, key=lambda f: (not f.is_copy, -(f.copy_probability or f.similarity or 0.0)))

    def _may_match(self, found: Candidates) -> Bools:
        return np.array([self.never.reason(*self.library.hashes(row)) is None for row in found.rows.tolist()], bool)

    def _found(self, found: Candidates, decided: Decided, k: int) -> Found:
        row, similarity, bits = int(found.rows[k]), float(found.similarity[k]), int(found.hamming_bits[k])
        cosine = None if similarity != similarity else similarity
        facts, p, weighed = self.library.facts(row), decided.copy_probability[k], decided.weighed[k]
        return Found(
            is_copy=decided.is_copy[k],
            relation=decided.relation[k],
            edit=decided.edit[k],
            similarity=cosine,
            hamming_bits=bits,
            copy_probability=p,
            decided_by=decided.decided_by[k],
            why=why(decided.decided_by[k], (cosine, bits), weighed, p, self.judge.cut, decided.guarded[k]),
            evidence=weighed,
            **self._shown(row, facts, facts["n_equal"]),
        )

    def _shown(self, row: int, facts: Facts, n_equal: int) -> Facts:
        """What is said of an image whatever found it."""
        keeper = facts["keeper_image_id"]
        at = self.library.snapshot.row_of(keeper) if keeper is not None else None
        names = ("image_id", "uri", "member", "cluster_id", "keeper_image_id")
        return {name: facts[name] for name in names} | {
            "keeper_uri": self.library.facts(at)["uri"] if at is not None else None,
            "is_keeper": bool(facts["is_keeper"]),
            "is_added": self.library.is_added(row),
            "n_equal": n_equal,
        }
