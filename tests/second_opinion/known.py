"""Where we differ from another decoder, and why that is right or cannot be helped; the list is to become shorter.

An entry stands for every file whose name it matches: each of them must differ, so that it goes when its cause does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from second_opinion.comparison import WRITER, Difference

_ALL = f"{WRITER}|libvips|OpenCV|tifffile|imagecodecs"


@dataclass(frozen=True)
class Known:
    """`names` and `decoders` are regular expressions of a whole name."""

    names: str
    decoders: str
    reason: str

    def holds(self, name: str, decoder: str) -> bool:
        return bool(re.fullmatch(self.names, name) and re.fullmatch(self.decoders, decoder))


KNOWN_DIFFERENCES = (
    # What Pillow, our decoder, does not read or reads wrongly.
    Known("jpeg 12 bits .*|jpeg lossless 16 bits .*|jpeg-ls .*", _ALL, "Pillow reads JPEG of 8 bits"),
    Known("tiff webp", _ALL, "the libtiff of Pillow's wheels has no WebP"),
    Known("tiff rgb 4, .*", _ALL, "Pillow does not know it, and nobody writes it"),
    Known("tiff ycbcr 8, raw, .*, planar", f"{WRITER}|OpenCV", "Pillow reads it by way of libtiff only"),
    Known("tiff palette [124], raw, little, strips of 16, lowest bit first", _ALL, "Pillow does not know it"),
    # What the others do in their own ways.
    Known("bmp 32, bytes in another order", "OpenCV|imagecodecs", "they do not look at the masks"),
    Known("tiff white is zero (12|32), .*", "OpenCV", "it does not invert more than 8 bits"),
    Known("tiff grey with alpha 16, .*", "OpenCV", "it takes alpha for a colour"),
    Known("tiff grey with alpha (8|16), .*, planar", "libvips", "it takes the planes for interleaved"),
    Known("tiff lab 16, .*, planar", "libvips", "it takes the planes for interleaved"),
    Known("tiff lab 16, .*", "OpenCV", "its white of L*a*b* is that of daylight, not of print"),
    Known("tiff rgb (float )?32, .*, planar", "OpenCV", "it takes the planes for interleaved"),
    Known("png grey (2|4|8|16)(, interlaced)?, tRNS", "OpenCV", "it ignores the transparent grey"),
    Known("bmp .*, header of 12", "OpenCV", "it reads the old header's colours wrongly"),
    Known("bmp 16, 555", "OpenCV", "it leaves the lower bits empty, so that white is 248"),
    Known("pnm P[56] up to 100|pnm P[36] up to 1023", "OpenCV", "it does not scale by the largest value"),
    Known("avif turned by [2-8]|fixture avif turned", "OpenCV", "it does not turn AVIF"),
    Known("tiff white is zero 16, .*", "OpenCV", "it does not invert more than 8 bits"),
    Known("tiff grey with alpha 8, .*", "OpenCV", "it takes alpha for a colour"),
    Known("tiff rgba (premultiplied )?8, .*", "OpenCV", "it gives colours multiplied by alpha"),
    Known("tiff rgba premultiplied 16, .*", "OpenCV", "it gives colours multiplied by alpha"),
    Known("tiff (rgb|rgba) 16, .*, planar", "OpenCV", "it takes the planes for interleaved"),
    Known("tiff palette 1, .*", "OpenCV", "it shows two colours as black and white"),
    Known("tiff lab 8, .*", "OpenCV", "its white of L*a*b* is that of daylight, not of print"),
    Known("tiff ycbcr 8, (?!raw, 4:2:0).*", "libvips", "it shows YCbCr without JPEG as RGB"),
    Known("tiff (a page and its reduced copy|a reduced copy and its page), .*", "libvips|OpenCV",
          "they count and show reduced copies as pages"),
    Known("fixture (dng|nef|pef|srw|arw|cr2|orf|rw2|raf).*", "libvips|OpenCV|tifffile",
          "they show the small copy in the first directory of camera RAW"),
)  # fmt: skip

NO_OPINION = "fixture (heic|ico|psd|dds|orf|rw2|raf).*"
"""Nothing here reads these beside Pillow and its plugins; other tests compare what they show with what was written."""


def judged(results: Iterable[tuple[str, str, Difference | None]]) -> tuple[list[str], list[str], set[Known]]:
    """Differences that are not known; known ones that are none; and the entries that were met.

    `results` are (case, decoder, its difference).
    """
    unknown, gone, met = [], [], set()
    for name, decoder, difference in results:
        reasons = [known for known in KNOWN_DIFFERENCES if known.holds(name, decoder)]
        met |= set(reasons)
        if difference and not reasons:
            unknown.append(str(difference))
        gone += [] if difference else [f"{name} | {decoder} | no longer: {known.reason}" for known in reasons]
    return unknown, gone, met
