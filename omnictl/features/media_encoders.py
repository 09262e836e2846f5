"""The encoders of what an omni model takes in besides text.

An encoder knows how a file becomes its input, how many features that will be, and makes them. What it makes of a file while
chatting and what it makes of a corpus while training is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from omnictl.config.split import Split
from omnictl.data.audio.decoder import read_audio
from omnictl.data.dialogues.corpus import DialogueCorpus, ImageCollection
from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.data.images.file_corpus import load_image
from omnictl.data.images.tinyworld import BACKGROUND
from omnictl.data.speech.batches.utterances import pad
from omnictl.data.speech.log_mels import FeatureStore, open_features
from omnictl.data.speech.transcripts.targets import Targets
from omnictl.generate.ctc_search import words_of_path
from omnictl.models.audio_encoder import AudioEncoder
from omnictl.models.vision_encoder import VisionEncoder
from omnictl.nn.audio.mel import log_mel
from omnictl.nn.conv import halve

Raw = NDArray[Any]
"""What an encoder takes in: `(3, S, S)` uint8 of an image, `(T, F)` fp32 log-mels of a recording."""


class Inputs(Protocol):
    """The inputs of a split's images or recordings, by number."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all of them."""
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


class Words(NamedTuple):
    """What an encoder reads in the features of one image or recording."""

    texts: tuple[str, ...]
    weights: Tensor
    """(n, texts), how much of each feature each text is: rows sum to at most 1, to 0 where there is nothing to read."""


class MediaEncoder(Protocol):
    """An encoder of one kind of media, an `nn.Module` too."""

    @property
    def width(self) -> int:
        """Width of a feature."""
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

    @property
    def names_features(self) -> bool:
        """Whether its heads have words for its features."""
        ...

    def words(self, features: Sequence[Tensor]) -> list[Words]:
        """What its heads read in the features `(n, width)` of each input."""
        ...

    def __call__(self, raws: Sequence[Raw]) -> list[Tensor]:
        """The features `(n, width)` of each input."""
        ...


def open_encoder(kind: MediaKind, folder: Path, cache: Path) -> MediaEncoder:
    """The trained encoder of a kind of media, from a model folder of its stage.

    Raises:
        CheckpointError: it holds no complete model of that stage.
    """
    encoder: MediaEncoder = import_module(MODALITIES[kind].module).open_encoder(folder, cache)
    return encoder


class VisionFrontend(nn.Module):
    """A vision encoder: the merged patch tokens of an image.

    Args:
        encoder: a trained one.
        patch_attributes: the values of each attribute that its heads name patches by.
    """

    def __init__(self, encoder: VisionEncoder, patch_attributes: Sequence[Sequence[str]] = ()) -> None:
        super().__init__()
        self.encoder, self._patch_attributes = encoder, patch_attributes
        encoder.head.requires_grad_(requires_grad=False)  # read, but not trained

    @property
    def width(self) -> int:
        """Width of a feature."""
        return self.encoder.config.merged_width

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of features, of what has them."""
        return self.encoder.config.merged_grid, self.encoder.config.merged_grid

    def load(self, file: Path) -> Raw:
        """The input that a file holds."""
        return load_image(file, self.encoder.config.image_size)

    def count(self, raw: Raw) -> int:  # noqa: ARG002
        """How many features an input will be; of every image the same."""
        return self.encoder.config.merged_grid**2

    def inputs(self, corpus: DialogueCorpus, split: Split, cache: Path) -> Inputs:  # noqa: ARG002
        """All inputs of a split of a corpus; drawn or decoded when asked for."""
        return _Views(corpus.images(split), self.encoder.config.image_size, self.encoder.config.merged_grid**2)

    @property
    def names_features(self) -> bool:
        """Whether its heads have words for its features; of one's own images nothing is known patch by patch."""
        return bool(self._patch_attributes)

    def words(self, features: Sequence[Tensor]) -> list[Words]:
        """The values of all attributes, as probable as the patch heads find them; the background is no word."""
        patches, texts, weights = torch.cat(list(features)), [], []
        for head, values in zip(self.encoder.head["patch"], self._patch_attributes, strict=True):  # type: ignore[call-overload]
            named = [number for number, value in enumerate(values) if value != BACKGROUND]
            texts += [values[number] for number in named]
            weights.append(head(patches).softmax(-1)[:, named] / len(self._patch_attributes))
        images = torch.split(torch.cat(weights, 1), [len(image) for image in features])
        return [Words(tuple(texts), of_image) for of_image in images]

    def forward(self, raws: Sequence[Raw]) -> list[Tensor]:
        """The features `(n, width)` of each input."""
        images = torch.from_numpy(np.stack(raws)).to(self.encoder.positions.device)
        return list(self.encoder.merge(self.encoder(images)))


class AudioFrontend(nn.Module):
    """An audio encoder: frames at 12.5 Hz.

    Args:
        encoder: a trained one.
        targets: what its head spells.
    """

    names_features = True

    def __init__(self, encoder: AudioEncoder, targets: Targets) -> None:
        super().__init__()
        self.encoder, self._targets = encoder, targets
        encoder.head.requires_grad_(requires_grad=False)  # read, but not trained

    @property
    def width(self) -> int:
        """Width of a feature."""
        return 2 * self.encoder.config.width

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of features, of what has them; recordings have none."""
        return None

    def load(self, file: Path) -> Raw:
        """The input that a file holds."""
        mel = self.encoder.config.mel
        return log_mel(read_audio(file, rate=mel.sample_rate), mel).numpy()

    def count(self, raw: Raw) -> int:
        """How many features an input will be."""
        return frames_heard(len(raw))

    def inputs(self, corpus: DialogueCorpus, split: Split, cache: Path) -> Inputs:
        """All inputs of a split of a corpus; log-mels from the cache."""
        audio = corpus.audio
        store = open_features(audio, split, self.encoder.config.mel, cache)
        return _Mels(store, f"{audio.fingerprint}/{split}")

    def words(self, features: Sequence[Tensor]) -> list[Words]:
        """The words of the likeliest path, each from its first letter to its last."""
        frames = torch.cat(list(features))
        scores = self.encoder.head(frames.view(-1, self.encoder.config.width))  # of two frames each
        best = scores.view(-1, self.encoder.num_symbols).argmax(-1).view(len(frames), -1)  # (N, symbols a feature)
        return [self._words(path) for path in torch.split(best, [len(recording) for recording in features])]

    def _words(self, path: Tensor) -> Words:
        """The words of a path `(n, symbols a feature)`."""
        spoken = words_of_path(path.flatten().tolist(), self._targets.decode)
        weights = torch.zeros(len(path), len(spoken), device=path.device)
        for number, word in enumerate(spoken):
            weights[word.start // path.shape[1] : (word.stop - 1) // path.shape[1] + 1, number] = 1
        return Words(tuple(word.text for word in spoken), weights / weights.sum(-1, keepdim=True).clamp(min=1))

    def forward(self, raws: Sequence[Raw]) -> list[Tensor]:
        """The features `(n, width)` of each input."""
        batch = pad(list(raws), [[]] * len(raws))
        device = self.encoder.mean.device
        encoded = self.encoder.halve(self.encoder(batch.features.to(device), batch.lengths.to(device)))
        return [frames[:length] for frames, length in zip(encoded.frames, encoded.lengths.tolist(), strict=True)]


def frames_heard(mel_frames: int) -> int:
    """Number of features of `mel_frames` mel frames: an eighth, rounded up three times."""
    return int(halve(halve(halve(torch.tensor(mel_frames)))))


@dataclass(frozen=True)
class _Views:
    """Images of one size."""

    images: ImageCollection
    size: int
    features: int

    @property
    def fingerprint(self) -> str:
        return self.images.fingerprint

    def __len__(self) -> int:
        return len(self.images)

    def raw(self, number: int) -> Raw:
        return self.images.image(number, self.size)

    def count(self, number: int) -> int:  # noqa: ARG002
        return self.features

    def flaw(self, number: int) -> str | None:  # noqa: ARG002
        return None  # images that cannot be read are set aside by the corpus


@dataclass(frozen=True)
class _Mels:
    """Log-mels of recordings."""

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
