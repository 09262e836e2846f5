"""The caption encoder: a small bidirectional transformer over tokens, and the space in which images and captions meet.

Source: Radford et al. 2021 (CLIP), with the mean of all tokens in place of the last one's. It is left behind once the vision
encoder is trained.
"""

import math
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from omnictl.config.base import Config
from omnictl.models.vision_encoder import VisionOutput
from omnictl.nn.transformer import EncoderBlock, RMSNorm, Rotary, rotary_table

if TYPE_CHECKING:
    from collections.abc import Iterable

START_SCALE, MOST_SCALE = 1 / 0.07, 100.0
"""Inverse temperature at the start, and at most (as CLIP's)."""


class CaptionEncoderConfig(Config):
    """Shape of a caption encoder. The vocabulary comes from the data."""

    layers: int = Field(2, ge=1, le=1_000, description="transformer blocks")
    width: int = Field(128, ge=2, le=100_000, description="numbers of a token's vector")
    heads: int = Field(2, ge=1, le=1_000, description="attention heads; width must divide by them")
    hidden: int = Field(352, ge=1, le=1_000_000, description="inner width of the feed-forward layer")
    joint_width: int = Field(128, ge=1, le=100_000, description="of the space in which images and captions meet")
    dropout: float = Field(0.0, ge=0, lt=1, description="on what each layer adds")
    norm_eps: float = Field(1e-6, gt=0, description="added to the mean square of RMSNorm")

    @model_validator(mode="after")
    def _shapes_fit(self) -> "CaptionEncoderConfig":
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must be a multiple of twice the heads ({self.heads})")
        return self


class CaptionEncoder(nn.Module):
    """Token ids in, vectors of unit length out; it also brings images into their space."""

    def __init__(self, config: CaptionEncoderConfig, vocab_size: int, encoder_width: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.blocks = nn.ModuleList(
            EncoderBlock(config.width, config.heads, config.hidden, eps=config.norm_eps, dropout=config.dropout)
            for _ in range(config.layers)
        )
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.head = nn.ModuleDict(
            {
                "caption": nn.Linear(config.width, config.joint_width, bias=False),
                "picture": nn.Linear(encoder_width, config.joint_width, bias=False),
            }
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Captions `(B, T)` of these lengths, anything where padded, as `(B, joint)` vectors of unit length."""
        valid = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]  # (B, T)
        table = rotary_table(tokens.shape[1], self.config.width // self.config.heads, 10_000.0)
        rotary = Rotary(table.cos.to(tokens.device), table.sin.to(tokens.device))
        x = self.embedding(tokens)  # (B, T, D)
        for block in cast("Iterable[EncoderBlock]", self.blocks):
            x = block(x, rotary, valid)
        x = self.norm(x) * valid[:, :, None]
        return F.normalize(self.head["caption"](x.sum(1) / lengths[:, None]), dim=-1)

    def place(self, output: VisionOutput) -> Tensor:
        """Images in the space of captions, `(B, joint)` of unit length."""
        return F.normalize(self.head["picture"](output.pooled), dim=-1)

    def clamped_log_scale(self) -> Tensor:
        """Logarithm of the inverse temperature, no more than `MOST_SCALE`; its gradient passes, or it could not come down again."""
        excess = (self.log_scale - math.log(MOST_SCALE)).clamp(min=0)
        return self.log_scale - excess.detach()
