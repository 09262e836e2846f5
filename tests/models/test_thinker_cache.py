from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from omnictl.models.thinker import Thinker, ThinkerConfig
from omnictl.nn.transformer import KVCache

VOCAB, LENGTH = 40, 17
Randomise = Callable[[nn.Module], None]

DENSE = ThinkerConfig(layers=2, width=32, heads=4, kv_heads=2, hidden=48, context=20)
MIXTURE = DENSE.model_copy(update={"experts": 4})
SHIFTED = DENSE.model_copy(update={"kv_shift": True})


def read_in_parts(model: Thinker, tokens: Tensor, parts: list[int], cache: KVCache) -> Tensor:
    return torch.cat([model(part, cache=cache).hidden for part in torch.split(tokens, parts, dim=1)], dim=1)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["fp64", "fp32"])
@pytest.mark.parametrize("config", [DENSE, MIXTURE, SHIFTED], ids=["dense", "mixture", "shifted"])
@pytest.mark.parametrize("prefill", [[1], [2], [9], [17], [5, 4], [1, 7, 2], [3, 3, 3, 3]], ids=str)
def test_cached_decoding_is_the_full_forward(
    config: ThinkerConfig, prefill: list[int], dtype: torch.dtype, tolerance: float, randomise: Randomise
) -> None:
    model = Thinker(config, VOCAB).to(dtype).eval()
    randomise(model)
    tokens = torch.randint(VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    full = model(tokens).hidden
    cache = model.new_cache(batch=2)
    parts = prefill + [1] * (LENGTH - sum(prefill))
    cached = read_in_parts(model, tokens, parts, cache)
    assert cache.length == LENGTH
    assert full.abs().max() > 0.5
    torch.testing.assert_close(cached, full, atol=tolerance, rtol=0)


@torch.no_grad()
def test_a_cache_may_be_smaller_than_the_context(randomise: Randomise) -> None:
    model = Thinker(DENSE, VOCAB).eval()
    randomise(model)
    tokens = torch.randint(VOCAB, (1, 6), generator=torch.Generator().manual_seed(0))
    cache = model.new_cache(capacity=6)
    assert cache.keys[0].shape == (1, 2, 6, 8)
    torch.testing.assert_close(read_in_parts(model, tokens, [3, 3], cache), model(tokens).hidden, atol=1e-5, rtol=0)
    with pytest.raises(AssertionError, match="cache of 6 positions asked to hold 7"):
        model(tokens[:, :1], cache=cache)
