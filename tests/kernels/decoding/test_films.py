"""Files with several frames: what all of them show, which one describes the file, and how much is decoded."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from odd_bytes import encoded
from PIL import Image, ImageDraw

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.decoding import films
from dedup_spark.kernels.decoding.images import DecodedImage, decode_image
from dedup_spark.kernels.features import hashing
from dedup_spark.kernels.features.signature import SignatureSettings, input_of_image, sign_image

SIZE = (160, 120)
LIMITS: dict[str, int] = {"max_pixels": 10**7, "min_side_px": 8}
SETTINGS = SignatureSettings(max_pixels=10**7, min_side_px=8, thumbnail_px=128, thumbnail_quality=90, input_px=64)
SCENES = [load_sample_photo(n).convert("RGB").resize(SIZE) for n in ("coffee.png", "chelsea.png", "astronaut.png")]
BLACK = Image.new("RGB", SIZE)


def film(frames: list[Image.Image], image_format: str = "WEBP", duration: Any = 80, **how: Any) -> bytes:
    how = {"lossless": True} | how if image_format == "WEBP" else how
    return encoded(frames[0], image_format, save_all=True, append_images=frames[1:], duration=duration, **how)


def pan(scene: int, n: int = 6) -> list[Image.Image]:
    wide = SCENES[scene].resize((240, 180))
    return [wide.crop((i * 12, i * 8, i * 12 + SIZE[0], i * 8 + SIZE[1])) for i in range(n)]


def decoded(data: bytes) -> DecodedImage:
    return decode_image(data, **LIMITS)


def most_bits(a: DecodedImage, b: DecodedImage) -> int:
    pairs = zip(hashing.frame_phashes(a) or (), hashing.frame_phashes(b) or (), strict=True)
    return max(((x ^ y) & (2**64 - 1)).bit_count() for x, y in pairs)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_files_with_one_opening_frame_are_different_pictures(image_format: str) -> None:
    opening = SCENES[0]
    one, other = (film([opening, *pan(scene)], image_format) for scene in (1, 2))
    still = encoded(opening, image_format)
    assert len({hashing.pixel_hash(decoded(data)) for data in (one, other, still)}) == 3
    assert most_bits(decoded(one), decoded(other)) > 15
    assert decoded(one).n_frames == 7
    assert decoded(still).film is None
    signed = sign_image(one, SETTINGS)
    assert signed.frames_hash != sign_image(other, SETTINGS).frames_hash
    assert (signed.duration_ms is None) == (image_format == "TIFF")


def test_lossless_copies_of_a_film_share_the_pixel_hash() -> None:
    frames = [frame.quantize(64) for frame in pan(0)]
    gif = film(frames, "GIF")
    shown = Image.open(io.BytesIO(gif))
    as_rgb = []
    for i in range(6):
        shown.seek(i)
        as_rgb.append(shown.convert("RGB"))
    copies = [gif, film(as_rgb, "PNG"), film(as_rgb, "WEBP")]
    assert len({hashing.pixel_hash(decoded(data)) for data in copies}) == 1
    twice = [frame for frame in as_rgb for _ in (0, 1)]
    assert hashing.pixel_hash(decoded(film(twice, "WEBP", 40))) == hashing.pixel_hash(decoded(gif))
    slow = decoded(film(as_rgb, "WEBP", 160))
    assert hashing.pixel_hash(slow) != hashing.pixel_hash(decoded(gif))
    assert slow.film.pictures_digest == decoded(gif).film.pictures_digest  # type: ignore[union-attr]


@pytest.mark.parametrize("how", [{"lossless": False, "quality": 40}, {"image_format": "AVIF"}, {"image_format": "GIF"}])
def test_a_film_that_was_encoded_again_has_the_same_moments(how: dict[str, Any]) -> None:
    for scene in range(3):
        frames, times = pan(scene), [60, 90, 60, 200, 60, 1500]
        original = decoded(film(frames, duration=times))
        small = [frame.resize((96, 72), Image.Resampling.LANCZOS) for frame in frames]
        assert most_bits(original, decoded(film(frames, duration=times, **how))) <= 6
        assert most_bits(original, decoded(film(small, duration=times, **how))) <= 6
        assert original.film.duration_ms == 1970  # type: ignore[union-attr]
        trimmed = decoded(film(frames[:4], duration=times[:4], **how))
        assert most_bits(original, trimmed) > 6


def test_a_film_that_fades_in_is_described_by_a_frame_that_shows_something() -> None:
    fading = [Image.blend(BLACK, SCENES[0], min(1.0, i / 5)) for i in range(9)]
    original, again = film(fading), film(fading, lossless=False, quality=50)
    one, other = sign_image(original, SETTINGS), sign_image(again, SETTINGS)
    assert one.described_frame == other.described_frame > 0
    assert one.luma_stddev > 12
    still = sign_image(encoded(SCENES[0], "PNG"), SETTINGS)
    assert ((one.phash ^ still.phash) & (2**64 - 1)).bit_count() <= 6
    assert np.array_equal(input_of_image(original, SETTINGS), one.model_input)


@pytest.mark.parametrize("blank", ["black", "white", "#123456"])
def test_a_blank_opening_describes_nothing(blank: str) -> None:
    opening = [Image.new("RGB", SIZE, blank)] * 3
    for image_format in ("GIF", "WEBP", "PNG", "TIFF"):
        signed = sign_image(film([*opening, *pan(1)], image_format), SETTINGS)
        assert signed.described_frame >= 1
        assert signed.luma_stddev > 12
    assert sign_image(film(pan(1)), SETTINGS).described_frame == 0
    only_blank = sign_image(film([Image.new("RGB", SIZE, blank), Image.new("RGB", SIZE, "grey")]), SETTINGS)
    assert only_blank.described_frame == 0
    assert set(only_blank.frame_phashes or ()) == {0}


def letter(seed: int) -> Image.Image:
    page = Image.new("L", (340, 440), 255)
    pen, rng = ImageDraw.Draw(page), np.random.default_rng(seed)
    for y in range(20, 420, 12):
        pen.line((20, y, 40 + int(rng.integers(40, 260)), y), fill=0, width=3)
    return page


def pages(*numbers: int, **how: Any) -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        for number in numbers:
            writer.write(np.asarray(letter(number)), metadata=None, photometric="minisblack", **how)
    return out.getvalue()


def test_letters_behind_one_cover_sheet_are_different_documents() -> None:
    one, other, cover = pages(0, 1, 2), pages(0, 3, 4), pages(0)
    assert len({hashing.pixel_hash(decoded(data)) for data in (one, other, cover)}) == 3
    assert most_bits(decoded(one), decoded(other)) > 2
    assert hashing.pixel_hash(decoded(pages(0, 1, 2, compression="zlib"))) == hashing.pixel_hash(decoded(one))
    assert hashing.pixel_hash(decoded(pages(0, 2, 1))) != hashing.pixel_hash(decoded(one))
    assert hashing.pixel_hash(decoded(pages(0, 0))) != hashing.pixel_hash(decoded(cover))
    assert decoded(one).film.duration_ms is None  # type: ignore[union-attr]


def test_a_long_document_has_no_moments_as_not_all_pages_would_be_compared() -> None:
    long = decoded(pages(*range(films.MAX_MOMENTS + 1)))
    assert long.n_frames == films.MAX_MOMENTS + 1
    assert hashing.frame_phashes(long) is None
    assert len(hashing.frame_phashes(decoded(pages(*range(films.MAX_MOMENTS)))) or ()) == films.MAX_MOMENTS


@pytest.mark.parametrize("bound", ["MAX_FILM_PIXELS", "MAX_FRAMES"])
def test_a_film_beyond_the_bound_equals_its_byte_copies_alone(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    frames = pan(0)
    plain, other = film(frames), film([*frames[:-1], SCENES[2]])
    monkeypatch.setattr(films, bound, 3 if bound == "MAX_FRAMES" else 3 * SIZE[0] * SIZE[1])
    one, again, late = decoded(plain), decoded(plain), decoded(other)
    assert hashing.pixel_hash(one) == hashing.pixel_hash(again) != hashing.pixel_hash(late)
    assert hashing.frame_phashes(one) is None
    assert one.film.duration_ms == 480  # type: ignore[union-attr]
    longer = plain + b"\0\0"  # other bytes of the same film
    assert hashing.pixel_hash(decoded(longer)) != hashing.pixel_hash(one)


def test_a_page_that_is_damaged_or_too_large_is_counted_and_not_compared() -> None:
    image = decoded(pages(0, 1, 2)[:-1_000])
    assert image.n_frames == 3
    assert hashing.frame_phashes(image) is None
    big = io.BytesIO()
    with tifffile.TiffWriter(big) as writer:
        for page in (np.asarray(letter(0)), np.zeros((4_000, 4_000), np.uint8)):
            writer.write(page, metadata=None, photometric="minisblack", compression="zlib")
    image = decoded(big.getvalue())
    assert (image.n_frames, image.film.moments) == (2, ())  # type: ignore[union-attr]


def test_memory_that_runs_out_in_a_later_frame_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = films.picture_digest, []

    def digest(picture: Any) -> Any:
        calls.append(picture)
        if len(calls) == 3:
            raise MemoryError
        return real(picture)

    monkeypatch.setattr(films, "picture_digest", digest)
    with pytest.raises(Exception, match="too_many_pixels"):
        decoded(film(pan(0)))
