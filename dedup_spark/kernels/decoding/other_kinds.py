"""Files that stand beside images and are none: captions, facts, tables, containers, what file managers leave behind.

A name says so where its ending is one of `SUFFIXES` or the whole of it one of `NAMES`; no ending stands there that
images bear. The first bytes decide where they are at hand: a JPEG named `.txt` is an image.
"""

from __future__ import annotations

import re

from dedup_spark.kernels.decoding import formats
from dedup_spark.kernels.decoding.formats import sniff_format
from dedup_spark.kernels.decoding.suffixes import FORMAT_OF_SUFFIX

HEAD_BYTES = 512
"""First bytes of a file that `may_be_image` and `kind_of_bytes` want."""

_TEXTS = """txt text caption captions cls cls2 label labels names index inx idx id lst list md markdown rst tex rtf log
    srt vtt sub ass nfo html htm xhtml mhtml"""
_FACTS = """json jsonl ndjson geojson csv tsv psv xml xmp yaml yml toml ini cfg conf properties plist aae dop pp3 on1
    cos gpx kml kmz vcf ics"""
_PROGRAMS = """css scss js mjs ts tsx jsx py pyc pyd pyi ipynb sh bash bat cmd ps1 rb pl php java class jar c h cc cpp
    hpp cs go rs swift sql r lock exe dll so dylib msi url webloc lnk desktop"""
_ARRAYS = """npy npz pt pth ckpt safetensors onnx pkl pickle ten tenbin tb h5 hdf5 mat joblib weights tfrecord tfrecords
    mdb lmdb db sqlite sqlite3 dbf shp shx prj parquet pq parq arrow feather orc avro"""
_DOCUMENTS = "pdf doc docx odt ppt pptx odp xls xlsx xlsm ods epub mobi pages key"
_ARCHIVES = """tar zip gz tgz bz2 tbz tbz2 xz txz zst tzst lz4 lzma z 7z rar iso dmg cab deb rpm apk whl md5 sha1 sha256
    sha512 crc crc32 sfv sig asc pem crt torrent etag"""
_FILMS = """mp3 wav flac ogg oga m4a aac opus wma aiff mid midi mp4 m4v mov avi mkv webm mpg mpeg mts m2ts wmv flv 3gp
    3g2 ogv lrv"""
SUFFIXES = frozenset(" ".join((_TEXTS, _FACTS, _PROGRAMS, _ARRAYS, _DOCUMENTS, _ARCHIVES, _FILMS)).split())
"""Endings, without their dot and in small letters, of files that are no images."""

_OF_FILE_MANAGERS = {
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    ".ds_store",
    "desktop.ini",
    "icon\r",
    ".picasa.ini",
}
_WRITTEN_BY_HAND = r"(readme|licen[cs]e|copying|notice|authors|changelog|changes|todo|manifest|makefile|dockerfile)"
NAMES = re.compile(rf"{_WRITTEN_BY_HAND}|(md5|sha1|sha256|sha512)(sums?)?|checksums?|_success|\.git\w+", re.IGNORECASE)
"""Whole names, without an ending, of files that people and programs put beside images."""

_WHOLE_NAMES = "|".join([NAMES.pattern, *map(re.escape, sorted(_OF_FILE_MANAGERS))])
NAME_PATTERN = rf"(?i)(?:[^/]\.(?:{'|'.join(sorted(SUFFIXES))})|(?:^|/)(?:{_WHOLE_NAMES}))$"
"""A regular expression, of Python and of RE2, for the names of which `kind_of_name` says what they are."""

_IMAGES = frozenset({
    "jpg", "jpeg", "jpe", "jfif", "jif", "png", "apng", "gif", "tif", "tiff", "bmp", "dib", "ico", "psd", "psb", "dds",
    "qoi", "ppm", "pgm", "pbm", "pnm", "pfm", "thm", "mpo", "ai", *FORMAT_OF_SUFFIX,
})  # fmt: skip

_MAGIC = (
    (b"%PDF", "PDF"), (b"PK\3\4", "ZIP"), (b"PK\5\6", "ZIP"), (b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "Zstandard"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!", "RAR"),
    (b"PAR1", "Parquet"), (b"ARROW1", "Arrow"), (b"ORC", "ORC"), (b"Obj\1", "Avro"), (b"\x93NUMPY", "NumPy"),
    (b"\x89HDF\r\n", "HDF5"), (b"SQLite format 3\0", "SQLite"), (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "OLE2"),
    (b"\x7fELF", "ELF"), (b"MZ", "program of Windows"), (b"OggS", "Ogg"), (b"fLaC", "FLAC"), (b"ID3", "MP3"),
    (b"\x1aE\xdf\xa3", "Matroska"), (b"\0\0\1\xba", "MPEG"), (b"FLV\1", "FLV"), (b"bplist", "property list"),
    (b"\0\5\x16\7", "AppleDouble"), (b"\0\5\x16\0", "AppleSingle"), (b"\0\0\0\1Bud1", "DS_Store"),
)  # fmt: skip
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def kind_of_name(name: str) -> str | None:
    """What a file is by its name, such as `json file`, where that is no image; None where it may be one.

    The words are from a closed list of some 200, so that a listing may count by them.
    """
    last = name.rpartition("/")[2]
    if last.lower() in _OF_FILE_MANAGERS:
        return "file of a file manager"
    stem, dot, suffix = last.rpartition(".")
    if stem and dot:
        return f"{suffix.lower()} file" if suffix.lower() in SUFFIXES else None
    return "readme, licence or checksum" if NAMES.fullmatch(last) else None


def claims_to_be_image(name: str) -> bool:
    """Whether the ending of the name is one that images bear."""
    return name.rpartition("/")[2].rpartition(".")[2].lower() in _IMAGES


def may_be_image(head: bytes) -> bool:
    """Whether a file of another kind by its name, that begins so, is an image which a decoder reads."""
    image_format = sniff_format(head)
    return image_format is not None and formats.decoder_of(image_format) is not None


def kind_of_bytes(head: bytes) -> str | None:
    """What a file that is no image is by its first bytes (`PDF`, `ZIP`, `text`); None where they are unknown."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "film"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WAVE"):
        return head[8:12].decode().strip()
    if head[257:262] == b"ustar":
        return "tar"
    return "text" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    """UTF-8, or UTF-16 with its mark, without control characters; the last character may be cut."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = head[: len(head) & ~1].decode("utf-16", errors="ignore").encode()
    if not head.strip() or _CONTROL.search(head):
        return False
    try:
        head[:-4].decode() if len(head) > 8 else head.decode()
    except UnicodeDecodeError as e:
        return e.reason == "unexpected end of data"
    return True
