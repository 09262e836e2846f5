import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from omnictl.cli.app import run
from omnictl.measure import bench
from omnictl.measure.bench import TrainSpeed, measure_steps
from omnictl.measure.untrained_stages import WHOLE_MODEL, untrained_stage


@pytest.mark.slow
def test_a_stage_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--preset", "debug", "--steps", "2", "--json", "--quiet", "--only", "talker"]) == 0  # it stands on others
    found = json.loads(capsys.readouterr().out)
    (stage,) = found["stages"]
    assert stage["stage"] == "talker"
    parts = [stage[f"{part}_seconds"] for part in ("data", "forward", "backward", "optimizer")]
    assert min(parts) > 0
    assert max(parts) < 2 * stage["step_seconds"]
    assert stage["units_per_second"] > 0
    assert stage["matmul_share"] > 0
    assert stage["peak_bytes"] >= 0
    assert found["use"] is None
    assert found["machine"]["matmul_gflops"] > 0


@pytest.mark.slow
def test_everything_is_shown_as_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def alone(preset: str, stages: Sequence[str], device: torch.device, *, steps: int, cache: Path) -> Iterator[TrainSpeed]:
        assert (preset, tuple(stages)) == ("debug", WHOLE_MODEL)
        with tempfile.TemporaryDirectory() as folder:  # in this process: starting others takes longer than measuring
            yield measure_steps(untrained_stage("pretrain", preset, cache, Path(folder)), device, steps)

    monkeypatch.setattr(bench, "measure", alone)
    assert run(["bench", "--preset", "debug", "--steps", "1"]) == 0
    shown = capsys.readouterr().out
    for word in ("pretrain", "tokens/s", "backward", "writes", "the first audio after"):
        assert word in shown


@pytest.mark.slow
def test_the_stages_that_are_named_are_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    speeds = [TrainSpeed(name, *[1.0] * (len(TrainSpeed._fields) - 1)) for name in ("pretrain", "talker")]
    monkeypatch.setattr(bench, "measure", lambda preset, stages, *args, **kwargs: [one for one in speeds if one.stage in stages])
    assert run(["bench", "--preset", "debug", "--json", "--only", "pretrain", "--only", "talker"]) == 0
    assert [stage["stage"] for stage in json.loads(capsys.readouterr().out)["stages"]] == ["pretrain", "talker"]


@pytest.mark.parametrize(("option", "given"), [("--preset", "huge"), ("--only", "chat")])
def test_what_is_not_known_is_named(option: str, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", option, given, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["where"] == option
    assert f"'{given}'" in error["message"]
