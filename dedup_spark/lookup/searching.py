"""One look-up, from hashes and vector to what was found: equal bytes, equal pixels, then what is near."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dedup_spark.kernels.arrays import Bools, Float16, Int64
from dedup_spark.kernels.features.signature import Signature
from dedup_spark.lookup.answers import Found
from dedup_spark.lookup.deciding import Decided, Images, Judge, agreeing_frames
from dedup_spark.lookup.library import Library
from dedup_spark.lookup.never import Listed, NeverMatch
from dedup_spark.lookup.proposing import Candidates, Compared, candidates_of
from dedup_spark.lookup.reading import facts_of
from dedup_spark.lookup.snapshot import Facts
from dedup_spark.lookup.weighing import Query
from dedup_spark.lookup.why import why, why_identical
from dedup_spark.vocabulary import DecidedBy, Relation

MOST_IDENTICAL = 100
"""Images of equal bytes or pixels that an answer names; `n_equal` counts them all."""
_BY = {
    "content_hash": (DecidedBy.CONTENT_HASH, Relation.SAME_BYTES),
    "pixel_hash": (DecidedBy.PIXEL_HASH, Relation.SAME_PIXELS),
}


@dataclass(frozen=True)
class Near:
    """What is near with other pixels, copies first, the likeliest before; `n_left_out`: further likely copies."""

    found: list[Found]
    n_left_out: int = 0


@dataclass(frozen=True)
class Searcher:
    """Finds in one library, by the settings of its run. `listed` is the negative list: what is on it is not found."""

    library: Library
    judge: Judge
    never: NeverMatch

    def reason_of_bytes(self, content_hash: str, listed: Listed) -> str | None:
        """Why a file of these bytes matches nothing, by the pixels and the pHash of the image of the lake that has
        them; None where it may, or where no image has them."""
        if not listed:
            return None
        rows = self.library.rows_with("content_hash", content_hash)
        return listed.reason(*self.library.hashes(int(rows[0]))) if len(rows) else None

    def identical(self, column: str, digest: str, but: set[int], listed: Listed) -> list[tuple[int, Found]]:
        """The images whose `content_hash` or `pixel_hash` is this one, each with its row."""
        rows = self.library.rows_with(column, digest)
        decided_by, relation = _BY[column]
        found = []
        for row in self._to_be_named(rows, but, listed):
            facts = self.library.facts(row)
            shown = self._shown(row, facts, len(rows))
            found.append((row, Found(
                is_copy=True, relation=relation, edit=None, similarity=1.0 if self.library.snapshot.model_id else None,
                hamming_bits=0, copy_probability=1.0, decided_by=decided_by, why=why_identical(decided_by), **shown,
            )))  # fmt: skip
        return found

    def compare(
        self, content_hash: str, signature: Signature, vector: Float16 | None, *, exactly: bool
    ) -> tuple[Compared, frozenset[int]]:
        """The scores of what may be near, and the rows of images with these pixels."""
        hashes = {"pixel_hash": signature.pixel_hash, "content_hash": content_hash}
        same = np.concatenate([self.library.rows_with(column, digest) for column, digest in hashes.items()])
        return self.library.compare(signature.phash, vector, same, exactly=exactly), frozenset(same.tolist())

    def near(self, signature: Signature, compared: Compared, listed: Listed, own_rows: frozenset[int]) -> Near:
        """What is near with other pixels; `own_rows` are those of images with these."""
        snapshot = self.library.snapshot
        found = candidates_of(compared, snapshot.run.config.match, snapshot.floor, is_known=bool(own_rows))
        if listed:
            found = found.only(~listed.has_phash(self.library.phashes(found.rows)))
        keep, n_more = self.judge.chosen(found)
        found = found.only(keep)
        if listed:
            found = found.only(self._may_match(found, listed))
        query, seen = Query(signature.thumbnail, facts_of(signature), own_rows, n_more), _Seen(self.library)
        found = found.only(agreeing_frames(query.facts, found, seen, self.library.are_near))
        if not len(found):
            return Near([], n_more)
        decided = self.judge.decide(query, found, seen, self.library)
        shown = [self._found(found, decided, k, seen) for k in range(len(found))]
        return Near(sorted(shown, key=lambda f: (not f.is_copy, -(f.copy_probability or f.similarity or 0.0))), n_more)

    def _to_be_named(self, rows: Int64, but: set[int], listed: Listed) -> list[int]:
        """At most MOST_IDENTICAL of the rows, of the first ones of a placeholder's million."""
        first = [row for row in rows[: MOST_IDENTICAL + len(but)].tolist() if row not in but]
        return [row for row in first if not listed or listed.reason(*self.library.hashes(row)) is None]

    def _may_match(self, found: Candidates, listed: Listed) -> Bools:
        return np.array([listed.reason(*self.library.hashes(row)) is None for row in found.rows.tolist()], bool)

    def _found(self, found: Candidates, decided: Decided, k: int, seen: Images) -> Found:
        row, similarity, bits = int(found.rows[k]), float(found.similarity[k]), int(found.hamming_bits[k])
        cosine = None if similarity != similarity else similarity
        facts, p, weighed = seen.facts(row), decided.copy_probability[k], decided.weighed[k]
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


class _Seen:
    """Images of one look-up, whose facts are read once: a tenth of a millisecond each."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._facts: dict[int, Facts] = {}

    def thumbnail(self, row: int) -> bytes | None:
        return self._library.thumbnail(row)

    def facts(self, row: int) -> Facts:
        if row not in self._facts:
            self._facts[row] = self._library.facts(row)
        return self._facts[row]
