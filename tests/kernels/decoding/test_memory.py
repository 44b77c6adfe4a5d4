"""What an image is said to need is what it takes, in every format, and it is said before anything is allocated."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator

import bombs
import pytest
from odd_bytes import encoded, psd, tiff, tiff_tags
from odd_files import exif, picture
from PIL import Image

from dedup_spark.kernels.decoding import memory
from dedup_spark.kernels.decoding.images import ImageRejected, OutOfMemory, decode_image, out_of_memory
from dedup_spark.kernels.decoding.memory import ORDINARY_BYTES, NeedsMemory, allowed, require

SIDES = (2000, 1500)
N_PIXELS = SIDES[0] * SIDES[1]
FIXED_BYTES = 24 << 20
"""Of code and tables that a process touches for the first time, whatever the size of the picture."""

_MEASURE = """if True:
    import json, os, pickle, re, sys
    from dedup_spark.kernels.decoding.memory import allowed
    from dedup_spark.kernels.features.signature import SignatureSettings, sign_image
    settings = SignatureSettings(400_000_000, 16, 256, 80, 256)
    def status_bytes(key):
        return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
    def measured(data):
        before = status_bytes("VmRSS")
        with allowed(1 << 50) as allowance:
            sign_image(data, settings)
        return status_bytes("VmHWM") - before, allowance.asked_bytes
    small, name, data = pickle.load(sys.stdin.buffer)
    sign_image(small, settings)
    print(json.dumps(measured(data)))
"""


def pictures(width: int, height: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """One picture in many formats and modes, of which a decoder must hold every pixel."""
    rgb = Image.fromarray(picture()).resize((width, height))
    grey, rgba = rgb.convert("L"), rgb.copy()
    rgba.putalpha(grey)
    yield "jpeg grey", lambda: encoded(grey, "JPEG")
    yield "jpeg", lambda: encoded(rgb, "JPEG")
    yield "jpeg progressive", lambda: encoded(rgb, "JPEG", progressive=True)
    yield "jpeg turned", lambda: encoded(rgb, "JPEG", exif=exif(6))
    yield "jpeg cmyk", lambda: encoded(rgb.convert("CMYK"), "JPEG")
    for mode in ("1", "L", "P", "RGB", "LA"):
        yield f"png {mode}", lambda mode=mode: encoded(rgb.convert(mode), "PNG", compress_level=1)
    yield "png RGBA", lambda: encoded(rgba, "PNG", compress_level=1)
    yield "png RGBA turned", lambda: encoded(rgba, "PNG", compress_level=1, exif=exif(6))
    yield "png key", lambda: encoded(rgb.convert("P"), "PNG", compress_level=1, transparency=3)
    yield "png 16", lambda: bombs.png_of_zeros(width, height, 16, 2)
    yield "png 16 alpha", lambda: bombs.png_of_zeros(width, height, 16, 6)
    yield "tiff 16", lambda: bombs.tiff_of_zeros(width, height, 2, 16, 3)
    yield "tiff float", lambda: bombs.tiff_of_zeros(width, height, 1, 32, 1, {339: (3, [3])})
    yield "tiff bands", lambda: bombs.tiff_of_zeros(width, height, 1, 16, 20)
    yield "tiff", lambda: encoded(rgb, "TIFF", compression="tiff_lzw")
    yield "tiff stored", lambda: tiff((tiff_tags(width, height, 2, 8, 3), rgb.tobytes(), (273, 279)))
    yield "gif", lambda: encoded(rgb, "GIF")
    yield "gif film", lambda: encoded(rgb, "GIF", save_all=True, append_images=[rgb.rotate(180), rgb.rotate(90)])
    yield "webp", lambda: encoded(rgba, "WEBP", method=0)
    yield "webp film", lambda: encoded(rgb, "WEBP", method=0, save_all=True, append_images=[rgb.rotate(180)])
    yield "avif", lambda: encoded(rgba, "AVIF", speed=10)
    yield "heif", lambda: encoded(rgba, "HEIF", quality=20)
    yield "jxl", lambda: encoded(rgba, "JXL", effort=1, lossless=True)
    yield "jpeg 2000", lambda: encoded(rgb, "JPEG2000")
    yield "psd", lambda: psd(bombs.as_array(rgb))
    yield "bmp", lambda: encoded(rgb, "BMP")
    yield "ppm", lambda: encoded(rgb, "PPM")
    yield "tga", lambda: encoded(rgba, "TGA")


NAMES = [name for name, _ in pictures(64, 48)]
QUICK = ("jpeg turned", "png RGBA", "tiff 16")


def measured(name: str) -> tuple[int, int]:
    """By how much the peak of a fresh process grows, and what was asked for."""
    small, large = dict(pictures(64, 48))[name](), dict(pictures(*SIDES))[name]()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE], input=pickle.dumps((small, name, large)), check=True,
        stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    grown, asked = json.loads(done.stdout)
    return grown, asked


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in NAMES]
)
def test_no_picture_takes_more_than_it_asks_for_nor_asks_for_several_times_as_much(name: str) -> None:
    grown, asked = measured(name)
    assert grown <= asked + FIXED_BYTES, f"{grown / N_PIXELS:.1f} bytes per pixel, asked for {asked / N_PIXELS:.1f}"
    assert asked <= 6 * max(grown, 3 * N_PIXELS)


def decoded(data: bytes) -> None:
    decode_image(data, max_pixels=400_000_000, min_side_px=16)


def test_a_picture_that_needs_more_than_is_allowed_says_how_much_and_is_not_decoded() -> None:
    for name, data in {
        "png": bombs.png_of_zeros(20_000, 19_999, 1, 0),
        "webp": bombs.flat_webp(16_000, 16_000),
    }.items():
        with allowed(ORDINARY_BYTES), pytest.raises(NeedsMemory) as needs:
            decoded(data)
        assert needs.value.n_bytes > 1 << 30, name


def test_an_ordinary_picture_needs_no_more_than_is_always_allowed() -> None:
    with allowed(ORDINARY_BYTES) as allowance:
        decoded(encoded(Image.new("RGB", (4000, 3000)), "JPEG"))
    assert 0 < allowance.asked_bytes < ORDINARY_BYTES


def test_a_later_page_is_asked_for_when_it_comes() -> None:
    pages = [Image.new("L", (64, 64), 9), Image.new("L", (6000, 4000))]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    with allowed(ORDINARY_BYTES), pytest.raises(NeedsMemory):
        decoded(data)
    with allowed(1 << 30) as allowance:
        decoded(data)
    assert allowance.asked_bytes > ORDINARY_BYTES


def test_a_tile_much_larger_than_its_picture_is_asked_for() -> None:
    tags = tiff_tags(96, 64, 1, 16, 1, 8) | {322: (4, [16_000]), 323: (4, [16_000])}
    data = tiff((tags, bytes(100), (324, 325)))
    with allowed(ORDINARY_BYTES), pytest.raises(NeedsMemory):
        decoded(data)


def test_without_a_limit_nothing_is_refused() -> None:
    require(1 << 60)
    with allowed(10):
        require(10)
        with pytest.raises(NeedsMemory):
            require(11)
    require(1 << 60)


def test_what_runs_out_of_memory_is_told_from_what_is_damaged() -> None:
    assert isinstance(out_of_memory(MemoryError()), OutOfMemory)
    with pytest.raises(ImageRejected) as rejected:
        decoded(encoded(Image.new("RGB", (64, 64)), "PNG")[:60])
    assert not isinstance(rejected.value, OutOfMemory)


def test_raw_files_are_asked_for_by_their_sensor() -> None:
    assert memory.bytes_of_raw(6000, 4000) > ORDINARY_BYTES
