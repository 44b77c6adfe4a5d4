from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dedup_spark.demo_lake import load_sample_photo
from dedup_spark.kernels.images import ImageRejected
from dedup_spark.kernels.signature import SignatureSettings, sign_image

SETTINGS = SignatureSettings(max_pixels=10**9, min_side_px=16, thumbnail_px=256, thumbnail_quality=80, input_px=224)


def encoded(image: Image.Image, image_format: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, image_format)
    return out.getvalue()


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


def test_a_small_image_is_not_enlarged_in_its_thumbnail() -> None:
    signature = sign_image(encoded(load_sample_photo("rocket.jpg").resize((60, 40))), SETTINGS)
    assert Image.open(io.BytesIO(signature.thumbnail)).size == (60, 40)


def test_reducing_a_large_image_first_changes_its_model_input_by_little() -> None:
    photo = load_sample_photo("astronaut.png").resize((3000, 2500))
    fast = sign_image(encoded(photo, "BMP"), SETTINGS).model_input
    slow = np.asarray(photo.resize((224, 224), Image.Resampling.BICUBIC))
    assert fast is not None
    assert np.abs(fast.astype(int) - slow.astype(int)).mean() < 1.5  # levels of 255


def test_the_version_names_what_decides_the_values() -> None:
    assert SETTINGS.version != SignatureSettings(10**9, 16, 128, 80, 224).version
    assert (
        SETTINGS.version == SignatureSettings(10**6, 8, 256, 80, 0).version
    )  # limits and the model decide nothing here


def test_rejection_passes_through() -> None:
    with pytest.raises(ImageRejected, match="empty"):
        sign_image(b"", SETTINGS)
