"""The whole job on the demo lake with every Spark and Python that is supported: `make test-matrix`.

Each Spark is installed into a folder of its own below build/matrix (450 MB each), which comes first on the path; each
Python that is found besides this one gets an environment there. Groups and keepers of all must be the same.

    python tests/version_matrix.py                    all of them
    python tests/version_matrix.py --spark 4.0.2      one Spark, by this Python
    python tests/version_matrix.py --list             what would be run
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "matrix"
SPARKS = ("4.0.2", "4.1.1", "4.2.0")
PYTHONS = ("3.12", "3.13")

Groups = frozenset[tuple[str, frozenset[str]]]
"""The keeper and the members of each group, by their addresses."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spark", action="append", choices=SPARKS)
    parser.add_argument("--python", action="append", choices=PYTHONS)
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args()
    cells = [(p, s) for p in interpreters(asked.python) for s in asked.spark or SPARKS]
    if asked.list:
        sys.stdout.writelines(f"Python {version}, Spark {spark}\n" for (version, _), spark in cells)
        return 0
    lake = demo_lake()
    found = {(python[0], spark): groups_of(python, spark, lake) for python, spark in cells}
    for (version, spark), groups in found.items():
        sys.stdout.write(f"Python {version}, Spark {spark}: {len(groups)} groups\n")
    differing = len(set(found.values())) > 1
    sys.stdout.write("groups or keepers differ\n" if differing else "groups and keepers are the same everywhere\n")
    return int(differing or not all(found.values()))


def interpreters(asked: list[str] | None) -> list[tuple[str, str]]:
    """Version and path of each; this one is always found."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    paths = {version: sys.executable if version == here else shutil.which(f"python{version}") for version in PYTHONS}
    missing = [version for version in asked or () if not paths[version]]
    if missing:
        raise SystemExit(f"test-matrix: no python{missing[0]} on the PATH")
    return [(version, path) for version, path in paths.items() if path and version in (asked or PYTHONS)]


def demo_lake() -> Path:
    sys.path.insert(0, str(ROOT))
    from dedup_spark.commands.demo_lake import build_demo_lake

    return build_demo_lake(FOLDER / "lake").folder


def groups_of(python: tuple[str, str], spark: str, lake: Path) -> Groups:
    """Run the whole job in a process of its own, from its first table on."""
    tables = FOLDER / f"tables-python{python[0]}-spark{spark}"
    shutil.rmtree(tables, ignore_errors=True)
    path = os.pathsep.join((str(spark_folder(spark)), str(ROOT)))
    environment = {k: v for k, v in os.environ.items() if k not in ("SPARK_HOME", "PYSPARK_PYTHON")}
    command = [environment_of(python), "-m", "dedup_spark", "run", "--lake", str(lake), "--tables", str(tables)]
    subprocess.run(command, env=environment | {"PYTHONPATH": path}, check=True)
    return read_groups(tables)


def read_groups(tables: Path) -> Groups:
    from deltalake import DeltaTable

    keeper: dict[int, str] = {}
    members: dict[int, set[str]] = {}
    rows = DeltaTable(tables / "clusters").to_pyarrow_table(columns=["cluster_id", "uri", "is_keeper"]).to_pylist()
    for row in rows:
        members.setdefault(row["cluster_id"], set()).add(row["uri"])
        if row["is_keeper"]:
            keeper[row["cluster_id"]] = row["uri"]
    return frozenset((keeper[cluster], frozenset(uris)) for cluster, uris in members.items())


def spark_folder(version: str) -> Path:
    """PySpark of that version, and py4j as it wants it, installed once."""
    folder = FOLDER / f"spark-{version}"
    if not (folder / "pyspark" / "version.py").exists():
        shutil.rmtree(folder, ignore_errors=True)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        install(sys.executable, "--target", str(partial), f"pyspark=={version}")
        partial.rename(folder)
    return folder


def environment_of(python: tuple[str, str]) -> str:
    """The interpreter with this project's packages: this one, or an environment made once."""
    version, path = python
    if path == sys.executable:
        return path
    made = FOLDER / f"python{version}" / "bin" / "python"
    if not (FOLDER / f"python{version}" / ".installed").exists():
        subprocess.run([path, "-m", "venv", "--clear", str(made.parents[1])], check=True)
        install(str(made), f"{ROOT}[cpu]")
        (made.parents[1] / ".installed").touch()
    return str(made)


def install(python: str, *what: str) -> None:
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what], check=True)


if __name__ == "__main__":
    sys.exit(main())
