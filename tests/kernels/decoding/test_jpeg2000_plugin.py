"""JPEG 2000 of more than 8 bits: white stays white."""

from __future__ import annotations

import cv2
import imagecodecs
import numpy as np
import pytest
from odd_bytes import encoded
from PIL import Image

from dedup_spark.kernels.decoding import jpeg2000_plugin
from dedup_spark.kernels.decoding.headers import jpeg2000_bits
from dedup_spark.kernels.decoding.images import ImageRejected, decode_image

LEVELS = np.linspace(0, 1, 32)


def ramp(n_bits: int, n_channels: int) -> np.ndarray:
    """(16, 32, channels) from black to white, but for the last channel, which is white."""
    values = np.tile(np.round(LEVELS * (2**n_bits - 1))[None, :, None], (16, 1, n_channels)).astype(np.uint16)
    values[..., -1] = 2**n_bits - 1
    return values


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data, max_pixels=10**6, min_side_px=8).pixels)


@pytest.mark.parametrize("kind", ["jp2", "j2k"])
@pytest.mark.parametrize("n_channels", [3, 4])
@pytest.mark.parametrize("n_bits", [9, 10, 12, 16])
def test_the_highest_bits_of_every_value_are_kept(n_bits: int, n_channels: int, kind: str) -> None:
    values = ramp(n_bits, n_channels)
    data = imagecodecs.jpeg2k_encode(values, bitspersample=n_bits, codecformat=kind, reversible=True)
    shown = pixels_of(data)[..., :n_channels]
    expected = (values >> (n_bits - 8)).astype(np.uint8)
    assert np.array_equal(shown, expected[..., : shown.shape[2]])
    assert jpeg2000_bits(data) == n_bits


def test_eight_bits_and_deep_greys_are_read_by_pillow_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg2000_plugin, "_by_opencv", lambda data: pytest.fail("asked OpenCV"))
    eight = np.round(LEVELS * 255).astype(np.uint8)[None, :, None].repeat(16, 0).repeat(3, 2)
    assert np.array_equal(pixels_of(encoded(Image.fromarray(eight), "JPEG2000")), eight)
    deep = ramp(16, 2)[..., 0].copy()
    assert np.array_equal(pixels_of(imagecodecs.jpeg2k_encode(deep, codecformat="jp2", reversible=True)), deep)


def test_a_picture_for_which_opencv_has_no_memory_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        error = cv2.error("Insufficient memory")
        error.code, error.err = cv2.Error.StsNoMem, "Insufficient memory"
        raise error

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(ImageRejected, match="too_many_pixels"):
        pixels_of(imagecodecs.jpeg2k_encode(ramp(16, 3), codecformat="jp2", reversible=True))


def test_what_opencv_does_not_read_stays_as_pillow_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = imagecodecs.jpeg2k_encode(ramp(16, 3), codecformat="jp2", reversible=True)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    shown = pixels_of(data)
    assert np.abs(shown[:, :31, 0].astype(int) - (ramp(16, 3)[:, :31, 0] >> 8)).max() <= 1


def test_bits_are_those_that_the_codestream_declares() -> None:
    sound = imagecodecs.jpeg2k_encode(ramp(12, 3), bitspersample=12, codecformat="j2k")
    assert jpeg2000_bits(sound) == 12
    assert jpeg2000_bits(sound[:42]) in (0, 1)
    signed = bytearray(sound)
    signed[42] |= 0x80
    assert jpeg2000_bits(bytes(signed)) == jpeg2000_bits(b"none") == 0
