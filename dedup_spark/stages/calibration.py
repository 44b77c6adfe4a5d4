"""Whether anything says from which cosine on two images are copies: the calibration of a model, or that of a lake.

Cosines mean something else in each model, so a cut that was tuned for one says nothing about another. A run with a
model that has no calibration is told so when it begins to read, and stops before it decides.
"""

from __future__ import annotations

import logging

from dedup_spark.config import Config, changed_settings
from dedup_spark.errors import UncalibratedError
from dedup_spark.kernels.comparing.probability import prior_of
from dedup_spark.models.registry import computes
from dedup_spark.stages.command_lines import command_line
from dedup_spark.store.runs import Run

log = logging.getLogger(__name__)

CALIBRATED_FILE = "calibrated.toml"
"""The file that `dedup-spark calibrate` writes by default."""
_EARLIER = ("inventory", "extract", "vectors", "index", "match", "cluster", "calibrate")


def lacks_calibration(config: Config, model_id: str | None) -> bool:
    """Whether the step cluster will stop: there are embeddings, no prior for them, and no word of the user."""
    is_known = model_id is None or prior_of(model_id, config.cluster.prior) is not None
    return not is_known and config.cluster.uncalibrated == "stop"


def announce_stop(config: Config, model_id: str | None) -> None:
    """Log, before the lake is read, that the run will stop after match."""
    if lacks_calibration(config, model_id):
        log.warning(
            "model %s has no calibration: the run will stop after match, and name the command that makes one "
            "(cluster.uncalibrated)",
            model_id,
        )


def require_calibration(run: Run, model_id: str | None) -> None:
    """Raise UncalibratedError, with the commands that make a calibration and go on, unless there is one."""
    if not lacks_calibration(run.config, model_id):
        return
    labelled = command(run, "calibrate", "--pairs", "FILE")
    go_on = command(run, "run", config=CALIBRATED_FILE)
    by_edits = (
        f"Fit one to this lake, by edits of its own images: `{command(run, 'calibrate')}`; or by pairs that you have "
        f"labelled: `{labelled}`"
        if computes(model_id or "")
        else f"Fit one by pairs of this lake that you have labelled: `{labelled}`"
    )
    raise UncalibratedError(
        f"the embeddings are of model {model_id}, which has no calibration: nothing says from which cosine on two "
        f"images are copies. {by_edits}. Then go on with what it writes: `{go_on}`. Or choose a cosine yourself, "
        "without knowing precision or recall: --set cluster.uncalibrated=cosine --set cluster.min_similarity=COSINE"
    )


def command(run: Run, name: str, *options: str, config: str | None = None) -> str:
    """A command of `dedup-spark` on the lake and tables of this run.

    With the settings of the run, or with those of the file `config`, which has them all.
    """
    place = (run.lake, run.tables.root, run.tables.database)
    if config:
        return command_line(name, *place, "--config", config, *options)
    return command_line(name, *place, *options, changed=changed_settings(run.config, *_EARLIER))
