"""Whatever is done to a file, it ends as a picture or as a reason: within the limits, by no traceback, by no hang."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

import pytest
from fuzzing.campaign import LONG_SECONDS, SHORT_SECONDS, campaign
from fuzzing.mutations import mutated
from fuzzing.structure import parts_of, repaired
from odd_files import odd_files
from PIL import Image

from dedup_spark.kernels.decoding import headers
from dedup_spark.kernels.decoding.endings import is_cut_off, is_raw_cut_off
from dedup_spark.kernels.decoding.formats import sniff_format
from dedup_spark.kernels.decoding.images import REJECT_REASONS, ImageRejected
from dedup_spark.kernels.decoding.jpeg_structure import jpeg_structure
from dedup_spark.kernels.features.signature import SignatureSettings
from dedup_spark.stages.reading.decoder_pool import DecoderLimits, DecoderPool

SETTINGS = SignatureSettings(max_pixels=20_000_000, min_side_px=8, thumbnail_px=64, thumbnail_quality=80, input_px=64)
MEMORY_BYTES, TIMEOUT_SECONDS = 1 << 30, 60
FILES = [(file.name, file.data) for file in odd_files() if len(file.data) < 1 << 20]
FORMATS = sorted({file.format for file in odd_files()})


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(1, SETTINGS, DecoderLimits(MEMORY_BYTES, TIMEOUT_SECONDS))
    yield pool
    pool.close()


def decoded(pool: DecoderPool, data: bytes) -> str:
    """How a file ends in a decoder process."""
    try:
        signature = pool.sign(data)
    except ImageRejected as e:
        assert e.reason in REJECT_REASONS
        assert "Traceback" not in e.message, e.message
        assert e.reason not in ("decoder_timeout", "decoder_crashed"), e.message
        return str(e.reason)
    assert signature.width_px * signature.height_px <= SETTINGS.max_pixels
    assert min(signature.width_px, signature.height_px) >= SETTINGS.min_side_px
    assert max(Image.open(io.BytesIO(signature.thumbnail)).size) <= SETTINGS.thumbnail_px
    assert 0 <= signature.described_frame < signature.n_frames
    return "ok"


def read_headers(data: bytes) -> str:
    """Whatever is read without a decoder, as if the file were of every format: nothing of it may raise."""
    for image_format in FORMATS:
        headers.claimed_size(data, image_format)
        is_cut_off(data, image_format)
        is_raw_cut_off(data, image_format)
    list(itertools.islice(headers.tiff_pages(data), 1000))
    list(headers.tiff_directories(data, max_values=1 << 18))
    for read in (jpeg_structure, headers.jpeg_frame, headers.is_turned, headers.jxl_orientation, headers.is_jxl_film,
                 headers.ico_entries):  # fmt: skip
        read(data)
    return sniff_format(data) or "no image"


def test_a_damaged_file_is_a_picture_or_a_reason(pool: DecoderPool) -> None:
    outcomes = campaign("decoder", FILES, lambda data: decoded(pool, data), SHORT_SECONDS)
    assert 0 < outcomes["ok"] < outcomes.total()


def test_headers_are_read_of_anything() -> None:
    campaign("headers", FILES, read_headers, SHORT_SECONDS / 4)


@pytest.mark.slow
def test_damaged_files_are_pictures_or_reasons_for_minutes(pool: DecoderPool) -> None:
    campaign("decoder", FILES, lambda data: decoded(pool, data), LONG_SECONDS)


@pytest.mark.slow
def test_headers_are_read_of_anything_for_a_minute() -> None:
    campaign("headers", FILES, read_headers, LONG_SECONDS / 5)


def test_a_seed_gives_the_same_file_again_and_another_seed_another() -> None:
    files = [mutated(FILES, seed) for seed in range(200)]
    assert files == [mutated(FILES, seed) for seed in range(200)]
    assert len({data for _, data in files}) > 190


@pytest.mark.parametrize("name", ["png rgba", "jpeg", "webp", "tiff pages", "avif", "jxl container", "heic"])
def test_parts_cover_a_file_and_repair_leaves_a_sound_one_as_it_is(name: str) -> None:
    data = dict(FILES)[name]
    parts = parts_of(data)
    assert parts
    assert all(0 <= begin < end <= len(data) for begin, end in parts)
    assert repaired(data) == data
