"""Stage E with a Thinker whose feed-forward layers are mixtures of experts."""

import math

import pytest
import torch
from stage_factory import untrained
from torch import Tensor

from omnictl.config import resolve
from omnictl.data.manifest.cache import cache_dir
from omnictl.measure.untrained_stages import save_untrained
from omnictl.nn.moe import MixtureOfExperts
from omnictl.stages.pretrain import PRESETS as PRETRAIN
from omnictl.stages.pretrain import Pretrain, PretrainConfig
from omnictl.stages.protocol import StageContext
from omnictl.stages.sft import PRESETS, Sft
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loader import micro_batches
from omnictl.trainer.optim.gradient import accumulate, normalise

FP32 = Precision("fp32", "")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Sft:
    folder = tmp_path_factory.mktemp("mixture")
    config = resolve(PretrainConfig, preset=PRETRAIN["debug"], overrides=["model.experts=3", "model.balance_weight=0.5"])
    save_untrained(Pretrain.create(config, context=StageContext(cache_dir())), folder)
    upstream = {part: untrained(part, cache_dir()) for part in Sft.needs} | {"pretrain": folder}
    return Sft.create(PRESETS["debug"], context=StageContext(cache_dir(), upstream=upstream))


def set_loads(stage: Sft, *shares: float) -> None:
    for module in stage.model.modules():
        if isinstance(module, MixtureOfExperts):
            module.load.copy_(torch.tensor(shares))


def gradient(stage: Sft, micro_batch: int) -> Tensor:
    """Of the mean loss of a batch, all routers in one vector."""
    stage.model.zero_grad(set_to_none=True)
    batches, scaler = stage.batches(), FP32.scaler(torch.device("cpu"))
    made = map(batches.collate, micro_batches(batches.ids(0), micro_batch))
    sums = accumulate(stage, made, precision=FP32, scaler=scaler)
    normalise(list(stage.model.parameters()), sums.count, clip_norm=math.inf)
    return torch.cat([p.grad.flatten() for name, p in stage.model.named_parameters() if "router" in name and p.grad is not None])


def test_an_example_counts_for_the_balance_as_for_the_loss(stage: Sft) -> None:
    """E Σ f p is 1 a layer and position while loads are even: so it is in the mean over tokens of answers."""
    set_loads(stage, 1 / 3, 1 / 3, 1 / 3)
    batches = stage.batches()
    batch = batches.collate(batches.ids(0))
    assert batch.num_targets < batch.lengths.sum()
    loss = stage.loss(batch)
    layers = stage.model.thinker.config.layers
    assert float(loss.scalars["balance"]) / loss.count == pytest.approx(layers, rel=1e-5)
    torch.testing.assert_close(loss.sum, loss.scalars["nats"] + 0.5 * loss.scalars["balance"])


def test_the_balance_of_parts_of_a_batch_adds_up(stage: Sft) -> None:
    set_loads(stage, 0.7, 0.2, 0.1)
    whole, parts = gradient(stage, 8), gradient(stage, 1)
    assert whole.norm() > 0
    assert (parts - whole).norm() <= 1e-4 * whole.norm()
