"""The default of `cluster.keeper_order`: which file of a cluster is the original, one criterion after the other.

A criterion is SQL over columns of `images` and `features` and over those named here. The order trusts evidence in the
pixels and in the file before times, which copying changes: in an object store the time of a file is that of its upload.
Shares of the best in a group stand where a measurement has an error, so that it decides only by a wide margin.

`stages/cluster/keeper_order.py` ranks by them. A new one is a line of CRITERIA, with what it needs in OF_FILE or
OF_GROUP, and the same line in conf/base.toml.
"""

from __future__ import annotations

OF_FILE = {
    "shown_px": "width_px * height_px * (1 - coalesce(added_share, 0.0))",
    "detail_px": "width_px * height_px * (1 - coalesce(added_share, 0.0)) * coalesce(detail_share, 1.0) "
    "* coalesce(detail_share, 1.0)",
    "own_quality": "CASE WHEN (format = 'GIF' OR mode IN ('1', 'P')) AND entropy_bits > 2.5 THEN 0.0 "
    "WHEN is_lossless THEN coalesce(earlier_jpeg_quality, 100.0) ELSE coalesce(jpeg_quality, 20.0) END",
    "first_quality": "CASE WHEN is_lossless OR earlier_jpeg_quality < jpeg_quality - 1 THEN earlier_jpeg_quality "
    "ELSE jpeg_quality END",
    "is_first_jpeg": "jpeg_quality IS NOT NULL AND coalesce(earlier_jpeg_quality >= jpeg_quality - 1, true)",
}
"""Columns that are computed for each member. `shown_px`: pixels of the picture itself, without added borders.
`detail_px`: as many of them as its detail needs. `own_quality`: of its compression, by libjpeg's scale; of a lossless
file that of the JPEG it was, 100 without one, 0 for photos in a palette. WebP and AVIF do not tell theirs, and are more
often made of a JPEG than the other way round: they count below usual JPEGs. `first_quality`: of the earliest JPEG whose
traces it carries, its own without such traces; `is_first_jpeg`: that is its own."""

_OF_ITS_SIZE = "PARTITION BY label, width_px, height_px"

_SHARP_BELOW = (
    "OVER (PARTITION BY label ORDER BY ln(shown_px + 1) RANGE BETWEEN UNBOUNDED PRECEDING AND 0.35 PRECEDING)"
)
"""Of the members that have at most 70 % of the pixels."""

_IS_SHARP = "detail_share >= 0.9 AND NOT has_added_border"

_FROM_4_BELOW = f"OVER ({_OF_ITS_SIZE} ORDER BY first_quality DESC RANGE BETWEEN UNBOUNDED PRECEDING AND 4 FOLLOWING)"
"""The members of its size with at least its first quality less 4. From the best down, as Spark adds a member to such a
window once, and would go through all that follow a member for each of them."""
_FROM_8_BELOW_DOWN = f"OVER ({_OF_ITS_SIZE} ORDER BY first_quality RANGE BETWEEN UNBOUNDED PRECEDING AND 8 PRECEDING)"
_FIRST = "is_first_jpeg AND NOT differs_from_most"
_IS_FIRST_JPEG_OF_IT = (
    f"max(CASE WHEN {_FIRST} THEN CASE WHEN chroma_subsampling = '4:4:4' THEN 2 ELSE 1 END END) "
    f"{_FROM_4_BELOW} "
    ">= CASE WHEN chroma_subsampling = '4:4:4' AND jpeg_quality >= first_quality + 20 THEN 2 ELSE 1 END"
)
_IS_BETWEEN = (
    "max(CASE WHEN NOT is_first_jpeg AND NOT differs_from_most THEN jpeg_quality END) "
    f"{_FROM_8_BELOW_DOWN} >= first_quality - 4"
)
"""A member of its size may be the JPEG whose traces this one carries: it has none, or those of a still stronger one. A
file with whole chroma, far better than its traces, is not taken for a copy of one with reduced chroma."""

OF_GROUP = (
    {"n_of_size": f"count(*) OVER ({_OF_ITS_SIZE})"},
    {
        "is_enlarged": "coalesce(detail_share < 0.85 "
        f"AND max(CASE WHEN {_IS_SHARP} THEN detail_px END) {_SHARP_BELOW} >= 0.35 * detail_px "
        f"AND max(CASE WHEN {_IS_SHARP} THEN n_of_size END) {_SHARP_BELOW} >= n_of_size, false)",
        "is_export": "coalesce(is_lossless AND decoder NOT LIKE '%rawpy%' AND max(CASE WHEN is_lossless "
        "OR format = 'GIF' THEN 0 ELSE 1 END) OVER (PARTITION BY label, pixel_hash) = 1, false)",
        "is_resaved": "is_made_from_another OR coalesce(NOT has_copies AND NOT is_first_jpeg "
        f"AND first_quality IS NOT NULL AND ({_IS_FIRST_JPEG_OF_IT} OR {_IS_BETWEEN}), false)",
    },
    {"kept_quality": "CASE WHEN is_resaved THEN least(first_quality, own_quality) ELSE own_quality END"},
    {
        "quality_below_best": f"max(kept_quality) OVER ({_OF_ITS_SIZE}) - kept_quality",
        "resaved_bytes": "CASE WHEN jpeg_quality IS NOT NULL THEN "
        "min(size_bytes) OVER (PARTITION BY label, pixel_hash) END",
        "true_px": "CASE WHEN is_enlarged OR has_added_border THEN detail_px ELSE shown_px END",
    },
    {
        "size_of_best": "true_px / nullif(greatest(max(CASE WHEN NOT has_added_border THEN true_px END) "
        "OVER (PARTITION BY label), 0.4 * max(true_px) OVER (PARTITION BY label)), 0)",
        "has_resaved_bytes": "coalesce(resaved_bytes > 1.005 * min(resaved_bytes) "
        f"OVER ({_OF_ITS_SIZE}, round(kept_quality, 0), chroma_subsampling), false)",
    },
)
"""Columns that compare a member with its group, by windows, in turn: later ones use earlier ones.

`n_of_size`: members of its size. `is_enlarged`: it holds detail at less than its size, and a much smaller member is
sharp and shows about as much, so that this one was made larger; where more members have its size than that of the
other, the original was soft. `is_export`: a lossless file, none of a camera, with the very pixels of one that is not;
the other way round would take a lossy file without loss. `is_resaved`: it was made from a member of its size, or has
traces of a JPEG, and a member of its size may be that JPEG, or is one of better quality without traces; where all have
the traces, the original had them, too, and so had a file from which a member was made. `kept_quality`: of the strongest
compression that tells it from others of its size; `quality_below_best`: how far below the best of these.
`has_resaved_bytes`: a JPEG with more bytes than another of its size, quality and chroma; saving again with the same
tables adds some percent where another program does it, as rounding adds coefficients (in 44 of 48 photos), and next to
nothing where the same one does. `size_of_best`: pixels as a share of the member with the most, of an enlarged one those
that hold detail; members with borders count at 0.4, so that a screenshot leaves the smaller photo that it shows in the
running, and not its thumbnail.

`differs_from_most` and `has_added_border` come from thumbnails, `is_made_from_another` and `has_copies` from blocks of
files of one size (stages/cluster/consensus.py)."""

EDITORS = (
    "photoshop|lightroom|gimp|affinity|pixelmator|snapseed|picsart|canva|vsco|paint|photoscape|picasa|acdsee|"
    "imagemagick|capture one|darktable|luminar|instagram|facetune|krita|polarr|photopea"
)
"""Programs that change pictures, as they call themselves in the EXIF tag Software; of cameras it names the firmware."""

CRITERIA = (
    ("is_damaged ASC", "it is whole, and a part of {other} is lost"),
    ("size_of_best >= 0.35 DESC", "it shows the picture at a far larger size than {other}"),
    ("has_added_border ASC", "nothing is added around it, as bars or a frame are in {other}"),
    ("differs_from_most ASC", "it shows what most of these files show, and {other} was marked or edited"),
    ("camera IS NOT NULL DESC", "it has the camera's EXIF data, and {other} has not"),
    ("has_maker_note DESC", "it has the camera's maker notes, and {other} has not"),
    (
        f"coalesce(camera IS NOT NULL AND regexp_like(lower(software), '{EDITORS}'), false) ASC",
        "no editor has written it, as one has written {other}",
    ),
    ("is_enlarged ASC", "its detail is as fine as its pixels, and {other} was enlarged"),
    ("width_px * height_px DESC", "it has more pixels than {other}"),
    ("is_export ASC", "it is compressed, and {other} is a lossless export of the same pixels"),
    ("is_made_from_another ASC", "it was made from none of the files of its size, and {other} was"),
    ("is_resaved ASC", "it carries no traces of an earlier JPEG, as {other} does"),
    ("quality_below_best > 3 ASC", "it was compressed less strongly than {other}"),
    (
        "coalesce(is_lossless AND earlier_jpeg_quality IS NOT NULL, false) ASC",
        "it is a JPEG, and {other} is the lossless export of one",
    ),
    ("bits_per_channel DESC", "it has more bits of each channel than {other}"),
    ("has_colour_profile DESC", "it has a profile with colours that {other} has not"),
    ("beside_hash IS NOT NULL DESC", "it holds more beside its picture than {other}"),
    ("date_trunc('DAY', modified_at) ASC", "it is older than {other}"),
    ("round(kept_quality, 0) DESC", "it was compressed a little less strongly than {other}"),
    ("has_resaved_bytes ASC", "{other} has more bytes for the same quality, as saving again adds some"),
    ("size_bytes DESC", "it has more bytes than {other}"),
    ("modified_at ASC", "it is some hours or minutes older than {other}"),
    ("uri ASC", "all else is equal, and its address comes before that of {other}"),
)
"""(item of cluster.keeper_order, the reason in words; {other} is the file that came second)."""

DEFAULT_ORDER = tuple(item for item, _ in CRITERIA)
WORDS = dict(CRITERIA)
