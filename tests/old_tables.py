"""Unpacks tables that version 0.1.0 wrote, for tests of their upgrade.

`tables-0.1.0.tar.gz` holds the tables of four runs into one folder, and two of the lakes:

- `file:///tmp/dedup-spark-0.1.0/lake`: a photo, its byte copy, a PNG and a smaller JPEG of it; two more photos, one
  with a hard link, one with a symbolic link to it; a broken file
- `file:///tmp/dedup-spark-0.1.0/list/list.csv`: names one file as `img/a.jpg`, `img//a.jpg` and `img/../img/a.jpg`,
  and another one once
- `s3://lake/photos` and `s3a://lake/photos`: three objects, found twice
"""

from __future__ import annotations

import os
import tarfile
from decimal import Decimal
from pathlib import Path

ARCHIVE = Path(__file__).with_name("tables-0.1.0.tar.gz")
HOME = Path("/tmp/dedup-spark-0.1.0")
"""The folder of the lakes at that time."""


def unpack_old_tables(folder: Path) -> Path:
    """The tables, below `folder`."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, [m for m in archive if m.name.startswith("tables")], filter="data")
    return folder / "tables"


def unpack_old_lakes() -> None:
    """Unpack the local lakes to the folder where they were, with the times to the microsecond that the tables have."""
    with tarfile.open(ARCHIVE) as archive:
        members = [m for m in archive if not m.name.startswith("tables")]
        archive.extractall(HOME, members, filter="fully_trusted")
    for member in members:
        if member.isfile():  # tarfile sets the float nearest to a time, which may lie just below its microsecond
            os.utime(HOME / member.name, ns=(int(Decimal(repr(member.mtime)) * 10**6) * 1000,) * 2)
