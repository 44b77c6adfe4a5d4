"""Which of Pillow's plugins are used, and why the others are not: the one list of it, which docs/reading.md shows.

A plugin is used where the first bytes of a file tell its format, and where reading it starts no other program, takes no
more memory than its pixels, and needs no further package. A test compares the list with the plugins of the Pillow that
is installed.
"""

from __future__ import annotations

READ_BY = {
    "JPEG": ("JpegImagePlugin", "jpeg_factory"), "PNG": ("PngImagePlugin", "PngImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"), "WEBP": ("WebPImagePlugin", "WebPImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"), "DIB": ("BmpImagePlugin", "DibImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"), "AVIF": ("AvifImagePlugin", "AvifImageFile"),
    "JPEG2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"), "ICO": ("IcoImagePlugin", "IcoImageFile"),
    "CUR": ("CurImagePlugin", "CurImageFile"), "ICNS": ("IcnsImagePlugin", "IcnsImageFile"),
    "PSD": ("PsdImagePlugin", "PsdImageFile"), "PPM": ("PpmImagePlugin", "PpmImageFile"),
    "DDS": ("DdsImagePlugin", "DdsImageFile"), "QOI": ("QoiImagePlugin", "QoiImageFile"),
    "PCX": ("PcxImagePlugin", "PcxImageFile"), "DCX": ("DcxImagePlugin", "DcxImageFile"),
    "TGA": ("TgaImagePlugin", "TgaImageFile"), "SGI": ("SgiImagePlugin", "SgiImageFile"),
    "SUN": ("SunImagePlugin", "SunImageFile"), "XBM": ("XbmImagePlugin", "XbmImageFile"),
    "XPM": ("XpmImagePlugin", "XpmImageFile"), "FLI": ("FliImagePlugin", "FliImageFile"),
    "FITS": ("FitsImagePlugin", "FitsImageFile"), "BLP": ("BlpImagePlugin", "BlpImageFile"),
    "FTEX": ("FtexImagePlugin", "FtexImageFile"), "GBR": ("GbrImagePlugin", "GbrImageFile"),
    "IM": ("ImImagePlugin", "ImImageFile"), "MCIDAS": ("McIdasImagePlugin", "McIdasImageFile"),
    "MSP": ("MspImagePlugin", "MspImageFile"), "PCD": ("PcdImagePlugin", "PcdImageFile"),
    "PIXAR": ("PixarImagePlugin", "PixarImageFile"), "SPIDER": ("SpiderImagePlugin", "SpiderImageFile"),
    "XVThumb": ("XVThumbImagePlugin", "XVThumbImageFile"),
}  # fmt: skip
"""Our name of a format -> the module below PIL, and what in it opens a file."""

WITHIN = {"MPO": "JPEG"}
"""Pillow's names of formats that the opener of another one gives."""

REFUSED = {
    "EPS": "drawing it runs Ghostscript, and with it the program that the file is",
    "WMF": "a drawing, which only Windows draws; EMF too",
    "FPX": "needs the package olefile",
    "MIC": "needs the package olefile",
    "IPTC": "wraps a file of any other format, which Pillow would open with any of its plugins",
    "IMT": "a text without first bytes of its own",
    "MPEG": "a film, of which Pillow reads the size alone",
    "BUFR": "tables of measurements; Pillow has no decoder of its own for them",
    "GRIB": "grids of measurements; Pillow has no decoder of its own for them",
    "HDF5": "a container of arrays; Pillow has no decoder of its own for it",
}
"""Pillow's name of a format -> why it is not read."""

WITHOUT_PLUGIN = {
    "CgBI": "Apple's own kind of PNG, made for its apps; pngcrush turns it back",
    "PSB": "Photoshop's large documents",
    "EMF": "a drawing, which only Windows draws",
    "SVG": "a drawing, which has no pixels of its own and may load others",
    "XCF": "GIMP's own project: its layers are to be put together first",
    "KRA": "Krita's own project",
    "OpenRaster": "a project of a painting program",
    "JPEG XR": "no decoder is installed with Python's packages",
    "DJVU": "a scanned document",
    "EXR": "the light of a scene, which needs a tone mapping to be seen",
    "HDR": "the light of a scene, which needs a tone mapping to be seen",
    "PFM": "floats of three channels, which need a tone mapping to be seen",
    "PAM": "Pillow reads PBM, PGM, PPM and grey PFM alone",
    "BPG": "no decoder is installed with Python's packages",
    "FLIF": "no decoder is installed with Python's packages",
    "MNG": "no decoder is installed with Python's packages",
    "JNG": "no decoder is installed with Python's packages",
    "ANI": "a moving mouse pointer",
    "GD": "of an old library for pictures in web pages; Pillow reads its first version, and that by its name alone",
    "PIC": "Softimage's pictures",
    "KTX": "textures of a graphics card",
    "ASTC": "textures of a graphics card",
    "DICOM": "medical: its values, windows and patients need a program that knows them",
    "NIfTI": "medical: a volume, not a picture",
}
"""Other formats that first bytes tell -> why they are not read."""
