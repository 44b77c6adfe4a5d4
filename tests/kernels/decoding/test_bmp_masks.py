"""BMP files of any bit fields show what was put in, as far as their bits go."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from odd_files import picture

from dedup_spark.kernels.decoding.bmp_masks import with_usual_masks
from dedup_spark.kernels.decoding.images import ImageRejected, decode_image

LIMITS = {"max_pixels": 10_000_000, "min_side_px": 8}
LAYOUTS = {
    "5-6-5 exchanged": (16, (0x1F, 0x7E0, 0xF800, 0)), "4-4-4-4": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "2-3-1": (16, (0x6000, 0x1C00, 0x200, 0)), "11-11-10": (32, (0xFFE00000, 0x1FFC00, 0x3FF, 0)),
    "10-10-10-2": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
    "8-8-8-8 turned": (32, (0xFF, 0xFF0000, 0xFF00, 0xFF000000)),
}  # fmt: skip


def stored(
    bits: int, masks: tuple[int, ...], *, header_bytes: int = 56, height_sign: int = 1
) -> tuple[bytes, np.ndarray]:
    """A file, and the (64, 96, 4) values that it holds in eight bits."""
    alpha = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))[..., None]
    rgba = np.concatenate([picture(), alpha if masks[3] else np.full_like(alpha, 255)], axis=2).astype(np.uint64)
    words, shown = np.zeros((64, 96), np.uint64), rgba.copy()
    for i, mask in enumerate(masks):
        if mask:
            shift = (mask & -mask).bit_length() - 1
            level = (rgba[..., i] * (mask >> shift) + 127) // 255
            words |= level << np.uint64(shift)
            shown[..., i] = (level * 255 + (mask >> shift) // 2) // (mask >> shift)
    pixels = words.astype(f"<u{bits // 8}")[::-height_sign].tobytes()
    compression = 3 if header_bytes == 56 or not masks[3] else 6
    tail = struct.pack("<4I", *masks) if masks[3] or header_bytes == 56 else struct.pack("<3I", *masks[:3])
    head = struct.pack("<IiiHHIIiiII", header_bytes, 96, 64 * height_sign, 1, bits, compression, 0, 0, 0, 0, 0) + tail
    start = struct.pack("<2sIHHI", b"BM", 14 + len(head) + len(pixels), 0, 0, 14 + len(head))
    return start + head + pixels, shown.astype(np.uint8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("header_bytes", [40, 56])
@pytest.mark.parametrize("height_sign", [1, -1])
def test_any_bit_fields_show_what_was_put_in(layout: str, header_bytes: int, height_sign: int) -> None:
    data, shown = stored(*LAYOUTS[layout], header_bytes=header_bytes, height_sign=height_sign)
    image = decode_image(data, **LIMITS)
    assert image.size == (96, 64)
    assert np.array_equal(np.asarray(image.pixels.convert("RGBA")), shown)


def test_a_file_that_ends_early_claims_too_much_or_has_no_masks_is_left_as_it_is() -> None:
    data, _ = stored(*LAYOUTS["4-4-4-4"])
    with pytest.raises(ImageRejected):
        decode_image(data[:-100], **LIMITS)
    for at, layout, value in (
        (18, "<i", 1 << 30),
        (22, "<i", -(1 << 31)),
        (54, "<I", 0),
        (28, "<H", 24),
        (18, "<i", -96),
    ):
        odd = bytearray(data)
        struct.pack_into(layout, odd, at, value)
        assert list(with_usual_masks(bytes(odd))) == []
    assert list(with_usual_masks(b"BM")) == []
