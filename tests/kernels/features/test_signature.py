from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import odd_files  # noqa: F401  registers HEIF and JPEG XL with Pillow
import PIL
import pytest
from odd_bytes import encoded
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.kernels.decoding import formats
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features import hashing
from dedup_spark.kernels.features import signature as signing
from dedup_spark.kernels.features.signature import (
    OLDEST_DECIDING,
    SignatureSettings,
    current_versions,
    input_of_image,
    input_of_thumbnail,
    may_decode_now,
    own_version,
    rejected_version,
    sign_image,
)

SETTINGS = SignatureSettings(max_pixels=10**9, min_side_px=16, thumbnail_px=256, thumbnail_quality=80, input_px=224)


def test_a_signature_describes_the_image() -> None:
    signature = sign_image(encoded(load_sample_photo("rocket.jpg")), SETTINGS)
    assert (signature.width_px, signature.height_px) == load_sample_photo("rocket.jpg").size
    assert (signature.format, signature.mode, signature.n_frames, signature.exif_orientation) == ("PNG", "RGB", 1, 1)
    assert max(Image.open(io.BytesIO(signature.thumbnail)).size) == 256
    assert signature.model_input is not None
    assert signature.model_input.shape == (224, 224, 3)
    assert signature.model_input.dtype == np.uint8


def test_without_a_model_no_input_is_made() -> None:
    off = SignatureSettings(10**9, 16, 256, 80, 0)
    assert sign_image(encoded(load_sample_photo("rocket.jpg")), off).model_input is None


def test_a_cropped_input_is_the_same_wherever_it_is_made_and_of_thumbnails_nearly_so() -> None:
    photo = encoded(load_sample_photo("chelsea.png"))
    crop = SignatureSettings(10**9, 16, 256, 80, 224, "bilinear", square="crop")
    signature = sign_image(photo, crop)
    assert signature.model_input is not None
    assert signature.model_input.shape == (224, 224, 3)
    np.testing.assert_array_equal(input_of_image(photo, crop), signature.model_input)
    of_thumbnail = input_of_thumbnail(signature.thumbnail, crop)
    np.testing.assert_array_equal(of_thumbnail, sign_image(photo, replace(crop, from_thumbnail=True)).model_input)
    assert np.abs(of_thumbnail.astype(int) - signature.model_input).mean() < 6  # levels of 255
    squashed = sign_image(photo, replace(crop, square="squash")).model_input
    assert np.abs(squashed.astype(int) - signature.model_input).mean() > 15  # type: ignore[union-attr]


def test_a_small_image_is_not_enlarged_in_its_thumbnail() -> None:
    signature = sign_image(encoded(load_sample_photo("rocket.jpg").resize((60, 40))), SETTINGS)
    assert Image.open(io.BytesIO(signature.thumbnail)).size == (60, 40)


def test_reducing_a_large_image_first_changes_its_model_input_by_little() -> None:
    photo = load_sample_photo("astronaut.png").resize((3000, 2500))
    fast = sign_image(encoded(photo, "BMP"), SETTINGS).model_input
    slow = np.asarray(photo.resize((224, 224), Image.Resampling.BICUBIC))
    assert fast is not None
    assert np.abs(fast.astype(int) - slow.astype(int)).mean() < 1.5  # levels of 255


def test_a_version_names_preprocessing_decoder_and_thumbnail_and_no_limits() -> None:
    png = encoded(load_sample_photo("rocket.jpg"))
    version = sign_image(png, SETTINGS).signature_version
    pillow = ".".join(PIL.__version__.split(".")[:2])
    assert version == f"6/pillow-{pillow}/thumbnail-256-q80"
    assert sign_image(png, SignatureSettings(10**8, 8, 256, 80, 0)).signature_version == version
    assert sign_image(png, SignatureSettings(10**9, 16, 128, 80, 224)).signature_version != version


@pytest.mark.parametrize("image_format", ["PNG", "HEIF", "JXL"])
def test_what_is_made_today_is_current(image_format: str) -> None:
    signature = sign_image(encoded(load_sample_photo("rocket.jpg").copy(), image_format), SETTINGS)
    assert signature.signature_version in current_versions(SETTINGS)
    assert signature.decoder in signature.signature_version


def test_an_upgraded_decoder_outdates_its_own_rows_and_the_rejects(monkeypatch: pytest.MonkeyPatch) -> None:
    before = current_versions(SETTINGS)
    versions = {d: formats.decoder_version(d) for d in formats.DECODERS} | {formats.HEIF: "99.1"}
    monkeypatch.setattr(formats, "decoder_version", versions.__getitem__)
    outdated = before - current_versions(SETTINGS)
    assert len(outdated) == 2
    assert sum("/pi-heif-decoder-" in version for version in outdated) == 1
    assert sum("/rejected by " in version for version in outdated) == 1


def test_a_decoder_installed_later_outdates_the_rejects_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(formats, "is_installed", lambda decoder: decoder is not formats.RAW)
        before = current_versions(SETTINGS)
        assert not [version for version in before if "rawpy" in version]
        rejected = rejected_version(SETTINGS)
    assert before - current_versions(SETTINGS) == {rejected}


def test_other_limits_outdate_the_rejects() -> None:
    assert rejected_version(SETTINGS) in current_versions(SETTINGS)
    assert rejected_version(SETTINGS) != rejected_version(SignatureSettings(10**8, 16, 256, 80, 224))
    assert rejected_version(SETTINGS) == rejected_version(SignatureSettings(10**9, 16, 256, 80, 0))


def test_memory_that_runs_out_after_decoding_is_a_rejection_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(image: object) -> str:
        raise MemoryError

    monkeypatch.setattr(hashing, "pixel_hash", no_memory)
    with pytest.raises(ImageRejected, match=r"too_many_pixels: .*decoder_memory_bytes"):
        sign_image(encoded(load_sample_photo("rocket.jpg")), SETTINGS)


def test_rejection_passes_through() -> None:
    with pytest.raises(ImageRejected, match="empty"):
        sign_image(b"", SETTINGS)


def test_pixel_hashes_of_two_versions_are_never_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    png = encoded(load_sample_photo("rocket.jpg"), "PNG")
    before = sign_image(png, SETTINGS)
    monkeypatch.setattr(hashing, "PIXEL_HASH_VERSION", 4)
    monkeypatch.setattr(signing, "_PREPROCESSING", 7)
    after, again = sign_image(png, SETTINGS), sign_image(png, SETTINGS)
    assert after.pixel_hash == again.pixel_hash != before.pixel_hash
    assert (own_version(before.signature_version), own_version(after.signature_version)) == (6, 7)
    assert before.signature_version not in current_versions(SETTINGS)


@pytest.mark.parametrize(
    ("version", "number"), [("2/pillow-11.3/thumbnail-256-q80", 2), ("12/x", 12), ("0/old", 0), ("odd", 0), (None, 0)]
)
def test_the_own_version_of_a_row_is_its_first_number(version: str | None, number: int) -> None:
    assert own_version(version) == number


def test_rows_of_now_may_decide() -> None:
    assert own_version(rejected_version(SETTINGS)) >= OLDEST_DECIDING


def test_a_decoder_that_came_may_decode_and_one_that_went_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with_raw = rejected_version(SETTINGS)
    monkeypatch.setattr(formats, "is_installed", lambda decoder: decoder is not formats.RAW)
    without_raw = rejected_version(SETTINGS)
    assert may_decode_now(without_raw, with_raw)
    assert not may_decode_now(with_raw, without_raw)
    assert not may_decode_now(with_raw, with_raw)
    assert may_decode_now("0/old", with_raw)
    assert may_decode_now(rejected_version(SignatureSettings(10**7, 16, 256, 80, 224)), without_raw)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1000, 2), (100, 25)), ((2, 1000), (25, 100)), ((1000, 510), (100, 51)), ((90, 40), (90, 40))],
)
def test_a_thumbnail_fits_its_square_and_has_no_side_of_nothing(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert signing._fit(Image.new("RGB", size), 100).size == expected


@pytest.mark.parametrize("size", [(8_000, 16), (16, 8_000), (4_000, 200), (400, 16)])
def test_the_thumbnail_of_a_strip_is_a_quarter_as_wide_as_it_is_long(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 255, (4, 40, 3) if size[0] > size[1] else (40, 4, 3), np.uint8))
    strip = coarse.resize(size, Image.Resampling.BICUBIC)
    signature = sign_image(encoded(strip), SETTINGS)
    shown = Image.open(io.BytesIO(signature.thumbnail))
    assert sorted(shown.size) == [64, 256]
    halved = strip.resize((max(16, size[0] // 2), max(16, size[1] // 2)), Image.Resampling.LANCZOS)
    copy = Image.open(io.BytesIO(sign_image(encoded(halved), SETTINGS).thumbnail))
    like = copy.resize(shown.size)
    assert np.abs(np.asarray(like).astype(int) - np.asarray(shown)).mean() < 6
    assert (signature.width_px, signature.height_px) == size
