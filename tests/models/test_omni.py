from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from omnictl.data.dialogues.modalities import MODALITIES
from omnictl.models.omni import Features, Omni, OmniConfig, Projector
from omnictl.models.thinker import Thinker, ThinkerConfig
from omnictl.nn.transformer import Rotary, rotate

CONFIG = ThinkerConfig(layers=2, width=32, heads=4, kv_heads=2, hidden=48, context=64)
VOCAB = 40
IMAGE, AUDIO = MODALITIES["image"].placeholder, MODALITIES["audio"].placeholder
Randomise = Callable[[nn.Module], None]


def make(config: OmniConfig | None = None, encoders: dict[str, nn.Module] | None = None) -> Omni:
    torch.manual_seed(0)
    return Omni(
        config or OmniConfig(projector_hidden=24),
        Thinker(CONFIG, VOCAB),
        {"image": Features(6, 2), "audio": Features(10, 0)},
        encoders or {},
    ).eval()  # type: ignore[arg-type]


def batch() -> tuple[Tensor, dict[str, Tensor]]:
    tokens = torch.tensor([[0, IMAGE, IMAGE, 20, AUDIO, 21], [0, 22, AUDIO, IMAGE, IMAGE, 23]])
    return tokens, {"image": torch.randn(4, 6), "audio": torch.randn(2, 10)}


def project(projector: Projector, feature: Tensor, place: int) -> Tensor:
    """One feature, in the plainest words."""
    inner = projector.up.weight @ feature + projector.up.bias
    if projector.place is not None:
        inner = inner + projector.place[place]
    out = projector.down.weight @ nn.functional.gelu(inner) + projector.down.bias
    return out / (out.square().mean() + projector.norm.eps).sqrt() * projector.norm.weight


@torch.no_grad()
def test_features_take_the_places_of_their_placeholders_in_order() -> None:
    model = make()
    tokens, features = batch()
    found = model.embed(tokens, features)  # type: ignore[arg-type]
    taken = {"image": 0, "audio": 0}
    for row in range(2):
        for place in range(6):
            kind = {IMAGE: "image", AUDIO: "audio"}.get(int(tokens[row, place]))
            if kind is None:
                expected = model.thinker.embedding.weight[tokens[row, place]]
            else:
                expected = project(model.projectors[kind], features[kind][taken[kind]], taken[kind] % 2)
                taken[kind] += 1
            torch.testing.assert_close(found[row, place], expected)


def test_gradients_reach_projectors_through_the_thinker(randomise: Randomise) -> None:
    model = make()
    randomise(model)
    tokens, features = batch()
    model(tokens, features).hidden.square().sum().backward()
    for name, parameter in model.projectors.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_while_projectors_learn_alone_nothing_else_gets_a_gradient(randomise: Randomise) -> None:
    model = make()
    randomise(model)
    tokens, features = batch()
    model.learn_projectors_only(only=True)
    model(tokens, features).hidden.square().sum().backward()
    assert all(parameter.grad is None for parameter in model.thinker.parameters())
    assert all(parameter.grad is not None for parameter in model.projectors.parameters())
    model.learn_projectors_only(only=False)
    model(tokens, features).hidden.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.thinker.parameters())


def test_a_thinker_with_low_rank_updates_stays_as_it_is_otherwise() -> None:
    model = make(OmniConfig(projector_hidden=24, lora_rank=2))
    learned = {name for name, parameter in model.thinker.named_parameters() if parameter.requires_grad}
    assert learned
    assert all(name.endswith((".up", ".down")) for name in learned)
    model.learn_projectors_only(only=True)
    model.learn_projectors_only(only=False)
    assert {name for name, parameter in model.thinker.named_parameters() if parameter.requires_grad} == learned


def test_encoders_that_are_trained_have_a_rate_of_their_own() -> None:
    model = make(OmniConfig(projector_hidden=24, encoders="trained", encoder_rate=0.25), {"image": nn.Linear(3, 6)})
    rates = {name: getattr(parameter, "rate", 1.0) for name, parameter in model.named_parameters()}
    assert {rate for name, rate in rates.items() if name.startswith("encoders.")} == {0.25}
    assert {rate for name, rate in rates.items() if not name.startswith("encoders.")} == {1.0}


def test_projected_features_are_as_large_as_words() -> None:
    projected = Projector(Features(6, 0), 24, 32, 1e-6)(torch.randn(50, 6))
    torch.testing.assert_close(projected.square().mean(-1), torch.ones(50), atol=1e-3, rtol=0)


@torch.no_grad()
def test_positions_that_count_up_are_those_without_any(randomise: Randomise) -> None:
    thinker = Thinker(CONFIG, VOCAB).double().eval()
    randomise(thinker)
    tokens = torch.randint(VOCAB, (2, 9))
    counting = torch.arange(9)[None, :, None].expand(2, -1, 3)
    torch.testing.assert_close(thinker(tokens, positions=counting).hidden, thinker(tokens).hidden)
    other = counting.clone()
    other[:, 4:, 2] += 3
    assert (thinker(tokens, positions=other).hidden - thinker(tokens).hidden).abs().max() > 1e-4


@torch.no_grad()
def test_frequencies_tell_moment_row_and_column_in_turn() -> None:
    thinker = Thinker(CONFIG, VOCAB)
    positions = torch.tensor([[[5, 2, 9]]])
    table = thinker._rotary_at(positions)
    x = torch.randn(1, 1, 1, CONFIG.head_width)
    half = CONFIG.head_width // 2
    expected = x.clone()
    for pair in range(half):
        angle = float(positions[0, 0, pair % 3]) * CONFIG.rope_theta ** (-2 * pair / CONFIG.head_width)
        a, b = x[..., pair], x[..., pair + half]
        cos, sin = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
        expected[..., pair], expected[..., pair + half] = a * cos - b * sin, b * cos + a * sin
    torch.testing.assert_close(rotate(x, Rotary(*table)), expected)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 4])
def test_placed_positions_go_on_through_the_cache(length: int, randomise: Randomise) -> None:
    thinker = Thinker(CONFIG, VOCAB).double().eval()
    randomise(thinker)
    tokens = torch.randint(VOCAB, (1, 8))
    positions = torch.randint(30, (1, 8, 3))
    cache = thinker.new_cache()
    parts = [
        thinker(t, positions=p, cache=cache).hidden
        for t, p in zip(tokens.split(length, 1), positions.split(length, 1), strict=True)
    ]
    torch.testing.assert_close(torch.cat(parts, 1), thinker(tokens, positions=positions).hidden)
