"""The tables: names, keys, schemas, column comments, layout; the only reader and writer of Delta.

Every column has a comment with its meaning and unit, so that `DESCRIBE TABLE` is the data dictionary.
A table lives at `<root>/<name>`, or, with a database, in the catalog as `<database>.<name>`; files that
are not tables (FAISS shards, the report) always live under `<root>`.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup_spark import storage
from dedup_spark.errors import TableError
from dedup_spark.lease import Lease
from dedup_spark.table_format import FORMAT, Format, read_format, write_format

log = logging.getLogger(__name__)

_COMMIT = re.compile(r"\d{20}\.json")


@dataclass(frozen=True)
class Table:
    """Definition of one table. `key` is unique; `statistics` are the columns worth min/max pruning."""

    name: str
    comment: str
    key: tuple[str, ...]
    columns: tuple[tuple[str, T.DataType, str], ...]
    statistics: tuple[str, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> T.StructType:
        return T.StructType([T.StructField(n, t, True, {"comment": c}) for n, t, c in self.columns])

    @property
    def column_names(self) -> list[str]:
        return [n for n, _, _ in self.columns]


_LONG, _INT, _STR, _FLOAT, _BOOL = T.LongType(), T.IntegerType(), T.StringType(), T.FloatType(), T.BooleanType()
_TIME, _BYTES, _DOUBLE = T.TimestampType(), T.BinaryType(), T.DoubleType()
_COUNTS = T.MapType(T.StringType(), T.LongType())

IMAGES = Table(
    "images",
    "One row an object of the lake that exists; made by listing, nothing is read.",
    ("image_id",),
    (
        ("image_id", _LONG, "Stable 64-bit hash of uri and member; see stages/inventory.py"),
        ("lake", _STR, "Root of the lake whose listing found the object first"),
        ("uri", _STR, "Full normalised address of the object"),
        ("member", _STR, "Name inside a container such as a tar file; null when the object is the image"),
        ("location", _STR, "File that holds the bytes, where that is not uri (a table's data file)"),
        ("position", _LONG, "Place in that file: byte offset in a tar file, row number in a table's; else null"),
        ("size_bytes", _LONG, "Size by the listing, bytes; null where it does not say"),
        ("modified_at", _TIME, "Last modification by the listing, UTC"),
        ("etag", _STR, "ETag or checksum by the listing; null where the store has none"),
        ("attributes", T.MapType(_STR, _STR), "Further columns of a manifest or table, as text"),
        ("object_version", _LONG, "Hash of size_bytes, modified_at and etag: changes when the object does"),
        ("file_id", _STR, "Of a file on a disk: host/device:inode, equal for all its names; null in object stores"),
        ("n_links", _INT, "Names (hard links) that the file has on its disk; null in object stores"),
    ),
    ("image_id",),
)

FEATURES = Table(
    "features",
    "One row an image that was read once: signatures and facts, or the reason why it was rejected.",
    ("image_id",),
    (
        ("image_id", _LONG, "As in images"),
        ("object_version", _LONG, "images.object_version of the listing that this row was read for"),
        ("status", _STR, "ok or rejected"),
        ("reject_reason", _STR, "Null when ok; otherwise one of the closed list in kernels/images.py"),
        ("reject_message", _STR, "What the decoder or the store said"),
        ("retriable", _BOOL, "Whether reading a rejected object again may help; null when ok"),
        ("n_retries", _INT, "Failed attempts before the object was read or given up"),
        ("read_bytes", _LONG, "Bytes read from the object; null when it could not be read"),
        ("content_hash", _STR, "SHA-256 of the bytes, hex, as sha256sum prints it"),
        ("pixel_hash", _STR, "SHA-256 of size, mode and decoded pixels after EXIF orientation, hex"),
        ("phash", _LONG, "64-bit pHash; the bits of imagehash.phash, first bit highest"),
        ("width_px", _INT, "Width after EXIF orientation, pixels"),
        ("height_px", _INT, "Height after EXIF orientation, pixels"),
        ("magic_format", _STR, "Format by the first bytes, also of rejected images; null when no image format"),
        ("format", _STR, "Format by the decoder, e.g. JPEG, PNG, WEBP"),
        ("decoder", _STR, "What decoded the image, e.g. pillow, pillow-heif, rawpy preview"),
        ("mode", _STR, "Pillow mode of the decoded pixels, e.g. RGB, L, CMYK, I;16"),
        ("n_frames", _INT, "Frames or pages in the file; the first one is described here"),
        ("exif_orientation", _INT, "EXIF orientation tag 1-8; 1 when absent; already applied"),
        ("sharpness", _FLOAT, "Variance of the Laplacian of the grey thumbnail (levels squared); low is blurred"),
        ("luma_stddev", _FLOAT, "Standard deviation of the grey thumbnail, levels of 255; near 0 is blank"),
        ("entropy_bits", _FLOAT, "Shannon entropy of the grey thumbnail's histogram, bits, 0 to 8"),
        ("signature_version", _STR, "Versions of decoder and preprocessing that made this row"),
        ("run_id", _STR, "Run that read the image"),
        ("thumbnail", _BYTES, "JPEG, longest side extract.thumbnail_px"),
        ("model_id", _STR, "Weights, runtime numbers and preprocessing of the embedding; null when there is none"),
        ("embedding", _BYTES, "Unit vector, little-endian float16; 1,024 bytes for 512 dimensions"),
    ),
    ("image_id", "status", "reject_reason"),
)

TOMBSTONES = Table(
    "tombstones",
    "One row an image that a complete listing lacked: what was known of it, kept for inventory.grace_days.",
    ("image_id",),
    (
        *IMAGES.columns,
        ("gone_at", _TIME, "End of the first complete listing that lacked it, UTC"),
        *(column for column in FEATURES.columns if column[0] not in IMAGES.column_names),
    ),
    ("image_id", "gone_at"),
)
"""Columns of features are null where the object had not been read."""

CENTROIDS = Table(
    "centroids",
    "One row a coarse cell of the embedding space.",
    ("cell",),
    (
        ("cell", _INT, "Cell number, from 0"),
        ("n_images", _LONG, "Representatives whose nearest centroid this is"),
        ("shard", _INT, "The shard that holds this cell; the first of several where one cannot"),
        ("model_id", _STR, "Model of the embeddings"),
        ("centroid", _BYTES, "Unit vector, little-endian float32"),
    ),
)

SHARDS = Table(
    "shards",
    "One row a FAISS index file (IndexIVFScalarQuantizer, float16, inner product, ids = image_id).",
    ("shard",),
    (
        ("shard", _INT, "Shard number, from 0"),
        ("path", _STR, "Path of the file below the tables root"),
        ("n_images", _LONG, "Vectors in the file"),
        ("size_bytes", _LONG, "Size of the file, bytes"),
        ("sha256", _STR, "SHA-256 of the file, hex; checked before use"),
        ("cells", T.ArrayType(_INT), "Cells in the file"),
        ("model_id", _STR, "Model of the embeddings"),
        ("built_from", _STR, "Number and hash of the images in all files together; match compares them with its own"),
    ),
)

PAIRS = Table(
    "pairs",
    "One row a verified pair of images. Identical images are joined to their representative only.",
    ("image_id_a", "image_id_b"),
    (
        ("image_id_a", _LONG, "The smaller image_id"),
        ("image_id_b", _LONG, "The larger image_id"),
        ("method", _STR, "What found it: same_bytes, same_pixels, phash or embedding; of several the cheapest"),
        (
            "engine",
            _STR,
            "What compared the embeddings: exact, exact_gpu, sketch, routed, faiss_ivf; null for other methods",
        ),
        ("similarity", _FLOAT, "Cosine of the two embeddings, -1 to 1; null without embeddings"),
        ("hamming_bits", _INT, "Bits of 64 in which the pHashes differ"),
    ),
)

DENSITIES = Table(
    "densities",
    "One row a representative with an embedding: how near its nearest neighbours are.",
    ("image_id",),
    (
        ("image_id", _LONG, "As in images: the one that stands for all of equal pixels"),
        ("similarities", T.ArrayType(_FLOAT), "Cosines of its nearest representatives, descending: at most "
         "match.neighbours, and only those above the floor"),
        ("vector_hash", _LONG, "xxhash64 of the embedding that was matched"),
        ("fingerprint", _STR, "Hash of model and settings of the match: rows of another one are matched again"),
    ),
)  # fmt: skip

QUALITY = Table(
    "quality",
    "What each match missed and what calibrate found: shares with intervals, lost pairs. Rows of older runs are kept.",
    ("run_id", "metric", "similarity_low", "image_id_a", "image_id_b"),
    (
        ("run_id", _STR, "Run of the match or of calibrate"),
        (
            "metric",
            _STR,
            "recall, recall_of_band, candidates_per_pair or lost_pair; calibrate: calibrated_precision, "
            "calibrated_recall, calibrated_recall_of_<edit>",
        ),
        ("similarity_low", _FLOAT, "Cosines of the pairs in question: from here"),
        ("similarity_high", _FLOAT, "to below here"),
        ("n_queries", _LONG, "Images of the sample, compared exactly with all others; calibrate: images measured on"),
        ("n_true", _LONG, "Pairs that the sample should have found; candidates_per_pair: pairs found"),
        ("n_found", _LONG, "Of those, the ones in pairs; candidates_per_pair: candidates"),
        ("value", _DOUBLE, "n_found / n_true; lost_pair: cosine; null where n_true is 0"),
        ("low", _DOUBLE, "Lower end of the 95 % interval"),
        ("high", _DOUBLE, "Upper end of it"),
        ("image_id_a", _LONG, "lost_pair: the smaller image_id"),
        ("image_id_b", _LONG, "lost_pair: the larger image_id"),
        ("note", _STR, "What to do about it, in words"),
    ),
    ("run_id", "metric"),
)

EVIDENCE = Table(
    "evidence",
    "One row a pair of representatives that clustering weighed, and how likely it is a copy.",
    ("image_id_a", "image_id_b"),
    (
        ("image_id_a", _LONG, "The smaller image_id"),
        ("image_id_b", _LONG, "The larger image_id"),
        ("similarity", _FLOAT, "Cosine of the two embeddings; null without embeddings"),
        ("normalised_similarity", _FLOAT, "The cosine less the mean cosine of the two images' 16th neighbours"),
        ("hamming_bits", _INT, "Bits of 64 in which the pHashes differ"),
        ("n_inliers", _INT, "Keypoints that fit one map between the thumbnails; 0 not aligned, null not compared"),
        ("agreement", _FLOAT, "Share of the textured content common to both that agrees; null when not aligned"),
        ("contested", _FLOAT, "Share where they differ and images that share the rest show neither: a common frame"),
        ("copy_probability", _FLOAT, "How likely the two are copies of one picture, 0 to 1"),
        ("decided_by", _STR, "geometry, cosine or phash; undecided: in doubt, but beyond cluster.max_verified_pairs"),
        ("calibration", _STR, "Version of the numbers behind copy_probability"),
    ),
)

CLUSTERS = Table(
    "clusters",
    "One row a member of a group of two or more images that show the same picture.",
    ("image_id",),
    (
        ("image_id", _LONG, "As in images"),
        ("uri", _STR, "As in images"),
        ("member", _STR, "As in images"),
        ("cluster_id", _LONG, "Stays with the cluster over runs; that of a new cluster is the image_id of a member"),
        ("cluster_size", _LONG, "Members of the cluster, keeper included"),
        ("keeper_image_id", _LONG, "The member to retain: first by cluster.keeper_order among those near all others"),
        ("is_keeper", _BOOL, "True for exactly one member of each cluster"),
        ("relation", _STR, "To the keeper: same_bytes, same_pixels or edited_copy; null for the keeper"),
        ("similarity", _FLOAT, "Cosine to the keeper's embedding; 1 for the keeper; null without embeddings"),
        ("hamming_bits", _INT, "Bits of 64 in which pHash differs from the keeper's"),
        ("keeper_distance", _FLOAT, "1 - similarity; without embeddings hamming_bits / 64; 0 for equal pixels"),
        ("bound", _FLOAT, "No keeper_distance is above it: 1 - cluster.min_similarity; by pHash alone 3 / 64"),
        ("is_bridge", _BOOL, "A pair leads from here to an image outside the cluster: a chain of pairs was cut here"),
        ("is_protected", _BOOL, "Below a prefix of cluster.protected_prefixes or reference_prefixes: never removable"),
        ("is_reference", _BOOL, "Below a prefix of cluster.reference_prefixes, e.g. a test set"),
        (
            "is_removable",
            _BOOL,
            "May go: not protected, and its keeper is another object; see duplicates for what is true now",
        ),
        ("size_bytes", _LONG, "As in images"),
        (
            "freed_bytes",
            _LONG,
            "What removing this member would free; 0 where it stays, and for a hard link whose file does",
        ),
        ("object_version", _LONG, "Of the object as it was read: features.object_version"),
        ("etag", _STR, "As in images"),
        ("content_hash", _STR, "As in features"),
        ("modified_at", _TIME, "As in images"),
        ("keeper_object_version", _LONG, "Of the keeper as it was read"),
        ("keeper_etag", _STR, "Of the keeper, as in images"),
        ("keeper_content_hash", _STR, "Of the keeper, as in features"),
        ("reason", _STR, "Why this member is in the cluster, and why it stays, in words"),
        ("decided_by", _STR, "Evidence that decided: content_hash, pixel_hash, cosine or phash; null for the keeper"),
        ("versions", _STR, "Versions of dedup-spark, of its results, of decoder and preprocessing, and of the model"),
    ),
    properties={"delta.enableChangeDataFeed": "true"},
)

CLUSTER_HISTORY = Table(
    "cluster_history",
    "One row a cluster that changed in a run. Clusters that stayed as they were have none.",
    ("clusters_version", "cluster_id"),
    (
        ("clusters_version", _LONG, "Version of the table clusters before the change"),
        ("cluster_id", _LONG, "As in clusters, before or after the change"),
        ("event", _STR, "created, grown, shrunk, changed (some came, some went), merged, split or removed"),
        ("previous_cluster_ids", T.ArrayType(_LONG), "Clusters that its members were in before; empty for created"),
        ("cluster_size", _LONG, "Members after the change; 0 when removed"),
        ("previous_size", _LONG, "Members of the cluster of this id before the change; null when there was none"),
        ("run_id", _STR, "Run that changed it"),
        ("at", _TIME, "When, UTC"),
    ),
)

GUARDED = Table(
    "guarded",
    "One row an image that says too little to be joined to others by likeness alone; see stages/guards.py.",
    ("image_id",),
    (
        ("image_id", _LONG, "As in images; of images with the same pixels the representative"),
        ("guard", _STR, "blank, placeholder, text or hub"),
        ("n_neighbours", _LONG, "Images near it, by pairs"),
    ),
)

RUNS = Table(
    "runs",
    "Log of what ran: one row when a step starts and one when it ends. A step is done only if it says complete.",
    ("run_id", "step", "status"),
    (
        ("run_id", _STR, "Identity of the run"),
        ("step", _STR, "Name of the step; 'run' for the whole pipeline"),
        ("status", _STR, "started, complete, unchanged or failed"),
        ("at", _TIME, "When this row was written, UTC"),
        ("elapsed_seconds", _DOUBLE, "Duration of the step; null when started"),
        ("counts", _COUNTS, "Rows in and out, by name"),
        ("notes", _STR, "What the step chose and why, JSON"),
        ("lake", _STR, "The lake of the run"),
        ("fingerprint", _STR, "Hash of the step's inputs and settings: equal means that nothing changed"),
        ("config", _STR, "All settings, JSON"),
        ("version", _STR, "Version of dedup_spark"),
        ("message", _STR, "Error of a failed step"),
    ),
    # Delta's default is 10: each run makes 14 commits here, and stopped for 1 to 2 s to sum up some rows.
    properties={"delta.checkpointInterval": "30"},
)

ALL = (
    IMAGES, FEATURES, TOMBSTONES, CENTROIDS, SHARDS, PAIRS, DENSITIES, QUALITY, EVIDENCE, CLUSTERS, CLUSTER_HISTORY,
    GUARDED, RUNS,
)  # fmt: skip


COLUMNS = hashlib.sha256(repr([(t.name, t.schema.simpleString()) for t in ALL]).encode()).hexdigest()[:16]
"""Which columns this version of dedup_spark knows."""

_STAGING, _PROGRESS = "_staging", "_embed"
_STAGED_AT = "%Y%m%d-%H%M%S"
_DAYS_OF_UNLEASED_STAGING = 2


class Tables:
    """The tables of one root (and database). Cheap to make; holds the session, so never sent to executors.

    Args:
        lease: the right to write; each commit checks that it is still there. None: nobody else writes, by the caller's
            word, or nothing but the log of runs is written.
    """

    def __init__(
        self, spark: SparkSession, root: str, database: str | None = None, *, lease: Lease | None = None
    ) -> None:
        self.spark = spark
        self.root = root.rstrip("/")
        self.database = database
        self.lease = lease
        owner = "run" if lease else "guest"
        self.staging = f"{_STAGING}/{owner}-{datetime.now(UTC).strftime(_STAGED_AT)}-{secrets.token_hex(4)}"
        """Folder below the root for intermediate rows, of this object alone."""

    def create_missing(self) -> None:
        """Create the tables that do not exist yet, and add the columns that tables of an older version lack.

        Raises:
            TableError: the place cannot be written, or a newer version wrote these tables.
        """
        known = self.format()
        catalog = self.database.rpartition(".")[0] if self.database else ""
        before = self.spark.catalog.currentCatalog()
        try:
            if catalog:  # DeltaTableBuilder takes no catalog name
                self.spark.catalog.setCurrentCatalog(catalog)
            there = [table for table in ALL if self._exists(table)]
            for table in ALL:
                if table not in there:
                    self._create(table)
                elif known is None or known.columns != COLUMNS:
                    self._add_columns(table)
            number = known.number if known else FORMAT if not there else 1
            if known != Format(number, COLUMNS):
                write_format(self.root, self.database, Format(number, COLUMNS))
        except (PySparkException, Py4JJavaError, OSError) as e:
            first_line = str(e).strip().splitlines()[0]
            raise TableError(f"tables cannot be created at {self.database or self.root}: {first_line}") from e
        finally:
            if catalog:
                self.spark.catalog.setCurrentCatalog(before)

    def format(self) -> Format | None:
        """Of these tables; None where 0.1.0 wrote them, or there are none. Raises TableError for a newer one."""
        return read_format(self.root, self.database)

    @property
    def options(self) -> str:
        """How a command names these tables."""
        return f"--tables {self.root}" + (f" --database {self.database}" if self.database else "")

    def are_there(self) -> bool:
        """Whether a run has begun to write tables here."""
        return self._exists(RUNS)

    def are_current(self) -> bool:
        """Whether this version of dedup_spark can read and write them as they are."""
        return self.format() == Format(FORMAT, COLUMNS)

    def _add_columns(self, table: Table) -> None:
        have = {field.name for field in self.read(table).schema}
        missing = [(n, t, c) for n, t, c in table.columns if n not in have]
        if missing:
            columns = ", ".join(f"`{n}` {t.simpleString()} COMMENT {_sql_text(c)}" for n, t, c in missing)
            self.spark.sql(f"ALTER TABLE {self.sql_source(table)} ADD COLUMNS ({columns})")
            log.info("table %s: new columns %s", table.name, ", ".join(n for n, _, _ in missing))

    def _create(self, table: Table) -> None:
        builder = DeltaTable.createIfNotExists(self.spark).comment(table.comment).addColumns(table.schema)
        if self.database:
            builder = builder.tableName(f"{self.database.rpartition('.')[2]}.{table.name}")
        else:
            builder = builder.location(self._path(table))
        statistics = ",".join(table.statistics or table.key)
        for name, value in {"delta.dataSkippingStatsColumns": statistics, **table.properties}.items():
            builder = builder.property(name, value)
        builder.execute()

    def read(self, table: Table) -> DataFrame:
        """The table as a lazy DataFrame. Raises TableError when it does not exist."""
        try:
            return (
                self.spark.read.table(self._name(table))
                if self.database
                else self.spark.read.format("delta").load(self._path(table))
            )
        except AnalysisException as e:
            raise TableError(
                f"table '{table.name}' not found at {self.place(table)}: run the earlier steps first"
            ) from e

    def append(self, table: Table, rows: DataFrame) -> None:
        """Add rows in one atomic commit. The caller makes sure that a retry adds nothing twice.

        Under a lease the commit carries the lease's number as a transaction of Delta's: it fails where a run that
        took over has committed since it began, or has made its `fence`.
        """
        self._write(table, rows, "append", **self._transaction(table))

    def fence(self, table: Table) -> bool:
        """Make an append fail that an earlier run has begun and not committed (see `append`); whether there may be one.

        The commit raises the version of the table, so that only those fence who are about to add rows.
        """
        if self.lease is None or not self.lease.took_over:
            return False
        self._write(table, self.read(table).limit(0), "append", **self._transaction(table))
        self.lease.is_fenced()
        return True

    def _transaction(self, table: Table) -> dict[str, str]:
        return {} if table is RUNS else self._transaction_of(table.name)  # guests append to the log, too

    def _transaction_of(self, name: str) -> dict[str, str]:
        if self.lease is None:
            return {}
        return {"txnAppId": f"dedup_spark/{name}", "txnVersion": str(self.lease.next_commit())}

    def overwrite(self, table: Table, rows: DataFrame) -> None:
        """Replace all rows in one commit, a transaction as `append`; readers see the old rows or the new ones."""
        self._write(table, rows, "overwrite", **self._transaction(table))

    def replace(self, table: Table, rows: DataFrame, **where: int | str) -> None:
        """Put `rows` in the place of those whose columns have the values of `where`, in one atomic commit.

        All of `rows` have these values. What a step killed after its commit does again, it does not do twice.
        """
        literals = {c: _sql_text(v) if isinstance(v, str) else str(v) for c, v in where.items()}
        self._write(table, rows, "overwrite", replaceWhere=" AND ".join(f"{c} = {v}" for c, v in literals.items()))

    def upsert(self, table: Table, rows: DataFrame, *, only_if: str | None = None) -> None:
        """Insert rows, or replace those with the same key; one source row a key.

        `only_if`: rows are replaced where this SQL over `old` and `new` holds; others stay.
        """
        _require_columns(table, rows.schema)
        same_key = " AND ".join(f"old.{k} = new.{k}" for k in table.key)
        merge = self._delta(table).alias("old").merge(rows.alias("new"), same_key)
        self._commit(merge.whenMatchedUpdateAll(only_if).whenNotMatchedInsertAll().execute)

    def delete(self, table: Table, keys: DataFrame) -> None:
        """Delete the rows whose columns equal those of `keys` (distinct; each column is a column of the table)."""
        same_key = " AND ".join(f"old.{k} = gone.{k}" for k in keys.columns)
        self._commit(self._delta(table).alias("old").merge(keys.alias("gone"), same_key).whenMatchedDelete().execute)

    def replace_rows(self, table: Table, rows: DataFrame) -> None:
        """Put each of `rows` in the place of all rows with its key, however many there are, in one atomic commit.

        Unlike `upsert` it takes away rows that are there twice. `rows` hold a key once. Reads the keys of the table.
        """
        _require_columns(table, rows.schema)
        columns, [key] = table.column_names, table.key
        old_rows = rows.select(F.col(key).alias("old_key"), *columns)
        new_rows = rows.select(F.lit(None).cast("bigint").alias("old_key"), *columns)  # matches nothing: is inserted
        merge = (
            self._delta(table)
            .alias("old")
            .merge(old_rows.unionByName(new_rows).alias("new"), f"old.{key} = new.old_key")
        )
        inserted = {c: f"new.{c}" for c in columns}
        once = merge.whenMatchedDelete().whenNotMatchedInsert("new.old_key IS NULL", values=inserted)  # type: ignore[arg-type]
        self._commit(once.execute)

    def version(self, table: Table) -> int:
        """Number of the table's newest commit: changes exactly when its content may have changed.

        By the names of the commits, as the Delta protocol has them; a query for the history takes 0.2 s.
        Where something else decides on commits (a catalog), they may not be in the folder yet: there it is that query.
        """
        log = f"{self._path(table)}/_delta_log"
        if not self.database and not storage.list_names(f"{log}/_staged_commits"):
            commits = [int(name.removesuffix(".json")) for name in storage.list_names(log) if _COMMIT.fullmatch(name)]
            if commits:
                return max(commits)
        row = self._delta(table).history(1).select("version").first()
        return int(row["version"]) if row else -1

    def stage(self, name: str, rows: DataFrame) -> DataFrame:
        """Write intermediate rows below `staging` and read them back: computed once, and safe from lost executors."""
        path = f"{self.root}/{self.staging}/{name}"
        self._commit(lambda: rows.write.mode("overwrite").parquet(path))
        return self.spark.read.schema(rows.schema).parquet(re.sub(r"([\\*?\[\]{}])", r"\\\1", path))  # Spark globs

    def drop_staged(self) -> None:
        """Delete everything that `stage` wrote."""
        storage.delete_tree(f"{self.root}/{self.staging}")
        storage.remove_if_empty(f"{self.root}/{_STAGING}")

    def sweep_staged(self) -> None:
        """Delete what killed runs staged. Only under the lease: then no other run is alive, but guests may be."""
        self._require_lease()
        oldest = (datetime.now(UTC) - timedelta(days=_DAYS_OF_UNLEASED_STAGING)).strftime(_STAGED_AT)
        for name in storage.list_names(f"{self.root}/{_STAGING}"):
            is_live_guest = name.startswith("guest-") and name.removeprefix("guest-") > oldest
            if not is_live_guest and f"{_STAGING}/{name}" != self.staging:
                storage.delete_tree(f"{self.root}/{_STAGING}/{name}")
        storage.remove_if_empty(f"{self.root}/{_STAGING}")

    def add_progress(self, name: str, rows: DataFrame) -> None:
        """Add rows in one atomic commit to work that goes on in later runs, whatever these stage and drop.

        A transaction as `append`; to add no rows is a fence.
        """
        writer = rows.write.format("delta").mode("append").options(**self._transaction_of(f"{_PROGRESS}/{name}"))
        self._commit(lambda: writer.save(f"{self.root}/{_PROGRESS}/{name}"))

    def read_progress(self, name: str) -> DataFrame | None:
        """What `add_progress` wrote; None where that is nothing."""
        path = f"{self.root}/{_PROGRESS}/{name}"
        is_there = DeltaTable.isDeltaTable(self.spark, path)
        return self.spark.read.format("delta").load(path) if is_there else None

    def delete_progress(self, name: str, condition: str) -> None:
        """Delete rows that `add_progress` wrote."""
        self._commit(lambda: DeltaTable.forPath(self.spark, f"{self.root}/{_PROGRESS}/{name}").delete(condition))

    def drop_progress(self, *, keep: str | None = None) -> None:
        """Delete what `add_progress` wrote, but that of the name `keep`."""
        self._require_lease()
        for name in storage.list_names(f"{self.root}/{_PROGRESS}"):
            if name != keep:
                storage.delete_tree(f"{self.root}/{_PROGRESS}/{name}")
        storage.remove_if_empty(f"{self.root}/{_PROGRESS}")

    def place(self, table: Table) -> str:
        """Where a person finds the table: catalog name or path."""
        return self._name(table) if self.database else self._path(table)

    def sql_source(self, table: Table) -> str:
        """How SQL names the table where no view is set up."""
        return self._name(table) if self.database else "delta.`" + self._path(table).replace("`", "``") + "`"

    def _write(self, table: Table, rows: DataFrame, mode: str, **options: str) -> None:
        _require_columns(table, rows.schema)
        writer = rows.select(table.column_names).write.format("delta").mode(mode).options(**options)
        if self.database:
            self._commit(lambda: writer.saveAsTable(self._name(table)))
        else:
            self._commit(lambda: writer.save(self._path(table)))

    def _commit(self, write: Callable[[], object]) -> None:
        """Write, unless the lease is lost; where the write failed because it was lost meanwhile, say that."""
        self._require_lease()
        try:
            write()
        except (PySparkException, Py4JJavaError):
            self._require_lease()
            raise

    def _require_lease(self) -> None:
        if self.lease:
            self.lease.require()

    def _delta(self, table: Table) -> DeltaTable:
        if self.database:
            return DeltaTable.forName(self.spark, self._name(table))
        return DeltaTable.forPath(self.spark, self._path(table))

    def _exists(self, table: Table) -> bool:
        if self.database:
            return self.spark.catalog.tableExists(self._name(table))
        return DeltaTable.isDeltaTable(self.spark, self._path(table))

    def _name(self, table: Table) -> str:
        return f"{self.database}.{table.name}"

    def _path(self, table: Table) -> str:
        return f"{self.root}/{table.name}"


def _require_columns(table: Table, found: T.StructType) -> None:
    wanted = {(n, t.simpleString()) for n, t, _ in table.columns}
    have = {(f.name, f.dataType.simpleString()) for f in found}
    if wanted != have:
        raise TableError(
            f"rows for '{table.name}' do not fit it: "
            f"missing {_listed(wanted - have)}; unexpected {_listed(have - wanted)}"
        )


def _sql_text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _listed(columns: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{n} {t}" for n, t in sorted(columns)) or "none"
