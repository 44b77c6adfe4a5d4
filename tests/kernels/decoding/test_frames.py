"""Frames, pages and their times by the headers of a file, whatever it claims."""

from __future__ import annotations

import io
import struct
import time

import numpy as np
import pytest
import tifffile
from odd_bytes import encoded, png_chunk
from odd_files import odd_files
from PIL import Image

from dedup_spark.kernels.decoding import frames
from dedup_spark.kernels.decoding.frames import Frames, frames_of
from dedup_spark.kernels.decoding.headers import is_jxl_film, tiff_pages
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.decoding.openers import open_image

PICTURES = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (24, 32, 3), np.uint8)) for i in range(4)]


def found(data: bytes, image_format: str) -> Frames:
    return frames_of(open_image(data, image_format), data, image_format)


def of_pictures(image_format: str, duration: object, **how: object) -> bytes:
    return encoded(PICTURES[0], image_format, save_all=True, append_images=PICTURES[1:], duration=duration, **how)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP"])
def test_times_are_those_that_were_written(image_format: str) -> None:
    data = of_pictures(image_format, [120, 40, 1500, 70])
    assert found(data, image_format) == Frames((0, 1, 2, 3), (120, 40, 1500, 70), is_film=True)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP"])
def test_a_frame_without_a_time_is_shown_for_a_tenth_of_a_second(image_format: str) -> None:
    assert found(of_pictures(image_format, [0, 10, 20, 0]), image_format).durations_ms == (100, 100, 20, 100)


@pytest.mark.parametrize("file", [f for f in odd_files() if f.format in ("GIF", "TIFF", "PNG", "WEBP", "MPO")])
def test_counts_are_those_of_pillow(file: object) -> None:
    data = file.data  # type: ignore[attr-defined]
    image = Image.open(io.BytesIO(data))
    assert len(found(data, image.format.replace("MPO", "JPEG")).places) == getattr(image, "n_frames", 1)  # type: ignore[union-attr]


def test_the_still_in_front_of_a_png_film_is_none_of_its_frames() -> None:
    data = of_pictures("PNG", 50, default_image=True)
    assert found(data, "PNG") == Frames((1, 2, 3), (50, 50, 50), is_film=True)
    image = decode_image(data, max_pixels=10**6, min_side_px=8)
    assert np.array_equal(np.asarray(image.pixels), np.asarray(PICTURES[1]))


def test_further_pictures_of_another_size_in_a_jpeg_are_previews_and_maps_of_it() -> None:
    small = PICTURES[1].resize((16, 12))
    with_map = encoded(PICTURES[0], "MPO", save_all=True, append_images=[small])
    stereo = encoded(PICTURES[0], "MPO", save_all=True, append_images=[small, PICTURES[1]])
    assert found(with_map, "JPEG") == Frames((0,))
    assert found(stereo, "JPEG") == Frames((0, 2), main=0)
    image = decode_image(stereo, max_pixels=10**6, min_side_px=8)
    assert (image.n_frames, image.size, image.film.described) == (2, (32, 24), 0)  # type: ignore[union-attr]


def test_reduced_copies_of_a_page_are_no_pages() -> None:
    full, out = np.asarray(PICTURES[0].resize((128, 96))), io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for values, kind in ((full[::4, ::4], 1), (full, 0), (full[::2, ::2], 1)):
            writer.write(
                values, metadata=None, subfiletype=kind, photometric="rgb" if values.ndim == 3 else "minisblack"
            )
    image = decode_image(out.getvalue(), max_pixels=10**6, min_side_px=8)
    assert (image.size, image.n_frames) == ((128, 96), 1)
    assert np.array_equal(np.asarray(image.pixels), full)


def test_a_chain_of_pages_that_is_broken_ends_there() -> None:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(np.asarray(PICTURES[0]), metadata=None, photometric="rgb")
    whole = out.getvalue()
    at = struct.unpack_from("<I", whole, 4)[0]
    next_at = at + 2 + 12 * struct.unpack_from("<H", whole, at)[0]
    expected = decode_image(whole, max_pixels=10**6, min_side_px=8)
    for place in (at, 9, len(whole) - 4, len(whole) + 50, 2**32 - 1):
        broken = whole[:next_at] + struct.pack("<I", place) + whole[next_at + 4 :]
        image = decode_image(broken, max_pixels=10**6, min_side_px=8)
        assert image.n_frames == 1
        assert np.array_equal(np.asarray(image.pixels), np.asarray(expected.pixels))


def test_a_jpeg_xl_film_is_known_and_never_taken_for_its_first_frame() -> None:
    still = encoded(PICTURES[0], "JXL")
    assert not is_jxl_film(still)
    bits = 1 | 3 << 1 | 1 << 6 | 0 << 9 | 1 << 10 | 0 << 11 | 0 << 14 | 0 << 15 | 1 << 16
    assert is_jxl_film(b"\xff\x0a" + bits.to_bytes(16, "little"))
    assert not is_jxl_film(b"\xff\x0a" + (bits & ~(1 << 16)).to_bytes(16, "little"))


def test_hostile_counts_take_bounded_time() -> None:
    gif = encoded(PICTURES[0].quantize(4), "GIF")
    at = gif.index(b",")
    many_frames = gif[:-1] + gif[at:-1] * 200_000 + b";"
    directory = struct.pack("<H", 2) + struct.pack("<HHII", 256, 4, 1, 9) + struct.pack("<HHII", 257, 4, 1, 9)
    step = len(directory) + 4
    chain = b"".join(directory + struct.pack("<I", 8 + step * (i + 1)) for i in range(100_000))
    acts = b"".join(png_chunk(b"fcTL", bytes(20) + struct.pack(">HHBB", 1, 10, 0, 0)) for _ in range(100_000))
    begin = time.monotonic()
    assert len(found(many_frames, "GIF").places) == frames.MAX_COUNTED
    assert sum(1 for _ in zip(tiff_pages(b"II*\0\x08\0\0\0" + chain), range(frames.MAX_COUNTED), strict=False))
    assert sum(1 for _ in frames._png_delays(bytes(8) + acts)) == 100_000
    assert time.monotonic() - begin < 30
