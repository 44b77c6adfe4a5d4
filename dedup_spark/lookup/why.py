"""Why an image was taken for a copy, or was not: one sentence with the figures."""

from __future__ import annotations

from typing import Any

from dedup_spark.vocabulary import DecidedBy

_IDENTICAL = {DecidedBy.CONTENT_HASH: "equal bytes (SHA-256)", DecidedBy.PIXEL_HASH: "equal pixels (SHA-256 of them)"}


def why_identical(decided_by: DecidedBy) -> str:
    """Of equal bytes or pixels."""
    return _IDENTICAL[decided_by]


def why(
    decided_by: DecidedBy, scores: tuple[float | None, int], weighed: dict[str, Any], p: float | None, cut: float,
    guarded: str | None,
) -> str:  # fmt: skip
    """Of other pixels. `scores` are cosine and differing bits, `guarded` what keeps the two apart though likely."""
    by = [_scores(*scores)]
    if decided_by == DecidedBy.GEOMETRY:
        by.append(_thumbnails(weighed))
    elif decided_by == DecidedBy.UNDECIDED:
        by.append("in doubt, and the thumbnails were not compared")
    if p is not None:
        by.append(f"a copy with probability {p:.3f}, where {cut:.3f} is needed")
    if guarded:
        by.append(f"kept apart, as {guarded}: such a picture is not joined by likeness alone")
    return "; ".join(by)


def _scores(cosine: float | None, bits: int) -> str:
    by_hash = f"pHash differs in {bits} of 64 bits"
    return by_hash if cosine is None else f"cosine {cosine:.3f}, {by_hash}"


def _thumbnails(weighed: dict[str, Any]) -> str:
    n, agreement = weighed.get("n_inliers") or 0, weighed.get("agreement")
    how = f"aligned by {n} keypoints" if n else "laid over each other as they are"
    shown = "" if agreement is None else f", agree on {agreement:.0%} of what both show"
    changed = weighed.get("changed")
    differ = "" if changed is None else f" and differ on {changed:.1%}"
    return f"the thumbnails, {how}{shown}{differ}"
