"""What a file tells of its origin: whether it is what a camera or a scanner wrote, or made from such a file.

These facts order the members of a cluster (`cluster.keeper_order`). They come from the bytes, and from a part of the
decoded pixels, so that their cost hardly grows with the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from PIL import Image

from dedup_spark.kernels.decoding import formats
from dedup_spark.kernels.decoding.beside import beside_digest
from dedup_spark.kernels.decoding.damage import has_lost_data
from dedup_spark.kernels.decoding.images import DecodedImage
from dedup_spark.kernels.decoding.jpeg_structure import JpegStructure, jpeg_structure
from dedup_spark.kernels.decoding.picture import Picture
from dedup_spark.kernels.decoding.pixel_memory import channel
from dedup_spark.kernels.decoding.rendering import colours_of_picture, in_8_bits
from dedup_spark.kernels.features import block_sample, borders, detail, jpeg_traces
from dedup_spark.kernels.features.exif import ExifFacts, exif_facts
from dedup_spark.kernels.features.samples import middle, stored_middle

_JPEG_FORMATS = frozenset({"JPEG", "MPO"})
_LOSSLESS_FORMATS = frozenset(
    {
        "PNG", "BMP", "DIB", "PPM", "QOI", "DDS", "ICO", "CUR", "PSD", "PCX", "DCX", "TGA", "SGI", "SUN", "XBM", "XPM",
        "FITS", "GBR", "IM", "MCIDAS", "MSP", "PIXAR", "SPIDER",
    }
)  # fmt: skip
_JPEG_IN_TIFF = frozenset({"jpeg", "tiff_jpeg", "webp"})
_SUBSAMPLING = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1", (4, 2): "4:1:0"}
_MARGIN_SHARE = 0.02
_MAX_EXIF_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class OriginFacts:
    """Named as the columns of `features`."""

    is_damaged: bool
    captured_at: datetime | None
    camera: str | None
    software: str | None
    has_maker_note: bool
    is_lossless: bool
    jpeg_quality: float | None
    earlier_jpeg_quality: float | None
    chroma_subsampling: str | None
    block_sample: bytes | None
    has_colour_profile: bool
    detail_share: float
    added_share: float
    shown_width_px: int
    shown_height_px: int
    bits_per_channel: int
    is_transparent: bool
    beside_hash: str | None


def origin_facts(data: bytes, image: DecodedImage, reduced: Image.Image) -> OriginFacts:
    """The facts of one image.

    Args:
        data: the whole file.
        image: as decoded from it.
        reduced: its rendering of some hundred pixels.
    """
    jpeg = jpeg_structure(data) if image.format in _JPEG_FORMATS else None
    table = jpeg.luma_table if jpeg else None
    is_raw = formats.decoder_of(image.format) is formats.RAW  # seen by the JPEG preview inside it
    is_lossless = is_raw or _is_lossless(data, image)
    exif = _exif(data, image)
    inside = borders.inside_borders(channel(reduced, 1))
    has_traces = not is_raw and (is_lossless or table is not None)
    earlier_quality, blocks = _traces(image, jpeg) if has_traces else (None, None)
    return OriginFacts(
        is_damaged=has_lost_data(data, image, jpeg),
        captured_at=exif.captured_at,
        camera=exif.camera,
        software=exif.software,
        has_maker_note=exif.has_maker_note,
        is_lossless=is_lossless,
        jpeg_quality=None if table is None else jpeg_traces.quality_of_table(table),
        earlier_jpeg_quality=earlier_quality,
        chroma_subsampling=_subsampling(jpeg) if jpeg else None,
        block_sample=blocks,
        has_colour_profile=colours_of_picture(image) is not None,
        detail_share=1.0 if is_raw else _detail_share(image, inside),
        added_share=inside.added_share,
        shown_width_px=max(1, round(image.size[0] * (inside.right - inside.left))),
        shown_height_px=max(1, round(image.size[1] * (inside.bottom - inside.top))),
        bits_per_channel=image.bits,
        is_transparent=image.is_transparent,
        beside_hash=beside_digest(data, image, jpeg),
    )


def _detail_share(image: DecodedImage, inside: borders.Inside) -> float:
    """Of a scaled image it is seen whether detail ends below the scaled resolution; else it counts as sharp."""
    share = detail.detail_share(_inner_sample(image, inside))
    return share if share == 1.0 else share / image.reduction


def _inner_sample(image: DecodedImage, inside: borders.Inside) -> Image.Image:
    """A part of the picture itself: letters and lines of a border are sharp whatever lies within."""
    width, height = image.pixels.size
    margin = _MARGIN_SHARE if inside.added_share else 0.0
    sides = (inside.left + margin, inside.top + margin, inside.right - margin, inside.bottom - margin)
    left, top, right, bottom = (round(side * n) for side, n in zip(sides, (width, height, width, height), strict=True))

    def part(of: Image.Image | None) -> Image.Image | None:
        return None if of is None else middle(of, (left, top, right, bottom), detail.SAMPLE_PX)

    pixels = middle(image.pixels, (left, top, right, bottom), detail.SAMPLE_PX)
    return in_8_bits(
        Picture(
            pixels=pixels, source=pixels, icc_profile=None, void=part(image.void), alpha=part(image.alpha),
            ends=image.ends,
        )
    )  # fmt: skip


def _traces(image: DecodedImage, jpeg: JpegStructure | None) -> tuple[float | None, bytes | None]:
    """The quality of an earlier JPEG, and the `block_sample`; of colour pictures as the file stores them, and of none
    whose blocks were reduced."""
    if image.reduction > 1 or image.pixels.mode not in ("RGB", "RGBA") or (jpeg and len(jpeg.components) == 4):
        return None, None
    sizes = jpeg_traces.block_sizes(stored_middle(image.pixels, image.exif_orientation, jpeg_traces.SAMPLE_PX))
    table = jpeg.luma_table if jpeg else None
    if table is not None:
        return jpeg_traces.hidden_quality(sizes, table), block_sample.pack(sizes, jpeg_traces.steps_of(table))
    sample = stored_middle(image.pixels, image.exif_orientation, jpeg_traces.LOSSLESS_SAMPLE_PX)
    return jpeg_traces.earlier_quality(sample, None), block_sample.pack(sizes, None)


def _subsampling(jpeg: JpegStructure) -> str | None:
    """How chroma is stored beside luma; None for other than three components, and for unusual ratios."""
    if len(jpeg.components) != 3:
        return None
    luma, chroma = jpeg.components[:2]
    if not chroma.horizontal or not chroma.vertical:
        return None
    return _SUBSAMPLING.get((luma.horizontal // chroma.horizontal, luma.vertical // chroma.vertical))


def _is_lossless(data: bytes, image: DecodedImage) -> bool:
    """Whether the file keeps the pixels that it was given; of palettes as if it did. Unknown is false."""
    if image.format == "WEBP":
        return data[12:16] == b"VP8L" or b"VP8L" in data[:4096]
    if image.format == "TIFF":
        return image.source.info.get("compression") not in _JPEG_IN_TIFF
    return image.format in _LOSSLESS_FORMATS


def _exif(data: bytes, image: DecodedImage) -> ExifFacts:
    """From the decoder's block; a TIFF or a RAW file built on it is one as a whole."""
    if data[:4] in (b"II*\0", b"MM\0*"):
        return exif_facts(data)
    block = image.source.info.get("exif")
    return exif_facts(block[:_MAX_EXIF_BYTES]) if isinstance(block, bytes) else ExifFacts()
