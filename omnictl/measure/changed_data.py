"""Whether a run's data is still what it was trained on.

Going on with other data would compare the best validation figure with that of other examples, and train on what was kept for the
test.
"""

import logging

from omnictl.errors import DataError
from omnictl.runs.run import Run
from omnictl.stages.protocol import TrainableStage

logger = logging.getLogger(__name__)

KEY = "data"
"""Of a run's record."""


def record_data(run: Run, stage: TrainableStage) -> None:
    """Note what the data is."""
    run.update(**{KEY: stage.data.contents.as_json()})


def refuse_changed_data(run: Run, stage: TrainableStage) -> None:
    """Refuse to go on with a run on data that is not what it was; nothing is known of the data of runs without a record.

    Raises:
        DataError: it has changed.
    """
    earlier = run.record().get(KEY)
    if earlier is None or earlier["fingerprint"] == stage.data.fingerprint:
        return
    try:
        change = stage.data.contents.compare(earlier)
    except DataError as error:
        change = error.message
    raise DataError(
        f"the data of {run.path} has changed since the run began ({change})",
        where=f"{run.stage}.data.source={stage.config.data.source}",
        fix=f"bring the old data back, or train on with these weights in a new run: omnictl {run.stage} --init {run.path} --data "
        f"{stage.config.data.source}",
    )


def log_changed_data(run: Run, stage: TrainableStage) -> None:
    """Say if a run is judged on its own data, and this is not what it was."""
    earlier = run.record().get(KEY)
    if earlier is not None and earlier["fingerprint"] != stage.data.fingerprint:
        logger.warning("the data of %s has changed since it was trained: its test split may hold what it has learned", run.path)
