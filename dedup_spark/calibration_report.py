"""What `dedup-spark calibrate` leaves behind: settings as a TOML file for `--config`, and words for a person."""

from __future__ import annotations

import math
from collections.abc import Callable

from dedup_spark.config import Config
from dedup_spark.errors import GuardError
from dedup_spark.kernels.calibration import OperatingPoint, Share
from dedup_spark.kernels.edits import EDITS

_DIGITS = 4


def overlay(point: OperatingPoint, config: Config, run_id: str) -> str:
    """The settings that give the operating point, with what they gave on the images that were not fitted.

    Raises:
        GuardError: no cut reaches the precision that was asked for.
    """
    target = config.cluster.target_precision
    cut = math.ceil(point.cut * 10**_DIGITS) / 10**_DIGITS  # up: rounding must not let more in
    if not 0 < cut <= 1:
        raise GuardError(
            f"no cut gives precision {target:g} on the sample; ask for less by --set cluster.target_precision=0.99, or "
            "look at the strangers that are nearest: see calibrate in the README"
        )
    return "\n".join(
        [
            f"# Written by dedup-spark calibrate, run {run_id}: precision {target:g} asked for.",
            f"# Measured on other images of the same lake: {_in_words(point)}.",
            "[match]",
            f"min_similarity = {min(cut, config.match.min_similarity)}",
            "",
            "[cluster]",
            f"min_similarity = {cut}",
            "",
        ]
    )


def say_operating_point(point: OperatingPoint, config: Config, out: str, say: Callable[[str], None]) -> None:
    """The operating point, and the recall of each edit from the worst to the best."""
    say(f"asked for: cluster.target_precision {config.cluster.target_precision:g}")
    say(f"measured:  {_in_words(point)}")
    say("recall of each edit, interval of 95 %:")
    for edit, share in sorted(point.edit_recall.items(), key=lambda item: item[1].value):
        say(f"  {EDITS[edit]:<12} {_with_interval(share)}")
    say(f"written to {out}: use it by --config {out}")


def _in_words(point: OperatingPoint) -> str:
    return f"precision {_with_interval(point.precision)}, recall {_with_interval(point.recall)}"


def _with_interval(share: Share) -> str:
    return f"{share.value:.4f} ({share.low:.4f} to {share.high:.4f}, {share.n_images} images)"
