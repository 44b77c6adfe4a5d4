"""The list of Pillow's plugins is that of the Pillow that is installed, and everything that is refused has a reason."""

from __future__ import annotations

import importlib

import pytest
from PIL import Image

from dedup_spark.kernels.decoding import formats, pillow_plugins, structures
from dedup_spark.kernels.decoding.images import ImageRejected, decode_image

KNOWN = {name for _, name in formats._MAGIC} | {s.name for s in structures._STRUCTURES} | {"ICO", "CUR", "WEBP", "ANI"}


def test_every_plugin_of_pillow_is_read_or_refused_with_a_reason() -> None:
    Image.init()
    listed = {*pillow_plugins.READ_BY, *pillow_plugins.WITHIN, *pillow_plugins.REFUSED}
    own = {name for name, (opener, _) in Image.OPEN.items() if opener.__module__.startswith("PIL.")}
    assert {name.casefold() for name in own} <= {name.casefold() for name in listed}


@pytest.mark.parametrize("image_format", pillow_plugins.READ_BY)
def test_every_plugin_that_is_used_is_there(image_format: str) -> None:
    module, opener = pillow_plugins.READ_BY[image_format]
    assert callable(getattr(importlib.import_module(f"PIL.{module}"), opener))


def test_every_format_that_bytes_can_show_is_decoded_or_refused_with_a_reason() -> None:
    without = {image_format for image_format in KNOWN if formats.decoder_of(image_format) is None}
    assert all(formats.why_not_decoded(image_format) for image_format in without)
    assert without >= set(pillow_plugins.WITHOUT_PLUGIN), "a reason for what no bytes show"
    assert set(pillow_plugins.REFUSED).isdisjoint(pillow_plugins.READ_BY)


@pytest.mark.parametrize(
    ("start", "image_format"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"), (b"\xc5\xd0\xd3\xc6", "EPS"), (b"\xd7\xcd\xc6\x9a", "WMF"),
        (b"\1\0\x09\0\0\3", "WMF"), (b"\1\0\0\0".ljust(40, b"\0") + b" EMF", "EMF"), (b"8BPS\0\2", "PSB"),
        (b"GRIB\0\0\1\2", "GRIB"), (b"BUFR\0\0\1\4", "BUFR"), (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"RIFF\0\0\0\0ACON", "ANI"), (bytes(344) + b"n+1\0", "NIfTI"), (b"#?RGBE\n", "HDR"),
        (b"\x76\x2f\x31\x01\2", "EXR"), (b"FLIF41", "FLIF"),
        (b"BPG\xfb", "BPG"), (b"gimp xcf v011", "XCF"), (bytes(128) + b"DICM", "DICOM"), (b"II\xbc\1", "JPEG XR"),
    ],
)  # fmt: skip
def test_what_is_not_decoded_is_refused_with_its_reason(start: bytes, image_format: str) -> None:
    with pytest.raises(ImageRejected) as refused:
        decode_image(start + bytes(300), max_pixels=10**6, min_side_px=8)
    reason = formats.why_not_decoded(image_format)
    assert refused.value.reason == "unsupported_format"
    assert refused.value.message == f"nothing here decodes {image_format}: {reason}"
