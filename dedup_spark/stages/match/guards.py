"""The guard against an explosion of pairs: before the join by the survey, while it runs, and before a pair is written.

It counts pairs between distinct images: many images that share a template or are nearly blank make n squared of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from dedup_spark.config import MatchSettings
from dedup_spark.errors import GuardError
from dedup_spark.stages.match.floors import NEIGHBOURS_KEPT
from dedup_spark.stages.match.survey import Survey


@dataclass(frozen=True)
class PairGuard:
    """Stops a match of `n_images` that finds more than match.max_pairs_per_image of them."""

    n_images: int
    settings: MatchSettings

    def check_survey(self, survey: Survey) -> None:
        """Before the join: the pairs of the sample, extrapolated to all images. Raises GuardError."""
        expected = survey.neighbours_per_image(self.settings.min_similarity) / 2
        if survey.exploded or expected > self.settings.max_pairs_per_image:
            raise self.error(f"about {expected * self.n_images:,.0f} pairs expected")

    @property
    def max_found(self) -> int:
        """Rows that tasks may find: the pairs allowed, and besides the neighbours above the raised floor."""
        return self.n_images * (self.settings.max_pairs_per_image + NEIGHBOURS_KEPT * self.settings.neighbours)

    def check_found(self, n_near: int, is_cut_off: bool) -> None:
        """After the join: pairs above min_similarity, and whether a task stopped before its end. Raises GuardError."""
        if is_cut_off or n_near > self.settings.max_pairs_per_image * self.n_images:
            raise self.error(f"{'more than ' if is_cut_off else ''}{n_near:,} pairs")

    def error(self, found: str) -> GuardError:
        """`found` says how many pairs."""
        return GuardError(
            f"{found} among {self.n_images:,} distinct images, more than match.max_pairs_per_image "
            f"({self.settings.max_pairs_per_image}): many images share a template or are nearly blank. Raise "
            "match.min_similarity (and cluster.min_similarity), or allow it with --set match.max_pairs_per_image=N"
        )
