"""Claim: SSCD's ResNet-50 finds more than torchvision's ResNet-50, and a squashed picture more than its centre.

Every model embeds the same images, in turn and in small chunks, so that whatever else runs on the machine slows all of
them alike. Speed is that of the model alone. Recall is that of all pairs of one group at the threshold of precision
0.99, by cosine and by normalised cosine, as in operating_point.py.

    python benchmarks/model_table.py --corpus /my/corpus --weights resnet50-0676ba61.pth
    python benchmarks/model_table.py --photos /my/photos --n-photos 100     # five edits of each photo
    python benchmarks/model_table.py --quick                                # sample photos with six edits each

Without `--weights` the rows of resnet50 run with the convolutions of SSCD, from its installed file, under torchvision's
pooling and without SSCD's head: that measures the way of the pictures, not ImageNet's weights, and the table says so.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from corpora import ukbench
from harness import Table, describe_machine, n_cores, print_json
from operating_point import CHUNK_IMAGES, File, edited_samples, normalised, read_corpus, recalls

from dedup_spark.config import load_config
from dedup_spark.kernels.features.signature import SignatureSettings, input_of_image
from dedup_spark.models.base import Embedder, ModelSettings
from dedup_spark.models.onnx_graph import dequantised, resnet_weights
from dedup_spark.models.registry import load, resolve
from dedup_spark.models.weights import installed_weights

SSCD_TRUNK = "SSCD's convolutions"
_BATCH_NORM_EPSILON = 1e-5


class Candidate(NamedTuple):
    """A row of the table."""

    name: str
    overrides: tuple[str, ...]


def candidates(weights: Path) -> list[Candidate]:
    """The models, each as it is by default and resnet50 in other ways; the speed of the first one is 1."""
    resnet = ("extract.embedding=resnet50", f'extract.weights="{weights}"')
    return [
        Candidate("sscd int8", ("extract.embedding=sscd", "extract.input_px=224")),
        Candidate("sscd fp32", ("extract.embedding=sscd", "extract.input_px=224", "extract.runtime=torch")),
        Candidate("sscd_distilled", ("extract.embedding=sscd_distilled",)),
        Candidate("resnet50", resnet),
        Candidate("resnet50, squashed", (*resnet, "extract.square=squash")),
        Candidate("resnet50, squashed, bicubic", (*resnet, "extract.square=squash", "extract.resize=bicubic")),
    ]


def sscd_trunk(file: Path) -> Path:
    """Writes SSCD's folded convolutions as a state dict of torchvision's ResNet-50.

    Each BatchNorm adds the folded bias and does nothing else; the classifier, which no embedding uses, is zero.
    """
    folded = resnet_weights(dequantised(installed_weights("sscd").read_bytes()))
    state: dict[str, torch.Tensor] = torchvision.models.resnet50(weights=None).state_dict()
    for name, value in state.items():
        layer, _, part = name.rpartition(".")
        if name in folded and part == "weight" and value.ndim == 4:
            state[name] = torch.tensor(folded[name])
        elif value.ndim and layer != "fc":
            bias = folded[_convolution_before(layer) + ".bias"]
            values = {"bias": torch.tensor(bias), "running_var": torch.full(value.shape, 1 - _BATCH_NORM_EPSILON)}
            state[name] = values.get(part, torch.full(value.shape, float(part == "weight")))
        else:
            state[name] = torch.zeros_like(value)
    torch.save(state, file)
    return file


def _convolution_before(norm: str) -> str:
    """`layer1.0.conv2` of `layer1.0.bn2`, and `layer1.0.downsample.0` of `layer1.0.downsample.1`."""
    return (
        norm.removesuffix("downsample.1") + "downsample.0"
        if norm.endswith("downsample.1")
        else norm.replace("bn", "conv")
    )


def edited(photos: list[Path]) -> Iterator[File]:
    """The photos with the five edits of imagededup's UKBench protocol."""
    for name, data in ukbench([photo.read_bytes() for photo in photos]):
        yield File(name.split("__")[0], data)


def inputs_of(data: bytes, model: ModelSettings) -> npt.NDArray[np.uint8]:
    """The pixels that extract gives the model."""
    limits = load_config().extract
    made: dict[str, Any] = {"input_px": model.input_px, "resize": model.input.resize, "square": model.input.square}
    settings = SignatureSettings(
        limits.max_pixels, limits.min_side_px, limits.thumbnail_px, limits.thumbnail_quality, **made
    )
    return input_of_image(data, settings)


def embed_all(
    files: Iterator[File], models: list[ModelSettings], device: str
) -> tuple[list[str], list[npt.NDArray[np.float32]], npt.NDArray[np.float64]]:
    """The group of each image; of each model the vectors, and the median seconds per image of its chunks."""
    loaded: list[Embedder] = [load(model, device) for model in models]
    groups: list[str] = []
    vectors: list[list[npt.NDArray[np.float32]]] = [[] for _ in models]
    seconds: list[list[float]] = []
    while chunk := list(itertools.islice(files, CHUNK_IMAGES)):
        groups += [file.group for file in chunk]
        seconds.append([])
        for i, (embedder, model) in enumerate(zip(loaded, models, strict=True)):
            images = np.stack([inputs_of(file.data, model) for file in chunk])
            begin = time.perf_counter()
            vectors[i].append(embedder.embed(images))
            seconds[-1].append((time.perf_counter() - begin) / len(chunk))
    return groups, [np.concatenate(v) for v in vectors], np.median(np.array(seconds[1:] or seconds), axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder of files named <group>__<edit>.<suffix>")
    parser.add_argument("--photos", type=Path, help="folder of distinct photos")
    parser.add_argument("--n-photos", type=int, default=100, help="take only so many of them")
    parser.add_argument("--weights", type=Path, help="torchvision's state dict of ResNet-50")
    parser.add_argument("--quick", action="store_true", help="sample photos")
    options = parser.parse_args()
    if sum(map(bool, (options.corpus, options.photos, options.quick))) != 1:
        parser.error("name one of --corpus, --photos and --quick")
    with tempfile.TemporaryDirectory() as scratch:
        weights = options.weights or sscd_trunk(Path(scratch) / "sscd_trunk.pth")
        chosen = candidates(weights.absolute())
        models = [resolve(load_config(None, c.overrides).extract, on_gpu=False, threads=n_cores()) for c in chosen]
        if options.corpus:
            files = read_corpus(options.corpus, 0)
        else:
            photos = sorted(options.photos.iterdir())[: options.n_photos] if options.photos else []
            files = edited(photos) if photos else edited_samples()
        names, vectors, seconds = embed_all(files, models, "cpu")
    groups = np.unique(names, return_inverse=True)[1]
    table = Table(("model", "weights", "input", "dimensions", "images/s", "speed", "raw 0.99", "normalised 0.99"))
    figures: dict[str, object] = {"n": len(groups), "groups": len(set(names)), "machine": describe_machine()}
    for candidate, model, rows, own in zip(chosen, models, vectors, seconds, strict=True):
        cosines = rows @ rows.T
        raw, normal = recalls(cosines, groups)[0], recalls(normalised(cosines, 20), groups)[0]
        own_weights = "installed" if not model.weights else options.weights.name if options.weights else SSCD_TRUNK
        table.add(candidate.name, own_weights, model.input.name, rows.shape[1], 1 / own, seconds[0] / own,
                  f"{raw:.4f}", f"{normal:.4f}")  # fmt: skip
        figures |= {f"recall_{candidate.name}": raw, f"normalised_{candidate.name}": normal}
    table.show()
    print_json(figures)


if __name__ == "__main__":
    main()
