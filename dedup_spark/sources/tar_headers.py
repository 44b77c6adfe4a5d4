"""The headers of one tar file, by Python's `tarfile`, which believes what a header says.

A header may name any number: a size of 2^90 bytes, a name of 8 GB, a table of sparse parts without end, headers of
headers. So the file is given to `tarfile` through `HeaderFile`, which seeks nowhere outside it, reads at most 1 MiB
for one member (as Go's archive/tar) and checks the records of PAX before `tarfile` parses them: Python before 3.12.6
takes time that grows with the square of some of them (CVE-2024-6232).
"""

from __future__ import annotations

import itertools
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from dedup_spark.sources.patience import ask_patiently

_MOST_HEADER_BYTES = 2**20
_MOST_GLOBAL_RECORDS = 1000
"""Of PAX, which `tarfile` sets on each member that follows."""
_MOST_DIGITS = 512
_READ_AHEAD_BYTES = 2**20
_MOST_ZEROS = 16 * 2**20
"""Behind the last member in which other data are looked for: writers fill up 10 KiB, or a block of a tape."""
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_TYPE_AT = 156
_CHECKSUM = slice(148, 156)
_RECORD = re.compile(rb"([1-9]\d{0,7}) [^=\n]+=")
DAMAGE = (tarfile.TarError, ValueError, LookupError, ArithmeticError, EOFError, RecursionError)
"""What `tarfile` raises for damaged headers. A fault of the file is an OSError or a SourceError."""


class HeaderFile:
    """A file as `tarfile` reads it; faults of a store are outlasted, as in `ask_patiently`.

    `next_header` is the place behind the last member that was found.
    """

    def __init__(self, file: BinaryIO, uri: str, reopen: Callable[[], BinaryIO] | None) -> None:
        """`reopen` opens the file of a store once more, as its filesystem keeps credentials; None for a disk."""
        self._file, self._uri, self._reopen = file, uri, reopen
        self.n_bytes = file.seek(0, os.SEEK_END)
        self.next_header = 0
        self._left, self._is_in_pax = _MOST_HEADER_BYTES, False
        file.seek(0)

    def read(self, n_bytes: int) -> bytes:
        """Raises tarfile.ReadError where the headers of one member are too long, or records of PAX are damaged."""
        if not 0 <= n_bytes <= self._left:
            raise tarfile.ReadError(f"a member with headers of more than {_MOST_HEADER_BYTES:,} bytes")
        self._left -= n_bytes
        data = self.read_plain(n_bytes)
        if self._is_in_pax:
            _require_records(data)
        self._is_in_pax = not self._is_in_pax and _is_pax_header(data)
        return data

    def read_plain(self, n_bytes: int) -> bytes:
        """Bytes that are no headers."""
        reopen = self._reopen
        if reopen is None:
            return self._file.read(n_bytes)
        place, attempts = self._file.tell(), itertools.count()

        def ask() -> bytes:
            if next(attempts):
                failed, self._file = self._file, reopen()
                failed.close()
                self._file.seek(place)
            return self._file.read(n_bytes)

        return ask_patiently(ask, self._uri)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Raises tarfile.ReadError for a place outside the file."""
        if whence != os.SEEK_SET or not 0 <= offset <= self.n_bytes:
            raise tarfile.ReadError("unexpected end of data")
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()

    def begin_member(self) -> None:
        """What is read from now on belongs to the headers of another member."""
        self._left, self._is_in_pax = _MOST_HEADER_BYTES, False

    def close(self) -> None:
        self._file.close()


def members(file: HeaderFile) -> Iterator[tarfile.TarInfo]:
    """The members by their headers, in order; a member may reach beyond the end of the file.

    Raises:
        DAMAGE: no member can be found from there on.
    """
    with tarfile.open(fileobj=cast(BinaryIO, file), mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # else it keeps all of them in memory
            if tar.offset <= file.next_header or not 0 <= member.size < 2**63:
                raise tarfile.ReadError("a header that points backwards, or nowhere")
            if len(tar.pax_headers) > _MOST_GLOBAL_RECORDS:
                raise tarfile.ReadError(f"more than {_MOST_GLOBAL_RECORDS:,} records of PAX for all members")
            file.next_header = min(tar.offset, file.n_bytes)
            file.begin_member()
            yield member
            file.begin_member()
        end = tar.offset
    _require_zeros(file, end)


def _require_zeros(file: HeaderFile, offset: int) -> None:
    """Check that only zeros follow the last member: `tarfile` ends without an error at a broken header.

    Raises:
        tarfile.ReadError: something else follows.
    """
    at = min(offset, file.n_bytes)
    file.seek(at)
    while at < offset + _MOST_ZEROS and (block := file.read_plain(_READ_AHEAD_BYTES)):
        if block.strip(b"\0"):
            place = at + len(block) - len(block.lstrip(b"\0"))
            raise tarfile.ReadError(f"no tar header at byte {place:,}, or tar files written one after another")
        at += len(block)


def _is_pax_header(block: bytes) -> bool:
    """Whether a block is a sound header before records of PAX; a name may look like one, but for its sum."""
    if len(block) != tarfile.BLOCKSIZE or block[_TYPE_AT : _TYPE_AT + 1] not in _PAX_TYPES:
        return False
    try:
        return tarfile.nti(block[_CHECKSUM]) in tarfile.calc_chksums(block)  # type: ignore[attr-defined]
    except tarfile.TarError:
        return False


def _require_records(data: bytes) -> None:
    """Raise tarfile.ReadError unless the bytes are records of POSIX (`<length> <name>=<value>\\n`) and zeros."""
    at = 0
    while found := _RECORD.match(data, at):
        end = at + int(found[1])
        if found.end() >= end or data[end - 1 : end] != b"\n":
            raise tarfile.ReadError("a record of PAX with a wrong length")
        at = end
    if data[at:].strip(b"\0") or max(map(len, re.findall(rb"\d+", data)), default=0) > _MOST_DIGITS:
        raise tarfile.ReadError("records of PAX that are damaged")
