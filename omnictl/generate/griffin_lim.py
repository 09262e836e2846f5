"""From log-mel frames to audio, as they come.

A mel frame says how loud each band is and nothing of phases. Griffin-Lim finds phases that fit: it goes back and forth between
the wanted magnitudes and the nearest real signal. Here it does so for a few frames at a time, with the samples before them fixed
and some frames after them in view, so that audio can be played while more of it is still being made. Whether frames come one by
one or all at once makes no difference to a single bit: the chunks are the same.

Sources: Griffin and Lim 1984; Perraudin, Balazs and Søndergaard 2013 (momentum); Zhu, Beauregard and Wyse 2007 (RTISI-LA: in real
time, with look-ahead). Left out on purpose: the level of the recording, which the features do not know (see `nn.mel`).
"""

import math
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from omnictl.models.vocoder import CHUNK, LEAST_WEIGHT, NeuralVocoder
from omnictl.nn.audio.mel import AUDIO_GAIN, RANGE, MelConfig, filterbank
from omnictl.nn.audio.overlap_add import envelope, overlap_add

MOMENTUM = 0.99

CONTEXT = 3
"""Frames before a chunk that take part, their samples fixed."""

UNMIXING_ROUNDS = 20
"""Of finding the power in each bin that gives a frame's mel powers."""

SMALL = 1e-8
"""Magnitudes below are not divided by."""

Samples = NDArray[np.float32]


class VocoderStream(Protocol):
    """One stretch of audio that is being made."""

    def push(self, mel: Tensor) -> Samples:
        """Take `(n, F)` more log-mel frames, on the CPU; returns the samples `(m,)` that are final by now."""
        ...

    def finish(self) -> Samples:
        """The samples that are left when no more frames come."""
        ...


class Vocoder(Protocol):
    """Makes audio of log-mel frames."""

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        ...

    def stream(self) -> VocoderStream:
        """Begin a stretch of audio."""
        ...


def synthesise(vocoder: Vocoder, mel: Tensor) -> Samples:
    """`(T · hop,)` samples of `(T, F)` log-mel frames, the first of them in the middle of the first frame."""
    stream = vocoder.stream()
    return np.concatenate([stream.push(mel), stream.finish()])


class GriffinLim:
    """Griffin-Lim by chunks.

    Args:
        mel: the features' settings.
        rounds: back and forth, for every chunk.
        chunk: frames whose samples become final at once.
        lookahead: frames after them that are in view.
    """

    def __init__(self, mel: MelConfig, *, rounds: int = 24, chunk: int = 8, lookahead: int = 8) -> None:
        self.mel, self.rounds, self.chunk, self.lookahead = mel, rounds, chunk, lookahead

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return self.mel.sample_rate

    def stream(self) -> "GriffinLimStream":
        """A stream that has been given no frames yet."""
        return GriffinLimStream(self)


class GriffinLimStream:
    """Mel frames in, samples out; the samples before a chunk stay as they are."""

    def __init__(self, vocoder: GriffinLim) -> None:
        self._vocoder = vocoder
        mel = vocoder.mel
        self._window = _window(mel)
        self._mel = torch.full((CONTEXT, mel.bins), -RANGE)  # the context and what is not final yet
        self._phases = torch.zeros(CONTEXT, mel.fft // 2 + 1)  # of those frames that were in view before
        self._before = torch.zeros(CONTEXT * mel.hop + mel.fft // 2)  # final samples of the context

    @torch.no_grad()
    def push(self, mel: Tensor) -> Samples:
        """Take `(T, F)` log-mel frames; returns the `(n,)` samples that are final now."""
        self._mel = torch.cat([self._mel, mel.float()])
        parts = [np.zeros(0, np.float32)]
        while len(self._mel) >= CONTEXT + self._vocoder.chunk + self._vocoder.lookahead:
            parts.append(self._make(self._vocoder.chunk))
        self._mel = self._mel.clone()  # a view would keep all that was pushed
        return np.concatenate(parts)

    @torch.no_grad()
    def finish(self) -> Samples:
        """The `(n,)` samples that are left."""
        parts = [np.zeros(0, np.float32)]
        while len(self._mel) > CONTEXT:
            parts.append(self._make(min(self._vocoder.chunk, len(self._mel) - CONTEXT)))
        return np.concatenate(parts)

    def _make(self, chunk: int) -> Samples:
        """The samples of the next `chunk` frames."""
        hop = self._vocoder.mel.hop
        in_view = self._mel[: CONTEXT + chunk + self._vocoder.lookahead]
        wanted = magnitudes(
            in_view, self._vocoder.mel
        )  # (N, bins), here and not in `push`: the last bit depends on how many they are
        signal, self._phases = self._fit(wanted, self._advance_phases(len(wanted)))
        first = len(self._before)
        made = signal[first : first + chunk * hop]
        self._before = signal[chunk * hop : first + chunk * hop]
        self._mel, self._phases = self._mel[chunk:], self._phases[chunk:]
        return (made * AUDIO_GAIN).clamp(-1, 1).numpy()

    def _advance_phases(self, frames: int) -> Tensor:
        """Phases `(frames, bins)`: those of the frames that were in view before, and steady tones after them."""
        missing = frames - len(self._phases)
        mel = self._vocoder.mel
        turn = 2 * math.pi * mel.hop / mel.fft * torch.arange(self._phases.shape[1])  # of each bin, a frame
        steps = torch.arange(1, missing + 1)[:, None]
        return torch.cat([self._phases, self._phases[-1:] + steps * turn])

    def _fit(self, wanted: Tensor, phases: Tensor) -> tuple[Tensor, Tensor]:
        """A signal with about these magnitudes `(N, bins)` that begins with the final samples, and its phases."""
        before, weights = torch.zeros(()), _envelope(self._vocoder.mel, len(wanted))
        spectrum = torch.polar(wanted, phases)
        for _ in range(self._vocoder.rounds):
            projected = self._spectrum(self._signal(spectrum, weights))
            ahead = projected - (MOMENTUM / (1 + MOMENTUM)) * before
            before = projected
            spectrum = wanted * ahead / ahead.abs().clamp(min=SMALL)
        return self._signal(spectrum, weights), spectrum.angle()

    def _signal(self, spectrum: Tensor, weights: Tensor) -> Tensor:
        """The signal `((N - 1) · hop + fft,)` nearest to a spectrum `(N, bins)`, its beginning as it is."""
        mel = self._vocoder.mel
        pieces = torch.fft.irfft(spectrum, mel.fft) * self._window
        signal = overlap_add(pieces[None], mel.hop)[0] / weights
        signal[: len(self._before)] = self._before
        return signal

    def _spectrum(self, signal: Tensor) -> Tensor:
        pieces = signal.unfold(0, self._vocoder.mel.fft, self._vocoder.mel.hop)
        spectrum: Tensor = torch.fft.rfft(pieces * self._window)
        return spectrum


class Neural:
    """A trained network, by chunks of the same size."""

    def __init__(self, network: NeuralVocoder) -> None:
        self.network = network

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return self.network.config.mel.sample_rate

    def stream(self) -> "NeuralStream":
        """A stream that has been given no frames yet."""
        return NeuralStream(self.network)


class NeuralStream:
    """Mel frames in, samples out, a chunk of frames at a time."""

    def __init__(self, network: NeuralVocoder) -> None:
        self._network = network
        config = network.config
        self._mel = torch.zeros(0, config.mel.bins)  # frames that do not fill a chunk yet
        self._past = network.new_past()
        self._pending = torch.zeros(2, 1, config.mel.fft - config.mel.hop)  # of audio and weights, what later frames add to
        self._skipped = -config.lookahead * config.mel.hop - config.mel.fft // 2  # samples before the first frame's middle
        self._left = 0  # samples that frames have come for and that are not made yet

    @torch.no_grad()
    def push(self, mel: Tensor) -> Samples:
        """Take `(T, F)` log-mel frames; returns the `(n,)` samples that are final now."""
        self._left += len(mel) * self._network.config.mel.hop
        self._mel = torch.cat([self._mel, mel.float()])
        return self._make_all()

    @torch.no_grad()
    def finish(self) -> Samples:
        """The `(n,)` samples that are left."""
        parts = []
        while self._left > 0:
            self._mel = torch.cat([self._mel, torch.full((CHUNK, self._mel.shape[1]), -RANGE)])
            parts.append(self._make_all())
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def _make_all(self) -> Samples:
        parts = [np.zeros(0, np.float32)]
        while len(self._mel) >= CHUNK:
            parts.append(self._make())
            self._mel = self._mel[CHUNK:]
        made = np.concatenate(parts)[: self._left]
        self._left -= len(made)
        return made

    def _make(self) -> Samples:
        """The samples that the next `CHUNK` frames make final."""
        network = self._network
        hop, device = network.config.mel.hop, network.mean.device
        pieces = network.pieces(network.spectrum(self._mel[None, :CHUNK].to(device), self._past))
        both = torch.stack([overlap_add(pieces, hop).cpu(), network.envelope(CHUNK).cpu()[None]])  # (2, 1, samples)
        both[..., : self._pending.shape[-1]] += self._pending
        (audio, weights), self._pending = both[:, 0, : CHUNK * hop], both[..., CHUNK * hop :]
        final = audio / weights.clamp(min=LEAST_WEIGHT)
        begin = min(max(-self._skipped, 0), CHUNK * hop)
        self._skipped += CHUNK * hop
        made: Samples = final[begin:].clamp(-1, 1).numpy()
        return made


def magnitudes(mel: Tensor, config: MelConfig) -> Tensor:
    """Spectral magnitudes `(n, fft / 2 + 1)` whose mel bands are as loud as log-mels `(n, F)` say.

    By multiplicative steps (Lee and Seung 2001), which keep a power from being negative.
    """
    bank = filterbank(config)  # (bins, F)
    power = mel.exp() * (mel > -RANGE)
    wanted = power @ bank.T
    estimate = wanted.clamp(min=SMALL**2)
    for _ in range(UNMIXING_ROUNDS):
        estimate = estimate * wanted / (estimate @ bank @ bank.T).clamp(min=SMALL**2)
    return estimate.sqrt()


@lru_cache(maxsize=4)
def _window(config: MelConfig) -> Tensor:
    """The features' window `(fft,)`, in the middle of the transform."""
    missing = config.fft - config.window
    return F.pad(torch.hann_window(config.window), (missing // 2, missing - missing // 2))


@lru_cache(maxsize=64)
def _envelope(config: MelConfig, frames: int) -> Tensor:
    """How much the windows of so many frames weigh at every sample, `((frames - 1) · hop + fft,)`; not zero at the ends."""
    return envelope(_window(config), frames, config.hop).clamp(min=LEAST_WEIGHT)
