"""Images and captions in one space, with the two encoders of a contrastive model."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from omnictl.data.text.tokenizer import Tokenizer
from omnictl.models.caption_encoder import CaptionEncoder
from omnictl.models.vision_encoder import VisionEncoder

MAX_CAPTION_TOKENS = 64
"""Later tokens of a caption are not read."""

Float32 = NDArray[np.float32]


class CaptionReader:
    """Embeds images and captions in one space."""

    def __init__(self, encoder: VisionEncoder, captions: CaptionEncoder, tokenizer: Tokenizer) -> None:
        self.encoder, self.captions, self.tokenizer = encoder, captions, tokenizer

    def place(self, images: Tensor) -> Tensor:
        """Images `(B, 3, S, S)` uint8 as `(B, joint)` vectors of unit length."""
        return self.captions.place(self.encoder(images.to(self.encoder.positions.device)))

    def read(self, captions: Sequence[str]) -> Tensor:
        """Captions as `(B, joint)` vectors of unit length."""
        device = self.encoder.positions.device
        rows = [torch.tensor(ids or [0]) for ids in self._tokens(captions)]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        vectors: Tensor = self.captions(nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device), lengths)
        return vectors

    def num_tokens(self, captions: Sequence[str]) -> int:
        """Tokens that are read of some captions."""
        return sum(map(len, self._tokens(captions)))

    def num_cut(self, captions: Sequence[str]) -> int:
        """Captions that are too long to be read to their end."""
        return sum(len(ids) > MAX_CAPTION_TOKENS for ids in self.tokenizer.encode_batch(captions, markup=False))

    def _tokens(self, captions: Sequence[str]) -> list[list[int]]:
        return [ids[:MAX_CAPTION_TOKENS] for ids in self.tokenizer.encode_batch(captions, markup=False)]

    @torch.no_grad()
    def match(self, images: Float32, prompts: Sequence[Sequence[str]]) -> Float32:
        """`(N, C)` probabilities of C classes, for images `(N, joint)` of unit length (zero-shot, Radford et al. 2021).

        Args:
            images: as `place` gives them.
            prompts: what captions say of each class, in one way or several, which count as their mean.
        """
        means = torch.stack([self.read(ways).float().mean(0) for ways in prompts])
        directions = F.normalize(means, dim=-1).cpu().numpy()  # (C, joint)
        logits = float(self.captions.clamped_log_scale().exp()) * images @ directions.T
        probabilities: Float32 = torch.from_numpy(logits).softmax(-1).numpy()
        return probabilities
