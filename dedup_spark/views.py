"""The SQL views for users: their text, and how to open them in a session, in a catalog or from a script.

To add a view, add it to `VIEWS`; it is then in `dedup-spark sql`, in the catalog and in `report/views.sql`.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame

from dedup_spark.config import ReportSettings
from dedup_spark.errors import TableError
from dedup_spark.tables import ALL, Tables

_DEFAULT_DEPTH = ReportSettings().prefix_depth


@dataclass(frozen=True)
class View:
    """Definition of one view.

    Attributes:
        columns: Name and comment of each column, in the order of the SELECT.
        sql: The query. `$images`, `$clusters`, ... stand for tables, `$prefix_depth` for a number.
    """

    name: str
    comment: str
    columns: tuple[tuple[str, str], ...]
    sql: str


DUPLICATES = View(
    "duplicates",
    "One row a member of a cluster that is not the keeper, with the keeper that stands for it.",
    (
        ("image_id", "The copy; as in images"),
        ("uri", "Address of the copy"),
        ("member", "Name of the copy inside a container; null when the object is the image"),
        ("keeper_image_id", "The image to retain"),
        ("keeper_uri", "Address of the image to retain"),
        ("keeper_member", "Name of the image to retain inside a container"),
        ("relation", "To the keeper: same_bytes, same_pixels or edited_copy"),
        ("similarity", "Cosine to the embedding of the keeper; null without embeddings"),
        ("hamming_bits", "Bits of 64 in which pHash differs from that of the keeper"),
        ("keeper_distance", "Distance to the keeper, never above clusters.bound"),
        ("is_bridge", "A pair leads from here to an image outside the cluster: look before you delete"),
        ("removable", "False below a prefix of cluster.protected_prefixes or cluster.reference_prefixes"),
        ("size_bytes", "What removing the copy would free, bytes"),
        ("cluster_id", "As in clusters"),
        ("cluster_size", "Members of the cluster, keeper included"),
        ("reason", "Why the copy is in the cluster, and why it stays, in words"),
    ),
    """\
SELECT copy.image_id, copy.uri, copy.member,
       keeper.image_id AS keeper_image_id, keeper.uri AS keeper_uri, keeper.member AS keeper_member,
       copy.relation, copy.similarity, copy.hamming_bits, copy.keeper_distance, copy.is_bridge,
       coalesce(copy.is_removable, false) AS removable,
       copy.size_bytes, copy.cluster_id, copy.cluster_size, copy.reason
FROM $clusters AS copy
JOIN $clusters AS keeper ON keeper.image_id = copy.keeper_image_id
WHERE NOT copy.is_keeper AND keeper.is_keeper""",
)

QUARANTINE = View(
    "quarantine",
    "One row an image that could not be read, with the reason. Such images are in no other view.",
    (
        ("image_id", "As in images"),
        ("uri", "Address of the object"),
        ("member", "Name inside a container; null when the object is the image"),
        ("reject_reason", "One of the closed list in kernels/images.py"),
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
        ("n_removable", "Images of the prefix that could be removed, as in duplicates"),
        ("removable_bytes", "Their size, bytes"),
        ("n_images", "All images found in the prefix"),
        ("size_bytes", "Their size, bytes"),
        ("removable_share", "removable_bytes / size_bytes, 0 to 1; null when no size is known"),
    ),
    """\
WITH placed AS (
  SELECT image_id, uri, size_bytes,
         CASE WHEN startswith(uri, concat(lake, '/')) THEN lake ELSE regexp_extract(uri, '^[^/]*//[^/]*', 0) END AS lake
  FROM $images
), marked AS (
  SELECT placed.lake, placed.size_bytes, copy.image_id IS NOT NULL AS removable,
         regexp_extract(substring(placed.uri, length(placed.lake) + 2), '^([^/]*/){0,$prefix_depth}', 0) AS prefix
  FROM placed
  LEFT JOIN (
    SELECT image_id FROM $clusters WHERE is_removable
  ) AS copy ON copy.image_id = placed.image_id
), summed AS (
  SELECT lake, prefix, count_if(removable) AS n_removable,
         coalesce(sum(size_bytes) FILTER (WHERE removable), 0) AS removable_bytes,
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
        ("keeper_distance", "Of the image to the keeper"),
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
       outside.relation, outside.keeper_distance, outside.cluster_id
FROM $clusters AS outside
JOIN reference ON reference.cluster_id = outside.cluster_id
WHERE NOT outside.is_reference""",
)

VIEWS: tuple[View, ...] = (DUPLICATES, QUARANTINE, EMBEDDINGS, RECLAIMABLE_BY_PREFIX, LEAKAGE)


def create_views(tables: Tables, prefix_depth: int = _DEFAULT_DEPTH) -> None:
    """Make the views known: in the catalog when the tables are in a database, else in this session by bare name.

    Raises:
        TableError: when a table is not there.
    """
    if tables.database:
        _execute(tables, [_in_catalog(tables, view, prefix_depth) for view in VIEWS])
    else:
        open_views(tables, prefix_depth)


def open_views(tables: Tables, prefix_depth: int = _DEFAULT_DEPTH) -> None:
    """All tables and views by bare name in this session only; nothing is written, wherever the tables are.

    Raises:
        TableError: when a table is not there.
    """
    _execute(tables, _temporary(tables, prefix_depth))


def read_view(tables: Tables, view: View, prefix_depth: int = _DEFAULT_DEPTH) -> DataFrame:
    """The view as a lazy DataFrame, whether or not it has been created."""
    return tables.spark.sql(_query(tables, view, prefix_depth))


def views_script(tables: Tables, prefix_depth: int = _DEFAULT_DEPTH) -> str:
    """SQL statements that open every table and view by bare name, for `spark-sql -i`.

    `spark-sql` splits scripts itself and stumbles over a quote or a semicolon in a path; everything else opens it.
    """
    return "\n".join([_SCRIPT_HEADER, *(f"{statement};\n" for statement in _temporary(tables, prefix_depth))])


_SCRIPT_HEADER = """\
-- Opens the tables and views of dedup_spark by name, for this session only:
--   spark-sql -i views.sql
-- Spark needs Delta. Where the platform does not bring it, give the settings of conf/local as well:
--   spark-sql --properties-file conf/local/spark-defaults.conf -i views.sql
"""


def _temporary(tables: Tables, prefix_depth: int) -> list[str]:
    """Views read tables directly, not each other: any of the statements works without the others."""
    opened = [
        f"CREATE OR REPLACE TEMPORARY VIEW {table.name} COMMENT {_quoted(table.comment)} AS\n"
        f"SELECT * FROM {tables.sql_source(table)}"
        for table in ALL
    ]
    return opened + [
        f"CREATE OR REPLACE TEMPORARY VIEW {view.name} {_signature(view)} AS\n{_query(tables, view, prefix_depth)}"
        for view in VIEWS
    ]


def _in_catalog(tables: Tables, view: View, prefix_depth: int) -> str:
    name = f"{tables.database}.{view.name}"
    return f"CREATE OR REPLACE VIEW {name} {_signature(view)} AS\n{_query(tables, view, prefix_depth)}"


def _signature(view: View) -> str:
    columns = ",\n  ".join(f"{name} COMMENT {_quoted(comment)}" for name, comment in view.columns)
    return f"(\n  {columns}\n) COMMENT {_quoted(view.comment)}"


def _query(tables: Tables, view: View, prefix_depth: int) -> str:
    return Template(view.sql).substitute(
        {table.name: tables.sql_source(table) for table in ALL},
        prefix_depth=prefix_depth,
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _execute(tables: Tables, statements: list[str]) -> None:
    try:
        for statement in statements:
            tables.spark.sql(statement)
    except AnalysisException as e:
        place = tables.database or tables.root
        reason = str(e).splitlines()[0]
        raise TableError(f"the views over {place} cannot be opened; are all tables there? Spark says: {reason}") from e
