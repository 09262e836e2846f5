import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from omnictl.models.thinker import Thinker, ThinkerConfig, matmul_parameters, training_flops
from omnictl.nn.losses.cross_entropy import cross_entropy_sum

VOCAB, ROWS, LENGTH = 50, 3, 16


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_flops_are_those_torch_counts_but_for_half_the_attention(kv_heads: int) -> None:
    config = ThinkerConfig(layers=2, width=32, heads=4, kv_heads=kv_heads, hidden=48, context=LENGTH)
    model = Thinker(config, VOCAB)
    tokens = torch.randint(VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    # Plain matrix products instead of the fused kernel: there torch counts all T² pairs of an attention, masked or not.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        hidden = model(tokens).hidden.flatten(0, 1)
        torch.autograd.backward(cross_entropy_sum(hidden, model.embedding.weight, tokens.flatten()))
    masked = 6 * config.layers * config.width * ROWS * LENGTH**2  # the upper half that causal attention leaves out
    assert counter.get_total_flops() == training_flops(model, torch.full((ROWS,), LENGTH)) + masked


def test_what_nobody_asks_for_is_not_counted() -> None:
    config = ThinkerConfig(layers=2, width=32, heads=4, kv_heads=2, hidden=48, context=LENGTH)
    model = Thinker(config, VOCAB)
    tokens = torch.randint(VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    scored = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
    scored[:, -5:] = True
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        hidden = model(tokens, scored=scored).hidden
        torch.autograd.backward(cross_entropy_sum(hidden, model.embedding.weight, tokens[scored]))
    masked = 6 * config.layers * config.width * ROWS * LENGTH**2
    assert counter.get_total_flops() == training_flops(model, torch.full((ROWS,), LENGTH), 5 * ROWS) + masked


def test_attention_is_counted_by_document() -> None:
    model = Thinker(ThinkerConfig(layers=2, width=32, heads=4, kv_heads=2, hidden=48), VOCAB)
    one, two = training_flops(model, torch.tensor([30])), training_flops(model, torch.tensor([10, 20]))
    assert one - two == 6 * 2 * 32 * (30**2 - 10**2 - 20**2)


def test_only_active_experts_are_counted() -> None:
    dense = ThinkerConfig(layers=2, width=32, heads=4, kv_heads=2, hidden=48)
    mixture = dense.model_copy(update={"experts": 8, "experts_per_token": 2})
    mlp, router = 2 * 3 * 32 * 48, 2 * 32 * 8
    assert matmul_parameters(Thinker(mixture, VOCAB)) == matmul_parameters(Thinker(dense, VOCAB)) + mlp + router
