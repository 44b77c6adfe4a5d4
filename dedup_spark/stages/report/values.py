"""What the report and the command line say about a lake, as plain values of bounded size; no Spark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dedup_spark.step_figures import readable_bytes as readable_bytes


@dataclass(frozen=True)
class TierTotal:
    """Members of all clusters in one removal tier, removable or not, as in the view duplicates."""

    tier: str
    n_images: int
    size_bytes: int
    removable: bool
    freed_bytes: int


@dataclass(frozen=True)
class PassedOverTotal:
    """Entries of all lakes that their last listings passed over for one reason, and one of them."""

    reason: str
    n_entries: int
    example: str


@dataclass(frozen=True)
class Summary:
    """The headline figures.

    Attributes:
        rejected: Reason to number of images, the most frequent first.
        tiers: The safest first; those that do not occur are left out.
        guarded: Guard (blank, placeholder, text, hub) to number of distinct images that likeness alone does not join.
        passed_over: What listings found and did not take for images, the most frequent reason first.
    """

    n_found: int
    found_bytes: int
    n_read: int
    rejected: Mapping[str, int]
    n_clusters: int
    tiers: tuple[TierTotal, ...]
    guarded: Mapping[str, int] = field(default_factory=dict)
    passed_over: tuple[PassedOverTotal, ...] = ()

    @property
    def n_rejected(self) -> int:
        return sum(self.rejected.values())

    @property
    def n_pending(self) -> int:
        """Images listed but not read yet: 0 when a run is complete."""
        return self.n_found - self.n_read - self.n_rejected

    @property
    def n_members(self) -> int:
        """Images in clusters, keepers included."""
        return self.n_clusters + sum(r.n_images for r in self.tiers)

    @property
    def n_removable(self) -> int:
        return sum(r.n_images for r in self.tiers if r.removable)

    @property
    def removable_bytes(self) -> int:
        """What their removal would free: less than their size where they are hard links to files that stay."""
        return sum(r.freed_bytes for r in self.tiers if r.removable)

    @property
    def n_distinct(self) -> int:
        """Pictures among the readable images: a cluster is one, and so is an image in none."""
        return self.n_read - self.n_members + self.n_clusters


@dataclass(frozen=True)
class RejectExample:
    """One unreadable image."""

    reason: str
    uri: str
    member: str | None
    message: str | None


@dataclass(frozen=True)
class PrefixTotal:
    """One row of the view reclaimable_by_prefix."""

    lake: str
    prefix: str
    n_removable: int
    removable_bytes: int
    n_images: int
    removable_share: float | None


@dataclass(frozen=True)
class ShownMember:
    """One image of a cluster, as its thumbnail (JPEG) and its caption."""

    uri: str
    member: str | None
    is_keeper: bool
    relation: str | None
    similarity: float | None
    hamming_bits: int | None
    size_bytes: int | None
    width_px: int | None
    height_px: int | None
    thumbnail: bytes | None


@dataclass(frozen=True)
class ShownCluster:
    """One cluster: all its figures, some of its members, the keeper first."""

    cluster_id: int
    n_images: int
    removable_bytes: int
    members: tuple[ShownMember, ...]


@dataclass(frozen=True)
class Report:
    """Everything on the page. `settings` are all settings of the run, from `section.key` to value."""

    lake: str
    tables_root: str
    run_id: str
    version: str
    summary: Summary
    reject_examples: tuple[RejectExample, ...]
    prefixes: tuple[PrefixTotal, ...]
    clusters: tuple[ShownCluster, ...]
    settings: Mapping[str, object]
