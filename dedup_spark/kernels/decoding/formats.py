"""Which image format a file has, by its first bytes and never by its name, and which decoder reads it."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass

import PIL

from dedup_spark.kernels.decoding import pillow_plugins
from dedup_spark.kernels.decoding.headers import tiff_directories
from dedup_spark.kernels.decoding.structures import format_by_structure, is_svg


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
HEIF = Decoder("pi-heif-decoder", "pi_heif", ("pi-heif-decoder",), "heif")
JXL = Decoder("pillow-jxl-plugin", "pillow_jxl", ("pillow-jxl-plugin",), "jxl")
RAW = Decoder("rawpy", "rawpy", ("rawpy preview", "rawpy", "rawpy half size"), "raw")
DECODERS = (PILLOW, HEIF, JXL, RAW)

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI", "CgBI"), (b"\x89PNG", "PNG"),
    (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
    (b"\xff\x4f\xff\x51", "JPEG2000"), (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x0a", "JXL"), (b"\0\0\0\x0cJXL ", "JXL"),
    (b"8BPS\0\2", "PSB"), (b"8BPS", "PSD"), (b"DDS ", "DDS"), (b"qoif", "QOI"),
    (b"FUJIFILMCCD-RAW", "RAF"), (b"IIRO", "ORF"), (b"IIRS", "ORF"), (b"MMOR", "ORF"), (b"IIU\0", "RW2"),
    (b"\0MRM", "MRW"), (b"FOVb", "X3F"),
    (b"gimp xcf", "XCF"), (b"%!PS", "EPS"), (b"\xc5\xd0\xd3\xc6", "EPS"), (b"II\xbc", "JPEG XR"),
    (b"AT&TFORM", "DJVU"), (b"\x76\x2f\x31\x01", "EXR"), (b"#?RADIANCE", "HDR"), (b"#?RGBE", "HDR"),
    (b"BPG\xfb", "BPG"), (b"FLIF", "FLIF"), (b"\xd7\xcd\xc6\x9a", "WMF"), (b"\1\0\x09\0\0\3", "WMF"), (b"icns", "ICNS"),
    (b"\x8bMNG", "MNG"), (b"\x8bJNG", "JNG"), (b"SIMPLE  =", "FITS"),
    (b"BLP1", "BLP"), (b"BLP2", "BLP"), (b"FTEX", "FTEX"), (b"\x59\xa6\x6a\x95", "SUN"), (b"/* XPM */", "XPM"),
    (b"\xb1\x68\xde\x3a", "DCX"), (b"P7\n", "PAM"), (b"P7 332", "XVThumb"), (b"\x80\xe8\0\0", "PIXAR"),
    (b"DanM", "MSP"), (b"LinS", "MSP"), (b"Image type: ", "IM"), (b"\0\0\0\0\0\0\0\4", "MCIDAS"),
    (b"PF\n", "PFM"), (b"\xabKTX ", "KTX"), (b"\x13\xab\xa1\x5c", "ASTC"), (b"gd2\0", "GD"),
    (b"\x53\x80\xf6\x34", "PIC"), (b"\x89HDF\r\n\x1a\n", "HDF5"),
)  # fmt: skip
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*")
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_RIFF_FORMATS = {b"WEBP": "WEBP", b"ACON": "ANI"}
_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

_RAW_MAKES = {b"NIKON": "NEF", b"SONY": "ARW", b"PENTAX": "PEF", b"RICOH": "PEF", b"SAMSUNG": "SRW", b"OLYMPUS": "ORF"}
_CFA, _LINEAR_RAW = 32803, 34892  # PhotometricInterpretation of sensor data
_NEW_SUBFILE_TYPE, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 254, 262, 271, 330, 50706

_DECODER_OF = {
    **dict.fromkeys(pillow_plugins.READ_BY, PILLOW),
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
    if data[:4] == b"RIFF" and data[8:12] in _RIFF_FORMATS:
        return _RIFF_FORMATS[data[8:12]]
    if data[4:8] == b"ftyp":
        return _by_brand(data)
    if data[:4] == b"\0\0\1\0":
        return "ICO" if any(data[4:6]) else None
    if data[:4] == b"\0\0\2\0" and any(data[4:6]) and data[9:10] == b"\0":
        return "CUR"
    if data[:2] == b"BM":
        return "BMP" if int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES else None
    if data[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"):
        return "PPM" if data[2:3].isspace() else None
    if data[6:14] == b"HEAPCCDR":
        return "CRW"
    return "SVG" if is_svg(data) else format_by_structure(data)


def decoder_of(image_format: str) -> Decoder | None:
    """The decoder of this format, installed or not; None when there is none."""
    return _DECODER_OF.get(image_format)


def why_not_decoded(image_format: str) -> str:
    """Why a format has no decoder."""
    return {**pillow_plugins.REFUSED, **pillow_plugins.WITHOUT_PLUGIN}[image_format]


@functools.cache
def is_installed(decoder: Decoder) -> bool:
    """Whether a decoder is installed, found without importing it: an import costs 40-140 ms, and most decoder processes
    never meet a rare format. A package of another name that brings the same module is another decoder."""
    if importlib.util.find_spec(decoder.module) is None:
        return False
    return decoder is PILLOW or _version_of(decoder.name) is not None


@functools.cache
def decoder_version(decoder: Decoder) -> str:
    """`major.minor` of what is installed: patch releases do not change pixels. Does not import the decoder."""
    version = PIL.__version__ if decoder is PILLOW else _version_of(decoder.name)
    return ".".join((version or "").split(".")[:2])


def installed_decoders() -> tuple[Decoder, ...]:
    return tuple(d for d in DECODERS if is_installed(d))


def _version_of(package: str) -> str | None:
    from importlib import metadata  # imported here: 20 ms, which a process that meets no rare format saves

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


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
    return not sum(tags.get(_NEW_SUBFILE_TYPE, ())) & 1 and (tags.get(_PHOTOMETRIC) or (_CFA,))[0] < _CFA
