"""The audio encoder: what padding must not change, shapes and rates, recomputation, and its work."""

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from omnictl.models.audio_encoder import AudioEncoder, AudioEncoderConfig, Encoded, training_flops
from omnictl.nn.audio.mel import MelConfig
from omnictl.nn.conv import SUBSAMPLING
from omnictl.nn.recompute import CHECKPOINTING, Checkpointing

SYMBOLS, BINS = 11, 20
SMALL = AudioEncoderConfig(mel=MelConfig(bins=BINS), layers=2, width=24, heads=2, hidden=40, kernel=5, dropout=0.0, emissions=1)
LENGTHS = [41, 1, 26, 7, 44]
Randomise = Callable[[nn.Module], None]


def encoder(randomise: Randomise, **changes: object) -> AudioEncoder:
    model = AudioEncoder(SMALL.model_copy(update=changes), SYMBOLS).eval()
    randomise(model)
    model.mean.copy_(torch.linspace(-6, -3, BINS))
    model.std.copy_(torch.linspace(1, 3, BINS))
    return model


def features(lengths: list[int], garbage: float = 0.0) -> Tensor:
    """`(B, T, F)` log-mels, with garbage where padded."""
    made = torch.full((len(lengths), max(lengths), BINS), garbage)
    for row, length in enumerate(lengths):
        made[row, :length] = -4 + 2 * torch.randn(length, BINS, generator=torch.Generator().manual_seed(row))
    return made


def parts(encoded: Encoded) -> list[Tensor]:
    """What counts of each row."""
    return [row[:length] for row, length in zip(encoded.frames, encoded.lengths.tolist(), strict=True)]


VARIANTS = {
    "one a frame": {},
    "two a frame": {"emissions": 2},
    "no convolution module": {"kernel": 0},
    "wide kernel": {"kernel": 31, "layers": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("garbage", [0.0, 1e4, float("nan")])
@torch.no_grad()
def test_padding_changes_nothing(variant: str, garbage: float, randomise: Randomise) -> None:
    model = encoder(randomise, **VARIANTS[variant])
    together = model(features(LENGTHS, garbage), torch.tensor(LENGTHS))
    frames, logits, halves = (parts(each) for each in (together, model.logits(together), model.halve(together)))
    for row, length in enumerate(LENGTHS):
        alone = model(features(LENGTHS)[row : row + 1, :length], torch.tensor([length]))
        for found, expected in ((frames, alone), (logits, model.logits(alone)), (halves, model.halve(alone))):
            assert found[row].shape == expected.frames[0].shape
            torch.testing.assert_close(found[row], expected.frames[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_is_padded_is_zero(randomise: Randomise) -> None:
    model = encoder(randomise)
    encoded = model(features(LENGTHS, 7.0), torch.tensor(LENGTHS))
    for row, length in zip(encoded.frames, encoded.lengths.tolist(), strict=True):
        assert not row[length:].any()
        assert row[:length].any(-1).all()


def test_padding_gets_no_gradient(randomise: Randomise) -> None:
    model = encoder(randomise).train()
    given = features(LENGTHS, 3.0).requires_grad_()
    (gradient,) = torch.autograd.grad(model(given, torch.tensor(LENGTHS)).frames.square().sum(), given)
    for row, length in zip(gradient, LENGTHS, strict=True):
        assert not row[length:].any()
        assert row[:length].any(-1).all()  # and every frame counts


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 9, 100, 103])
@torch.no_grad()
def test_a_quarter_of_the_frames_and_an_eighth_for_the_thinker(length: int, randomise: Randomise) -> None:
    model = encoder(randomise, emissions=2)
    encoded = model(features([length]), torch.tensor([length]))
    quarter, eighth = -(-length // 4), -(-length // 8)
    assert encoded.frames.shape == (1, quarter, 24)
    assert encoded.lengths.tolist() == [quarter]
    logits, halves = model.logits(encoded), model.halve(encoded)
    assert logits.frames.shape == (1, 2 * quarter, SYMBOLS)
    assert logits.lengths.tolist() == [2 * quarter]
    assert halves.frames.shape == (1, eighth, 48)
    assert halves.lengths.tolist() == [eighth]


def test_the_rates_are_25_and_12_5_hertz() -> None:
    assert MelConfig().frames_hz / SUBSAMPLING == 25


@torch.no_grad()
def test_two_frames_lie_side_by_side_for_the_thinker(randomise: Randomise) -> None:
    model = encoder(randomise)
    encoded = model(features([36]), torch.tensor([36]))  # nine frames
    halves = model.halve(encoded).frames[0]
    assert torch.equal(halves[:4], encoded.frames[0, :8].reshape(4, 48))
    assert torch.equal(halves[4, :24], encoded.frames[0, 8])
    assert not halves[4, 24:].any()


@torch.no_grad()
def test_two_emissions_are_said_one_after_the_other(randomise: Randomise) -> None:
    model = encoder(randomise, emissions=2)
    encoded = model(features([20]), torch.tensor([20]))
    logits = model.logits(encoded).frames[0]  # (10, V)
    for half in (0, 1):
        rows = slice(half * SYMBOLS, (half + 1) * SYMBOLS)
        expected = encoded.frames[0] @ model.head.weight[rows].T + model.head.bias[rows]
        torch.testing.assert_close(logits[half::2], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_every_frame_hears_the_whole_utterance(randomise: Randomise) -> None:
    model = encoder(randomise, kernel=0)
    given = features([80])
    plain = model(given, torch.tensor([80])).frames[0]
    for place in (0, 79):
        given = features([80])
        given[0, place] += 1
        moved = (model(given, torch.tensor([80])).frames[0] - plain).abs().amax(-1)
        assert (moved > 1e-6).all()


@torch.no_grad()
def test_order_matters(randomise: Randomise) -> None:
    model = encoder(randomise, kernel=0)
    given, lengths = features([80]), torch.tensor([80])
    forth, back = model(given, lengths).frames[0], model(given.flip(1), lengths).frames[0]
    assert (forth - back.flip(0)).abs().max() > 1e-2


@torch.no_grad()
def test_features_are_standardised_by_the_statistics_in_the_weights(randomise: Randomise) -> None:
    model = encoder(randomise)
    assert {"mean", "std"} <= model.state_dict().keys()
    given, lengths = features([40]), torch.tensor([40])
    expected = model(given, lengths).frames
    model.mean.add_(3)
    torch.testing.assert_close(model(given + 3, lengths).frames, expected, atol=1e-5, rtol=1e-5)
    model.mean.zero_()
    model.std.mul_(2)
    given = (given - torch.linspace(-6, -3, BINS)) * 2
    torch.testing.assert_close(model(given, lengths).frames, expected, atol=1e-5, rtol=1e-5)


def test_a_fresh_encoder_is_its_convolutions() -> None:
    """What adds to the residual stream starts as zero."""
    model = AudioEncoder(SMALL, SYMBOLS).eval()
    given, lengths = features(LENGTHS), torch.tensor(LENGTHS)
    with torch.no_grad():
        stem, _ = model.subsampling(((given - model.mean) / model.std).masked_fill(given == 0, 0), lengths)
        torch.testing.assert_close(model(given, lengths).frames, model.norm(stem))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputation_gives_identical_gradients(dropout: float, randomise: Randomise) -> None:
    model = encoder(randomise, dropout=dropout).train()

    def gradients(checkpointing: Checkpointing) -> list[Tensor]:
        torch.manual_seed(3)
        model.checkpointing = checkpointing
        encoded = model(features(LENGTHS, 5.0), torch.tensor(LENGTHS))
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(model.logits(encoded).frames.square().sum())
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    plain = gradients("off")
    assert len(plain) == len(list(model.parameters()))
    for one, two in zip(plain, gradients("full"), strict=True):
        assert torch.equal(one, two)


def test_recomputation_saves_memory(randomise: Randomise) -> None:
    """In blocks: of each only its input is kept."""
    model = encoder(randomise, layers=4).train()
    kept = []
    for checkpointing in CHECKPOINTING[::2]:
        model.checkpointing = checkpointing
        num_bytes = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal num_bytes
            num_bytes += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(features([100]), torch.tensor([100]))
        kept.append(num_bytes)
    assert kept[1] < 0.4 * kept[0]


def test_dropout_is_for_training_alone(randomise: Randomise) -> None:
    model = encoder(randomise, dropout=0.5)
    given, lengths = features([40]), torch.tensor([40])
    with torch.no_grad():
        assert torch.equal(model(given, lengths).frames, model(given, lengths).frames)
        model.train()
        assert not torch.equal(model(given, lengths).frames, model(given, lengths).frames)


@pytest.mark.parametrize("changes", [{}, {"emissions": 2}, {"kernel": 0}])
def test_flops_are_those_torch_counts(changes: dict[str, object]) -> None:
    """Of the `tiny` shape; what is not counted: that nobody asks for the gradient of the features."""
    config = AudioEncoderConfig(emissions=1).model_copy(update=changes)
    model = AudioEncoder(config, 29)
    rows, length = 2, 400
    lengths = torch.full((rows,), length)
    # Plain matrix products instead of the fused kernel: there torch counts all S² pairs of an attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        encoded = model(torch.randn(rows, length, config.mel.bins), lengths)
        torch.autograd.backward(model.logits(encoded).frames.square().sum())
    # Torch counts the gradient of a depthwise convolution's weights as if every channel met every other.
    too_many = 2 * config.layers * config.kernel * config.width * (config.width - 1) * rows * length // 4
    assert training_flops(model, lengths) == pytest.approx(counter.get_total_flops() - too_many, rel=0.02)


def test_flops_are_counted_by_utterance() -> None:
    model = AudioEncoder(SMALL, SYMBOLS)
    long, one, two = (training_flops(model, torch.tensor(lengths)) for lengths in ([400], [240], [160]))
    assert training_flops(model, torch.tensor([240, 160])) == one + two
    frames = [length // 4 for length in (400, 240, 160)]
    assert long - one - two == 12 * 24 * 2 * (frames[0] ** 2 - frames[1] ** 2 - frames[2] ** 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 25}, "width 25 must be a multiple of twice the heads (2)"),
        ({"width": 26}, "width 26 must be a multiple of twice the heads (2)"),  # rotation needs an even head
        ({"kernel": 4}, "kernel 4 must be odd, or 0 for none"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AudioEncoderConfig(**{**SMALL.model_dump(), **change})
    assert message in str(caught.value)


def test_emissions_are_decided_before_a_model_is_made() -> None:
    with pytest.raises(AssertionError, match="resolve `emissions`"):
        AudioEncoder(AudioEncoderConfig(), SYMBOLS)
