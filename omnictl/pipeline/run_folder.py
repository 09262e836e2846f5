"""The directory of a run whose stage is ready to be trained."""

import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from omnictl import __version__
from omnictl.config import Config, to_json
from omnictl.measure.changed_data import record_data
from omnictl.runs.checksums import seal_anew
from omnictl.runs.files import read_json, write_text
from omnictl.runs.run import Run, create_run
from omnictl.stages.protocol import TrainableStage


def absolute_source(data: str) -> str:
    """The source as the run's config keeps it: a path must be found again from another working directory."""
    try:
        path = Path(data).expanduser()
    except RuntimeError:  # no such user: whoever opens it says so
        return data
    return str(path.absolute()) if data.strip() and path.exists() else data


def versions_and_machine() -> dict[str, object]:
    """What a run's record says of the software and the machine."""
    return {
        "versions": {"omnictl": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"platform": platform.platform(), "threads": torch.get_num_threads()},
    }


def create_stage_run(root: Path, stage: TrainableStage, name: str, record: Mapping[str, object]) -> Run:
    """A new run directory with the stage's config, the data that was set aside, and its description.

    Raises:
        RunError: the root cannot be written.
        DiskFull: no space left.
    """
    run = create_run(root, stage.name, name, dict(record))
    with whole_or_absent(run):
        run.write_config(to_json(stage.config))
        describe(run, stage)
    return run


def new_run(root: Path, stage: str, name: str, record: Mapping[str, object], config: Config) -> Run:
    """A new run directory for a run that trains several stages, with its config; raises as `create_stage_run`."""
    run = create_run(root, stage, name, dict(record))
    with whole_or_absent(run):
        run.write_config(to_json(config))
    return run


@contextmanager
def whole_or_absent(run: Run) -> Iterator[None]:
    """Remove a new run's directory if the block fails or is interrupted, so that no half-made run is left."""
    try:
        yield
    except BaseException:
        shutil.rmtree(run.path)
        raise


def describe(run: Run, stage: TrainableStage) -> None:
    """Write what the stage's data is and which of it was set aside, and what its model folder holds besides the weights."""
    record_data(run, stage)
    write_text(run.quarantine_file, "".join(json.dumps(row._asdict()) + "\n" for row in stage.data.quarantine))
    stage.save_description(run.model)
    seal_anew(run.model)


def steps_taken(run: Run | None) -> int:
    """Steps after which a run continues: those of its newest checkpoint."""
    file = None if run is None else run.path / "latest.json"
    return int(read_json(file)["step"]) if file is not None and file.is_file() else 0
