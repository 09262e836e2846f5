"""What each unit of training takes on this machine: from the cache, else measured, else scaled from the reference.

Fresh stages on a little data (`omnictl.measure.untrained_stages`) take a few steps each, in one process of their own. Where the
time for it is short, only some units are measured; the others are assumed to be as much slower or faster than their references as
those. Fixed costs are the reference's: what is computed in them is scaled by the speed of small matrix products. A training
measures its own evaluation and plans anew.
"""

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from omnictl import __version__
from omnictl.config import Config, to_dict
from omnictl.errors import RunError
from omnictl.measure.bench import processor_name, time_step
from omnictl.measure.untrained_stages import in_one_fresh_process, save_untrained, untrained_stage
from omnictl.pipeline.time_budget.costs import FixedSeconds, UnitCost
from omnictl.pipeline.time_budget.data_budget import steps_of_all_data
from omnictl.pipeline.time_budget.first_steps import first_steps
from omnictl.pipeline.time_budget.reference_curves import Reference, find_reference
from omnictl.runs.files import read_json, write_json
from omnictl.stages import stage_type
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.hardware.device import keep_freed_memory, wait_for
from omnictl.trainer.hardware.precision import best_seconds

MEASURING_SHARE, MOST_MEASURING_SECONDS = 0.05, 60.0
"""Share of the given time that measuring may take, and its upper limit."""

LEAST_MEASURING_SECONDS = 10.0
"""Below this nothing can be measured: a process must start and make data first."""

TIMED_STEPS = 3

DEFAULT_PRESET = "tiny"
"""Preset of the models that a unit builds on, where they are not units themselves."""

PROBE = 512
"""Rows and columns of the products by which machines are compared."""

EFFICIENCY = 0.5
"""Share of the probe's rate that a step is assumed to reach, before it is timed."""

UNKNOWN_FIXED = FixedSeconds(prepare=60, plan=15, evaluate=20, save=1)
"""Costs of a unit without a reference, in steps."""


class UnitSpeed(NamedTuple):
    """The measured speed of a unit, and that of the machine at the time."""

    step_seconds: float
    probe_rate: float
    """Floating-point operations a second."""


class UnitConfig(NamedTuple):
    """A unit to be trained."""

    name: str
    config: Any
    """With `data` and `train`."""
    taken: int = 0
    """Steps already taken."""

    @property
    def train(self) -> TrainConfig:
        """How it is trained."""
        training: TrainConfig = self.config.train
        return training


def find_unit_costs(
    units: Sequence[UnitConfig],
    device: torch.device,
    cache: Path,
    *,
    seconds: float,
    max_steps: int | None,
    limits_data: bool,
    tell: Callable[[str], None],
) -> list[UnitCost]:
    """What units take here.

    Args:
        units: in the order of training.
        device: where to compute.
        cache: folder of the cache.
        seconds: that there are for all of it, measuring included.
        max_steps: total steps of every unit instead of the configured ones.
        limits_data: whether no more data is made than the planned steps read.
        tell: takes a line for people.

    Raises:
        DataError: data of one's own cannot be read.
        RunError, DiskFull: the cache cannot be written.
    """
    references = {unit.name: find_reference(unit.name, unit.config) for unit in units}
    measured = _measure_speeds(units, references, device, cache, seconds, tell)
    estimate = _estimate(measured, references, device)
    costs = [_cost(unit, references[unit.name], measured.get(unit.name), estimate, max_steps) for unit in units]
    if not limits_data:
        return costs
    return [replace(cost, steps_of_all_data=steps_of_all_data(unit.config)) for cost, unit in zip(costs, units, strict=True)]


def _read_speed(file: Path) -> UnitSpeed | None:
    """What was measured before; None if nothing was, or it cannot be read any more."""
    try:
        return UnitSpeed(**{name: float(value) for name, value in read_json(file).items()}) if file.is_file() else None
    except (RunError, AttributeError, TypeError, ValueError):
        return None


def _measure_speeds(
    units: Sequence[UnitConfig],
    references: Mapping[str, Reference | None],
    device: torch.device,
    cache: Path,
    seconds: float,
    tell: Callable[[str], None],
) -> dict[str, UnitSpeed]:
    """The speeds of units, from the cache or measured now."""
    files = {unit.name: _file(unit, device, cache) for unit in units}
    cached = {name: speed for name, file in files.items() if (speed := _read_speed(file)) is not None}
    missing = sorted((unit for unit in units if unit.name not in cached), key=lambda unit: _expected_step(references[unit.name]))
    if not missing:
        tell("the speed of this machine is known from an earlier run")
        return cached
    if cached and all(references[unit.name] for unit in missing):
        tell(f"the speed of this machine is known from an earlier run, that of {_names(missing)} estimated from the others")
        return cached
    room = min(MEASURING_SHARE * seconds, MOST_MEASURING_SECONDS)
    if room < LEAST_MEASURING_SECONDS:
        if all(references[unit.name] for unit in missing):
            tell("the time given is too short to measure this machine: its speed is estimated")
            return cached
        missing = [unit for unit in missing if references[unit.name] is None]
        tell(f"measuring {', '.join(unit.name for unit in missing)}: nothing is known of these settings …")
    else:
        tell(f"measuring this machine, for {room:.0f} s or less …")
    optional = [unit.name for unit in missing if references[unit.name]]
    plan = _Measuring({unit.name: unit.config for unit in units}, [unit.name for unit in missing], optional, room)
    measured = in_one_fresh_process(_measure, plan, device, cache)
    for name, speed in measured.items():
        files[name].parent.mkdir(parents=True, exist_ok=True)
        write_json(files[name], speed._asdict())
    estimated = [unit.name for unit in missing if unit.name not in measured]
    if estimated:
        tell(f"there was no time to measure {', '.join(estimated)}: estimated from the others")
    return cached | measured


def _names(units: Sequence[UnitConfig]) -> str:
    return ", ".join(unit.name for unit in units)


def _expected_step(reference: Reference | None) -> float:
    """Sort key of units: first those that must be measured, then those with the shortest steps."""
    return 0.0 if reference is None else reference.step_seconds


class _Measuring(NamedTuple):
    """What a process is to measure."""

    configs: Mapping[str, Config]
    """Configs of all units, including those that the measured ones build on."""
    units: list[str]
    optional: list[str]
    """Those of these units that are left out if time is short."""
    seconds: float


def _measure(measuring: _Measuring, device: torch.device, cache: Path, folder: Path) -> dict[str, UnitSpeed]:
    """The speeds of units, one after the other; optional ones as long as one more is likely to fit."""
    began, longest = time.monotonic(), 0.0
    keep_freed_memory()
    rate, share = probe_rate(device), measuring.seconds / len(measuring.units)
    speeds: dict[str, UnitSpeed] = {}
    for name in measuring.units:
        start = time.monotonic()
        if name in measuring.optional and start - began + longest > measuring.seconds:
            continue
        stage = _make_stage(name, measuring.configs, cache, folder)
        stage.model.to(device)
        step = time_step(stage, device, steps=TIMED_STEPS, seconds=share, affordable_flops=EFFICIENCY * rate * share)
        speeds[name] = UnitSpeed(step, rate)
        longest = max(longest, time.monotonic() - start)
    return speeds


def _make_stage(name: str, configs: Mapping[str, Config], cache: Path, folder: Path) -> Any:
    """A fresh stage, and in `folder` the models that it builds on; it is saved there itself if others build on it."""
    for part in stage_type(name).needs:
        if part in configs and not (folder / part).exists():
            _make_stage(part, configs, cache, folder)
    stage = untrained_stage(name, DEFAULT_PRESET, cache, folder, configs[name])
    if not (folder / name).exists() and any(name in stage_type(other).needs for other in configs):
        save_untrained(stage, folder / name)
    return stage


def probe_rate(device: torch.device) -> float:
    """Floating-point operations a second of small fp32 matrix products; takes milliseconds."""
    a = torch.ones(PROBE, PROBE, device=device)
    product = torch.empty_like(a)

    def run() -> None:
        torch.mm(a, a, out=product)
        wait_for(device)

    return 2.0 * PROBE**3 / best_seconds(run, rounds=5)


class _Estimate(NamedTuple):
    """Estimates for units that were not measured."""

    pace: float
    """Time of a step relative to that of its reference."""
    probe_rate: float


def _estimate(measured: Mapping[str, UnitSpeed], references: Mapping[str, Reference | None], device: torch.device) -> _Estimate:
    """Estimates from the measured units, otherwise from matrix products."""
    paces = [speed.step_seconds / reference.step_seconds for name, speed in measured.items() if (reference := references.get(name))]
    rate = statistics.median(speed.probe_rate for speed in measured.values()) if measured else probe_rate(device)
    if paces:
        return _Estimate(statistics.median(paces), rate)
    gflops = [reference.gflops for reference in references.values() if reference]
    return _Estimate(gflops[0] * 1e9 / rate if gflops else 1.0, rate)


def _cost(
    unit: UnitConfig, reference: Reference | None, measured: UnitSpeed | None, estimate: _Estimate, max_steps: int | None
) -> UnitCost:
    config = unit.train
    if reference is None:
        assert measured is not None, "units without a reference are measured in any case"
        step, fixed, curve = measured.step_seconds, UNKNOWN_FIXED.scale(measured.step_seconds), None
    else:
        step = estimate.pace * reference.step_seconds if measured is None else measured.step_seconds
        rate = estimate.probe_rate if measured is None else measured.probe_rate
        fixed, curve = reference.fixed_at(rate), reference.curve
    steps = max_steps or config.steps
    first, share = first_steps(unit.config)
    return UnitCost(
        unit.name,
        steps,
        config.eval_every,
        config.save_every,
        step,
        fixed,
        curve,
        taken=min(unit.taken, steps),
        first_steps=first,
        first_share=share,
    )


def _file(unit: UnitConfig, device: torch.device, cache: Path) -> Path:
    """The cache file for what was measured of a unit; its name is a hash of all that this depends on."""
    config = to_dict(unit.config)
    config["train"] = {key: config["train"][key] for key in ("batch_size", "optimizer", "precision", "average", "clip_norm")}
    machine = (str(device), processor_name(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
    parts = (__version__, torch.__version__, *machine, unit.name, json.dumps(config, sort_keys=True))
    return cache / "step_times" / f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}.json"
