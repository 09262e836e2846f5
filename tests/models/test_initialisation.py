import pytest
import torch
from torch import Tensor, nn

from omnictl.models.thinker import Block, Thinker, ThinkerConfig
from omnictl.nn.transformer import Rotary, rotate

VOCAB = 200


@pytest.fixture(params=[(4, 2), (4, 4), (4, 1)], ids=["groups of two", "groups of one", "one group"])
def model(request: pytest.FixtureRequest) -> Thinker:
    torch.manual_seed(0)
    heads, kv_heads = request.param
    return Thinker(ThinkerConfig(layers=3, width=256, heads=heads, kv_heads=kv_heads, hidden=32, context=64), VOCAB)


def block(model: Thinker, layer: int) -> Block:
    found = model.blocks[layer]
    assert isinstance(found, Block)
    return found


def attention_weights(model: Thinker, tokens: Tensor, layer: int) -> Tensor:
    """`(H, T, T)` of a layer that reads bare embeddings."""
    attention = block(model, layer).attention
    x = block(model, layer).attention_norm(model.embedding(tokens))  # (T, D)
    q = attention.q_norm(attention.q_proj(x).view(len(x), attention.heads, -1)).transpose(0, 1)
    k = attention.k_norm(attention.k_proj(x).view(len(x), attention.kv_heads, -1)).transpose(0, 1)
    rotary = Rotary(model.cos[: len(x)], model.sin[: len(x)])
    q, k = rotate(q, rotary), rotate(k, rotary).repeat_interleave(attention.heads // attention.kv_heads, 0)
    scores = q @ k.mT / attention.head_width**0.5
    later = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    return scores.masked_fill(later, float("-inf")).softmax(-1)


@torch.no_grad()
def test_every_second_head_of_the_first_layer_looks_one_position_back(model: Thinker) -> None:
    tokens = torch.randint(VOCAB, (64,), generator=torch.Generator().manual_seed(1))
    back = attention_weights(model, tokens, layer=0).diagonal(-1, 1, 2).mean(-1)  # (H,)
    assert back[::2].min() > 0.5
    assert back[1::2].max() < 0.2
    assert attention_weights(model, tokens, layer=1).diagonal(-1, 1, 2).mean() < 0.2


@torch.no_grad()
@pytest.mark.parametrize("layer", [1, 2])
def test_attention_predicts_what_it_sees(model: Thinker, layer: int) -> None:
    attention = block(model, layer).attention
    seen = nn.functional.normalize(model.embedding.weight, dim=-1) * model.config.width**0.5
    values = attention.v_proj(seen).view(VOCAB, attention.kv_heads, -1)
    written = attention.o_proj(values.repeat_interleave(attention.heads // attention.kv_heads, 1).flatten(1))
    predicted = model.logits(model.norm(written)).argmax(-1)
    assert (predicted == torch.arange(VOCAB)).float().mean() > 0.9


@torch.no_grad()
def test_no_token_predicts_itself(model: Thinker) -> None:
    own = model.logits(model.norm(model.embedding.weight)).diagonal()
    assert own.mean().abs() < 0.5
    assert 0.5 < own.std() < 2


@torch.no_grad()
def test_feed_forward_layers_add_nothing_yet(model: Thinker) -> None:
    x = torch.randn(1, 5, model.config.width)
    for layer in range(3):
        assert torch.equal(block(model, layer).feed_forward(x, None)[0], x)
