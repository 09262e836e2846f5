"""The omni model: a Thinker that reads images and audio, through projectors from their encoders' features.

Each feature takes the place of a placeholder token's embedding. Encoders that are trained along are part of the model; frozen ones
stand outside, so that nothing here can move them. Sources: Liu et al. 2023 (LLaVA: a two-layer MLP as projector, and training it
alone first), Xu et al. 2025 (Qwen2.5-Omni: time-aware multimodal rotary positions).
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from omnictl.config.base import Config
from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.models.thinker import Thinker, ThinkerOutput
from omnictl.nn.lora import adapt
from omnictl.nn.transformer import RMSNorm


class OmniConfig(Config):
    """What joins the parts."""

    projector_hidden: int = Field(512, ge=1, le=1_000_000, description="inner width of the two-layer projectors")
    positions: Literal["sequential", "time"] = Field(
        "sequential", description="time: features of an image lie side by side in rows and columns, at one moment"
    )
    encoders: Literal["frozen", "trained"] = Field("frozen", description="trained: with a learning rate of their own")
    encoder_rate: float = Field(0.1, gt=0, description="learning rate of trained encoders, as a share of the others'")
    lora_rank: int = Field(
        0, ge=0, le=100_000, description="of low-rank updates of a Thinker that is frozen otherwise; 0: all of it learns"
    )
    lora_alpha: float = Field(16.0, gt=0, description="low-rank updates are scaled by this over their rank")


class Features(NamedTuple):
    """The shape of an encoder's features of one kind of media."""

    width: int
    places: int  # features of each, if each has as many and they have fixed places, as in an image; 0 otherwise


class Projector(nn.Module):
    """Features of an encoder to embeddings of the Thinker, as large as those of words.

    Where features have fixed places, the inner layer is told each one's: the Thinker is asked where things are, and its own
    positions only say how far back a token stands.
    """

    def __init__(self, features: Features, hidden: int, width: int, eps: float) -> None:
        super().__init__()
        self.up = nn.Linear(features.width, hidden)
        self.place = nn.Parameter(torch.randn(features.places, hidden)) if features.places else None
        self.down = nn.Linear(hidden, width)
        self.norm = RMSNorm(width, eps)

    def forward(self, features: Tensor) -> Tensor:
        """Map `(N, features)`, one image or recording after the other, to `(N, D)`."""
        inner = self.up(features)
        if self.place is not None:
            inner = inner + self.place.repeat(len(features) // len(self.place), 1)
        projected: Tensor = self.norm(self.down(nn.functional.gelu(inner)))
        return projected


class Omni(nn.Module):
    """A Thinker with a projector for each kind of media.

    Args:
        config: what joins the parts.
        thinker: the language model.
        features: of each kind of media.
        encoders: those that are trained along, by kind.
    """

    def __init__(
        self,
        config: OmniConfig,
        thinker: Thinker,
        features: Mapping[MediaKind, Features],
        encoders: Mapping[MediaKind, nn.Module],
    ) -> None:
        super().__init__()
        self.config = config
        self.thinker = thinker
        inner = thinker.config
        self.projectors = nn.ModuleDict(
            {kind: Projector(shape, config.projector_hidden, inner.width, inner.norm_eps) for kind, shape in features.items()}
        )
        self.encoders = nn.ModuleDict(dict(encoders.items()))
        if config.lora_rank:
            adapt(thinker, config.lora_rank, config.lora_alpha)
        self._thinker_learns = [parameter for parameter in thinker.parameters() if parameter.requires_grad]
        for parameter in self.encoders.parameters():
            parameter.rate = config.encoder_rate  # type: ignore[attr-defined]  # read by `trainer.optim`

    def learn_projectors_only(self, *, only: bool) -> None:
        """Give gradients to the projectors alone, or to everything that is trained."""
        for parameter in (*self._thinker_learns, *self.encoders.parameters()):
            parameter.requires_grad = not only

    def embed(self, tokens: Tensor, features: Mapping[MediaKind, Tensor], *, projected: bool = False) -> Tensor:
        """Embeddings `(B, T, D)` of tokens, projected features in the place of placeholders.

        Args:
            tokens: `(B, T)` int64.
            features: by kind `(N, features)`, in the order of the placeholders, row by row; that there are as many as these is
                checked where they are read (`data.dialogues.media_features`).
            projected: whether features are embeddings already, `(N, D)`.
        """
        embeddings: Tensor = self.thinker.embedding(tokens)
        for kind, media in features.items():
            media_embeddings = media if projected else self.projectors[kind](media)
            is_placeholder = tokens == MODALITIES[kind].placeholder
            embeddings = embeddings.masked_scatter(is_placeholder[..., None], media_embeddings.to(embeddings.dtype))
        return embeddings

    def forward(
        self,
        tokens: Tensor,
        features: Mapping[MediaKind, Tensor],
        *,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        scored: Tensor | None = None,
        projected: bool = False,
    ) -> ThinkerOutput:
        """What the Thinker makes of a batch; arguments as of `embed` and of the Thinker."""
        embeddings = self.embed(tokens, features, projected=projected)
        output: ThinkerOutput = self.thinker(embeddings=embeddings, segments=segments, positions=positions, scored=scored)
        return output
