"""The logs of a training: two JSONL files in the run, the trackers asked for, and an observer that may draw a bar."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from omnictl.runs.files import write_text, writing
from omnictl.runs.run import Run
from omnictl.trainer.config import TrackerName
from omnictl.trainer.stage import Report
from omnictl.trainer.trackers import close_trackers, open_trackers


class StepRecord(NamedTuple):
    """One optimizer step, for the observer and the logs."""

    step: int  # steps taken, this one included
    steps: int | None  # total, None while it is not fixed yet
    metrics: dict[str, float]  # deterministic: loss, grad_norm, lr, …
    timings: dict[str, float]  # speed and memory


class Observer(Protocol):
    """Whoever watches a training run."""

    def begin(self, run: Run, facts: dict[str, str], step: int) -> None:
        """Training starts (or goes on) after `step` steps."""
        ...

    def step(self, record: StepRecord) -> None:
        """A step was taken."""
        ...

    def evaluated(self, step: int, report: Report, *, is_best: bool) -> None:
        """The validation split was evaluated."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


def json_line(values: dict[str, object]) -> bytes:
    """One line of JSONL, numbers in full precision."""
    return json.dumps(values, allow_nan=False).encode() + b"\n"


def cut_after(path: Path, step: int) -> None:
    """Drop the lines of a log that lie after `step`, and a half-written last line, durably."""
    if not path.exists():
        return
    kept_lines = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept_lines.append(line)
    write_text(path, "".join(kept_lines))


class RunLog:
    """Appends to a run's `metrics.jsonl` and `timings.jsonl`; every line is handed to the system at once."""

    def __init__(self, run: Run, trackers: Sequence[TrackerName] = ()) -> None:
        self._run = run
        self._trackers = open_trackers(trackers, run)
        with writing(run.path):  # unbuffered: a write that fails leaves nothing behind to fail again on close
            self._metrics = run.metrics_file.open("ab", buffering=0)
            self._timings = run.timings_file.open("ab", buffering=0)

    def metrics(self, step: int, values: dict[str, float], *, split: str) -> None:
        """Write one deterministic line."""
        with writing(self._run.path):
            self._metrics.write(json_line({"step": step, "split": split, **values}))
        for tracker in self._trackers:
            tracker.log(step, values, split=split)

    def timings(self, step: int, values: dict[str, float]) -> None:
        """Write one line of speeds."""
        with writing(self._run.path):
            self._timings.write(json_line({"step": step, **values}))
        for tracker in self._trackers:
            tracker.log(step, values, split="speed")

    def close(self) -> None:
        """Close the files."""
        self._metrics.close()
        self._timings.close()
        close_trackers(self._trackers)
