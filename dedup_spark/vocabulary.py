"""The closed lists of the tables: every word that such a column may hold, written once. No Spark.

Code uses the members, comments of columns are written from them (`one_of`), `Table.closed` names the column that each
list belongs to, and a test checks the values of finished runs against it. To add a word, add a member.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Word(StrEnum):
    """A member is its word, and is shown as such by argparse and by tests."""

    def __repr__(self) -> str:
        return repr(self.value)


class Method(Word):
    """What found a pair, the cheapest first."""

    SAME_BYTES = "same_bytes"
    SAME_PIXELS = "same_pixels"
    PHASH = "phash"
    EMBEDDING = "embedding"


class Engine(Word):
    """What compares embeddings."""

    EXACT = "exact"
    EXACT_GPU = "exact_gpu"
    SKETCH = "sketch"
    ROUTED = "routed"
    FAISS_IVF = "faiss_ivf"


class Relation(Word):
    """Of a member of a cluster to its keeper, the closest first."""

    SAME_BYTES = "same_bytes"
    SAME_PIXELS = "same_pixels"
    REENCODED = "reencoded"
    EDITED_COPY = "edited_copy"
    CONTAINED = "contained"
    RECOLOURED = "recoloured"
    STILL = "still"


class RemovalTier(Word):
    """What would be lost if a member went, the least first: a relation, and whether the copy has more detail."""

    SAME_BYTES = "same_bytes"
    SAME_PIXELS = "same_pixels"
    REENCODED = "reencoded"
    MORE_DETAIL = "more_detail"
    EDITED_COPY = "edited_copy"
    CONTAINED = "contained"
    RECOLOURED = "recoloured"
    STILL = "still"

    @classmethod
    def up_to(cls, last: str) -> tuple[RemovalTier, ...]:
        """The tiers from the first to this one."""
        tiers = tuple(cls)
        return tiers[: tiers.index(cls(last)) + 1]


class Edit(Word):
    """What is known of an edited copy: what was done to it, or to its keeper. Turned is by right angles, or mirrored;
    marked is under an overlay, a text or a mark; tone is brightness, contrast or the loss of colour."""

    TURNED = "turned"
    CROPPED = "cropped"
    STRETCHED = "stretched"
    MARKED = "marked"
    TONE = "tone"


IDENTICAL = (Relation.SAME_BYTES, Relation.SAME_PIXELS)
"""Relations, and methods of the same names, that do not depend on settings."""


class DecidedBy(Word):
    """What decided that two images are copies."""

    CONTENT_HASH = "content_hash"
    PIXEL_HASH = "pixel_hash"
    GEOMETRY = "geometry"
    COSINE = "cosine"
    PHASH = "phash"
    UNDECIDED = "undecided"


OF_REPRESENTATIVES = (DecidedBy.GEOMETRY, DecidedBy.COSINE, DecidedBy.PHASH, DecidedBy.UNDECIDED)
"""What can decide between two images of different pixels."""


class ComparedFor(Word):
    """Why a pair has evidence: match found it, or the step cluster compared a group's leaders, or its likely keepers,
    with the members. Groups are cut by the first two; the last decides who is near a keeper."""

    MATCH = "match"
    LEADERS = "leaders"
    KEEPERS = "keepers"


class ColourChange(Word):
    """How the colours of two aligned images differ: not measurably; by an edit of the whole (loss of colour, a common
    cast, brightness, contrast); or something in the picture has another strong colour."""

    NONE = "none"
    TONE = "tone"
    HUE = "hue"


class DistanceUnit(Word):
    """What a distance is, as a formula over columns of the same row."""

    COPY_PROBABILITY = "1 - copy_probability"
    SIMILARITY = "1 - similarity"
    HAMMING_BITS = "hamming_bits / 64"


class Guard(Word):
    """Why an image is guarded: likeness alone does not join it to others."""

    BLANK = "blank"
    PLACEHOLDER = "placeholder"
    TEXT = "text"
    HUB = "hub"


class FeatureStatus(Word):
    """Whether an image could be read."""

    OK = "ok"
    REJECTED = "rejected"


class RejectReason(Word):
    """Why an image could not be read. From `missing` on the object could not be fetched or its decoder failed; the
    reasons before are about its bytes."""

    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_SMALL = "too_small"
    MISSING = "missing"
    FORBIDDEN = "forbidden"
    OUTSIDE_LAKE = "outside_lake"
    CHANGED_SINCE_LISTING = "changed_since_listing"
    TOO_LARGE = "too_large"
    DECODER_CRASHED = "decoder_crashed"
    DECODER_TIMEOUT = "decoder_timeout"
    STORE_UNAVAILABLE = "store_unavailable"
    ARCHIVED = "archived"
    EXPIRED_CREDENTIALS = "expired_credentials"


class ClusterEvent(Word):
    """What happened to a cluster in a run."""

    CREATED = "created"
    GROWN = "grown"
    SHRUNK = "shrunk"
    CHANGED = "changed"
    MERGED = "merged"
    SPLIT = "split"
    REMOVED = "removed"


class StepName(Word):
    """What writes marks to `runs`: the whole pipeline (`run`), its six steps, and commands."""

    RUN = "run"
    INVENTORY = "inventory"
    EXTRACT = "extract"
    INDEX = "index"
    MATCH = "match"
    CLUSTER = "cluster"
    REPORT = "report"
    EMBED = "embed"
    PLAN = "plan"
    CALIBRATE = "calibrate"
    FORGET = "forget"
    MAINTAIN = "maintain"


class RunStatus(Word):
    """Of a step."""

    STARTED = "started"
    COMPLETE = "complete"
    UNCHANGED = "unchanged"
    FAILED = "failed"


class Metric(Word):
    """What `quality` holds: the first four are by match, the others by the command calibrate, with the recall of each
    kind of edit."""

    RECALL = "recall"
    RECALL_OF_BAND = "recall_of_band"
    CANDIDATES_PER_PAIR = "candidates_per_pair"
    LOST_PAIR = "lost_pair"
    CALIBRATED_PRECISION = "calibrated_precision"
    CALIBRATED_RECALL = "calibrated_recall"
    CALIBRATED_RECALL_OF_FORMAT = "calibrated_recall_of_format"
    CALIBRATED_RECALL_OF_COMPRESSION = "calibrated_recall_of_compression"
    CALIBRATED_RECALL_OF_RESOLUTION = "calibrated_recall_of_resolution"
    CALIBRATED_RECALL_OF_CROP = "calibrated_recall_of_crop"
    CALIBRATED_RECALL_OF_WATERMARK = "calibrated_recall_of_watermark"
    CALIBRATED_RECALL_OF_ROTATION = "calibrated_recall_of_rotation"
    CALIBRATED_RECALL_OF_FLIP = "calibrated_recall_of_flip"
    CALIBRATED_RECALL_OF_COLOUR = "calibrated_recall_of_colour"
    CALIBRATED_RECALL_OF_OVERLAY = "calibrated_recall_of_overlay"
    CALIBRATED_RECALL_OF_CAPTION = "calibrated_recall_of_caption"
    CALIBRATED_RECALL_OF_SCREENSHOT = "calibrated_recall_of_screenshot"

    @classmethod
    def recall_of(cls, edit: str) -> Metric:
        """For one kind of edit, of kernels/edits.py."""
        return cls(f"calibrated_recall_of_{edit}")


def one_of(words: Iterable[str]) -> str:
    """`a, b or c`, for comments and messages."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
