"""The default of `cluster.keeper_order`: which file of a cluster is the original, one criterion after the other.

A criterion is SQL over columns of `images` and `features` and over those named here. The order trusts evidence in the
pixels and in the file before times, which copying changes: in an object store the time of a file is that of its upload.
Shares of the best in a group stand where a measurement has an error, so that it decides only by a wide margin.
"""

from __future__ import annotations

OF_FILE = {
    "shown_px": "width_px * height_px * (1 - coalesce(added_share, 0.0))",
    "detail_px": "width_px * height_px * (1 - coalesce(added_share, 0.0)) * coalesce(detail_share, 1.0) "
    "* coalesce(detail_share, 1.0)",
    "kept_quality": "CASE WHEN (format = 'GIF' OR mode IN ('1', 'P')) AND entropy_bits > 2.5 THEN 0.0 "
    "WHEN format IN ('WEBP', 'AVIF') AND NOT coalesce(is_lossless, false) THEN 40.0 "
    "WHEN coalesce(jpeg_quality, 100.0) < coalesce(earlier_jpeg_quality, 100.0) THEN jpeg_quality "
    "ELSE coalesce(earlier_jpeg_quality, 100.0) END",
}
"""Columns that are computed for each member. `shown_px`: pixels of the picture itself, without added borders.
`detail_px`: as many of them as its detail needs. `kept_quality`: of the strongest known compression, by libjpeg's
scale; 100 without one, 0 for photos in a palette. WebP and AVIF do not tell theirs: they count below a usual JPEG."""

_SHARP_BELOW = (
    "max(CASE WHEN detail_share >= 0.9 AND added_share <= 0.01 THEN detail_px END) OVER (PARTITION BY label "
    "ORDER BY ln(shown_px + 1) RANGE BETWEEN UNBOUNDED PRECEDING AND 0.35 PRECEDING)"
)
"""The detail of the members that are sharp and have at most 70 % of the pixels."""

_PLAIN_OF_THIS_SHAPE = (
    "max(CASE WHEN added_share <= 0.01 THEN shown_px END) OVER (PARTITION BY label ORDER BY "
    "abs(ln((shown_width_px + 0.0) / shown_height_px)) RANGE BETWEEN 0.04 PRECEDING AND 0.04 FOLLOWING)"
)
"""The pixels of the members without borders that have the shape of what this one shows within its own."""

_BORDER_HAS_A_SIGN = (
    "added_share > 0.2 AND added_share <= 0.9 OR added_share > 1.01 - (shown_width_px + 0.0) * shown_height_px "
    "/ (width_px * height_px)"
)
"""It takes much of the area, or it is the corners beside a turned picture."""

OF_GROUP = (
    {
        "is_enlarged": f"coalesce(detail_share < 0.85 AND {_SHARP_BELOW} >= 0.35 * detail_px, false)",
        "has_added_border": f"coalesce(added_share > 0.01 AND ({_BORDER_HAS_A_SIGN} "
        f"OR {_PLAIN_OF_THIS_SHAPE} >= 0.4 * detail_px), false)",
        "quality_below_best": "max(kept_quality) OVER (PARTITION BY label, width_px, height_px) - kept_quality",
    },
    {"true_px": "CASE WHEN is_enlarged OR has_added_border THEN detail_px ELSE shown_px END"},
    {
        "size_of_best": "true_px / nullif(greatest(max(CASE WHEN NOT has_added_border THEN true_px END) "
        "OVER (PARTITION BY label), 0.4 * max(true_px) OVER (PARTITION BY label)), 0)"
    },
)
"""Columns that compare a member with its group, by windows, in turn: later ones use earlier ones.

`is_enlarged`: a much smaller member is sharp and shows about as much, so that this one was made larger.
`has_added_border`: there is a border, and it takes much of the area, or what lies within it has the shape of a member
without one; few pictures always had such a border, or have such a copy but by chance. `quality_below_best`: of
kept_quality, among members of one size, as resizing hides the traces of an earlier JPEG. `size_of_best`: pixels as a
share of the member with the most, of an enlarged one those that hold detail; members with borders count at 0.4, so that
a screenshot leaves the smaller photo that it shows in the running, and not its thumbnail."""

EDITORS = (
    "photoshop|lightroom|gimp|affinity|pixelmator|snapseed|picsart|canva|vsco|paint|photoscape|picasa|acdsee|"
    "imagemagick|capture one|darktable|luminar|instagram|facetune|krita|polarr|photopea"
)
"""Programs that change pictures, as they call themselves in the EXIF tag Software; of cameras it names the firmware."""

CRITERIA = (
    ("is_damaged ASC", "it is whole, and a part of {other} is lost"),
    ("size_of_best >= 0.35 DESC", "it shows the picture at a far larger size than {other}"),
    ("has_added_border ASC", "nothing is added around it, as bars or a frame are in {other}"),
    ("camera IS NOT NULL DESC", "it has the camera's EXIF data, and {other} has not"),
    ("has_maker_note DESC", "it has the camera's maker notes, and {other} has not"),
    (
        f"coalesce(regexp_like(lower(software), '{EDITORS}'), false) ASC",
        "no editor has written it, as one has written {other}",
    ),
    ("is_enlarged ASC", "its detail is as fine as its pixels, and {other} was enlarged"),
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
