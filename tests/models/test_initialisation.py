import pytest
import torch
from torch import Tensor, nn

from omnictl.models.initialisation import LOOKUPS
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


def predecessor_signs(model: Thinker) -> Tensor:
    """`(D,)` in which the first layer notes what stood before: what its first head writes, against what it reads."""
    first = block(model, 0).attention
    read = first.v_proj.weight[: first.head_width]  # (d, D)
    written = first.o_proj.weight[:, : first.head_width]  # (D, d)
    return (written * read.T).sum(1).sign()


@torch.no_grad()
@pytest.mark.parametrize("layer", [1, 2])
def test_each_head_predicts_what_its_values_hand_on(model: Thinker, layer: int) -> None:
    """The token that it sees, or the one noted before it."""
    attention = block(model, layer).attention
    seen = nn.functional.normalize(model.embedding.weight, dim=-1) * model.config.width**0.5
    group = attention.heads // attention.kv_heads
    for head in range(attention.kv_heads):
        lookup = LOOKUPS[((layer - 1) * attention.kv_heads + head) % len(LOOKUPS)]
        read = seen if lookup.value == "self" else seen * predecessor_signs(model)
        values = torch.zeros(VOCAB, attention.kv_heads, attention.head_width)
        values[:, head] = attention.v_proj(read).view(VOCAB, attention.kv_heads, -1)[:, head]
        written = attention.o_proj(values.repeat_interleave(group, 1).flatten(1))
        predicted = model.logits(model.norm(written)).argmax(-1)
        assert (predicted == torch.arange(VOCAB)).float().mean() > 0.9


@torch.no_grad()
def test_queries_and_keys_of_later_layers_match_equal_tokens(model: Thinker) -> None:
    """By themselves, without positions: the query that asks for a token finds the key that offers it among two hundred."""
    attention, signs = block(model, 1).attention, predecessor_signs(model)
    seen = nn.functional.normalize(model.embedding.weight, dim=-1) * model.config.width**0.5
    sides = {"self": seen, "before": seen * signs}
    group = attention.heads // attention.kv_heads
    for head in range(attention.kv_heads):
        lookup = LOOKUPS[head % len(LOOKUPS)]
        keys = attention.k_proj(sides[lookup.key]).view(VOCAB, attention.kv_heads, -1)[:, head]
        for number in range(group):
            queries = attention.q_proj(sides[lookup.queries[number % 2]]).view(VOCAB, attention.heads, -1)[:, head * group + number]
            found = (attention.q_norm(queries) @ attention.k_norm(keys).T).argmax(-1)
            assert (found == torch.arange(VOCAB)).float().mean() > 0.9


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
