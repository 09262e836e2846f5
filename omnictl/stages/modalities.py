"""What an omni model takes in besides text. A new kind of media is an encoder here and a line of `MODALITIES`.

An encoder knows how a file becomes its input, how many features that will be, and makes them. What it makes of a file while
chatting and what it makes of a corpus while training is the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from omnictl.data.dialogue import PLACEHOLDERS, MediaKind
from omnictl.data.dialogues import DialogueCorpus, Pictures, load_picture
from omnictl.data.features import FeatureStore, open_features
from omnictl.data.media import read_audio
from omnictl.data.speech_batches import pad
from omnictl.data.text_files import Split
from omnictl.models.audio_encoder import AudioEncoder
from omnictl.models.vision_encoder import VisionEncoder
from omnictl.nn.conv import halved
from omnictl.nn.mel import log_mel
from omnictl.stages.asr import Asr
from omnictl.stages.trained import open_model
from omnictl.stages.vision import Vision

Raw = NDArray[Any]
"""What an encoder takes in: `(3, S, S)` uint8 of a picture, `(T, F)` fp32 log-mels of a sound."""


class Inputs(Protocol):
    """The inputs of a split's pictures or sounds, by number."""

    @property
    def fingerprint(self) -> str:
        """Over all of them."""
        ...

    def __len__(self) -> int: ...

    def raw(self, number: int) -> Raw:
        """One input."""
        ...

    def count(self, number: int) -> int:
        """How many features it will be; 0 if it cannot be read."""
        ...

    def flaw(self, number: int) -> str | None:
        """Why it cannot be read, if it cannot."""
        ...


class Encoder(Protocol):
    """An encoder of one kind of media, an `nn.Module` too."""

    @property
    def width(self) -> int:
        """Of a feature."""
        ...

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of features, of what has them."""
        ...

    def load(self, file: Path) -> Raw:
        """The input that a file holds.

        Raises:
            DataError: it cannot be read.
        """
        ...

    def count(self, raw: Raw) -> int:
        """How many features an input will be."""
        ...

    def inputs(self, corpus: DialogueCorpus, split: Split, cache: Path) -> Inputs:
        """All inputs of a split of a corpus."""
        ...

    def __call__(self, raws: Sequence[Raw]) -> list[Tensor]:
        """The features `(n, width)` of each input."""
        ...


class Eye(nn.Module):
    """A vision encoder: the merged patch tokens of a picture."""

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        encoder.head.requires_grad_(requires_grad=False)  # not read here

    @property
    def width(self) -> int:
        """See `Encoder`."""
        return self.encoder.config.merged_width

    @property
    def grid(self) -> tuple[int, int] | None:
        """See `Encoder`."""
        return self.encoder.config.merged_grid, self.encoder.config.merged_grid

    def load(self, file: Path) -> Raw:
        """See `Encoder`."""
        return load_picture(file, self.encoder.config.image_size)

    def count(self, raw: Raw) -> int:  # noqa: ARG002
        """See `Encoder`; of every picture the same."""
        return self.encoder.config.merged_grid**2

    def inputs(self, corpus: DialogueCorpus, split: Split, cache: Path) -> Inputs:  # noqa: ARG002
        """See `Encoder`; drawn or decoded when asked for."""
        return _Views(corpus.pictures(split), self.encoder.config.image_size, self.encoder.config.merged_grid**2)

    def forward(self, raws: Sequence[Raw]) -> list[Tensor]:
        """See `Encoder`."""
        pictures = torch.from_numpy(np.stack(raws)).to(self.encoder.positions.device)
        return list(self.encoder.merged(self.encoder(pictures)))


class Ear(nn.Module):
    """An audio encoder: frames at 12.5 Hz."""

    def __init__(self, encoder: AudioEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        encoder.head.requires_grad_(requires_grad=False)  # not read here

    @property
    def width(self) -> int:
        """See `Encoder`."""
        return 2 * self.encoder.config.width

    @property
    def grid(self) -> tuple[int, int] | None:
        """See `Encoder`; sounds have none."""
        return None

    def load(self, file: Path) -> Raw:
        """See `Encoder`."""
        mel = self.encoder.config.mel
        return log_mel(read_audio(file, rate=mel.sample_rate), mel).numpy()

    def count(self, raw: Raw) -> int:
        """See `Encoder`."""
        return frames_heard(len(raw))

    def inputs(self, corpus: DialogueCorpus, split: Split, cache: Path) -> Inputs:
        """See `Encoder`; log-mels from the cache."""
        sounds = corpus.sounds
        store = open_features(sounds, split, self.encoder.config.mel, cache)
        return _Mels(store, f"{sounds.fingerprint}/{split}")

    def forward(self, raws: Sequence[Raw]) -> list[Tensor]:
        """See `Encoder`."""
        batch = pad(list(raws), [[]] * len(raws))
        device = self.encoder.mean.device
        found = self.encoder.halved(self.encoder(batch.features.to(device), batch.lengths.to(device)))
        return [frames[:length] for frames, length in zip(found.frames, found.lengths.tolist(), strict=True)]


def frames_heard(mel_frames: int) -> int:
    """Features of so many mel frames: an eighth, rounded up thrice."""
    return int(halved(halved(halved(torch.tensor(mel_frames)))))


@dataclass(frozen=True)
class _Views:
    """Pictures of one size."""

    pictures: Pictures
    size: int
    features: int

    @property
    def fingerprint(self) -> str:
        return self.pictures.fingerprint

    def __len__(self) -> int:
        return len(self.pictures)

    def raw(self, number: int) -> Raw:
        return self.pictures.picture(number, self.size)

    def count(self, number: int) -> int:  # noqa: ARG002
        return self.features

    def flaw(self, number: int) -> str | None:  # noqa: ARG002
        return None  # pictures that cannot be read are set aside by the corpus


@dataclass(frozen=True)
class _Mels:
    """Log-mels of sounds."""

    store: FeatureStore
    fingerprint: str

    def __len__(self) -> int:
        return len(self.store.bounds) - 1

    def raw(self, number: int) -> Raw:
        return self.store.features(number)

    def count(self, number: int) -> int:
        return frames_heard(int(self.store.lengths[number]))

    def flaw(self, number: int) -> str | None:
        return self.store.broken.get(number)


class Modality(NamedTuple):
    """A kind of media that a Thinker reads through an encoder."""

    stage: str
    """Whose runs hold the encoder."""
    open: Callable[[Path, Path], Encoder]
    """The trained encoder of a model folder; the second folder is the cache."""
    verb: str
    """What a model does that has it, for messages."""


def _open_eye(folder: Path, cache: Path) -> Encoder:
    return Eye(open_model(Vision, folder, device=torch.device("cpu"), cache=cache).model.encoder)


def _open_ear(folder: Path, cache: Path) -> Encoder:
    return Ear(open_model(Asr, folder, device=torch.device("cpu"), cache=cache).model)


MODALITIES: Mapping[MediaKind, Modality] = {
    "image": Modality(Vision.name, _open_eye, "sees"),
    "audio": Modality(Asr.name, _open_ear, "hears"),
}
"""By kind."""

assert MODALITIES.keys() == PLACEHOLDERS.keys()
