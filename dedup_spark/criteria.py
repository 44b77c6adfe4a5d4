"""The default of `cluster.keeper_order`: which file of a cluster is the original, one criterion after the other.

A criterion is SQL over columns of `images` and `features` and over those named here. The order trusts evidence in the
pixels and in the file before times, which copying changes: in an object store the time of a file is that of its upload.
Shares of the best in a group stand where a measurement has an error, so that it decides only by a wide margin.
"""

from __future__ import annotations

OF_FILE = {
    "detail_px": "width_px * height_px * (1 - coalesce(added_share, 0)) * coalesce(detail_share, 1) "
    "* coalesce(detail_share, 1)",
    "kept_quality": "CASE WHEN format = 'GIF' THEN 0.0 WHEN format IN ('WEBP', 'AVIF') AND NOT coalesce(is_lossless, "
    "false) THEN 40.0 WHEN coalesce(jpeg_quality, 100.0) < coalesce(earlier_jpeg_quality, 100.0) THEN "
    "coalesce(jpeg_quality, 100.0) ELSE coalesce(earlier_jpeg_quality, 100.0) END",
}
"""Columns that are computed for each member. `detail_px`: pixels that hold detail of the picture itself: without added
borders, and without what enlarging gave. `kept_quality`: of the strongest known compression, by libjpeg's scale; 100
without one. WebP and AVIF do not tell theirs: they count below a JPEG as a camera or the web writes it."""

OF_GROUP = {
    "detail_of_best": "detail_px / max(detail_px) OVER (PARTITION BY label)",
    "quality_below_best": "max(kept_quality) OVER (PARTITION BY label) - kept_quality",
}
"""Columns that compare a member with its group, by a window; they may use those of OF_FILE."""

EDITORS = (
    "photoshop|lightroom|gimp|affinity|pixelmator|snapseed|picsart|canva|vsco|paint|photoscape|picasa|acdsee|"
    "imagemagick|capture one|darktable|luminar|instagram|facetune|krita|polarr|photopea"
)
"""Programs that change pictures, as they call themselves in the EXIF tag Software; of cameras it names the firmware."""

CRITERIA = (
    ("is_damaged ASC", "it is whole, and a part of {other} is lost"),
    ("detail_of_best >= 0.35 DESC", "it holds far more detail of the picture than {other}"),
    ("added_share > 0.01 ASC", "nothing is added around it, as bars or a frame are in {other}"),
    ("camera IS NOT NULL DESC", "it has the camera's EXIF data, and {other} has not"),
    ("has_maker_note DESC", "it has the camera's maker notes, and {other} has not"),
    (
        f"coalesce(regexp_like(lower(software), '{EDITORS}'), false) ASC",
        "no editor has written it, as one has written {other}",
    ),
    ("detail_share < 0.85 ASC", "its detail is as fine as its pixels, and {other} is enlarged or blurred"),
    ("width_px * height_px DESC", "it has more pixels than {other}"),
    ("quality_below_best > 8 ASC", "it was compressed less strongly than {other}"),
    ("earlier_jpeg_quality IS NULL DESC", "it carries no traces of an earlier JPEG, as {other} does"),
    ("round(kept_quality, 0) DESC", "it was compressed a little less strongly than {other}"),
    (
        "coalesce(is_lossless AND earlier_jpeg_quality IS NOT NULL, false) ASC",
        "it is a JPEG, and {other} is the lossless export of one",
    ),
    ("date_trunc('DAY', modified_at) ASC", "it is older than {other}"),
    ("size_bytes DESC", "it has more bytes than {other}"),
    ("modified_at ASC", "it is some hours or minutes older than {other}"),
    ("uri ASC", "all else is equal, and its address comes before that of {other}"),
)
"""(item of cluster.keeper_order, the reason in words; {other} is the file that came second)."""

DEFAULT_ORDER = tuple(item for item, _ in CRITERIA)
WORDS = dict(CRITERIA)
