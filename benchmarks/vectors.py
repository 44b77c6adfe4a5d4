"""Generates unit vectors distributed as SSCD embeddings of photos, with planted duplicates. No claim; others use it.

A vector is a mean, plus a Gaussian with a decaying spectrum, plus a share of one of many topics whose sizes follow
Zipf's law, scaled to length 1. The five parameters of this are fitted (`vectors.json`) until a sample of the same size
has the spectrum, the neighbour distances and the distribution of all cosines of real embeddings. The vectors hold
nothing of the photos. Topics are weak (a tenth of the length) and of every size, so that k-means finds no clean
clusters to route by, as in real lakes; vectors around planted centres make any routed index seem faster than it is.

    python benchmarks/vectors.py --photos /my/photos         # check the fit: real and generated side by side
    python benchmarks/vectors.py --photos /my/photos --fit   # fit again and write vectors.json
    python benchmarks/vectors.py --quick                     # the statistics of 500 generated vectors, two seeds
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from harness import Table, print_json
from scipy.optimize import minimize

from dedup_spark.config import ExtractSettings
from dedup_spark.kernels.arrays import Float16, Float32
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.signature import SignatureSettings, sign_image
from dedup_spark.models.registry import load, resolve

FIT_FILE = Path(__file__).with_name("vectors.json")
DIMENSIONS = 512
N_TOPICS = 20_000
PLANTED_SHARE, TEMPLATE_SHARE, TEMPLATE_COSINE = 0.05, 0.02, 0.3
_BLOCK_ROWS = 65_536
_EIGENVALUES = (0, 1, 2, 5, 10, 20, 50, 100, 150, 200, 250, 300, 350, 400, 450)
_NEIGHBOURS, _NEIGHBOUR_SHARES = (1, 5, 20), (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_COSINE_SHARES = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)


@dataclass(frozen=True)
class Fit:
    """Eigenvalue i falls as exp(-decay i / 512); length of the mean before scaling; mean share of the squared length
    that a topic gives, and the shape of that share's gamma distribution; Zipf's exponent of the topics' sizes."""

    decay: float
    mean: float
    topic_share: float
    topic_shape: float
    zipf: float


def load_fit() -> Fit:
    return Fit(**json.loads(FIT_FILE.read_text())["fit"])


@dataclass(frozen=True, eq=False)
class Background:
    """Vectors without planted duplicates, drawn in any number of parts.

    `deviation` and `mean` (512,), `topics` (20,000, 512), and `weights` (20,000,): how often each topic is drawn.
    """

    fit: Fit
    deviation: Float32
    topics: Float32
    mean: Float32
    weights: npt.NDArray[np.float64]

    @classmethod
    def of(cls, fit: Fit, rng: np.random.Generator) -> Self:
        deviation = np.exp(-fit.decay * np.arange(DIMENSIONS) / DIMENSIONS / 2).astype(np.float32)
        deviation /= np.linalg.norm(deviation)
        weights = (np.arange(N_TOPICS) + 1.0) ** -fit.zipf
        topics = rng.standard_normal((N_TOPICS, DIMENSIONS), dtype=np.float32) * deviation
        mean = rng.standard_normal(DIMENSIONS, dtype=np.float32) * deviation * fit.mean
        return cls(fit, deviation, topics, mean, weights / weights.sum())

    def draw(self, n: int, rng: np.random.Generator) -> Float32:
        """(n, 512) unit vectors."""
        found = np.empty((n, DIMENSIONS), np.float32)
        for start in range(0, n, _BLOCK_ROWS):
            x = found[start : start + _BLOCK_ROWS]
            drawn = rng.gamma(self.fit.topic_shape, self.fit.topic_share / self.fit.topic_shape, len(x))
            share = np.minimum(drawn, 0.9).astype(np.float32)[:, None]
            rng.standard_normal(out=x, dtype=np.float32)
            x *= np.sqrt(1 - share) * self.deviation
            x += np.sqrt(share) * self.topics[rng.choice(N_TOPICS, len(x), p=self.weights)] + self.mean
            x /= np.linalg.norm(x, axis=1, keepdims=True)
        return found


def background(n: int, fit: Fit, rng: np.random.Generator) -> Float32:
    """(n, 512) unit vectors without planted duplicates."""
    return Background.of(fit, rng).draw(n, rng)


def group_sizes(n: int, largest: int, rng: np.random.Generator) -> list[int]:
    """Sizes of groups, in all about PLANTED_SHARE of n: `largest`, its fifths, and the rest 2 to 50, mostly 2 and 3."""
    sizes, left = [], n * PLANTED_SHARE
    size = min(largest, int(left / 2))
    while size > 50:
        sizes.append(size)
        left -= size
        size //= 5
    weights = np.arange(2, 51) ** -2.5
    while left >= 2:
        sizes.append(int(rng.choice(np.arange(2, 51), p=weights / weights.sum())))
        left -= sizes[-1]
    return sizes


def lake_vectors(n: int, seed: int, largest: int) -> Float16:
    """(n, 512) float16: background, one skewed cell, and planted groups whose members have cosine 0.5 to 1 to one."""
    rng = np.random.default_rng(seed)
    fit = load_fit()
    x = background(n, fit, rng)
    sizes = group_sizes(n, largest, rng)
    places = rng.permutation(n)
    n_template = int(TEMPLATE_SHARE * n)
    members, places = places[:n_template], places[n_template:]
    if n_template:
        x[members] = at_cosine(x[members[0]], x[members], np.full(n_template, np.sqrt(TEMPLATE_COSINE), np.float32))
    for size in sizes:
        members, places = places[:size], places[size:]
        cosine = rng.uniform(0.5, 1, len(members) - 1).astype(np.float32)
        x[members[1:]] = at_cosine(x[members[0]], x[members[1:]], cosine)
    return x.astype(np.float16)


def at_cosine(base: Float32, others: Float32, cosine: Float32) -> Float32:
    """`others` turned towards `base` (512,) until their cosines to it are `cosine` (m,)."""
    base = base.copy()
    apart = others - (others @ base)[:, None] * base
    apart /= np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-6)
    return cosine[:, None] * base + np.sqrt(1 - cosine**2)[:, None] * apart


# --- the fit ------------------------------------------------------------------------------------------------


def profile(x: Float32) -> dict[str, npt.NDArray[np.float64]]:
    """The statistics that are compared: eigenvalues, quantiles of the neighbours' and of all cosines, the mean."""
    cosine = x @ x.T
    apart = cosine[np.triu_indices(len(x), 1)]
    np.fill_diagonal(cosine, -1)
    nearest = -np.sort(-cosine, axis=1)[:, : max(_NEIGHBOURS)]
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    return {
        "eigenvalues": eigenvalues[list(_EIGENVALUES)],
        "neighbours": np.array([np.quantile(nearest[:, k - 1], _NEIGHBOUR_SHARES) for k in _NEIGHBOURS]),
        "cosines": np.quantile(apart, _COSINE_SHARES),
        "deviation": np.array([apart.mean(), apart.std(), np.linalg.norm(x.mean(axis=0))]),
    }


def generated_profile(fit: Fit, n: int, seeds: range) -> dict[str, npt.NDArray[np.float64]]:
    profiles = [profile(background(n, fit, np.random.default_rng(seed))) for seed in seeds]
    return {name: np.mean([found[name] for found in profiles], axis=0) for name in profiles[0]}


def distance(real: dict[str, npt.NDArray[np.float64]], made: dict[str, npt.NDArray[np.float64]]) -> float:
    """Mean squared differences: of logs for eigenvalues and neighbours, of hundredths for cosines."""
    logs = {name: np.mean(np.log(made[name] / real[name]) ** 2) for name in ("eigenvalues", "neighbours")}
    plain = {name: np.mean((made[name] - real[name]) ** 2) / 0.05**2 for name in ("cosines", "deviation")}
    return float(logs["eigenvalues"] + 4 * logs["neighbours"] + 0.5 * sum(plain.values()))


def fit_to(real: dict[str, npt.NDArray[np.float64]], n: int) -> Fit:
    """Nelder and Mead from the committed fit, 60 evaluations at three seeds; about two minutes for 500 vectors."""

    def loss(numbers: npt.NDArray[np.float64]) -> float:
        if numbers.min() <= 0 or numbers[2] > 0.6:
            return 100.0
        return distance(real, generated_profile(Fit(*numbers), n, range(3)))

    start = np.array(list(asdict(load_fit()).values()))
    simplex = np.vstack([start, *(start * (1 + 0.3 * row) for row in np.eye(len(start)))])
    found = minimize(loss, start, method="Nelder-Mead", options={"maxfev": 60, "initial_simplex": simplex})
    return Fit(*(float(f"{number:.4g}") for number in found.x))


def embed_photos(folder: Path, model: str, input_px: int) -> Float32:
    """(n, 512) embeddings of the readable files of a folder."""
    extract = replace(ExtractSettings(), embedding=model, input_px=input_px)
    embedder, vectors = load(resolve(extract, on_gpu=False, threads=2)), []
    settings = SignatureSettings(400_000_000, 16, 256, 80, input_px)
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        try:
            pixels = sign_image(path.read_bytes(), settings).model_input
        except ImageRejected:
            continue
        if pixels is not None:
            vectors.append(embedder.embed(pixels[None])[0])
    return np.stack(vectors).astype(np.float32)


def show(real: dict[str, npt.NDArray[np.float64]] | None, made: dict[str, npt.NDArray[np.float64]]) -> None:
    """Prints real and generated statistics side by side; without photos, the real ones that the fit was made on."""
    table = Table(("what", "real", "generated"))
    names = [f"eigenvalue {i + 1}" for i in _EIGENVALUES]
    names += [f"neighbour {k}, {share:.0%} quantile" for k in _NEIGHBOURS for share in _NEIGHBOUR_SHARES]
    names += [f"all cosines, {share:.2%} quantile" for share in _COSINE_SHARES]
    names += ["mean cosine", "deviation of cosines", "length of the mean"]
    sides = [np.concatenate([side[key].ravel() for key in made]) if side else None for side in (real, made)]
    for i, name in enumerate(names):
        table.add(name, *("" if side is None else f"{side[i]:.4f}" for side in sides))
    table.show()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photos to compare with")
    parser.add_argument("--model", default="sscd", choices=("sscd", "sscd_distilled"))
    parser.add_argument("--fit", action="store_true", help="fit again and write vectors.json")
    parser.add_argument("--quick", action="store_true", help="two seeds instead of four")
    options = parser.parse_args()
    stored = json.loads(FIT_FILE.read_text())
    n = stored["n_photos"]
    if options.photos:
        vectors = embed_photos(options.photos, options.model, 224)
        real, n = profile(vectors), len(vectors)
        if options.fit:
            fit = fit_to(real, n)
            figures = {name: np.round(values, 5).tolist() for name, values in real.items()}
            stored = {"model": options.model, "n_photos": n, "fit": asdict(fit), "real": figures}
            FIT_FILE.write_text(json.dumps(stored, indent=1) + "\n")
    else:
        real = {name: np.array(values) for name, values in stored["real"].items()}
    made = generated_profile(load_fit(), n, range(100, 102 if options.quick else 104))
    show(real, made)
    print_json({"n": n, "distance": distance(real, made), **asdict(load_fit())})


if __name__ == "__main__":
    main()
