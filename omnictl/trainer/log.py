"""The logs of a training: two JSONL files in the run, the trackers asked for, and an observer that may draw a bar."""

import json
import os
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, Protocol

from omnictl.runs.files import write_bytes, writing
from omnictl.runs.log_file import read_log
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


def cut_after(path: Path, step: int, note: Callable[[str], None]) -> None:
    """Drop the lines of a log that lie after `step`, and what begins with a line that cannot be read, durably.

    Args:
        path: the log, if there is one.
        step: the last one that stays.
        note: takes a line about what could not be read; a half-written last line is not worth it.
    """
    log = read_log(path)
    if log is None:
        return
    kept = list(takewhile(lambda line: line.values["step"] <= step, log.lines))
    write_bytes(path, b"".join(line.raw for line in kept))
    if log.problem is not None and len(kept) == len(log.lines):
        note(f"{log.problem}: the log ends before it")


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

    def flush(self) -> None:
        """Force onto the disk what was written."""
        with writing(self._run.path):
            os.fsync(self._metrics.fileno())
            os.fsync(self._timings.fileno())

    def close(self) -> None:
        """Close the files."""
        self._metrics.close()
        self._timings.close()
        close_trackers(self._trackers)
