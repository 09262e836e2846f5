"""A run that is stopped and taken up again ends with the same bytes as one that nothing happened to."""

import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from regression import planner_until
from stage_factory import make_stage

from omnictl.config import resolve
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.text.batches import TextBatch
from omnictl.runs.run import Run, create_run
from omnictl.stages import stage_recipe, stage_type
from omnictl.stages.pretrain import PRESETS, Pretrain
from omnictl.stages.protocol import TrainableStage
from omnictl.trainer import trainer
from omnictl.trainer.log import StepRecord
from omnictl.trainer.loop import Outcome, train
from omnictl.trainer.stage import LossSum, Report

pytestmark = pytest.mark.slow

STEPS = PRESETS["debug"].train.steps

SPEECH = ["train.optimizer=adamw", "train.micro_batch=3", "model.dropout=0.2", "data.speeds=[1.0, 0.9]"]
"""With masks too: they are on unless they are turned off."""

IMAGES = [
    "data.source=images",
    "data.augmentation=strong",
    "train.optimizer=adamw",
    "train.micro_batch=3",
    "train.average=0.9",
    "model.dropout=0.2",
]
"""Files, varied and mixed; and what is kept is an average of the weights."""

CAPTIONS = [
    "objective=contrastive",
    "model.dropout=0.2",
    "captions.dropout=0.2",
    "captions.layers=1",
    "captions.width=16",
    "data.num_eval_images=4",
]

VARIANTS = {
    "plain": ("pretrain", ["train.optimizer=adamw"]),
    "muon": ("pretrain", ["train.optimizer=muon"]),
    "dropout": ("pretrain", ["train.optimizer=adamw", "model.dropout=0.2"]),
    "averaged": ("pretrain", ["train.optimizer=muon", "train.average=0.9"]),
    "experts": ("pretrain", ["train.optimizer=muon", "model.experts=4", "train.micro_batch=3"]),
    "speech": ("asr", SPEECH),
    "speech by workers": ("asr", [*SPEECH, "train.runtime.workers=2"]),
    "images": ("vision", IMAGES),
    "images by workers": ("vision", [*IMAGES, "train.runtime.workers=2"]),
    "scenes": ("vision", ["train.optimizer=muon", "model.dropout=0.2", "train.micro_batch=3"]),
    "captions": ("vision", CAPTIONS),
    "codec": ("codec", ["train.optimizer=adamw", "train.micro_batch=3", "book_dropout=0.5"]),
    "aligner": ("aligner", ["train.optimizer=adamw", "train.micro_batch=3"]),
    "vocoder": ("vocoder", ["train.optimizer=adamw", "train.micro_batch=3"]),
    "talker": ("talker", ["train.optimizer=muon", "train.micro_batch=3", "model.dropout=0.2"]),
    "dialogues": ("sft", ["train.optimizer=muon", "train.micro_batch=3", "projector_steps=6"]),
    "dialogues with encoders": ("sft", ["train.optimizer=adamw", "train.micro_batch=3", "model.encoders=trained"]),
}
"""A stage and what it changes of its preset `debug`."""


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing a matrix product takes longer than the whole run."""
    monkeypatch.setattr(trainer, "matmul_rate", lambda device: 1e11)


@pytest.fixture(scope="module", autouse=True)
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Class folders `images` in the working directory: 28 to train on, so that an epoch ends within a batch."""
    folder = tmp_path_factory.mktemp("work")
    for seed, (split, name) in enumerate(itertools.product(["train"] * 14 + ["val"] * 3, ["cat", "dog"])):
        place = folder / "images" / split / name
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)).save(place / f"{seed}.png")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    yield
    patch.undo()


@dataclass
class Watcher:
    """An observer that calls `after` with the number of every step taken."""

    after: Callable[[int], None] = lambda step: None
    begun_after: int = -1
    steps: list[int] = field(default_factory=list)
    totals: list[int | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def begin(self, run: Run, facts: dict[str, str], step: int) -> None:
        self.begun_after = step

    def step(self, record: StepRecord) -> None:
        self.steps.append(record.step)
        self.totals.append(record.steps)
        self.after(record.step)

    def evaluated(self, step: int, report: Report, *, is_best: bool) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


def send(number: signal.Signals, *, at: int) -> Watcher:
    """An observer that sends this process a signal after a step."""

    def after(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), number)

    return Watcher(after)


def new_stage(variant: str) -> TrainableStage:
    """A variant's stage as `omnictl STAGE` makes it."""
    name, overrides = VARIANTS[variant]
    recipe = stage_recipe(name)
    config = resolve(recipe.config_type, preset=recipe.presets["debug"], overrides=["train.precision=fp32", *overrides])
    assert config.model_dump()["train"]["steps"] == STEPS
    made: TrainableStage = make_stage(name, config)
    return made


def new_run(folder: Path, stage: TrainableStage) -> Run:
    run = create_run(folder, stage.name, "test", {"parents": {}})
    stage.save_description(run.model)
    return run


def go_on(run: Run, watcher: Watcher | None = None, *, max_steps: int | None = None, deadline: float | None = None) -> Outcome:
    """What `omnictl STAGE --resume` does; a run without a checkpoint begins."""
    stage = stage_type(run.stage).open(run.model, data=None, cache=cache_dir())
    observer = watcher or Watcher()
    return train(
        stage,
        stage.config.train,
        run,
        device=torch.device("cpu"),
        observer=observer,
        max_steps=max_steps,
        planner=None if deadline is None else planner_until(deadline, stage.config.train),
    )


def hashes(run: Run) -> dict[str, str]:
    """SHA-256 of all that must not depend on what happened on the way."""
    last = max(run.checkpoints.glob("step-*"))
    files = [last / f"{name}.safetensors" for name in ("model", "optimizer", "rng")]
    files += [last / "state.json", run.metrics_file, run.model / "model.safetensors", run.path / "best.json"]
    return {str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def contents(run: Run) -> dict[str, bytes]:
    return {str(path.relative_to(run.path)): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Runs:
    """A folder with, for each variant, a run before its first step and the same one finished without a disturbance."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fresh(self, variant: str, folder: Path) -> Run:
        """A copy of the run before its first step."""
        return Run(Path(shutil.copytree(self._prepared(variant) / "fresh", folder / "run")))

    def finished(self, variant: str) -> Run:
        return Run(self._prepared(variant) / "finished")

    def _prepared(self, variant: str) -> Path:
        folder = self.folder / variant
        if not folder.exists():
            run = new_run(self.folder / "new", new_stage(variant))
            shutil.copytree(run.path, folder / "fresh")
            assert go_on(run).status == "finished"
            run.path.rename(folder / "finished")
        return folder


@pytest.fixture(scope="module")
def runs(images: None, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


def test_two_undisturbed_runs_are_the_same(runs: Runs, tmp_path: Path) -> None:
    run = runs.fresh("dropout", tmp_path)
    assert go_on(run).steps == STEPS
    assert hashes(run) == hashes(runs.finished("dropout"))


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_resume_after_an_interrupt_at_each_step(runs: Runs, tmp_path: Path, step: int) -> None:
    run = runs.fresh("dropout", tmp_path)
    first = go_on(run, send(signal.SIGINT, at=step))
    if step == STEPS:  # nothing was left to be interrupted, but whoever has more to train must know
        assert (first.status, first.exit_code) == ("finished", 130)
    else:
        assert (first.status, first.steps, first.exit_code) == ("interrupted", step, 130)
        assert run.record()["status"] == "interrupted"
        rest = Watcher()
        assert go_on(run, rest).status == "finished"
        assert rest.begun_after == step
        assert rest.steps == list(range(step + 1, STEPS + 1))
    assert run.record()["status"] == "finished"
    assert hashes(run) == hashes(runs.finished("dropout"))


@pytest.mark.parametrize("variant", ["plain", "muon", "averaged", "experts"])
def test_a_run_interrupted_after_every_step_ends_the_same(runs: Runs, tmp_path: Path, variant: str) -> None:
    run = runs.fresh(variant, tmp_path)
    statuses = [go_on(run, send(signal.SIGINT, at=step)).status for step in range(1, STEPS + 1)]
    assert statuses == ["interrupted"] * (STEPS - 1) + ["finished"]
    assert hashes(run) == hashes(runs.finished(variant))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
def test_speech_goes_on_with_the_same_speeds_masks_and_dropout(runs: Runs, tmp_path: Path) -> None:
    run = runs.fresh("speech by workers", tmp_path)
    statuses = [go_on(run, send(signal.SIGINT, at=step)).status for step in (1, 7, 10, 18, STEPS)]
    assert statuses == ["interrupted"] * 4 + ["finished"]
    assert multiprocessing.active_children() == []
    assert hashes(run) == hashes(runs.finished("speech"))


def test_a_speech_run_taken_up_before_its_first_step_is_one_that_went_through(runs: Runs, tmp_path: Path) -> None:
    """What a stage takes from its data when it is made, such as statistics, must be there when it is opened."""
    stage = new_stage("speech")
    run = new_run(tmp_path, stage)
    train(stage, stage.config.train, run, device=torch.device("cpu"), observer=Watcher())
    assert hashes(run) == hashes(runs.finished("speech"))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
@pytest.mark.parametrize("variant", ["images", "images by workers"])
def test_images_go_on_with_the_same_crops_mixtures_and_dropout(runs: Runs, tmp_path: Path, variant: str) -> None:
    """And with the same average of the weights."""
    run = runs.fresh(variant, tmp_path)
    statuses = [go_on(run, send(signal.SIGINT, at=step)).status for step in (1, 4, 7, 10, 18, STEPS)]
    assert statuses == ["interrupted"] * 5 + ["finished"]
    assert multiprocessing.active_children() == []
    assert hashes(run) == hashes(runs.finished("images"))


@pytest.mark.parametrize("variant", ["scenes", "captions"])
def test_scenes_go_on_with_or_without_their_captions(runs: Runs, tmp_path: Path, variant: str) -> None:
    run = runs.fresh(variant, tmp_path)
    statuses = [go_on(run, send(signal.SIGINT, at=step)).status for step in (1, 10, 17, STEPS)]
    assert statuses == ["interrupted"] * 3 + ["finished"]
    assert hashes(run) == hashes(runs.finished(variant))


@pytest.mark.parametrize("variant", ["codec", "aligner", "vocoder", "talker", "dialogues", "dialogues with encoders"])
def test_what_stands_on_others_goes_on(runs: Runs, tmp_path: Path, variant: str) -> None:
    """What the codebooks have followed, too: their averages are part of the weights."""
    run = runs.fresh(variant, tmp_path)
    statuses = [go_on(run, send(signal.SIGINT, at=step)).status for step in (1, 4, 10, 17, STEPS)]
    assert statuses == ["interrupted"] * 4 + ["finished"]
    assert hashes(run) == hashes(runs.finished(variant))


@pytest.mark.parametrize("variant", ["images", "captions"])
def test_a_run_of_images_taken_up_before_its_first_step_is_one_that_went_through(runs: Runs, tmp_path: Path, variant: str) -> None:
    stage = new_stage(variant)
    run = new_run(tmp_path, stage)
    train(stage, stage.config.train, run, device=torch.device("cpu"), observer=Watcher())
    assert hashes(run) == hashes(runs.finished(variant))


def test_the_variants_differ(runs: Runs) -> None:
    variants = [variant for variant in VARIANTS if "by workers" not in variant]  # who makes the batches makes no difference
    weights = {hashes(runs.finished(variant))["model/model.safetensors"] for variant in variants}
    assert len(weights) == len(variants)


class InterruptedByEvaluation(Watcher):
    def evaluated(self, step: int, report: Report, *, is_best: bool) -> None:
        if step == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_before_the_first_step_is_saved_too(runs: Runs, tmp_path: Path) -> None:
    run = runs.fresh("plain", tmp_path)
    watcher = InterruptedByEvaluation()
    assert go_on(run, watcher)[:2] == ("interrupted", 0)
    assert watcher.steps == []
    assert go_on(run).status == "finished"
    assert hashes(run) == hashes(runs.finished("plain"))


def test_termination_saves_and_exits_with_143(runs: Runs, tmp_path: Path) -> None:
    run = runs.fresh("plain", tmp_path)
    outcome = go_on(run, send(signal.SIGTERM, at=7))
    assert (outcome.status, outcome.steps, outcome.exit_code) == ("interrupted", 7, 143)
    assert (run.checkpoints / "step-00000007" / "manifest.json").is_file()
    go_on(run)
    assert hashes(run) == hashes(runs.finished("plain"))


def test_sigusr1_saves_and_goes_on(runs: Runs, tmp_path: Path) -> None:
    run = runs.fresh("plain", tmp_path)
    seen = []

    def after(step: int) -> None:
        if step == 7:
            os.kill(os.getpid(), signal.SIGUSR1)
        seen.append((step, (run.checkpoints / "step-00000007").exists()))

    assert go_on(run, Watcher(after)).status == "finished"
    assert seen[6:8] == [(7, False), (8, True)]
    assert hashes(run) == hashes(runs.finished("plain"))


def test_a_second_interrupt_ends_at_once(runs: Runs, tmp_path: Path) -> None:
    run = runs.fresh("plain", tmp_path)

    def after(step: int) -> None:
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go_on(run, Watcher(after))
    assert not (run.checkpoints / "step-00000007").exists()
    assert run.record()["status"] == "interrupted"
    rest = Watcher()
    go_on(run, rest)
    assert rest.begun_after == 5  # the last one that was saved
    assert hashes(run) == hashes(runs.finished("plain"))


def test_signals_are_given_back(runs: Runs, tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    go_on(runs.fresh("plain", tmp_path), max_steps=1)
    assert [signal.getsignal(number) for number in numbers] == before


def test_resuming_a_finished_run_changes_nothing(runs: Runs, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(runs.finished("plain").path, tmp_path / "run")))
    before = contents(run)
    watcher = Watcher()
    assert go_on(run, watcher) == ("finished", STEPS, None, 0)
    assert watcher.steps == []
    assert contents(run) == before


def test_max_steps_extends_a_finished_run_and_stays(runs: Runs, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(runs.finished("plain").path, tmp_path / "run")))
    before = run.metrics_file.read_text()
    watcher = send(signal.SIGINT, at=STEPS + 2)
    assert go_on(run, watcher, max_steps=STEPS + 5).status == "interrupted"
    assert go_on(run)[:2] == ("finished", STEPS + 5)  # not told again
    assert run.metrics_file.read_text().startswith(before)
    assert lines(run.metrics_file)[-1]["step"] == STEPS + 5


def test_max_steps_of_a_new_run_end_with_a_validation_and_a_checkpoint(runs: Runs, tmp_path: Path) -> None:
    run = runs.fresh("plain", tmp_path)
    outcome = go_on(run, max_steps=3)
    assert outcome[:2] == ("finished", 3)
    assert outcome.report is not None
    assert (run.checkpoints / "step-00000003").is_dir()
    assert lines(run.metrics_file)[-1] | {"split": "val", "step": 3} == lines(run.metrics_file)[-1]


def test_a_damaged_newest_checkpoint_is_passed_over_and_said_so(runs: Runs, tmp_path: Path) -> None:
    run = runs.fresh("plain", tmp_path)
    go_on(run, send(signal.SIGINT, at=12))
    weights = run.checkpoints / "step-00000012" / "model.safetensors"
    intact = weights.read_bytes()
    weights.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    rest = Watcher()
    go_on(run, rest)
    assert rest.begun_after == 10
    assert [note for note in rest.notes if "step-00000012 is damaged" in note and "model.safetensors" in note]
    assert hashes(run) == hashes(runs.finished("plain"))


class Clock:
    """In place of the loop's `time`: a training step takes `step_seconds`, everything else no time at all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_seconds: float = 1.0) -> None:
        self.now, self.step_seconds = 0.0, step_seconds
        monkeypatch.setattr(trainer, "time", self)
        really = Pretrain.loss

        def loss(stage: Pretrain, batch: TextBatch) -> LossSum:
            self.now += self.step_seconds
            return really(stage, batch)

        monkeypatch.setattr(Pretrain, "loss", loss)

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


def saved_steps(run: Run) -> int:
    steps: int = json.loads((max(run.checkpoints.glob("step-*")) / "state.json").read_text())["steps"]
    return steps


def test_a_deadline_fixes_the_steps_and_a_resume_keeps_them(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    undisturbed = runs.fresh("plain", tmp_path / "a")
    watcher = Watcher()
    assert go_on(undisturbed, watcher, deadline=16.9)[:2] == ("finished", 16)
    assert watcher.totals == [16] * 16  # from the beginning, so that the schedule ends there

    run = runs.fresh("plain", tmp_path / "b")
    Clock(monkeypatch)
    assert go_on(run, send(signal.SIGINT, at=12), deadline=16.9).status == "interrupted"
    assert saved_steps(run) == 16
    Clock(monkeypatch)
    assert go_on(run)[:2] == ("finished", 16)  # what was fixed stays
    assert hashes(run) == hashes(undisturbed)


def test_a_resume_with_another_deadline_is_planned_anew(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    run = runs.fresh("plain", tmp_path)
    assert go_on(run, send(signal.SIGINT, at=12), deadline=16.9).status == "interrupted"
    assert go_on(run, deadline=1000.0)[:2] == ("finished", STEPS)


def test_the_steps_fixed_are_on_disk_before_the_next_step(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    run = runs.fresh("plain", tmp_path)
    saved = {}

    def after(step: int) -> None:
        if step == trainer.CALIBRATION_STEPS + 1:
            saved[step] = saved_steps(run)

    go_on(run, Watcher(after), deadline=16.9)
    assert saved == {trainer.CALIBRATION_STEPS + 1: 16}


def test_a_deadline_never_adds_steps(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    assert go_on(runs.fresh("plain", tmp_path), deadline=1e6).steps == STEPS


def test_a_machine_that_slows_down_still_ends_in_time(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    run = runs.fresh("plain", tmp_path)

    def after(step: int) -> None:
        if step == trainer.CALIBRATION_STEPS + 1:
            clock.step_seconds = 1.5

    watcher = Watcher(after)
    outcome = go_on(run, watcher, deadline=19.0)
    assert outcome.status == "finished"
    assert outcome.report is not None
    assert clock.now <= 19.0
    assert [note for note in watcher.notes if "out of time" in note]
    assert saved_steps(run) == outcome.steps < 18
