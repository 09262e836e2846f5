"""Steps that are not finite, or far out: the weights never are, and what happened can be read.

Faults are put into the loss or into the gradients of chosen steps of a stage that learns in microseconds.
"""

import hashlib
import itertools
import json
import math
import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from regression import Recorder, Regression, changed, lines, new_run, trained
from stage_factory import make_stage
from torch import Tensor

from omnictl.errors import Diverged
from omnictl.runs.run import Run, create_run
from omnictl.trainer.checkpoint import TrainState, plain_state_dict
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.log import StepRecord
from omnictl.trainer.loop import Outcome, train
from omnictl.trainer.optim.bad_steps import FAR_OUT, MOST_RETURNS, RECENT, is_far_out
from omnictl.trainer.stage import LossSum

STEPS = int(os.environ.get("OMNICTL_FAULTS", "20"))
"""So many faulty steps of each kind; 100 and more for the figures in docs/reliability.md."""

BATCH = 8

Spoil = Callable[[LossSum], LossSum]


def scaled(factor: float) -> Spoil:
    """The gradient alone: the loss stays what it is."""

    def spoil(loss: LossSum) -> LossSum:
        total = loss.sum * 1.0
        total.register_hook(lambda gradient: gradient * factor)
        return replace(loss, sum=total)

    return spoil


KINDS: Mapping[str, Spoil] = {
    "loss nan": lambda loss: replace(loss, sum=loss.sum * math.nan),
    "loss inf": lambda loss: replace(loss, sum=loss.sum * math.inf),
    "gradient nan": scaled(math.nan),
    "gradient inf": scaled(math.inf),
    "gradient -inf": scaled(-math.inf),
    "gradient × 1e4": scaled(1e4),
    "gradient × 1e30": scaled(1e30),  # whose norm overflows
}
FINITE = "gradient × 1e4"


class Faulty(Regression):
    """Some steps (from 1) are spoiled; dropout makes every step depend on the generator. Notes the weights before each step."""

    def __init__(self, faults: Mapping[int, Spoil] = {}) -> None:
        super().__init__()
        self.model.insert(2, torch.nn.Dropout(0.1))  # type: ignore[operator]
        self.faults = faults
        self.before: dict[int, dict[str, Tensor]] = {}

    def ids(self, step: int) -> Sequence[int]:
        return range(step * BATCH, (step + 1) * BATCH)

    def loss(self, batch: Tensor) -> LossSum:
        step = int(batch[0]) // BATCH + 1
        self.before[step] = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        assert all(tensor.isfinite().all() for tensor in self.before[step].values())
        spoil = self.faults.get(step, lambda loss: loss)
        return spoil(super().loss(batch % 64))

    def work(self, batch: Tensor) -> Any:
        return super().work(batch % 64)


def rows_of(step: int) -> list[str]:
    """What a step's examples are called."""
    return [f"row {number}" for number in range(BATCH * (step - 1), BATCH * step)]


def config(**fields: object) -> TrainConfig:
    return changed(**{"steps": 40, "eval_every": 10, "save_every": 5, **fields})


def events(run: Run) -> list[dict[str, Any]]:
    return lines(run.bad_steps_file) if run.bad_steps_file.exists() else []


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def hashes(run: Run) -> dict[str, str]:
    last = max(run.checkpoints.glob("step-*"))
    files = [*sorted(last.iterdir()), run.metrics_file, run.model / "model.safetensors", run.path / "best.json"]
    files += [run.bad_steps_file] if run.bad_steps_file.exists() else []
    return {str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Stopping(Recorder):
    """Ends the process's training, as a kill would, when a step has been taken."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def step(self, record: StepRecord) -> None:
        super().step(record)
        if record.step == self.at:
            raise KeyboardInterrupt


def stopped_at(folder: Path, faults: Mapping[int, Spoil], steps: Sequence[int], how: TrainConfig) -> Run:
    """A run that is stopped after these steps, and taken up again each time."""
    run = new_run(folder, Faulty())
    for at in steps:
        with pytest.raises(KeyboardInterrupt):
            trained(run, Faulty(faults), how, observer=Stopping(at))
    assert trained(run, Faulty(faults), how).status == "finished"
    return run


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != FINITE])
def test_a_step_that_is_not_finite_is_skipped_and_its_examples_are_named(kind: str, tmp_path: Path) -> None:
    stage, observer = Faulty({13: KINDS[kind]}), Recorder()
    run = new_run(tmp_path, stage)
    assert trained(run, stage, config(steps=16), observer=observer).status == "finished"
    (event,) = events(run)
    assert (event["step"], event["action"], event["examples"]) == (13, "skipped", rows_of(13))
    assert {type(event[name]) for name in ("loss", "grad_norm")} <= {str, float}
    assert "inf" in f"{event['loss']} {event['grad_norm']}" or "nan" in f"{event['loss']} {event['grad_norm']}"
    assert same(stage.before[13], stage.before[14])
    assert not same(stage.before[14], stage.before[15])
    (line,) = [line for line in lines(run.metrics_file, "train") if "skipped" in line]
    assert set(line) == {"step", "split", "skipped", "lr"}
    (note,) = observer.notes
    assert note.startswith("step 13: loss ")
    assert note.endswith(": skipped; its examples are in bad_steps.jsonl")


def test_a_gradient_that_is_far_out_is_clipped_and_its_examples_are_named(tmp_path: Path) -> None:
    stage, observer = Faulty({13: KINDS[FINITE]}), Recorder()
    run = new_run(tmp_path, stage)
    trained(run, stage, config(steps=16), observer=observer)
    (event,) = events(run)
    assert (event["step"], event["action"], event["examples"]) == (13, "clipped", rows_of(13))
    norms = [line["grad_norm"] for line in lines(run.metrics_file, "train")]
    assert event["grad_norm"] == norms[12] > 1000 * max(norms[:12])
    assert observer.notes[0].endswith(": clipped; its examples are in bad_steps.jsonl")
    moved = max(float((stage.before[14][name] - stage.before[13][name]).abs().max()) for name in stage.before[13])
    assert 0 < moved < 10 * config().lr


def test_what_is_far_out_goes_by_the_steps_before_it() -> None:
    recent = TrainState(norms=[0.01] * (RECENT // 2))
    assert is_far_out(0.011 * FAR_OUT, recent, clip_norm=1.0)
    assert not is_far_out(0.009 * FAR_OUT, recent, clip_norm=1.0)
    assert not is_far_out(0.011 * FAR_OUT, recent, clip_norm=100.0)  # no larger than gradients may be
    assert not is_far_out(1e9, TrainState(norms=[0.01] * 3), clip_norm=1.0)  # too few to go by


def test_three_in_a_row_go_back_to_the_last_good_checkpoint_and_past_the_window(tmp_path: Path) -> None:
    stage, observer = Faulty(dict.fromkeys((18, 19, 20), KINDS["gradient nan"])), Recorder()
    run = new_run(tmp_path, stage)
    assert trained(run, stage, config(), observer=observer).status == "finished"
    assert [(event["step"], event["action"]) for event in events(run)] == [
        (18, "skipped"), (19, "skipped"), (20, "skipped"), (20, "returned"),
    ]  # fmt: skip
    assert events(run)[-1]["to_step"] == 15
    assert same(stage.before[21], stage.before[16])  # the weights of step 15
    assert not same(stage.before[18], stage.before[16])
    assert list(stage.before) == list(range(1, 41))  # no batch is read twice, none is left out
    assert observer.notes[-1] == (
        "3 steps in a row were not finite: going on with the weights of step 15, and with step 21 of the data"
    )
    state = json.loads((run.checkpoints / "step-00000040" / "state.json").read_text())
    assert (state["returns"], state["skipped"], state["good_step"]) == (1, 0, 40)


def test_moments_go_back_too(tmp_path: Path) -> None:
    """Of parameters that had not learned yet at that checkpoint, there are none again."""
    runs = [new_run(tmp_path / name, Faulty()) for name in ("a", "b")]
    trained(runs[0], Faulty(), config(steps=15, schedule={"warmup_steps": 0, "decay_fraction": 0}))
    faults = dict.fromkeys((18, 19, 20), KINDS["loss nan"])
    trained(runs[1], Faulty(faults), config(steps=20, schedule={"warmup_steps": 0, "decay_fraction": 0}))
    one, two = (run.checkpoints / name for run, name in zip(runs, ("step-00000015", "step-00000020"), strict=True))
    for name in ("model.safetensors", "optimizer.safetensors", "rng.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_two_in_a_row_do_not_go_back(tmp_path: Path) -> None:
    stage = Faulty(dict.fromkeys((18, 19, 21, 22), KINDS["loss nan"]))
    run = new_run(tmp_path, stage)
    trained(run, stage, config())
    assert {event["action"] for event in events(run)} == {"skipped"}


def ending(faults: Mapping[int, Spoil], folder: Path, **fields: object) -> Diverged:
    run = new_run(folder, Faulty())
    with pytest.raises(Diverged) as caught:
        trained(run, Faulty(faults), config(**fields))
    assert events(run)[-1]["step"] == int(caught.value.message.split(":")[0].removeprefix("step "))
    return caught.value


def test_three_in_a_row_before_the_first_checkpoint_end_the_training(tmp_path: Path) -> None:
    error = ending(dict.fromkeys((2, 3, 4), KINDS["loss nan"]), tmp_path)
    assert (
        "step 4: loss nan, gradient norm nan, expected finite numbers; 3 steps in a row, and there is no checkpoint"
        in error.message
    )


def test_what_goes_on_after_going_back_ends_the_training(tmp_path: Path) -> None:
    error = ending(dict.fromkeys(range(18, 30), KINDS["loss nan"]), tmp_path)
    assert "step 23: loss nan" in error.message
    assert "6 steps in a row, though the training went back to the checkpoint of step 15" in error.message


def test_a_training_that_goes_back_time_and_again_ends(tmp_path: Path) -> None:
    faults = dict.fromkeys(itertools.chain.from_iterable(range(start, start + 3) for start in range(6, 40, 5)), KINDS["loss nan"])
    error = ending(faults, tmp_path)
    assert f"step {6 + 5 * MOST_RETURNS + 2}: " in error.message
    assert "3 steps in a row, though the training went back to a checkpoint 3 times" in error.message


def test_a_damaged_checkpoint_is_not_gone_back_to(tmp_path: Path) -> None:
    class Damaging(Recorder):
        def step(self, record: StepRecord) -> None:
            if record.step == 19:
                (run.checkpoints / "step-00000015" / "model.safetensors").write_bytes(b"?")

    faults = dict.fromkeys((18, 19, 20), KINDS["loss nan"])
    run = new_run(tmp_path, Faulty())
    with pytest.raises(Diverged, match=r"checkpoint step-00000015 is damaged \(model.safetensors does not match its checksum\)"):
        trained(run, Faulty(faults), config(), observer=Damaging())


@pytest.mark.parametrize("at", [15, 16, 18, 19, 20, 21, 24, 25])
def test_a_stop_around_the_window_changes_nothing(at: int, tmp_path: Path) -> None:
    faults = dict.fromkeys((18, 19, 20), KINDS["gradient inf"])
    whole = stopped_at(tmp_path / "a", faults, [], config(steps=30))
    assert hashes(stopped_at(tmp_path / "b", faults, [at], config(steps=30))) == hashes(whole)


def test_a_checkpoint_that_a_signal_asked_for_is_not_gone_back_to(tmp_path: Path) -> None:
    """Else what a training ends with would depend on the signal."""

    class Asking(Recorder):
        def step(self, record: StepRecord) -> None:
            if record.step in (16, 17, 19):
                os.kill(os.getpid(), signal.SIGUSR1)

    faults = dict.fromkeys((18, 19, 20), KINDS["gradient nan"])
    whole = stopped_at(tmp_path / "a", faults, [], config(steps=30))
    run = new_run(tmp_path / "b", Faulty())
    trained(run, Faulty(faults), config(steps=30), observer=Asking())
    assert hashes(run) == hashes(whole)


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_many_faults_of_a_kind(kind: str, tmp_path: Path) -> None:
    """At random steps, never three in a row: each is logged with its examples, and stopping now and then changes nothing."""
    generator = random.Random(kind)
    total = 4 * STEPS + 20
    faulty = sorted(generator.sample(range(20, total), STEPS))
    faulty = [step for step in faulty if not {step - 1, step - 2} <= set(faulty)]
    faults, how = dict.fromkeys(faulty, KINDS[kind]), config(steps=total, eval_every=total)
    stops = sorted(generator.sample(range(1, total), 3))
    run = stopped_at(tmp_path / "a", faults, [], how)
    action = "clipped" if kind == FINITE else "skipped"
    assert [(event["step"], event["action"]) for event in events(run)] == [(step, action) for step in faulty]
    assert all(event["examples"] == rows_of(event["step"]) for event in events(run))
    assert hashes(stopped_at(tmp_path / "b", faults, stops, how)) == hashes(run)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(max(4, STEPS // 4)))
def test_windows_of_any_kind_anywhere(seed: int, tmp_path: Path) -> None:
    """Three in a row: back to the newest whole multiple of `save_every` before them, on behind them; so after a stop inside."""
    generator = random.Random(seed)
    start, every = generator.randint(12, 30), generator.randint(2, 7)
    faults = {step: KINDS[generator.choice([kind for kind in KINDS if kind != FINITE])] for step in range(start, start + 3)}
    precision = generator.choice(["fp32", "bf16"])
    how = config(save_every=every, precision=precision, optimizer=generator.choice(["adamw", "muon"]))
    stage = Faulty(faults)
    run = new_run(tmp_path / "a", stage)
    assert trained(run, stage, how).status == "finished"
    good = (start - 1) // every * every
    assert events(run)[-1] == {"step": start + 2, "action": "returned", "to_step": good}
    assert same(stage.before[start + 3], stage.before[good + 1])
    at = generator.randint(start - 2, start + 4)
    assert hashes(stopped_at(tmp_path / "b", faults, [at], how)) == hashes(run)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["pretrain", "codec"])
def test_codebooks_and_experts_stay_finite(name: str, tmp_path: Path) -> None:
    """What follows a batch's statistics instead of a gradient does not follow those of a faulty one."""
    stage = make_stage(name)
    run = create_run(tmp_path, name, "debug", {"parents": {}})
    stage.save_description(run.model)
    loss, calls = stage.loss, itertools.count(1)
    states: list[dict[str, Tensor]] = []

    def spoiled(batch: Any) -> LossSum:
        states.append(plain_state_dict(stage.model))
        states[-1] = {key: value.clone() for key, value in states[-1].items()}
        found: LossSum = loss(batch)
        return KINDS["loss nan"](found) if next(calls) == 2 else found

    stage.loss = spoiled
    how = stage.config.train.model_copy(update={"precision": "fp32", "steps": 3, "micro_batch": "whole"})
    outcome: Outcome = train(stage, how, run, device=torch.device("cpu"), observer=Recorder())
    assert outcome.status == "finished"
    assert [event["action"] for event in events(run)] == ["skipped"]
    assert same(states[1], states[2])
    assert all(tensor.isfinite().all() for tensor in plain_state_dict(stage.model).values())
