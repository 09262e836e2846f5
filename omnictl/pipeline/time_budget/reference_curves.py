"""What trainings of the shipped presets took and achieved on a machine that was measured: `reference_curves.json`.

`tests/benchmarks/reference_curves.py` makes its entries of finished runs. A file that a release ships is read as it is, unchecked.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from omnictl.config import Config, to_dict
from omnictl.pipeline.time_budget.costs import CurvePoint, FixedSeconds, ReferenceCurve
from omnictl.stages import unit_presets

FILE = "reference_curves.json"

FREE_SETTINGS = (
    "steps",
    "eval_every",
    "save_every",
    "seed",
    "precision",
    "micro_batch",
    "checkpointing",
    "runtime",
    "sharding",
)
"""Settings of `train` that do not change what a number of steps achieves."""


class Reference(NamedTuple):
    """A unit as it was measured."""

    curve: ReferenceCurve | None
    """None: only times are known."""
    step_seconds: float
    fixed: FixedSeconds
    gflops: float
    """Of the machine: billions of floating-point operations a second in small fp32 matrix products."""

    def fixed_at(self, rate: float) -> FixedSeconds:
        """The fixed costs where matrix products run at `rate` operations a second; files are made and written as fast as here."""
        computed = self.fixed.scale(self.gflops * 1e9 / rate)
        return self.fixed._replace(plan=computed.plan, evaluate=computed.evaluate)


@cache
def read_references() -> dict[str, dict[str, Reference]]:
    """All references, by preset and unit."""
    content = json.loads(files("omnictl.pipeline.time_budget").joinpath(FILE).read_text(encoding="utf-8"))
    return {
        preset: {unit: _reference(entry, entries["machine"]["gflops"]) for unit, entry in entries["units"].items()}
        for preset, entries in content["presets"].items()
    }


def find_reference(unit: str, config: Config) -> Reference | None:
    """The reference of a unit whose config is a preset's, except for `FREE_SETTINGS` and TinyWorld's seed; None if there is none.

    Args:
        unit: a stage of one model.
        config: of that stage.
    """
    presets, wanted = unit_presets(unit), _essence(config)
    for name, references in read_references().items():
        if unit in references and name in presets and _essence(presets[name]) == wanted:
            return references[unit]
    return None


def _reference(entry: dict[str, Any], gflops: float) -> Reference:
    points = tuple(CurvePoint(point["steps"], point["value"], point["verdict"]) for point in entry["points"])
    curve = ReferenceCurve(entry["metric"], entry["better"], points, entry.get("useful_steps", 0)) if points else None
    return Reference(curve, entry["step_seconds"], FixedSeconds(**entry["fixed_seconds"]), gflops)


def _essence(config: Config) -> dict[str, Any]:
    """A config without what may differ from run to run; another draw of TinyWorld is as good."""
    settings = to_dict(config)
    settings["train"] = {key: value for key, value in settings["train"].items() if key not in FREE_SETTINGS}
    if settings["data"]["source"].startswith("tinyworld:"):
        settings["data"] = {**settings["data"], "source": "tinyworld"}
    return settings
