"""Which image format a file has, by its first bytes and never by its name, and which decoder reads it."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass

import PIL

from dedup_spark.kernels.decoding.headers import tiff_directories


@dataclass(frozen=True, slots=True)
class Decoder:
    """`name` as pip knows it, `module` as Python does; `ways` are the values of features.decoder that it can give.
    `extra` of dedup_spark installs it; Pillow always is."""

    name: str
    module: str
    ways: tuple[str, ...]
    extra: str = ""

    @property
    def requirement(self) -> str:
        """For pip."""
        return f"dedup-spark[{self.extra}]" if self.extra else self.name


PILLOW = Decoder("pillow", "PIL", ("pillow",))
HEIF = Decoder("pillow-heif", "pillow_heif", ("pillow-heif",), "heic")
JXL = Decoder("pillow-jxl-plugin", "pillow_jxl", ("pillow-jxl-plugin",), "jxl")
RAW = Decoder("rawpy", "rawpy", ("rawpy preview", "rawpy", "rawpy half size"), "raw")
DECODERS = (PILLOW, HEIF, JXL, RAW)

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
    (b"\xff\x4f\xff\x51", "JPEG2000"), (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x0a", "JXL"), (b"\0\0\0\x0cJXL ", "JXL"),
    (b"8BPS", "PSD"), (b"DDS ", "DDS"), (b"qoif", "QOI"),
    (b"FUJIFILMCCD-RAW", "RAF"), (b"IIRO", "ORF"), (b"IIRS", "ORF"), (b"MMOR", "ORF"), (b"IIU\0", "RW2"),
    (b"\0MRM", "MRW"), (b"FOVb", "X3F"),
    (b"gimp xcf", "XCF"), (b"%!PS-Adobe", "EPS"), (b"\xc5\xd0\xd3\xc6", "EPS"), (b"II\xbc", "JPEG XR"),
    (b"AT&TFORM", "DJVU"), (b"\x76\x2f\x31\x01", "EXR"), (b"#?RADIANCE", "HDR"), (b"BPG\xfb", "BPG"),
    (b"FLIF", "FLIF"), (b"\xd7\xcd\xc6\x9a", "WMF"), (b"icns", "ICNS"), (b"\0\0\2\0\1\0", "CUR"),
    (b"\x8bMNG", "MNG"), (b"\x8bJNG", "JNG"), (b"SIMPLE  =", "FITS"),
    (b"BLP1", "BLP"), (b"BLP2", "BLP"), (b"FTEX", "FTEX"), (b"\x59\xa6\x6a\x95", "SUN"), (b"/* XPM */", "XPM"),
    (b"\xb1\x68\xde\x3a", "DCX"), (b"P7\n", "PAM"), (b"P7 332\n", "XVThumb"), (b"\x80\xe8\0\0", "PIXAR"),
)  # fmt: skip
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_OLD_HEADER_BYTES = 66
_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

_RAW_MAKES = {b"NIKON": "NEF", b"SONY": "ARW", b"PENTAX": "PEF", b"RICOH": "PEF", b"SAMSUNG": "SRW", b"OLYMPUS": "ORF"}
_CFA, _LINEAR_RAW = 32803, 34892  # PhotometricInterpretation of sensor data
_NEW_SUBFILE_TYPE, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 254, 262, 271, 330, 50706

_DECODER_OF = {
    **dict.fromkeys(
        ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "PSD", "PPM", "DDS", "QOI"), PILLOW
    ),
    "HEIF": HEIF,
    "JXL": JXL,
    **dict.fromkeys(
        ("DNG", "CR2", "CR3", "CRW", "NEF", "ARW", "PEF", "SRW", "ORF", "RW2", "RAF", "MRW", "X3F", "RAW"), RAW
    ),
}


def sniff_format(data: bytes) -> str | None:
    """Image format by the first bytes, or None when they are not those of an image. Never raises.

    It names formats without a decoder too. Camera RAW that calls itself TIFF is told apart by its directories.
    """
    if data[:4] in _TIFF_MAGIC:
        return _raw_in_tiff(data) or "TIFF"
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _by_brand(data)
    if data[:4] == b"\0\0\1\0":
        return "ICO" if any(data[4:6]) else None
    if data[:2] == b"BM":
        return "BMP" if int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES else None
    if data[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"):
        return "PPM" if data[2:3].isspace() else None
    if data[6:14] == b"HEAPCCDR":
        return "CRW"
    if data[128:132] == b"DICM":
        return "DICOM"
    return "SVG" if _is_svg(data) else _by_structure(data)


def decoder_of(image_format: str) -> Decoder | None:
    """The decoder of this format, installed or not; None when there is none."""
    return _DECODER_OF.get(image_format)


@functools.cache
def is_installed(decoder: Decoder) -> bool:
    """Whether a decoder is installed, found without importing it: an import costs 40-140 ms, and most decoder processes
    never meet a rare format."""
    return importlib.util.find_spec(decoder.module) is not None


@functools.cache
def decoder_version(decoder: Decoder) -> str:
    """`major.minor` of what is installed: patch releases do not change pixels. Does not import the decoder."""
    if decoder is PILLOW:
        version = PIL.__version__
    else:
        from importlib import metadata  # imported here: 20 ms, which a process that meets no rare format saves

        version = metadata.version(decoder.name)
    return ".".join(version.split(".")[:2])


def installed_decoders() -> tuple[Decoder, ...]:
    return tuple(d for d in DECODERS if is_installed(d))


def decoder_by_way(way: str) -> Decoder:
    return next(d for d in DECODERS if way in d.ways)


def _by_brand(data: bytes) -> str | None:
    """ISO base media files: the major brand, then the compatible ones."""
    length = max(16, min(int.from_bytes(data[:4], "big"), 256))
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, length, 4))]
    if brands[0] == b"crx ":
        return "CR3"
    if brands[0] in _AVIF_BRANDS:
        return "AVIF"
    if brands[0] in _HEIF_BRANDS:
        plain = brands[0] in (b"mif1", b"msf1")
        return "AVIF" if plain and _AVIF_BRANDS & set(brands) else "HEIF"
    return None  # a video


def _raw_in_tiff(data: bytes) -> str | None:
    """The RAW format of a TIFF file whose first directory would be taken for the picture, or None.

    Sensor data have a photometric interpretation of their own; where their directory cannot be reached, a thumbnail in
    the first directory with the picture in a subdirectory shows that the file is RAW, unless that is an ordinary page
    and the maker none of cameras.
    """
    if data[8:10] == b"CR" and data[:4] == b"II*\0":
        return "CR2"
    directories = list(tiff_directories(data))
    first = next((tags for tags in directories if tags), {})
    if _DNG_VERSION in first:
        return "DNG"
    make = bytes(v & 255 for v in first.get(_MAKE, ())).upper()
    name = next((name for start, name in _RAW_MAKES.items() if make.startswith(start)), None)
    has_sensor_data = any(tags.get(_PHOTOMETRIC, ()) in ((_CFA,), (_LINEAR_RAW,)) for tags in directories)
    previews_first = sum(first.get(_NEW_SUBFILE_TYPE, ())) & 1 and _SUB_IFDS in first
    is_ordinary = name is None and any(_is_page(tags) for tags in directories)
    return (name or "RAW") if has_sensor_data or (previews_first and not is_ordinary) else None


def _is_page(tags: dict[int, tuple[int, ...]]) -> bool:
    """Whether a directory is a whole picture of ordinary values."""
    return not sum(tags.get(_NEW_SUBFILE_TYPE, ())) & 1 and tags.get(_PHOTOMETRIC, (_CFA,))[0] < _CFA


def _by_structure(data: bytes) -> str | None:
    """Old formats without a decoder, whose first bytes alone say too little: several fields must fit."""
    if len(data) < _OLD_HEADER_BYTES:
        return None
    if data[:2] == b"\x01\xda" and data[2] <= 1 and data[3] in (1, 2):
        return "SGI"
    if (
        data[0] == 10
        and data[1] in (0, 2, 3, 4, 5)
        and data[2] <= 1
        and data[3] in (1, 2, 4, 8)
        and data[65] in range(5)
    ):
        return "PCX"
    if data[4:6] in (b"\x11\xaf", b"\x12\xaf") and any(data[8:10]) and any(data[10:12]):
        return "FLI"
    if data.startswith(b"#define ") and b"_width " in data[:128] and b"_bits" in data[:1024]:
        return "XBM"
    return "TGA" if _is_tga(data) else None


def _is_tga(data: bytes) -> bool:
    """By its footer, or by a header in which every field is one that is written."""
    if data.endswith(b"TRUEVISION-XFILE.\0"):
        return True
    has_map, kind, depth, descriptor = data[1], data[2], data[16], data[17]
    is_mapped = kind in (1, 9)
    fits = has_map == is_mapped and kind in (1, 2, 3, 9, 10, 11) and not descriptor & 0xC0
    depths = {1: (8, 16), 9: (8, 16), 3: (8, 16), 11: (8, 16)}.get(kind, (15, 16, 24, 32))
    map_fits = data[7] in (15, 16, 24, 32) if is_mapped else not any(data[3:8])
    return fits and depth in depths and map_fits and any(data[12:14]) and any(data[14:16])


def _is_svg(data: bytes) -> bool:
    head = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return head.startswith(b"<svg") or (head.startswith(b"<?xml") and b"<svg" in head and b"<html" not in head)
