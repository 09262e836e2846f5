from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from learning import check_that_it_learns_alike
from regression import Regression

from omnictl.errors import ConfigError
from omnictl.stages import STAGES
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.hardware import precision as module
from omnictl.trainer.hardware.precision import Precision, choose_precision, matmul_rate
from omnictl.trainer.plan import dry_run

CPU = torch.device("cpu")


def no_trial(_: Sequence[Precision]) -> list[float]:
    raise AssertionError("nothing to try")


def rates(monkeypatch: pytest.MonkeyPatch, *, fp32: float = 1e11, bf16: float = 1e11) -> None:
    monkeypatch.setattr(module, "product_rate", {"fp32": fp32, "bf16": bf16}.__getitem__)


@pytest.mark.parametrize(
    ("bf16_seconds", "name", "reason"),
    [
        (0.5, "bf16", "a step takes 1 s in fp32, 0.5 s in bf16 on this CPU"),
        (0.95, "fp32", "a step takes 1 s in fp32, 0.95 s in bf16 on this CPU"),  # not worth its rounding
        (2.0, "fp32", "a step takes 1 s in fp32, 2 s in bf16 on this CPU"),
    ],
)
def test_auto_on_a_cpu_takes_the_format_whose_steps_are_faster(
    bf16_seconds: float, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates(monkeypatch)

    def clock(formats: Sequence[Precision]) -> list[float]:
        return [{"fp32": 1.0, "bf16": bf16_seconds}[one.name] for one in formats]

    assert choose_precision("auto", CPU, clock) == (name, reason, "fp32", min(1.0, bf16_seconds) if name == "bf16" else 1.0)


def test_a_format_that_is_emulated_is_not_tried_on_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, bf16=1.3e9)
    chosen = choose_precision("auto", CPU, no_trial)
    assert chosen == ("fp32", "bf16 products run at 0.013 times the speed of fp32's on this CPU", "fp32", None)


def test_the_optimizer_multiplies_in_whatever_multiplies_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the model does: its passes may gain nothing from a format that doubles the speed of bare products."""
    rates(monkeypatch, bf16=2e11)
    assert choose_precision("fp32", CPU, no_trial).optimizer == "bf16"
    assert choose_precision("auto", CPU, lambda formats: [1.0, 1.0])[::2] == ("fp32", "bf16")
    rates(monkeypatch, bf16=0.9e11)
    assert choose_precision("bf16", CPU, no_trial).optimizer == "fp32"


class Clock:
    """Time that passes only where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_an_optimizer_that_is_slow_in_one_format_decides_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward passes are twice as fast in bf16; the optimizer's products, planted, take ten seconds there."""
    rates(monkeypatch)
    clock, stage = Clock(), Regression()
    for place in (module, dry_run):
        monkeypatch.setattr(place, "time", clock)

    def pass_(_stage: object, _batch: object, precision: Precision, _device: torch.device) -> None:
        clock.now += {"fp32": 1.0, "bf16": 0.5}[precision.name]

    monkeypatch.setattr(dry_run, "try_out", pass_)
    config = TrainConfig(batch_size=8)
    first = dry_run.precision_for(stage, stage.batches(), config, "adamw", CPU)
    assert (first.name, first.step_seconds) == ("bf16", 0.5)

    def slow(_stage: object, _config: object, _kind: str, precision: Precision, _device: torch.device) -> float:
        return 10.0 if precision.name == "bf16" else 0.1

    monkeypatch.setattr(dry_run, "update_seconds", slow)
    chosen = dry_run.precision_for(stage, stage.batches(), config, "adamw", CPU)
    assert (chosen.name, chosen.step_seconds) == ("fp32", 1.1)


@pytest.mark.parametrize(("steps", "turns"), [(20, 3), (180, 5), (100_000, 7)])
def test_trials_take_no_more_than_a_twentieth_of_the_training_nor_than_six_seconds(
    steps: int, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass takes half a second in either format, so a turn takes one; the turn that goes past the limit is the last."""
    clock, stage, passes = Clock(), Regression(), list[str]()
    for place in (module, dry_run):
        monkeypatch.setattr(place, "time", clock)

    def pass_(_stage: object, _batch: object, precision: Precision, _device: torch.device) -> None:
        passes.append(precision.name)
        clock.now += 0.5

    monkeypatch.setattr(dry_run, "try_out", pass_)
    formats = [Precision(name, "trial") for name in ("fp32", "bf16")]
    config = TrainConfig(batch_size=8, steps=steps)
    assert dry_run.step_seconds(stage, stage.batches(), config, "adamw", CPU, formats, examples=8) == [0.5, 0.5]
    assert passes == ["fp32", "bf16"] * turns


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_what_is_configured_is_taken_untried(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch)
    assert choose_precision(name, CPU, no_trial) == (name, "as configured", "fp32", None)


@pytest.mark.parametrize(("has_bf16", "name"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_a_gpu_takes_bf16_where_it_has_it(has_bf16: bool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16)
    chosen = choose_precision("auto", torch.device("cuda"), no_trial)
    assert chosen.name == chosen.optimizer == name


def test_bf16_on_a_gpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GTX 1080")
    with pytest.raises(ConfigError) as caught:
        choose_precision("bf16", torch.device("cuda"), no_trial)
    assert caught.value.message == "bf16 was requested, but GTX 1080 does not support it"
    assert caught.value.where == "train.precision"
    assert caught.value.fix == "use --set train.precision=fp16, or auto"


def test_auto_elsewhere_stays_with_fp32() -> None:
    assert choose_precision("auto", torch.device("mps"), no_trial)[:2] == ("fp32", "the safe choice on mps")


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_products_run_in_the_format_and_only_fp16_scales_its_loss(name: str, dtype: torch.dtype) -> None:
    precision = Precision(name, "as configured")
    with precision.autocast(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == precision.dtype == dtype
    assert precision.scaler(CPU).is_enabled() == (name == "fp16")


def test_the_matmul_rate_is_of_the_best_of_ten_products_or_of_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    def clock(_run: Callable[[], None], *, rounds: int, within: float) -> float:
        assert (rounds, within) == (10, 0.5)
        return 0.5

    monkeypatch.setattr(module, "best_seconds", clock)
    assert matmul_rate.__wrapped__(CPU) == 2 * 2048**3 / 0.5


def test_the_best_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.5])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(times))  # type: ignore[attr-defined]
    assert module.best_seconds(lambda: None, rounds=3) == 1.0


@pytest.mark.parametrize(("within", "taken"), [(0.5, 3), (6.5, 4), (7.5, 5), (99.0, 5)])
def test_after_three_rounds_none_begins_once_the_time_is_up(within: float, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [0.0, 3.0, 10.0, 11.0, 20.0, 22.0, 30.0, 31.0, 40.0, 41.0]  # 3, 1, 2, 1 and 1 seconds
    times = iter(ends)
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(times))  # type: ignore[attr-defined]
    assert module.best_seconds(lambda: None, rounds=5, within=within) == 1.0
    assert len(list(times)) == len(ends) - 2 * taken


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_learns_in_sixteen_bits(stage: str, tmp_path: Path) -> None:
    check_that_it_learns_alike(stage, tmp_path, CPU, "fp16", "bf16")
