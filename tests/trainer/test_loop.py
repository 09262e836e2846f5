import json
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from regression import CONFIG, Poisoned, Recorder, Regression, changed, lines, new_run, trained, weights
from safetensors.torch import load_file
from torch import Tensor, nn

from omnictl.errors import Diverged
from omnictl.runs.run import Run
from omnictl.trainer import trainer
from omnictl.trainer.config import RuntimeConfig, TrainConfig
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loop import train
from omnictl.trainer.optim.schedule import learning_rate_factor
from omnictl.trainer.plan import dry_run, run_setup
from omnictl.trainer.plan.step_plan import Speed, StepPlan
from omnictl.trainer.stage import LossSum, Report


def test_a_run_from_beginning_to_end(tmp_path: Path) -> None:
    stage, observer = Regression(), Recorder()
    run = new_run(tmp_path, stage)
    outcome = trained(run, stage, changed(steps=40, lr=0.01, eval_every=10, save_every=10), observer=observer)

    assert (outcome.status, outcome.steps, outcome.exit_code) == ("finished", 40, 0)
    noted = {"status": "finished", "steps": 40, "optimizer": "adamw"}
    assert run.record() == run.record() | noted
    assert run.record()["precision"][:2] == ["fp32", "as configured"]
    assert [record.step for record in observer.records] == list(range(1, 41))
    assert [step for step, _, _ in observer.evaluations] == [0, 10, 20, 30, 40]  # the untrained model first
    train, val = lines(run.metrics_file, "train"), lines(run.metrics_file, "val")
    assert val[-1]["mse"] < 0.3 * val[0]["mse"]
    assert set(train[0]) == {"step", "split", "loss", "absolute", "grad_norm", "lr"}
    assert set(lines(run.timings_file)[0]) == {
        "step", "seconds", "rows_per_second", "matmul_share", "data_wait_share", "padding_share", "memory_bytes",
    }  # fmt: skip
    best = min(val, key=lambda line: float(line["mse"]))
    assert json.loads((run.path / "best.json").read_text()) == {"step": best["step"], "mse": best["mse"]}
    assert outcome.report is not None
    assert outcome.report.value == val[-1]["mse"]


def test_after_a_step_it_is_logged_then_evaluated_then_saved(tmp_path: Path) -> None:
    stage = Regression()
    run = new_run(tmp_path, stage)
    trained(run, stage, changed(steps=7, eval_every=3, save_every=2))
    order = [(line["step"], line["split"]) for line in lines(run.metrics_file)]
    assert order == [
        (0, "val"), (1, "train"), (2, "train"), (3, "train"), (3, "val"), (4, "train"), (5, "train"),
        (6, "train"), (6, "val"), (7, "train"), (7, "val"),
    ]  # fmt: skip
    best = json.loads((run.path / "best.json").read_text())["step"]
    kept = {int(path.name.removeprefix("step-")) for path in run.checkpoints.iterdir()}
    assert {6, 7} <= kept <= {6, 7, best}
    state = json.loads((run.checkpoints / "step-00000007" / "state.json").read_text())
    assert state["best_step"] == best  # evaluated before it was saved


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        stage = Regression()
        runs.append(new_run(tmp_path / name, stage))
        trained(runs[-1], stage)
    assert runs[0].metrics_file.read_bytes() == runs[1].metrics_file.read_bytes()
    one, two = (run.checkpoints / "step-00000006" for run in runs)
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_micro_batches_do_not_change_what_is_learned(tmp_path: Path, micro_batch: int) -> None:
    whole, parts = Regression(), Regression()
    trained(new_run(tmp_path / "a", whole), whole)
    trained(new_run(tmp_path / "b", parts), parts, changed(micro_batch=micro_batch))
    for one, two in zip(weights(whole), weights(parts), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_nothing_in_a_run_is_a_pickle(tmp_path: Path) -> None:
    stage = Regression()
    run = new_run(tmp_path, stage)
    trained(run, stage)
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert {"".join(path.suffixes) or path.name for path in files} == {".json", ".jsonl", ".safetensors", ".lock"}
    for path in files:
        if path.suffix == ".safetensors":
            load_file(path)  # it is what its name says


def test_the_rate_follows_the_schedule(tmp_path: Path) -> None:
    stage = Regression()
    run = new_run(tmp_path, stage)
    trained(run, stage, changed(lr=0.5))
    expected = [0.5 * learning_rate_factor(step, steps=6, warmup=2, decay_fraction=0.4) for step in range(6)]
    assert [line["lr"] for line in lines(run.metrics_file, "train")] == expected


def test_not_every_step_need_be_logged_but_the_last_is(tmp_path: Path) -> None:
    stage, observer = Regression(), Recorder()
    run = new_run(tmp_path, stage)
    trained(run, stage, changed(steps=8, runtime=RuntimeConfig(log_every=3)), observer=observer)
    assert [line["step"] for line in lines(run.metrics_file, "train")] == [3, 6, 8]
    assert [line["step"] for line in lines(run.timings_file)] == [3, 6, 8]
    assert len(observer.records) == 8


class Rising(Regression):
    """Its headline is better when higher, and peaks at step 4."""

    values: Iterator[float]

    def validate(self) -> Report:
        return Report("accuracy", "higher", {"accuracy": next(self.values)}, 64)


def test_the_model_folder_holds_the_best_not_the_last(tmp_path: Path) -> None:
    stage, observer = Rising(), Recorder()
    stage.values = iter([0.1, 0.3, 0.7, 0.7])
    seen: dict[int, list[Tensor]] = {}
    observer.evaluated = lambda step, report, *, is_best: seen.update({step: weights(stage)})  # type: ignore[method-assign]
    run = new_run(tmp_path, stage)
    outcome = trained(run, stage, observer=observer)
    assert json.loads((run.path / "best.json").read_text()) == {"step": 4, "accuracy": 0.7}  # of equals the first
    kept = load_file(run.model / "model.safetensors")
    names = [name for name, _ in stage.model.named_parameters()]
    assert all(torch.equal(kept[name], tensor) for name, tensor in zip(names, seen[4], strict=True))
    assert not all(torch.equal(kept[name], tensor) for name, tensor in zip(names, seen[6], strict=True))
    assert outcome.report is not None
    assert outcome.report.value == 0.7


def state_after(run: Run, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and averages of a checkpoint."""
    folder = run.checkpoints / f"step-{step:08d}"
    moments = load_file(folder / "optimizer.safetensors")
    averages = {key.removesuffix("/average"): tensor for key, tensor in moments.items() if key.endswith("/average")}
    return load_file(folder / "model.safetensors"), averages


def test_the_average_is_judged_and_kept_while_the_weights_go_on(tmp_path: Path) -> None:
    plain, stage, observer = Regression(), Regression(), Recorder()
    runs = [new_run(tmp_path / "a", plain), new_run(tmp_path / "b", stage)]
    judged: dict[int, list[Tensor]] = {}
    observer.evaluated = lambda step, report, *, is_best: judged.update({step: weights(stage)})  # type: ignore[method-assign]
    trained(runs[0], plain)
    trained(runs[1], stage, changed(average=0.8), observer=observer)

    # It is trained as without the average, but other things are found.
    train, val = ([lines(run.metrics_file, split) for run in runs] for split in ("train", "val"))
    assert train[0] == train[1]
    assert val[0][0] == val[1][0]  # before the first step
    assert not any(one["mse"] == two["mse"] for one, two in zip(val[0][1:], val[1][1:], strict=True))
    for step in (2, 4, 6):
        if (runs[1].checkpoints / f"step-{step:08d}").exists():
            kept, averages = state_after(runs[1], step)
            assert averages.keys() == kept.keys()
            assert all(torch.equal(kept[name], tensor) for name, tensor in state_after(runs[0], step)[0].items())
            assert all(torch.equal(one, two) for one, two in zip(judged[step], averages_in_order(stage, averages), strict=True))
    assert all(torch.equal(one, two) for one, two in zip(weights(plain), weights(stage), strict=True))

    best = json.loads((runs[1].path / "best.json").read_text())["step"]
    model = load_file(runs[1].model / "model.safetensors")
    assert all(torch.equal(one, two) for one, two in zip(judged[best], averages_in_order(stage, model), strict=True))
    assert not any(torch.equal(tensor, model[name]) for name, tensor in state_after(runs[1], best)[0].items())


def averages_in_order(stage: Regression, tensors: dict[str, Tensor]) -> list[Tensor]:
    return [tensors[name] for name, _ in stage.model.named_parameters()]


def test_a_step_that_is_skipped_is_not_averaged(tmp_path: Path) -> None:
    """Else the same weights would count twice."""
    factors = iter([1.0] * 6 + [math.inf] + [1.0] * 10)  # from the third step on: the ninth overflows

    def overflow_once(loss: LossSum, _model: nn.Module) -> LossSum:
        return replace(loss, sum=loss.sum * next(factors))

    stage = Poisoned(overflow_once)
    run = new_run(tmp_path, stage)
    names = [name for name, _ in stage.model.named_parameters()]
    expected = {name: tensor.double() for name, tensor in zip(names, weights(stage), strict=True)}
    config = changed(precision="fp16", average=0.5, steps=12, save_every=1, eval_every=12, runtime=RuntimeConfig(keep=12))
    trained(run, stage, config)
    skipped = {line["step"] for line in lines(run.metrics_file, "train") if "skipped" in line}
    assert 9 in skipped
    assert 8 not in skipped
    for step in range(1, 13):
        kept, averages = state_after(run, step)
        if step not in skipped:
            share = min(0.5, step / (9 + step))
            expected = {name: share * tensor + (1 - share) * kept[name].double() for name, tensor in expected.items()}
        for name, tensor in averages.items():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)


class Resting(Regression):
    """Its fourth step gives no matrix a gradient, its fifth nothing at all."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[list[Tensor]] = []

    def loss(self, batch: Tensor) -> LossSum:
        self.before.append(weights(self))
        losses = {4: list(self.model.parameters())[-1].square().sum(), 5: torch.zeros(())}
        rest = losses.get(len(self.before))
        return super().loss(batch) if rest is None else LossSum(rest, 1, {})


def test_in_fp16_an_optimizer_without_gradients_rests(tmp_path: Path) -> None:
    stage = Resting()
    trained(new_run(tmp_path, stage), stage, changed(precision="fp16", optimizer="muon"))
    moved = [[not torch.equal(*pair) for pair in zip(*stage.before[step : step + 2], strict=True)] for step in (3, 4)]
    assert moved == [[False] * 5 + [True], [False] * 6]


def test_after_a_failed_evaluation_the_weights_are_back(tmp_path: Path) -> None:
    class Hopeless(Regression):
        def validate(self) -> Report:
            self.judged = weights(self)
            return Report("mse", "lower", {"mse": 1.0 if self.calls < 2 else math.nan}, 64)

        calls = 0

        def loss(self, batch: Tensor) -> LossSum:
            self.calls += 1
            return super().loss(batch)

    plain, stage = Regression(), Hopeless()
    trained(new_run(tmp_path / "a", plain), plain, max_steps=2)
    run = new_run(tmp_path / "b", stage)
    with pytest.raises(Diverged, match="mse is nan on the validation split"):
        trained(run, stage, changed(average=0.8), max_steps=2)
    assert all(torch.equal(one, two) for one, two in zip(weights(plain), weights(stage), strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(stage.judged, weights(stage), strict=True))


class Counting(nn.Module):
    """Counts how often its statistics are taken over."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        return x

    def apply_batch_statistics(self) -> None:
        self.calls += 1

    def share_batch_statistics(self, concatenate: Callable[[Tensor], Tensor]) -> None:
        concatenate(torch.zeros(1))

    def forget_batch_statistics(self) -> None:
        pass


def test_batch_statistics_are_taken_over_once_a_step(tmp_path: Path) -> None:
    stage, counting = Regression(), Counting()
    stage.model = nn.Sequential(*stage.model.children(), counting)
    trained(new_run(tmp_path, stage), stage, changed(micro_batch=2))
    assert counting.calls == CONFIG.steps


def test_fewer_steps_than_configured(tmp_path: Path) -> None:
    stage = Regression()
    run = new_run(tmp_path, stage)
    assert trained(run, stage, max_steps=4).steps == 4
    rates = [line["lr"] for line in lines(run.metrics_file, "train")]
    assert rates[-1] == CONFIG.lr / (0.4 * 4)  # the schedule ends there too
    assert (run.checkpoints / "step-00000004").is_dir()


def test_a_deadline_already_past_still_evaluates_and_saves(tmp_path: Path) -> None:
    stage, observer = Regression(), Recorder()
    run = new_run(tmp_path, stage)
    outcome = trained(run, stage, changed(steps=50), observer=observer, deadline=time.monotonic())
    assert (outcome.status, outcome.steps) == ("finished", 1)
    assert [step for step, _, _ in observer.evaluations] == [0, 1]
    assert (run.checkpoints / "step-00000001").is_dir()


class Planner:
    """Says the same when asked again."""

    def __init__(self, plan: StepPlan) -> None:
        self.plan = plan
        self.speeds: list[Speed] = []

    def begin(self) -> StepPlan:
        return self.plan

    def refix(self, speed: Speed) -> StepPlan:
        self.speeds.append(speed)
        return self.plan


def planned(run: Run, stage: Regression, config: TrainConfig, plan: StepPlan) -> tuple[Recorder, Planner]:
    observer, planner = Recorder(), Planner(plan)
    train(stage, config, run, device=torch.device("cpu"), observer=observer, planner=planner)
    return observer, planner


def test_evaluations_that_take_long_are_few(tmp_path: Path) -> None:
    stage = Regression()
    plan = StepPlan(steps=12, deadline=math.inf, least_steps=2, step_seconds=1.0, evaluation_seconds=5.0)
    observer, planner = planned(new_run(tmp_path, stage), stage, changed(steps=50, eval_every=2), plan)
    assert [step for step, _, _ in observer.evaluations] == [12]
    assert observer.notes == [
        "evaluated once, after the last step: an evaluation takes about 5 s",
        "the untrained model is not evaluated: that would take about 5 s",
    ]
    ((step, _, evaluation, _),) = planner.speeds
    assert (step, evaluation) == (6, None)  # half of so few steps


def test_the_least_steps_are_taken_even_if_it_is_too_late(tmp_path: Path) -> None:
    stage = Regression()
    plan = StepPlan(steps=12, deadline=-math.inf, least_steps=4, step_seconds=1.0, evaluation_seconds=0.0)
    observer, _ = planned(new_run(tmp_path, stage), stage, changed(steps=50), plan)
    assert len(observer.records) == 4
    assert "out of time after 4 of 12 steps" in observer.notes


def test_a_far_deadline_takes_the_configured_steps(tmp_path: Path) -> None:
    stage, observer = Regression(), Recorder()
    run = new_run(tmp_path, stage)
    assert trained(run, stage, changed(steps=14), observer=observer, deadline=time.monotonic() + 1e6).steps == 14
    assert all("evaluated" in note for note in observer.notes)
    assert [record.steps for record in observer.records] == [14] * 14
    state = json.loads((run.checkpoints / "step-00000014" / "state.json").read_text())
    assert state["steps"] == 14


def test_the_trial_of_formats_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(requested: str, device: torch.device, step_seconds: Callable[[Sequence[Precision]], list[float]]) -> Precision:
        seconds = step_seconds([Precision(name, "trial") for name in ("fp32", "bf16")])
        assert all(0 < each < math.inf for each in seconds)
        assert all(parameter.grad is None for parameter in tried.model.parameters())
        return Precision("fp32", "as configured")

    plain, tried = Regression(), Regression()
    runs = [new_run(tmp_path / "a", plain), new_run(tmp_path / "b", tried)]
    trained(runs[0], plain)
    monkeypatch.setattr(dry_run, "choose_precision", choose)
    trained(runs[1], tried)
    assert runs[0].metrics_file.read_bytes() == runs[1].metrics_file.read_bytes()


def test_first_steps_that_contradict_the_trial_are_a_reason_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = iter([Precision("fp32", "a step takes 1e-9 s", "fp32", 1e-9), Precision("bf16", "a step takes 1 s", "bf16", 1.0)])
    monkeypatch.setattr(run_setup, "precision_for", lambda *_: next(chosen))
    stage, observer = Regression(), Recorder()
    run = new_run(tmp_path, stage)
    trained(run, stage, changed(steps=24, save_every=100), observer=observer)
    first, second = observer.notes[:2]
    assert re.fullmatch(r"a step takes \S+ s, 1e-09 s were measured: timing number formats again", first)
    assert second == "now bf16: a step takes 1 s"
    assert run.record()["precision"] == ["bf16", "a step takes 1 s", "bf16", 1.0]
    assert next(chosen, None) is None
    assert (run.checkpoints / "step-00000010").is_dir()  # where a resume begins, in the same format


@pytest.mark.parametrize("promised", [1e-9, 1e9])
def test_a_resume_does_not_time_formats_again(promised: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = iter([Precision("fp32", "measured", "fp32", promised)] * (1 if promised > 1 else 2))
    monkeypatch.setattr(run_setup, "precision_for", lambda *_: next(chosen))
    stage, config = Regression(), changed(steps=26)
    run = new_run(tmp_path, stage)
    trained(run, stage, config, max_steps=12)
    assert next(chosen, None) is None  # the first steps have decided
    monkeypatch.setattr(trainer, "CONTRADICTION", 0.0)  # whatever a step takes now is too long
    observer = Recorder()
    trained(run, Regression(), config, max_steps=26, observer=observer)
    assert (observer.begun_at, observer.notes) == (12, [])


def test_steps_are_planned_by_the_speed_of_the_format_that_they_are_taken_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = iter([Precision("fp32", "measured", "fp32", 1e-9), Precision("bf16", "measured again", "bf16", 7.0)])
    monkeypatch.setattr(run_setup, "precision_for", lambda *_: next(chosen))
    seen: list[Speed] = []

    class Planner:
        def begin(self) -> StepPlan:
            return StepPlan(24, time.monotonic() + 1e6, 1, 1e-9, 1e-9)

        def refix(self, speed: Speed) -> StepPlan:
            seen.append(speed)
            return self.begin()

    stage = Regression()
    trained(new_run(tmp_path, stage), stage, changed(steps=24), planner=Planner())
    assert [speed.step_seconds for speed in seen] == [7.0]


def test_fewer_steps_than_were_taken_leave_a_finished_run_finished(tmp_path: Path) -> None:
    stage = Regression()
    run = new_run(tmp_path, stage)
    trained(run, stage)
    outcome = trained(run, Regression(), max_steps=3)
    assert (outcome.status, outcome.steps, run.record()["status"]) == ("finished", 6, "finished")


def test_first_steps_as_promised_leave_the_format_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promised = Precision("fp32", "measured", "fp32", 1e9)
    monkeypatch.setattr(run_setup, "precision_for", lambda *_: promised)
    stage, observer = Regression(), Recorder()
    trained(new_run(tmp_path, stage), stage, changed(steps=14), observer=observer)
    assert observer.notes == []


def test_what_is_worth_knowing_is_told_before_the_first_step(tmp_path: Path) -> None:
    stage, observer = Regression(), Recorder()
    trained(new_run(tmp_path, stage), stage, changed(micro_batch=2), observer=observer)
    assert observer.begun_at == 0
    assert observer.facts.pop("memory").startswith("0 MiB a step of ")
    assert observer.facts == {
        "parameters": "0.00M",
        "device": "cpu, 100 GFLOP/s in fp32",
        "precision": "fp32 (as configured)",
        "optimizer": "adamw",
        "batch": "8 = 4 × 2",
    }


def test_events_for_tensorboard_beside_the_log(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    stage = Regression()
    run = new_run(tmp_path, stage)
    trained(run, stage, changed(runtime=RuntimeConfig(trackers=("tensorboard",))))
    assert list((run.path / "tensorboard").glob("events.*"))
