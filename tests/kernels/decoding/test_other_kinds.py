"""Files beside images: which are known by name, which by their first bytes, and that no image is taken for one."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from dedup_spark.kernels.decoding.formats import sniff_format
from dedup_spark.kernels.decoding.other_kinds import (
    NAME_PATTERN,
    SUFFIXES,
    claims_to_be_image,
    kind_of_bytes,
    kind_of_name,
    may_be_image,
)
from dedup_spark.kernels.decoding.suffixes import FORMAT_OF_SUFFIX


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("00000/000000001.json", "json file"), ("a.TXT", "txt file"), ("labels/0001.txt", "txt file"),
        ("00000_stats.json", "json file"), ("00000.parquet", "parquet file"), ("x.tar.gz", "gz file"),
        ("Thumbs.db", "file of a file manager"), ("desktop.ini", "file of a file manager"),
        (".DS_Store", "file of a file manager"), ("README", "readme, licence or checksum"),
        ("LICENSE", "readme, licence or checksum"), ("SHA256SUMS", "readme, licence or checksum"),
        ("shot.jpg.md5", "md5 file"), ("s3://b/k/IMG_1.xmp", "xmp file"), ("clip.MP4", "mp4 file"),
        ("a.jpg", None), ("IMG_0001", None), ("folder.json/IMG_0001", None), ("x.dat", None), (".json", None),
        ("scan.THM", None), ("v1.2", None), ("logo.svg", None), ("", None),
    ],
)  # fmt: skip
def test_a_name_says_what_is_no_image(name: str, kind: str | None) -> None:
    assert kind_of_name(name) == kind
    matches = pc.match_substring_regex(pa.array([name]), NAME_PATTERN)[0].as_py()
    assert matches or kind is None  # what the pattern leaves out is never asked about


def test_no_ending_of_an_image_is_among_those_of_other_files() -> None:
    Image.init()
    of_images = {suffix.removeprefix(".") for suffix, name in Image.EXTENSION.items() if name in Image.OPEN}
    of_other_readers = {"h5", "hdf", "mpg", "mpeg", "pdf", "grib", "bufr"}  # of plugins that only name the format
    assert SUFFIXES & (of_images | FORMAT_OF_SUFFIX.keys()) <= of_other_readers
    assert all(claims_to_be_image(f"x.{suffix}") for suffix in FORMAT_OF_SUFFIX)
    assert not any(map(claims_to_be_image, ("x.json", "jpg/x", "noext")))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_an_image_under_another_name_is_known_by_its_first_bytes(image_format: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, image_format)
    assert may_be_image(file.getvalue()[:512])


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (json.dumps({"caption": "a dog"}).encode(), "text"), (b"caf\xc3\xa9 au lait", "text"),
        (b"0 0.5 0.5 1 1\n", "text"),
        ("uri,licence\r\n".encode("utf-16"), "text"), (b"%PDF-1.7", "PDF"), (zipped(), "ZIP"),
        (gzip.compress(b"x", mtime=0), "gzip"), (b"PAR1....", "Parquet"), (b"\0\0\0\x18ftypmp42", "film"),
        (b"RIFF....WAVEfmt ", "WAVE"), (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99, "OLE2"),
        (b"a" * 257 + b"ustar\0" + b"\0" * 200, "tar"), (b"\x00\x01\x02\x03", None), (b"caf\xe9 au lait", None),
        (b"  ", None),
    ],
)  # fmt: skip
def test_first_bytes_say_what_a_file_is_instead(data: bytes, kind: str | None) -> None:
    assert sniff_format(data) is None
    assert not may_be_image(data)
    assert kind_of_bytes(data[:512]) == kind


def test_text_whose_last_character_is_cut_is_text() -> None:
    text = "é".encode() * 300
    assert {kind_of_bytes(text[:n]) for n in range(20, 40)} == {"text"}
