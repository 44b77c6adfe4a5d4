"""Pillow's plugin for TIFF, which reads by `tiff_samples.py` what Pillow has no mode for or reads wrongly."""

from __future__ import annotations

from typing import Any

from PIL import ExifTags, Image, ImageFile, ImagePalette, TiffImagePlugin

from dedup_spark.kernels.decoding import tiff_layout
from dedup_spark.kernels.decoding.channels import Channels, channels_of
from dedup_spark.kernels.decoding.orientation import exif_orientation, turn
from dedup_spark.kernels.decoding.tiff_layout import Layout, layout_of
from dedup_spark.kernels.decoding.tiff_samples import samples_of, unseen_digest

_SUBSAMPLED_BY = 530


class TiffPages(TiffImagePlugin.TiffImageFile):
    """The pages of a TIFF file.

    Attributes:
        channels: Of the page loaded last, upright, where its samples are read here; else None.
        layout: Of the samples of the page that is about to be loaded, where they are read here; else None.
    """

    channels: Channels | None = None
    layout: Layout | None = None

    def _setup(self) -> None:
        self.channels = None
        tags: Any = self.tag_v2
        layout = layout_of(tags, "<" if tags.prefix == TiffImagePlugin.II else ">")
        self.layout = None if layout is None or self._is_plain(layout) else layout
        if self.layout is None:
            super()._setup()
            self._read_subsampled_by_libtiff()
            self._widen_palette()
            return
        width, height = self.layout.size
        self._tile_size, self._mode = (width, height), "L"
        self._size = (width, height) if tags.get(274, 1) < 5 else (height, width)
        self.tile = [ImageFile._Tile("samples", (0, 0, width, height), 0, ())]
        self.use_load_libtiff = False
        self.info["compression"] = TiffImagePlugin.COMPRESSION_INFO[self.layout.compression]
        profile = tags.get(TiffImagePlugin.ICCPROFILE)
        self.info.pop("icc_profile", None)
        if profile:
            self.info["icc_profile"] = profile

    def load(self) -> Any:
        """Raises what the plugins do; see `decoder_errors.DECODER_ERRORS`."""
        if self.layout is None or not self.tile:
            return super().load()
        Image._decompression_bomb_check(self._tile_size)
        data: bytes = self.fp.getvalue()  # type: ignore[union-attr]
        tags: Any = self.tag_v2
        samples, unseen = samples_of(data, self.layout), unseen_digest(data, self.layout)
        self.channels = channels_of(samples, self.layout, tags, tags.get(274, 1), unseen)
        first = self.channels.images[0]
        self.im, self._mode, self.tile = first.im, first.mode, []
        return Image.Image.load(self)

    def load_end(self) -> None:
        """Turns the page. Pillow's own also reads the directories of EXIF and rewrites XMP, and fails where they are
        damaged, with sound pixels at hand."""
        upright = turn(self, exif_orientation(self))
        self.im, self._size = upright.im, upright.size
        self.tag_v2.pop(ExifTags.Base.Orientation, None)

    def _is_plain(self, layout: Layout) -> bool:
        """Whether Pillow reads the page as it is: 8 bits unsigned, in a known order of known colours, and no more."""
        tags: Any = self.tag_v2
        n_more = layout.n_samples - len(layout.colours)
        if layout.bits != 8 or layout.kind != "u" or layout.photometric in (tiff_layout.CIE_LAB, tiff_layout.ICC_LAB):
            return False
        known = layout.photometric, (1,), layout.is_bit_reversed + 1, (8,) * layout.n_samples, tags.get(338, ())
        is_known = (tags.prefix, *known) in TiffImagePlugin.OPEN_INFO
        return is_known and not (layout.is_planar and n_more) and not layout.unseen

    def _read_subsampled_by_libtiff(self) -> None:
        """Of plain bytes of YCbCr Pillow takes each for a sample of its own pixel; chroma is rarely stored so."""
        tags: Any = self.tag_v2
        is_raw = self._compression == "raw" and not self.use_load_libtiff
        if is_raw and tags.get(262) == tiff_layout.YCBCR and tags.get(_SUBSAMPLED_BY, (2, 2)) != (1, 1):
            args = "RGBX", False, tags.offset
            self._mode, self.use_load_libtiff = "RGB", True
            self.tile = [ImageFile._Tile("libtiff", (0, 0, *self._tile_size), 0, args)]

    def _widen_palette(self) -> None:
        """Some writers put 8 bits where a colour map has 16; libtiff's own programs look for it, too."""
        tags: Any = self.tag_v2
        colours = tags.get(TiffImagePlugin.COLORMAP, ()) if self.mode in ("P", "PA") else ()
        if colours and max(colours) < 256:
            self.palette = ImagePalette.raw("RGB;L", bytes(colours))
