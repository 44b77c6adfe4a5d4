"""The SQL views for users: their names, columns and text; `views.py` opens them.

To add a view, add it to `VIEWS`; it is then in `dedup-spark sql`, in the catalog and in `report/views.sql`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from string import Template

from dedup_spark.config import ClusterSettings, Config, ReportSettings
from dedup_spark.vocabulary import (
    OF_REPRESENTATIVES,
    DecidedBy,
    DistanceUnit,
    RejectReason,
    Relation,
    one_of,
)


@dataclass(frozen=True)
class View:
    """Definition of one view.

    Attributes:
        columns: Name and comment of each column, in the order of the SELECT.
        sql: The query. `$images`, `$clusters`, ... stand for tables, `$prefix_depth` and `$max_listing_age_hours` for
            numbers, `$copies` for the WITH clause of what is true of each copy now.
    """

    name: str
    comment: str
    columns: tuple[tuple[str, str], ...]
    sql: str


COPIES = """\
WITH listed AS (
  SELECT lake, max(coalesce(try_cast(get_json_object(notes, '$$.listed_at') AS timestamp), at)) AS listed_at
  FROM $runs WHERE step = 'inventory' AND status = 'complete' GROUP BY lake
), met AS (
  SELECT copy.*, keeper.uri AS keeper_uri, keeper.member AS keeper_member,
         present.lake, kept.lake AS keeper_lake, listed.listed_at AS keeper_listed_at,
         CASE
           WHEN copy.object_version IS NULL OR copy.keeper_object_version IS NULL
             THEN 'stays: found by a version that did not note what it saw: run again'
           WHEN kept.image_id IS NULL THEN 'stays: the keeper is gone'
           WHEN kept.object_version <> copy.keeper_object_version THEN 'stays: the keeper has changed'
           WHEN listed.listed_at IS NULL THEN 'stays: the lake of the keeper was never listed to its end'
           WHEN listed.listed_at < current_timestamp() - make_dt_interval(0, 0, 0, $max_listing_age_hours * 3600)
             THEN concat('stays: the lake of the keeper was last listed at ', cast(listed.listed_at AS string),
                         ', longer ago than cluster.max_listing_age_hours')
         END AS not_now
  FROM $clusters AS copy
  JOIN $images AS present
    ON present.image_id = copy.image_id AND coalesce(present.object_version = copy.object_version, true)
  JOIN $clusters AS keeper ON keeper.image_id = copy.keeper_image_id
  LEFT JOIN $images AS kept ON kept.image_id = copy.keeper_image_id
  LEFT JOIN listed ON listed.lake = kept.lake
  WHERE NOT copy.is_keeper AND keeper.is_keeper
), copies AS (
  SELECT *, coalesce(is_removable, false) AND not_now IS NULL AS removable FROM met
)
"""
"""The one definition of what may be removed now: by the step cluster, with copy and keeper as they were when they were
read, and the keeper's lake listed not long ago. Copies that are gone or have changed are no copies any more."""

_PHASH_BITS_OF_DOUBT = 4
"""match.max_hamming_bits is 3 at most: the first distance that match does not propose is all doubt."""
_CONTESTED = 0.05
"""Of the common content: less is a block or two, which a mark or a caption may be."""
_FEW_INLIERS = 12
"""Twice the least that geometry takes for an alignment (kernels/clusters/geometry.py)."""

DUPLICATES = View(
    "duplicates",
    "One row a member of a cluster that is not the keeper and is as it was read, with the keeper that stands for it.",
    (
        ("image_id", "The copy; as in images"),
        ("uri", "Address of the copy"),
        ("member", "Name of the copy inside a container; null when the object is the image"),
        ("keeper_image_id", "The image to retain"),
        ("keeper_uri", "Address of the image to retain"),
        ("keeper_member", "Name of the image to retain inside a container"),
        ("relation", f"To the keeper: {one_of(Relation)}"),
        ("similarity", "Cosine to the embedding of the keeper; null without embeddings"),
        ("hamming_bits", "Bits of 64 in which pHash differs from that of the keeper"),
        ("keeper_distance", "Distance to the keeper, never above clusters.bound, in the unit of distance_unit"),
        ("distance_unit", "As in clusters: what keeper_distance is, from columns of that table"),
        ("is_bridge", "A pair leads from here to an image outside the cluster: look before you delete"),
        ("removable", "May go now: the keeper is there as it was read, and its lake was listed not long ago"),
        ("size_bytes", "Size of the copy, bytes"),
        ("freed_bytes", "What removing the copy would free, bytes; 0 where it is not removable or frees nothing"),
        ("keeper_listed_at", "When the lake of the keeper was last listed to its end"),
        ("cluster_id", "As in clusters"),
        ("cluster_size", "Members of the cluster, keeper included"),
        ("reason", "What decided that it shows what the keeper shows, and why it stays, in words"),
    ),
    """\
$copies
SELECT image_id, uri, member, keeper_image_id, keeper_uri, keeper_member,
       relation, similarity, hamming_bits, keeper_distance, distance_unit, is_bridge,
       removable, size_bytes, CASE WHEN removable THEN freed_bytes ELSE 0 END AS freed_bytes, keeper_listed_at,
       cluster_id, cluster_size, concat_ws('; ', reason, not_now) AS reason
FROM copies""",
)

DOUBTFUL_FIRST = View(
    "doubtful_first",
    "One row a removable edited copy, the one most in doubt first: look at the first rows before you trust the rest.",
    (
        (
            "doubt",
            "0 to 1: keeper_distance / bound, how far towards the bound the copy is; by pHash alone hamming_bits / 4",
        ),
        ("doubts", "What speaks against it or was not looked at, in words; empty where nothing was uncertain"),
        ("uri", "Address of the copy"),
        ("member", "Name of the copy inside a container; null when the object is the image"),
        ("keeper_uri", "Address of the image to retain"),
        ("keeper_member", "Name of the image to retain inside a container"),
        ("decided_by", f"What decided between copy and keeper: {one_of(OF_REPRESENTATIVES)}"),
        ("copy_probability", "As in clusters: null where the model has no calibration, and without embeddings"),
        ("agreement", "As in clusters"),
        ("contested", "As in clusters"),
        ("n_inliers", "As in clusters"),
        ("is_direct", "As in clusters"),
        ("similarity", "Cosine to the embedding of the keeper; null without embeddings"),
        ("hamming_bits", "Bits of 64 in which pHash differs from that of the keeper"),
        ("is_bridge", "A pair leads from here to an image outside the cluster"),
        ("freed_bytes", "What removing the copy would free, bytes"),
        ("image_id", "The copy; as in images"),
        ("keeper_image_id", "The image to retain"),
        ("cluster_id", "As in clusters"),
        ("reason", "What decided, in words"),
    ),
    f"""\
$copies
SELECT CASE WHEN decided_by = '{DecidedBy.PHASH}' THEN least(hamming_bits / {_PHASH_BITS_OF_DOUBT}, 1D)
            ELSE coalesce(try_divide(cast(keeper_distance AS double), bound), 1D) END AS doubt,
       concat_ws('; ',
         CASE WHEN decided_by = '{DecidedBy.UNDECIDED}' THEN 'the thumbnails were not compared' END,
         CASE WHEN contested >= {_CONTESTED} THEN 'may be two pictures in one frame' END,
         CASE WHEN n_inliers = 0 THEN 'the thumbnails do not fit each other'
              WHEN n_inliers < {_FEW_INLIERS} THEN 'few keypoints fit' END,
         CASE WHEN NOT is_direct THEN 'joined through other members' END,
         CASE WHEN distance_unit = '{DistanceUnit.SIMILARITY}' THEN 'by the cosine alone'
              WHEN decided_by = '{DecidedBy.PHASH}' THEN 'by the pHash alone' END) AS doubts,
       uri, member, keeper_uri, keeper_member, decided_by, copy_probability, agreement, contested, n_inliers, is_direct,
       similarity, hamming_bits, is_bridge, freed_bytes, image_id, keeper_image_id, cluster_id, reason
FROM copies WHERE removable AND relation = '{Relation.EDITED_COPY}'
ORDER BY doubt DESC, n_inliers, image_id""",
)
"""Of all that the tables know of a pair, this is what was uncertain: a low cosine is none where thumbnails agree."""

QUARANTINE = View(
    "quarantine",
    "One row an image that could not be read, with the reason. Such images are in no other view.",
    (
        ("image_id", "As in images"),
        ("uri", "Address of the object"),
        ("member", "Name inside a container; null when the object is the image"),
        ("reject_reason", one_of(RejectReason)),
        ("reject_message", "What the decoder or the store said"),
        ("retriable", "Whether reading the object again may help: `dedup-spark extract --retry-rejects`"),
        ("magic_format", "Format by the first bytes; null when they are those of no image format"),
        ("extension", "What the name claims, after the last dot"),
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
    "One row an image that has an embedding.",
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
    "One row a folder of the lake, down to report.prefix_depth, that holds removable images. Each image counts once.",
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
         CASE WHEN startswith(uri, concat(lake, '/')) THEN lake ELSE regexp_extract(uri, '^[^/]*//[^/]*', 0) END AS lake
  FROM $images
), marked AS (
  SELECT placed.lake, placed.size_bytes, gone.image_id IS NOT NULL AS removable, gone.freed_bytes,
         regexp_extract(substring(placed.uri, length(placed.lake) + 2), '^([^/]*/){0,$prefix_depth}', 0) AS prefix
  FROM placed
  LEFT JOIN (SELECT image_id, freed_bytes FROM copies WHERE removable) AS gone ON gone.image_id = placed.image_id
), summed AS (
  SELECT lake, prefix, count_if(removable) AS n_removable,
         coalesce(sum(freed_bytes) FILTER (WHERE removable), 0) AS removable_bytes,
         count(*) AS n_images, coalesce(sum(size_bytes), 0) AS size_bytes
  FROM marked GROUP BY lake, prefix
)
SELECT lake, prefix, n_removable, removable_bytes, n_images, size_bytes,
       try_divide(removable_bytes, size_bytes) AS removable_share
FROM summed WHERE n_removable > 0""",
)

LEAKAGE = View(
    "leakage",
    "One row an image outside the reference sets that shows what an image in them shows (cluster.reference_prefixes).",
    (
        ("image_id", "The image outside, e.g. of the training set; as in images"),
        ("uri", "Address of the image"),
        ("member", "Name inside a container; null when the object is the image"),
        ("reference_image_id", "An image of a reference set in the same cluster: the keeper where it is one"),
        ("reference_uri", "Address of the image of the reference set"),
        ("reference_member", "Name of it inside a container"),
        ("n_references", "Images of reference sets in the cluster"),
        ("relation", "Of the image to the keeper of the cluster; null where it is the keeper"),
        ("keeper_distance", "Of the image to the keeper, in the unit of distance_unit"),
        ("distance_unit", "As in clusters"),
        ("cluster_id", "As in clusters"),
    ),
    """\
WITH reference AS (
  SELECT cluster_id, count(*) AS n_references,
         min_by(struct(image_id, uri, member), struct(NOT is_keeper, uri)) AS first
  FROM $clusters WHERE is_reference GROUP BY cluster_id
)
SELECT outside.image_id, outside.uri, outside.member,
       reference.first.image_id AS reference_image_id, reference.first.uri AS reference_uri,
       reference.first.member AS reference_member, reference.n_references,
       outside.relation, outside.keeper_distance, outside.distance_unit, outside.cluster_id
FROM $clusters AS outside
JOIN reference ON reference.cluster_id = outside.cluster_id
WHERE NOT outside.is_reference""",
)

REMOVALS = View(
    "removals",
    "What `dedup-spark verify-removal` looks at: the removable copies, with what is known of each and of its keeper.",
    (
        ("image_id", "The copy; as in images"),
        ("uri", "Address of the copy"),
        ("member", "Name of the copy inside a container; null when the object is the image"),
        ("size_bytes", "By the last listing; as in images"),
        ("modified_at", "By the last listing; as in images"),
        ("etag", "By the last listing; as in images"),
        ("content_hash", "As in features"),
        ("n_links", "As in images"),
        ("keeper_image_id", "The image to retain"),
        ("keeper", "Of that: uri, member, location, position, size_bytes, modified_at, etag, content_hash"),
        ("keeper_lake", "Lake of the image to retain"),
        ("relation", "To the keeper"),
        ("freed_bytes", "As in duplicates"),
        ("cluster_id", "As in clusters"),
    ),
    """\
$copies
SELECT copies.image_id, copies.uri, copies.member, gone.size_bytes, gone.modified_at, gone.etag, copies.content_hash,
       gone.n_links, copies.keeper_image_id,
       struct(kept.uri, kept.member, kept.location, kept.position, kept.size_bytes, kept.modified_at, kept.etag,
              copies.keeper_content_hash AS content_hash) AS keeper,
       copies.keeper_lake, copies.relation, copies.freed_bytes, copies.cluster_id
FROM copies
JOIN $images AS gone ON gone.image_id = copies.image_id
JOIN $images AS kept ON kept.image_id = copies.keeper_image_id
WHERE copies.removable""",
)
"""Of no use to people by name: it is no view of the catalog."""

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
    """The view as SQL, where each table is called as `sources` has it by its name."""
    named: dict[str, object] = {**sources, **asdict(settings)}
    copies = Template(COPIES.rstrip()).substitute(named)
    return Template(view.sql).substitute(named, copies=copies)
