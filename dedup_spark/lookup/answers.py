"""What a look-up answers, as plain values: they become JSON as they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from dedup_spark.vocabulary import Word


class Outcome(Word):
    """What became of an image that was looked up."""

    COPIES = "copies"
    NO_COPY = "no_copy"
    REJECTED = "rejected"
    NEVER_MATCH = "never_match"


@dataclass(frozen=True, slots=True)
class Found:
    """One image of the lake that was compared, or one that was added since.

    Attributes:
        image_id: None of an added image: it gets one by the next run that lists it.
        is_copy: Whether the two are likely copies, with the precision that the run asked for.
        relation: What the image that was looked up is to this one: as in clusters. None where it is no copy.
        edit: As in clusters.
        similarity, hamming_bits, copy_probability, decided_by: As in evidence.
        n_equal: Images of the lake with the same pixels, this one included.
        cluster_id, keeper_image_id, keeper_uri, is_keeper: As in clusters; None in no cluster.
        why: What decided, in a sentence with its figures.
        evidence: Further columns of the table evidence, where thumbnails were compared.
    """

    image_id: int | None
    uri: str
    member: str | None
    is_copy: bool
    relation: str | None
    edit: str | None
    similarity: float | None
    hamming_bits: int | None
    copy_probability: float | None
    decided_by: str
    n_equal: int
    cluster_id: int | None
    keeper_image_id: int | None
    keeper_uri: str | None
    is_keeper: bool
    is_added: bool
    why: str
    evidence: dict[str, float | int | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexState:
    """What was asked: the run that made the clusters, and how old its knowledge is.

    Attributes:
        version: Changes exactly when another run's tables are asked.
        checked_at: When a run last found that nothing was to be changed, or made them.
        age_seconds: Since `checked_at`.
        n_images: Readable images of the lake.
        n_added: Images that were added since.
    """

    run_id: str
    version: str
    made_at: datetime
    checked_at: datetime
    age_seconds: float
    n_images: int
    n_added: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one image shows.

    Attributes:
        copies: The likely copies, the likeliest first.
        others: Images that were compared and are no copies by the same bounds; only where they were asked for.
        n_undecided: Of the images compared those whose thumbnails were not, as there were too many in doubt.
        n_left_out: Further images that are likely copies by their scores alone: an answer names some hundreds at most.
        reason: Of a rejected image its reject_reason, of one that never matches the reason that was given.
        message: What the decoder said.
        seconds: By stage: read (decode and describe), embed, search, weigh.
    """

    outcome: Outcome
    copies: tuple[Found, ...]
    others: tuple[Found, ...]
    n_undecided: int
    n_left_out: int
    reason: str | None
    message: str | None
    content_hash: str
    pixel_hash: str | None
    phash: int | None
    index: IndexState
    seconds: dict[str, float]


def as_plain(answer: Answer | IndexState) -> dict[str, Any]:
    """For JSON: times as ISO 8601, ids as text, as JavaScript holds no whole numbers above 2^53."""
    plain: dict[str, Any] = _plain(asdict(answer))
    return plain


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner, key) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int) and (name.endswith("_id") or name == "phash"):
        return str(value)
    if isinstance(value, float):
        return round(value, 6)
    return value
