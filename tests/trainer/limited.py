"""Trains a stage on its heaviest batches below a limit of memory: what the loaded process holds, and a multiple of a step's plan.

python tests/trainer/limited.py STAGE PRESET FACTOR

The limit is that of a control group `limited_PID`, of version 1 or 2, which whoever started this removes; past it the kernel kills.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from heaviest import Heaviest
from regression import Recorder

from omnictl.data.manifest.cache import cache_dir
from omnictl.measure.untrained_stages import untrained_stage
from omnictl.runs.run import create_run
from omnictl.trainer import trainer
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.hardware.device import keep_freed_memory, return_freed_memory
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loop import train
from omnictl.trainer.optim.optimizers import choose_optimizer
from omnictl.trainer.plan.micro_batch import Steps

STEPS = 2
"""The second has the moments of the optimizer, as all that come after it."""
LIMITS = (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory.max"))
"""The file of a limit, by version of control groups."""


def main(name: str, preset: str, factor: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = untrained_stage(name, preset, cache_dir(), Path(folder))
        batches = stage.batches()
        config = alike(stage.config.train)
        kind = choose_optimizer(config, stage.model, stage.work(batches.collate(batches.ids(0))).flops)
        heaviest = Heaviest(batches, config.batch_size)
        vars(stage)["batches"] = lambda: heaviest
        planned = Steps(stage, batches, config, kind, Precision("fp32", "")).peak(config.batch_size, "off").extra_bytes
        vars(trainer)["matmul_rate"] = lambda device: 1e11  # it takes memory of its own, before the first step
        keep_freed_memory()
        small = untrained_stage(name, "debug", cache_dir(), Path(folder) / "debug")
        train_in(Path(folder) / "debug_runs", small, alike(small.config.train))  # touches code and libraries' own buffers
        return_freed_memory()  # or the steps would find it there
        keep_freed_memory()
        print(f"planned {planned / 2**20:.0f} MiB", flush=True)
        limit_memory(int(factor * planned))
        train_in(Path(folder) / "runs", stage, config)


def alike(config: TrainConfig) -> TrainConfig:
    return config.model_copy(
        update={"steps": STEPS, "eval_every": STEPS, "save_every": STEPS, "micro_batch": config.batch_size, "precision": "fp32"}
    )


def train_in(root: Path, stage: Any, config: TrainConfig) -> None:
    run = create_run(root, stage.name, "limited", {"parents": {}})
    stage.save_description(run.model)
    train(stage, config, run, device=torch.device("cpu"), observer=Recorder())


def limit_file() -> Path | None:
    """What the limit is called beside a group's processes; None where there are no groups."""
    return next((file for file in LIMITS if file.with_name("cgroup.procs").exists()), None)


def limit_memory(more: int) -> None:
    """Enter a group of one's own that may use so many bytes; what this process holds stays with the group it comes from."""
    limit = limit_file()
    assert limit is not None
    group = limit.parent / f"limited_{os.getpid()}"
    group.mkdir()
    (group / limit.name).write_text(str(more))
    (group / "cgroup.procs").write_text(str(os.getpid()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
