"""A run that is interrupted after any step ends with the same bytes, in every number format, with accumulation, with workers.

A Thinker of a few thousand weights, so that formats which this CPU has to emulate take no time. With small counts a few cells of
the matrix are drawn by a seed, with large ones (200 and more) all are taken: steps 1 to 50 of twelve settings.
"""

import hashlib
import itertools
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from regression import Recorder
from stage_factory import make_stage

from omnictl.config import resolve
from omnictl.data.manifest.cache import cache_dir
from omnictl.runs.run import Run, create_run
from omnictl.runs.weights_file import read_weights
from omnictl.stages.pretrain import PRESETS, Pretrain, PretrainConfig
from omnictl.trainer.log import StepRecord
from omnictl.trainer.loop import Outcome, train

pytestmark = [
    pytest.mark.faults,
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # on a machine of one core
]

ALL = int(os.environ.get("OMNICTL_FAULTS", "20")) >= 200

STEPS = 50 if ALL else 14


class Setting(NamedTuple):
    """How a step is computed."""

    precision: str
    accumulation: int
    workers: int
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.precision}, {self.accumulation} micro-batches, {self.workers} workers, {self.threads} threads"


MATRIX = [Setting(*cell) for cell in itertools.product(("fp32", "bf16", "fp16"), (1, 4), (0, 2))]
DRAWN = MATRIX if ALL else [Setting("fp32", 4, 2), random.Random(1).choice(MATRIX[4:8]), random.Random(2).choice(MATRIX[8:])]

SMALL = [
    f"train.steps={STEPS}",
    "train.batch_size=8",
    f"train.eval_every={STEPS // 2}",
    f"train.save_every={STEPS // 5}",
    "train.optimizer=muon",
    "train.average=0.9",
    "model.layers=1",
    "model.width=16",
    "model.heads=2",
    "model.kv_heads=1",
    "model.hidden=16",
    "model.dropout=0.1",
    "data.num_documents=200",
    "data.num_eval_documents=4",
    "data.seq_len=32",
]


class Interrupting(Recorder):
    """Presses Ctrl-C after a step."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.at = at

    def step(self, record: StepRecord) -> None:
        super().step(record)
        if record.step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def begin(folder: Path, setting: Setting) -> Run:
    overrides = [
        *SMALL,
        f"train.precision={setting.precision}",
        f"train.micro_batch={8 // setting.accumulation}",
        f"train.runtime.workers={setting.workers}",
    ]
    stage = make_stage("pretrain", resolve(PretrainConfig, preset=PRESETS["debug"], overrides=overrides))
    run = create_run(folder, stage.name, "test", {"parents": {}})
    stage.save_description(run.model)
    return run


def go_on(run: Run, *, interrupt_at: int | None = None) -> Outcome:
    stage = Pretrain.open(run.model, data=None, cache=cache_dir())
    return train(stage, stage.config.train, run, device=torch.device("cpu"), observer=Interrupting(interrupt_at))


def hashes(run: Run) -> dict[str, str]:
    last = max(run.checkpoints.glob("step-*"))
    files = [*sorted(last.iterdir()), run.metrics_file, run.model / "model.safetensors", run.path / "best.json"]
    return {str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def interrupted(folder: Path, setting: Setting, step: int) -> Run:
    run = begin(folder, setting)
    assert go_on(run, interrupt_at=step)[:2] == ("interrupted" if step < STEPS else "finished", step)
    assert go_on(run)[:2] == ("finished", STEPS)
    return run


def steps_of(setting: Setting) -> list[int]:
    return list(range(1, STEPS + 1)) if ALL else sorted(random.Random(str(setting)).sample(range(1, STEPS + 1), 2))


@pytest.mark.parametrize("setting", DRAWN, ids=str)
def test_whatever_step_a_run_is_interrupted_after_it_ends_the_same(setting: Setting, tmp_path: Path) -> None:
    whole = begin(tmp_path / "whole", setting)
    assert go_on(whole).status == "finished"
    expected = hashes(whole)
    different = [step for step in steps_of(setting) if hashes(interrupted(tmp_path / str(step), setting, step)) != expected]
    assert different == []


@pytest.mark.parametrize("number", [2, 3, 4] if ALL else [2])
def test_so_it_does_on_more_threads(number: int, tmp_path: Path) -> None:
    setting = Setting("fp32", 4, 0, number)
    with threads(number):
        whole = begin(tmp_path / "whole", setting)
        go_on(whole)
        for step in steps_of(setting)[:: 5 if ALL else 2]:
            assert hashes(interrupted(tmp_path / str(step), setting, step)) == hashes(whole)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (1, 4)] if ALL else [(1, 2)])
def test_on_another_number_of_threads_it_goes_on(before: int, after: int, tmp_path: Path) -> None:
    """Whose sums may be rounded differently; how far apart the weights end is what is asked."""
    setting = Setting("fp32", 4, 0)
    with threads(before):
        whole = begin(tmp_path / "whole", setting)
        go_on(whole)
        run = begin(tmp_path / "other", setting)
        go_on(run, interrupt_at=STEPS // 2)
    with threads(after):
        assert go_on(run).status == "finished"
    one, two = (read_weights(each.model / "model.safetensors") for each in (whole, run))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-3, msg=name)
