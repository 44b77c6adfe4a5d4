"""A file of pairs that people have labelled: `image_id_a`, `image_id_b` or `uri_a`, `uri_b`, and `duplicate`.

CSV (with a header, UTF-8) or Parquet. An address may be relative to the lake, or to the folder of a lake
that is one file; `#` and the name follow it where the image is a member of a container. Rows without a label are those
that nobody has looked at yet.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as arrow_csv

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.arrays import Bools, Int64
from dedup_spark.kernels.clusters.components import label_components
from dedup_spark.store import files

LABEL = "duplicate"
_KEYS = (("image_id_a", "image_id_b"), ("uri_a", "uri_b"))
_VALUES = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_SHOWN_KEYS = 3


@dataclass(frozen=True)
class Labels:
    """The labelled rows of a file, in its order, and the number of rows without a label.

    `a` and `b` are texts: addresses, or ids where `by_id`.
    """

    file: str
    a: Sequence[str]
    b: Sequence[str]
    is_copy: Bools
    by_id: bool
    n_unlabelled: int


def read_labels(file: str) -> Labels:
    """The labels of a local file or of one in a store. Raises ConfigError, with what is wrong in it."""
    try:
        data = files.read_bytes(file)
        rows = _parquet(data) if data[:4] == b"PAR1" else _csv(data)
    except FileNotFoundError as e:
        raise ConfigError(f"--pairs {file}: no such file") from e
    except (OSError, ValueError, ImportError) as e:  # ArrowInvalid is a ValueError
        raise ConfigError(f"--pairs {file}: expected CSV with a header, or Parquet: {e}") from e
    keys = next((keys for keys in _KEYS if set(keys) <= set(rows.column_names)), None)
    if keys is None or LABEL not in rows.column_names:
        raise ConfigError(
            f"--pairs {file}: expected the columns {' and '.join(_KEYS[0])}, or {' and '.join(_KEYS[1])}, and "
            f"{LABEL} (1 or 0); found {', '.join(rows.column_names) or 'none'}"
        )
    texts = [_texts(rows, name) for name in (*keys, LABEL)]
    labelled = [i for i, text in enumerate(texts[2]) if text]
    values = [_VALUES.get(texts[2][i].lower()) for i in labelled]
    if None in values:
        wrong = texts[2][labelled[values.index(None)]]
        raise ConfigError(f"--pairs {file}: {LABEL} must be 1 or 0, or empty where nobody has looked; found '{wrong}'")
    a, b = ([texts[side][i] for i in labelled] for side in (0, 1))
    by_id = keys == _KEYS[0]
    wrong_id = next((text for text in (*a, *b) if by_id and not text.removeprefix("-").isdecimal()), None)
    if wrong_id is not None:
        raise ConfigError(f"--pairs {file}: {keys[0]} and {keys[1]} must be whole numbers; found '{wrong_id}'")
    return Labels(file, a, b, np.array(values, bool), by_id, len(texts[2]) - len(labelled))


def _parquet(data: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(data))


def _csv(data: bytes) -> pa.Table:
    """All columns as texts: an id of 19 digits must not become a float because another row lacks it."""
    header = next(csv.reader(io.StringIO(data.decode("utf-8-sig"))), [])
    as_text = arrow_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()))
    return arrow_csv.read_csv(
        io.BytesIO(data), convert_options=as_text, parse_options=arrow_csv.ParseOptions(newlines_in_values=True)
    )


def _texts(rows: pa.Table, name: str) -> list[str]:
    return ["" if value is None else str(value).strip() for value in rows[name].to_pylist()]


@dataclass(frozen=True)
class Known:
    """What the tables say of one image that a label names.

    Attributes:
        representative_id: The image that stands for its pixels; None where it could not be read.
        has_embedding: Whether that one has a vector.
    """

    representative_id: int | None
    has_embedding: bool = True


@dataclass(frozen=True)
class LabelCounts:
    """How many labelled rows were used, and why the others were not; each row counts once.

    `proposed`: duplicates that match found; None as long as nobody looked.
    """

    duplicates: int
    others: int
    unlabelled: int
    unknown: int
    rejected: int
    without_embedding: int
    identical: int
    repeated: int
    contradictory: int
    unknown_keys: tuple[str, ...]
    proposed: int | None = None

    def in_words(self, file: str) -> str:
        """A few sentences for the terminal."""
        keys = ", ".join(self.unknown_keys) + (", ..." if self.unknown > len(self.unknown_keys) else "")
        left_out = {
            f"name an image that is not in the tables ({keys})": self.unknown,
            "name an image that was rejected": self.rejected,
            "name an image without an embedding": self.without_embedding,
            "are of equal pixels, which need no judgement": self.identical,
            "repeat another row": self.repeated,
            "contradict another row": self.contradictory,
            "have no label": self.unlabelled,
        }
        reasons = ", ".join(f"{n:,} {what}" for what, n in left_out.items() if n)
        said = [
            f"{self.duplicates + self.others:,} labelled pairs of {file} can be used: {self.duplicates:,} duplicates "
            f"and {self.others:,} others."
        ]
        if reasons:
            said.append(f"Left out: {reasons}.")
        if self.proposed is not None and self.proposed < self.duplicates:
            said.append(
                f"Match proposed {self.proposed:,} of the duplicates; the others are not joined whatever the cut: they "
                "are below match.min_similarity and match.floor_similarity."
            )
        return " ".join(said)


@dataclass(frozen=True)
class UsablePairs:
    """Pairs of representatives with a label, each once; all arrays are (n,), and a < b.

    `group` names the picture of `a`: images that labels join are one picture, and what is known of one of its pairs
    says something about the others.
    """

    a: Int64
    b: Int64
    is_copy: Bools
    group: Int64


def usable_pairs(labels: Labels, known: Mapping[str, Known]) -> tuple[UsablePairs, LabelCounts]:
    """The pairs that the fit can use, and a count of all rows.

    `known` has the images that were found, by the key that the file has for them.
    """
    why: Counter[str] = Counter()
    said: defaultdict[tuple[int, int], list[bool]] = defaultdict(list)
    missing: dict[str, None] = {}
    for a, b, is_copy in zip(labels.a, labels.b, labels.is_copy.tolist(), strict=True):
        reason, pair = _pair_of(known.get(a), known.get(b))
        why[reason] += 1
        missing |= dict.fromkeys(key for key in (a, b) if key not in known)
        if not reason:
            said[pair].append(is_copy)
    clear = {pair: values for pair, values in said.items() if len(set(values)) == 1}
    a_ids, b_ids = (np.array([pair[side] for pair in clear], np.int64) for side in (0, 1))
    is_copies = np.array([values[0] for values in clear.values()], bool)
    counts = LabelCounts(
        duplicates=int(is_copies.sum()),
        others=int((~is_copies).sum()),
        unlabelled=labels.n_unlabelled,
        repeated=sum(len(values) - 1 for values in clear.values()),
        contradictory=sum(len(values) for pair, values in said.items() if pair not in clear),
        unknown_keys=tuple(missing)[:_SHOWN_KEYS],
        **{reason: why[reason] for reason in ("unknown", "rejected", "without_embedding", "identical")},
    )
    return UsablePairs(a_ids, b_ids, is_copies, pictures_of(a_ids, b_ids, is_copies)), counts


def _pair_of(a: Known | None, b: Known | None) -> tuple[str, tuple[int, int]]:
    """Why the two are left out, or no reason and their representatives, the smaller first."""
    nothing = (0, 0)
    if a is None or b is None:
        return "unknown", nothing
    if a.representative_id is None or b.representative_id is None:
        return "rejected", nothing
    if a.representative_id == b.representative_id:
        return "identical", nothing
    if not (a.has_embedding and b.has_embedding):
        return "without_embedding", nothing
    first, second = sorted((a.representative_id, b.representative_id))
    return "", (first, second)


def pictures_of(a: Int64, b: Int64, is_copy: Bools) -> Int64:
    """(n,) the smallest image that duplicates join with `a`, or `a` itself."""
    nodes, picture = label_components(a[is_copy], b[is_copy])
    at = np.searchsorted(nodes, a)
    is_joined = np.isin(a, nodes)
    found = a.copy()
    found[is_joined] = picture[at[is_joined]]
    return found
