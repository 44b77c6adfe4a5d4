"""Runs one other program on a folder and prints what it found as lines of JSON: {"cluster": [file names]}.

Called by `accuracy.py` with the Python of an environment that holds the program, so it imports nothing of ours. Each
program runs with the settings that its documentation proposes. Not a benchmark.

    python benchmarks/peers.py imagehash FOLDER
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

MAX_HAMMING_BITS = 4
"""imagehash names no threshold; at 4 of 64 bits its precision on edited photos is about that of the other programs."""


def imagehash(folder: Path) -> Iterator[list[str]]:
    """Pairs of images whose pHashes differ in at most 4 bits."""
    import imagehash as library
    import numpy as np
    from PIL import Image

    paths = _files(folder)
    hashes = np.array([library.phash(Image.open(path)).hash.ravel() for path in paths], np.float32) * 2 - 1
    near = (hashes.shape[1] - hashes @ hashes.T) / 2 <= MAX_HAMMING_BITS
    for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        yield [paths[i].name, paths[j].name]


def fastdup(folder: Path) -> Iterator[list[str]]:
    """The connected components of fastdup at its default threshold."""
    import fastdup as library

    with tempfile.TemporaryDirectory() as work, contextlib.redirect_stdout(sys.stderr):
        program = library.create(work_dir=work, input_dir=str(folder))
        program.run(ccthreshold=0.9, overwrite=True, num_images=0, verbose=False)
        members, _ = program.connected_components()
    for _, component in members.groupby("component_id"):
        yield component["filename"].tolist()


def cleanvision(folder: Path) -> Iterator[list[str]]:
    """The sets of exact and of near duplicates of CleanVision."""
    from cleanvision import Imagelab

    issues = ("exact_duplicates", "near_duplicates")
    with contextlib.redirect_stdout(sys.stderr):
        lab = Imagelab(data_path=str(folder))
        lab.find_issues({issue: {} for issue in issues})
    for issue in issues:
        yield from lab.info[issue]["sets"]


def immaculate(folder: Path, method: str = "pdq") -> Iterator[list[str]]:
    """The sets of exact duplicates of this program, and its sets of near duplicates by PDQ hashes."""
    from immaculate import find_duplicates

    found = find_duplicates(str(folder), method=method)
    yield from ([str(path) for path in members] for members in [*found.exact, *found.near])


def immaculate_sscd(folder: Path) -> Iterator[list[str]]:
    """Its sets by SSCD embeddings, with the same weights as ours, one threshold and connected components."""
    yield from immaculate(folder, "sscd")


PEERS = {peer.__name__: peer for peer in (imagehash, fastdup, cleanvision, immaculate, immaculate_sscd)}


def print_clusters(clusters: Iterable[Iterable[str]]) -> None:
    for members in clusters:
        print(json.dumps({"cluster": [Path(member).name for member in members]}))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


if __name__ == "__main__" and len(sys.argv) == 3:
    print_clusters(PEERS[sys.argv[1]](Path(sys.argv[2])))
