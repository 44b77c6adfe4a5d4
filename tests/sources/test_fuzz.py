"""Whatever is done to a container or a report, it gives rows or a reason, and what comes before the damage is whole."""

from __future__ import annotations

import functools
import io
import itertools
import json
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing.campaign import LONG_SECONDS, SHORT_SECONDS, campaign
from odd_files import odd_files

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import REJECT_REASONS, ImageRejected
from dedup_spark.sources import parquet_rows
from dedup_spark.sources.base import Address
from dedup_spark.sources.s3_inventory import S3InventorySource, _read_report
from dedup_spark.sources.tar import TarSource, list_members

Files = list[tuple[str, bytes]]
Make = Callable[[], Files]
Read = Callable[[Path, bytes], str]
_N_ROWS = 40


def pictures() -> list[tuple[str, bytes]]:
    return [(f"{i:02} {file.name}.bin", file.data) for i, file in enumerate(odd_files()) if len(file.data) < 10_000][
        :12
    ]


@functools.cache
def tars() -> Files:
    """In three dialects: short and long names, a folder, a link, a caption, a hidden member, a name twice."""
    return [(name, _tar(form)) for name, form in (
        ("ustar", tarfile.USTAR_FORMAT), ("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT))]  # fmt: skip


def _tar(form: int) -> bytes:
    out = io.BytesIO()
    long = "" if form == tarfile.USTAR_FORMAT else "deep/" * 40
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in [*pictures(), ("00.txt", b"a caption"), (".hidden.jpg", b"x"), *pictures()[:2]]:
            info = tarfile.TarInfo(long + name)
            info.size, info.mtime = len(data), 1_700_000_000
            tar.addfile(info, io.BytesIO(data))
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"odd {kind.decode()}")
            info.type, info.linkname = kind, "00.txt"
            tar.addfile(info)
    return out.getvalue()


def tables() -> Files:
    """A column of bytes, plain and in a struct as Hugging Face writes it, by each compression, in row groups of 15."""
    values = [pictures()[i % 12][1][:500] if i % 7 else None for i in range(_N_ROWS)]
    structs = [{"bytes": value, "path": f"{i}.jpg"} for i, value in enumerate(values)]
    made = []
    for compression in ("none", "snappy", "zstd", "gzip"):
        for column in (pa.array(values, pa.binary()), pa.array(structs), pa.array(values, pa.large_binary())):
            out = io.BytesIO()
            table = pa.table({"image": column, "n": list(range(_N_ROWS))})
            pq.write_table(table, out, row_group_size=15, compression=compression, data_page_size=2000)
            made.append((f"{compression} {column.type}", out.getvalue()))
    return made


def reports() -> Files:
    """The manifest.json of an S3 Inventory."""
    files = [{"key": f"a/data/{i}.csv.gz", "size": 1234, "MD5checksum": "0" * 32} for i in range(3)]
    report = {
        "sourceBucket": "lake", "destinationBucket": "arn:aws:s3:::reports", "version": "2016-11-30",
        "creationTimestamp": "1763856000000", "fileFormat": "CSV", "fileSchema": "Bucket, Key, Size", "files": files,
    }  # fmt: skip
    return [("compact", json.dumps(report).encode()), ("indented", json.dumps(report, indent=1).encode())]


def members(path: Path) -> set[tuple[str, int, int]]:
    """(member, position, size) of what a tar file lists."""
    rows = list_members(f"file://{path}", None, skip_hidden=True)
    return {(row["member"], row["position"], row["size_bytes"]) for row in rows if row.get("member")}


@functools.cache
def sound_members() -> list[tuple[bytes, set[tuple[str, int, int]]]]:
    """Each sound tar file with what it lists."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.tar"
        return [(data, members(path)) for _, data in tars() if path.write_bytes(data)]


def n_equal(a: bytes, b: bytes) -> int:
    """Of how many bytes the beginnings are equal."""
    n = min(len(a), len(b))
    differing = np.flatnonzero(np.frombuffer(a, np.uint8, n) != np.frombuffer(b, np.uint8, n))
    return int(differing[0]) if differing.size else n


def read_tar(path: Path, data: bytes) -> str:
    """Every member in front of the first changed byte is listed, and each row is read or has a reason."""
    rows = list(list_members(f"file://{path}", None, skip_hidden=True))
    assert len(rows) <= len(data) // 512 + 1
    n_same, listed = max(((n_equal(data, sound), found) for sound, found in sound_members()), key=lambda pair: pair[0])
    assert {member for member in listed if member[1] + member[2] <= n_same} <= members(path)
    source = TarSource(str(path))
    return ending([functools.partial(source.fetch, Address.of(row)) for row in rows])


def read_table(path: Path, data: bytes) -> str:
    """Each row is read, or has a reason, or is a fault of the disk, which is tried again and then said."""
    rows = range(_N_ROWS)
    return ending([functools.partial(parquet_rows.read_value, f"file://{path}", row, "") for row in rows])


def ending(reads: list[Callable[[], bytes | None]]) -> str:
    """How the last of them that was not read ended."""
    how = "ok"
    for read in reads:
        try:
            assert isinstance(read(), bytes | None)
        except ImageRejected as e:
            assert e.reason in REJECT_REASONS
            how = str(e.reason)
        except OSError:
            how = "fault"
    return how


def read_report(path: Path, data: bytes) -> str:
    """A report that describes its data files, or one sentence."""
    try:
        S3InventorySource(str(path)).as_of()
        report = _read_report(f"file://{path}")
    except ConfigError as e:
        assert "Traceback" not in str(e)
        return "refused"
    assert all(isinstance(file["key"], str) for file in report["files"])
    assert all(isinstance(report[name], str) for name in ("destinationBucket", "fileFormat", "fileSchema"))
    return "ok"


KINDS = pytest.mark.parametrize(
    ("make", "read"), [(tars, read_tar), (tables, read_table), (reports, read_report)], ids=["tar", "table", "report"]
)


def fuzz(make: Make, read: Read, folder: Path, seconds: float) -> Counter[str]:
    """Each damaged file under a name of its own, as readers of tables stay open."""
    numbers = itertools.count()

    def read_file(data: bytes) -> str:
        path = folder / f"{next(numbers)}"
        path.write_bytes(data)
        how = read(path, data)
        path.unlink()
        return how

    return campaign(make.__name__, make(), read_file, seconds)


@KINDS
def test_a_damaged_container_gives_rows_or_a_reason(make: Make, read: Read, tmp_path: Path) -> None:
    outcomes = fuzz(make, read, tmp_path, SHORT_SECONDS / 2)
    assert 0 < outcomes["ok"] < outcomes.total()


@pytest.mark.slow
@KINDS
def test_damaged_containers_give_rows_or_reasons_for_minutes(make: Make, read: Read, tmp_path: Path) -> None:
    fuzz(make, read, tmp_path, LONG_SECONDS / 3)


@KINDS
def test_a_sound_container_is_read(make: Make, read: Read, tmp_path: Path) -> None:
    for i, (_, data) in enumerate(make()):
        (tmp_path / str(i)).write_bytes(data)
        how = read(tmp_path / str(i), data)
        assert how == "ok"
