"""What `make package` builds for the tests: twice without its packages, and once, for those that fetch, with them."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from processes import ROOT

from platforms.jars import built_once
from platforms.runs import FinishedFolder


@pytest.fixture(scope="session")
def package() -> ModuleType:
    """conf/package.py."""
    spec = importlib.util.spec_from_file_location("package_for_platforms", ROOT / "conf/package.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks there for the module's annotations
    spec.loader.exec_module(module)
    return module


def _built(package: ModuleType, name: str, folder: Path) -> Path:
    """As `make package` builds it, with requirements of one line: no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "pinned", lambda *_: "pillow==13.0.0\n")
        package.build(package.PLATFORMS[name], folder, ["cpu"], "x86_64")
    return folder


@pytest.fixture(scope="session")
def built_context(package: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The context of the image."""
    return _built(package, "k8s", tmp_path_factory.mktemp("k8s"))


@pytest.fixture(scope="session")
def built_bundle(package: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of Databricks."""
    return _built(package, "databricks", tmp_path_factory.mktemp("databricks"))


@pytest.fixture(scope="session")
def packed(package: ModuleType) -> Path:
    """The environment.tar.gz of nodes without GPUs and with the Python of this machine, as `make package` builds it."""
    parts = [*package.LOCKS, ROOT / "pyproject.toml", ROOT / "conf/package.py"]
    key = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:12]
    extras = ["cpu", "s3", "weights"]
    folder = built_once(
        f"environment-{key}", lambda partial: package.build(package.PLATFORMS["standalone"], partial, extras, "x86_64")
    )
    return folder / "environment.tar.gz"


@pytest.fixture(scope="session")
def finished_folder(finished_root: Path) -> FinishedFolder:
    """The tiny lake and the tables of a local run over it, made by a process that has ended: no session is here."""
    return FinishedFolder(finished_root / "lake", finished_root / "tables")
