"""The SQL views for users: their names, columns and text; `views.py` opens them.

To add a view, add it to `VIEWS`; it is then in `dedup-spark sql`, in the catalog and in `report/views.sql`. Spark and
DuckDB read the same text. What they take differently is avoided: `concat` (of a null), a type `timestamp`, a bare
column `at`, `1D`, `struct`, sums of integers that nobody casts. Functions that DuckDB lacks are macros in `duck.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from string import Template

from dedup_spark.config import ClusterSettings, Config, ReportSettings
from dedup_spark.vocabulary import (
    IDENTICAL,
    OF_REPRESENTATIVES,
    DecidedBy,
    DistanceUnit,
    Edit,
    RejectReason,
    Relation,
    RemovalTier,
    one_of,
)


@dataclass(frozen=True)
class View:
    """Definition of one view.

    Attributes:
        columns: Name and comment of each column, in the order of the SELECT.
        sql: The query. `$images`, `$clusters`, ... stand for tables, `$prefix_depth` and `$max_listing_age_hours` for
            numbers, `$copies` for the WITH clause `COPIES`: what is true of each copy now.
    """

    name: str
    comment: str
    columns: tuple[tuple[str, str], ...]
    sql: str


COPIES = """\
WITH listed AS (
  SELECT lake, max(coalesce(try_to_timestamp(get_json_object(notes, '$$.listed_at')), runs.at)) AS listed_at
  FROM $runs AS runs WHERE step = 'inventory' AND status = 'complete' GROUP BY lake
), oldest AS (
  SELECT current_timestamp - make_dt_interval(0, 0, 0, $max_listing_age_hours * 3600) AS listed_at
), checked AS (
  SELECT copy.*, keeper.uri AS keeper_uri, keeper.member AS keeper_member,
         kept.uri AS near_uri, kept.member AS near_member,
         present.lake, kept.lake AS keeper_lake, listed.listed_at AS keeper_listed_at,
         CASE
           WHEN copy.object_version IS NULL OR copy.removal_tier IS NULL
             THEN 'stays: an older version of dedup-spark found it and stored no removal tier: run again'
           WHEN kept.image_id IS NULL THEN concat('stays: ', stands, ' is gone')
           WHEN kept.object_version <> copy.near_object_version THEN concat('stays: ', stands, ' has changed')
           WHEN kept.unlisted_since IS NOT NULL THEN concat('stays: the folder of ', stands, ' could not be listed')
           WHEN listed.listed_at IS NULL THEN concat('stays: the lake of ', stands, ' was never listed to its end')
           WHEN listed.listed_at < oldest.listed_at
             THEN concat('stays: the lake of ', stands, ' was last listed at ',
                         substring(cast(listed.listed_at AS string), 1, 19),
                         ', longer ago than cluster.max_listing_age_hours')
           WHEN present.unlisted_since IS NOT NULL THEN 'stays: its folder could not be listed'
           WHEN own.listed_at IS NULL THEN 'stays: its lake was never listed to its end'
           WHEN own.listed_at < oldest.listed_at
             THEN concat('stays: its lake was last listed at ', substring(cast(own.listed_at AS string), 1, 19),
                         ', longer ago than cluster.max_listing_age_hours')
         END AS not_now
  FROM (
    SELECT *, CASE WHEN near_image_id <> keeper_image_id THEN 'what stands for it' ELSE 'the keeper' END AS stands
    FROM $clusters
  ) AS copy
  JOIN $images AS present
    ON present.image_id = copy.image_id AND coalesce(present.object_version = copy.object_version, true)
  JOIN $clusters AS keeper ON keeper.image_id = copy.keeper_image_id
  LEFT JOIN $images AS kept ON kept.image_id = copy.near_image_id
  LEFT JOIN listed ON listed.lake = kept.lake
  LEFT JOIN listed AS own ON own.lake = present.lake
  CROSS JOIN oldest
  WHERE NOT copy.is_keeper AND NOT coalesce(keeper.is_removable, false)
), copies AS (
  SELECT *, coalesce(is_removable, false) AND not_now IS NULL AS removable FROM checked
)
"""
"""The one definition of what may be removed now: the step cluster allows it, the copy and what stands for it are as
they were when they were read, and their lakes were listed not long ago: at the address of either may be another picture
since. What stands for it is its keeper as a rule; see clusters.near_image_id. Copies that are gone or have changed are
left out."""

_PHASH_BITS_OF_DOUBT = 4
"""match.max_hamming_bits is 3 at most: the first distance that match does not propose counts as full doubt."""
_CONTESTED = 0.05
"""Share of the common content. A smaller share is a block or two, which a watermark or a caption may cause."""
_FEW_INLIERS = 12
"""Twice the least that an alignment needs (kernels/comparing/geometry.py)."""

DUPLICATES = View(
    "duplicates",
    "One row per copy: a member of a cluster that is not the keeper and has not changed since it was read, with its "
    "keeper.",
    (
        ("image_id", "The copy; as in images"),
        ("uri", "Address of the copy"),
        ("member", "Name of the copy inside a container; null when the object is the image"),
        ("keeper_image_id", "The image to keep"),
        ("keeper_uri", "Address of the image to keep"),
        ("keeper_member", "Name of the image to keep inside a container"),
        ("relation", f"What the copy is to the keeper: {one_of(Relation)}"),
        ("removal_tier", f"What would be lost with the copy, the least first: {one_of(RemovalTier)}"),
        ("edit", f"What is known of an edited copy: {one_of(Edit)}, with commas between; null where nothing is"),
        ("near_image_id", "The image that stays and stands for the copy: the keeper as a rule; see clusters"),
        ("near_uri", "Address of that image"),
        ("near_member", "Name of that image inside a container"),
        ("similarity", "Cosine to the embedding of the keeper; null without embeddings"),
        ("hamming_bits", "Bits of 64 in which pHash differs from that of the keeper"),
        ("keeper_distance", "Distance to the keeper in the unit of distance_unit; see clusters.near_distance"),
        ("distance_unit", "As in clusters: how keeper_distance is computed from columns of that table"),
        ("is_bridge", "The copy has a pair with an image outside the cluster: look at it before you delete it"),
        (
            "removable",
            "May be removed now: clusters allow it, neither it nor what stands for it has changed, and "
            "their lakes were listed not long ago. A copy with a `member` is to be taken out of its container: the "
            "object at `uri` holds other images, too",
        ),
        ("size_bytes", "Size of the copy, bytes"),
        ("freed_bytes", "What removing the copy would free, bytes; 0 where it is not removable or frees nothing"),
        ("keeper_listed_at", "When the lake of near_image_id was last listed to its end"),
        ("cluster_id", "As in clusters"),
        ("cluster_size", "Members of the cluster, keeper included"),
        ("reason", "What decided that it shows what the keeper shows and, where it stays, why, in words"),
    ),
    """\
$copies
SELECT image_id, uri, member, keeper_image_id, keeper_uri, keeper_member,
       relation, removal_tier, edit, near_image_id, near_uri, near_member,
       similarity, hamming_bits, keeper_distance, distance_unit, is_bridge,
       removable, size_bytes, CASE WHEN removable THEN freed_bytes ELSE 0 END AS freed_bytes, keeper_listed_at,
       cluster_id, cluster_size, concat_ws('; ', reason, not_now) AS reason
FROM copies""",
)

DOUBTFUL_FIRST = View(
    "doubtful_first",
    "One row per removable copy that is not a byte or pixel copy of what stands for it, the most doubtful first: look "
    "at the first rows before you trust the rest.",
    (
        (
            "doubt",
            "0 to 1: keeper_distance / bound, how near to the bound the copy is; by pHash alone hamming_bits / 4",
        ),
        ("doubts", "What is uncertain or was not checked, in words; empty where nothing was"),
        ("uri", "Address of the copy"),
        ("member", "Name of the copy inside a container; null when the object is the image"),
        ("keeper_uri", "Address of the image to keep"),
        ("keeper_member", "Name of the image to keep inside a container"),
        ("removal_tier", "As in duplicates"),
        ("edit", "As in duplicates"),
        ("differing_share", "As in clusters: what differs where the thumbnails are laid over each other"),
        ("decided_by", f"What decided between copy and keeper: {one_of(OF_REPRESENTATIVES)}"),
        ("copy_probability", "As in clusters: null where pairs are not judged by evidence"),
        ("agreement", "As in clusters"),
        ("contested", "As in clusters"),
        ("n_inliers", "As in clusters"),
        ("is_direct", "As in clusters"),
        ("similarity", "Cosine to the embedding of the keeper; null without embeddings"),
        ("hamming_bits", "Bits of 64 in which pHash differs from that of the keeper"),
        ("is_bridge", "The copy has a pair with an image outside the cluster"),
        ("freed_bytes", "What removing the copy would free, bytes"),
        ("image_id", "The copy; as in images"),
        ("keeper_image_id", "The image to keep"),
        ("cluster_id", "As in clusters"),
        ("reason", "What decided that it shows what the keeper shows, in words"),
    ),
    f"""\
$copies
SELECT CASE WHEN decided_by = '{DecidedBy.PHASH}' THEN least(hamming_bits / {_PHASH_BITS_OF_DOUBT}, cast(1 AS double))
            ELSE coalesce(try_divide(cast(keeper_distance AS double), bound), cast(1 AS double)) END AS doubt,
       concat_ws('; ',
         CASE WHEN decided_by = '{DecidedBy.UNDECIDED}' THEN 'the thumbnails were not aligned' END,
         CASE WHEN contested >= {_CONTESTED} THEN 'may be two pictures in one frame' END,
         CASE WHEN distance_unit IS NULL THEN 'of an older version: unknown until the next run' END,
         CASE WHEN decided_by = '{DecidedBy.COSINE}' AND n_inliers IS NOT NULL
              THEN 'the thumbnails show too little to compare'
              WHEN n_inliers = 0 AND agreement IS NULL THEN 'the thumbnails do not fit each other'
              WHEN n_inliers = 0 THEN NULL
              WHEN n_inliers < {_FEW_INLIERS} THEN 'few keypoints fit' END,
         CASE WHEN NOT is_direct THEN 'joined through other members' END,
         CASE WHEN distance_unit = '{DistanceUnit.SIMILARITY}' THEN 'by the cosine alone'
              WHEN decided_by = '{DecidedBy.PHASH}' THEN 'by the pHash alone' END) AS doubts,
       uri, member, keeper_uri, keeper_member, removal_tier, edit, differing_share, decided_by,
       copy_probability, agreement, contested, n_inliers, is_direct,
       similarity, hamming_bits, is_bridge, freed_bytes, image_id, keeper_image_id, cluster_id, reason
FROM copies WHERE removable AND removal_tier NOT IN ({", ".join(f"'{tier}'" for tier in IDENTICAL)})
ORDER BY doubt DESC, n_inliers, image_id""",
)
"""The doubts are what was uncertain about a pair. A low cosine is no doubt where the thumbnails agree."""

QUARANTINE = View(
    "quarantine",
    "One row per image that could not be read, with the reason. Such images are in no other view.",
    (
        ("image_id", "As in images"),
        ("uri", "Address of the object"),
        ("member", "Name inside a container; null when the object is the image"),
        ("reject_reason", one_of(RejectReason)),
        ("reject_message", "Message of the decoder or of the store"),
        ("retriable", "Whether reading the object again may help: `dedup-spark extract --retry-rejects`"),
        (
            "magic_format",
            "Format by the first bytes; null when no image format. Where the name does not claim to be an image "
            "either, what the file is: PDF, ZIP, text",
        ),
        ("extension", "What follows the last dot of the name"),
        ("size_bytes", "Size by the listing, bytes"),
        ("modified_at", "Last modification by the listing, UTC"),
    ),
    """\
SELECT images.image_id, images.uri, images.member, features.reject_reason, features.reject_message,
       features.retriable, features.magic_format,
       regexp_extract(coalesce(images.member, images.uri), '[.]([^./]*)$$', 1) AS extension,
       images.size_bytes, images.modified_at
FROM $features AS features
JOIN $images AS images ON images.image_id = features.image_id
WHERE features.status = 'rejected'""",
)

EMBEDDINGS = View(
    "embeddings",
    "One row per image that has an embedding.",
    (
        ("image_id", "As in images"),
        ("uri", "Address of the object"),
        ("member", "Name inside a container; null when the object is the image"),
        ("model_id", "Weights, runtime numbers and preprocessing; vectors of two models must not be compared"),
        ("embedding", "Unit vector, little-endian float16"),
    ),
    """\
SELECT images.image_id, images.uri, images.member, features.model_id, features.embedding
FROM $features AS features
JOIN $images AS images ON images.image_id = features.image_id
WHERE features.status = 'ok' AND features.embedding IS NOT NULL""",
)

RECLAIMABLE_BY_PREFIX = View(
    "reclaimable_by_prefix",
    "One row per folder of the lake, down to report.prefix_depth, that holds removable images. Each image counts once.",
    (
        ("lake", "Root of the lake; for a listed object outside it, scheme and host of its uri"),
        ("prefix", "Folder below lake, ending in a slash; empty for objects directly in the lake"),
        ("n_removable", "Images of the prefix that could be removed now, as in duplicates"),
        ("removable_bytes", "What that would free, bytes"),
        ("n_images", "All images found in the prefix"),
        ("size_bytes", "Their size, bytes"),
        ("removable_share", "removable_bytes / size_bytes, 0 to 1; null when no size is known"),
    ),
    """\
$copies, placed AS (
  SELECT image_id, uri, size_bytes,
         CASE WHEN startswith(uri, lake || '/') THEN lake ELSE regexp_extract(uri, '^[^/]*//[^/]*', 0) END AS lake
  FROM $images
), marked AS (
  SELECT placed.lake, placed.size_bytes, gone.image_id IS NOT NULL AS removable, gone.freed_bytes,
         regexp_extract(substring(placed.uri, length(placed.lake) + 2), '^([^/]*/){0,$prefix_depth}', 0) AS prefix
  FROM placed
  LEFT JOIN (SELECT image_id, freed_bytes FROM copies WHERE removable) AS gone ON gone.image_id = placed.image_id
), summed AS (
  SELECT lake, prefix, count(*) FILTER (WHERE removable) AS n_removable,
         cast(coalesce(sum(freed_bytes) FILTER (WHERE removable), 0) AS bigint) AS removable_bytes,
         count(*) AS n_images, cast(coalesce(sum(size_bytes), 0) AS bigint) AS size_bytes
  FROM marked GROUP BY lake, prefix
)
SELECT lake, prefix, n_removable, removable_bytes, n_images, size_bytes,
       try_divide(removable_bytes, size_bytes) AS removable_share
FROM summed WHERE n_removable > 0""",
)

LEAKAGE = View(
    "leakage",
    "One row per image outside the reference sets (cluster.reference_prefixes) that shows what an image in them shows.",
    (
        ("image_id", "The image outside, e.g. of the training set; as in images"),
        ("uri", "Address of the image"),
        ("member", "Name inside a container; null when the object is the image"),
        ("reference_image_id", "An image of a reference set in the same cluster: the keeper where it is one"),
        ("reference_uri", "Address of the image of the reference set"),
        ("reference_member", "Name inside a container of the image of the reference set"),
        ("n_references", "Images of reference sets in the cluster"),
        (
            "relation",
            "What the image is to the keeper of the cluster; where another member is its keeper, what that one is",
        ),
        ("keeper_distance", "Distance of the same image to the keeper of the cluster, in the unit of distance_unit"),
        ("distance_unit", "As in clusters"),
        ("cluster_id", "As in clusters"),
    ),
    """\
WITH reference AS (
  SELECT cluster_id, image_id, uri, member, count(*) OVER (PARTITION BY cluster_id) AS n_references,
         row_number() OVER (PARTITION BY cluster_id ORDER BY is_keeper DESC, uri, member) AS place
  FROM $clusters WHERE is_reference
)
SELECT outside.image_id, outside.uri, outside.member,
       reference.image_id AS reference_image_id, reference.uri AS reference_uri, reference.member AS reference_member,
       reference.n_references, coalesce(own.relation, outside.relation) AS relation,
       CASE WHEN own.image_id IS NULL THEN outside.keeper_distance ELSE own.keeper_distance END AS keeper_distance,
       coalesce(own.distance_unit, outside.distance_unit) AS distance_unit, outside.cluster_id
FROM $clusters AS outside
LEFT JOIN $clusters AS own ON own.image_id = outside.keeper_image_id AND NOT own.is_keeper
JOIN reference ON reference.cluster_id = outside.cluster_id AND reference.place = 1
WHERE NOT outside.is_reference""",
)

REMOVALS = View(
    "removals",
    "One row per removable copy, with what `dedup-spark verify-removal` must know of it and of its keeper.",
    (
        ("image_id", "The copy; as in images"),
        ("uri", "Address of the copy"),
        ("member", "Name of the copy inside a container; null when the object is the image"),
        ("size_bytes", "By the last listing; as in images"),
        ("modified_at", "By the last listing; as in images"),
        ("etag", "By the last listing; as in images"),
        ("content_hash", "As in features"),
        ("n_links", "As in images"),
        ("keeper_image_id", "The image that stands for it: clusters.near_image_id"),
        ("keeper", "Its uri, member, location, position, size_bytes, modified_at, etag and content_hash"),
        ("keeper_lake", "Lake of that image"),
        ("relation", "What the copy is to its keeper"),
        ("removal_tier", "As in clusters"),
        ("freed_bytes", "As in duplicates"),
        ("cluster_id", "As in clusters"),
    ),
    """\
$copies
SELECT copies.image_id, copies.uri, copies.member, gone.size_bytes, gone.modified_at, gone.etag, copies.content_hash,
       gone.n_links, copies.near_image_id AS keeper_image_id,
       struct(kept.uri, kept.member, kept.location, kept.position, kept.size_bytes, kept.modified_at, kept.etag,
              copies.near_content_hash AS content_hash) AS keeper,
       copies.keeper_lake, copies.relation, copies.removal_tier, copies.freed_bytes, copies.cluster_id
FROM copies
JOIN $images AS gone ON gone.image_id = copies.image_id
JOIN $images AS kept ON kept.image_id = copies.near_image_id
WHERE copies.removable""",
)
"""For the command alone: it is not created in the catalog."""

VIEWS: tuple[View, ...] = (DUPLICATES, DOUBTFUL_FIRST, QUARANTINE, EMBEDDINGS, RECLAIMABLE_BY_PREFIX, LEAKAGE)


@dataclass(frozen=True)
class ViewSettings:
    """The settings that views depend on."""

    prefix_depth: int = ReportSettings().prefix_depth
    max_listing_age_hours: float = ClusterSettings().max_listing_age_hours

    @classmethod
    def of(cls, config: Config) -> ViewSettings:
        return cls(config.report.prefix_depth, config.cluster.max_listing_age_hours)


def query_of(view: View, sources: Mapping[str, str], settings: ViewSettings) -> str:
    """The view as SQL. `sources` has, by name of a table, how SQL refers to it."""
    named: dict[str, object] = {**sources, **asdict(settings)}
    copies = Template(COPIES.rstrip()).substitute(named)
    return Template(view.sql).substitute(named, copies=copies)
