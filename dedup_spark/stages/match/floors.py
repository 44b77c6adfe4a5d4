"""How far below match.min_similarity the nearest neighbours of an image are looked for."""

from __future__ import annotations

from dedup_spark.config import MatchSettings
from dedup_spark.stages.match.survey import Survey

_FLOOR_DEPTH = 0.15  # below min_similarity: see match.floor_similarity in conf/base.toml
NEIGHBOURS_KEPT = 4  # times match.neighbours: the neighbours above the floor allowed per image, on average


def lowest_floor(settings: MatchSettings) -> float:
    """The floor of the survey and of exact joins, which pay nothing for it: never above min_similarity."""
    return min(settings.min_similarity, settings.floor_similarity)


def sketch_floor(settings: MatchSettings) -> float:
    """The floor of joins by sketches: not far below min_similarity, as they need several times the bits there."""
    return max(lowest_floor(settings), round(settings.min_similarity - _FLOOR_DEPTH, 4))


def raised_floor(settings: MatchSettings, survey: Survey, floor: float) -> float:
    """`floor`, raised where so many neighbours lie above it that the k nearest are found far above it anyway."""
    enough = NEIGHBOURS_KEPT * settings.neighbours
    while floor < settings.min_similarity and survey.neighbours_per_image(floor) > enough:
        floor = round(floor + 0.01, 2)
    return min(floor, settings.min_similarity)
