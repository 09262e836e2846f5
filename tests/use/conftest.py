"""A voice that has learned nothing and says something in no time."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.generate.griffin_lim import GriffinLim
from omnictl.generate.tts import Voice
from omnictl.models.codec import Codec, CodecConfig
from omnictl.models.talker import Interface, Talker, TalkerConfig
from omnictl.nn.rvq import QuantiserConfig


@pytest.fixture
def voice(randomise: Callable[[nn.Module], None]) -> Voice:
    torch.manual_seed(0)
    codec = Codec(CodecConfig(width=8, layers=1, fine_layers=1, quantiser=QuantiserConfig(books=1, codes=8, width=4)))
    interface = Interface(ReadAloud.num_symbols, books=1, codes=8, subframes=2, speakers=2)
    talker = Talker(TalkerConfig(layers=1, width=8, heads=1, hidden=8, text_layers=1), interface)
    randomise(talker)
    talker.expect_durations(2.0)  # long enough for rounding not to matter
    return Voice(talker.eval(), codec.eval(), GriffinLim(codec.config.mel, rounds=1), longest=40, speakers=("ada", "ben"))
