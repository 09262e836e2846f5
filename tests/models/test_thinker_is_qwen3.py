"""The reference implementation of the architecture: a Thinker's weights must mean the same there."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from omnictl.models.thinker import Thinker, ThinkerConfig, qwen3_state_dict

VOCAB = 50

SHAPES = [
    ThinkerConfig(layers=2, width=32, heads=4, kv_heads=2, hidden=64, context=32),
    ThinkerConfig(layers=1, width=24, heads=2, kv_heads=1, hidden=40, context=16, rope_theta=500.0),
    ThinkerConfig(layers=3, width=32, heads=4, kv_heads=4, hidden=16, context=64, norm_eps=1e-3),
]


@pytest.mark.parametrize("config", SHAPES, ids=["grouped", "one key head", "all key heads"])
def test_same_logits_in_transformers(config: ThinkerConfig, randomise: Callable[[nn.Module], None]) -> None:
    model = Thinker(config, VOCAB).eval()
    randomise(model)
    reference = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCAB,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_width,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            max_position_embeddings=config.context,
            tie_word_embeddings=True,
        )
    )
    missing, unexpected = reference.load_state_dict(qwen3_state_dict(model), strict=False)
    assert missing == ["lm_head.weight"]  # tied
    assert unexpected == []
    tokens = torch.randint(VOCAB, (2, config.context), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference(tokens).logits
        got = model.logits(model(tokens).hidden)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_a_mixture_has_no_place_there() -> None:
    with pytest.raises(AssertionError, match="only dense Thinkers"):
        qwen3_state_dict(Thinker(ThinkerConfig(layers=1, width=8, heads=2, kv_heads=1, hidden=8, experts=2), 9))
