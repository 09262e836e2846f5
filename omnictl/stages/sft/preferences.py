"""Stage E's other objective: of two replies to the same dialogue, a trained model learns which is the better one.

Its weights begin as another run's, which stays beside them, frozen, as what they are measured against: its weights are kept in the
model folder as `reference.safetensors`. Source of the loss: `nn.losses.preference`.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from omnictl.data.dialogues.batches import DialogueBatch
from omnictl.models.omni import Omni
from omnictl.nn.losses.preference import PreferenceLoss, dpo_loss
from omnictl.trainer.checkpoint import load_weights, plain_state_dict, save_tensors
from omnictl.trainer.stage import LossSum

FILE = "reference.safetensors"

ScoreReplies = Callable[[Omni, DialogueBatch], Tensor]
"""−ln p of all that each example of a batch is to predict, `(examples,)`."""


class Preferred(NamedTuple):
    """How a model rates pairs that it does not learn from."""

    right: list[bool]
    """Of each pair, whether the better reply has gained more than the worse one."""
    nats: float
    """The mean loss."""


class Preferences:
    """A model and the frozen one that it began as.

    Args:
        model: that learns.
        score: how replies are rated.
        beta: how dear it is to move away from the frozen one.
        folder: the model folder that holds the frozen one's weights; None: it is as the model is now.
    """

    def __init__(self, model: Omni, score: ScoreReplies, beta: float, folder: Path | None) -> None:
        self._model, self._score, self._beta, self._folder = model, score, beta, folder
        self._frozen = None if folder else _freeze(model)
        self._mirror: Omni | None = None

    def open_reference(self) -> Omni:
        """The frozen model, where the other one is; while memory is traced, one that shares the fake tensors of the other.

        Raises:
            CheckpointError: the model folder does not hold its weights, or not as they were written.
        """
        if isinstance(self._model.thinker.embedding.weight, FakeTensor):
            self._mirror = _mirror(self._model)  # kept, as the tracer looks for its modules in the backward pass
            return self._mirror
        if self._frozen is None:
            assert self._folder is not None
            frozen = _freeze(self._model)
            load_weights(self._folder / FILE, frozen)
            self._frozen = frozen  # whoever asks meanwhile sees none, rather than one with other weights
        return self._frozen.to(self._model.thinker.embedding.weight.device)

    def save(self, folder: Path) -> None:
        """Keep the frozen model's weights in a model folder.

        Raises:
            DiskFull, RunError: they cannot be written.
        """
        save_tensors(plain_state_dict(self.open_reference()), folder / FILE)

    def compare(self, batch: DialogueBatch) -> PreferenceLoss:
        """The loss of a batch whose examples are pairs, the better reply first."""
        nats = self._score(self._model, batch)
        with torch.no_grad():
            before = self._score(self.open_reference(), batch)
        return dpo_loss(nats.view(-1, 2), before.view(-1, 2), self._beta)

    def loss(self, batch: DialogueBatch) -> LossSum:
        """The same for the loop, counted in pairs; `preferred` is the share in which the better reply has gained more."""
        total, margins = self.compare(batch)
        return LossSum(total, len(margins), {"preferred": (margins > 0).sum(), "margin": margins.sum()})

    def judge(self, batches: Sequence[DialogueBatch]) -> Preferred:
        """Rate pairs."""
        right: list[bool] = []
        nats = 0.0
        for batch in batches:
            total, margins = self.compare(batch)
            right += (margins > 0).tolist()
            nats += float(total)
        return Preferred(right, nats / max(len(right), 1))


def _freeze(model: Omni) -> Omni:
    return copy.deepcopy(model).eval().requires_grad_(requires_grad=False)


def _mirror(model: Omni) -> Omni:
    """The same tensors in other modules."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared).eval()
