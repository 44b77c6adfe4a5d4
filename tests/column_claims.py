"""The comment of every column as SQL that is true for each row of a finished run, however its pairs were decided.

A column without a line here fails tests/store/test_schema.py: add what is true of its values.
"""

from __future__ import annotations

from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.vocabulary import DistanceUnit

_HEX = "rlike(coalesce({0}, repeat('0', 64)), '^[0-9a-f]{{64}}$')"
_READ = "(status = 'ok') = ({0} IS NOT NULL)"  # known exactly where the image could be read
_PROBABILITY = "coalesce({0} BETWEEN 0 AND 1, true)"
_OF_COMPARED = _PROBABILITY + " AND ({0} IS NULL) = (changed IS NULL)"
_COSINE = "coalesce({0} BETWEEN -1.001 AND 1.001, true)"
_BITS = "{0} BETWEEN 0 AND 64"
_SMALLER = "image_id_a < image_id_b"
_GIVEN = "{0} IS NOT NULL"
_ANY = "true"  # free text, or an address that others choose

_DISTANCE = " ".join(f"WHEN '{unit}' THEN {unit}" for unit in DistanceUnit)
_EQUAL_PIXELS = "(is_keeper OR relation IN ('same_bytes', 'same_pixels'))"
_BY_EVIDENCE = f"distance_unit = '{DistanceUnit.COPY_PROBABILITY}'"
_ONLY_OF_LOST_PAIRS = "({0} IS NOT NULL) = (metric = 'lost_pair')"
_SHARE = "coalesce({0} BETWEEN 0 AND 1, metric LIKE 'calibrated%' OR metric IN ('lost_pair', 'candidates_per_pair') "
_SHARE += "OR n_true = 0)"

_OF_IMAGES = {
    "image_id": _GIVEN,
    "lake": "lake LIKE '%:/%'",
    "uri": "uri LIKE '%:/%'",
    "member": "coalesce(member <> '', true)",
    "location": "coalesce(location <> uri, true)",
    "position": "coalesce(position >= 0, true)",
    "size_bytes": "coalesce(size_bytes >= 0, true)",
    "modified_at": "coalesce(modified_at <= current_timestamp(), true)",
    "etag": "coalesce(etag <> '', true)",
    "attributes": _ANY,
    "object_version": _GIVEN,
    "file_id": "(file_id IS NULL) OR file_id LIKE '%/%:%'",
    "unlisted_since": "coalesce(unlisted_since <= current_timestamp(), true)",
    "n_links": "(n_links IS NULL) = (file_id IS NULL) AND coalesce(n_links >= 1, true)",
}
_OF_FEATURES = {
    "image_id": _GIVEN,
    "object_version": _GIVEN,
    "status": _GIVEN,
    "reject_reason": "(status = 'ok') = (reject_reason IS NULL)",
    "reject_message": "(status = 'ok') = (reject_message IS NULL)",
    "retriable": "(status = 'ok') = (retriable IS NULL)",
    "n_retries": "coalesce(n_retries >= 0, true)",
    "read_bytes": "coalesce(read_bytes >= 0, status = 'rejected')",
    "content_hash": _HEX + " AND (content_hash IS NULL) = (read_bytes IS NULL)",
    "pixel_hash": _HEX.replace("^", "^(scaled-[248]:)?") + " AND " + _READ,
    "phash": _READ,
    "width_px": "coalesce(width_px >= 1, status = 'rejected')",
    "height_px": "coalesce(height_px >= 1, status = 'rejected')",
    "magic_format": "coalesce(magic_format <> '', status = 'rejected')",
    "format": _READ,
    "decoder": _READ,
    "mode": _READ,
    "n_frames": "coalesce(n_frames >= 1, status = 'rejected')",
    "frames_hash": "(frames_hash IS NOT NULL) = coalesce(n_frames > 1, false)",
    "frame_phashes": "frame_phashes IS NULL OR (n_frames > 1 AND size(frame_phashes) BETWEEN 2 AND 64)",
    "duration_ms": "duration_ms IS NULL OR (n_frames > 1 AND duration_ms >= 0)",
    "described_frame": "coalesce(described_frame BETWEEN 0 AND n_frames - 1, status = 'rejected')",
    "exif_orientation": "coalesce(exif_orientation BETWEEN 1 AND 8, status = 'rejected')",
    "sharpness": "coalesce(sharpness >= 0, status = 'rejected')",
    "luma_stddev": "coalesce(luma_stddev BETWEEN 0 AND 128, status = 'rejected')",
    "entropy_bits": "coalesce(entropy_bits BETWEEN 0 AND 8, status = 'rejected')",
    "is_damaged": _READ,
    "captured_at": "coalesce(year(captured_at) BETWEEN 1825 AND 10000, true)",
    "camera": "coalesce(length(camera) BETWEEN 1 AND 100, true)",
    "software": "coalesce(length(software) BETWEEN 1 AND 100, true)",
    "has_maker_note": _READ,
    "is_lossless": _READ,
    "jpeg_quality": "coalesce(jpeg_quality BETWEEN 1 AND 100, coalesce(format, '') <> 'JPEG')",
    "earlier_jpeg_quality": "coalesce(earlier_jpeg_quality BETWEEN 1 AND 100, true)",
    "chroma_subsampling": "coalesce(chroma_subsampling LIKE '4:_:_', true)",
    "block_sample": "coalesce(octet_length(block_sample) BETWEEN 1 AND 8000, true)",
    "has_colour_profile": _READ,
    "detail_share": "coalesce(detail_share BETWEEN 0 AND 1, status = 'rejected')",
    "added_share": "coalesce(added_share BETWEEN 0 AND 1, status = 'rejected')",
    "shown_width_px": "coalesce(shown_width_px BETWEEN 1 AND width_px, status = 'rejected')",
    "shown_height_px": "coalesce(shown_height_px BETWEEN 1 AND height_px, status = 'rejected')",
    "bits_per_channel": "coalesce(bits_per_channel BETWEEN 8 AND 64, status = 'rejected')",
    "is_transparent": _READ,
    "beside_hash": _HEX,
    "signature_version": _GIVEN,
    "run_id": _GIVEN,
    "reading_key": _GIVEN,
    "thumbnail": _READ + " AND coalesce(startswith(thumbnail, X'FFD8'), true)",  # as JPEG files do
    "model_id": "(model_id IS NULL) = (embedding IS NULL)",
    "embedding": "embedding IS NULL OR (octet_length(embedding) % 2 = 0 AND status = 'ok')",
}

CLAIMS: dict[str, dict[str, str]] = {
    "images": _OF_IMAGES,
    "features": _OF_FEATURES,
    "tombstones": dict.fromkeys([*IMAGES.column_names, *FEATURES.column_names], _ANY) | {"gone_at": _GIVEN},
    "centroids": {
        "cell": "cell >= 0",
        "n_images": "n_images >= 0",
        "shard": "shard >= 0 OR n_images = 0",
        "model_id": _GIVEN,
        "centroid": "octet_length(centroid) % 4 = 0",
    },
    "shards": {
        "shard": "shard >= 0",
        "path": "path NOT LIKE '/%'",
        "n_images": "n_images > 0",
        "size_bytes": "size_bytes > 0",
        "sha256": _HEX,
        "cells": "size(cells) > 0 AND cells = array_sort(array_distinct(cells))",
        "rows_sha256": _HEX,
        "vectors_sha256": _HEX,
        "sketch_seed": "sketch_seed >= 0",
        "centroids_path": "centroids_path NOT LIKE '/%'",
        "centroids_sha256": _HEX,
        "index_type": _GIVEN,
        "index_path": "coalesce(index_path NOT LIKE '/%', true)",
        "index_sha256": "(index_sha256 IS NULL) = (index_path IS NULL) AND " + _HEX,
        "model_id": _GIVEN,
        "built_from": "rlike(built_from, '^[0-9]+:[0-9a-f]{{16}}$')",
    },
    "pairs": {
        "image_id_a": _SMALLER,
        "image_id_b": _SMALLER,
        "method": _GIVEN,
        "engine": "(method = 'embedding') = (engine IS NOT NULL)",
        "similarity": _COSINE + " AND coalesce(abs(similarity - 1) < 1e-6 OR method NOT LIKE 'same_%', true)",
        "hamming_bits": _BITS + " AND (hamming_bits = 0 OR method NOT LIKE 'same_%')",
    },
    "densities": {
        "image_id": _GIVEN,
        "similarities": "similarities = reverse(sort_array(similarities))",
        "complete_above": _COSINE,
        "vector_hash": _GIVEN,
        "fingerprint": _GIVEN,
    },
    "quality": {
        "run_id": _GIVEN,
        "metric": _GIVEN,
        "similarity_low": "metric NOT LIKE 'recall%' OR similarity_low < similarity_high",
        "similarity_high": "metric NOT LIKE 'recall%' OR similarity_high <= 1",
        "n_queries": "coalesce(n_queries >= 1, metric IN ('lost_pair', 'candidates_per_pair'))",
        "n_true": "coalesce(n_true >= 0, metric = 'lost_pair')",
        "n_found": "coalesce(n_found <= n_true, metric = 'lost_pair') OR metric = 'candidates_per_pair'",
        "value": "coalesce(abs(value - n_found / n_true) < 1e-9, metric = 'lost_pair' OR n_true = 0)",
        "low": _SHARE,
        "high": _SHARE + " AND coalesce(low <= high, true)",
        "image_id_a": _ONLY_OF_LOST_PAIRS + " AND coalesce(image_id_a < image_id_b, true)",
        "image_id_b": _ONLY_OF_LOST_PAIRS,
        "note": _ANY,
    },
    "evidence": {
        "image_id_a": _SMALLER,
        "image_id_b": _SMALLER,
        "similarity": _COSINE + " AND (similarity IS NULL) = (decided_by = 'phash')",
        "normalised_similarity": "(normalised_similarity IS NULL) = (similarity IS NULL) "
        "AND coalesce(normalised_similarity < similarity, true)",
        "hamming_bits": _BITS,
        "n_inliers": "coalesce(n_inliers >= 0, decided_by <> 'geometry') "
        "AND (decided_by NOT IN ('undecided', 'phash') OR n_inliers IS NULL)",
        "agreement": _PROBABILITY + " AND (agreement IS NULL OR n_inliers > 0 OR changed IS NOT NULL)",
        "contested": _PROBABILITY + " AND (contested IS NULL) = (agreement IS NULL)",
        "covered_a": _OF_COMPARED,
        "covered_b": _OF_COMPARED,
        "changed": "changed IS NULL OR (changed BETWEEN 0 AND 1 AND decided_by = 'geometry')",
        "two_sided": _OF_COMPARED + " AND coalesce(two_sided <= changed, true)",
        "colour_change": "(colour_change IS NULL) = (changed IS NULL)",
        "copy_probability": "copy_probability BETWEEN 0 AND 1 "
        "AND (decided_by <> 'phash' OR abs(copy_probability - (1 - 0.0001 * hamming_bits)) < 1e-6)",
        "decided_by": "decided_by <> 'geometry' OR n_inliers = 0 OR agreement IS NOT NULL",
        "calibration": _GIVEN,
        "compared_for": _GIVEN,
    },
    "components": {
        "image_id": "image_id >= component_id",
        "component_id": _GIVEN,
        "raised_to": "coalesce(raised_to BETWEEN 0 AND 1, true)",
        "first_group_id": "coalesce(first_group_id BETWEEN component_id AND group_id, true)",
        "group_id": "group_id BETWEEN component_id AND image_id",
    },
    "clusters": {
        "image_id": _GIVEN,
        "uri": "uri LIKE '%:/%'",
        "member": "coalesce(member <> '', true)",
        "cluster_id": _GIVEN,
        "cluster_size": "cluster_size >= 2",
        "keeper_image_id": "(keeper_image_id = image_id) = is_keeper",
        "is_keeper": _GIVEN,
        "relation": "(relation IS NULL) = is_keeper",
        "similarity": _COSINE + f" AND (NOT {_EQUAL_PIXELS} OR coalesce(similarity = 1, {{without_embedding}}))",
        "hamming_bits": _BITS + f" AND (NOT {_EQUAL_PIXELS} OR hamming_bits = 0)",
        "keeper_distance": f"coalesce(abs(keeper_distance - CASE distance_unit {_DISTANCE} END) < 1e-6, true) "
        f"AND (NOT {_EQUAL_PIXELS} OR keeper_distance = 0) AND (near_image_id <> keeper_image_id "
        "OR coalesce(keeper_distance <= bound, false))",
        "distance_unit": "distance_unit = CASE WHEN {is_calibrated} THEN '1 - copy_probability' "
        "WHEN similarity IS NULL THEN 'hamming_bits / 64' ELSE '1 - similarity' END",
        "bound": "near_distance <= bound AND abs(bound - CASE distance_unit WHEN '1 - copy_probability' THEN 0.8 "
        "WHEN '1 - similarity' THEN 1 - {min_similarity} ELSE {max_hamming_bits} / 64 END) < 1e-6",
        "is_bridge": _GIVEN,
        "is_protected": "NOT is_protected OR NOT is_removable",
        "is_reference": "NOT is_reference OR is_protected",
        "is_removable": "NOT is_removable OR (NOT is_keeper AND near_distance <= bound "
        "AND removal_tier IN ('same_bytes', 'same_pixels', 'reencoded'))",
        "size_bytes": "coalesce(size_bytes >= 0, true)",
        "freed_bytes": "freed_bytes = 0 OR (is_removable AND freed_bytes = size_bytes)",
        "object_version": _GIVEN,
        "etag": "coalesce(etag <> '', true)",
        "content_hash": _HEX,
        "modified_at": "coalesce(modified_at <= current_timestamp(), true)",
        "keeper_object_version": "NOT is_keeper OR keeper_object_version = object_version",
        "keeper_etag": "NOT is_keeper OR keeper_etag <=> etag",
        "keeper_content_hash": "(keeper_content_hash = content_hash) = (is_keeper OR relation = 'same_bytes')",
        "reason": "length(reason) > 10",
        "decided_by": "(decided_by IS NULL) = (is_keeper OR keeper_distance IS NULL) "
        "AND coalesce((decided_by = 'content_hash') = (relation = 'same_bytes') "
        "AND (decided_by = 'pixel_hash') = (relation = 'same_pixels'), true)",
        "copy_probability": _PROBABILITY + f" AND (copy_probability IS NOT NULL) = ({_BY_EVIDENCE}) "
        f"AND (NOT {_EQUAL_PIXELS} OR coalesce(copy_probability = 1, true))",
        "agreement": _PROBABILITY + " AND (agreement IS NULL OR n_inliers >= 0)",
        "contested": _PROBABILITY + " AND (contested IS NULL) = (agreement IS NULL)",
        "n_inliers": f"n_inliers IS NULL OR ({_BY_EVIDENCE} AND NOT {_EQUAL_PIXELS})",
        "is_direct": f"is_direct OR NOT {_EQUAL_PIXELS}",
        "versions": "versions LIKE 'dedup-spark % results %'",
        "removal_tier": "(removal_tier IS NULL) = is_keeper AND coalesce(removal_tier = relation "
        "OR removal_tier = 'more_detail', true)",
        "edit": "edit IS NULL OR relation IN ('edited_copy', 'contained')",
        "differing_share": _PROBABILITY + f" AND (differing_share IS NULL OR NOT {_EQUAL_PIXELS}) "
        "AND coalesce(relation <> 'reencoded' OR differing_share < 0.01, is_keeper)",
        "near_image_id": "(near_image_id = image_id) = is_keeper",
        "near_distance": "near_distance <= bound AND (near_image_id <> keeper_image_id "
        "OR near_distance = keeper_distance)",
        "near_object_version": _GIVEN,
        "near_content_hash": "(near_content_hash = content_hash) = (is_keeper OR removal_tier = 'same_bytes')",
    },
    "cluster_history": {
        "clusters_version": "clusters_version >= 0",
        "cluster_id": _GIVEN,
        "event": _GIVEN,
        "previous_cluster_ids": "(size(previous_cluster_ids) = 0) = (event = 'created')",
        "cluster_size": "(cluster_size = 0) = (event = 'removed')",
        "previous_size": "previous_size IS NOT NULL OR event IN ('created', 'merged', 'split')",
        "run_id": _GIVEN,
        "at": _GIVEN,
    },
    "guarded": {"image_id": _GIVEN, "guard": _GIVEN, "n_neighbours": "n_neighbours >= 0"},
    "runs": {
        "run_id": _GIVEN,
        "step": _GIVEN,
        "status": _GIVEN,
        "at": _GIVEN,
        "elapsed_seconds": "(elapsed_seconds IS NULL) = (status = 'started')",
        "counts": _GIVEN,
        "notes": "notes IS NULL OR get_json_object(notes, '$') IS NOT NULL",
        "lake": "lake LIKE '%:/%'",
        "fingerprint": "fingerprint IS NULL OR status = 'complete'",
        "config": "config LIKE '%\"cluster\"%'",
        "version": "rlike(version, '^[0-9]+[.]')",
        "message": "(message IS NOT NULL) = (status = 'failed')",
    },
}
