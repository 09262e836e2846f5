import signal
from pathlib import Path

import pytest
import torch
from regression import CONFIG, Recorder, Regression, new_run, trained
from test_loop import changed, weights
from test_memory_trace import FP32, Wide
from torch import Tensor, nn

from omnictl.errors import OutOfMemory
from omnictl.nn.recompute import CHECKPOINTING, Checkpointing, set_checkpointing
from omnictl.runs.run import Run
from omnictl.trainer import loader
from omnictl.trainer.log import StepRecord
from omnictl.trainer.plan import micro_batch, run_setup
from omnictl.trainer.plan.micro_batch import (
    FASTER,
    LONG_BATCH,
    MemoryPlan,
    Steps,
    confirm_micro_batch,
    fastest_micro_batch,
    fastest_that_fits,
    halves,
)
from omnictl.trainer.stage import LossSum

CPU = torch.device("cpu")
AUTO = changed(CONFIG, micro_batch="auto")


@pytest.fixture(autouse=True)
def equally_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is planned must not depend on how fast this machine is just now."""
    monkeypatch.setattr(Steps, "seconds", lambda *_, **__: 1.0)


def per_example(micro_batch: int, mode: Checkpointing) -> int:
    """A stage that takes 100 bytes an example, 60 with selective and 30 with full checkpointing, and 50 in any case."""
    return 50 + micro_batch * {"off": 100, "selective": 60, "full": 30}[mode]


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (850, (8, "off", 850)),
        (849, (4, "off", 450)),
        (449, (2, "off", 250)),
        (150, (1, "off", 150)),
        (149, (1, "selective", 110)),
        (109, (1, "full", 80)),
    ],
)
def test_the_largest_micro_batch_with_the_least_recomputation(there: int, chosen: tuple[int, Checkpointing, int]) -> None:
    assert fastest_that_fits(halves(8), CHECKPOINTING, there, per_example) == MemoryPlan(*chosen, there)


def test_nothing_fits() -> None:
    assert fastest_that_fits(halves(8), CHECKPOINTING, 79, per_example) is None


def test_a_large_batch_that_fits_is_traced_once() -> None:
    asked: list[int] = []

    def peak(micro_batch: int, mode: Checkpointing) -> int:
        asked.append(micro_batch)
        return per_example(micro_batch, mode)

    fastest_that_fits(halves(512), CHECKPOINTING, 10**9, peak)
    assert asked == [512]
    fastest_that_fits(halves(512), CHECKPOINTING, 50 + 700, peak)
    assert len(asked) <= 1 + 1 + 4  # bisection of the nine that remain


def test_micro_batches_are_halves_rounded_up() -> None:
    assert halves(12) == [12, 6, 3, 2, 1]
    assert halves(1) == [1]


def test_a_plan_that_fails_in_practice_is_halved() -> None:
    tried: list[int] = []

    def rehearse(size: int) -> None:
        tried.append(size)
        if size > 3:
            raise torch.OutOfMemoryError

    assert confirm_micro_batch(MemoryPlan(12, "full", 1, 2), halves(12), rehearse) == MemoryPlan(3, "full", 1, 2)
    assert tried == [12, 6, 3]


def test_not_one_example_fits() -> None:
    def rehearse(size: int) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(OutOfMemory, match="a step of one example does not fit"):
        confirm_micro_batch(MemoryPlan(2, "off", 1, 2), halves(2), rehearse)


def test_a_batch_that_must_stay_whole_is_not_halved() -> None:
    def rehearse(size: int) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(OutOfMemory, match="a step of 8 examples does not fit"):
        confirm_micro_batch(MemoryPlan(8, "full", 1, 2), [8], rehearse)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({8: 2.0, 4: 2.0}, 8),
        ({8: 2.0, 4: 2.0 / FASTER + 0.01}, 8),
        ({8: 2.0, 4: 1.8, 2: 1.9}, 4),
        ({8: 2.0, 4: 1.8, 2: 1.6, 1: 1.0}, 1),
        ({8: LONG_BATCH + 1}, 8),  # others are not timed
    ],
)
def test_smaller_micro_batches_are_taken_if_they_are_clearly_faster(seconds: dict[int, float], chosen: int) -> None:
    assert fastest_micro_batch(halves(8), seconds.__getitem__) == chosen


def test_a_busy_moment_does_not_decide() -> None:
    def of_eights_and_fours(*seconds: float) -> int:
        taken = iter([1.0, *seconds])  # eights once, then both in turn
        return fastest_micro_batch([8, 4], lambda _: next(taken))

    assert of_eights_and_fours(1.0, 0.5, 0.6, 0.5) == 4
    assert of_eights_and_fours(1.0, 0.5, 0.4, 0.5) == 8
    assert of_eights_and_fours(0.4, 0.4, 0.4, 0.39) == 8


# In a run


class Waiting(Regression):
    """The first batch, on which number formats are timed, keeps most weights still."""

    def loss(self, batch: Tensor) -> LossSum:
        self.model[0].requires_grad_(0 not in batch.tolist())
        return super().loss(batch)


def test_weights_that_wait_at_first_are_planned_for(tmp_path: Path) -> None:
    run = new_run(tmp_path, Waiting())
    trained(run, Waiting(), changed(AUTO, precision="auto"))
    plain = new_run(tmp_path / "plain", Regression())
    trained(plain, Regression(), changed(AUTO, precision=run.record()["precision"][0]))
    assert run.record()["memory"]["peak_bytes"] == plain.record()["memory"]["peak_bytes"]


class Choosing(nn.Module):
    """Its shapes depend on what it reads, as a mixture of experts' do."""

    def forward(self, x: Tensor) -> Tensor:
        (rows,) = torch.where(x[:, 0] > 0)
        return x.index_add(0, rows, x[rows])


def test_what_cannot_be_traced_is_tried(tmp_path: Path) -> None:
    stage = Regression()
    stage.model = nn.Sequential(nn.Linear(3, 4), Choosing())
    run = new_run(tmp_path, stage)
    trained(run, stage, AUTO)
    assert run.record()["memory"] == MemoryPlan(8, "off", None, None)._asdict()


def with_free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(micro_batch, "budget", lambda _free, _device: size)


def test_less_memory_means_smaller_micro_batches_and_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = Wide(), Wide()
    for stage in (whole, parts):
        stage.model.double()
        stage.inputs, stage.targets = stage.inputs.double(), stage.targets.double()
    run = new_run(tmp_path / "whole", whole)
    trained(run, whole, AUTO)
    assert (run.record()["memory"]["micro_batch"], run.record()["memory"]["checkpointing"]) == (8, "off")
    with_free(monkeypatch, 2**20)
    run, observer = new_run(tmp_path / "parts", parts), Recorder()
    trained(run, parts, AUTO, observer=observer)
    micro_batch, _, peak, there, _, _ = run.record()["memory"].values()
    assert micro_batch in {2, 4}, peak
    assert peak <= there == 2**20
    assert observer.facts["batch"].startswith(f"8 = {8 // micro_batch} × {micro_batch}")
    for one, two in zip(weights(whole), weights(parts), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


def faster_in_fours(steps: Steps, device: torch.device, micro_batch: int, lanes: int = 1) -> float:
    return lanes * (abs(micro_batch - 4) + 1.0)


def test_what_is_faster_here_is_found_out_and_planned_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Steps, "seconds", faster_in_fours)
    run = new_run(tmp_path, Wide())
    trained(run, Wide(), AUTO)
    plan = MemoryPlan(**run.record()["memory"])
    assert plan[:2] == (4, "off")
    assert plan.peak_bytes == Steps(Wide(), Wide(), AUTO, "adamw", FP32).peak(4, "off").extra_bytes


def test_a_run_that_must_be_repeatable_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Steps, "seconds", faster_in_fours)
    run = new_run(tmp_path, Wide())
    runtime = AUTO.runtime.model_copy(update={"deterministic": True})
    trained(run, Wide(), changed(AUTO, runtime=runtime))
    assert run.record()["memory"]["micro_batch"] == 8


def test_time_is_measured_of_a_whole_batch_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    stage = Seen()
    assert 0 < Steps(stage, stage, AUTO, "adamw", FP32).seconds(CPU, 3) < LONG_BATCH
    assert stage.seen == [[0, 1, 2], [3, 4, 5], [6, 7]] * 2


class Seen(Regression):
    """Notes which examples it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[int]] = []

    def loss(self, batch: Tensor) -> LossSum:
        self.seen.append(batch.tolist())
        return super().loss(batch)


def test_a_resumed_run_keeps_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 2**20)
    run = new_run(tmp_path, Wide())
    trained(run, Wide(), AUTO, max_steps=2)
    plan = run.record()["memory"]
    monkeypatch.setattr(micro_batch, "plan_memory", lambda *_, **__: pytest.fail("planned again"))
    trained(run, Wide(), AUTO, max_steps=4)
    assert run.record()["memory"] == plan


def test_too_little_memory_is_said_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 1000)
    observer = Recorder()
    with pytest.raises(OutOfMemory, match=r"a step of 1 of 8 examples takes .* MiB") as caught:
        trained(new_run(tmp_path, Wide()), Wide(), AUTO, observer=observer)
    assert caught.value.exit_code == 5
    assert observer.begun_at == -1


def test_an_evaluation_that_does_not_fit_is_said_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, observer = Wide(), Recorder()
    stage.evaluated = 64
    evaluation = Steps(stage, stage, AUTO, "adamw", FP32).evaluation().extra_bytes
    with_free(monkeypatch, evaluation - 1)
    with pytest.raises(OutOfMemory, match="the evaluation between steps takes 8 MiB"):
        trained(new_run(tmp_path, stage), stage, AUTO, observer=observer)
    assert observer.begun_at == -1
    with_free(monkeypatch, evaluation)
    run = new_run(tmp_path / "enough", stage)
    trained(run, stage, AUTO, max_steps=1)
    assert run.record()["memory"]["evaluation_bytes"] == evaluation


def test_what_the_config_says_is_done_whether_it_fits_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 0)
    run = new_run(tmp_path, Regression())
    trained(run, Regression(), changed(CONFIG, micro_batch=4, checkpointing="full"), max_steps=1)
    plan = MemoryPlan(**run.record()["memory"])
    assert plan[:2] == (4, "full")
    assert plan.peak_bytes is not None
    assert plan.peak_bytes > plan.budget_bytes == 0
    assert plan.is_tight


@pytest.mark.parametrize(("there", "expected"), [(1999, True), (2000, False), (None, False)])
def test_a_heap_that_grows_needs_twice_the_room(there: int | None, expected: bool) -> None:
    assert MemoryPlan(1, "off", 1000, there).is_tight is expected


@pytest.mark.parametrize("there", [0, 2**40])
def test_where_memory_is_tight_freed_blocks_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: int) -> None:
    with_free(monkeypatch, there)
    calls: list[int] = []
    monkeypatch.setattr(run_setup, "return_freed_memory", lambda: calls.append(1))
    trained(new_run(tmp_path, Regression()), Regression(), changed(CONFIG, micro_batch=4), max_steps=1)
    assert bool(calls) is (there == 0)


def test_checkpointing_reaches_every_module_that_knows_it() -> None:
    class Block(nn.Module):
        checkpointing: Checkpointing = "off"

    model = nn.Sequential(Block(), nn.Linear(1, 1), nn.Sequential(Block()))
    set_checkpointing(model, "full")
    assert [module.checkpointing for module in model.modules() if isinstance(module, Block)] == ["full", "full"]


class Overfull(Regression):
    """Memory runs out in the middle of a step, once, if more than `fits` rows go through at a time."""

    def __init__(self, *, call: int, fits: int = 0, error: Exception | None = None) -> None:
        super().__init__()
        self.model.double()
        self.inputs, self.targets = self.inputs.double(), self.targets.double()
        self.model.append(nn.Dropout(0.2))  # draws of the failed attempt must not count
        self.call, self.fits, self.error = call, fits, error or torch.OutOfMemoryError("out of memory")
        self.seen: list[list[int]] = []

    def loss(self, batch: Tensor) -> LossSum:
        self.seen.append(batch.tolist())
        if len(self.seen) == self.call and len(batch) > self.fits:
            raise self.error
        return super().loss(batch)


ENOUGH = CONFIG.model_copy(update={"micro_batch": 4})


def planned_run(folder: Path, stage: Regression) -> Run:
    """A run whose memory has been planned, so that no trace calls the loss."""
    run = new_run(folder, stage)
    run.update(memory=MemoryPlan(4, "off", None, None)._asdict())
    return run


@pytest.mark.parametrize("call", [1, 2, 5, 8])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce fail] DefaultCPUAllocator: …")]
)
def test_memory_that_runs_out_costs_half_the_micro_batch(tmp_path: Path, call: int, error: Exception) -> None:
    stage, observer = Overfull(call=call, error=error), Recorder()
    run = planned_run(tmp_path / "a", stage)
    assert trained(run, stage, ENOUGH, observer=observer).status == "finished"
    step = (call + 1) // 2
    assert observer.notes == [f"step {step}: out of memory; going on with micro-batches of 2 instead of 4"]
    assert run.record()["memory"]["micro_batch"] == 2
    failed = 1 + (call - 1) % 2  # micro-batches of the failed attempt
    attempts = [stage.seen[: 2 * step - 2], stage.seen[2 * step - 2 :][failed:]]
    assert [rows for part in attempts for rows in part] == [
        list(rows)
        for number in range(CONFIG.steps)
        for rows in loader.micro_batches(Regression().ids(number), 4 if number + 1 < step else 2)
    ]


def test_after_memory_ran_out_it_is_as_if_the_small_micro_batch_had_been_planned_from_that_step_on(tmp_path: Path) -> None:
    class Stopping(Recorder):
        def step(self, record: StepRecord) -> None:
            if record.step == 2:
                signal.raise_signal(signal.SIGTERM)

    harmed = Overfull(call=6)
    trained(planned_run(tmp_path / "harmed", harmed), harmed, ENOUGH)
    planned = Overfull(call=0)
    run = planned_run(tmp_path / "planned", planned)
    assert trained(run, planned, ENOUGH, observer=Stopping()).steps == 2
    run.update(memory={**run.record()["memory"], "micro_batch": 2})
    resumed = Overfull(call=0)
    trained(run, resumed, ENOUGH)
    assert list(map(len, resumed.seen)) == [2] * 16
    for one, two in zip(harmed.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-8)


def test_one_example_that_does_not_fit_ends_the_run(tmp_path: Path) -> None:
    class Full(Overfull):
        def loss(self, batch: Tensor) -> LossSum:
            raise self.error

    stage = Full(call=0)
    with pytest.raises(OutOfMemory, match="a step of one example does not fit") as caught:
        trained(planned_run(tmp_path, stage), stage, ENOUGH)
    assert caught.value.exit_code == 5


def test_another_error_is_not_taken_for_memory_that_ran_out(tmp_path: Path) -> None:
    stage = Overfull(call=1, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        trained(planned_run(tmp_path, stage), stage, ENOUGH)
