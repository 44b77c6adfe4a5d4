from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import imagehash
import numpy as np
import pytest
from odd_bytes import STRIPS, encoded, icc_profile, png, png_rows, psd, tiff, tiff_tags
from odd_files import OddFile, odd_files, oriented, picture
from PIL import Image, ImageOps

from dedup_spark.kernels.decoding import formats
from dedup_spark.kernels.decoding.headers import claimed_size, jpeg_frame
from dedup_spark.kernels.decoding.images import ImageRejected, decode_image, sniff_format
from dedup_spark.kernels.decoding.rendering import render, to_rgb
from dedup_spark.kernels.features import hashing
from dedup_spark.kernels.features.signature import SignatureSettings, sign_image

LIMITS = {"max_pixels": 400_000_000, "min_side_px": 8}
SETTINGS = SignatureSettings(max_pixels=50_000_000, min_side_px=8, thumbnail_px=64, thumbnail_quality=80, input_px=64)
FILES = odd_files()
BY_NAME = {file.name: file for file in FILES}
each_file = pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
each_file_of_pillow = pytest.mark.parametrize("file", [f for f in FILES if f.pillow], ids=lambda f: f.name)


def distance(image: Image.Image) -> float:
    """Mean difference from the picture, in levels of 255."""
    shown = to_rgb(image).resize((96, 64), Image.Resampling.BOX)
    return float(np.abs(np.asarray(shown).astype(int) - picture()).mean())


@each_file
def test_every_format_decodes_to_what_was_put_in(file: OddFile) -> None:
    image = decode_image(file.data, **LIMITS)
    found = (image.format, image.decoder, image.source.mode, image.size, image.n_frames, image.exif_orientation)
    assert found == (file.format, file.decoder, file.mode, file.size, file.n_frames, file.orientation)
    if file.pixels is not None:
        assert np.array_equal(np.asarray(image.pixels), file.pixels)
    elif file.size == (96, 64):
        assert distance(image.pixels) < file.like


@each_file_of_pillow
def test_pixels_and_phash_are_those_of_pillow_and_imagehash(file: OddFile) -> None:
    known_good = ImageOps.exif_transpose(Image.open(io.BytesIO(file.data)))
    image = decode_image(file.data, **LIMITS)
    assert np.array_equal(np.asarray(image.source), np.asarray(known_good))
    if image.pixels.mode == "RGB" and not image.icc_profile:  # a person sees the pixels as they are in the file
        assert f"{hashing.phash(image) & (2**64 - 1):016x}" == str(imagehash.phash(known_good))


@each_file
def test_every_file_gives_a_whole_signature(file: OddFile) -> None:
    signature = sign_image(file.data, SETTINGS)
    assert (signature.width_px, signature.height_px, signature.decoder) == (*file.size, file.decoder)
    assert signature.model_input is not None
    assert signature.model_input.shape == (64, 64, 3)
    with Image.open(io.BytesIO(signature.thumbnail)) as thumbnail:
        assert max(thumbnail.size) == 64


@each_file
def test_a_file_cut_at_any_tenth_is_decoded_or_rejected_as_damaged(file: OddFile) -> None:
    for tenth in range(1, 10):
        try:
            decode_image(file.data[: len(file.data) * tenth // 10], **LIMITS)
        except ImageRejected as e:
            assert e.reason in ("truncated", "corrupt"), tenth


_TURNED_BY_CAMERAS = ("DNG", "DNG preview")  # cameras do not mirror, and LibRaw knows only rotations
_TURNED_AND_MIRRORED = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "JXL", "JPEG in JXL")


@pytest.mark.parametrize(
    ("kind", "orientation"),
    [(k, o) for k in _TURNED_AND_MIRRORED for o in range(1, 9)]
    + [(k, o) for k in _TURNED_BY_CAMERAS for o in (1, 3, 6, 8)],
)
def test_exif_orientation_is_applied_once_in_every_format_that_has_it(kind: str, orientation: int) -> None:
    image = decode_image(oriented(kind, orientation), **LIMITS)
    assert image.exif_orientation == orientation
    assert image.size == image.pixels.size == (96, 64)
    assert distance(image.pixels) < 15


def test_a_raw_file_is_not_the_thumbnail_that_pillow_would_read() -> None:
    data = BY_NAME["dng preview"].data
    assert Image.open(io.BytesIO(data)).size == (19, 12)
    assert decode_image(data, **LIMITS).size == (96, 64)


def test_a_large_raw_file_is_decoded_at_half_size_and_reported_at_its_own() -> None:
    image = decode_image(BY_NAME["dng large"].data, **LIMITS)
    assert (image.size, image.pixels.size) == ((2112, 1408), (1056, 704))
    assert distance(image.pixels) < 15


def test_lossless_copies_share_the_pixel_hash_whatever_the_format() -> None:
    names = (
        "png rgb 8", "png turned", "tiff raw", "tiff tiled deflate", "tiff planar", "tiff big",
        "tiff turned", "webp lossless", "bmp", "jxl lossless", "jxl turned", "jp2", "j2k", "psd", "ppm", "dds", "qoi",
    )  # fmt: skip
    assert len({hashing.pixel_hash(decode_image(BY_NAME[n].data, **LIMITS)) for n in names}) == 1
    deep = ("png grey 16", "tiff 16 <", "tiff 16 >", "jp2 16")
    assert len({hashing.pixel_hash(decode_image(BY_NAME[n].data, **LIMITS)) for n in deep}) == 1


def golden_files() -> dict[str, bytes]:
    x, y = np.meshgrid(np.arange(96), np.arange(64))
    rgb = np.stack([x * 2, y * 3, (x * y) % 251], axis=2).astype(np.uint8)
    table = b"".join(bytes([17 * v, 255 - 17 * v, 5 * v]) for v in range(16))
    nibbles = ((x + y) // 10 % 16).astype(np.uint8)
    packed = nibbles[:, 0::2] << 4 | nibbles[:, 1::2]
    deep, real = (x * y * 10).astype(np.uint16), (x * y / 6144).astype(np.float32)
    return {
        "png rgb": png(png_rows(rgb), (96, 64), 8, 2),
        "png palette of 4 bits": png(png_rows(packed), (96, 64), 4, 3, [(b"PLTE", table)]),
        "png grey of 16 bits": png(png_rows(deep), (96, 64), 16, 0),
        "png with alpha": png(png_rows(np.dstack([rgb, 255 - x.astype(np.uint8)])), (96, 64), 8, 6),
        "tiff of floats": tiff((tiff_tags(96, 64, 1, 32, 1) | {339: (3, [3])}, real.tobytes(), STRIPS)),
        "tiff of inks": tiff((tiff_tags(96, 64, 5, 8, 4), np.dstack([rgb, rgb[..., :1] // 2]).tobytes(), STRIPS)),
    }


@pytest.mark.parametrize(
    ("name", "pixel_hash", "phash"),
    [
        ("png rgb", "0a5742aec86bd48e", "8000071f3f1f3f3f"),
        ("png palette of 4 bits", "d30758a4019e988c", "df818281abfe84ae"),
        ("png grey of 16 bits", "01f57c4dac6cb044", "8a758a5de5758271"),
        ("png with alpha", "ea8b00890f564a8d", "80000f0f3f1f3f3f"),
        ("tiff of floats", "e71cff458446535d", "8855ef55a1778455"),
        ("tiff of inks", "1a0f8a4c03c09e6c", "fffff0f0c0c0c0c0"),
    ],
)
def test_hashes_of_fixed_files_never_change(name: str, pixel_hash: str, phash: str) -> None:
    """Golden values: a change here means that `signature._PREPROCESSING` must rise."""
    image = decode_image(golden_files()[name], **LIMITS)
    assert -(2**63) <= hashing.phash(image) < 2**63, "as a BIGINT holds it"
    assert (hashing.pixel_hash(image)[:16], f"{hashing.phash(image) & (2**64 - 1):016x}") == (pixel_hash, phash)


def rendered(image: Image.Image, image_format: str, **options: object) -> np.ndarray:
    decoded = decode_image(encoded(image, image_format, **options), **LIMITS)
    return np.asarray(render(decoded, 64)).astype(int)


def test_an_rgb_profile_is_applied() -> None:
    """This one exchanges red and blue."""
    shown = rendered(Image.fromarray(picture()), "PNG", icc_profile=icc_profile("RGB"))
    assert np.abs(shown - picture()[..., ::-1]).mean() < 12


def test_a_grey_profile_is_applied_and_stays_grey() -> None:
    linear = Image.new("L", (64, 64), 55)  # 0.2157 of the light; 128 in sRGB
    for image_format in ("PNG", "TIFF", "JPEG"):
        shown = rendered(linear, image_format, icc_profile=icc_profile("GRAY"))
        assert np.abs(shown - 128).max() <= 2


def test_a_cmyk_profile_is_applied() -> None:
    """In this one cyan ink is violet and magenta nothing; Pillow alone would show cyan and magenta."""
    for image_format in ("TIFF", "JPEG"):
        inks = [(255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 0, 255)]
        violet, white, black = (
            rendered(Image.new("CMYK", (64, 64), ink), image_format, icc_profile=icc_profile("CMYK"))[32, 32]
            for ink in inks
        )
        assert violet[2] > violet[0] > violet[1] + 20
        assert white.min() > 245
        assert black.max() < 10


@pytest.mark.parametrize("profile", [b"no profile at all", icc_profile("CMYK"), icc_profile("GRAY")])
def test_a_profile_that_is_broken_or_of_another_kind_is_left_alone(profile: bytes) -> None:
    shown = rendered(Image.fromarray(picture()), "PNG", icc_profile=profile)
    assert np.array_equal(shown, picture())


@pytest.mark.parametrize(
    "data",
    [
        psd(picture()).replace(b"\0\x08\0\x03", b"\0\x10\0\x03"),
        tiff((tiff_tags(96, 64, 2, 8, 3, 34712), bytes(1000), STRIPS)),
        tiff((tiff_tags(96, 64, 2, 16, 3) | {339: (3, [5] * 3)}, bytes(96 * 64 * 6), STRIPS)),
    ],
    ids=["psd of 16 bits", "tiff of jpeg 2000", "tiff of complex integers"],
)
def test_a_kind_that_the_decoder_does_not_know_is_unsupported_and_not_corrupt(data: bytes) -> None:
    with pytest.raises(ImageRejected, match="unsupported_format"):
        decode_image(data, **LIMITS)


def test_what_the_decoder_cannot_read_of_jpeg_is_named() -> None:
    data = bytearray(BY_NAME["jpeg"].data)
    at = data.index(b"\xff\xc0")
    data[at + 4] = 12
    with pytest.raises(ImageRejected, match="unsupported_format: JPEG with 12 bits per sample"):
        decode_image(bytes(data), **LIMITS)
    data[at : at + 2], data[at + 4] = b"\xff\xf7", 8
    with pytest.raises(ImageRejected, match="unsupported_format: JPEG-LS"):
        decode_image(bytes(data), **LIMITS)
    assert jpeg_frame(BY_NAME["jpeg progressive"].data) == (0xC2, 8)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("heic", "pi-heif-decoder", "heif"), ("jxl", "pillow-jxl-plugin", "jxl"), ("dng", "rawpy", "raw"),
        ("cr2 preview", "rawpy", "raw"),
    ],
)  # fmt: skip
def test_a_missing_decoder_is_named_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    monkeypatch.setattr(formats, "is_installed", lambda decoder: decoder is formats.PILLOW)
    image_format = BY_NAME[name].format
    with pytest.raises(ImageRejected) as rejected:
        decode_image(BY_NAME[name].data, **LIMITS)
    assert rejected.value.reason == "unsupported_format"
    assert rejected.value.message == f"{image_format} needs {package}: pip install 'dedup-spark[{extra}]'"


def test_another_package_with_the_same_module_is_not_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """pi-heif, whose last release has a libheif with known faults, brings the module of pi-heif-decoder."""
    other = formats.Decoder("a-package-that-is-not-there", formats.HEIF.module, ("other",), "heif")
    assert formats.is_installed(formats.HEIF)
    assert not formats.is_installed(other)
    monkeypatch.setattr(formats, "HEIF", other)
    monkeypatch.setitem(formats._DECODER_OF, "HEIF", other)
    with pytest.raises(ImageRejected, match=r"unsupported_format: HEIF needs a-package-that-is-not-there"):
        decode_image(BY_NAME["heic"].data, **LIMITS)


def test_decoders_of_rare_formats_are_imported_when_their_first_file_comes(tmp_path: Path) -> None:
    """A decoder process starts often; each of them would cost it 40-140 ms."""
    code = """if True:
        import sys
        from dedup_spark.kernels.decoding.images import decode_image
        rare = ("rawpy", "pi_heif", "pillow_jxl", "PIL.TiffImagePlugin")
        for path in sys.argv[1:]:
            decode_image(open(path, "rb").read(), max_pixels=10**6, min_side_px=8)
            sys.stdout.write(" ".join(m for m in rare if m in sys.modules) + ";")"""
    paths = []
    for name in ("jpeg", "dng", "heic"):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(BY_NAME[name].data)
    out = subprocess.run([sys.executable, "-c", code, *paths], check=True, capture_output=True, text=True).stdout
    assert out == ";rawpy;rawpy pi_heif;"


@pytest.mark.parametrize(
    ("start", "image_format"),
    [
        (b"gimp xcf file", "XCF"), (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"), (b"II\xbc\1", "JPEG XR"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"), (b" <svg/>", "SVG"),
        (b"\0" * 128 + b"DICM", "DICOM"), (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "CR3"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"), (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"FUJIFILMCCD-RAW 0201", "RAF"), (b"IIU\0\x18\0\0\0", "RW2"), (b"MMOR\0\0\0\x08", "ORF"),
        (b"II\x1a\0\0\0HEAPCCDR", "CRW"), (b"\0MRM", "MRW"), (b"FOVb", "X3F"), (b"II*\0\x10\0\0\0CR\2\0", "CR2"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", None), (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", None),
        (b"BMW is not a bitmap, it is a car", None), (b"P6000 is a printer", None), (b"\0\0\1\0\0\0", None),
        (b"<html><body>404</body></html>", None), (b"<?xml version='1.0'?><html><svg/></html>", None),
        (b"%PDF-1.7", None), (b"MZ\x90\0", None), (b"", None), (b"I", None), (b"II*\0", "TIFF"),
    ],
)  # fmt: skip
def test_the_first_bytes_tell_the_format(start: bytes, image_format: str | None) -> None:
    assert sniff_format(start) == image_format


def test_a_targa_file_of_the_first_version_has_no_footer_and_is_told_by_its_header() -> None:
    for mode in ("RGB", "RGBA", "L", "LA", "P"):
        for compression in (None, "tga_rle"):
            data = encoded(Image.fromarray(picture()).convert(mode), "TGA", compression=compression)
            assert sniff_format(data[: -len("        TRUEVISION-XFILE..")]) == "TGA", mode


@pytest.mark.parametrize(
    "data",
    [
        bytes(1000), b"#define WIDTH 4\n" * 20, b"\n\n\n\n text\n" * 20, bytes(range(256)), b"\x01\xda" * 60,
        b"\0\0\2" + bytes(100), b"\xff" * 100,
    ],
)  # fmt: skip
def test_what_only_begins_like_an_old_format_is_no_image(data: bytes) -> None:
    assert sniff_format(data) is None


@each_file
def test_the_first_bytes_tell_the_format_of_every_file(file: OddFile) -> None:
    assert sniff_format(file.data) == {"MPO": "JPEG"}.get(file.format, file.format)


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (96, 64), (100, 75), (1000, 3), (3, 5000), (640, 360), (20, 10)])
@pytest.mark.parametrize("in_boxes", [False, True])
def test_the_size_of_jpeg_xl_is_read_before_it_is_decoded(size: tuple[int, int], in_boxes: bool) -> None:
    data = encoded(Image.new("RGB", size), "JXL", use_container=in_boxes, effort=1)
    assert claimed_size(data, "JXL") == size
