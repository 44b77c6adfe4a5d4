"""Values of images whose bytes are at hand: those of a signature, one by one, and what becomes of bad images."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image
from tiny_lake import TinyLake, build_tiny_lake

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.signature import PARTS, SignatureSettings, sign_image
from dedup_spark.models.registry import load, resolve
from dedup_spark.spark import gpus
from dedup_spark.stages.reading import contents

PLAIN = ExtractSettings()
SIGNATURE = SignatureSettings(PLAIN.max_pixels, PLAIN.min_side_px, 256, 80, 256)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> TinyLake:
    return build_tiny_lake(tmp_path_factory.mktemp("lake"))


def files_of(lake: TinyLake, *paths: str) -> list[bytes]:
    return [(lake.folder / path).read_bytes() for path in paths]


def test_every_part_is_that_of_the_signature_of_the_same_bytes(lake: TinyLake) -> None:
    files = files_of(lake, *lake.truth)
    found = list(contents.parts_of(files, tuple(PARTS), PLAIN))
    for data, row in zip(files, found, strict=True):
        signature = sign_image(data, SIGNATURE)
        assert set(row) == set(PARTS)
        assert np.array_equal(row.pop("model_input"), signature.model_input)
        del row["dhash"]
        assert row == {name: getattr(signature, name) for name in row}


def test_dhash_has_the_bits_of_imagehash(lake: TinyLake) -> None:
    paths = ["edits/original.jpg", "formats/chelsea.png", "modes/palette.png", "modes/cmyk.jpg"]
    for path, row in zip(paths, contents.parts_of(files_of(lake, *paths), ("dhash",), PLAIN), strict=True):
        with Image.open(lake.folder / path) as image:
            bits = imagehash.dhash(image).hash.ravel()
        assert row["dhash"] == int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


def test_parts_from_thumbnails_are_those_of_extract_from_thumbnails(lake: TinyLake) -> None:
    [data] = files_of(lake, "edits/original.jpg")
    [row] = contents.parts_of([data], ("model_input",), replace(PLAIN, embed_from="thumbnail"))
    signature = sign_image(data, replace(SIGNATURE, from_thumbnail=True))
    assert np.array_equal(row["model_input"], signature.model_input)


def test_the_setting_of_pixels_reaches_the_decoders(lake: TinyLake) -> None:
    out = io.BytesIO()
    Image.open(lake.folder / "edits/original.jpg").resize((1300, 1030)).save(out, "JPEG")
    [full], [scaled] = (
        list(contents.parts_of([out.getvalue()], ("pixel_hash", "width_px"), replace(PLAIN, pixels=pixels)))
        for pixels in ("full", "scaled")
    )
    assert full["width_px"] == scaled["width_px"] == 1300
    assert (full["pixel_hash"][:9] == "scaled-2:", scaled["pixel_hash"][:9] == "scaled-2:") == (False, True)


def test_bad_images_are_values_with_the_reason_of_features_and_nulls_stay_nulls(lake: TinyLake) -> None:
    files = [None, *files_of(lake, *lake.rejects), None]
    null, *rejected, last = contents.parts_of(files, ("phash", "thumbnail"), PLAIN)
    assert null == last == {}
    assert [row["reject_reason"] for row in rejected] == list(lake.rejects.values())
    assert all(row["reject_message"] for row in rejected)
    assert {key for row in rejected for key in row} == {"reject_reason", "reject_message"}


def test_a_path_in_place_of_bytes_is_said() -> None:
    with pytest.raises(TypeError, match="BINARY, as `content` of Spark's binaryFile; found str"):
        list(contents.parts_of(["/lake/a.jpg"], ("phash",), PLAIN))  # type: ignore[list-item]


def test_a_time_out_of_the_decoder_is_the_value_of_that_image_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def derive(data: bytes) -> dict[str, int]:
        if data == b"hang":
            raise ImageRejected("decoder_timeout", "no answer in 120 s")
        return {"phash": len(data)}

    monkeypatch.setattr(contents, "_decoders", lambda *_: SimpleNamespace(derive=derive))
    assert list(contents.parts_of([b"a", b"hang", b"abc"], ("phash",), PLAIN)) == [
        {"phash": 1}, {"reject_reason": "decoder_timeout", "reject_message": "no answer in 120 s"}, {"phash": 3},
    ]  # fmt: skip


def test_embeddings_are_those_of_the_model_whatever_lies_between(lake: TinyLake) -> None:
    good = files_of(lake, "edits/original.jpg", "formats/chelsea.png", "photos/coffee.jpg")
    rows = list(contents.embeddings_of([good[0], None, b"no image", *good[1:]], PLAIN))
    settings = resolve(PLAIN, on_gpu=False, threads=1)
    inputs = [sign_image(data, SIGNATURE).model_input for data in good]
    wanted = load(settings).embed(np.stack([pixels for pixels in inputs if pixels is not None])).astype("<f2")
    found = [np.frombuffer(row["embedding"], "<f2") for row in rows if "embedding" in row]
    assert np.allclose(np.stack(found).astype(float), wanted.astype(float), atol=2e-3)
    assert [row.get("model_id") for row in rows] == [settings.model_id, None, None, *[settings.model_id] * 2]
    assert rows[2]["reject_reason"] == "not_an_image"


def test_a_model_is_resolved_once_per_worker_and_on_the_gpu_only_where_the_task_holds_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert contents._model_task(PLAIN, False, 1) is contents._model_task(PLAIN, False, 1)
    assert contents._model_task(PLAIN, False, 1).share == gpus.TaskShare(1, 0.0)
    on_gpu = contents._model_task(PLAIN, True, 4)
    assert (on_gpu.model.runtime, on_gpu.model.numbers, on_gpu.batch_images) == ("torch", "fp16", 256)
    held = SimpleNamespace(resources=lambda: {"gpu": SimpleNamespace(addresses=["3"])}, cpus=lambda: 4)
    for task, asked, holds in [
        (held, PLAIN, True),
        (None, PLAIN, False),
        (held, replace(PLAIN, gpus_per_task=0.0), False),
    ]:
        monkeypatch.setattr(gpus.TaskContext, "get", lambda task=task: task)
        assert contents._holds_gpu_for(asked) is holds
    monkeypatch.setattr(gpus.TaskContext, "get", lambda: held)
    assert gpus.device_of_task(on_gpu.share.gpus) == "cuda:3"


def test_the_model_of_a_call_goes_before_the_settings_with_its_own_weights() -> None:
    own = replace(PLAIN, embedding="onnx", weights="/models/own.onnx", weights_sha256="a" * 64)
    assert contents.choice_of(own, None, None, None) == own
    assert contents.choice_of(own, "sscd", None, None) == replace(PLAIN, embedding="sscd")
    other = contents.choice_of(PLAIN, "onnx", "/models/b.onnx", "b" * 64)
    assert (other.embedding, other.weights, other.weights_sha256) == ("onnx", "/models/b.onnx", "b" * 64)
    with pytest.raises(ConfigError, match=r"extract\.embedding must be one of sscd"):
        contents.choice_of(PLAIN, "ssdc", None, None)
    with pytest.raises(ConfigError, match=r"extract\.embedding=off is no model to run"):
        contents.choice_of(PLAIN, "off", None, None)


def test_results_come_in_order_and_few_items_are_taken_ahead() -> None:
    taken: list[int] = []
    lock, at_once, most = threading.Lock(), 0, 0

    def items() -> Any:
        for i in range(50):
            taken.append(i)
            yield i

    def read(i: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.002 * (i % 3))
        with lock:
            at_once -= 1
        return i

    results = contents.in_order(read, items(), 4)
    assert next(results) == 0
    assert len(taken) <= 6
    assert [0, *results] == list(range(50))
    assert most <= 4
