"""The SQL views for users, as text over table names: one text serves temporary views, a catalog and a script."""

from __future__ import annotations

from dataclasses import dataclass

from dedup_spark.tables import ALL, Tables

REMOVABLE = "('same_bytes', 'same_pixels', 'edited_copy')"
"""Relations that propose removal; `similar_scene` is for a person to look at."""


@dataclass(frozen=True)
class View:
    """`sql` names tables and earlier views by their bare names."""

    name: str
    comment: str
    sql: str


def views(prefix_depth: int) -> tuple[View, ...]:
    """All views, in an order in which each may use the ones before. `prefix_depth` counts folders below the lake."""
    return (
        View(
            "duplicates",
            "Members of clusters that are not the keeper: what could be removed, and why",
            f"""
            SELECT m.image_id, m.uri, m.member, m.cluster_id, m.cluster_size, m.keeper_image_id,
                   k.uri AS keeper_uri, k.member AS keeper_member, m.relation, m.similarity, m.hamming_bits,
                   m.size_bytes, m.relation IN {REMOVABLE} AS removable, m.reason
            FROM clusters m JOIN clusters k ON m.keeper_image_id = k.image_id
            WHERE NOT m.is_keeper""",
        ),
        View(
            "quarantine",
            "Objects that gave no image, and why",
            """
            SELECT i.image_id, i.uri, i.member, f.reject_reason, f.reject_message, i.size_bytes, i.modified_at
            FROM features f JOIN images i ON f.image_id = i.image_id
            WHERE f.status = 'rejected'""",
        ),
        View(
            "embeddings",
            "Embedding of every readable image",
            """
            SELECT f.image_id, i.uri, i.member, f.model_id, f.embedding
            FROM features f JOIN images i ON f.image_id = i.image_id
            WHERE f.embedding IS NOT NULL""",
        ),
        View(
            "reclaimable_by_prefix",
            f"Removable images and bytes by the first {prefix_depth} folders below the lake",
            f"""
            WITH placed AS (
                SELECT i.lake, d.image_id IS NOT NULL AS removable, i.size_bytes,
                       slice(split(substring(i.uri, length(i.lake) + 2), '/'), 1,
                             least({prefix_depth}, size(split(substring(i.uri, length(i.lake) + 2), '/')) - 1)
                       ) AS folders
                FROM images i LEFT JOIN duplicates d ON i.image_id = d.image_id AND d.removable)
            SELECT concat_ws('/', lake, array_join(folders, '/')) AS prefix,
                   count(*) AS n_images, sum(size_bytes) AS size_bytes,
                   count_if(removable) AS n_removable,
                   coalesce(sum(size_bytes) FILTER (WHERE removable), 0) AS removable_bytes,
                   count_if(removable) / count(*) AS removable_share
            FROM placed GROUP BY 1""",
        ),
    )


def create_views(tables: Tables, prefix_depth: int = 2) -> None:
    """Make every view known by name: persistent ones in the catalog schema, else temporary ones, tables included."""
    for statement in _statements(tables, prefix_depth):
        tables.spark.sql(statement)


def views_script(tables: Tables, prefix_depth: int = 2) -> str:
    """The same as a script: `spark-sql -i views.sql` opens every table and view by name."""
    return "".join(f"{statement};\n\n" for statement in _statements(tables, prefix_depth))


def _statements(tables: Tables, prefix_depth: int) -> list[str]:
    if tables.database:
        statements = [f"USE {tables.database}"]
        kind = "VIEW"
    else:
        statements = [
            f"CREATE OR REPLACE TEMPORARY VIEW {t.name} COMMENT '{_quoted(t.comment)}'\n"
            f"AS SELECT * FROM {tables.sql_source(t)}"
            for t in ALL
        ]
        kind = "TEMPORARY VIEW"
    return statements + [
        f"CREATE OR REPLACE {kind} {v.name} COMMENT '{_quoted(v.comment)}'\nAS {v.sql.strip()}"
        for v in views(prefix_depth)
    ]


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
