"""Optimizers: AdamW (fused) for everything, or Muon for 2-D hidden weights and AdamW for the rest.

Sources: Loshchilov & Hutter 2019 (AdamW, torch's implementation); `trainer/optim/muon.py`. An exponential average of the weights
(Polyak & Juditsky 1992) may be kept beside them, to be judged and kept in their place.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from omnictl.errors import CheckpointError
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.distributed.dtensor import by_kind, sliced_like, whole
from omnictl.trainer.optim.muon import Muon, polar_flops

MUON_WORTH = 1 / 3
"""`auto` takes Muon while its own products cost at most this share of a step's other work."""


def hidden_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of linear layers by name, output heads and expert routers left out (Muon is for hidden layers only)."""
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.removesuffix(".weight") in linear and parameter.requires_grad and not {"head", "router"} & set(name.split("."))
    }


def choose_optimizer(config: TrainConfig, model: nn.Module, step_flops: float) -> str:
    """ "adamw" or "muon"; `auto` weighs Muon's cost, which is the same each step, against the work of a step."""
    if config.optimizer != "auto":
        return config.optimizer
    extra = sum(polar_flops(weight.shape) for weight in hidden_matrices(model).values())
    return "muon" if 0 < extra <= MUON_WORTH * step_flops else "adamw"


def rate_of(parameter: nn.Parameter) -> float:
    """The parameter's learning rate as a share of the config's: its attribute `rate` if the model set one, else 1."""
    return float(getattr(parameter, "rate", 1.0))


def by_rate(parameters: Iterable[nn.Parameter]) -> dict[float, list[nn.Parameter]]:
    """Parameters of the same rate together."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(rate_of(parameter), []).append(parameter)
    return groups


class Optimizers:
    """One or two torch optimizers that step together under one learning-rate factor."""

    def __init__(self, model: nn.Module, config: TrainConfig, kind: str, products: torch.dtype = torch.float32) -> None:
        """Optimise a model's trained parameters; `kind` is "adamw" or "muon", `products` the number format of Muon's products."""
        self.kind = kind
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        hidden = hidden_matrices(model) if kind == "muon" else {}
        rest = {name: p for name, p in self.named.items() if name not in hidden}
        decayed = (config.weight_decay, [p for p in rest.values() if p.ndim >= 2])
        plain = (0.0, [p for p in rest.values() if p.ndim < 2])
        groups = [
            {"params": group, "weight_decay": decay, "lr": rate * config.lr}
            for decay, parameters in (decayed, plain)
            for rate, same in by_rate(parameters).items()
            for group in by_kind(same)
        ]
        adamw = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
        self.parts: list[torch.optim.Optimizer] = [adamw]
        if hidden:
            matrices = [{"params": group, "lr": rate * config.muon_lr} for rate, group in by_rate(hidden.values()).items()]
            self.parts.append(Muon(matrices, lr=config.muon_lr, weight_decay=config.weight_decay, dtype=products))
        self._peaks = [[group["lr"] for group in part.param_groups] for part in self.parts]
        self._decay = config.average
        self._averages = {name: p.detach().clone() for name, p in self.named.items()} if config.average else {}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters."""
        return list(self.named.values())

    @property
    def moving(self) -> list[torch.optim.Optimizer]:
        """Those of the optimizers that have a gradient to follow: a batch may leave all parameters of one aside."""
        return [part for part in self.parts if any(p.grad is not None for group in part.param_groups for p in group["params"])]

    def set_products(self, dtype: torch.dtype) -> None:
        """Go on with another number format of Muon's products."""
        for part in self.parts:
            if isinstance(part, Muon):
                part.dtype = dtype

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to `factor` × its peak."""
        for part, peaks in zip(self.parts, self._peaks, strict=True):
            for group, peak in zip(part.param_groups, peaks, strict=True):
                group["lr"] = factor * peak

    @torch.no_grad()
    def average(self, step: int) -> None:
        """Take the weights after a step (0-based) into their average; early on it forgets faster, or it would keep the start."""
        if self._averages:
            decay = min(self._decay, (1 + step) / (10 + step))
            torch._foreach_lerp_([self._averages[name] for name in self.named], list[Tensor](self.parameters), 1 - decay)

    @contextmanager
    def use_averages(self) -> Iterator[None]:
        """With the averages, if there are any, in the place of the weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, average in self._averages.items():
            parameter = self.named[name]
            self._averages[name], parameter.data = parameter.data, average

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """All moments, whole, as `{parameter name}/{moment}`, averages as `{parameter name}/average`."""
        moments = {
            f"{name}/{moment}": whole(tensor)
            for name, parameter in self.named.items()
            for part in self.parts
            for moment, tensor in part.state.get(parameter, {}).items()
        }
        return moments | {f"{name}/average": tensor for name, tensor in self._averages.items()}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state_tensors` gave, in the place of all that there is.

        Raises:
            CheckpointError: a moment belongs to no parameter of this model, or an average is missing.
        """
        lacking = [name for name in self._averages if f"{name}/average" not in tensors]
        if lacking:
            raise CheckpointError(
                f"the checkpoint has no average of {lacking[0]!r}, which train.average asks for",
                where=lacking[0],
                fix="resume with the run's own config, or start a new run with --init",
            )
        if not self._averages and any(key.endswith("/average") for key in tensors):
            raise CheckpointError(
                "the checkpoint has averages of the weights, which train.average does not ask for",
                where="train.average",
                fix="resume with the run's own config, or start a new run with --init",
            )
        for part in self.parts:
            part.state.clear()  # of parameters that had not learned yet
        owners = {id(p): part for part in self.parts for group in part.param_groups for p in group["params"]}
        for key, tensor in tensors.items():
            name, _, moment = key.rpartition("/")
            parameter = self.named.get(name)
            if parameter is None:
                raise CheckpointError(
                    f"the checkpoint has optimizer state for {name!r}, which this model does not have",
                    where=key,
                    fix="resume with the run's own config, or start a new run with --init",
                )
            if moment == "average":
                self._averages[name] = tensor.to(parameter.device)
                continue
            # `step` counts on the CPU for AdamW's plain form and beside the parameter for the fused one: keep it there.
            owners[id(parameter)].state[parameter][moment] = sliced_like(tensor, parameter).to(parameter.device)
