"""Makes entries of `omnictl/pipeline/time_budget/reference_curves.json` of finished runs: each gives a point of its unit's curve.

python tests/benchmarks/reference_curves.py tiny runs/*/* --write omnictl/pipeline/time_budget/reference_curves.json

Runs of one unit must differ in their steps; each must have been evaluated (`omnictl eval`), and the longest gives the times. If a
report has no verdict, the distance of its value from that of the longest run decides, as a share of the distance between the
shortest and the longest run: a quarter or less is learned, a half or less weak. Fixed costs, which no log holds, are given with
`--fixed UNIT=PREPARE,PLAN,EVALUATE,SAVE` in seconds; without it, those in the file stay. So does `useful_steps`, set by hand.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

WARM_UP = 10
"""First steps of a run whose times are not counted."""

LEARNED, WEAK = 0.25, 0.5


class RunPoint(NamedTuple):
    """What a run gives."""

    unit: str
    steps: int
    metric: str
    better: str
    value: float
    verdict: str | None
    step_seconds: float


def read_point(run: Path) -> RunPoint:
    """The point of a finished run that has been evaluated."""
    record = json.loads((run / "run.json").read_text())
    if record["status"] != "finished":
        raise SystemExit(f"{run} is {record['status']}, expected a finished run")
    reports = sorted(run.glob("eval/*/report.json"), key=lambda file: file.stat().st_mtime_ns)
    if not reports:
        raise SystemExit(f"{run} has not been evaluated: omnictl eval {record['stage']} --run {run}")
    report = json.loads(reports[-1].read_text())
    headline, verdict = report["headline"], report.get("verdict")
    timings = [json.loads(line)["seconds"] for line in (run / "timings.jsonl").read_text().splitlines()]
    return RunPoint(
        record["stage"],
        record["steps"],
        headline["name"],
        headline["better"],
        headline["value"],
        None if verdict is None else verdict["word"],
        statistics.median(timings[WARM_UP:] or timings),
    )


def guess_verdict(value: float, first: float, last: float) -> str:
    """The verdict of a value between that of the shortest and that of the longest run."""
    missing = 0.0 if first == last else (value - last) / (first - last)
    return "learned" if missing <= LEARNED else "weak" if missing <= WEAK else "not learned"


def make_entry(points: Sequence[RunPoint], fixed: Mapping[str, float]) -> dict[str, Any]:
    """The entry of a unit.

    Args:
        points: of runs with different steps.
        fixed: seconds by the names of `FixedSeconds`.
    """
    points = sorted(points, key=lambda point: point.steps)
    steps = [point.steps for point in points]
    if len(set(steps)) < len(steps):
        raise SystemExit(f"several runs of {points[0].unit} have as many steps: {steps}")
    first, last = points[0].value, points[-1].value
    return {
        "metric": points[-1].metric,
        "better": points[-1].better,
        "points": [
            {"steps": point.steps, "value": point.value, "verdict": point.verdict or guess_verdict(point.value, first, last)}
            for point in points
        ],
        "step_seconds": points[-1].step_seconds,
        "fixed_seconds": dict(fixed),
    }


def describe_machine() -> dict[str, Any]:
    """What the times were measured on: here."""
    import torch

    from omnictl.measure.bench import processor_name
    from omnictl.pipeline.time_budget.unit_costs import probe_rate

    return {
        "processor": f"{processor_name()} ({torch.backends.cpu.get_cpu_capability()})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gflops": round(probe_rate(torch.device("cpu")) / 1e9, 1),
    }


def merge(content: dict[str, Any], preset: str, points: Sequence[RunPoint], fixed: Mapping[str, Mapping[str, float]]) -> None:
    """Put the entries of all units that there are points of into the file's content; the others stay as they are."""
    found = content["presets"].setdefault(preset, {"units": {}})
    found |= {"source": "measured by tests/benchmarks/reference_curves.py", "machine": describe_machine()}
    for unit in dict.fromkeys(point.unit for point in points):
        costs = fixed.get(unit) or found["units"].get(unit, {}).get("fixed_seconds")
        if costs is None:
            raise SystemExit(f"nothing is known of the fixed costs of {unit}: --fixed {unit}=PREPARE,PLAN,EVALUATE,SAVE")
        kept = {key: value for key, value in found["units"].get(unit, {}).items() if key == "useful_steps"}
        found["units"][unit] = kept | make_entry([point for point in points if point.unit == unit], costs)


def parse_fixed(text: str) -> tuple[str, dict[str, float]]:
    """`asr=120,6,6,0.3`."""
    unit, _, numbers = text.partition("=")
    return unit, dict(zip(("prepare", "plan", "evaluate", "save"), map(float, numbers.split(",")), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("preset")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--write", type=Path, required=True)
    parser.add_argument("--fixed", action="append", default=[], type=parse_fixed)
    given = parser.parse_args()
    content = json.loads(given.write.read_text())
    merge(content, given.preset, [read_point(run) for run in given.runs], dict(given.fixed))
    given.write.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
