from __future__ import annotations

import json
import pickle
import subprocess
import sys

import hostile_files
import pytest
from odd_bytes import encoded
from odd_files import odd_files
from PIL import Image

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.signature import SignatureSettings
from dedup_spark.stages.reading.decoder_pool import DecoderLimits, DecoderPool

FILES = odd_files()
BY_NAME = {file.name: file for file in FILES}

_IN_LITTLE_MEMORY = """if True:
    import json, pickle, re, resource, sys
    from dedup_spark.kernels.decoding.images import ImageRejected
    from dedup_spark.kernels.features.signature import SignatureSettings, sign_image
    def status_bytes(key):  # ru_maxrss would begin with what the parent held
        return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
    settings = SignatureSettings(400_000_000, 8, 256, 80, 224)
    warm_up, files, allowed_bytes = pickle.load(sys.stdin.buffer)
    for data in warm_up:
        sign_image(data, settings)
    held = status_bytes("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (held + allowed_bytes, held + allowed_bytes))
    before = status_bytes("VmHWM")
    outcomes = {}
    for name, data in files.items():
        try:
            sign_image(data, settings)
            outcomes[name] = "ok"
        except ImageRejected as e:
            outcomes[name] = str(e)
    sys.stdout.write(json.dumps([outcomes, status_bytes("VmHWM") - before]))"""


def in_little_memory(files: dict[str, bytes], allowed_bytes: int) -> tuple[dict[str, str], int]:
    """Sign in a process of its own: (outcome by name, growth of its peak resident memory in bytes)."""
    warm_up = [
        BY_NAME[n].data for n in ("jpeg", "png rgba", "tiff tiff_lzw", "heic", "jxl", "dng", "jp2", "avif", "webp")
    ]
    request = pickle.dumps((warm_up, files, allowed_bytes))
    done = subprocess.run([sys.executable, "-c", _IN_LITTLE_MEMORY], input=request, check=True, stdout=subprocess.PIPE)
    outcomes, grown = json.loads(done.stdout)
    return outcomes, grown


def test_huge_claims_are_refused_before_anything_is_allocated() -> None:
    outcomes, grown = in_little_memory(hostile_files.huge_claims(), 128 << 20)
    refused = {name for name, outcome in outcomes.items() if outcome.startswith("too_many_pixels: ")}
    assert refused == set(outcomes)
    assert not [name for name, outcome in outcomes.items() if "decoder_memory_bytes" in outcome]
    assert grown < 16 << 20


def test_bombs_stay_small() -> None:
    """Half a gigabyte behind a colour profile, a text, the pixels of a PNG or a strip of a TIFF.

    A picture is shown without such a profile or text.
    """
    outcomes, grown = in_little_memory(hostile_files.bombs(), 256 << 20)
    assert {name: outcome.split(":")[0] for name, outcome in outcomes.items()} == {
        "png iccp": "ok", "png ztxt": "ok", "png itxt": "ok", "png idat": "ok", "tiff strip": "ok",
    }  # fmt: skip
    assert grown < 64 << 20


def test_a_large_image_needs_little_more_than_its_pixels() -> None:
    """40 megapixels: Pillow holds 160 MB of them, pHash 40 MB of grey."""
    data = encoded(Image.new("RGB", (8000, 5000), (9, 99, 199)), "TIFF", compression="tiff_adobe_deflate")
    outcomes, grown = in_little_memory({"large": data}, 1 << 30)
    assert outcomes == {"large": "ok"}
    assert grown < 260e6


def test_an_image_too_large_for_the_decoders_memory_is_a_row_that_names_the_setting() -> None:
    data = encoded(Image.new("RGB", (16000, 10000)), "PNG", compress_level=1)
    pool = DecoderPool(1, SignatureSettings(400_000_000, 8, 256, 80, 0), DecoderLimits(512 << 20, 60))
    try:
        with pytest.raises(ImageRejected, match=r"too_many_pixels: .*536,870,912.* extract\.decoder_memory_bytes"):
            pool.sign(data)
        assert pool.sign(BY_NAME["jpeg"].data).width_px == 96  # by the same process
    finally:
        pool.close()
