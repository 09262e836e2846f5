"""`omnictl eval STAGE`: the numbers of a run; `omnictl eval all`: those of the newest run of every stage."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.completion import complete_evaluated
from omnictl.cli.console import Output
from omnictl.cli.measure.results_table import figure, overview, verdict_line
from omnictl.cli.options import DeviceOption, JsonOption, RunOption, RunsOption, SplitName, check_stage, check_tinyworld, choose_run
from omnictl.errors import UsageError
from omnictl.runs.root import run_root
from omnictl.stages import STAGES

if TYPE_CHECKING:
    from omnictl.measure.evaluate import Evaluation
    from omnictl.metrics.intervals import Estimate
    from omnictl.pipeline.evaluate import Measure
    from omnictl.runs.run import Run
    from omnictl.trainer.stage import Report

ALL = "all"

MOST_GROUPS = 12
"""Groups of examples shown to people."""


def evaluate(
    stage: Annotated[
        str, typer.Argument(help=f"{ALL}, or one of: {', '.join(STAGES)}.", autocompletion=complete_evaluated, show_default=False)
    ],
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
    """Measure a run on its test split, or with `all` the newest run of every stage."""
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.pipeline.evaluate import Measure
    from omnictl.trainer.hardware.device import choose_device

    output = Output(as_json=as_json)
    output.show_log()
    if stage != ALL:
        check_stage(stage)
    elif run is not None:
        raise UsageError("--run names one run, `eval all` judges several", where="--run", fix="leave it out, or name its stage")
    how = Measure(
        root=run_root(runs),
        judge=judge,
        data=data,
        split=split.value,
        limit=limit,
        device=choose_device(device),
        cache=cache_dir(),
        tell=lambda text: output.say(escape(text)),
    )
    if stage == ALL:
        _evaluate_all(how, output)
    else:
        _evaluate_one(choose_run(how.root, stage, run), how, output)


def _evaluate_one(run: "Run", how: "Measure", output: Output) -> None:
    from omnictl.pipeline.evaluate import measure

    evaluation = measure(run, how)
    output.result(evaluation.as_json(), f"{_table(evaluation)}\nreport: {escape(str(run.page))}")


def _evaluate_all(how: "Measure", output: Output) -> None:
    from omnictl.pipeline.evaluate import EvaluationResults, measure_all, newest_runs

    check_tinyworld(how.data)
    runs, missing = newest_runs(how.root)
    measured = measure_all(runs, how)
    everything = EvaluationResults(measured.evaluations, [*missing, *measured.missing])
    output.result(everything.as_json(), *overview(everything))


def _table(evaluation: "Evaluation") -> str:
    report = evaluation.report
    lines = [
        verdict_line(evaluation),
        f"[bold]{evaluation.run.stage}[/bold] on {report.num_examples} examples of the {evaluation.split} split",
    ]
    about = {name: _uncertainty(report.estimates.get(name)) for name in report.metrics}
    lines += [escape(f"  {name:<24} {figure(value):<9}{about[name]}") for name, value in report.metrics.items()]
    lines += [escape(f"  {name:<24} {figure(value)}") for name, value in report.controls.items()]
    lines += ["", escape(evaluation.shortfall)] if evaluation.shortfall else []
    if report.groups:
        lines += ["", *_by_group(report)]
    for prediction in report.predictions[:3]:
        shown = {key: escape(str(prediction.get(key, ""))) for key in ("prompt", "reference", "prediction")}
        lines.append(f"\n[dim]{shown['prompt']}[/dim]\n  reference:  {shown['reference']}\n  prediction: {shown['prediction']}")
    return "\n".join([*lines, "", f"predictions: {escape(str(evaluation.predictions))}"])


def _uncertainty(estimate: "Estimate | None") -> str:
    """How exact a metric is and whether it beats its control; empty for what is not measured."""
    if estimate is None:
        return ""
    text = f" {figure(estimate.low)} to {figure(estimate.high)}, n {estimate.count}"
    if estimate.control is None:
        return text
    return f"{text}, {'beats' if estimate.beats else 'does not beat'} {estimate.control.name}"


def _by_group(report: "Report") -> list[str]:
    """A line for each group, the worst by the headline metric first."""
    worst_first = sorted(report.groups.items(), key=lambda item: item[1][report.headline], reverse=report.better == "lower")
    lines = [
        escape(f"  {name:<24} " + "  ".join(f"{key} {figure(value, '.4g')}" for key, value in metrics.items()))
        for name, metrics in worst_first[:MOST_GROUPS]
    ]
    more = len(worst_first) - len(lines)
    return [*lines, f"  … and {more} more"] if more else lines
