"""Claim: average linkage loses no recall that complete linkage or Ward's method would keep at the same precision.

The whole pipeline runs once for each corpus. All groups are those of the kernels, before keepers are chosen. By copy
probability: the components of that run, cut twice by its evidence (the leaders are those of the run's own linkage). By
cosine: components of the pairs from each cut on, and the linkage cut at it. Corpora as in `accuracy.py`.

    python benchmarks/linkages.py --photos /my/photos --n-photos 30
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from accuracy import Clusters, our_clusters
from cluster_scores import score_clusters
from corpora import CORPORA, write_corpus
from harness import Table, describe_machine, photo_bytes, print_json

from dedup_spark import read_table
from dedup_spark.config import load_config
from dedup_spark.kernels.clusters import components, linkage
from dedup_spark.kernels.clusters.grouping import group_component
from dedup_spark.kernels.comparing.probability import MIN_GROUP_PROBABILITY as CUT_OF_PROBABILITIES
from dedup_spark.kernels.vectors import from_bytes
from dedup_spark.spark.session import get_session
from dedup_spark.stages.cluster.cut import pairs_inside

LINKAGES_OF_PROBABILITIES = ("average", "complete")
LINKAGES_OF_COSINES = ("average", "complete", "ward")
CUTS = (0.2, 0.3, 0.45, 0.6)


def by_cosine(names: list[str], cosines: np.ndarray, cut: float, method: str) -> Clusters:
    """Groups of two or more: each component of the pairs from `cut` on, cut by the linkage at it."""
    a, b = np.nonzero(np.triu(cosines >= cut, 1))
    nodes, component = components.label_components(a.astype(np.int64), b.astype(np.int64))
    groups: dict[int, list[str]] = defaultdict(list)
    for label in np.unique(component):
        members = nodes[component == label]
        cut_into = linkage.cut_component(cosines[np.ix_(members, members)], cut, method)
        for member, group in zip(members.tolist(), members[cut_into].tolist(), strict=True):
            groups[group].append(names[member])
    return [group for group in groups.values() if len(group) > 1]


def by_probability(tables: Path, method: str) -> Clusters:
    """Groups of two or more pictures with all their images: each component of a finished run, cut twice."""
    evidence = read_table("evidence", tables=tables)
    a, b = (evidence[f"image_id_{side}"].to_numpy() for side in "ab")
    probability = evidence["copy_probability"].to_numpy().astype(np.float64)
    compared_for = np.array(evidence["compared_for"].to_pylist())
    seen = {settled: np.isin(compared_for, ["match", "leaders"] if settled else ["match"]) for settled in (False, True)}
    rows = read_table("components", tables=tables, columns=["component_id", "image_id"]).sort_by("image_id")
    ids, label = rows["image_id"].to_numpy(), rows["component_id"].to_numpy()
    for settled in (False, True):
        cut_into = np.empty_like(label)
        for group in np.unique(label):
            members, chosen = ids[label == group], seen[settled]
            pairs = pairs_inside(members, a[chosen], b[chosen], probability[chosen])
            cut_into[label == group] = members[
                group_component(len(members), *pairs, CUT_OF_PROBABILITIES, method, settled=settled)
            ]
        label = cut_into
    names = same_pixels(tables)
    groups: dict[int, list[str]] = defaultdict(list)
    for member, group in zip(ids.tolist(), label.tolist(), strict=True):
        groups[group] += names.pop(member)
    return [group for group in [*groups.values(), *names.values()] if len(group) > 1]


def same_pixels(tables: Path) -> dict[int, list[str]]:
    """The names of all images of the same pixels, by the smallest image id of them."""
    uris = {
        r["image_id"]: r["uri"] for r in read_table("images", tables=tables, columns=["image_id", "uri"]).to_pylist()
    }
    ids: dict[str, list[int]] = defaultdict(list)
    for row in read_table("features", tables=tables, columns=["image_id", "pixel_hash"]).to_pylist():
        if row["pixel_hash"]:
            ids[row["pixel_hash"]].append(row["image_id"])
    return {min(equal): [uris[i].rsplit("/", 1)[-1] for i in equal] for equal in ids.values()}


def embedded(tables: Path) -> tuple[list[str], np.ndarray]:
    """Names of the images of a finished run, and the cosines of their embeddings."""
    uris = {
        r["image_id"]: r["uri"] for r in read_table("images", tables=tables, columns=["image_id", "uri"]).to_pylist()
    }
    rows = read_table("features", tables=tables, columns=["image_id", "embedding"]).to_pylist()
    known = [row for row in rows if row["embedding"]]
    names = [uris[row["image_id"]].rsplit("/", 1)[-1] for row in known]
    return names, linkage.cosine_matrix(from_bytes([row["embedding"] for row in known]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of distinct photos to make corpora from")
    parser.add_argument("--n-photos", type=int, default=30, help="photos of each corpus")
    parser.add_argument("--quick", action="store_true", help="6 photos")
    parser.add_argument("--corpora", nargs="*", choices=list(CORPORA), default=["ukbench", "mixed"])
    parser.add_argument("--tables", type=Path, help="keep the tables below this folder, and continue those there")
    return parser.parse_args()


def main() -> None:
    options = parse()
    photos = photo_bytes(options.photos)[: 6 if options.quick else options.n_photos]
    scratch = Path(tempfile.mkdtemp(prefix="dedup-benchmark-"))
    table = Table(("corpus", "images", "decided by", "linkage", "cut", "precision", "recall", "largest"))
    figures: dict[str, object] = {"machine": describe_machine(), "photos": len(photos)}
    try:
        for corpus in options.corpora:
            folder, tables = write_corpus(corpus, scratch / corpus, photos), (options.tables or scratch) / f"{corpus}-t"
            names = [path.name for path in folder.iterdir()]
            our_clusters(folder, tables, load_config())
            found = {
                ("copy probability", method, CUT_OF_PROBABILITIES): by_probability(tables, method)
                for method in LINKAGES_OF_PROBABILITIES
            }
            images, cosines = embedded(tables)
            found |= {
                ("cosine", method, cut): by_cosine(images, cosines, cut, method)
                for cut in CUTS
                for method in LINKAGES_OF_COSINES
            }
            for (by, method, cut), clusters in found.items():
                scores = score_clusters(names, clusters)
                table.add(corpus, len(names), by, method, cut, f"{scores.precision:.4f}", f"{scores.recall:.4f}",
                          scores.largest)  # fmt: skip
                figures[f"{corpus}.{by}.{method}.{cut}"] = [scores.precision, scores.recall]
    finally:
        get_session("benchmark").stop()
        shutil.rmtree(scratch)
    table.show()
    print_json(figures)


if __name__ == "__main__":
    main()
