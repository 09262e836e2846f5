"""Fresh stages for tests, each with what it stands on."""

import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from omnictl.data.manifest.cache import cache_dir
from omnictl.measure.untrained_stages import save_untrained
from omnictl.runs.files import read_json, write_json
from omnictl.runs.run import Run, create_run
from omnictl.stages import stage_recipe, stage_type
from omnictl.stages.protocol import StageContext

FEW_JUDGED: Mapping[str, str] = {
    "pretrain": "data.num_eval_documents=4",
    "asr": "data.num_eval_utterances=2",
    "vision": "data.num_eval_images=4",
    "talker": "data.num_eval_utterances=2",
    "sft": "data.num_eval_dialogues=1",
}
"""By command: the setting of so few examples to be judged on that it takes no time, where what they say is not what is tested."""


def make_stage(name: str, config: Any = None) -> Any:
    """A stage of its preset `debug` or of another config; what it needs is there, though it has learned nothing."""
    kind: Any = stage_type(name)
    config = config or stage_recipe(name).presets["debug"]
    upstream = {part: untrained(part, cache_dir()) for part in kind.needs}
    return kind.create(config, context=StageContext(cache_dir(), upstream=upstream))


@cache
def untrained(name: str, folder: Path) -> Path:
    """The model folder of a stage of its preset `debug` that has not been trained, below a folder; one worker makes it."""
    model = folder / "untrained" / name
    model.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{model}.lock"), torch.random.fork_rng(devices=()):
        if not (model / "model.safetensors").exists():  # what is written last
            save_untrained(make_stage(name), model)
    return model


def finished_run(root: Path, stage: str) -> Run:
    """A finished run of a stage's preset `debug`, with a model that has learned nothing."""
    run = create_run(root, stage, "debug", {"parents": {}})
    shutil.copytree(untrained(stage, cache_dir()), run.model)
    write_json(run.config_file, read_json(run.model / "config.json")["config"])
    run.update(status="finished")
    return run


def unseal(model: Path) -> None:
    """Make a model folder, and the parts in it, as they were before there were checksums."""
    for weights in model.rglob("model.safetensors"):
        tensors = load_file(weights)
        weights.unlink()  # it may be a link to another folder's
        save_file(tensors, weights)
    for manifest in model.rglob("manifest.json"):
        manifest.unlink()
