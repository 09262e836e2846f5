"""`omnictl eval STAGE`: the numbers of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.options import DeviceOption, JsonOption, RunOption, RunsOption, SplitName, run_root
from omnictl.errors import UsageError
from omnictl.stages import JUDGED, STAGES

if TYPE_CHECKING:
    import torch

    from omnictl.evaluate import Evaluation, NamedJudge
    from omnictl.runs.run import Run
    from omnictl.train.stage import Report

MOST_GROUPS = 12
"""Groups of examples shown to people."""


def evaluate(
    stage: Annotated[str, typer.Argument(help=f"One of: {', '.join(STAGES)}.", show_default=False)],
    run: RunOption = None,
    data: Annotated[str | None, typer.Option(help="Other data than the run's own, e.g. tinyworld:7.", show_default=False)] = None,
    split: Annotated[SplitName, typer.Option(help="Part of the data.")] = SplitName.test,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many examples.", show_default=False)] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Who listens to a Talker: an `asr` run (default: the newest) or pocketsphinx.", show_default=False
        ),
    ] = None,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure a run on its test split."""
    from omnictl.data.cache import cache_dir
    from omnictl.evaluate import evaluate_run
    from omnictl.train.device import choose_device

    output = Output(as_json=as_json)
    output.tell_log()
    check_stage(stage)
    chosen = chosen_run(run_root(runs), stage, run)
    chosen_device, cache = choose_device(device), cache_dir()
    listener = _chosen_judge(run_root(runs), chosen, judge, output, chosen_device, cache)
    output.say(f"judging {escape(str(chosen.path))} …")
    evaluation = evaluate_run(chosen, judge=listener, data=data, split=split.value, limit=limit, device=chosen_device, cache=cache)
    output.result(evaluation.as_json(), _table(evaluation))


def check_stage(stage: str) -> None:
    """Refuse a stage that there is not.

    Raises:
        UsageError: there is no such stage.
    """
    if stage not in STAGES:
        raise UsageError(
            f"there is no stage {stage!r}, expected one of: {', '.join(STAGES)}",
            where="STAGE",
            fix="name one of these",
        )


def chosen_run(root: Path, stage: str, reference: str | None) -> "Run":
    """The run that `--run` names, else the newest finished one.

    Raises:
        RunError: there is none.
    """
    from omnictl.runs.run import find_run, newest_run

    return newest_run(root, stage, "finished") if reference is None else find_run(root, stage, reference)


def _chosen_judge(
    root: Path, run: "Run", reference: str | None, output: Output, device: "torch.device", cache: Path
) -> "NamedJudge | None":
    """Who listens to what speaks: whom `--judge` names, else the newest recogniser that knows such speech.

    Raises:
        UsageError: the stage has no use for one, or the one named is not installed.
        RunError: there is none.
    """
    from omnictl.evaluate import NamedJudge
    from omnictl.judges import JUDGE, OUTSIDER, Pocketsphinx, newest_judge, open_judge
    from omnictl.runs.run import find_run

    if run.stage not in JUDGED:
        if reference is not None:
            raise UsageError(f"`{run.stage}` needs no judge", where="--judge", fix="leave it out")
        return None
    if reference == OUTSIDER:
        return NamedJudge(OUTSIDER, Pocketsphinx(), label=OUTSIDER)
    if reference is not None:
        found = find_run(root, JUDGE, reference)
    else:
        found, rejected = newest_judge(root, run)
        for line in rejected:
            output.say(f"not the judge: {escape(line)}")
    output.say(f"the judge is {escape(str(found.path))}")
    return NamedJudge(str(found.path), open_judge(found, device, cache))


def _table(evaluation: "Evaluation") -> str:
    report = evaluation.report
    lines = [f"[bold]{evaluation.run.stage}[/bold] on {report.num_examples} examples of the {evaluation.split} split"]
    lines += [f"  {name:<24} {value:.4f}" for name, value in {**report.metrics, **report.controls}.items()]
    if report.groups:
        lines += ["", *_by_group(report)]
    for prediction in report.predictions[:3]:
        shown = {key: escape(str(prediction.get(key, ""))) for key in ("prompt", "reference", "prediction")}
        lines.append(f"\n[dim]{shown['prompt']}[/dim]\n  reference:  {shown['reference']}\n  prediction: {shown['prediction']}")
    return "\n".join([*lines, "", f"predictions: {escape(str(evaluation.predictions))}"])


def _by_group(report: "Report") -> list[str]:
    """A line for each group, the worst by the headline metric first."""
    worst_first = sorted(report.groups.items(), key=lambda item: item[1][report.headline], reverse=report.better == "lower")
    lines = [
        escape(f"  {name:<24} " + "  ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
        for name, metrics in worst_first[:MOST_GROUPS]
    ]
    more = len(worst_first) - len(lines)
    return [*lines, f"  … and {more} more"] if more else lines
