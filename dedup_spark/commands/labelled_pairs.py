"""Pairs of images that somebody labelled as copies or as different, from a CSV or Parquet file.

The file has a column `label` (1, true or copy; 0, false or different) and two columns that name the images: `uri_a` and
`uri_b`, or `image_id_a` and `image_id_b`. It is read on the driver: people label thousands of pairs, not millions.
"""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.store import files
from dedup_spark.store.schema import IMAGES
from dedup_spark.store.tables import Tables

_URIS, _IDS = ("uri_a", "uri_b"), ("image_id_a", "image_id_b")
_COPY, _DIFFERENT = ("1", "true", "copy"), ("0", "false", "different")
_LABELLED = "image_id_a bigint, image_id_b bigint, is_copy boolean"


def read_labelled_pairs(path: str) -> pa.Table:
    """(uri_a, uri_b, is_copy) or (image_id_a, image_id_b, is_copy) of a file, local or in a store.

    Raises:
        ConfigError: There is no such file, a column is missing, or a label is none.
    """
    found = _table(path)
    names = next((n for n in (_URIS, _IDS) if set(n) <= set(found.column_names)), None)
    if names is None or "label" not in found.column_names:
        raise ConfigError(
            f"--pairs {path}: expected the columns uri_a, uri_b and label, or image_id_a, image_id_b and label; found "
            f"{', '.join(found.column_names)}"
        )
    is_copy = [_is_copy(path, label) for label in found["label"].to_pylist()]
    if not is_copy:
        raise ConfigError(f"--pairs {path}: it holds no pair")
    return pa.table({**{n: found[n] for n in names}, "is_copy": pa.array(is_copy, pa.bool_())})


def with_ids(tables: Tables, labelled: pa.Table) -> DataFrame:
    """(image_id_a, image_id_b, is_copy), the smaller id first, each pair once.

    Raises:
        ConfigError: An address is of no image of the tables, or one pair has two labels.
    Cost: one scan of the addresses in images, where the file has addresses.
    """
    a, b = (labelled[c].to_pylist() for c in labelled.column_names[:2])
    if labelled.column_names[0] in _URIS:
        ids = _ids_of(tables, {*a, *b})
        a, b = ([ids[uri] for uri in side] for side in (a, b))
    label: dict[tuple[int, int], bool] = {}
    for x, y, is_copy in zip(a, b, labelled["is_copy"].to_pylist(), strict=True):
        if label.setdefault((min(x, y), max(x, y)), is_copy) != is_copy:
            raise ConfigError(f"--pairs: the pair of images {x} and {y} has two labels")
    return local_relation(tables.spark, [(*pair, is_copy) for pair, is_copy in label.items()], _LABELLED)


def _table(path: str) -> pa.Table:
    try:
        data = files.read_bytes(path)
        return (pq.read_table if data[:4] == b"PAR1" else pa_csv.read_csv)(io.BytesIO(data))
    except (OSError, ImportError, ValueError, pa.ArrowException) as e:  # ArrowInvalid is a ValueError, too
        raise ConfigError(f"--pairs {path}: not readable as CSV or Parquet: {e}") from e


def _is_copy(path: str, label: Any) -> bool:
    text = str(label).strip().lower().removesuffix(".0")
    if text not in (*_COPY, *_DIFFERENT):
        raise ConfigError(f"--pairs {path}: the label {label!r} is none of {', '.join((*_COPY, *_DIFFERENT))}")
    return text in _COPY


def _ids_of(tables: Tables, uris: set[str]) -> dict[str, int]:
    """Image id by address as it was given. Images inside containers have the address of their container: they need
    their id."""
    whole = {uri: addresses.canonical(uri) if addresses.is_absolute(uri) else uri for uri in uris}
    wanted = local_relation(tables.spark, [(uri,) for uri in set(whole.values())], "uri string")
    images = tables.read(IMAGES).where("member IS NULL").select("uri", "image_id")
    found = {r["uri"]: r["image_id"] for r in images.join(F.broadcast(wanted), "uri").collect()}
    missing = sorted(uri for uri, address in whole.items() if address not in found)
    if missing:
        more = f", and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ConfigError(f"--pairs: the tables have no image {', '.join(missing[:5])}{more}")
    return {uri: found[address] for uri, address in whole.items()}
