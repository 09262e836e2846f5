"""The Thinker of a model folder of stage A or E, ready to be written in another format."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize

from omnictl.data.text.tokenizer import Tokenizer
from omnictl.errors import UsageError
from omnictl.models.thinker import Thinker
from omnictl.runs.model_folder import described_field, read_stage
from omnictl.stages.pretrain import Pretrain
from omnictl.stages.pretrain import open_thinker as open_trained_thinker
from omnictl.stages.protocol import open_model
from omnictl.stages.sft import Sft


class ThinkerExport(NamedTuple):
    """A Thinker with what is needed to use it."""

    thinker: Thinker
    """On the CPU, in fp32 and for evaluation."""
    tokenizer: Tokenizer
    chats: bool
    """Whether it answers ChatML; otherwise it continues texts."""


def open_thinker(folder: Path, cache: Path) -> ThinkerExport:
    """The Thinker of a model folder, low-rank updates merged; raises as `open_updated_thinker`."""
    export = open_updated_thinker(folder, cache)
    merge_updates(export.thinker)
    return export


def open_updated_thinker(folder: Path, cache: Path) -> ThinkerExport:
    """The same with low-rank updates beside the matrices that they update.

    Raises:
        CheckpointError: it holds no whole model.
        UsageError: it is of a stage without a Thinker.
    """
    stage = read_stage(folder)
    if stage not in (Pretrain.name, Sft.name):
        raise UsageError(
            f"{folder} is a model of stage `{stage}`, which has no Thinker",
            where=str(folder),
            fix=f"name a run of `omnictl {Pretrain.name}` or `omnictl {Sft.name}`",
        )
    if stage == Sft.name:
        omni = open_model(Sft, folder, device=torch.device("cpu"), cache=cache)
        return ThinkerExport(omni.model.thinker.eval(), omni.tokenizer, chats=True)
    mode = described_field(folder, stage, "chat", str)
    thinker, tokenizer = open_trained_thinker(folder)
    return ThinkerExport(thinker.eval(), tokenizer, mode == "chatml")


def merge_updates(model: nn.Module) -> None:
    """Make low-rank updates part of the matrices that they update."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
