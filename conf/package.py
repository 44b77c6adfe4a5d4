"""Builds what a platform needs into build/package/<platform>, every package pinned: `make package PLATFORM=emr`.

    python conf/package.py emr
    python conf/package.py standalone --extras cpu,raw,heif,s3    nodes without GPUs
    python conf/package.py emr --extras gpu,raw,heif,s3,weights   with the default model, inside your organisation
    python conf/package.py --lock                                 pin again what only clusters install

Versions are those of requirements.lock, with which the tests ran, and those of conf/clusters.lock for what the tests do
without. Nothing else is taken: with another Pillow, say, a run would read its whole lake again. Wheels are chosen for
the Python, system and processor of the nodes, so that this machine may be another one; none is built here.

    emr, standalone   environment.tar.gz: a virtual environment that begins with a Python of the nodes; emr: also code/
    k8s               the context of `docker build`: Dockerfile, wheel, requirements with the hash of each file, code/
    databricks        an asset bundle: databricks.yml, wheel, requirements, the job, a notebook
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
BUILT = ROOT / "build" / "package"
LOCKS = (ROOT / "requirements.lock", CONF / "clusters.lock")
CODE = ("dedup_spark", "jobs", "conf", "spark-submit.sh")
EXTRAS = "gpu,raw,heif,s3"
"""What reads an ordinary lake in a bucket on GPU nodes, and may be passed on (docs/licences.md)."""
ONLY_ON_CLUSTERS = ("gpu", "raw", "heif", "jxl", "s3", "azure", "gcs", "hdfs", "weights")
"""Extras that are pinned by both lock files; those that .venv has are pinned by requirements.lock alone."""


@dataclass(frozen=True)
class Platform:
    """What the nodes of a platform have.

    Attributes:
        folder: Below conf/, and below build/package/.
        python: Version of their Python.
        python_home: Folder of that Python on each node; empty: an image or a runtime brings it.
        glibc: The oldest one, which says which wheels run.
        brought: Beginnings of the names of packages that the runtime brings, whose versions stay.
    """

    folder: str
    python: str
    python_home: str = ""
    glibc: str = "2_34"
    brought: tuple[str, ...] = ()


_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PLATFORMS = {
    "emr": Platform("emr", "3.13", "/usr/bin"),  # Amazon Linux 2023 has glibc 2.34
    "k8s": Platform("k8s", "3.12"),  # that of conf/k8s/Dockerfile
    "databricks": Platform(
        "databricks", "3.12", brought=("torch", "triton", "nvidia-", "numpy", "pandas", "pyarrow", "scipy", "protobuf")
    ),
    "standalone": Platform("standalone-gpu", _HERE, str(Path(sys.base_prefix).resolve() / "bin"), "2_28"),
}


def main(arguments: list[str] | None = None) -> int:
    """Build one platform's folder; returns the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.lock:
        write_cluster_lock()
        return 0
    known = PLATFORMS[asked.platform]
    platform = Platform(
        known.folder, asked.python or known.python, asked.python_home or known.python_home, known.glibc, known.brought
    )
    target = BUILT / platform.folder
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    build(platform, target, asked.extras.split(","), asked.machine)
    for path in sorted(target.iterdir()):
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("platform", nargs="?", choices=list(PLATFORMS))
    what.add_argument("--lock", action="store_true", help="write conf/clusters.lock")
    parser.add_argument("--extras", default=EXTRAS, help=f"of pyproject.toml, comma-separated (default: {EXTRAS})")
    parser.add_argument("--python", choices=["3.12", "3.13"], help="version on the nodes (default: the platform's)")
    parser.add_argument("--python-home", help="folder of that Python on each node, for an environment.tar.gz")
    parser.add_argument("--machine", default="x86_64", choices=["x86_64", "aarch64"], help="processor of the nodes")
    return parser


def build(platform: Platform, target: Path, extras: list[str], machine: str) -> None:
    """Fill an empty folder with what the platform needs."""
    requirements = target / "requirements.txt"
    requirements.write_text(pinned(platform, extras, machine))
    {
        "emr": _emr,
        "k8s": _k8s,
        "databricks": _databricks,
        "standalone-gpu": _environment,
    }[platform.folder](platform, target, machine)


def _emr(platform: Platform, target: Path, machine: str) -> None:
    _environment(platform, target, machine)
    _copy_code(target / "code")
    for name in ("bootstrap.sh", "configurations.json", "steps.json", "step-functions.json"):
        shutil.copy2(CONF / "emr" / name, target)


def _k8s(_platform: Platform, target: Path, _machine: str) -> None:
    write_wheel(target)
    _copy_code(target / "code")
    for path in (CONF / "k8s").iterdir():
        if path.name == "Dockerfile" or path.suffix == ".yaml":
            shutil.copy2(path, target)


def _databricks(_platform: Platform, target: Path, _machine: str) -> None:
    write_wheel(target)
    (target / "jobs").mkdir()
    shutil.copy2(ROOT / "jobs" / "run_pipeline.py", target / "jobs")
    for name in ("databricks.yml", "notebook.py"):
        shutil.copy2(CONF / "databricks" / name, target)


def _environment(platform: Platform, target: Path, machine: str) -> None:
    folder = target / "environment"
    make_environment(folder, target / "requirements.txt", platform, machine)
    write_archive(folder, target / "environment.tar.gz")
    shutil.rmtree(folder)


# --- packages ---------------------------------------------------------------------------------------------


def pinned(platform: Platform, extras: list[str], machine: str) -> str:
    """The requirements of the nodes, a line each, with hashes unless a runtime brings some of them.

    Raises SystemExit for a package that no lock file pins.
    """
    _require_extras(extras)
    hashes = () if platform.brought else ("--generate-hashes",)
    asked = [word for extra in extras for word in ("--extra", extra)]
    text = _compile(platform, machine, *hashes, *asked)
    known = {pin for lock in LOCKS for pin in pins_of(lock.read_text())}
    if unknown := sorted(pins_of(text) - known):
        raise SystemExit(f"package: not in a lock file: {', '.join(unknown)}: `make lock` pins what clusters install")
    brought = [name for name, _ in (pin.split("==") for pin in pins_of(text)) if name.startswith(platform.brought)]
    return "".join(
        line for line in text.splitlines(keepends=True) if not platform.brought or _name(line) not in brought
    )


def _compile(platform: Platform, machine: str, *more: str) -> str:
    locked = [word for lock in LOCKS if lock.exists() for word in ("--constraint", str(lock))]
    return _uv("pip", "compile", *_for_nodes(platform, machine), *locked, "--no-header", "--no-annotate", *more,
               str(ROOT / "pyproject.toml"))  # fmt: skip


def pins_of(text: str) -> set[str]:
    """`name==version` of each line that pins, by the normal form of the name."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {f"{_normal(name)}=={version}" for name, version in found}


def _name(line: str) -> str:
    return _normal(re.split(r"[=<>\s;]", line, maxsplit=1)[0])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _require_extras(extras: list[str]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    if unknown := [extra for extra in extras if extra not in known]:
        raise SystemExit(f"package: no extra {unknown[0]!r}; known: {', '.join(known)}")
    if {"cpu", "gpu"} <= set(extras):
        raise SystemExit("package: cpu and gpu exclude each other: faiss-cpu and faiss-gpu install the same module")


def write_cluster_lock() -> None:
    """Pin what clusters install and requirements.lock does not have, for the oldest Python and every newer one."""
    asked = [word for extra in ONLY_ON_CLUSTERS for word in ("--extra", extra)]
    text = _uv("pip", "compile", "--universal", "--python-version", "3.12", "--constraint", str(LOCKS[0]),
               "--no-header", "--no-annotate", *asked, str(ROOT / "pyproject.toml"))  # fmt: skip
    missing = sorted(pins_of(text) - pins_of(LOCKS[0].read_text()))
    LOCKS[1].write_text("".join(f"{pin}\n" for pin in missing))


def _for_nodes(platform: Platform, machine: str) -> tuple[str, ...]:
    return ("--python-version", platform.python, "--python-platform", f"{machine}-manylinux_{platform.glibc}",
            "--only-binary", ":all:")  # fmt: skip


def _uv(*arguments: str) -> str:
    """The output of uv, which chooses wheels for another Python and system than those of this machine."""
    uv = [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else [shutil.which("uv") or _missing_uv()]
    done = subprocess.run([*uv, "--quiet", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"package: uv {' '.join(arguments[:2])} failed: its reason is above")
    return done.stdout


def _missing_uv() -> str:
    raise SystemExit("package: uv is not here: `make setup` installs it")


# --- what is built ----------------------------------------------------------------------------------------


def make_environment(folder: Path, requirements: Path, platform: Platform, machine: str) -> None:
    """A virtual environment without a Python of its own: `bin/python` is a link to that of the nodes.

    Python finds the packages by `pyvenv.cfg` beside `bin`, wherever the folder is unpacked.
    """
    packages = folder / "lib" / f"python{platform.python}" / "site-packages"
    _uv("pip", "install", "--target", str(packages), "--no-deps", "--require-hashes", "--link-mode", "copy",
        *_for_nodes(platform, machine), "--requirement", str(requirements))  # fmt: skip
    shutil.rmtree(packages / "bin", ignore_errors=True)  # scripts for the Python of this machine
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(f"{platform.python_home}/python{platform.python}")
    (folder / "bin" / "python3").symlink_to("python")
    (folder / "pyvenv.cfg").write_text(
        f"home = {platform.python_home}\ninclude-system-site-packages = false\nversion = {platform.python}\n"
    )


def write_archive(folder: Path, archive: Path) -> None:
    """Pack a folder: equal files give equal bytes, so that what is cached under a hash stays."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=_timeless)


def _timeless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


def write_wheel(folder: Path) -> None:
    """The wheel of this project, by the build backend of pyproject.toml, which .venv has."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip


def _copy_code(folder: Path) -> None:
    """What `spark-submit.sh` needs, as in a checkout."""
    folder.mkdir()
    for name in CODE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy2(ROOT / name, folder)


if __name__ == "__main__":
    sys.exit(main())
