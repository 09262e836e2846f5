"""The vision encoder: images to patch tokens, one vector for the whole image, and merged patch tokens for the Thinker.

Plain patches (Dosovitskiy et al. 2021, ViT) or, where little data has to do, a stem of strided convolutions in their place (Xiao et
al. 2021); then pre-norm blocks of attention over all patches. Registers: Darcet et al. 2024. Positions are learned on a grid and
interpolated where an image has another resolution. Left out on purpose: batch norm, whose statistics would depend on how a batch
is split; windows of attention.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from omnictl.config.base import Config
from omnictl.nn.arithmetic import multiplied_weights
from omnictl.nn.transformer import EncoderBlock, RMSNorm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omnictl.nn.recompute import Checkpointing

GROUP_CHANNELS = 16
"""Channels that the stem normalises together."""


class VisionEncoderConfig(Config):
    """Shape of a vision encoder. What it tells apart comes from the data."""

    image_size: int = Field(112, ge=1, le=10_000, description="pixels of an image's side in training")
    patch: int = Field(16, ge=1, le=10_000, description="pixels of a patch's side")
    stem: tuple[int, ...] = Field((32, 64, 96, 128), description="channels of convolutions of stride 2; none: plain patches")
    stem_depth: int = Field(1, ge=1, le=100, description="convolutions at each resolution of the stem")
    layers: int = Field(4, ge=1, le=1_000, description="transformer blocks")
    width: int = Field(128, ge=1, le=100_000, description="numbers of a patch's vector")
    heads: int = Field(2, ge=1, le=1_000, description="attention heads; width must divide by them")
    hidden: int = Field(352, ge=1, le=1_000_000, description="inner width of the SwiGLU feed-forward layer")
    pooling: Literal["mean", "class"] = Field("mean", description="one vector per image: mean of the patches, or a class token")
    registers: int = Field(0, ge=0, le=10_000, description="tokens without a place, for what the encoder wants to note down")
    merge: int = Field(1, ge=1, le=1_000, description="patches side by side, each way, that the Thinker reads as one token")
    dropout: float = Field(0.0, ge=0, lt=1, description="on what each layer adds")
    mean: float = Field(0.5, description="of pixels in [0, 1], taken off")
    std: float = Field(0.25, gt=0, description="of pixels in [0, 1], divided by")
    norm_eps: float = Field(1e-6, gt=0, description="added to the mean square of RMSNorm")

    @model_validator(mode="after")
    def _shapes_fit(self) -> "VisionEncoderConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads ({self.heads})")
        if self.patch % 2 ** len(self.stem):
            raise ValueError(f"patch {self.patch} must be a multiple of {2 ** len(self.stem)}, by which the stem shrinks an image")
        if self.image_size % (self.patch * self.merge):
            raise ValueError(f"image_size {self.image_size} must be a multiple of patch × merge ({self.patch * self.merge})")
        if odd := [channels for channels in self.stem if channels % GROUP_CHANNELS]:
            raise ValueError(f"the stem's channels must be multiples of {GROUP_CHANNELS}, found {odd[0]}")
        return self

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch

    @property
    def merged_grid(self) -> int:
        """Merged tokens along a side."""
        return self.grid // self.merge

    @property
    def merged_width(self) -> int:
        """Width of a merged token."""
        return self.width * self.merge**2


class VisionOutput(NamedTuple):
    """What the encoder made of a batch."""

    patches: Tensor  # (B, P, D), normalised, row by row
    grid: tuple[int, int]  # patches down and across
    pooled: Tensor  # (B, D)


class VisionEncoder(nn.Module):
    """Images in, patch tokens and one vector out; heads that name attributes of the whole image and of what each patch shows.

    Args:
        config: the shape.
        attributes: the number of values of each attribute of an image.
        patch_attributes: the number of values of each attribute of a merged patch.
    """

    def __init__(self, config: VisionEncoderConfig, attributes: tuple[int, ...], patch_attributes: tuple[int, ...] = ()) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.checkpointing: Checkpointing = "off"
        self.embedding = _embedding(config)
        self.positions = nn.Parameter(0.02 * torch.randn(1, width, config.grid, config.grid))
        self.num_extra = config.registers + (config.pooling == "class")
        self.extra = nn.Parameter(0.02 * torch.randn(self.num_extra, width)) if self.num_extra else None
        self.blocks = nn.ModuleList(
            EncoderBlock(width, config.heads, config.hidden, eps=config.norm_eps, dropout=config.dropout)
            for _ in range(config.layers)
        )
        self.norm = RMSNorm(width, config.norm_eps)
        self.head = nn.ModuleDict(
            {
                "picture": nn.ModuleList(nn.Linear(width, values) for values in attributes),
                "patch": nn.ModuleList(nn.Linear(config.merged_width, values) for values in patch_attributes),
            }
        )
        self._initialise()

    def _initialise(self) -> None:
        """What adds to the residual stream starts as zero (Zhang et al. 2019, Fixup)."""
        for name, parameter in self.blocks.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> VisionOutput:
        """Encode `(B, 3, H, W)` uint8 RGB; sides are multiples of the patch and need not be those of training."""
        config = self.config
        assert images.shape[2] % config.patch == images.shape[3] % config.patch == 0, "sides are multiples of the patch"
        x = images.to(self.positions.dtype, memory_format=torch.channels_last)  # convolutions are faster so
        x = self.embedding((x / 255 - config.mean) / config.std)  # (B, D, h, w)
        grid = (x.shape[2], x.shape[3])
        x = x + self._positions(*grid)
        x = x.flatten(2).mT  # (B, P, D)
        if self.extra is not None:
            x = torch.cat([self.extra.expand(len(x), -1, -1).to(x.dtype), x], 1)
        for block in cast("Iterable[EncoderBlock]", self.blocks):
            if self.checkpointing != "off" and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        x = self.norm(x)
        patches = x[:, self.num_extra :]
        return VisionOutput(patches, grid, x[:, 0] if config.pooling == "class" else patches.mean(1))

    def _positions(self, height: int, width: int) -> Tensor:
        """`(1, D, h, w)`: what was learned, on a grid of this size."""
        if self.positions.shape[2:] == (height, width):
            return self.positions
        return F.interpolate(self.positions, (height, width), mode="bicubic", antialias=True)

    def merge(self, output: VisionOutput) -> Tensor:
        """Neighbouring patches side by side, `(B, P / merge², merge² · D)`: what the Thinker reads."""
        (batch, count, width), (rows, columns), merge = output.patches.shape, output.grid, self.config.merge
        assert rows % merge == columns % merge == 0, f"{rows} × {columns} patches cannot be merged by {merge}"
        tiles = output.patches.view(batch, rows // merge, merge, columns // merge, merge, width)
        return tiles.transpose(2, 3).reshape(batch, count // merge**2, merge**2 * width)

    def attribute_logits(self, output: VisionOutput) -> list[Tensor]:
        """Scores `(B, values)` of each attribute of the image."""
        return [head(output.pooled) for head in cast("Iterable[nn.Linear]", self.head["picture"])]

    def patch_logits(self, output: VisionOutput) -> list[Tensor]:
        """Scores `(B, P / merge², values)` of each attribute of the merged patches."""
        tokens = self.merge(output)
        return [head(tokens) for head in cast("Iterable[nn.Linear]", self.head["patch"])]


def _embedding(config: VisionEncoderConfig) -> nn.Sequential:
    """Images `(B, 3, H, W)` to `(B, D, H / patch, W / patch)`."""
    layers: list[nn.Module] = []
    channels = 3
    for wider in config.stem:
        for depth in range(config.stem_depth):
            stride = 2 if depth == 0 else 1
            layers += [
                nn.Conv2d(channels, wider, kernel_size=3, stride=stride, padding=1, bias=False),
                nn.GroupNorm(wider // GROUP_CHANNELS, wider),
                nn.GELU(),
            ]
            channels = wider
    left = config.patch // 2 ** len(config.stem)
    return nn.Sequential(*layers, nn.Conv2d(channels, config.width, kernel_size=left, stride=left))


def training_flops(model: VisionEncoder, count: int, size: int) -> float:
    """Floating-point operations of a forward and backward pass over so many square images of that side.

    6 × multiply parameters × the places each is used at, and 12 · D · T² a layer for attention. The gradient with respect to the
    image itself is not computed, which saves a third in the first convolution.
    """
    config = model.config
    products, side, first = 0.0, size, True
    for layer in model.embedding:
        if isinstance(layer, nn.Conv2d):
            side //= layer.stride[0]
            products += (4.0 if first else 6.0) * layer.weight.numel() * side**2
            first = False
    tokens = side**2 + model.num_extra
    products += 6.0 * multiplied_weights(model.blocks) * tokens
    products += 6.0 * multiplied_weights(model.head["picture"])
    products += 6.0 * multiplied_weights(model.head["patch"]) * (side // config.merge) ** 2
    attention = 12.0 * config.width * config.layers * tokens**2
    return count * (products + attention)
