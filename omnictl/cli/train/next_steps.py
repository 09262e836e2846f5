"""What to do after a pipeline: train on what has not learned enough, use what has."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from omnictl.runs.root import run_root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omnictl.metrics.verdict import VerdictWord
    from omnictl.pipeline.evaluate import EvaluationResults
    from omnictl.runs.run import Run

EXAMPLES = Path("examples/scene.png"), Path("examples/question.wav")
"""An image and a question about it, where the repository is at hand."""

JOINED = "sft"
"""The stage that holds copies of all the others."""

LONGER = 2
"""How many times the steps that were taken, if these were all that were planned."""


def words(measured: "EvaluationResults") -> "dict[str, VerdictWord]":
    """The verdict on each stage that was judged."""
    verdicts = {evaluation.run.stage: evaluation.report.verdict for evaluation in measured.evaluations}
    return {stage: verdict.word for stage, verdict in verdicts.items() if verdict is not None}


def training_lines(runs: "Mapping[str, Run]", verdicts: "Mapping[str, VerdictWord]") -> list[str]:
    """The command that trains on each stage that is weak or has not learned; empty if there is none.

    Args:
        runs: by stage, in the order of training.
        verdicts: by stage.
    """
    lacking = [stage for stage in runs if verdicts.get(stage, "learned") != "learned"]
    parts = [stage for stage in lacking if stage != JOINED]
    lines = [_line(runs[stage], verdicts[stage]) for stage in (parts or lacking)]
    if parts and JOINED in runs:
        joined = runs[JOINED]
        file = joined.whole_config_file if joined.whole_config_file.is_file() else joined.config_file
        again = f"omnictl {JOINED} --config {shlex.quote(str(file))} --name {joined.record()['name']}{_elsewhere(joined)}"
        lines.append(f"then join them anew, since {JOINED} holds copies of what it was made from\n  {again}")
    return lines


def use_lines(runs: "Mapping[str, Run]", verdicts: "Mapping[str, VerdictWord]") -> list[str]:
    """How to use what was trained, all of it together, else each by itself; nothing that has not learned."""
    usable = [stage for stage in runs if verdicts.get(stage) != "not learned"]
    if JOINED not in usable:
        return [next_commands(stage, shlex.quote(str(runs[stage].path))) for stage in usable]
    image, question = EXAMPLES if all(file.is_file() for file in EXAMPLES) else ("IMAGE.png", "QUESTION.wav")
    media = {"vision": f" --image {image}", "asr": f" --audio {question}", "talker": " --speak reply.wav"}
    given = "".join(option for stage, option in media.items() if stage in usable or stage not in runs)
    return [*([f"  omnictl chat{given}"] if "--image" in given or "--audio" in given else []), '  omnictl chat --text "Hello."']


def _line(run: "Run", word: "VerdictWord") -> str:
    state = "has not learned" if word == "not learned" else "is weak"
    return f"{run.stage} {state}: train it on\n  {longer_command(run, _more_steps(run))}"


def longer_command(run: "Run", steps: int | str) -> str:
    """The command that trains a finished run on.

    It resumes the run, or begins a new one from its weights where resuming would not do: the run's own data may be as little as its
    few steps read, or some of its units may have been cut short.

    Args:
        run: the run.
        steps: in all, if it is resumed.
    """
    from omnictl.pipeline.job import units_cut_short

    path = shlex.quote(str(run.path))
    if run.whole_config_file.is_file():
        file = run.whole_config_file
    elif units_cut_short(run):
        file = run.config_file
    else:
        return f"omnictl {run.stage} --resume {path} --max-steps {steps}"
    options = f"--config {shlex.quote(str(file))} --init {path} --name {run.record()['name']}{_elsewhere(run)}"
    return f"omnictl {run.stage} {options}"


def warn_of_units_cut_short(run: "Run") -> str | None:
    """What to say before a finished run is resumed, if that leaves some of its units as weak as they are; else None."""
    from omnictl.pipeline.job import units_cut_short

    units = units_cut_short(run) if run.record()["status"] == "finished" else []
    if not units:
        return None
    return (
        f"parts that took fewer steps than planned stay as they are: {', '.join(units)}; "
        f"to train them on first\n  {longer_command(run, 'N')}"
    )


def _elsewhere(run: "Run") -> str:
    """The option that names the folder of runs, if it is not the usual one."""
    return "" if run.root == run_root(None).absolute() else f" --runs {shlex.quote(str(run.root))}"


def _more_steps(run: "Run") -> int:
    """The steps that its config planned; if it took all of them, more."""
    from omnictl.runs.files import read_json

    config = read_json(run.config_file)
    planned: int = config.get(run.stage, config)["train"]["steps"]
    taken: int = run.record()["steps"]
    return planned if taken < planned else LONGER * taken


def next_commands(stage: str, path: str) -> str:
    """How to use what a stage has made; `path` is quoted for a shell."""
    use = {
        "pretrain": "chat",
        "asr": "transcribe FILE",
        "vision": "classify FILE",
        "talker": 'say "Hello." --out hello.wav',
        "sft": "chat --image FILE --audio FILE --speak reply.wav",
    }
    return f"  omnictl {use[stage]} --run {path}" if stage in use else ""
