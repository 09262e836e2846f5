from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from learning import check_that_it_learns_alike

from omnictl.errors import ConfigError
from omnictl.stages import STAGES
from omnictl.train import precision as module
from omnictl.train.precision import Precision, choose_precision, matmul_rate

CPU = torch.device("cpu")


def no_trial(_: Precision) -> None:
    raise AssertionError("nothing to try")


@pytest.mark.parametrize(
    ("bf16_seconds", "name", "reason"),
    [
        (0.5, "bf16", "this model runs 2.00× as fast in bf16 on this CPU"),
        (0.9, "fp32", "this model runs 1.11× as fast in bf16 on this CPU"),  # not worth its rounding
        (2.0, "fp32", "this model runs 0.50× as fast in bf16 on this CPU"),
    ],
)
def test_auto_on_a_cpu_takes_what_the_trial_found_faster(
    bf16_seconds: float, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def clock(run: Callable[[], None], *, rounds: int) -> float:
        before = len(tried)
        run()
        assert tried[before - 1] == tried[before]  # prepared once before it is timed
        return {"fp32": 1.0, "bf16": bf16_seconds}[tried[-1]]

    monkeypatch.setattr(module, "best_seconds", clock)
    assert choose_precision("auto", CPU, lambda candidate: tried.append(candidate.name)) == (name, reason)
    assert set(tried) == {"fp32", "bf16"}


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_what_is_configured_is_taken_untried(name: str) -> None:
    assert choose_precision(name, CPU, no_trial) == (name, "as configured")


@pytest.mark.parametrize(("has_bf16", "name"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_a_gpu_takes_bf16_where_it_has_it(has_bf16: bool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16)
    assert choose_precision("auto", torch.device("cuda"), no_trial).name == name


def test_bf16_on_a_gpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GTX 1080")
    with pytest.raises(ConfigError) as caught:
        choose_precision("bf16", torch.device("cuda"), no_trial)
    assert caught.value.message == "bf16 was asked for, but GTX 1080 has none"
    assert caught.value.where == "train.precision"
    assert caught.value.fix == "use --set train.precision=fp16, or auto"


def test_auto_elsewhere_stays_with_fp32() -> None:
    assert choose_precision("auto", torch.device("mps"), no_trial) == ("fp32", "the safe choice on mps")


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_products_run_in_the_format_and_only_fp16_scales_its_loss(name: str, dtype: torch.dtype) -> None:
    precision = Precision(name, "as configured")
    with precision.autocast(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == precision.dtype == dtype
    assert precision.scaler(CPU).is_enabled() == (name == "fp16")


def test_the_matmul_rate_is_of_the_best_of_ten_products(monkeypatch: pytest.MonkeyPatch) -> None:
    def clock(_run: Callable[[], None], *, rounds: int) -> float:
        assert rounds == 10
        return 0.5

    monkeypatch.setattr(module, "best_seconds", clock)
    assert matmul_rate(CPU) == 2 * 2048**3 / 0.5


def test_the_best_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.5])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(times))  # type: ignore[attr-defined]
    assert module.best_seconds(lambda: None, rounds=3) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_learns_in_sixteen_bits(stage: str, tmp_path: Path) -> None:
    check_that_it_learns_alike(stage, tmp_path, CPU, "fp16", "bf16")
