import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

from omnictl.cli.app import run
from omnictl.config import Config
from omnictl.measure import plan
from omnictl.measure.plan import StagePlan, TargetGpu
from omnictl.measure.untrained_stages import WHOLE_MODEL

KEYS = {"stage", "peak_bytes", "micro_batch", "accumulation", "checkpointing", "precision", "total_steps", "disk_bytes"}


@pytest.mark.slow
def test_a_stage_is_planned_for_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "pretrain", "--preset", "debug", "--set", "train.micro_batch=2", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    (stage,) = found["stages"]
    assert set(stage) >= KEYS
    assert (stage["stage"], stage["micro_batch"], stage["accumulation"], stage["total_steps"]) == ("pretrain", 2, 4, 20)
    assert found["memory"] is None


def without_tracing(monkeypatch: pytest.MonkeyPatch, *, fits: bool) -> list[TargetGpu | None]:
    """Let every plan be made up; returns what they were asked for."""
    asked: list[TargetGpu | None] = []

    def make_plans(
        configs: Mapping[str, Config], preset: str, elsewhere: TargetGpu | None, device: torch.device, *, cache: Path
    ) -> Iterator[StagePlan]:
        asked.append(elsewhere)
        parts = {"parameters": 2**20, "activations": 3 * 2**30}
        for name in configs:
            yield StagePlan(
                name, fits, 10**6, 2**32, parts, 2**31, 2**33, 4, 2, "off", "bf16", "muon", "tokens", 9e3, 100, 1.5, 0.04, 2**30, 0
            )

    monkeypatch.setattr(plan, "make_plans", make_plans)
    return asked


def test_all_stages_are_shown_in_one_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = without_tracing(monkeypatch, fits=True)
    assert run(["plan", "all", "--preset", "small", "--memory", "12GB", "--tflops", "50"]) == 0
    assert asked == [TargetGpu(12 * 10**9, 50.0)]
    shown = capsys.readouterr().out
    for word in (*WHOLE_MODEL, "4.0 GiB", "2 × 4", "nothing", "bf16 muon", "50 TFLOP/s", "omnictl pipeline --preset small"):
        assert word in shown


def test_the_next_command_is_of_what_was_planned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    without_tracing(monkeypatch, fits=True)
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_text("train = { steps = 9 }\n")
    given = ["--config", "my.toml", "--data", "tinyworld:3", "--device", "cpu", "--set", "data.speeds=[1.0]"]
    assert run(["plan", "asr", *given]) == 0
    assert f"next omnictl asr {shlex.join(given)}" in " ".join(capsys.readouterr().out.split())


def test_what_does_not_fit_is_shown_and_ends_with_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_tracing(monkeypatch, fits=False)
    assert run(["plan", "pretrain", "--memory", "1GB", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["stages"][0]["fits"] is False


def test_the_parts_of_one_stages_memory_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    without_tracing(monkeypatch, fits=True)
    assert run(["plan", "vision"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "a step 4.0 GiB (parameters 1.0 MiB, activations 3.0 GiB), an evaluation 2.0 GiB" in shown


def test_the_talker_is_planned_part_by_part(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    without_tracing(monkeypatch, fits=False)
    assert run(["plan", "talker", "--set", "vocoder=istft", "--json"]) == 5
    assert [stage["stage"] for stage in json.loads(capsys.readouterr().out)["stages"]] == ["codec", "aligner", "vocoder", "talker"]


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["all", "--set", "train.steps=3"], "all"),
        (["all", "--data", "tinyworld:3"], "all"),
        (["pretrain", "--memory", "much"], "--memory"),
        (["pretrain", "--tflops", "3"], "--tflops"),
        (["pretrian"], "STAGE"),
        (["pretrain", "--preset", "huge"], "--preset"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["where"] == where
