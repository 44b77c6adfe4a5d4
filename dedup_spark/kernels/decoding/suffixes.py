"""What the ending of a name promises, for what is said before files are read; their bytes decide what they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from PIL import features

from dedup_spark.kernels.decoding import formats
from dedup_spark.kernels.decoding.openers import PILLOW_FEATURES

FORMAT_OF_SUFFIX = {
    "avif": "AVIF", "avifs": "AVIF", "webp": "WEBP",
    "jp2": "JPEG2000", "j2k": "JPEG2000", "jpf": "JPEG2000", "jpx": "JPEG2000", "jpc": "JPEG2000", "j2c": "JPEG2000",
    "heic": "HEIF", "heif": "HEIF", "heics": "HEIF", "heifs": "HEIF", "hif": "HEIF", "jxl": "JXL",
    "dng": "DNG", "gpr": "DNG", "cr2": "CR2", "cr3": "CR3", "crw": "CRW", "nef": "NEF", "nrw": "NEF", "arw": "ARW",
    "sr2": "ARW", "srf": "ARW", "pef": "PEF", "srw": "SRW", "orf": "ORF", "rw2": "RW2", "raf": "RAF", "mrw": "MRW",
    "x3f": "X3F", "rwl": "RAW", "3fr": "RAW", "fff": "RAW", "iiq": "RAW", "mef": "RAW", "erf": "RAW", "kdc": "RAW",
    "dcr": "RAW", "mos": "RAW",
    "svg": "SVG", "eps": "EPS", "xcf": "XCF", "jxr": "JPEG XR", "wdp": "JPEG XR", "hdp": "JPEG XR", "djvu": "DJVU",
    "djv": "DJVU", "exr": "EXR", "hdr": "HDR", "bpg": "BPG", "flif": "FLIF", "wmf": "WMF", "emf": "EMF",
    "mng": "MNG", "jng": "JNG", "pam": "PAM", "dcm": "DICOM", "psb": "PSB", "ani": "ANI",
    "ora": "OpenRaster", "kra": "KRA", "nii": "NIfTI", "fpx": "FPX",
}  # fmt: skip
"""Endings, without their dot and in small letters, of the formats that not every installation decodes."""


def formats_decoded_here() -> frozenset[str]:
    """Those of FORMAT_OF_SUFFIX that this process can decode. Imports no optional decoder."""
    return frozenset(name for name in FORMAT_OF_SUFFIX.values() if _needs(name) is None)


def not_decoded(n_by_suffix: Mapping[str, int], decoded: frozenset[str]) -> list[str]:
    """A sentence for each thing that is missing, most files first; `decoded` are the formats that need nothing."""
    suffixes: dict[str, list[str]] = defaultdict(list)
    for suffix in sorted(n_by_suffix):
        if FORMAT_OF_SUFFIX[suffix] not in decoded:
            suffixes[_remedy(FORMAT_OF_SUFFIX[suffix])].append(suffix)
    n_files = {remedy: sum(n_by_suffix[s] for s in found) for remedy, found in suffixes.items()}
    return [
        f"{n_files[remedy]:,} files named {' or '.join(f'.{s}' for s in suffixes[remedy])} will be unsupported_format: "
        f"{remedy}"
        for remedy in sorted(suffixes, key=lambda remedy: (-n_files[remedy], remedy))
    ]


def _needs(image_format: str) -> str | None:
    """What is missing in this process for a format; None where nothing is."""
    decoder, feature = formats.decoder_of(image_format), PILLOW_FEATURES.get(image_format)
    if decoder is None:
        return "a decoder"
    if not formats.is_installed(decoder):
        return decoder.name
    return feature if feature and not features.check(feature) else None


def _remedy(image_format: str) -> str:
    decoder = formats.decoder_of(image_format)
    if decoder is None:
        return f"dedup_spark has no decoder for {image_format}"
    if decoder is formats.PILLOW:
        return f"Pillow was built without {PILLOW_FEATURES[image_format]}; install a wheel of it on every node"
    return f"they need {decoder.name}; on every node: pip install '{decoder.requirement}'"
