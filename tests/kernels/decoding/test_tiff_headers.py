"""TIFF files that one reader or another refuses for their header or their chain of directories."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tifffile
from odd_bytes import encoded
from odd_files import picture
from PIL import Image

from dedup_spark.kernels.decoding.images import DecodedImage, ImageRejected, decode_image, sniff_format
from dedup_spark.kernels.decoding.tiff_headers import with_known_header
from dedup_spark.kernels.features.hashing import pixel_hash

LIMITS = {"max_pixels": 400_000_000, "min_side_px": 8}
TAGS = (256, 257, 258, 259, 262, 273, 277, 278, 279)


def written(*pages: np.ndarray, order: str = "<", big: bool = False, compression: Any = None, **options: Any) -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out, byteorder=order, bigtiff=big) as writer:
        for page in pages:
            writer.write(page, photometric="rgb", compression=compression, metadata=None, **options)
    return out.getvalue()


def decoded(data: bytes) -> DecodedImage:
    return decode_image(data, **LIMITS)


class Chain:
    """The directories of a TIFF file, to be broken.

    Attributes:
        places: Where each begins; `links`: where each says where the next one begins.
    """

    def __init__(self, data: bytes) -> None:
        order, is_big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
        self.data, self.count, self.pointer = data, order + ("Q" if is_big else "H"), order + ("Q" if is_big else "I")
        self.entry, self._head = order + ("HHQQ" if is_big else "HHII"), 8 if is_big else 4
        self.places, self.links = [], []
        at = struct.unpack_from(self.pointer, data, self._head)[0]
        while at:
            self.places.append(at)
            n = struct.unpack_from(self.count, data, at)[0]
            self.links.append(at + struct.calcsize(self.count) + n * struct.calcsize(self.entry))
            at = struct.unpack_from(self.pointer, data, self.links[-1])[0]

    def leading_to(self, place: int) -> bytes:
        """With another end of the chain."""
        data = bytearray(self.data)
        struct.pack_into(self.pointer, data, self.links[-1], place % (1 << 8 * struct.calcsize(self.pointer)))
        return bytes(data)

    def followed_by(self, directory: bytes) -> bytes:
        return self.leading_to(len(self.data)) + directory

    def of_entries(self, kind: int, sized: bool = False, count: int = 1) -> bytes:
        """A directory whose tags have this type; with `sized`, width and height have a right one."""
        entries = (struct.pack(self.entry, tag, 4 if sized and tag in (256, 257) else kind, count, 64) for tag in TAGS)
        return struct.pack(self.count, len(TAGS)) + b"".join(entries) + bytes(8)


def broken_chains(chain: Chain) -> Iterator[tuple[str, bytes]]:
    """Files of one page that say that there is another one, which is none."""
    n = len(chain.data)
    for name, place in {
        "beyond the end": n + 1000, "at the end": n, "before the end": n - 1, "far beyond": 1 << 31, "minus one": -1,
        "itself": chain.places[-1], "odd": 9, "header": 1, "pixels": 100, "zeros": n - 4,
    }.items():  # fmt: skip
        yield name, chain.leading_to(place)
    yield "no entries", chain.followed_by(struct.pack(chain.count, 0) + bytes(8))
    yield "no entries, cut", chain.followed_by(struct.pack(chain.count, 0))
    yield "many entries", chain.followed_by(struct.pack(chain.count, 0xFFFF) + bytes(40))
    yield "cut", chain.followed_by(chain.of_entries(3)[:30])
    yield "no values", chain.followed_by(chain.of_entries(4, count=0))
    yield "garbage", chain.followed_by(np.random.default_rng(5).integers(0, 256, 600, np.uint8).tobytes())
    for kind in (0, 6, 14, 99, 0xFFFF):
        yield f"type {kind}", chain.followed_by(chain.of_entries(kind))
        yield f"type {kind}, sized", chain.followed_by(chain.of_entries(kind, sized=True))


KINDS = [("<", False), (">", False), ("<", True), (">", True)]
each_kind = pytest.mark.parametrize(
    ("order", "big"), KINDS, ids=["little", "big endian", "BigTIFF", "big endian BigTIFF"]
)


@each_kind
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_chain_that_breaks_behind_a_whole_page_leaves_one_page(
    order: str, big: bool, compression: str | None
) -> None:
    whole = written(picture(), order=order, big=big, compression=compression)
    expected = pixel_hash(decoded(whole))
    for name, data in broken_chains(Chain(whole)):
        image = decoded(data)
        assert image.n_frames == 1, name
        assert pixel_hash(image) == expected, name


@each_kind
def test_a_chain_that_returns_has_as_many_pages_as_directories(order: str, big: bool) -> None:
    chain = Chain(written(picture(), picture()[::-1], order=order, big=big))
    expected = pixel_hash(decoded(chain.data))
    for place in chain.places:
        image = decoded(chain.leading_to(place))
        assert image.n_frames == 2
        assert pixel_hash(image) == expected


def test_a_directory_whose_values_no_reader_can_show_is_no_page() -> None:
    two = written(picture(), picture()[::-1])
    second = Chain(two).places[1]
    at = next(at for at in range(second + 2, len(two), 12) if two[at : at + 2] == struct.pack("<H", 262))
    for photometric, n_pages in ((999, 1), (32_767, 1), (1, 2), (40_000, 2)):
        data = two[: at + 8] + struct.pack("<H", photometric) + two[at + 10 :]
        assert decoded(data).n_frames == n_pages, photometric
    expected = pixel_hash(decoded(written(picture())))
    assert pixel_hash(decoded(two[: at + 8] + struct.pack("<H", 999) + two[at + 10 :])) == expected


@each_kind
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_every_byte_order_and_size_of_offsets_shows_the_same(
    order: str, big: bool, compression: str | None, tile: tuple[int, int] | None
) -> None:
    image = decoded(written(picture(), order=order, big=big, compression=compression, tile=tile, software="odd"))
    assert np.array_equal(np.asarray(image.pixels), picture())


def test_a_big_file_of_many_strips_and_an_orientation_is_read() -> None:
    data = written(picture(), order=">", big=True, rowsperstrip=3, extratags=[(274, 3, 1, 6, True)])
    image = decoded(data)
    assert image.exif_orientation == 6
    assert np.array_equal(np.asarray(image.pixels), np.rot90(picture(), -1))


def test_sixteen_bits_of_a_big_file_keep_their_byte_order() -> None:
    x, y = np.meshgrid(np.arange(96), np.arange(64))
    deep, out = (x * y * 10).astype(np.uint16), io.BytesIO()
    tifffile.imwrite(out, deep, bigtiff=True, byteorder=">", photometric="minisblack")
    assert np.array_equal(np.asarray(decoded(out.getvalue()).pixels), deep)


@pytest.mark.parametrize(("magic", "order"), [(b"MM*\0", ">"), (b"II\0*", "<")])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_header_with_its_number_in_the_other_byte_order_is_read(magic: bytes, order: str, compression: Any) -> None:
    data = magic + written(picture(), order=order, compression=compression)[4:]
    assert sniff_format(data) == "TIFF"
    assert np.array_equal(np.asarray(decoded(data).pixels), picture())


def test_ordinary_files_are_not_copied() -> None:
    data = encoded(Image.fromarray(picture()), "TIFF")
    assert with_known_header(data) is data


def test_a_hostile_big_file_does_not_grow_and_raises_nothing_else() -> None:
    whole, draw = written(picture(), picture()[::-1], order=">", big=True, rowsperstrip=2), np.random.default_rng(13)
    places = Chain(whole).places
    for _ in range(300):
        data = bytearray(whole)
        for at in (*draw.integers(0, 16, 1), *(draw.choice(places) + draw.integers(0, 200, 6))):
            data[at] = draw.integers(0, 256)
        data[:4] = b"MM\0+"
        assert len(with_known_header(bytes(data))) < 5 * len(data)
        try:
            decoded(bytes(data))
        except ImageRejected as e:
            assert e.reason in ("corrupt", "truncated", "unsupported_format", "too_many_pixels", "too_small")


@pytest.mark.filterwarnings("ignore:Metadata Warning")
@pytest.mark.parametrize("kind", range(1, 19))
@pytest.mark.parametrize("tag", [700, 33723, 34377, 34665, 34675, 37724])
def test_a_tag_beside_the_pixels_may_be_of_any_type(tag: int, kind: int) -> None:
    """XMP, IPTC, the ICC profile, Photoshop's and EXIF's: what a damaged type makes of them is not used."""
    rgb = picture()
    plain = written(rgb, extratags=[(tag - 1, 7, 4096, b"\0" * 4096, True)])  # tifffile does not write each of them
    chain = Chain(plain)
    data, count = bytearray(plain), struct.unpack_from(chain.count, plain, chain.places[0])[0]
    entries = [chain.places[0] + 2 + 12 * n for n in range(count)]
    [at] = [e for e in entries if struct.unpack_from("<H", data, e)[0] == tag - 1]
    for n in (1, 2, 4096 // 16):
        struct.pack_into("<HHI", data, at, tag, kind, n)
        image = decoded(bytes(data))
        assert pixel_hash(image) == pixel_hash(decoded(written(rgb)))
