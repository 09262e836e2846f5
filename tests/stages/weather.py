"""A kind of media in one file, as someone might add it: temperature and rain of some hours, in text files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from omnictl.config.split import Split
from omnictl.data.dialogues.corpus import DialogueCorpus
from omnictl.features.media_encoders import Inputs, MediaEncoder, Words

WIDTH = 8


def open_encoder(folder: Path, cache: Path) -> MediaEncoder:
    """See `Modality`."""
    return WeatherEncoder()


@dataclass(frozen=True)
class WeatherFiles:
    """The weather of a split."""

    files: Sequence[Path]

    @property
    def fingerprint(self) -> str:
        """See `Inputs`."""
        return "".join(file.read_text(encoding="utf-8") for file in self.files)

    def __len__(self) -> int:
        return len(self.files)

    def raw(self, number: int) -> NDArray[Any]:
        """See `Inputs`: `(hours, 2)`."""
        return np.loadtxt(self.files[number], np.float32, ndmin=2)

    def count(self, number: int) -> int:
        """See `Inputs`: a feature an hour."""
        return len(self.raw(number))

    def flaw(self, number: int) -> str | None:
        """See `Inputs`."""
        return None


class WeatherEncoder(nn.Module):
    """Hours, made wider."""

    width = WIDTH
    grid = None
    names_features = False

    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Parameter(torch.eye(2).repeat(1, WIDTH // 2))

    def load(self, file: Path) -> NDArray[Any]:
        """See `MediaEncoder`."""
        return WeatherFiles([file]).raw(0)

    def count(self, raw: NDArray[Any]) -> int:
        """See `MediaEncoder`."""
        return len(raw)

    def inputs(self, corpus: DialogueCorpus, split: Split, cache: Path) -> Inputs:
        """See `MediaEncoder`."""
        return WeatherFiles(corpus.files(split, "weather"))

    def words(self, features: Sequence[Tensor]) -> list[Words]:
        """See `MediaEncoder`: it has none."""
        raise NotImplementedError

    def forward(self, raws: Sequence[NDArray[Any]]) -> list[Tensor]:
        """See `MediaEncoder`."""
        return [torch.from_numpy(raw) @ self.spread for raw in raws]
