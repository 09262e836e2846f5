"""The reference implementation of the architecture: a Thinker's weights must mean the same there."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from omnictl.errors import CheckpointError, ConfigError
from omnictl.models.qwen3 import check_is_qwen3, qwen3_config, qwen3_state_dict, thinker_settings, thinker_state_dict
from omnictl.models.thinker import Thinker, ThinkerConfig

VOCAB = 50

SHAPES = [
    ThinkerConfig(layers=2, width=32, heads=4, kv_heads=2, hidden=64, context=32),
    ThinkerConfig(layers=1, width=24, heads=2, kv_heads=1, hidden=40, context=16, rope_theta=500.0),
    ThinkerConfig(layers=3, width=32, heads=4, kv_heads=4, hidden=16, context=64, norm_eps=1e-3),
]


@pytest.mark.parametrize("config", SHAPES, ids=["grouped", "one key head", "all key heads"])
def test_same_logits_in_transformers(config: ThinkerConfig, randomise: Callable[[nn.Module], None]) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM  # slow: not for each process that collects tests

    model = Thinker(config, VOCAB).eval()
    randomise(model)
    reference = Qwen3ForCausalLM(Qwen3Config(**qwen3_config(config, VOCAB)))
    missing, unexpected = reference.load_state_dict(qwen3_state_dict(model.state_dict()), strict=False)
    assert missing == ["lm_head.weight"]  # tied
    assert unexpected == []
    tokens = torch.randint(VOCAB, (2, config.context), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference(tokens).logits
        got = model.logits(model(tokens).hidden)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("settings", "named", "fix"),
    [
        ({"experts": 2}, "model.experts=2 (a mixture of experts)", "--set model.experts=0"),
        ({"kv_shift": True}, "model.kv_shift=True (keys and values mixed", "--set model.kv_shift=false"),
    ],
)
def test_what_it_has_not_is_refused_by_name(settings: dict[str, object], named: str, fix: str) -> None:
    config = ThinkerConfig(layers=1, width=8, heads=2, kv_heads=1, hidden=8, dropout=0.1, **settings)
    with pytest.raises(ConfigError) as caught:
        check_is_qwen3(config, "runs/a")
    assert named in caught.value.message
    assert "dropout" not in caught.value.message
    assert fix in caught.value.fix


def test_settings_that_do_not_matter_are_no_obstacle() -> None:
    check_is_qwen3(ThinkerConfig(dropout=0.1, balance_weight=0.5, rope_theta=500.0, context=64), "runs/a")


def test_a_config_comes_back() -> None:
    from transformers import Qwen3Config

    for config in SHAPES:
        assert ThinkerConfig(**thinker_settings(qwen3_config(config, VOCAB), "config.json")) == config
        described = Qwen3Config(**qwen3_config(config, VOCAB)).to_dict()
        assert ThinkerConfig(**thinker_settings({**described, "architectures": ["Qwen3ForCausalLM"]}, "config.json")) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "describes ['LlamaForCausalLM'], expected ['Qwen3ForCausalLM']"),
        ({"attention_bias": True}, "attention_bias=True, expected False"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False, expected True"),
        ({"head_dim": 128}, "head_dim=128, expected hidden_size / num_attention_heads = 8"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "rope_type='yarn', expected 'default'"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types with 'sliding_attention'"),
    ],
)
def test_what_a_thinker_has_not_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        thinker_settings({**qwen3_config(SHAPES[0], VOCAB), **change}, "config.json")
    assert named in caught.value.message


def test_a_config_without_shapes_says_which() -> None:
    described = qwen3_config(SHAPES[0], VOCAB)
    del described["intermediate_size"]
    with pytest.raises(CheckpointError, match="does not say: intermediate_size"):
        thinker_settings(described, "config.json")


def test_tensors_come_back_and_every_wrong_one_is_named() -> None:
    thinker = Thinker(SHAPES[0], VOCAB).state_dict()
    theirs = qwen3_state_dict(thinker)
    tied = {**theirs, "lm_head.weight": theirs["model.embed_tokens.weight"]}
    assert thinker_state_dict(tied, thinker, "a").keys() == thinker.keys()
    del theirs["model.layers.1.mlp.up_proj.weight"]
    broken = {
        **theirs,
        "model.norm.weight": torch.ones(3),
        "model.layers.10.self_attn.q_proj.bias": torch.zeros(32),
        "lm_head.weight": torch.zeros(VOCAB, 32),
    }
    with pytest.raises(CheckpointError) as caught:
        thinker_state_dict(broken, thinker, "a")
    assert caught.value.message.splitlines()[1:] == [
        "lm_head.weight: other than the embeddings, expected to be tied to them",
        "model.layers.1.mlp.up_proj.weight: missing, expected 64×32",
        "model.layers.10.self_attn.q_proj.bias: left over, 32",
        "model.norm.weight: found 3, expected 32",
    ]
