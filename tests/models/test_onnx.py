"""ONNX Runtime: files of the user's own, and what is said of broken ones. The rest is in test_conformance.py."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from model_files import a_graph, an_onnx_file
from sample_images import PX, sample_images

from dedup_spark.config import ExtractSettings
from dedup_spark.errors import ArtifactError
from dedup_spark.models import registry
from dedup_spark.models.weights import installed_weights


def settings(**changes: object) -> ExtractSettings:
    return ExtractSettings(**({"input_px": PX} | changes))  # type: ignore[arg-type]


def load_file(path: Path, **changes: object) -> registry.Embedder:
    extract = settings(embedding="onnx", weights=str(path), **changes)
    return registry.load(registry.resolve(extract, on_gpu=False, threads=1))


def test_another_number_of_threads_gives_the_same_bits() -> None:
    for name in ("sscd", "sscd_distilled"):
        one, two = (
            registry.load(registry.resolve(settings(embedding=name), on_gpu=False, threads=n)).embed(sample_images())
            for n in (1, 2)
        )
        assert np.array_equal(one, two)


def test_an_edited_photo_is_near_its_original_and_far_from_the_others() -> None:
    images = sample_images()
    crop = np.asarray(images[0][8:152, 16:150])
    edits = [images[0][:, ::-1], np.stack([crop[np.ix_(np.arange(PX) * 144 // PX, np.arange(PX) * 134 // PX)]])[0]]
    for name in ("sscd", "sscd_distilled"):
        model = registry.load(registry.resolve(settings(embedding=name), on_gpu=False, threads=1))
        cosines = model.embed(np.stack(edits)) @ model.embed(images).T
        assert (cosines[:, 0] > 0.6).all()
        assert (cosines[:, 1:] < 0.4).all()


def test_a_file_of_ones_own_is_named_by_its_hash(tmp_path: Path) -> None:
    file = an_onnx_file(tmp_path / "mine.onnx")
    model = load_file(file)
    assert model.model_id.startswith(f"onnx/{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}/stored/")
    assert model.dimensions == 6


def test_a_uint8_graph_gets_pixels_and_a_float_graph_scaled_planes(tmp_path: Path) -> None:
    """The same maths in both: mean colour through a matrix."""
    images = sample_images()
    raw = load_file(an_onnx_file(tmp_path / "raw.onnx")).embed(images)
    plain = load_file(an_onnx_file(tmp_path / "planes.onnx", planes=True), normalisation="none").embed(images)
    scaled = load_file(an_onnx_file(tmp_path / "planes.onnx", planes=True), normalisation="imagenet").embed(images)
    assert plain == pytest.approx(raw, abs=1e-5)
    assert np.abs(scaled - plain).max() > 0.01


def test_a_uint8_graph_refuses_to_be_scaled_twice(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"extract\.normalisation=none"):
        load_file(an_onnx_file(tmp_path / "raw.onnx"), normalisation="imagenet")


@pytest.mark.parametrize("how", ["empty", "text", "truncated"])
def test_a_file_that_is_no_graph_is_an_artifact_error_that_names_it(tmp_path: Path, how: str) -> None:
    sound = installed_weights("sscd_distilled").read_bytes()
    contents = {"empty": b"", "text": b"version https://git-lfs.github.com/spec/v1\n", "truncated": sound[:100_000]}
    file = tmp_path / "broken.onnx"
    file.write_bytes(contents[how])
    with pytest.raises(ArtifactError, match=f"model weights {file} cannot be loaded"):
        load_file(file)


def test_a_graph_of_two_inputs_is_refused(tmp_path: Path) -> None:
    graph = a_graph()
    graph.graph.input.append(onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, [1]))
    (tmp_path / "two.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(ArtifactError, match="expected a graph with one input"):
        load_file(tmp_path / "two.onnx")


def test_a_graph_that_gives_no_vector_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected \(1, dimensions\)"):
        load_file(an_onnx_file(tmp_path / "flat.onnx", keep_dimensions=True))
