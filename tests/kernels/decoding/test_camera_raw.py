"""Camera RAW as a camera wrote it, fetched once: `make test-raw`. The other tests of RAW make files of their own."""

from __future__ import annotations

import numpy as np
import pytest
from fetched import camera_raw

from dedup_spark.kernels.decoding import raw
from dedup_spark.kernels.decoding.images import DecodedImage, ImageRejected, decode_image
from dedup_spark.kernels.features.hashing import phash
from dedup_spark.kernels.features.signature import SignatureSettings, sign_image

pytestmark = pytest.mark.camera

LIMITS = {"max_pixels": 400_000_000, "min_side_px": 16}
SETTINGS = SignatureSettings(400_000_000, 16, 256, 80, 224)


@pytest.fixture(scope="module")
def photo() -> bytes:
    return camera_raw().read_bytes()


def developed(photo: bytes, monkeypatch: pytest.MonkeyPatch) -> DecodedImage:
    """By the sensor data, as where a camera wrote no preview that is fit."""
    monkeypatch.setattr(raw, "_preview", lambda *_: None)
    return decode_image(photo, **LIMITS)


def test_the_preview_of_the_camera_stands_for_the_photo(photo: bytes) -> None:
    image = decode_image(photo, **LIMITS)
    assert (image.format, image.decoder) == ("ARW", "rawpy preview")
    assert (image.size, image.exif_orientation) == ((5184, 3464), 1)
    assert image.pixels.size == (1616, 1080)
    signature = sign_image(photo, SETTINGS)
    assert (signature.width_px, signature.height_px, signature.format) == (5184, 3464, "ARW")
    assert signature.model_input is not None


def test_what_we_develop_is_the_photo_that_the_camera_shows(photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = decode_image(photo, **LIMITS)
    made = developed(photo, monkeypatch)
    assert (made.decoder, made.size, made.pixels.size) == ("rawpy half size", (5184, 3464), (2592, 1732))
    assert (phash(made) ^ phash(shown)).bit_count() <= 8
    small = [np.asarray(i.pixels.convert("L").resize((64, 43)), float).ravel() for i in (made, shown)]
    assert np.corrcoef(*small)[0, 1] > 0.95


@pytest.mark.parametrize("n_bytes", [1_000, 50_000, 200_000, 1_000_000, 9_000_000, 18_649_000])
def test_a_photo_without_its_end_is_truncated(photo: bytes, n_bytes: int) -> None:
    """LibRaw takes 200,000 bytes for a black picture, and 1,000,000 for the preview."""
    assert n_bytes < len(photo)
    with pytest.raises(ImageRejected, match=r"^truncated"):
        decode_image(photo[:n_bytes], **LIMITS)
