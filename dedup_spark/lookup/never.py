"""The negative list: hashes that match nothing, such as blank frames, logos, or one bad hash.

A file of JSON lines on this disk, each entry on it (fsync) before `add` returns. An image whose bytes, pixels or pHash
are listed is answered as `never_match`, and images of the lake with such a hash are found by nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dedup_spark.errors import ArtifactError, ConfigError
from dedup_spark.kernels.arrays import Bools, Int64
from dedup_spark.kernels.features.hashing import digest_of
from dedup_spark.lookup.added_log import write_through

FILE = "never_match.jsonl"
KINDS = ("content_hash", "pixel_hash", "phash")
_MOST_BITS = 3


@dataclass(frozen=True, slots=True)
class Listed:
    """The list as it was at one time."""

    hashes: Mapping[tuple[str, str], str]
    phashes: Sequence[tuple[int, int, str]]

    def __len__(self) -> int:
        return len(self.hashes) + len(self.phashes)

    def reason(self, content_hash: str, pixel_hash: str | None = None, phash: int | None = None) -> str | None:
        """Why an image of these hashes matches nothing; None where it may."""
        for key in (("content_hash", content_hash), ("pixel_hash", digest_of(pixel_hash or ""))):
            if key in self.hashes:
                return self.hashes[key]
        if phash is not None:
            for value, most, reason in self.phashes:
                if ((phash ^ value) & (2**64 - 1)).bit_count() <= most:
                    return reason
        return None

    def has_phash(self, phashes: Int64) -> Bools:
        """(m,) which of the pHashes are listed."""
        found = np.zeros(len(phashes), bool)
        for value, most, _ in self.phashes:
            found |= np.bitwise_count(phashes.view(np.uint64) ^ np.uint64(value)) <= most
        return found


@dataclass(frozen=True, slots=True)
class Never:
    """One entry: `value` in hex; of a pHash also those that differ in at most `max_bits`."""

    kind: str
    value: str
    max_bits: int
    reason: str
    at: str


class NeverMatch:
    """The list, which any number of threads and processes extend."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._seen = (-1, -1, -1)
        self._listed = Listed({}, ())

    def add(self, kind: str, value: str, reason: str, max_bits: int = 0) -> None:
        """List a hash. Raises ConfigError for one that is none."""
        digits = digest_of(value)
        _require_hash(kind, digits, max_bits)
        entry = Never(kind, digits.lower(), max_bits, reason, datetime.now(UTC).isoformat())
        self._path.touch(mode=0o600)
        with self._path.open("r+b") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            f.truncate(f.read().rfind(b"\n") + 1)  # what a killed process left half written
            f.seek(0, os.SEEK_END)
            write_through(f, json.dumps(asdict(entry)).encode() + b"\n")

    def listed(self) -> Listed:
        """What is listed now, by whichever process."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return self._listed
        seen = (found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            if seen != self._seen:
                self._listed, self._seen = _read(self._path), seen
            return self._listed


def _read(path: Path) -> Listed:
    hashes: dict[tuple[str, str], str] = {}
    phashes: list[tuple[int, int, str]] = []
    *lines, _ = path.read_bytes().split(b"\n")  # behind the last line break is what is just being written
    for line in lines:
        try:
            entry = Never(**json.loads(line))
        except (ValueError, TypeError) as e:
            raise ArtifactError(f"{path} is damaged: {line[:80]!r} is no entry ({e}); mend or delete that line") from e
        if entry.kind == "phash":
            phashes.append((int(entry.value, 16), entry.max_bits, entry.reason))
        else:
            hashes[entry.kind, entry.value] = entry.reason
    return Listed(hashes, phashes)


def _require_hash(kind: str, value: str, max_bits: int) -> None:
    digits = 16 if kind == "phash" else 64
    is_hex = all(c in "0123456789abcdefABCDEF" for c in value)
    if kind not in KINDS or len(value) != digits or not is_hex:
        raise ConfigError(f"never_match: expected one of {', '.join(KINDS)} in hex, 64 digits or 16 of a pHash")
    if not 0 <= max_bits <= (_MOST_BITS if kind == "phash" else 0):
        raise ConfigError(f"never_match: max_bits is of a pHash, and between 0 and {_MOST_BITS}")
