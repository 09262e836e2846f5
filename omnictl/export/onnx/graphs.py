"""The parts of an omni model as modules that a graph can be traced of: one example at a time, caches in and out as tensors.

They share layers and weights with the run's own modules. Attention with a cache, short-time transforms and what depends on lengths
is spelled out, as ONNX has no counterpart that every runtime knows.
"""

import math
from collections.abc import Iterable
from copy import deepcopy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnictl.data.text.tokenizer import AUDIO, IMAGE
from omnictl.features.media_encoders import AudioFrontend, VisionFrontend
from omnictl.generate.griffin_lim import SMALL, UNMIXING_ROUNDS
from omnictl.models.audio_encoder import Scope
from omnictl.models.codec import Codec
from omnictl.models.omni import Projector
from omnictl.models.talker import Talker
from omnictl.models.thinker import Block, Thinker
from omnictl.models.vocoder import LEAST_WEIGHT, NeuralVocoder
from omnictl.nn.audio.mel import AUDIO_GAIN, RANGE, SMALLEST_POWER, MelConfig, filterbank
from omnictl.nn.transformer import Attention, DecoderBlock, RMSNorm, Rotary, Visibility, rotary_table, rotate

ROUNDS = 32
MOMENTUM = 0.99
"""Of Griffin-Lim over a whole sentence."""


EVERYTHING = Scope(valid=None, visibility=Visibility(causal=False, mask=None), chunk=None)
"""What the frames of one whole recording see."""


class PlainNorm(nn.Module):
    """An `RMSNorm` as operations that can be traced: its own is one with a backward pass."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(…, D)`."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def make_traceable(module: nn.Module) -> nn.Module:
    """A copy for evaluation in which every `RMSNorm` is a `PlainNorm`."""
    copied = deepcopy(module).eval()
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, RMSNorm):
                setattr(parent, name, PlainNorm(child))
    return copied


def attend_with_past(
    attention: Attention, x: Tensor, rotary: Rotary, visible: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of new positions to themselves and earlier ones.

    Args:
        attention: its weights.
        x: `(T, D)`.
        rotary: of the new positions, `(T, d)`.
        visible: `(T, P + T)`, 0 where a position is seen, else -inf.
        keys: `(KV, P, d)` of earlier positions.
        values: `(KV, P, d)`.

    Returns:
        `(T, D)`, and all keys and values, `(KV, P + T, d)`.
    """
    groups, width = attention.heads // attention.kv_heads, attention.head_width
    q = attention.q_norm(attention.q_proj(x).view(-1, attention.kv_heads, groups, width)).permute(1, 2, 0, 3)  # (KV, G, T, d)
    k = attention.k_norm(attention.k_proj(x).view(-1, attention.kv_heads, width)).transpose(0, 1)  # (KV, T, d)
    v = attention.v_proj(x).view(-1, attention.kv_heads, width).transpose(0, 1)
    q, k = rotate(q, rotary), rotate(k, rotary)
    keys, values = torch.cat([keys, k], 1), torch.cat([values, v], 1)
    scores = q * width**-0.5 @ keys[:, None].mT + visible  # (KV, G, T, P + T)
    mixed = scores.softmax(-1) @ values[:, None]
    out: Tensor = attention.o_proj(mixed.permute(2, 0, 1, 3).reshape(-1, attention.heads * width))
    return out, keys, values


def causal(positions: Tensor, keys: Tensor) -> Tensor:
    """`(T, P + T)`, 0 where a position `(T,)` sees another, else -inf; `keys` `(…, P, d)` are those of earlier ones."""
    held = torch.arange(keys.shape[-2] + positions.shape[0])
    return torch.zeros(1).masked_fill(held[None] > positions[:, None], float("-inf"))


def run_blocks(
    blocks: Iterable[nn.Module], x: Tensor, rotary: Rotary, positions: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Decoder blocks one after the other; keys and values are those of all layers, `(L, KV, P, d)`."""
    visible = causal(positions, keys)
    new_keys, new_values = [], []
    for layer, block in enumerate(cast("Iterable[Block | DecoderBlock]", blocks)):
        added, k, v = attend_with_past(block.attention, block.attention_norm(x), rotary, visible, keys[layer], values[layer])
        x = x + added
        x = x + block.mlp(block.mlp_norm(x))
        new_keys.append(k)
        new_values.append(v)
    return x, torch.stack(new_keys), torch.stack(new_values)


class ThinkerGraph(nn.Module):
    """Reads tokens, and features in the place of placeholders; scores what may come next."""

    def __init__(self, thinker: Thinker) -> None:
        super().__init__()
        self.thinker = thinker

    def forward(
        self, tokens: Tensor, features: Tensor, positions: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores `(V,)` after tokens `(T,)`, with features `(N, D)` for their N placeholders, at positions `(T,)`."""
        thinker = self.thinker
        is_media = (tokens == IMAGE) | (tokens == AUDIO)
        number = is_media.long().cumsum(0)
        is_feature = is_media & (number <= features.shape[0])  # a placeholder that the model itself writes is a token like others
        media = torch.cat([features.new_zeros(1, thinker.config.width), features])[number * is_feature.long()]
        x = torch.where(is_feature[:, None], media, thinker.embedding(tokens))  # (T, D)
        rotary = Rotary(thinker.cos[positions], thinker.sin[positions])
        x, keys, values = run_blocks(thinker.blocks, x, rotary, positions, keys, values)
        return thinker.logits(thinker.norm(x[-1:]))[0], keys, values


class EarGraph(nn.Module):
    """A recording to features for the Thinker.

    Args:
        frontend: the audio encoder.
        projector: its projector.
        longest: features that it will ever make of one recording.
    """

    bank: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, frontend: AudioFrontend, projector: Projector, longest: int) -> None:
        super().__init__()
        self.encoder, self.projector = frontend.encoder, projector
        config = self.encoder.config
        self.transform = Transform(config.mel)
        self.register_buffer("bank", filterbank(config.mel))
        table = rotary_table(2 * longest + 2, config.width // config.heads, 10_000.0)
        self.register_buffer("cos", table.cos)
        self.register_buffer("sin", table.sin)

    def forward(self, samples: Tensor) -> Tensor:
        """`(S, D)` of `(n,)` samples at the encoder's rate."""
        encoder, mel = self.encoder, self.encoder.config.mel
        real, imaginary = self.transform.analyse(F.pad(samples[None], (mel.fft // 2, mel.fft // 2)))
        power = (real.square() + imaginary.square()) @ self.bank  # (T, F)
        log = power.clamp(min=SMALLEST_POWER).log()
        log = torch.where(power.max() > SMALLEST_POWER, (log - log.max()).clamp(min=-RANGE), torch.full((1,), -RANGE))
        x = ((log - encoder.mean) / encoder.std).T[None]  # (1, F, T)
        x = F.gelu(encoder.subsampling.second(F.gelu(encoder.subsampling.first(x)))).mT  # (1, S, D)
        rotary = Rotary(self.cos[: x.shape[1]], self.sin[: x.shape[1]])
        for block in encoder.blocks:
            x = block(x, rotary, EVERYTHING)
        frames = torch.cat([encoder.norm(x)[0], x.new_zeros(1, encoder.config.width)])
        even = frames[: frames.shape[0] // 2 * 2].reshape(-1, 2 * encoder.config.width)
        projected: Tensor = self.projector(even)
        return projected


class EyeGraph(nn.Module):
    """An image to features for the Thinker."""

    def __init__(self, frontend: VisionFrontend, projector: Projector) -> None:
        super().__init__()
        self.encoder, self.projector = frontend.encoder, projector

    def forward(self, image: Tensor) -> Tensor:
        """`(P, D)` of a `(3, S, S)` uint8 RGB image of the size of training."""
        projected: Tensor = self.projector(self.encoder.merge(self.encoder(image[None]))[0])
        return projected


class TextGraph(nn.Module):
    """A text's symbols to states and durations."""

    def __init__(self, talker: Talker) -> None:
        super().__init__()
        self.talker = talker

    def forward(self, symbols: Tensor, speaker: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States `(T, D)` and natural logarithms of sub-frames `(T,)` of symbols `(T,)`; `speaker` `(1,)` if there are several."""
        x = self.talker.symbols(symbols)[None]
        if self.talker.speakers is not None and speaker is not None:
            x = x + self.talker.speakers(speaker)[None]
        for layer in self.talker.text:
            x = layer(x)
        return x[0], self.talker.log_durations(x)[0]


class FrameGraph(nn.Module):
    """States spread over time to what each frame of codes says."""

    def __init__(self, talker: Talker) -> None:
        super().__init__()
        self.talker = talker

    def forward(self, states: Tensor, owner: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """`(S, D)` of states `(T, D)`; for each of U sub-frames its symbol (-1: none), and its place in that, each `(U,)`."""
        talker = self.talker
        most = talker.index.num_embeddings - 1
        x = states[owner.clamp(min=0)] + talker.index(before.clamp(max=most)) + talker.left(after.clamp(max=most))
        x = x * (owner >= 0)[:, None]
        out: Tensor = talker.frame(x.reshape(-1, talker.interface.subframes * talker.config.width))
        return out * (owner[:: talker.interface.subframes] >= 0)[:, None]


class SpeechGraph(nn.Module):
    """One step of the Talker: scores of the next code of every book."""

    offsets: Tensor

    def __init__(self, talker: Talker) -> None:
        super().__init__()
        self.talker = talker
        interface = talker.interface
        self.register_buffer("offsets", torch.arange(interface.books) * (interface.codes + 1))

    def forward(
        self, frame: Tensor, last: Tensor, positions: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores `(K, V)` of a frame `(1, D)` after the codes `(K,)` of the step before, at position `(1,)`."""
        talker = self.talker
        x = frame + talker.history(last + self.offsets).sum(0, keepdim=True)
        rotary = Rotary(talker.cos[positions], talker.sin[positions])
        x, keys, values = run_blocks(talker.blocks, x, rotary, positions, keys, values)
        return talker.head(talker.norm(x)).view(talker.interface.books, talker.interface.codes), keys, values


class CodecGraph(nn.Module):
    """Codes to log-mels."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, codes: Tensor) -> Tensor:
        """`(S · stride, F)` of codes `(K, S)`."""
        return self.codec.decode(codes[None])[0]


class Transform(nn.Module):
    """The short-time Fourier transform and its inverse as convolutions, with one window for both."""

    forth: Tensor
    back: Tensor
    squares: Tensor

    def __init__(self, mel: MelConfig, window: Tensor | None = None) -> None:
        super().__init__()
        self.hop, self.fft = mel.hop, mel.fft
        missing = mel.fft - mel.window
        shape = F.pad(torch.hann_window(mel.window), (missing // 2, missing - missing // 2)) if window is None else window
        bins = torch.arange(mel.fft // 2 + 1, dtype=torch.float64)
        angles = 2 * math.pi / mel.fft * torch.outer(bins, torch.arange(mel.fft, dtype=torch.float64))
        forth = torch.cat([angles.cos(), -angles.sin()]) * shape
        weights = torch.full_like(bins, 2 / mel.fft)
        weights[[0, -1]] = 1 / mel.fft
        back = torch.cat([angles.cos(), -angles.sin()]) * shape * torch.cat([weights, weights])[:, None]
        self.register_buffer("forth", forth.float()[:, None])  # (2 · bins, 1, fft)
        self.register_buffer("back", back.float()[:, None])
        self.register_buffer("squares", shape.square().float()[None, None])

    def analyse(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts `(T, bins)` of samples `(1, (T - 1) · hop + fft)`."""
        spectrum = F.conv1d(samples[None], self.forth, stride=self.hop)[0].T
        half = self.fft // 2 + 1
        return spectrum[:, :half], spectrum[:, half:]

    def synthesise(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Samples `(1, (T - 1) · hop + fft)` of a spectrum `(T, bins)`."""
        sound = F.conv_transpose1d(torch.cat([real, imaginary], 1).T[None], self.back, stride=self.hop)
        weights = F.conv_transpose1d(torch.ones_like(real[:, :1]).T[None], self.squares, stride=self.hop)
        return (sound / weights.clamp(min=LEAST_WEIGHT))[0]

    def middle(self, samples: Tensor, frames: Tensor) -> Tensor:
        """`(T · hop,)` of samples, the first of them in the middle of the first of the frames `(T, …)`."""
        return samples[0, self.fft // 2 : self.fft // 2 + frames.shape[0] * self.hop]


class NeuralVocoderGraph(nn.Module):
    """Log-mels to samples, by the trained vocoder."""

    def __init__(self, network: NeuralVocoder) -> None:
        super().__init__()
        self.network = network
        self.transform = Transform(network.config.mel, network.window)

    def forward(self, mel: Tensor) -> Tensor:
        """`(T · hop,)` of log-mels `(T, F)`."""
        lookahead = self.network.config.lookahead
        ahead = F.pad(mel[None], (0, 0, 0, lookahead), value=-RANGE)
        magnitude, phase = (part[0, lookahead:] for part in self.network.spectrum(ahead))
        sound = self.transform.synthesise(magnitude * phase.cos(), magnitude * phase.sin())
        return self.transform.middle(sound, mel).clamp(-1, 1)


class GriffinLimGraph(nn.Module):
    """Log-mels to samples, by Griffin-Lim over all of them at once (in the run, chunk by chunk)."""

    bank: Tensor
    turn: Tensor

    def __init__(self, mel: MelConfig) -> None:
        super().__init__()
        self.transform = Transform(mel)
        self.register_buffer("bank", filterbank(mel))
        self.register_buffer("turn", 2 * math.pi * mel.hop / mel.fft * torch.arange(mel.fft // 2 + 1))

    def forward(self, mel: Tensor) -> Tensor:
        """`(T · hop,)` of log-mels `(T, F)`."""
        magnitude = self._magnitudes(mel)
        phase = torch.arange(mel.shape[0])[:, None] * self.turn
        real, imaginary = magnitude * phase.cos(), magnitude * phase.sin()
        before_real = before_imaginary = torch.zeros(1)
        for _ in range(ROUNDS):
            new_real, new_imaginary = self.transform.analyse(self.transform.synthesise(real, imaginary))
            share = MOMENTUM / (1 + MOMENTUM)
            real, imaginary = new_real - share * before_real, new_imaginary - share * before_imaginary
            before_real, before_imaginary = new_real, new_imaginary
            scale = magnitude / (real.square() + imaginary.square()).sqrt().clamp(min=SMALL)
            real, imaginary = real * scale, imaginary * scale
        sound = self.transform.middle(self.transform.synthesise(real, imaginary), mel)
        return (sound * AUDIO_GAIN).clamp(-1, 1)

    def _magnitudes(self, mel: Tensor) -> Tensor:
        """Spectral magnitudes `(T, bins)`; as `generate.griffin_lim.magnitudes`."""
        power = mel.exp() * (mel > -RANGE)
        wanted = power @ self.bank.T
        estimate = wanted.clamp(min=SMALL**2)
        for _ in range(UNMIXING_ROUNDS):
            estimate = estimate * wanted / (estimate @ self.bank @ self.bank.T).clamp(min=SMALL**2)
        return estimate.sqrt()
