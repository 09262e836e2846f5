"""The audio encoder while the audio comes: chunk by chunk, with what it needs of the chunks before kept in caches.

The frames are those of `AudioEncoder.forward` with `in_chunks`, but for rounding.
"""

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from omnictl.models.audio_encoder import AudioEncoder
from omnictl.nn.conv import SUBSAMPLING
from omnictl.nn.transformer import KVCache, Rotary, rotary_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omnictl.models.audio_encoder import AudioEncoderBlock

BEFORE = SUBSAMPLING - 1
"""Mel frames before a chunk that its first frame sees."""


class AudioEncoderStream:
    """One utterance as it comes.

    Args:
        encoder: in eval mode.
    """

    def __init__(self, encoder: AudioEncoder) -> None:
        config = encoder.config
        self._encoder = encoder
        self._mels = encoder.mean.new_zeros(1, BEFORE, config.mel.bins)  # the last ones, standardised
        self._convolved = [encoder.mean.new_zeros(1, config.width, config.kernel // 2) for _ in range(config.layers)]
        self._left = config.streaming.left * config.streaming.chunk
        self._cache = KVCache(
            layers=config.layers,
            batch=1,
            heads=config.heads,
            capacity=self._left + config.streaming.chunk,
            head_width=config.width // config.heads,
            like=encoder.mean,
        )
        self._num_frames = 0

    @torch.inference_mode()
    def push(self, features: Tensor) -> Tensor:
        """Take the next chunk of log-mels `(T, F)`; every chunk but the last has four times `config.streaming.chunk` of them.

        Returns:
            `(⌈T/4⌉, D)` frames, normalised.
        """
        encoder = self._encoder
        mels = ((features.to(encoder.mean.device) - encoder.mean) / encoder.std)[None]
        x = self._subsample(torch.cat([self._mels, mels], 1), len(features))  # (1, n, D)
        self._mels = mels[:, -BEFORE:]
        table = rotary_table(x.shape[1], self._cache.keys[0].shape[-1], 10_000.0, start=self._num_frames)
        rotary = Rotary(table.cos.to(x.device), table.sin.to(x.device))
        self._cache.keep_last(self._left)
        for layer, block in enumerate(cast("Iterable[AudioEncoderBlock]", encoder.blocks)):
            x, self._convolved[layer] = block.step(x, rotary, self._cache, layer, self._convolved[layer])
        self._cache.length += x.shape[1]
        self._num_frames += x.shape[1]
        frames: Tensor = encoder.norm(x)[0]
        return frames

    def _subsample(self, mels: Tensor, new: int) -> Tensor:
        count = -(-new // SUBSAMPLING)
        inside = torch.ones(2 * count + 1, device=mels.device)
        inside[0] = float(self._num_frames > 0)
        inside[1 + -(-new // 2) :] = 0.0
        return self._encoder.subsampling.step(F.pad(mels, (0, 0, 0, SUBSAMPLING * count - new)), inside)
