"""Claim: the default of cluster.keeper_order ranks the original first, whatever the times of the files say.

From each photo originals are made of four kinds (as it is, a camera's, without EXIF data, lossless), and copies of 19
kinds. A group is right when its first by rank is the original; also shown for each kind of copy, alone with it. Times
are right, all equal, drawn by chance, or minutes apart in a random order. Facts come from the kernels and SQLite
evaluates the order, so that Spark is not needed.

    python benchmarks/originals.py --photos /my/photos --held-out
    python benchmarks/originals.py --quick

The thresholds were fitted on photos at even places of the folder; `--held-out` takes those at odd places.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from harness import Table, describe_machine, photo_bytes, print_json
from original_copies import HARD, KINDS, ORIGINALS, copies_of, original_of
from PIL import ImageOps

from dedup_spark.keeper_criteria import DEFAULT_ORDER, OF_FILE, OF_GROUP
from dedup_spark.kernels import edits
from dedup_spark.kernels.arrays import UInt8
from dedup_spark.kernels.clusters import consensus
from dedup_spark.kernels.comparing import bars, descent, layout
from dedup_spark.kernels.decoding.images import decode_image
from dedup_spark.kernels.decoding.rendering import render
from dedup_spark.kernels.features import hashing, quality
from dedup_spark.kernels.features.origin import OriginFacts, origin_facts

SEED = 20_261
TIMES = ("right", "equal", "by chance", "minutes apart")
_REDUCED_PX = 256
_TAKEN = datetime(2024, 5, 1, 12)
_COLUMNS = (
    "label", "kind", "uri", "size_bytes", "modified_at", "width_px", "height_px", "format", "mode",
    "entropy_bits", "pixel_hash", "decoder", "differs_from_most", "has_added_border", "is_made_from_another",
    "has_copies",
    *[f.name for f in dataclasses.fields(OriginFacts)],
)  # fmt: skip

Row = dict[str, Any]


def facts_of(data: bytes) -> Row:
    """The columns of one file that the order needs."""
    image = decode_image(data, max_pixels=10**9, min_side_px=8)
    reduced = render(image, _REDUCED_PX)
    facts = dataclasses.asdict(origin_facts(data, image, reduced))
    facts |= {"mode": image.source.mode, "entropy_bits": quality.entropy_bits(np.asarray(reduced.convert("L")))}
    facts |= {"pixel_hash": hashing.pixel_hash(image), "decoder": image.decoder}
    facts["exif_orientation"] = image.exif_orientation
    facts["thumbnail"] = edits.encoded(ImageOps.contain(reduced.convert("RGB"), (_REDUCED_PX,) * 2), "JPEG", quality=80)
    width, height = image.size
    return facts | {"width_px": width, "height_px": height, "format": image.format, "size_bytes": len(data)}


def group_of(photo: bytes, original: str, seed: list[int]) -> list[Row]:
    """The original and its copies, without times; names say nothing of the kind."""
    rng = np.random.default_rng(seed)
    data, pixels = original_of(original, photo, rng)
    files = [("original", data), *copies_of(pixels, data, rng)]
    names = rng.permutation(10_000)[: len(files)]
    return [facts_of(d) | {"kind": k, "uri": f"{n:05d}"} for (k, d), n in zip(files, names, strict=True)]


def with_times(rows: list[Row], times: str, rng: np.random.Generator) -> list[Row]:
    """`right`: each copy days after the one before; `minutes apart`: copied in one go, in the order of the names."""
    days = {"right": range(len(rows)), "by chance": rng.permutation(len(rows)).tolist()}.get(times, [0] * len(rows))
    minutes = [int(row["uri"]) / 1000 if times == "minutes apart" else 0 for row in rows]
    at = [_TAKEN + timedelta(days=int(d), minutes=m) for d, m in zip(days, minutes, strict=True)]
    return [row | {"modified_at": t.isoformat(" ")} for row, t in zip(rows, at, strict=True)]


def with_consensus(members: list[Row]) -> list[Row]:
    """Add what stages/cluster/consensus.py adds: compared with the other pictures of the group."""
    jpegs_last = sorted(members, key=lambda row: row["jpeg_quality"] is not None)
    pictures = list({row["pixel_hash"]: row for row in jpegs_last}.values())
    described = [layout.describe(row["thumbnail"]) for row in pictures]
    within = [consensus.describe_within(row["thumbnail"]) or (bytes(consensus.SIDE**2), math.nan) for row in pictures]
    found = consensus.compare_with_most(
        consensus.Members(
            layouts=_levels([levels for levels, _ in described]),
            shorter_px=np.array([px for _, px in described], np.int64),
            ratio=np.array([row["width_px"] / row["height_px"] for row in pictures]),
            added_share=np.array([row["added_share"] for row in pictures], np.float64),
            shown_share=np.array([_shown_share(row) for row in pictures]),
            within=_levels([levels for levels, _ in within]),
            within_ratio=np.array([ratio for _, ratio in within]),
            has_profile=np.array([row["has_colour_profile"] for row in pictures]),
            lines=[bars.describe(row["thumbnail"]) for row in pictures],
        )
    )
    grids = [[row[name] for name in ("width_px", "height_px", "exif_orientation")] for row in pictures]
    made = descent.find_copies([row["block_sample"] for row in pictures], np.array(grids, np.int64))
    hashes = [row["pixel_hash"] for row in pictures]
    named = {"differs_from_most": found.differs.tolist(), "has_added_border": found.has_added_border.tolist()}
    named |= {"is_made_from_another": made.is_made_from_another.tolist(), "has_copies": made.has_copies.tolist()}
    place = {pixel_hash: k for k, pixel_hash in enumerate(hashes)}
    return [row | {name: values[place[row["pixel_hash"]]] for name, values in named.items()} for row in members]


def _levels(rows: list[bytes]) -> UInt8:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)


def _shown_share(row: Row) -> float:
    return float(row["shown_width_px"] * row["shown_height_px"] / (row["width_px"] * row["height_px"]))


def first_of_each(groups: dict[str, list[Row]]) -> dict[str, str]:
    """By label the kind that comes first by the default order."""
    lake = sqlite3.connect(":memory:")
    lake.create_function("regexp_like", 2, lambda text, pattern: text and bool(re.search(pattern, text)))
    lake.create_function("ln", 1, math.log)
    for name, choose in (("least", min), ("greatest", max)):  # of what is known, as in Spark
        lake.create_function(
            name, 2, lambda a, b, choose=choose: choose([v for v in (a, b) if v is not None], default=None)
        )
    lake.create_function("date_trunc", 2, lambda _, moment: moment[:10])
    lake.execute(f"CREATE TABLE members ({', '.join(_COLUMNS)})")
    compared = {label: with_consensus(members) for label, members in groups.items()}
    rows = [
        [label if c == "label" else row[c] for c in _COLUMNS] for label, members in compared.items() for row in members
    ]
    lake.executemany(f"INSERT INTO members VALUES ({', '.join('?' * len(_COLUMNS))})", rows)
    described = "members"
    for made in (OF_FILE, *OF_GROUP):
        described = f"(SELECT *, {', '.join(f'{sql} AS {name}' for name, sql in made.items())} FROM {described})"
    order = ", ".join(f"{item} NULLS LAST" for item in DEFAULT_ORDER)
    query = f"""SELECT label, kind FROM (SELECT label, kind, row_number() OVER (PARTITION BY label ORDER BY {order}) AS
        place FROM {described}) WHERE place = 1"""
    return dict(lake.execute(query))


def measure(photos: Iterable[bytes]) -> tuple[dict[str, Any], Table, Table]:
    """Figures, the table of whole groups and that of single kinds of copy."""
    made = {(o, i): group_of(photo, o, [SEED, i, k]) for i, photo in enumerate(photos) for k, o in enumerate(ORIGINALS)}
    groups, kinds = Table(("original", *TIMES)), Table(("copy", *ORIGINALS))
    figures: dict[str, Any] = {}
    beaten_by = Counter[str]()
    for original in ORIGINALS:
        shares = []
        for times in TIMES:
            timed = {
                f"{i}": with_times(_but_hard(rows), times, np.random.default_rng([SEED, i]))
                for (o, i), rows in made.items()
                if o == original
            }
            first = first_of_each(timed)
            shares.append(100 * sum(kind == "original" for kind in first.values()) / len(first))
            beaten_by.update(f"{original} < {kind}" for kind in first.values() if kind != "original")
            figures[f"{original}, {times}"] = shares[-1]
        groups.add(original, *shares)
    for kind in KINDS:
        kinds.add(kind, *[_alone(kind, o, made) for o in ORIGINALS])
    print("first instead of the original:", dict(beaten_by.most_common(12)), file=sys.stderr)
    return figures, groups, kinds


def _but_hard(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["kind"] not in HARD]


def _alone(kind: str, original: str, made: dict[tuple[str, int], list[Row]]) -> float | str:
    """Percent of originals that come before their copy of one kind, with times that say nothing."""
    pairs = {
        f"{i}": with_times(
            [row for row in rows if row["kind"] in ("original", kind)], "equal", np.random.default_rng(i)
        )
        for (o, i), rows in made.items()
        if o == original and any(row["kind"] == kind for row in rows)
    }
    if not pairs:
        return "-"
    return 100 * sum(first == "original" for first in first_of_each(pairs).values()) / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photos (default: the sample photos of the demo)")
    parser.add_argument("--max-photos", type=int, default=100)
    parser.add_argument("--held-out", action="store_true", help="the photos at odd places of the folder")
    parser.add_argument("--quick", action="store_true", help="4 photos")
    options = parser.parse_args()
    photos = photo_bytes(options.photos)[int(options.held_out) :: 2 if options.photos else 1]
    photos = photos[: 4 if options.quick else options.max_photos]
    start = time.perf_counter()
    figures, groups, kinds = measure(photos)
    print("percent of groups whose original is first, by the times of the files")
    groups.show()
    print("\npercent of originals before one copy, all times equal")
    kinds.show()
    print_json(
        {"n_photos": len(photos), "seconds": time.perf_counter() - start, "machine": describe_machine(), **figures}
    )


if __name__ == "__main__":
    main()
