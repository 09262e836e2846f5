"""Evaluating runs, one or one of every stage: the judge of speech, the numbers, the page."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from omnictl.config.split import Split
from omnictl.errors import RunError, UsageError
from omnictl.measure.evaluate import Evaluation, NamedJudge, evaluate_run
from omnictl.measure.judges import JUDGE, OUTSIDER, Pocketsphinx, newest_judge, open_judge
from omnictl.pipeline.sample_size import Goal, GrowingSample
from omnictl.report import write_report
from omnictl.runs.run import Run, find_run, newest_run
from omnictl.stages import STAGES, command_stages

Tell = Callable[[str], None]
"""Takes a plain line for people."""

HASTE, HASTY_EXAMPLES = 30.0, 8
"""Seconds for each remaining run, below which only this few examples are judged first."""

Listener = Run | Literal["pocketsphinx"] | None


@dataclass(frozen=True)
class Measure:
    """How runs are evaluated: the options of `omnictl eval`."""

    root: Path
    """The folder of all runs, for the judge."""
    judge: str | None
    """The recogniser that judges speech; None: the newest one for such speech."""
    data: str | None
    split: Split
    limit: int | None
    device: torch.device
    cache: Path
    tell: Tell


class MissingStage(NamedTuple):
    """A stage that cannot be judged, and what to do about it."""

    stage: str
    message: str
    fix: str


class EvaluationResults(NamedTuple):
    """The stages that could be judged, and the others."""

    evaluations: list[Evaluation]
    missing: list[MissingStage]

    def as_json(self) -> dict[str, object]:
        """The object that `--json` prints."""
        return {
            "stages": [evaluation.as_json() for evaluation in self.evaluations],
            "missing": [missing._asdict() for missing in self.missing],
        }


def measure(run: Run, how: Measure) -> Evaluation:
    """Judge a run and write its page.

    Raises:
        UsageError: a judge is named and the stage has no use for one, or it is not installed.
        RunError: there is no judge.
        CheckpointError: the run has no complete model yet.
        DataError: the data cannot be read.
    """
    return _measure(run, _open_listener(_listener(run, how), how), how)


def newest_runs(root: Path) -> tuple[dict[str, Run], list[MissingStage]]:
    """The newest finished run of every stage that has one, by stage, and the stages that have none.

    Raises:
        RunError: no stage has one.
    """
    runs: dict[str, Run] = {}
    missing: list[MissingStage] = []
    for stage in command_stages():
        try:
            runs[stage] = newest_run(root, stage, "finished")
        except RunError as error:
            missing.append(MissingStage(stage, error.message, error.fix))
    if not runs:
        raise RunError(f"no finished run of any stage in {root}", where=str(root), fix="make them with `omnictl pipeline`")
    return runs, missing


def measure_all(runs: Mapping[str, Run], how: Measure, *, deadline: float | None = None) -> EvaluationResults:
    """Judge runs of several stages.

    Args:
        runs: by stage.
        how: its judge is asked where one is needed.
        deadline: on `time.monotonic`'s clock, shared out evenly: first to as many examples of each as its interval needs, what is
            left to those whose interval is still too wide, and then to more of all.

    Returns:
        The evaluations, and what nobody could judge.

    Raises:
        UsageError, RunError: the judge that is named cannot be had.
        CheckpointError: a run has no complete model.
        DataError: the data cannot be read.
    """
    listeners: dict[str, Listener] = {}
    missing: list[MissingStage] = []
    for stage, run in runs.items():  # before anything is judged, which takes time
        try:
            listeners[stage] = _listener(run, how) if STAGES[stage].judge else None
        except RunError as error:
            if how.judge is not None:
                raise
            missing.append(MissingStage(stage, error.message, error.fix))
    if deadline is not None:
        return EvaluationResults(
            _measure_in_time({runs[stage]: listener for stage, listener in listeners.items()}, how, deadline), missing
        )
    return EvaluationResults(
        [_measure(runs[stage], _open_listener(listener, how), how) for stage, listener in listeners.items()], missing
    )


def _measure_in_time(listeners: Mapping[Run, Listener], how: Measure, deadline: float) -> list[Evaluation]:
    """Judge runs on as many examples as they need and the time allows, and write their pages."""
    samples: dict[Run, GrowingSample] = {}
    goals: tuple[Goal, ...] = ("narrow interval", "narrow interval", "whole split")
    for goal in goals:
        lacking = [run for run in listeners if run not in samples or not samples[run].has_reached(goal)]
        for number, run in enumerate(lacking):
            if run not in samples:
                how.tell(f"judging {run.path} …")
                judge = partial(_judge, run, _open_listener(listeners[run], how), how)
                in_haste = deadline - time.monotonic() < HASTE * (len(lacking) - number)
                samples[run] = GrowingSample(judge, HASTY_EXAMPLES if in_haste else STAGES[run.stage].first_examples)
            now = time.monotonic()
            samples[run].grow(goal, until=now + (deadline - now) / (len(lacking) - number))
    for run in listeners:
        write_report(run)
    return [samples[run].evaluation for run in listeners]


def _listener(run: Run, how: Measure) -> Listener:
    """The judge of speech: the one the user names, otherwise the newest recogniser of such speech.

    Raises:
        UsageError: the stage has no use for one.
        RunError: there is none.
    """
    if STAGES[run.stage].judge is None:
        if how.judge is not None:
            raise UsageError(f"`{run.stage}` needs no judge", where="--judge", fix="leave it out")
        return None
    if how.judge == OUTSIDER:
        return "pocketsphinx"
    if how.judge is not None:
        return find_run(how.root, JUDGE, how.judge)
    try:
        judge_run, rejected = newest_judge(how.root, run)
    except RunError as error:
        if STAGES[run.stage].judge == "needed":
            raise
        how.tell(f"spoken replies are not judged: {error.message}")
        return None
    for line in rejected:
        how.tell(f"not the judge: {line}")
    return judge_run


def _open_listener(listener: Listener, how: Measure) -> NamedJudge | None:
    """The judge, ready to listen.

    Raises:
        UsageError: it is not installed.
        CheckpointError: the run has no complete model yet.
    """
    if listener is None:
        return None
    if not isinstance(listener, Run):
        return NamedJudge(OUTSIDER, Pocketsphinx(), label=OUTSIDER)
    how.tell(f"the judge is {listener.path}")
    return NamedJudge(str(listener.path), open_judge(listener, how.device, how.cache))


def _measure(run: Run, judge: NamedJudge | None, how: Measure) -> Evaluation:
    """Judge a run and write its page."""
    how.tell(f"judging {run.path} …")
    evaluation = _judge(run, judge, how, how.limit)
    write_report(run)
    return evaluation


def _judge(run: Run, judge: NamedJudge | None, how: Measure, limit: int | None) -> Evaluation:
    return evaluate_run(run, judge=judge, data=how.data, split=how.split, limit=limit, device=how.device, cache=how.cache)
