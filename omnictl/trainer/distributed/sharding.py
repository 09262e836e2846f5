"""Weights in slices, one a process (FSDP2; Zhao et al. 2023), for models that outgrow a card.

Attention and feed-forward layers hold most of a model's weights. Of each, a process keeps a slice with its gradient and moments,
and gets the rest only while the layer is at work; gradients are added up on their way back. All other weights are whole everywhere.

    torchrun --nproc-per-node 4 -m omnictl pretrain --preset small --set train.sharding=fsdp

All processes run the same layers the same number of times, or they wait for one another for ever: so equal shares of every batch.
"""

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from omnictl.errors import ConfigError
from omnictl.nn.moe import MixtureOfExperts
from omnictl.nn.transformer import Attention, SwiGLU
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.distributed.process_group import ProcessGroup
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.stage import Stage

LAYERS = (Attention, SwiGLU, MixtureOfExperts)


def layers_to_shard(model: nn.Module) -> list[nn.Module]:
    """The layers that every example goes through; of a model that joins others, the language model's."""
    trunk = getattr(model, "thinker", model)
    return [module for module in trunk.modules() if isinstance(module, LAYERS)]


def check_shardable(stage: Stage, config: TrainConfig, precision: Precision, group: ProcessGroup) -> None:
    """Refuse what cannot be trained in slices.

    Raises:
        ConfigError: it cannot.
    """
    reasons = {
        "train.optimizer": config.optimizer == "muon" and "Muon turns whole matrices, of which there are only slices",
        "train.precision": precision.name == "fp16" and "the scale of fp16 is found by each process for itself",
        "train.average": config.average > 0 and "averages of weights are not kept in slices",
        "train.batch_size": config.batch_size % group.size != 0
        and f"{config.batch_size} examples cannot be divided into {group.size} equal shares",
        "train.sharding": (not stage.divisible or not layers_to_shard(stage.model))
        and f"{stage.name} has no layers that all examples go through by themselves",
    }
    for where, reason in reasons.items():
        if reason:
            raise ConfigError(f"train.sharding=fsdp: {reason}", where=where, fix="change that, or leave train.sharding out")


def shard(stage: Stage, config: TrainConfig, precision: Precision, device: torch.device, group: ProcessGroup) -> None:
    """Keep only this process's slices of the leading one's model; what is left of it then lies on the device.

    Raises:
        ConfigError: this cannot be trained in slices.
    """
    check_shardable(stage, config, precision, group)
    model = stage.model
    group.align([*model.parameters(), *model.buffers()])
    rates = {name: parameter.rate for name, parameter in model.named_parameters() if hasattr(parameter, "rate")}
    mesh = init_device_mesh(device.type, (group.size,))
    for layer in layers_to_shard(model):
        sharded: FSDPModule = fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)  # sums, not means
    for name, parameter in model.named_parameters():
        if name in rates:
            parameter.rate = rates[name]  # type: ignore[attr-defined]
    model.to(device)


def share_in_layers(model: nn.Module) -> float:
    """Of all weights that learn, the share that is sliced."""
    sliced = sum(p.numel() for layer in layers_to_shard(model) for p in layer.parameters() if p.requires_grad)
    return sliced / sum(p.numel() for p in model.parameters() if p.requires_grad)
