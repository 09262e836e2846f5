"""The aligner: padding is not seen, every part learns, durations fill the utterance."""

from collections.abc import Callable

import torch
from torch import nn

from omnictl.models.aligner import Aligner, AlignerConfig, durations
from omnictl.nn.audio.mel import MelConfig
from omnictl.nn.losses.monotonic import forward_sum_nats

CONFIG = AlignerConfig(mel=MelConfig(bins=8), width=12, layers=2)
MEL = torch.randn(2, 31, 8, generator=torch.Generator().manual_seed(0))
SYMBOLS = torch.randint(9, (2, 7), generator=torch.Generator().manual_seed(1))
LENGTHS, TEXTS = torch.tensor([31, 18]), torch.tensor([7, 4])


def test_padding_is_not_seen(randomise: Callable[[nn.Module], None]) -> None:
    aligner = Aligner(CONFIG, 9)
    randomise(aligner)
    aligner.double()
    both = aligner(MEL.double(), LENGTHS, SYMBOLS, TEXTS)
    alone = aligner(MEL[1:, :18].double(), LENGTHS[1:], SYMBOLS[1:, :4], TEXTS[1:])
    torch.testing.assert_close(both.log_probs[1:, :9, :4], alone.log_probs)
    assert both.lengths.tolist() == [16, 9]
    assert (both.log_probs[1, :, 4:].exp() == 0).all()


def test_every_parameter_learns(randomise: Callable[[nn.Module], None]) -> None:
    aligner = Aligner(CONFIG, 9)
    randomise(aligner)
    found = aligner(MEL, LENGTHS, SYMBOLS, TEXTS)
    forward_sum_nats(found.log_probs, found.lengths, TEXTS).sum().backward()
    for name, parameter in aligner.named_parameters():
        assert parameter.grad is not None, name
        if name != "key.bias":
            assert parameter.grad.any(), name


def test_durations_fill_the_utterance(randomise: Callable[[nn.Module], None]) -> None:
    aligner = Aligner(CONFIG, 9)
    randomise(aligner)
    found = durations(aligner(MEL, LENGTHS, SYMBOLS, TEXTS), TEXTS)
    assert [len(time) for time in found] == [7, 4]
    assert [int(time.sum()) for time in found] == [16, 9]
    assert min(int(time.min()) for time in found) >= 1


def test_the_prior_alone_favours_the_diagonal() -> None:
    aligner = Aligner(CONFIG, 9)
    for parameter in aligner.parameters():
        nn.init.zeros_(parameter)
    time = durations(aligner(MEL[:1], LENGTHS[:1], SYMBOLS[:1], TEXTS[:1]), TEXTS[:1])[0]
    assert time.min() >= 1
    assert time.max() <= 4
