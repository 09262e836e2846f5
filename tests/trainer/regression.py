"""A stage that learns in microseconds: what the loop asks for, and nothing of models or data."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from omnictl.pipeline.time_budget.budget import TimeBudget
from omnictl.pipeline.time_budget.costs import FixedSeconds, UnitCost
from omnictl.runs.checksums import seal
from omnictl.runs.run import Run, create_run
from omnictl.trainer import trainer
from omnictl.trainer.config import ScheduleConfig, TrainConfig
from omnictl.trainer.log import StepRecord
from omnictl.trainer.loop import Outcome, train
from omnictl.trainer.plan.step_plan import StepPlanner
from omnictl.trainer.stage import Batches, LossSum, Report, Work, pass_of

CONFIG = TrainConfig(
    steps=6,
    batch_size=8,
    micro_batch="whole",
    optimizer="adamw",
    precision="fp32",
    eval_every=2,
    save_every=2,
    schedule=ScheduleConfig(warmup_steps=2),
)


class Regression:
    """Rows of three numbers; rows differ in how many of their four targets count, as texts differ in length."""

    name: ClassVar[str] = "regression"
    unit: ClassVar[str] = "rows"
    divisible: ClassVar[bool] = True
    evaluated: int = 1  # rows at a time, it says

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 4))
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(64, 3, generator=generator)
        self.targets = self.inputs @ torch.randn(3, 4, generator=generator)
        self.counts = 1 + torch.arange(64) % 4

    def batches(self) -> "Regression":
        return self

    def ids(self, step: int) -> Sequence[int]:
        return [(step * CONFIG.batch_size + n) % 64 for n in range(CONFIG.batch_size)]

    def collate(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor(list(ids))

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        return [f"row {number}" for number in ids]

    @property
    def typical_step(self) -> int:
        return 0

    def largest(self, size: int) -> Sequence[int]:
        return [3, 7, 11, 15, 19, 23, 27, 31][:size]  # all of their targets count

    def loss(self, batch: Tensor) -> LossSum:
        counted = torch.arange(4) < self.counts[batch][:, None]  # (B, 4)
        errors = (self.model(self.inputs[batch]).float() - self.targets[batch])[counted]
        return LossSum(errors.square().sum(), len(errors), {"absolute": errors.detach().abs().sum()})

    def work(self, batch: Tensor) -> Work:
        counted = int(self.counts[batch].sum())
        return Work(float(len(batch)), 1000.0 * len(batch), positions=counted, slots=4 * len(batch))

    def validate(self) -> Report:
        value = (self.model(self.inputs) - self.targets).square().mean().item()
        return Report("mse", "lower", {"mse": value}, 64)

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        return (pass_of(self, batches, self.evaluated * 4),)

    def save_description(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.begun_at = -1
        self.records: list[StepRecord] = []
        self.evaluations: list[tuple[int, float, bool]] = []
        self.notes: list[str] = []

    def begin(self, run: Run, facts: dict[str, str], step: int) -> None:
        self.facts, self.begun_at = facts, step

    def step(self, record: StepRecord) -> None:
        self.records.append(record)

    def evaluated(self, step: int, report: Report, *, is_best: bool) -> None:
        self.evaluations.append((step, report.value, is_best))

    def note(self, text: str) -> None:
        self.notes.append(text)


def new_run(root: Path, stage: Regression) -> Run:
    run = create_run(root, stage.name, "debug", {})
    stage.save_description(run.model)
    return run


def planner_until(deadline: float, config: TrainConfig) -> StepPlanner:
    """Whoever plans for one training alone, and takes a step for a second until it has seen some."""
    fixed = FixedSeconds(prepare=0, plan=0, evaluate=0, save=0)
    cost = UnitCost("alone", config.steps, config.eval_every, config.save_every, step_seconds=1.0, fixed=fixed, curve=None)
    return TimeBudget([cost], deadline, lambda: trainer.time.monotonic(), lambda _line: None).planner("alone")


def trained(
    run: Run,
    stage: Regression,
    config: TrainConfig = CONFIG,
    *,
    observer: Recorder | None = None,
    deadline: float | None = None,
    planner: StepPlanner | None = None,
    max_steps: int | None = None,
) -> Outcome:
    return train(
        stage,
        config,
        run,
        device=torch.device("cpu"),
        observer=observer or Recorder(),
        planner=planner if deadline is None else planner_until(deadline, config),
        max_steps=max_steps,
    )


def lines(path: Path, split: str | None = None) -> list[dict[str, Any]]:
    values = [json.loads(line) for line in path.read_text().splitlines()]
    return [value for value in values if split is None or value["split"] == split]


def changed(config: TrainConfig = CONFIG, **fields: object) -> TrainConfig:
    return TrainConfig(**{**config.model_dump(), **fields})


def weights(stage: Regression) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in stage.model.parameters()]


class Poisoned(Regression):
    """Something goes wrong with the loss of its third step."""

    def __init__(self, spoil: Callable[[LossSum, nn.Module], LossSum]) -> None:
        super().__init__()
        self.spoil, self.calls = spoil, 0

    def loss(self, batch: Tensor) -> LossSum:
        self.calls += 1
        if self.calls < 3:
            return super().loss(batch)
        self.before = weights(self)
        return self.spoil(super().loss(batch), self.model)


def begun(folder: Path) -> Run:
    """A run whose model folder has its checksums, not yet trained."""
    run = new_run(folder, Regression())
    seal(run.model)
    return run


def final(run: Run) -> dict[str, bytes]:
    """What a run ends with: its newest checkpoint, its log and the model kept."""
    last = max(run.checkpoints.glob("step-*"))
    return {path.name: path.read_bytes() for path in [*last.iterdir(), run.metrics_file, run.model / "model.safetensors"]}
