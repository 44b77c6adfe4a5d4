"""The tables: names, keys, columns with their comments, layout. No Spark, so that every reader of a table can use it.

Every column has a comment with its meaning and unit, so that `DESCRIBE TABLE` is the data dictionary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dedup_spark.columns import Columns
from dedup_spark.vocabulary import (
    OF_REPRESENTATIVES,
    ClusterEvent,
    ColourChange,
    ComparedFor,
    DecidedBy,
    DistanceUnit,
    Edit,
    Engine,
    FeatureStatus,
    Guard,
    Method,
    Metric,
    RejectReason,
    Relation,
    RemovalTier,
    RunStatus,
    StepName,
    Word,
    one_of,
)


@dataclass(frozen=True)
class Table:
    """Definition of one table. `key` is unique; `statistics` are the columns worth min/max pruning.

    `columns` are (name, type as in DDL, comment). `closed` has, by name of a column, every word that it may hold
    besides null: a list of vocabulary.py, from which the comment is written.
    """

    name: str
    comment: str
    key: tuple[str, ...]
    columns: tuple[tuple[str, str, str], ...]
    statistics: tuple[str, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)
    closed: Mapping[str, Iterable[Word]] = field(default_factory=dict)

    @property
    def schema(self) -> Columns:
        return Columns(", ".join(f"{name} {type_name}" for name, type_name, _ in self.columns))

    @property
    def column_names(self) -> list[str]:
        return [name for name, _, _ in self.columns]


IMAGES = Table(
    "images",
    "One row per object that exists in the lake. The rows come from listings; no object is read.",
    ("image_id",),
    (
        ("image_id", "bigint", "Stable 64-bit hash of uri and member"),
        ("lake", "string", "Root of the lake whose listing found the object first"),
        ("uri", "string", "Full normalised address of the object"),
        ("member", "string", "Name inside a container such as a tar file; null when the object is the image"),
        ("location", "string", "File that holds the bytes, where that is not uri (a table's data file)"),
        ("position", "bigint", "Place in that file: byte offset in a tar file, row number in a table's; else null"),
        ("size_bytes", "bigint", "Size by the listing, bytes; null where the listing has none"),
        ("modified_at", "timestamp", "Last modification by the listing, UTC"),
        ("etag", "string", "ETag or checksum by the listing; null where the store has none"),
        ("attributes", "map<string, string>", "Further columns of a manifest or table, as text"),
        ("object_version", "bigint", "Hash of size_bytes, modified_at and etag: changes when the object does"),
        ("file_id", "string", "Of a file on a disk: host/device:inode, equal for all its names; null in object stores"),
        ("n_links", "int", "Names (hard links) that the file has on its disk; null in object stores"),
        (
            "unlisted_since",
            "timestamp",
            "Since when its folder or container could not be listed, UTC; null where the last listing had the object",
        ),
    ),
    ("image_id",),
)

FEATURES = Table(
    "features",
    "One row per image that was read: its signature and facts, or the reason why it was rejected.",
    ("image_id",),
    (
        ("image_id", "bigint", "As in images"),
        ("object_version", "bigint", "images.object_version of the listing that this row was read for"),
        ("status", "string", one_of(FeatureStatus)),
        ("reject_reason", "string", f"Null when ok; otherwise {one_of(RejectReason)}"),
        ("reject_message", "string", "Message of the decoder or of the store"),
        ("retriable", "boolean", "Whether reading a rejected object again may help; null when ok"),
        ("n_retries", "int", "Failed attempts before the object was read or rejected"),
        ("read_bytes", "bigint", "Bytes read from the object; null when it could not be read"),
        ("content_hash", "string", "SHA-256 of the bytes, hex, as sha256sum prints it"),
        (
            "pixel_hash",
            "string",
            "SHA-256 of size, mode and visible pixels after EXIF orientation, of all frames, hex; with scaled-2:, "
            "scaled-4: or scaled-8: in front for a JPEG that extract.pixels=scaled decoded at a part of its size",
        ),
        (
            "phash",
            "bigint",
            "64-bit pHash of what is seen, first bit highest; of opaque sRGB that of imagehash, where the shorter "
            "side is below 1,536 px",
        ),
        ("width_px", "int", "Width after EXIF orientation, pixels"),
        ("height_px", "int", "Height after EXIF orientation, pixels"),
        (
            "magic_format",
            "string",
            "Format by the first bytes, also of rejected images; null when no image format. Where the name does not "
            "claim to be an image either, what the file is: PDF, ZIP, text",
        ),
        ("format", "string", "Format by the decoder, e.g. JPEG, PNG, WEBP"),
        ("decoder", "string", "What decoded the image, e.g. pillow, pi-heif-decoder, rawpy preview"),
        ("mode", "string", "Pillow mode of the decoded pixels, e.g. RGB, L, CMYK, I;16"),
        ("n_frames", "int", "Frames or pages in the file, 16,384 where it has more; reduced copies of a page are none"),
        (
            "frames_hash",
            "string",
            "SHA-256 of the pictures of all frames, however long each is shown, hex; null for a single frame",
        ),
        (
            "frame_phashes",
            "array<bigint>",
            "pHash of each page, or of a film at 64 moments spread evenly over its time, 0 where nothing is seen; null "
            "for a single frame, and where not all frames could be decoded within bounds",
        ),
        ("duration_ms", "int", "How long all frames are shown, milliseconds; null where the file does not say it"),
        ("described_frame", "int", "The frame that pHash, facts, thumbnail and embedding are of, from 0"),
        ("exif_orientation", "int", "EXIF orientation tag 1-8; 1 when absent; already applied"),
        ("sharpness", "float", "Variance of the Laplacian of the grey thumbnail (levels squared); low is blurred"),
        ("luma_stddev", "float", "Standard deviation of the grey thumbnail, levels of 255; near 0 is blank"),
        ("entropy_bits", "float", "Shannon entropy of the grey thumbnail's histogram, bits, 0 to 8"),
        ("is_damaged", "boolean", "A part of the picture is lost, and the decoder filled it; null in older rows"),
        (
            "captured_at",
            "timestamp",
            "When the photo was taken by its EXIF data, UTC, to the microsecond where it says so; "
            "without an offset as if in UTC",
        ),
        ("camera", "string", "Make and model by the EXIF data, at most 100 characters; null without"),
        (
            "software",
            "string",
            "What wrote the file by the EXIF data (of cameras the firmware), at most 100 characters",
        ),
        ("has_maker_note", "boolean", "Whether the camera's own notes are in the EXIF data; editors drop them"),
        ("is_lossless", "boolean", "Whether the format keeps every pixel: PNG, RAW, most TIFF; false where not known"),
        (
            "jpeg_quality",
            "float",
            "Quality of a JPEG by its tables, 1 to 100 of libjpeg's scale; null for other formats",
        ),
        (
            "earlier_jpeg_quality",
            "float",
            "The same of an earlier JPEG compression whose traces the pixels carry; null where none are seen",
        ),
        ("chroma_subsampling", "string", "How a colour JPEG stores its chroma, e.g. 4:2:0; null for others"),
        (
            "block_sample",
            "binary",
            "Quantised coefficients of 64 blocks of a JPEG or a lossless file, deflated: they tell which of two files "
            "was made from the other; null for others and in older rows",
        ),
        (
            "has_colour_profile",
            "boolean",
            "Whether a colour profile shows the values of the file as other colours than sRGB does; null in older rows",
        ),
        (
            "detail_share",
            "float",
            "Share of each side's resolution up to which there is detail, 0 to 1: about 0.5 where a picture was "
            "enlarged to twice its size, less where it was blurred; 1 for sharp and for merely soft ones",
        ),
        (
            "added_share",
            "float",
            "Share of the area, 0 to 1, that is no part of the picture: bars of a screenshot or a caption, a frame",
        ),
        ("shown_width_px", "int", "Width of the picture without such bars and frames, pixels"),
        ("shown_height_px", "int", "Height of the picture without such bars and frames, pixels"),
        (
            "bits_per_channel",
            "int",
            "Bits of each channel by the numbers of the file, or by its header where the decoder gives 8; 16 bits that "
            "hold 8 are 8; null in older rows",
        ),
        ("is_transparent", "boolean", "Whether a pixel is transparent, in part or fully; null in older rows"),
        (
            "beside_hash",
            "string",
            "SHA-256, hex, of what the file holds beside the picture that is seen: a film or further pictures behind a "
            "JPEG, layers, bands that are not shown, depth and gain maps; null without any, and in older rows",
        ),
        ("signature_version", "string", "Versions of decoder and preprocessing that made this row"),
        ("run_id", "string", "Run that read the image"),
        (
            "reading_key",
            "bigint",
            "Place in the order of reading, by size and id: neighbours are in one file; null in rows of older versions",
        ),
        ("thumbnail", "binary", "JPEG, longest side extract.thumbnail_px"),
        ("model_id", "string", "Weights, runtime numbers and preprocessing of the embedding; null when there is none"),
        ("embedding", "binary", "Unit vector, little-endian float16; 1,024 bytes for 512 dimensions"),
    ),
    ("image_id", "status", "reject_reason", "reading_key"),
    closed={"status": FeatureStatus, "reject_reason": RejectReason},
)

FIRST_READ = "run_id NULLS FIRST, image_id"
"""The order of `features`, in SQL, in which the first of the images with equal pixels is their representative."""

TOMBSTONES = Table(
    "tombstones",
    "One row per image that a complete listing lacked: what was known of it, kept for inventory.grace_days.",
    ("image_id",),
    (
        *IMAGES.columns,
        ("gone_at", "timestamp", "End of the first complete listing that lacked it, UTC"),
        *(column for column in FEATURES.columns if column[0] not in IMAGES.column_names),
    ),
    ("image_id", "gone_at"),
    closed=FEATURES.closed,
)
"""Columns of features are null where the object had not been read."""

CENTROIDS = Table(
    "centroids",
    "One row per cell of the embedding space.",
    ("cell",),
    (
        ("cell", "int", "Cell number, from 0"),
        ("n_images", "bigint", "Representatives whose nearest centroid this is"),
        ("shard", "int", "The shard that holds this cell; the first of several where the cell does not fit into one"),
        ("model_id", "string", "Model of the embeddings"),
        ("centroid", "binary", "Unit vector, little-endian float32"),
    ),
)

SHARDS = Table(
    "shards",
    "One row per FAISS index file (IndexIVFScalarQuantizer, float16, inner product, ids = image_id) and the flat files "
    "beside it, see docs/faiss.md.",
    ("shard",),
    (
        ("shard", "int", "Shard number, from 0"),
        ("path", "string", "Path of the file below the tables root"),
        ("n_images", "bigint", "Vectors in the file"),
        ("size_bytes", "bigint", "Size of the file, bytes"),
        ("sha256", "string", "SHA-256 of the file, hex; checked before use"),
        ("cells", "array<int>", "Cells in the file: the list i of the index is the i-th of them, in ascending order"),
        ("rows_sha256", "string", "SHA-256 of the file .rows.npy beside it, hex; null in older rows"),
        ("vectors_sha256", "string", "SHA-256 of the file .vectors.npy beside it, hex; null in older rows"),
        ("sketch_seed", "bigint", "Seed of the sketches in .rows.npy: match.seed when the index was built"),
        ("centroids_path", "string", "Path of the file of the centroids of all cells, below the tables root"),
        ("centroids_sha256", "string", "SHA-256 of that file, hex"),
        ("index_type", "string", "What faiss_ivf searches, as a factory string of FAISS; null in older rows"),
        (
            "index_path",
            "string",
            "Path of the file of that type, with the same ids; null where it is the type of the file in `path`",
        ),
        ("index_sha256", "string", "SHA-256 of the file in `index_path`, hex; null without one"),
        ("model_id", "string", "Model of the embeddings"),
        (
            "built_from",
            "string",
            "Number and hash of the images in all files together; match refuses an index of other images",
        ),
    ),
)

PAIRS = Table(
    "pairs",
    "One row per pair of images whose exact cosine or pHash passed a threshold, or of which one is among the nearest "
    "of the other. Identical images have a pair with their representative only.",
    ("image_id_a", "image_id_b"),
    (
        ("image_id_a", "bigint", "The smaller image_id"),
        ("image_id_b", "bigint", "The larger image_id"),
        ("method", "string", f"What found the pair: {one_of(Method)}; of several the cheapest"),
        ("engine", "string", f"What compared the embeddings: {one_of(Engine)}; null for other methods"),
        ("similarity", "float", "Cosine of the two embeddings, -1 to 1; 1 for equal pixels; null without embeddings"),
        ("hamming_bits", "int", "Bits of 64 in which the pHashes differ"),
    ),
    closed={"method": Method, "engine": Engine},
)

DENSITIES = Table(
    "densities",
    "One row per representative with an embedding: how near its nearest neighbours are.",
    ("image_id",),
    (
        ("image_id", "bigint", "As in images: the representative of all images with equal pixels"),
        ("similarities", "array<float>", "Cosines of its nearest representatives, descending: at most "
         "match.neighbours, and only those above the floor"),
        ("complete_above", "float", "Cosine down to which the list is complete, where an earlier match compared the "
         "image with everything and some of its nearest may be gone since; null where none can be missing"),
        ("vector_hash", "bigint", "xxhash64 of the embedding that was matched"),
        ("fingerprint", "string", "Hash of model and settings of the match; where it differs, images are matched anew"),
    ),
)  # fmt: skip

QUALITY = Table(
    "quality",
    "One row per measurement (recall of each match, precision and recall by calibrate) and one row per lost pair. Rows "
    "of older runs are kept.",
    ("run_id", "metric", "similarity_low", "image_id_a", "image_id_b"),
    (
        ("run_id", "string", "Run of the match, or of the command calibrate"),
        ("metric", "string", f"What is measured: {one_of(Metric)}"),
        ("similarity_low", "float", "Lower end of the cosines of the pairs in question"),
        ("similarity_high", "float", "Upper end of those cosines, excluded"),
        (
            "n_queries",
            "bigint",
            "Images of the sample, each compared exactly with all others; calibrate: images that were measured on",
        ),
        ("n_true", "bigint", "True pairs of the sample; candidates_per_pair: pairs found"),
        ("n_found", "bigint", "Of those, the ones in the table pairs; candidates_per_pair: candidates"),
        ("value", "double", "n_found / n_true; lost_pair: cosine; null where n_true is 0"),
        ("low", "double", "Lower end of the 95 % interval"),
        ("high", "double", "Upper end of the 95 % interval"),
        ("image_id_a", "bigint", "lost_pair: the smaller image_id"),
        ("image_id_b", "bigint", "lost_pair: the larger image_id"),
        ("note", "string", "What the value means and what to do about it, in words"),
    ),
    ("run_id", "metric"),
    closed={"metric": Metric},
)

_WHAT_DECIDED = {
    DecidedBy.CONTENT_HASH: "equal bytes",
    DecidedBy.PIXEL_HASH: "equal pixels",
    DecidedBy.GEOMETRY: "the two thumbnails, aligned and compared (spatial verification)",
    DecidedBy.COSINE: "the embeddings; with a calibration also how near the neighbours of the two are",
    DecidedBy.PHASH: "the pHash, where one of the two has no embedding",
    DecidedBy.UNDECIDED: "the embeddings alone, in doubt: with cluster.max_verified_pairs reached, the thumbnails were "
    "not compared",
}


def _decided_by(ways: Iterable[DecidedBy]) -> str:
    return "; ".join(f"{way} ({_WHAT_DECIDED[way]})" for way in ways)


EVIDENCE = Table(
    "evidence",
    "One row per pair of representatives, with the probability that the two are copies. Empty where the model has no "
    "calibration, and without embeddings: there are no probabilities then.",
    ("image_id_a", "image_id_b"),
    (
        ("image_id_a", "bigint", "The smaller image_id"),
        ("image_id_b", "bigint", "The larger image_id"),
        ("similarity", "float", "Cosine of the two embeddings, -1 to 1; null where one of them is missing"),
        (
            "normalised_similarity",
            "float",
            "The cosine minus that of the neighbourhoods: the mean over the two images of the cosine to the 16th "
            "neighbour, or of match.floor_similarity where that neighbour is farther; null without embeddings",
        ),
        ("hamming_bits", "int", "Bits of 64 in which the pHashes differ"),
        (
            "n_inliers",
            "int",
            "Keypoints that fit one map between the thumbnails; 0 where they could not be aligned, null where they "
            "were not compared",
        ),
        (
            "agreement",
            "float",
            "Share, 0 to 1, of the textured content common to both that agrees; null where the thumbnails were not "
            "aligned, or have too little in common",
        ),
        (
            "contested",
            "float",
            "Share, 0 to 1, where the two differ and supporting images show what neither of them shows: a sign of a "
            "common frame",
        ),
        (
            "copy_probability",
            "float",
            "How likely the two are copies of one picture, 0 to 1; by pHash it is not measured, but 1 minus 0.0001 per "
            "bit that differs",
        ),
        ("decided_by", "string", f"What copy_probability rests on: {_decided_by(OF_REPRESENTATIVES)}"),
        ("calibration", "string", "Version of the calibration that copy_probability was computed with"),
        (
            "compared_for",
            "string",
            f"Why the pair was weighed: {one_of(ComparedFor)}; leaders of a group, or its likely keepers, with its "
            "members. Groups are cut by the first two. Null where an older version weighed it",
        ),
        (
            "covered_a",
            "float",
            "Share, 0 to 1, of the area of a that b also shows; this and the next four are null where the thumbnails "
            "were not laid over each other",
        ),
        ("covered_b", "float", "Share, 0 to 1, of the area of b that a also shows"),
        (
            "changed",
            "float",
            "Share, 0 to 1, of the common area in which the two differ in structure: overlays, marks, text",
        ),
        (
            "two_sided",
            "float",
            "Share, 0 to 1, of the common area in which both show structure, and another one each: content that was "
            "exchanged, or an opaque overlay on a textured ground",
        ),
        (
            "colour_change",
            "string",
            f"How the colours differ: {one_of(ColourChange)}; tone is an edit of the whole (loss of colour, a common "
            "cast, brightness, contrast), hue another strong colour of something in the picture",
        ),
    ),
    closed={"decided_by": OF_REPRESENTATIVES, "compared_for": ComparedFor, "colour_change": ColourChange},
)

COMPONENTS = Table(
    "components",
    "One row per representative that pairs join to others: its connected component, and the groups that linkage cut "
    "the component into.",
    ("image_id",),
    (
        ("image_id", "bigint", "As in images: the representative of all images with equal pixels"),
        ("component_id", "bigint", "The smallest image_id of its component"),
        (
            "raised_to",
            "double",
            "Where a component had more than cluster.max_component_images images: the least copy_probability "
            "(similarity; share of equal pHash bits) of the pairs that join this part of it; else null",
        ),
        (
            "first_group_id",
            "bigint",
            "The smallest image_id of its group after the first cut; null where there is one cut only, by likeness",
        ),
        (
            "group_id",
            "bigint",
            "The smallest image_id of its group after the last cut; clusters divides a group whose keeper does not "
            "reach all members in two steps",
        ),
    ),
    ("component_id", "image_id"),
)

CLUSTERS = Table(
    "clusters",
    "One row per member of a cluster: a group of two or more images that show the same picture.",
    ("image_id",),
    (
        ("image_id", "bigint", "As in images"),
        ("uri", "string", "As in images"),
        ("member", "string", "As in images"),
        ("cluster_id", "bigint", "Stays with the cluster from run to run; a new cluster gets the image_id of a member"),
        ("cluster_size", "bigint", "Members of the cluster, keeper included"),
        (
            "keeper_image_id",
            "bigint",
            "The member that is kept for this one: the keeper of the cluster, which is the first by "
            "cluster.keeper_order; but for a byte or pixel copy, or a mere re-encoding, of another member that stays, "
            "that member. What other columns say of the keeper is of this image",
        ),
        ("is_keeper", "boolean", "True for exactly one member of each cluster: the keeper of the cluster"),
        ("relation", "string", f"What the member is to the keeper: {one_of(Relation)}; null for the keeper"),
        ("similarity", "float", "Cosine to the keeper's embedding; 1 for equal pixels; null without embeddings"),
        ("hamming_bits", "int", "Bits of 64 in which pHash differs from the keeper's; 0 for equal pixels"),
        (
            "keeper_distance",
            "float",
            "How far from the keeper, in distance_unit; 0 for equal pixels. Above bound, or null where the two were "
            "not compared, only for members that a supporting image binds: see near_image_id",
        ),
        (
            "distance_unit",
            "string",
            f"What keeper_distance and bound are, from columns of this row: {one_of(DistanceUnit)}. The first in all "
            "rows where the model has a calibration; else the second, or the third where an embedding is missing",
        ),
        (
            "bound",
            "float",
            "The largest near_distance allowed. By distance_unit, in the order above: 0.8, a constant; "
            "1 - cluster.min_similarity; match.max_hamming_bits / 64",
        ),
        (
            "is_bridge",
            "boolean",
            "This member has a pair with an image outside the cluster: a chain of pairs was cut here",
        ),
        (
            "is_protected",
            "boolean",
            "Below a prefix of cluster.protected_prefixes or reference_prefixes: never removable",
        ),
        ("is_reference", "boolean", "Below a prefix of cluster.reference_prefixes, e.g. a test set"),
        (
            "is_removable",
            "boolean",
            "May be removed: its removal_tier is allowed by cluster.removable_up_to, it is not protected, and what "
            "stands for it (near_image_id) is another object; whether that is true now is in the view duplicates",
        ),
        ("size_bytes", "bigint", "As in images"),
        (
            "freed_bytes",
            "bigint",
            "What removing this member would free, bytes; 0 where it stays, and for a hard link whose file stays",
        ),
        ("object_version", "bigint", "Of the object as it was read: features.object_version"),
        ("etag", "string", "As in images"),
        ("content_hash", "string", "As in features"),
        ("modified_at", "timestamp", "As in images"),
        ("keeper_object_version", "bigint", "Of the keeper as it was read"),
        ("keeper_etag", "string", "Of the keeper, as in images"),
        ("keeper_content_hash", "string", "Of the keeper, as in features"),
        (
            "reason",
            "string",
            "What decided that this member shows what its keeper shows and, where it stays, why, in words",
        ),
        (
            "decided_by",
            "string",
            f"What decided between member and keeper: {_decided_by(DecidedBy)}. Null for the keeper",
        ),
        (
            "copy_probability",
            "float",
            "How likely this is a copy of the keeper, 0 to 1, as in evidence; 1 for equal pixels; null where "
            "pairs are not judged by evidence",
        ),
        ("agreement", "float", "As in evidence, with the keeper; null where the thumbnails were not aligned"),
        ("contested", "float", "As in evidence, with the keeper"),
        ("n_inliers", "int", "As in evidence, with the keeper; null where thumbnails were not compared"),
        (
            "is_direct",
            "boolean",
            "True where the pair of member and keeper is one of those that joined the cluster, or their pixels are "
            "equal; false where pairs with other members joined the two, and this one was compared afterwards",
        ),
        (
            "versions",
            "string",
            "Versions of dedup-spark, of its results, of decoder and preprocessing, and of the model",
        ),
        (
            "removal_tier",
            "string",
            f"What would be lost with this member, the least first: {one_of(RemovalTier)}. As relation, except that "
            "more_detail is a copy that shows the same with more pixels or bits. Null for the keeper",
        ),
        (
            "edit",
            "string",
            f"What is known of an edited copy, one or more with commas between: {one_of(Edit)}; null where nothing is",
        ),
        (
            "differing_share",
            "float",
            "Share, 0 to 1, of the picture that differs from the keeper's where the two thumbnails are laid over each "
            "other as they are; null for equal pixels and where there is no thumbnail",
        ),
        (
            "near_image_id",
            "bigint",
            "The image that stays and stands for this member: its keeper, itself for the keeper of the cluster; for a "
            "member that is not within the bound of that one, a supporting image that is. Where that image was "
            "forgotten, the member itself, until the next run",
        ),
        (
            "near_distance",
            "float",
            "How far from near_image_id, in distance_unit; 0 for equal pixels; never above bound",
        ),
        ("near_object_version", "bigint", "Of near_image_id as it was read"),
        ("near_content_hash", "string", "Of near_image_id, as in features"),
    ),
    properties={"delta.enableChangeDataFeed": "true"},
    closed={
        "relation": Relation,
        "distance_unit": DistanceUnit,
        "decided_by": DecidedBy,
        "removal_tier": RemovalTier,
    },
)

CLUSTER_HISTORY = Table(
    "cluster_history",
    "One row per cluster that changed in a run. Clusters that stayed as they were have none.",
    ("clusters_version", "cluster_id"),
    (
        ("clusters_version", "bigint", "Version of the table clusters before the change"),
        ("cluster_id", "bigint", "As in clusters, before or after the change"),
        ("event", "string", f"{one_of(ClusterEvent)}; changed: some members were added and some left"),
        ("previous_cluster_ids", "array<bigint>", "Clusters that its members were in before; empty for created"),
        ("cluster_size", "bigint", "Members after the change; 0 when removed"),
        ("previous_size", "bigint", "Members of the cluster of this id before the change; null when there was none"),
        ("run_id", "string", "Run that changed it"),
        ("at", "timestamp", "When, UTC"),
    ),
    closed={"event": ClusterEvent},
)

GUARDED = Table(
    "guarded",
    "One row per guarded image: it shows too little to be joined to others by likeness alone.",
    ("image_id",),
    (
        ("image_id", "bigint", "As in images; of images with the same pixels the representative"),
        ("guard", "string", f"Why: {one_of(Guard)}"),
        ("n_neighbours", "bigint", "Images that likeness would join it to: pairs at or above the cut"),
    ),
    closed={"guard": Guard},
)

RUNS = Table(
    "runs",
    "Log of the runs: one row when a step starts and one when it ends. A step is done only where status is complete.",
    ("run_id", "step", "status"),
    (
        ("run_id", "string", "Identity of the run"),
        ("step", "string", f"{one_of(StepName)}; run: the whole pipeline"),
        ("status", "string", one_of(RunStatus)),
        ("at", "timestamp", "When this row was written, UTC"),
        ("elapsed_seconds", "double", "Duration of the step; null when started"),
        ("counts", "map<string, bigint>", "What the step counted, by name"),
        ("notes", "string", "What the step chose and why, JSON"),
        ("lake", "string", "The lake of the run; null for forget and maintain, which belong to none"),
        ("fingerprint", "string", "Hash of the step's inputs and settings: where it is equal, nothing has changed"),
        ("config", "string", "All settings, JSON; null for forget and maintain, which have none"),
        ("version", "string", "Version of dedup_spark"),
        ("message", "string", "Error of a failed step"),
    ),
    # Delta's default is 10: each run makes 14 commits here, and paused for 1 to 2 s to write a checkpoint of few rows.
    properties={"delta.checkpointInterval": "30"},
    closed={"step": StepName, "status": RunStatus},
)

TABLE_VERSIONS = "table_versions"
"""Key in `runs.notes` of a step that has inputs: the versions of its tables when it ended, by name. Tables are written
one after the other, so a reader who wants those of one run opens these; Delta keeps them until a VACUUM."""

ALL = (
    IMAGES, FEATURES, TOMBSTONES, CENTROIDS, SHARDS, PAIRS, DENSITIES, QUALITY, EVIDENCE, COMPONENTS, CLUSTERS,
    CLUSTER_HISTORY, GUARDED, RUNS,
)  # fmt: skip


LOGS = (QUALITY, CLUSTER_HISTORY, RUNS)
"""Tables to which every run adds rows, and that no step reads as its input."""


COLUMNS = hashlib.sha256(repr([(t.name, t.schema.ddl) for t in ALL]).encode()).hexdigest()[:16]
"""Digest of all columns that this version of dedup_spark knows."""
