"""PNG files whose pixels are whole and whose other chunks are not: they show what libpng and browsers show."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from odd_bytes import encoded, icc_profile, png_chunk, png_rows
from odd_files import exif, picture
from PIL import Image, PngImagePlugin

from dedup_spark.kernels.decoding.images import DecodedImage, ImageRejected, decode_image
from dedup_spark.kernels.decoding.png_chunks import without_odd_chunks
from dedup_spark.kernels.features.hashing import pixel_hash

LIMITS = {"max_pixels": 400_000_000, "min_side_px": 8}
SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 96, 64, 8, 2, 0, 0, 0))
PIXELS, END = png_chunk(b"IDAT", zlib.compress(png_rows(picture()))), png_chunk(b"IEND", b"")

BODIES = {
    b"pHYs": struct.pack(">IIB", 2835, 2835, 1), b"tEXt": b"Comment\0some words", b"iTXt": b"Title\0\0\0\0\0some words",
    b"zTXt": b"Comment\0\0" + zlib.compress(b"some words"), b"iCCP": b"odd\0\0" + zlib.compress(icc_profile("RGB")),
    b"tIME": struct.pack(">HBBBBB", 2026, 11, 28, 7, 0, 0), b"eXIf": exif(6)[6:], b"gAMA": struct.pack(">I", 45_455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000), b"sBIT": b"\5\5\5",
    b"sRGB": b"\0", b"bKGD": bytes(6), b"hIST": bytes(2), b"sPLT": b"odd\0\x08" + bytes(6), b"tRNS": bytes(6),
    b"cICP": b"\1\x0d\0\1", b"acTL": struct.pack(">II", 1, 0),
    b"fcTL": struct.pack(">IIIIIHHBB", 0, 96, 64, 0, 0, 1, 10, 0, 0),
    b"prVt": b"words of another program", b"oFFs": bytes(9), b"sTER": b"\0", b"dSIG": bytes(40),
}  # fmt: skip


def png_of(*before: bytes, after: Sequence[bytes] = (), end: bytes = END) -> bytes:
    return b"".join([SIGNATURE, HEADER, *before, PIXELS, *after, end])


def with_wrong_checksum(chunk: bytes) -> bytes:
    return chunk[:-4] + bytes(v ^ 0xA5 for v in chunk[-4:])


def decoded(data: bytes) -> DecodedImage:
    return decode_image(data, **LIMITS)


def assert_plain(data: bytes) -> None:
    image = decoded(data)
    assert np.array_equal(np.asarray(image.pixels), picture())
    assert pixel_hash(image) == pixel_hash(decoded(png_of()))


each_kind = pytest.mark.parametrize("kind", BODIES, ids=bytes.decode)


@each_kind
def test_a_wrong_checksum_in_a_chunk_without_pixels_hides_the_chunk_and_nothing_else(kind: bytes) -> None:
    damaged = with_wrong_checksum(png_chunk(kind, BODIES[kind]))
    assert_plain(png_of(damaged))
    assert decoded(png_of(after=[damaged])).format == "PNG"
    seen = cv2.imdecode(np.frombuffer(png_of(damaged), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(seen[..., ::-1], picture()), "libpng reads it otherwise"


@each_kind
@pytest.mark.parametrize("n_bytes", [0, 1, 3])
def test_a_chunk_that_is_too_short_hides_nothing(kind: bytes, n_bytes: int) -> None:
    image = decoded(png_of(png_chunk(kind, BODIES[kind][:n_bytes])))
    assert np.array_equal(np.asarray(image.pixels)[..., :3], picture())
    assert image.exif_orientation == 1


@each_kind
def test_a_chunk_twice_or_in_the_wrong_place_stops_nothing(kind: bytes) -> None:
    chunk = png_chunk(kind, BODIES[kind])
    for data in (png_of(chunk, chunk), png_of(after=[chunk]), SIGNATURE + HEADER + chunk + png_of()[8 + len(HEADER) :]):
        assert decoded(data).pixels.size in ((96, 64), (64, 96))


def test_what_is_seen_of_a_sound_chunk_stays_beside_a_damaged_one() -> None:
    damaged = with_wrong_checksum(png_chunk(b"tEXt", BODIES[b"tEXt"]))
    seen = [png_chunk(kind, BODIES[kind]) for kind in (b"iCCP", b"gAMA", b"tRNS", b"eXIf")]
    whole, mended = decoded(png_of(*seen)), decoded(png_of(damaged, *seen))
    assert (mended.exif_orientation, mended.size) == (6, (64, 96))
    assert mended.icc_profile == whole.icc_profile == icc_profile("RGB")
    assert pixel_hash(mended) == pixel_hash(whole)


@pytest.mark.parametrize("name", ["XML:com.adobe.xmp", "Raw profile type exif"])
def test_an_orientation_that_is_said_in_a_text_stays_beside_a_damaged_chunk(name: str) -> None:
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    text = PngImagePlugin.PngInfo()
    if name.startswith("XML"):
        text.add_itxt(name, xmp)
    else:
        body = exif(6)
        text.add_text(name, f"\nexif\n{len(body):8}\n{body.hex()}\n", zip=True)
    sound = encoded(Image.fromarray(picture()), "PNG", pnginfo=text)
    damaged = with_wrong_checksum(png_chunk(b"pHYs", BODIES[b"pHYs"]))
    assert decoded(sound).exif_orientation == 6
    assert decoded(sound[:33] + damaged + sound[33:]).exif_orientation == 6


def bombs() -> dict[str, bytes]:
    packed, tenth = zlib.compress(bytes(64 << 20)), zlib.compress(bytes(9 << 20))
    return {
        "zTXt": png_chunk(b"zTXt", b"Comment\0\0" + packed), "iTXt": png_chunk(b"iTXt", b"Title\0\1\0\0\0" + packed),
        "xmp": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed),
        "iCCP": png_chunk(b"iCCP", b"odd\0\0" + packed), "many": png_chunk(b"zTXt", b"Comment\0\0" + tenth) * 9,
        "large": png_chunk(b"tEXt", b"Comment\0" + bytes(70 << 20)),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "xmp", "iCCP", "many", "large"])
def test_a_text_or_profile_that_is_too_large_is_left_out_and_not_unpacked(kind: str) -> None:
    assert_plain(png_of(bombs()[kind]))


@pytest.mark.parametrize(
    "data",
    [
        png_of(end=b""), png_of(end=END[:7]), png_of(end=END + b"behind the end" * 100), png_of(end=END + png_of()),
        png_of(after=[b"\0\0\0\0" + bytes(8)]), png_of(end=png_chunk(b"IEND", b"words")),
        png_of(png_chunk(b"iCCP", b"odd\0\1" + zlib.compress(icc_profile("RGB")))), png_of(png_chunk(b"tEXt", b"")),
    ],
    ids=["no end", "cut end", "more behind", "another behind", "zeros", "words in it", "strange profile", "no text"],
)  # fmt: skip
def test_whole_pixels_are_seen_whatever_stands_around_them(data: bytes) -> None:
    assert_plain(data)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_damage_in_a_chunk_that_holds_the_picture_stays_a_reason(kind: bytes) -> None:
    data = encoded(Image.fromarray(picture()).quantize(16), "PNG")
    at = data.index(kind)
    end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
    with pytest.raises(ImageRejected, match=r"^corrupt"):
        decoded(data[:end] + bytes(4) + data[end + 4 :])


def test_a_cut_file_is_truncated_whatever_chunks_it_has() -> None:
    damaged = with_wrong_checksum(png_chunk(b"tEXt", BODIES[b"tEXt"]))
    data = png_of(damaged)
    with pytest.raises(ImageRejected, match=r"^truncated"):
        decoded(data[: len(data) - 2000])


def test_a_film_whose_control_is_damaged_shows_its_still() -> None:
    rgb = picture()
    frames = [Image.fromarray(rgb[::-1])]
    data = encoded(Image.fromarray(rgb), "PNG", save_all=True, append_images=frames)
    at = data.index(b"fcTL")
    broken = data[: at + 30] + bytes(4) + data[at + 34 :]
    image = decoded(broken)
    assert image.n_frames == 1
    assert np.array_equal(np.asarray(image.pixels), rgb)


def test_a_file_without_odd_chunks_is_not_copied() -> None:
    assert list(without_odd_chunks(png_of())) == []
    assert list(without_odd_chunks(b"")) == []
    assert list(without_odd_chunks(png_of()[:20])) == []


def test_the_copies_of_hostile_files_are_no_longer_than_the_files() -> None:
    draw = np.random.default_rng(11)
    whole = png_of(*[png_chunk(kind, body) for kind, body in BODIES.items()])
    for _ in range(200):
        data = bytearray(whole)
        for at in draw.integers(0, 900, 4):
            data[at] = draw.integers(0, 256)
        assert all(len(copy) < len(data) for copy in without_odd_chunks(bytes(data)))


def test_an_apple_png_is_unsupported_and_named() -> None:
    data = SIGNATURE + png_chunk(b"CgBI", bytes(4)) + HEADER + PIXELS + END
    with pytest.raises(ImageRejected, match=r"^unsupported_format: nothing here decodes CgBI"):
        decoded(data)
