"""PyTorch: the networks against other implementations, memory that runs out, devices that are not there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from model_files import a_graph, a_resnet, a_resnet_file, a_torchscript_file
from onnx import helper
from sample_images import PX, sample_images

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import ArtifactError, ConfigError
from dedup_spark.models import registry, torch_resnet, torch_runtime
from dedup_spark.models.base import ModelSettings
from dedup_spark.models.torch_runtime import TorchEmbedder, batch_that_fits
from dedup_spark.models.weights import sha256_of

MEAN, STD = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)


def resolved(**changes: object) -> ModelSettings:
    extract = ExtractSettings(**({"embedding": "sscd", "input_px": PX, "runtime": "torch"} | changes))  # type: ignore[arg-type]
    return registry.resolve(extract, on_gpu=False, threads=1)


def pinned(file: Path) -> dict[str, object]:
    """Settings that name the file and its digest, which a program needs."""
    return {"weights": str(file), "weights_sha256": sha256_of(file.read_bytes())}


def planes(images: np.ndarray) -> torch.Tensor:
    """As torchvision's transforms give them."""
    return torch.from_numpy(((images - MEAN) / STD).transpose(0, 3, 1, 2).copy())


def unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors).numpy()


def test_our_resnet_is_torchvisions_where_weights_are_the_same(tmp_path: Path) -> None:
    network = a_resnet()
    network.fc = torch.nn.Identity()
    with torch.inference_mode():
        theirs = unit(network(planes(sample_images())))
    ours = registry.load(resolved(embedding="resnet50", weights=str(a_resnet_file(tmp_path / "w.pth"))))
    assert ours.dimensions == 2048
    assert ours.embed(sample_images()) == pytest.approx(theirs, abs=1e-5)


def test_sscd_from_a_state_dict_is_that_trunk_with_gem_pooling_and_its_head(tmp_path: Path) -> None:
    network = a_resnet(512)
    with torch.inference_mode():
        x = planes(sample_images())
        for name, layer in list(network.named_children())[:-2]:
            x = layer(x)
            assert name != "avgpool"
        pooled = torch.mean(torch.clamp(x, min=1e-6) ** 3, dim=(2, 3)) ** (1 / 3)
        theirs = unit(network.fc(pooled))
    file = a_resnet_file(tmp_path / "w.pt", 512, "backbone.")
    ours = registry.load(resolved(embedding="sscd", weights=str(file))).embed(sample_images())
    assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("how", ["text", "truncated", "other shapes", "no dict", "missing keys"])
def test_a_state_dict_of_another_network_is_an_artifact_error_never_drawn_weights(tmp_path: Path, how: str) -> None:
    file = tmp_path / "w.pth"
    state = a_resnet().state_dict()
    if how == "truncated":
        a_resnet_file(file)
        file.write_bytes(file.read_bytes()[:1_000_000])
    elif how == "text":
        file.write_text("not weights")
    else:
        other = {"other shapes": state | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, "no dict": torch.zeros(3),
                 "missing keys": {k: v for k, v in state.items() if "layer3" not in k}}  # fmt: skip
        torch.save(other[how], file)
    with pytest.raises(ArtifactError, match=f"model weights {file} cannot be loaded"):
        registry.load(resolved(embedding="resnet50", weights=str(file)))


def test_a_state_dict_cannot_run_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"fc.weight": Trap()}, tmp_path / "w.pth")
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        registry.load(resolved(embedding="resnet50", weights=str(tmp_path / "w.pth")))
    assert not (tmp_path / "sprung").exists()


def test_what_is_no_torchscript_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        registry.load(resolved(embedding="torchscript", **pinned(a_resnet_file(tmp_path / "w.pth"))))


def test_a_torchscript_file_gets_scaled_planes(tmp_path: Path) -> None:
    file = a_torchscript_file(tmp_path / "m.pt")
    with torch.inference_mode():
        theirs = unit(torch.jit.load(str(file))(planes(sample_images())))
    ours = registry.load(resolved(embedding="torchscript", **pinned(file))).embed(sample_images())
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_graph_with_an_operator_that_is_not_known_here_is_refused_by_name(tmp_path: Path) -> None:
    graph = a_graph()
    graph.graph.node.append(helper.make_node("Softmax", ["vector"], ["other"]))
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(ArtifactError, match=r"not known in PyTorch here: Softmax; use extract\.runtime=onnx"):
        registry.load(resolved(embedding="onnx", weights=str(tmp_path / "m.onnx")))


def test_a_quantised_graph_of_another_network_is_not_taken_for_sscd() -> None:
    from dedup_spark.models.onnx_graph import dequantised, resnet_weights

    with pytest.raises(ArtifactError, match="0 of the 54 layers"):
        resnet_weights(dequantised(a_graph().SerializeToString()))
    with pytest.raises(ArtifactError, match="cannot be parsed as ONNX"):
        dequantised(b"")
    assert onnx.__version__


class Small(torch.nn.Module):
    """Mean colour in a device that holds `room` images at once; bad images give what `bad` says."""

    def __init__(self, room: int = 1000, error: Exception | None = None, bad: float | None = None) -> None:
        super().__init__()
        self.room, self.error, self.bad, self.seen = room, error, bad, list[int]()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > self.room:
            raise self.error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.seen.append(len(pixels))
        colour = pixels.float().mean((1, 2)) + 1
        return colour if self.bad is None or len(pixels) == 1 else colour * self.bad


@pytest.mark.parametrize("error", [None, RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_a_batch_that_does_not_fit_is_halved_for_good_and_no_row_is_lost(error: Exception | None) -> None:
    network = Small(room=3, error=error)
    model = TorchEmbedder(network, resolved(), "cpu")
    images = np.concatenate([sample_images()] * 3)
    rows = model.embed(images)
    assert rows == pytest.approx(TorchEmbedder(Small(), resolved(), "cpu").embed(images), abs=1e-6)
    assert model.max_batch_images == 2
    assert network.seen[1:] == [2] * 18  # the first is the probe
    model.embed(images[:4])
    assert network.seen[-2:] == [2, 2]


def test_one_image_that_does_not_fit_is_an_error_that_says_what_to_change() -> None:
    model = TorchEmbedder(Small(), resolved(), "cpu")
    model._network.room = 0
    with pytest.raises(ConfigError, match=r"memory does not hold one image; lower extract\.input_px"):
        model.embed(sample_images())


def test_other_errors_of_a_network_are_not_taken_for_a_full_memory() -> None:
    model = TorchEmbedder(Small(room=1, error=RuntimeError("shapes do not fit")), resolved(), "cpu")
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        model.embed(sample_images())


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0])
def test_a_vector_without_a_direction_is_an_artifact_error_not_a_row(bad: float) -> None:
    model = TorchEmbedder(Small(bad=bad), resolved(), "cpu")
    with pytest.raises(ArtifactError, match="gave a vector that is zero or not finite"):
        model.embed(sample_images())


@pytest.mark.parametrize(
    ("free", "per_image", "most", "n"),
    [(8e9, 1e7, 512, 512), (1e9, 1e7, 512, 64), (1e9, 1e7, 50, 50), (1e6, 1e7, 512, 1), (0, 1e7, 512, 1)],
)
def test_batches_are_powers_of_two_that_leave_room(free: float, per_image: float, most: int, n: int) -> None:
    assert batch_that_fits(free, per_image, most) == n
    assert n == 1 or n * per_image <= 0.8 * free


def test_a_gpu_that_is_not_there_is_an_error_and_never_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"holds GPU 0, and PyTorch .* sees 0 CUDA devices"):
        registry.load(resolved(embedding="sscd_distilled"), "cuda:0")


@pytest.mark.parametrize(("address", "index"), [("1", 1), ("GPU-b", 1), ("GPU-a", 0)])
def test_an_address_is_the_number_or_the_uuid_of_a_device(
    monkeypatch: pytest.MonkeyPatch, address: str, index: int
) -> None:
    class Properties:
        def __init__(self, i: int) -> None:
            self.uuid = "ab"[i]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", Properties)
    assert torch_runtime.open_device(f"cuda:{address}") == torch.device("cuda", index)
    with pytest.raises(ConfigError, match="holds GPU 2"):
        torch_runtime.open_device("cuda:2")


def test_batch_norm_is_folded_away() -> None:
    trunk = a_resnet()
    torch_resnet._fold(trunk)
    assert not [m for m in trunk.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(m.bias is not None for m in trunk.modules() if isinstance(m, torch.nn.Conv2d))
