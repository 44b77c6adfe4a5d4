"""Claim: the clusters are right, on edited photos, memes, screenshots and families of pictures in one frame.

It compares the whole pipeline through Spark, with default settings, with other programs on the same files. Clusters are
scored by their pairs of images (`cluster_scores.py`). Without options the corpora are made from the sample photos that
scikit-image and scikit-learn ship (`corpora.py`); `--photos` takes others, `--corpus` a labelled folder as it is.
Programs other than imagehash need an environment of their own, named with `--peer-python`; a program that is missing is
listed as not run.

    python benchmarks/accuracy.py --quick
    python benchmarks/accuracy.py --photos /my/photos --peer-python /venvs/peers/bin/python
    python benchmarks/accuracy.py --corpus /data/labelled --crowd /data/unrelated
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cluster_scores import Scores, score_clusters
from corpora import CORPORA, write_corpus
from harness import Table, describe_machine, photo_bytes, print_json
from peers import PEERS

from dedup_spark import pipeline
from dedup_spark.config import Config, load_config
from dedup_spark.sources.registry import open_source
from dedup_spark.spark.session import get_session
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import CLUSTERS
from dedup_spark.store.tables import Tables

Clusters = list[list[str]]
OURS = "dedup_spark"
QUICK_PHOTOS = 6
PEER_SECONDS = 3600


class NotRun(Exception):
    """A program is not installed, or failed; the message names the reason."""


def our_clusters(corpus: Path, tables_root: Path, config: Config) -> Clusters:
    """The clusters that `dedup-spark run` writes. Tables that exist are continued, not made anew."""
    tables = Tables(get_session("benchmark"), str(tables_root))
    tables.create_missing()
    lake = open_source(str(corpus), config.inventory).root
    run = Run(tables, config, lake, pipeline.run_id_to_use(tables, lake, None))
    pipeline.run_all(tables.spark, config, run)
    clusters: dict[int, list[str]] = {}
    for row in tables.read(CLUSTERS).select("cluster_id", "uri").collect():  # the corpora fit on this machine
        clusters.setdefault(row["cluster_id"], []).append(row["uri"].rsplit("/", 1)[-1])
    return list(clusters.values())


def peer_clusters(peer: str, corpus: Path, python: str | None) -> Clusters:
    """The clusters that another program finds; it runs in a process of its own."""
    if python is None:
        raise NotRun("no --peer-python")
    command = [python, str(Path(__file__).with_name("peers.py")), peer, str(corpus)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PEER_SECONDS)
    except subprocess.TimeoutExpired as e:
        raise NotRun(f"did not end within {PEER_SECONDS} s") from e
    if done.returncode:
        raise NotRun((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:100])
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"cluster"')]
    return [json.loads(line)["cluster"] for line in lines]


def linked(folder: Path, sources: Iterable[Path]) -> Path:
    """A folder with the files of several folders: of a corpus, and of unrelated images that are added to it."""
    folder.mkdir(parents=True)
    for path in (path for source in sources for path in sorted(source.iterdir())):
        shutil.copyfile(path, folder / path.name)
    return folder


def made_or_given(options: argparse.Namespace, scratch: Path) -> dict[str, Path]:
    """The folder of every corpus asked for, by name."""
    given = {path.name: path for path in options.corpus}
    if not given:
        photos = photo_bytes(options.photos)[: QUICK_PHOTOS if options.quick else None]
        given = {kind: write_corpus(kind, scratch / kind, photos) for kind in CORPORA}
    if options.crowd:
        given |= {f"{n}+crowd": linked(scratch / f"{n}+crowd", [p, options.crowd]) for n, p in list(given.items())}
    return given


def add_row(table: Table, corpus: str, program: str, scores: Scores) -> None:
    worst = sorted(scores.edit_recall.items(), key=lambda item: item[1])[:3]
    table.add(corpus, program, f"{scores.precision:.4f}", f"{scores.recall:.4f}", f"{scores.f1:.4f}",
              f"{100 * scores.mixed_share:.2f} %", scores.n_clusters, scores.largest,
              " ".join(f"{edit} {share:.2f}" for edit, share in worst))  # fmt: skip


def show_edits(by_program: dict[str, Scores], corpus: str) -> None:
    """Recall of each edit, one line per edit, one column per program; corpora with too many kinds are left out."""
    kinds = sorted({edit for scores in by_program.values() for edit in scores.edit_recall})
    if not 0 < len(kinds) <= 40:
        return
    print(f"\nrecall of each edit on {corpus}: share of the copies that are in one cluster with their original")
    table = Table(("edit", *by_program))
    for kind in kinds:
        table.add(kind, *(f"{scores.edit_recall[kind]:.3f}" for scores in by_program.values()))
    table.show()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, action="append", default=[], help="labelled folder; may be repeated")
    parser.add_argument("--photos", type=Path, help="folder of distinct photos to make corpora from")
    parser.add_argument(
        "--crowd", type=Path, help="unrelated images, named as a corpus; each corpus runs again with them"
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="other programs to run")
    parser.add_argument("--peer-python", metavar="PATH", help="Python of an environment with fastdup and others")
    parser.add_argument(
        "--tables", type=Path, help="keep the tables below this folder, and continue those that are there"
    )
    parser.add_argument("--config", help="settings other than the defaults, as for dedup-spark")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="likewise")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PHOTOS} photos")
    return parser.parse_args()


def main() -> None:
    options = parse()
    config = load_config(options.config, options.set)
    scratch = Path(tempfile.mkdtemp(prefix="dedup-benchmark-"))
    figures: dict[str, object] = {"machine": describe_machine(), "settings": options.set or "default"}
    table = Table(("corpus", "program", "precision", "recall", "F1", "mixed", "clusters", "largest", "worst edits"))
    not_run, edits = list[str](), dict[str, dict[str, Scores]]()
    try:
        for corpus, folder in made_or_given(options, scratch).items():
            names = [path.name for path in folder.iterdir()]
            edits[corpus] = {}
            for program in (OURS, *options.peers):
                python = sys.executable if program == "imagehash" else options.peer_python
                try:
                    if program == OURS:
                        found = our_clusters(folder, (options.tables or scratch / "tables") / corpus, config)
                    else:
                        found = peer_clusters(program, folder, python)
                except NotRun as e:
                    not_run.append(f"{program} on {corpus}: not run ({e})")
                    continue
                scores = edits[corpus][program] = score_clusters(names, found)
                add_row(table, corpus, program, scores)
                for name in ("precision", "recall", "f1", "mixed_share", "largest"):
                    figures[f"{corpus}.{program}.{name}"] = getattr(scores, name)
            figures[f"{corpus}.n_images"] = len(names)
    finally:
        get_session("benchmark").stop()
        shutil.rmtree(scratch)
    table.show()
    for corpus, by_program in edits.items():
        show_edits(by_program, corpus)
    print("\n".join(["", *not_run]))
    print_json(figures | {"not_run": not_run})


if __name__ == "__main__":
    main()
