from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from omnictl.models.thinker import Thinker, ThinkerConfig
from omnictl.nn.moe import MixtureOfExperts
from omnictl.nn.recompute import Checkpointing

VOCAB = 40
Randomise = Callable[[nn.Module], None]

DENSE = ThinkerConfig(layers=2, width=32, heads=4, kv_heads=2, hidden=48, context=24)
MIXTURE = DENSE.model_copy(update={"experts": 4})
both = pytest.mark.parametrize("config", [DENSE, MIXTURE], ids=["dense", "mixture"])


def random_thinker(config: ThinkerConfig, randomise: Randomise) -> Thinker:
    model = Thinker(config, VOCAB).double().eval()
    randomise(model)
    return model


def pending_positions(model: Thinker) -> list[float]:
    return [float(m.pending_load.sum()) for m in model.modules() if isinstance(m, MixtureOfExperts)]


def random_tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30}, "width 30 must be a multiple of twice the heads (4)"),
        ({"width": 36}, "width 36 must be a multiple of twice the heads (4)"),  # rotation needs an even head
        ({"kv_heads": 3}, "heads 4 must be a multiple of kv_heads 3"),
        ({"experts": 1}, "experts_per_token 2 exceeds experts 1"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ThinkerConfig(**{**DENSE.model_dump(), **change})
    assert message in str(caught.value)


@both
def test_tokens_and_their_embeddings_read_the_same(config: ThinkerConfig, randomise: Randomise) -> None:
    model, tokens = random_thinker(config, randomise), random_tokens(2, 9)
    from_tokens = model(tokens).hidden
    assert torch.equal(model(embeddings=model.embedding(tokens)).hidden, from_tokens)


def test_tokens_and_embeddings_exclude_each_other(randomise: Randomise) -> None:
    model, tokens = random_thinker(DENSE, randomise), random_tokens(1, 3)
    for given in ({}, {"tokens": tokens, "embeddings": model.embedding(tokens)}):
        with pytest.raises(AssertionError, match="give tokens or embeddings"):
            model(**given)


def test_more_positions_than_the_context_are_refused(randomise: Randomise) -> None:
    with pytest.raises(AssertionError, match="25 positions, context 24"):
        random_thinker(DENSE, randomise)(random_tokens(1, 25))


@both
def test_a_target_is_scored_on_all_earlier_tokens_and_no_other(config: ThinkerConfig, randomise: Randomise) -> None:
    model, tokens = random_thinker(config, randomise), random_tokens(1, 12)
    logits = model.logits(model(tokens).hidden)  # (1, T, V), position t scores the target after it
    for t in range(12):
        for changed in range(12):
            other = tokens.clone()
            other[0, changed] = (other[0, changed] + 7) % VOCAB
            moved = (model.logits(model(other).hidden)[0, t] - logits[0, t]).abs().max()
            assert (moved > 1e-4) if changed <= t else (moved < 1e-12), (t, changed)


@both
def test_packed_documents_read_as_they_do_alone(config: ThinkerConfig, randomise: Randomise) -> None:
    model = random_thinker(config, randomise)
    lengths = [5, 1, 8, 3]
    documents = [random_tokens(1, length, seed) for seed, length in enumerate(lengths)]
    tokens = torch.cat([*documents, random_tokens(1, 4, seed=9)], dim=1)  # four positions of padding
    segments = torch.tensor([[n for n, length in enumerate([*lengths, 4]) for _ in range(length)]])
    segments[0, -4:] = -1
    packed = model(tokens, segments=segments)
    start = 0
    for document in documents:
        inside = packed.hidden[:, start : start + document.shape[1]]
        start += document.shape[1]
        # It starts elsewhere: rotary attention knows distances only, but its table of angles is rounded to fp32.
        torch.testing.assert_close(inside, model(document).hidden, atol=1e-6, rtol=0)


@both
def test_padding_changes_nothing(config: ThinkerConfig, randomise: Randomise) -> None:
    model = random_thinker(config, randomise)
    tokens = random_tokens(2, 12)
    segments = torch.tensor([[0] * 5 + [1] * 4 + [-1] * 3, [0] * 12])
    first = model(tokens, segments=segments)
    other = tokens.clone()
    other[0, 9:] = (other[0, 9:] + 3) % VOCAB
    second = model(other, segments=segments)
    valid = segments >= 0
    torch.testing.assert_close(first.hidden[valid], second.hidden[valid], atol=1e-12, rtol=0)
    if config.experts:
        torch.testing.assert_close(first.balance, second.balance, atol=1e-12, rtol=0)
    longer = model(nn.functional.pad(tokens, (0, 6)), segments=nn.functional.pad(segments, (0, 6), value=-1))
    torch.testing.assert_close(longer.hidden[:, :12][valid], first.hidden[valid], atol=1e-12, rtol=0)


@both
def test_no_gradient_reaches_another_document(config: ThinkerConfig, randomise: Randomise) -> None:
    model = random_thinker(config, randomise)
    segments = torch.tensor([[0, 0, 0, 1, 1, 1, 1, -1, -1]])
    embeddings = model.embedding(random_tokens(1, 9)).detach().requires_grad_()
    hidden = model(embeddings=embeddings, segments=segments).hidden
    (gradient,) = torch.autograd.grad(hidden[0, 5].sum(), embeddings)
    reached = gradient[0].abs().sum(-1) > 0
    assert reached.tolist() == [False, False, False, True, True, True, False, False, False]


@both
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputation_gives_identical_gradients(config: ThinkerConfig, dropout: float, randomise: Randomise) -> None:
    config = config.model_copy(update={"dropout": dropout})
    model = random_thinker(config, randomise).train()
    tokens = random_tokens(2, 10)
    segments = torch.tensor([[0] * 6 + [1] * 4, [0] * 7 + [-1] * 3])

    def gradients(mode: Checkpointing) -> list[Tensor]:
        torch.manual_seed(3)
        model.checkpointing = mode
        output = model(tokens, segments=segments)
        loss = model.logits(output.hidden).square().sum()
        if output.balance is not None:
            loss = loss + output.balance.sum()
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    plain = gradients("off")
    assert len(plain) == len(list(model.parameters()))
    for mode in ("selective", "full"):
        for one, two in zip(plain, gradients(mode), strict=True):
            assert torch.equal(one, two)


@both
@pytest.mark.parametrize("mode", ["off", "selective", "full"])
def test_what_is_scored_alone_reads_as_among_all(config: ThinkerConfig, mode: Checkpointing, randomise: Randomise) -> None:
    model, tokens = random_thinker(config, randomise).train(), random_tokens(2, 10)
    segments = torch.tensor([[0] * 6 + [1] * 4, [0] * 7 + [-1] * 3])
    scored = torch.rand(2, 10, generator=torch.Generator().manual_seed(1)) < 0.5
    model.checkpointing = mode
    answers = {}
    for name, chosen in (("alone", scored), ("among all", None)):
        model.zero_grad(set_to_none=True)
        hidden = model(tokens, segments=segments, scored=chosen).hidden
        hidden = hidden if chosen is not None else hidden[scored]
        torch.autograd.backward(hidden.sin().sum())
        answers[name] = [hidden.detach(), *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)]
    assert len(answers["alone"]) == len(answers["among all"])
    for one, two in zip(answers["alone"], answers["among all"], strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("mode", ["off", "selective", "full"])
def test_recomputation_does_not_count_loads_twice(mode: Checkpointing, randomise: Randomise) -> None:
    model = random_thinker(MIXTURE, randomise).train()
    model.checkpointing = mode
    segments = torch.tensor([[0] * 6 + [1] * 4, [0] * 7 + [-1] * 3])
    output = model(random_tokens(2, 10), segments=segments)
    torch.autograd.backward(output.hidden.sum() + output.balance.sum())
    assert pending_positions(model) == [MIXTURE.experts_per_token * 17] * 2


def test_evaluation_gathers_no_loads(randomise: Randomise) -> None:
    model = random_thinker(MIXTURE, randomise)
    model(random_tokens(2, 10))
    assert pending_positions(model) == [0, 0]


def test_a_checkpoint_holds_the_loads_but_not_the_pending_ones() -> None:
    names = Thinker(MIXTURE, VOCAB).state_dict().keys()
    assert "blocks.1.mlp.load" in names
    assert not any("pending" in name or name in ("cos", "sin") for name in names)
