"""How a text file of columns is written: encoding, delimiter and header, found out from its beginning.

Spreadsheet programs write UTF-8 with a mark, UTF-16, semicolons or tabs, `sep=;` in front of the header, and old ones
carriage returns alone. The header decides about the delimiter: it is the one that parts a column `uri` from the others.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
from dataclasses import dataclass
from typing import BinaryIO, cast

from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources.random_access import open_bytes

DELIMITERS = (",", ";", "\t", "|")
_HEAD_BYTES = 2**20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_COMPRESSED = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
_SEPARATOR_LINE = re.compile(r'"?sep=([^\r\n"])"?\r?\n?', re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """Of one file; `columns` are its names in order, as written but for spaces around them."""

    encoding: str
    n_mark_bytes: int
    delimiter: str
    n_header_lines: int
    columns: tuple[str, ...]
    is_compressed: bool
    is_old_mac: bool
    """Lines end with a carriage return alone."""

    @property
    def is_splittable(self) -> bool:
        """Whether a task can begin in the middle of the file: its line ends are single bytes there."""
        return not self.is_compressed and self.encoding == "utf-8"


def open_plain(uri: str, *, at: int = 0) -> BinaryIO:
    """The file, without its compression, which its first bytes tell; `at` is for files that have none."""
    file = _open(uri)
    head = file.read(6)
    file.seek(at)
    opener = next((opener for magic, opener in _COMPRESSED if head.startswith(magic)), None)
    return cast(BinaryIO, opener(file, "rb")) if opener else file


def _open(uri: str) -> BinaryIO:
    """Raises SourceError where there is no file of that name, or none that may be read as one."""
    try:
        return open_bytes(uri)
    except ImageRejected as e:
        raise SourceError(f"{uri}: what it lists is unknown, so nothing was changed: {e.message}") from e


def read_layout(uri: str) -> Layout | None:
    """None where the file is empty. Raises ConfigError where its beginning is no text."""
    with _open(uri) as file:
        first = file.read(6)
    is_compressed = any(first.startswith(magic) for magic, _ in _COMPRESSED)
    try:
        with open_plain(uri) as file:
            head = file.read(_HEAD_BYTES)
    except (EOFError, OSError, lzma.LZMAError) as e:
        if not is_compressed:
            raise
        raise ConfigError(f"{uri}: its compression is damaged or cut off at the beginning: {e}") from e
    is_empty = not head[_encoding(head)[1] :].strip(b"\0 \t\r\n")
    return None if is_empty else layout_of(uri, head, is_compressed=is_compressed)


def layout_of(uri: str, head: bytes, *, is_compressed: bool = False) -> Layout:
    """From the first bytes, without compression. Raises ConfigError: see `read_layout`."""
    encoding, n_mark_bytes = _encoding(head)
    text = decoded(head[n_mark_bytes:], encoding)
    if "\0" in text[:4096]:
        raise ConfigError(f"{uri}: this is no text but bytes of another kind; its name says that it is a manifest")
    is_old_mac = "\r" in text and "\n" not in text
    named = _SEPARATOR_LINE.match(text)
    lines = text[named.end() if named else 0 :].lstrip("\r\n")
    n_blank = text[: len(text) - len(lines)].count("\r" if is_old_mac else "\n")
    by_delimiter = {d: _header(lines, d) for d in ([named[1]] if named else DELIMITERS)}
    delimiter = _likeliest(by_delimiter)
    columns, n_lines = by_delimiter[delimiter]
    return Layout(encoding, n_mark_bytes, delimiter, n_blank + n_lines, columns, is_compressed, is_old_mac)


def decoded(data: bytes, encoding: str = "utf-8") -> str:
    """Text; what is not UTF-8, as it should be, is read as Windows-1252, which spreadsheet programs write instead."""
    if encoding != "utf-8":
        return data.decode(encoding, errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(map(_line, data.splitlines(keepends=True)))


def distinct(names: tuple[str, ...]) -> list[str]:
    """Names that stay distinct in any case of letters: a repeated one gets `#2`, an empty one its number."""
    taken: set[str] = {name.lower() for name in names}
    found: list[str] = []
    seen: set[str] = set()
    for i, name in enumerate(names, 1):
        new, n = name or f"column {i}", 2
        while new.lower() in seen or (new != name and new.lower() in taken):
            new, n = f"{name or f'column {i}'}#{n}", n + 1
        seen.add(new.lower())
        found.append(new)
    return found


def _encoding(head: bytes) -> tuple[str, int]:
    """The encoding, and the length of the mark in front of the text."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    if head[1:8:2] == b"\0" * 4:  # UTF-16 of Latin letters without its mark
        return "utf-16-le", 0
    return ("utf-16-be", 0) if head[:8:2] == b"\0" * 4 else ("utf-8", 0)


def _line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")


def _header(text: str, delimiter: str) -> tuple[tuple[str, ...], int]:
    """The names in the first record, and how many lines it takes."""
    reader = csv.reader(io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"), newline=""), delimiter=delimiter)
    try:
        names = next(reader)
    except csv.Error:  # a field larger than the module takes
        return (text[:80],), 1
    return tuple(name.strip() for name in names), reader.line_num


def _likeliest(headers: dict[str, tuple[tuple[str, ...], int]]) -> str:
    """The first delimiter by which there is a column `uri`, else the one that makes the most columns."""
    with_uri = [d for d, (names, _) in headers.items() if "uri" in map(str.lower, names)]
    return with_uri[0] if with_uri else max(headers, key=lambda d: len(headers[d][0]))
