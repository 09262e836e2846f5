"""What units take is measured once, estimated where there is no time for that, and known afterwards."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from omnictl.config import resolve
from omnictl.measure.untrained_stages import WHOLE_MODEL
from omnictl.pipeline.time_budget import unit_costs
from omnictl.pipeline.time_budget.costs import UnitCost
from omnictl.pipeline.time_budget.reference_curves import find_reference, read_references
from omnictl.pipeline.time_budget.unit_costs import UnitConfig, UnitSpeed, find_unit_costs
from omnictl.stages import stage_recipe, unit_presets

CPU = torch.device("cpu")


def units(*names: str, preset: str = "tiny") -> list[UnitConfig]:
    return [UnitConfig(name, unit_presets(name)[preset]) for name in names]


def costs(given: list[UnitConfig], cache: Path, seconds: float) -> tuple[list[UnitCost], list[str]]:
    told: list[str] = []
    return find_unit_costs(given, CPU, cache, seconds=seconds, max_steps=None, limits_data=False, tell=told.append), told


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was asked to be measured; all takes twice as long as the reference, and there is time for two."""
    asked: list[list[str]] = []

    def measure(_work: Callable[..., Any], measuring: Any, *_: Any) -> dict[str, UnitSpeed]:
        asked.append(measuring.units)
        references = read_references()["tiny"]
        kept = measuring.units[:2] + [unit for unit in measuring.units[2:] if unit not in measuring.optional]
        return {
            unit: UnitSpeed(
                2 * references[unit].step_seconds if unit in measuring.optional else 0.5, references["asr"].gflops * 5e8
            )
            for unit in kept
        }

    monkeypatch.setattr(unit_costs, "in_one_fresh_process", measure)
    monkeypatch.setattr(unit_costs, "probe_rate", lambda device: 80e9)
    return asked


def test_the_presets_units_have_references() -> None:
    for preset, references in read_references().items():
        assert set(references) == set(WHOLE_MODEL)
        for unit, reference in references.items():
            assert find_reference(unit, unit_presets(unit)[preset]) == reference
            if reference.curve is not None:
                steps = [point.steps for point in reference.curve.points]
                assert steps == sorted(set(steps))
                values = [point.value for point in reference.curve.points]
                assert values == sorted(values, reverse=reference.curve.better == "lower")


def test_a_curve_holds_for_other_steps_and_seeds_alone() -> None:
    (unit,) = units("asr")
    kind = stage_recipe("asr").config_type
    same = resolve(kind, preset=unit.config, overrides=["train.steps=9", "train.seed=5", 'data.source="tinyworld:7"'])
    assert find_reference("asr", same) is not None
    assert find_reference("asr", resolve(kind, preset=unit.config, overrides=["train.lr=1e-4"])) is None
    assert find_reference("asr", resolve(kind, preset=unit.config, overrides=["model.layers=1"])) is None
    assert find_reference("asr", unit_presets("asr")["small"]) is None


def test_what_was_measured_is_known_afterwards(tmp_path: Path, measured: list[list[str]]) -> None:
    given = units("pretrain", "asr")
    first, told = costs(given, tmp_path, 1800)
    assert measured == [["asr", "pretrain"]]  # the quickest first
    assert told == ["measuring this machine, for 60 s or less …"]
    again, told = costs(given, tmp_path, 1800)
    assert again == first
    assert told == ["the speed of this machine is known from an earlier run"]
    assert len(measured) == 1
    reference = read_references()["tiny"]["asr"]
    assert first[1].step_seconds == 2 * reference.step_seconds
    assert first[1].fixed == reference.fixed._replace(plan=2 * reference.fixed.plan, evaluate=2 * reference.fixed.evaluate)
    assert first[1].curve == reference.curve


def test_what_there_is_no_time_for_is_estimated_by_the_others(tmp_path: Path, measured: list[list[str]]) -> None:
    references = read_references()["tiny"]
    names = sorted(("pretrain", "asr", "vision"), key=lambda name: references[name].step_seconds)  # the quickest are measured
    found, told = costs(units(*names), tmp_path, 1800)
    assert found[2].step_seconds == pytest.approx(2 * references[names[2]].step_seconds)
    assert told[-1] == f"there was no time to measure {names[2]}: estimated from the others"
    _, told = costs(units(*names), tmp_path, 1800)
    assert len(measured) == 1  # it would not be quicker the next time
    assert told == [f"the speed of this machine is known from an earlier run, that of {names[2]} estimated from the others"]


def test_little_time_is_not_spent_on_measuring(tmp_path: Path, measured: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    reference = read_references()["tiny"]["asr"]
    monkeypatch.setattr(unit_costs, "probe_rate", lambda device: reference.gflops * 1e9 / 4)
    ((cost,), told) = costs(units("asr"), tmp_path, 60)
    assert measured == []
    assert told == ["the time given is too short to measure this machine: its speed is estimated"]
    assert cost.step_seconds == pytest.approx(4 * reference.step_seconds)


def test_settings_without_a_reference_are_measured_in_any_case(tmp_path: Path, measured: list[list[str]]) -> None:
    given = [*units("asr"), *units("vision", preset="small")]
    found, _ = costs(given, tmp_path, 60)
    assert measured == [["vision"]]
    assert (found[1].step_seconds, found[1].curve) == (0.5, None)
    assert found[1].fixed.evaluate == pytest.approx(0.5 * unit_costs.UNKNOWN_FIXED.evaluate)


@pytest.mark.slow
def test_a_real_measurement(tmp_path: Path) -> None:
    measuring = unit_costs._Measuring(
        {unit.name: unit.config for unit in units("codec", "aligner", "talker", preset="debug")}, ["talker"], [], 10.0
    )
    found = unit_costs._measure(measuring, CPU, tmp_path / "cache", tmp_path / "folder")
    assert list(found) == ["talker"]
    assert min(found["talker"]) > 0


def test_entries_are_made_of_finished_runs(tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "benchmarks" / "reference_curves.py"
    spec = importlib.util.spec_from_file_location("reference_curves_script", file)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for steps, value, verdict in ((100, 0.9, None), (400, 0.3, {"word": "weak"}), (800, 0.1, None)):
        run = tmp_path / str(steps)
        (run / "eval" / "test").mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"stage": "asr", "status": "finished", "steps": steps}))
        (run / "timings.jsonl").write_text("".join(json.dumps({"step": n, "seconds": 0.25}) + "\n" for n in range(12)))
        report = {"headline": {"name": "wer", "value": value, "better": "lower"}, **({"verdict": verdict} if verdict else {})}
        (run / "eval" / "test" / "report.json").write_text(json.dumps(report))
    points = [script.read_point(run) for run in sorted(tmp_path.iterdir())]
    fixed = {"prepare": 1.0, "plan": 1.0, "evaluate": 1.0, "save": 1.0}
    entry = script.make_entry(points, fixed)
    assert entry["points"] == [
        {"steps": 100, "value": 0.9, "verdict": "not learned"},
        {"steps": 400, "value": 0.3, "verdict": "weak"},
        {"steps": 800, "value": 0.1, "verdict": "learned"},
    ]
    assert (entry["metric"], entry["step_seconds"], entry["fixed_seconds"]) == ("wer", 0.25, fixed)
    assert script.parse_fixed("asr=1,1,1,1") == ("asr", fixed)
