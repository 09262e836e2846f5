"""What a page shows of a training: loss and validation, speed, memory against the plan, learning rate and gradients, samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omnictl.report.curves import Limit, Point, curve
from omnictl.report.html import Html, details, element, embed_file, table
from omnictl.report.run_files import History, history
from omnictl.runs.catalogue import parents_of
from omnictl.runs.log_file import read_lines
from omnictl.runs.run import Run

MIB = 2**20

SHOWN_STEPS = 6
"""Validations whose samples are shown, the first and the last among them."""

SHOWN_SAMPLES = 6


def training_section(run: Run) -> list[Html]:
    """Curves and samples of a run; nothing before its first step."""
    past = history(run)
    curves = [curve("training loss", past.loss)]
    if past.headline is not None:
        curves.append(curve(f"validation {past.headline}", past.values, best=past.best))
    machinery = [
        *_speed(past),
        curve("memory, MiB", _scaled(past.series("memory_bytes"), 1 / MIB), limits=_planned(run.record()), from_zero=True),
        curve("learning rate", past.series("lr")),
        curve("gradient norm", past.series("grad_norm")),
    ]
    return [element("div", *curves, *machinery, class_="curves"), *_samples_over_time(run)]


def training_sections(run: Run) -> list[Html]:
    """What is trained in a run: its own training, or if that has not begun, that of the runs that it is made from.

    A pipeline trains nothing itself, and a Talker its parts first.
    """
    if run.metrics_file.is_file() and run.metrics_file.stat().st_size:
        return training_section(run)
    sections: list[Html] = []
    for name, parent in parents_of(run).items():
        if name != "init":
            heading = element("h2", f"{parent.stage} · {parent.path.name} · {parent.record()['status']}")
            sections += [heading, *training_sections(parent)]
    return sections


def _speed(past: History) -> list[Html]:
    if past.throughput is None:
        return []
    unit = past.throughput.removesuffix("_per_second").replace("_", " ")
    return [curve(f"{unit} a second of training", past.series(past.throughput), from_zero=True)]


def _scaled(points: Sequence[Point], factor: float) -> list[Point]:
    return [Point(step, value * factor) for step, value in points]


def _planned(record: Mapping[str, Any]) -> list[Limit]:
    """What the memory was planned to be, where it was."""
    plan, loaded = record.get("memory") or {}, record.get("loaded_bytes")
    peak = plan.get("peak_bytes")
    if loaded is None or peak is None:
        return []
    return [Limit("planned", (loaded + max(peak, plan.get("evaluation_bytes") or 0)) / MIB)]


def _samples_over_time(run: Run) -> list[Html]:
    """The same few examples at several validations, one table an example."""
    lines = list(read_lines(run.samples_file))
    if not lines:
        return []
    steps = _spread(lines, SHOWN_STEPS)
    last = steps[-1]["samples"]
    tables = []
    for number, sample in enumerate(last[:SHOWN_SAMPLES]):
        there = [line for line in steps if number < len(line["samples"])]
        rows = [[str(line["step"]), _prediction(run, line["samples"][number], sample)] for line in there]
        tables.append(element("div", *_question(run, sample), table(["step", "prediction"], rows), class_="sample"))
    title = f"samples over time ({len(lines)} validations)"
    return [details(title, element("div", *tables, class_="row"))]


def _question(run: Run, sample: Mapping[str, Any]) -> list[Html]:
    """What is asked, shown or to be said, and what would be right."""
    parts = [_media(run, sample["image"])] if "image" in sample else []
    parts += [element("p", str(sample["prompt"]), class_="about")] if sample.get("prompt") else []
    return [*parts, element("p", f"right: {sample['reference']}")] if sample.get("reference") else parts


def _prediction(run: Run, sample: Mapping[str, Any], last: Mapping[str, Any]) -> Html:
    if "audio" in sample:
        return _media(run, sample["audio"])
    is_right = sample["prediction"] == last.get("reference")
    return element("span", str(sample["prediction"]), **({"class_": "right"} if is_right else {}))


def _media(run: Run, name: object) -> Html:
    """An image or a recording among the samples of a run; its name where the file is gone."""
    file = run.samples / Path(str(name)).name
    return embed_file(file) if file.is_file() and file.suffix in (".png", ".wav") else element("span", str(name))


def _spread(lines: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """At most so many lines, evenly spread, with the first and the last."""
    if len(lines) <= most:
        return list(lines)
    places = {round(number * (len(lines) - 1) / (most - 1)) for number in range(most)}
    return [lines[place] for place in sorted(places)]
