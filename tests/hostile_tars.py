"""Tar files whose headers lie: each begins with a sound image and holds another one behind the lie."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator

BLOCK = 512
SOUND = b"\xff\xd8\xff\xe0 a sound image"


def hostile_tars() -> dict[str, bytes]:
    """By what is wrong with them."""
    lies = {f"PAX {name}={value[:20]!r} {len(value):,}": _pax({name: value}) for name, value in _PAX_RECORDS}
    lies |= {f"size field {field!r}": _with_size(field) for field in _SIZE_FIELDS}
    lies |= {
        f"{kind} of {name}": _special(kind.encode(), size) for kind in "LKxgXSD" for name, size in _LENGTHS.items()
    }
    lies |= {name: make() for name, make in _MAKERS.items()}
    first, last = _member("first.jpg", SOUND), _member("last.jpg", SOUND)
    return {name: first + lie + last + bytes(2 * BLOCK) for name, lie in lies.items()}


_PAX_RECORDS = [
    *((name, value) for name in ("size", "mtime", "GNU.sparse.realsize", "GNU.sparse.size")
      for value in ("1" + "0" * 15,
                    "-1", "-512", "nan", "inf", "1e300", "1" + "0" * 300, str(2**63), "", "\u0661", "x")),
    ("GNU.sparse.map", "0,1,2"), ("GNU.sparse.map", ",".join("9" * 4000)), ("GNU.sparse.map", ""), ("path", "a\0b.jpg"),
    ("path", "d/" * 100_000 + "a.jpg"), ("path", ""), ("path", "a\nb\r\x1b[31m.jpg"), ("hdrcharset", "BINARY"),
    ("hdrcharset", "\udcff"), ("linkpath", "/etc/passwd"), ("comment", "7" * 400_000), ("charset", "x" * 900_000),
]  # fmt: skip
_SIZE_FIELDS = [
    b"77777777777\0", b"-0000000001\0", b"99999999999\0", b"            ", b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7,
    b"\xff" * 12, b"\x80" + b"\xff" * 11, b"\x81" + bytes(11), b"\xff" + bytes(11),
]  # fmt: skip
_LENGTHS = {
    "nothing": 0, "a byte": 1, "a block less a byte": 511, "200 MB": 200_000_000, "8 GB": 8**11 - 1, "-512": -512,
    "2^86": 2**86,
}  # fmt: skip


def _member(name: str, data: bytes, **facts: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % BLOCK)


def _record(name: str, value: bytes) -> bytes:
    body = b" " + name.encode() + b"=" + value + b"\n"
    n = len(body)
    while n != len(str(n)) + len(body):
        n = len(str(n)) + len(body)
    return str(n).encode() + body


def _pax(records: dict[str, str], kind: bytes = tarfile.XHDTYPE) -> bytes:
    data = b"".join(_record(name, value.encode("utf-8", "surrogateescape")) for name, value in records.items())
    return _member("pax", data, type=kind) + _member("lying.jpg", SOUND)


def _summed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _with_size(field: bytes) -> bytes:
    header = bytearray(_member("lying.jpg", SOUND))
    header[124:136] = field
    return _summed(header[:BLOCK]) + bytes(header[BLOCK:])


def _special(kind: bytes, size: int) -> bytes:
    """A header of headers that claims `size` bytes, of which a block is there."""
    info = tarfile.TarInfo("special")
    info.type = kind
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    positive = size if size >= 0 else 256**11 + size
    header[124:136] = (
        b"%011o\0" % size if 0 <= size < 8**11 else (b"\x80" if size >= 0 else b"\xff") + positive.to_bytes(11)
    )
    return _summed(header) + b"name".ljust(BLOCK, b"\0") + _member("lying.jpg", SOUND)


def _sparse_without_end() -> bytes:
    info = tarfile.TarInfo("sparse.jpg")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # more blocks of the map follow
    more = b"00000000001\0" * 42 + b"\1" + bytes(7)
    return _summed(header) + more * 4000


def _sparse_of_many_numbers() -> bytes:
    numbers = (b"%d\n" % 10**9).ljust(BLOCK, b"0") + b"\n1" * 1_000_000
    pax = _pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})[: 2 * BLOCK]
    return pax + _member("sparse.jpg", numbers)


def _overlapping_records() -> bytes:
    """Each begins within the one before, and all end in one `=`: an old parser keeps as many names as there are."""
    return _member("pax", b"2 " * 100_000 + b"a=b\n", type=tarfile.XHDTYPE) + _member("lying.jpg", SOUND)


def _bad_sum() -> bytes:
    return bytes(_member("lying.jpg", SOUND)[:148]) + b"0000000\0" + _member("lying.jpg", SOUND)[156:]


_MAKERS: dict[str, Callable[[], bytes]] = {
    "a thousand names of names": lambda: _special(b"L", 4)[: 2 * BLOCK] * 2000 + _member("lying.jpg", SOUND),
    "a thousand PAX headers of PAX headers": lambda: _pax({"path": "x"})[: 2 * BLOCK] * 2000 + _member("a.jpg", SOUND),
    "many global records": lambda: b"".join(_pax({f"a{i}": "b"}, tarfile.XGLTYPE)[: 2 * BLOCK] for i in range(300))
    + _pax({f"b{i}": "c" for i in range(2000)}, tarfile.XGLTYPE),
    "a sparse map without end": _sparse_without_end, "a sparse map of many numbers": _sparse_of_many_numbers,
    "overlapping records": _overlapping_records, "a wrong checksum": _bad_sum,
    "many links": lambda: b"".join(_member(f"{i}.jpg", b"", type=kind, linkname="first.jpg")
                                   for i in range(2000) for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE)),
    "devices": lambda: b"".join(_member("n", b"", type=t) for t in (b"3", b"4", b"6")),
    "an unknown type with a size": lambda: _member("odd", b"x" * 5000, type=b"Z"),
    "names that are no names": lambda: b"".join(_member(n, SOUND) for n in ("..", "/", "../../x", "a/../b.jpg")),
}  # fmt: skip


class CountedFile(io.FileIO):
    """How many bytes are asked for in a read, at most."""

    most_asked = 0

    def read(self, n: int | None = -1) -> bytes:  # type: ignore[override]
        assert n is not None
        assert n >= 0, "a read of all that there is"
        CountedFile.most_asked = max(CountedFile.most_asked, n)
        return super().read(n) or b""


def cut_anywhere(tars: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Each of them whole, and cut off at places that are no block."""
    for name, data in tars.items():
        yield name, data
        yield f"{name}, cut", data[: len(data) // 2 - 100]
