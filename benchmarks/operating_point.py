"""Claim: the default model setting costs a fraction of SSCD at 224 px and finds nearly every pair that SSCD finds.

Each point (model, input px, views) embeds the same images, in turn and in small chunks, so that whatever else runs on
the machine slows all of them alike; the speed is that of the model alone, as a ratio to the first point. Recall is
that of all pairs of images of one group, at the threshold where precision is 0.99 or 0.999, by cosine and by
normalised cosine. The latter subtracts the mean of the two images' own cosine to their k-th neighbour, as different
pictures that share a template are near each other, but near many others as well.

    python benchmarks/operating_point.py --corpus /my/corpus     # files named <group>__<edit>.<suffix>
    python benchmarks/operating_point.py --quick                 # sample photos with six edits each
"""

from __future__ import annotations

import argparse
import io
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from harness import Table, describe_machine, n_cores, print_json
from PIL import Image, ImageOps

from dedup_spark.commands.demo_lake import SAMPLE_PHOTOS, load_sample_photo
from dedup_spark.config import ExtractSettings
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.decoding.rendering import render
from dedup_spark.kernels.features.model_input import InputSettings, model_input
from dedup_spark.models.registry import load, resolve

CHUNK_IMAGES = 8
"""Images that a point embeds before the next point takes its turn; also those of one forward pass."""
PRECISIONS = (0.99, 0.999)

Images = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


class Point(NamedTuple):
    """Settings under `extract.`; with two views the picture is embedded upright and upside down."""

    embedding: str
    input_px: int
    views: int


POINTS = (
    Point("sscd", 224, 1), Point("sscd", 160, 1), Point("sscd_distilled", 288, 1), Point("sscd_distilled", 256, 1),
    Point("sscd_distilled", 224, 2), Point("sscd_distilled", 224, 1), Point("sscd_distilled", 192, 1),
    Point("sscd_distilled", 160, 2), Point("sscd_distilled", 160, 1), Point("sscd_distilled", 128, 1),
)  # fmt: skip
"""Speed is a ratio to that of the first point."""

PRESETS = {
    "fast": Point("sscd_distilled", 224, 1),
    "balanced": Point("sscd_distilled", 256, 1),
    "accurate": Point("sscd", 224, 1),
}


class File(NamedTuple):
    group: str
    data: bytes


def read_corpus(folder: Path, max_groups: int) -> Iterator[File]:
    """The files of the first `max_groups` groups, in the order of their names; 0: the files of all groups."""
    names = sorted(path.name for path in folder.iterdir() if "__" in path.name)
    groups = sorted({name.split("__")[0] for name in names})[: max_groups or None]
    if len(groups) < 2:
        raise SystemExit(f"--corpus {folder}: expected two or more groups of files named <group>__<edit>.<suffix>")
    for name in names:
        if (group := name.split("__")[0]) <= groups[-1]:
            yield File(group, (folder / name).read_bytes())


def edited_samples() -> Iterator[File]:
    """The sample photos of scikit-image, each with the edits of imagededup's UKBench protocol and a grey thumbnail."""
    for name in SAMPLE_PHOTOS:
        photo = load_sample_photo(name).convert("RGB")
        w, h = photo.size
        edits = (
            photo,
            photo.crop((w // 8, h // 8, w, h)),
            ImageOps.mirror(photo),
            ImageOps.flip(photo),
            photo.rotate(25, Image.Resampling.BICUBIC, expand=True),
            photo.resize((min(w, h), min(w, h)), Image.Resampling.BICUBIC),
            photo.resize((w * 2 // 5, h * 2 // 5), Image.Resampling.LANCZOS).convert("L"),
        )
        for edit in edits:
            out = io.BytesIO()
            edit.save(out, "JPEG", quality=90)
            yield File(name, out.getvalue())


def make_inputs(data: bytes, sides: list[int]) -> dict[int, Images]:
    """The pixels that extract gives the model for one image, for each side of the model's input."""
    limits = ExtractSettings()
    image = decode_image(data, max_pixels=limits.max_pixels, min_side_px=limits.min_side_px)
    inputs = {}
    for side in sides:
        reduced = render(image, max(limits.thumbnail_px, side))
        inputs[side] = model_input(reduced, InputSettings(side))
    return inputs


def embed_all(files: Iterator[File], points: tuple[Point, ...]) -> tuple[list[str], list[Vectors], list[float]]:
    """The group of each image, and for each point the vectors and the cost relative to the first point.

    The cost is the median over chunks of the ratio to the first point within the same chunk.
    """
    settings = [replace(ExtractSettings(), **point._asdict()) for point in points]
    models = [load(resolve(s, on_gpu=False, threads=n_cores())) for s in settings]
    sides = sorted({point.input_px for point in points})
    for model, point in zip(models, points, strict=True):
        model.embed(np.full((CHUNK_IMAGES, point.input_px, point.input_px, 3), 127, np.uint8))
    groups: list[str] = []
    vectors: list[list[Vectors]] = [[] for _ in points]
    seconds: list[list[float]] = []
    while chunk := list(itertools.islice(files, CHUNK_IMAGES)):
        groups += [file.group for file in chunk]
        inputs = [make_inputs(file.data, sides) for file in chunk]
        seconds.append([])
        for i, (model, point) in enumerate(zip(models, points, strict=True)):
            images = np.stack([by_side[point.input_px] for by_side in inputs])
            begin = time.perf_counter()
            vectors[i].append(model.embed(images))
            seconds[-1].append(time.perf_counter() - begin)
    costs = np.array(seconds)
    return groups, [np.concatenate(v) for v in vectors], np.median(costs / costs[:, :1], axis=0).tolist()


def normalised(cosines: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float32]:
    """(n, n) cosines minus the mean of both images' cosine to their k-th neighbour, themselves not counted."""
    others = cosines.copy()
    np.fill_diagonal(others, -2)
    k = min(k, len(cosines) - 1)
    own = np.partition(others, -k, axis=1)[:, -k]
    return cosines - (own[:, None] + own) / 2


def recalls(scores: npt.NDArray[np.float32], groups: npt.NDArray[np.int64]) -> list[float]:
    """Recall of the pairs of one group at the lowest threshold that has each of PRECISIONS; O(n^2 log n)."""
    a, b = np.triu_indices(len(groups), 1)
    order = np.argsort(-scores[a, b], kind="stable")
    ordered, is_true = scores[a, b][order], (groups[a] == groups[b])[order]
    found = np.cumsum(is_true)
    precision = found / np.arange(1, len(found) + 1)
    is_threshold = np.append(ordered[1:] != ordered[:-1], True)  # equal scores pass together or not at all
    return [float(np.max(found[(precision >= wanted) & is_threshold], initial=0) / found[-1]) for wanted in PRECISIONS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder of files named <group>__<edit>.<suffix>")
    parser.add_argument("--groups", type=int, default=0, help="take only so many groups of it")
    parser.add_argument("--k", type=int, default=20, help="the neighbour whose cosine is subtracted")
    parser.add_argument("--quick", action="store_true", help="sample photos, and the points of the presets alone")
    options = parser.parse_args()
    if bool(options.corpus) == options.quick:
        parser.error("name either --corpus or --quick")
    points = tuple(p for p in POINTS if p in PRESETS.values() or p == POINTS[0]) if options.quick else POINTS
    files = edited_samples() if options.quick else read_corpus(options.corpus, options.groups)
    names, vectors, costs = embed_all(files, points)
    groups = np.unique(names, return_inverse=True)[1]
    preset_of = {point: name for name, point in PRESETS.items()}
    table = Table(("preset", *Point._fields, "speed", *(f"{way} {p}" for way in ("raw", "norm") for p in PRECISIONS)))
    figures: dict[str, object] = {"n": len(groups), "k": options.k, "machine": describe_machine()}
    for point, rows, cost in zip(points, vectors, costs, strict=True):
        cosines = rows @ rows.T
        found = [*recalls(cosines, groups), *recalls(normalised(cosines, options.k), groups)]
        table.add(preset_of.get(point, ""), *point, 1 / cost, *(f"{recall:.4f}" for recall in found))
        name = "_".join(map(str, point))
        figures |= {f"speed_{name}": 1 / cost, f"recall_{name}": found[0], f"normalised_recall_{name}": found[2]}
    table.show()
    print_json(figures)


if __name__ == "__main__":
    main()
