"""The results of `dedup-spark calibrate`: settings as a TOML file for `--config`, and a text for the terminal.

The file has all settings of the run that are not the defaults, those of its model and its lake among them, so that a
run with this file alone goes on where the command was called.
"""

from __future__ import annotations

from typing import Any

from dedup_spark.commands.calibrate.calibration import OperatingPoint, Share
from dedup_spark.commands.calibrate.step import Calibrated
from dedup_spark.config import Config, as_toml, changed_settings
from dedup_spark.errors import GuardError
from dedup_spark.kernels.edits import EDITS


def overlay(calibrated: Calibrated, config: Config, run_id: str) -> str:
    """`fitted_settings` as TOML, with precision and recall on images that were not fitted.

    Raises:
        GuardError: No cut reaches the precision that was asked for.
    """
    point, target = calibrated.point, config.cluster.target_precision
    if point.cut > 1:
        why = (
            "too many labelled others score like duplicates. Look at their labels"
            if calibrated.labels
            else "too many other images score like copies, or the lake holds copies that are in no cluster. Check the "
            "largest clusters"
        )
        raise GuardError(
            f"no cut reaches cluster.target_precision {target:g} on the sample: {why}, or accept a lower precision by "
            "--set cluster.target_precision"
        )
    lines = [
        f"# Written by dedup-spark calibrate, run {run_id}, for cluster.target_precision {target:g}.",
        f"# Measured on {calibrated.measured_on}: {_in_words(point)}.",
    ]
    for section, values in fitted_settings(calibrated, config).items():
        lines += [f"[{section}]", *(f"{key} = {as_toml(value)}" for key, value in values.items())]
    return "\n".join([*lines, ""])


def fitted_settings(calibrated: Calibrated, config: Config) -> dict[str, dict[str, Any]]:
    """By section, what was fitted, and the settings of `config` that are not the defaults."""
    prior = calibrated.prior
    numbers = (prior.bias, prior.cosine, prior.cosine_squared, prior.normalised)
    settings = {section: values for section, values in changed_settings(config).items() if values}
    settings["cluster"] = settings.get("cluster", {}) | {
        "target_precision": config.cluster.target_precision,
        "prior": tuple(round(number, 6) for number in numbers),
        "min_copy_probability": round(calibrated.point.cut, 6),
    }
    return settings


def describe_operating_point(point: OperatingPoint, config: Config) -> str:
    """The operating point, and the recall of each edit from the worst to the best."""
    worst_first = sorted(point.edit_recall.items(), key=lambda item: item[1].value)
    lines = [
        f"asked for: cluster.target_precision {config.cluster.target_precision:g}",
        f"measured:  {_in_words(point)}",
    ]
    if worst_first:
        lines.append("recall of each edit, with its interval of 95 %:")
    return "\n".join([*lines, *(f"  {EDITS[edit]:<12} {_with_interval(share)}" for edit, share in worst_first)])


def _in_words(point: OperatingPoint) -> str:
    return f"precision {_with_interval(point.precision)}, recall {_with_interval(point.recall)}"


def _with_interval(share: Share) -> str:
    return f"{share.value:.4f} ({share.low:.4f} to {share.high:.4f}, {share.n_images} images)"
