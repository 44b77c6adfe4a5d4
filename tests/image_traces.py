"""Reads every file below a folder by itself, whatever names it, and looks in it for traces of images."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dedup_spark.config import MatchSettings
from dedup_spark.kernels.joins.sketches import MOST_BITS, make_sketches

_LEAST_BYTES = 12
"""Of bytes that are looked for: shorter ones are found by chance."""
_LEAST_OF_NAME = 6


@dataclass
class Traces:
    """What is looked for: `numbers` as values, as text, as hex digits and as eight bytes; the others as they are."""

    numbers: set[int] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    blobs: set[bytes] = field(default_factory=set)

    def add_image(self, image: dict[str, Any], features: dict[str, Any], shared: set[Any]) -> None:
        """Everything by which an image is known, less what `shared` holds: values that other images have too.

        Its name with its folder, and that of a member, are looked for unless they are part of an address in `shared`.
        """
        self.numbers |= {image["image_id"], features["phash"] or 0} - shared - {0}
        texts = [image["uri"], image["uri"].removeprefix("file://"), features["content_hash"], features["pixel_hash"]]
        self.texts |= {text for text in texts if text} - shared
        names = ["/".join(image["uri"].split("/")[-2:]), image.get("member") or ""]
        held = [text for text in shared if isinstance(text, str)]
        self.texts |= {n for n in names if len(n) >= _LEAST_OF_NAME and not any(n in text for text in held)}
        blobs = [features[name] for name in ("thumbnail", "embedding", "block_sample") if features[name]]
        if features["embedding"] and features["embedding"] not in shared:
            vector = np.frombuffer(features["embedding"], "<f2").astype("<f4")
            blobs.append(vector.tobytes())
            blobs.append(make_sketches(vector[None], MOST_BITS, MatchSettings().seed).tobytes())
        self.blobs |= {blob for blob in blobs if len(blob) >= _LEAST_BYTES} - shared

    def needles(self) -> dict[bytes, str]:
        """Bytes, and what they stand for. Of blobs their end: how a JPEG begins, many thumbnails share."""
        found = {blob[-200:]: "bytes" for blob in self.blobs} | {text.encode(): text for text in self.texts}
        for number in self.numbers:
            unsigned = number & (2**64 - 1)
            for form in (str(number), str(unsigned), f"{unsigned:016x}", f"{unsigned:016X}"):
                found[form.encode()] = f"number {number} as text"
            found[unsigned.to_bytes(8, "little")] = f"number {number} as bytes"
        return found


def found_in(folder: Path, traces: Traces) -> dict[str, set[str]]:
    """By file below `folder`, what was found in it; files without any trace are left out."""
    needles = traces.needles()
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        held = {what for needle, what in needles.items() for data in _contents(path) if needle in data}
        held |= set(_in_values(path, traces))
        if held:
            found[str(path.relative_to(folder))] = held
    return found


def _contents(path: Path) -> list[bytes]:
    return [path.read_bytes(), str(path).encode()]


def _in_values(path: Path, traces: Traces) -> Iterator[str]:
    """Of a Parquet file, whose pages are compressed: the values of all columns, nested ones too."""
    data = path.read_bytes()
    if not data.startswith(b"PAR1"):
        return
    for name, column in pq.read_table(io.BytesIO(data)).to_pydict().items():
        for value in _flat(column):
            if isinstance(value, int) and value in traces.numbers:
                yield f"{name}: {value}"
            if isinstance(value, str) and any(text in value for text in _all_texts(traces)):
                yield f"{name}: {value[:80]}"
            if isinstance(value, bytes) and any(blob in value for blob in traces.blobs):
                yield f"{name}: bytes"


def _all_texts(traces: Traces) -> set[str]:
    return traces.texts | {form for n in traces.numbers for form in (str(n), f"{n & (2**64 - 1):016x}")}


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, dict):
            yield from _flat([*value.keys(), *value.values()])
        elif isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value
