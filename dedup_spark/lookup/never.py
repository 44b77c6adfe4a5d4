"""The negative list: hashes that match nothing, such as blank frames, logos, or one bad hash.

A file of JSON lines on this disk, each entry on it (fsync) before `add` returns. An image whose bytes, pixels or pHash
are listed is answered as `never_match`, and images of the lake with such a hash are found by nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dedup_spark.errors import ArtifactError, ConfigError
from dedup_spark.lookup.added_log import write_through

FILE = "never_match.jsonl"
KINDS = ("content_hash", "pixel_hash", "phash")
_MOST_BITS = 3


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
        self._seen = (-1, -1)
        self._hashes: dict[tuple[str, str], str] = {}
        self._phashes: list[tuple[int, int, str]] = []

    def add(self, kind: str, value: str, reason: str, max_bits: int = 0) -> None:
        """List a hash. Raises ConfigError for one that is none."""
        _require_hash(kind, value, max_bits)
        entry = Never(kind, value.lower(), max_bits, reason, datetime.now(UTC).isoformat())
        self._path.touch(mode=0o600)
        with self._path.open("r+b") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            f.truncate(f.read().rfind(b"\n") + 1)  # what a killed process left half written
            f.seek(0, os.SEEK_END)
            write_through(f, json.dumps(asdict(entry)).encode() + b"\n")

    def reason(self, content_hash: str, pixel_hash: str | None = None, phash: int | None = None) -> str | None:
        """Why an image of these hashes matches nothing; None where it may."""
        self._refresh()
        for key in (("content_hash", content_hash), ("pixel_hash", pixel_hash or "")):
            if key in self._hashes:
                return self._hashes[key]
        if phash is not None:
            for value, most, reason in self._phashes:
                if ((phash ^ value) & (2**64 - 1)).bit_count() <= most:
                    return reason
        return None

    def __len__(self) -> int:
        self._refresh()
        return len(self._hashes) + len(self._phashes)

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return
        if (found.st_ino, found.st_size) == self._seen:
            return
        with self._lock:
            hashes, phashes = _read(self._path)
            self._hashes, self._phashes, self._seen = hashes, phashes, (found.st_ino, found.st_size)


def _read(path: Path) -> tuple[dict[tuple[str, str], str], list[tuple[int, int, str]]]:
    hashes, phashes = {}, []
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
    return hashes, phashes


def _require_hash(kind: str, value: str, max_bits: int) -> None:
    digits = 16 if kind == "phash" else 64
    is_hex = all(c in "0123456789abcdefABCDEF" for c in value)
    if kind not in KINDS or len(value) != digits or not is_hex:
        raise ConfigError(f"never_match: expected one of {', '.join(KINDS)} in hex, 64 digits or 16 of a pHash")
    if not 0 <= max_bits <= (_MOST_BITS if kind == "phash" else 0):
        raise ConfigError(f"never_match: max_bits is of a pHash, and between 0 and {_MOST_BITS}")
