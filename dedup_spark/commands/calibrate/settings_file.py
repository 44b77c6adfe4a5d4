"""The results of `dedup-spark calibrate`: settings as a TOML file for `--config`, and a text for the terminal."""

from __future__ import annotations

from typing import Any

from dedup_spark.commands.calibrate.calibration import OperatingPoint, Share
from dedup_spark.commands.calibrate.step import Calibrated
from dedup_spark.config import Config
from dedup_spark.errors import GuardError
from dedup_spark.kernels.edits import EDITS


def overlay(calibrated: Calibrated, config: Config, run_id: str) -> str:
    """The settings of the operating point as TOML, with its precision and recall on images that were not fitted.

    Raises:
        GuardError: No cut reaches the precision that was asked for.
    """
    prior, point, target = calibrated.prior, calibrated.point, config.cluster.target_precision
    if point.cut > 1:
        raise GuardError(
            f"no cut reaches cluster.target_precision {target:g} on the sample: too many other images score like "
            "copies, or the lake holds copies that are in no cluster. Check the largest clusters, or accept a lower "
            "precision: --set cluster.target_precision=0.95"
        )
    numbers = (prior.bias, prior.cosine, prior.cosine_squared, prior.normalised)
    return "\n".join(
        [
            f"# Written by dedup-spark calibrate, run {run_id}, for cluster.target_precision {target:g}.",
            f"# Measured on other images of the same lake: {_in_words(point)}.",
            "[cluster]",
            f"target_precision = {target}",
            f"prior = [{', '.join(f'{number:.6f}' for number in numbers)}]",
            f"min_copy_probability = {point.cut:.6f}",
            "",
        ]
    )


def fitted_settings(calibrated: Calibrated, config: Config) -> dict[str, dict[str, Any]]:
    """The settings that `overlay` writes, by section."""
    prior = calibrated.prior
    numbers = (prior.bias, prior.cosine, prior.cosine_squared, prior.normalised)
    return {
        "cluster": {
            "target_precision": config.cluster.target_precision,
            "prior": tuple(round(number, 6) for number in numbers),
            "min_copy_probability": round(calibrated.point.cut, 6),
        }
    }


def describe_operating_point(point: OperatingPoint, config: Config) -> str:
    """The operating point, and the recall of each edit from the worst to the best."""
    worst_first = sorted(point.edit_recall.items(), key=lambda item: item[1].value)
    return "\n".join(
        [
            f"asked for: cluster.target_precision {config.cluster.target_precision:g}",
            f"measured:  {_in_words(point)}",
            "recall of each edit, with its interval of 95 %:",
            *(f"  {EDITS[edit]:<12} {_with_interval(share)}" for edit, share in worst_first),
        ]
    )


def _in_words(point: OperatingPoint) -> str:
    return f"precision {_with_interval(point.precision)}, recall {_with_interval(point.recall)}"


def _with_interval(share: Share) -> str:
    return f"{share.value:.4f} ({share.low:.4f} to {share.high:.4f}, {share.n_images} images)"
