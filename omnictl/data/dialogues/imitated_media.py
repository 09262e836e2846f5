"""Images and recordings imitated by words, before a Thinker reads what encoders make of them.

A feature of an encoder, once projected, points where the embeddings of the words point that it shows or says
(`omnictl.features.projector_alignment`). So these embeddings, added up, and some noise can stand for it: dialogues need no encoder
then, and fewer features, most of which show something, make it easier to learn where to look. Source: Nukrai et al. 2022 (arXiv
2211.00575, CapDec: training on text alone, with noise where the features of images will be).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from omnictl.data.dialogues.batches import Exercise, Mixture
from omnictl.data.dialogues.chat_template import Media
from omnictl.data.dialogues.corpus import DialogueCorpus
from omnictl.data.dialogues.media_features import MediaFeatures
from omnictl.data.dialogues.modalities import MediaKind
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.tinyworld.topics.topic import find_conclusion

NOISE = 0.3
"""Size of the noise against the words of a feature; a feature without words is noise alone."""

LOOKUPS = Mixture({"multi_turn": 1.0}, replay=0.0)
"""Looking things up comes soonest where nothing stands beside it; the text that is forgotten comes back with all tasks."""

TURNS = 3
"""Questions about an image, of those that are looked up."""

CONCLUSIONS = Mixture({"image_yesno": 2.0, "image_relation": 1.0, "two_images": 1.0}, replay=0.0)
"""Whether stated facts mean yes or no, or which of two images: it comes soonest where nothing else is learned, and then stays."""

FEW = 96
"""Dialogues of each task that half of the conclusions are drawn from: what is read again and again is understood sooner.

Source: Charton and Kempe 2024 (arXiv 2410.07041, two-set training).
"""


class ExerciseSizes(NamedTuple):
    """Examples of each exercise."""

    conclusions: int
    """What follows, after facts."""
    lookups: int
    """A few questions about an image."""
    all_tasks: int


Words = tuple[str, ...]
"""What a feature shows or says; nothing, if it has none."""


class WordFeatures(NamedTuple):
    """The features of one imitated image or recording: n of them, made of m tokens."""

    tokens: NDArray[np.int64]
    """(m,)"""
    weights: NDArray[np.float32]
    """(m,); those of a word sum to one"""
    owners: NDArray[np.int64]
    """(m,) the feature that a token belongs to"""
    noise: NDArray[np.float32]
    """(n, D)"""


def spell_word(word: str, tokenizer: Tokenizer) -> list[int]:
    """The tokens of a word as it stands within a sentence; the mean of their embeddings is the word's."""
    return tokenizer.encode(f" {word}", markup=False)


class WordSource:
    """Imitated images or recordings by number; a `media_features.FeatureSource`.

    Args:
        words: of each feature of an image or a recording.
        tokenizer: the Thinker's.
        width: of its embeddings.
    """

    grid: tuple[int, int] | None = None

    def __init__(self, words: Callable[[int], Sequence[Words]], tokenizer: Tokenizer, width: int) -> None:
        self._words, self._tokenizer, self._width = words, tokenizer, width

    def count(self, number: int) -> int:
        """How many features one has."""
        return len(self._words(number))

    def value(self, number: int) -> WordFeatures:
        """The words of one, and its noise: always the same."""
        tokens: list[int] = []
        weights: list[float] = []
        owners: list[int] = []
        features = self._words(number)
        for owner, words in enumerate(features):
            for word in words:
                spelled = spell_word(word, self._tokenizer)
                tokens += spelled
                weights += [1 / len(spelled)] * len(spelled)
                owners += [owner] * len(spelled)
        noise = np.random.default_rng(number).standard_normal((len(features), self._width), np.float32)
        return WordFeatures(np.array(tokens, np.int64), np.array(weights, np.float32), np.array(owners, np.int64), noise)

    def num_features(self, value: WordFeatures) -> int:
        """How many features a value has."""
        return len(value.noise)

    def flaw(self, number: int) -> str | None:  # noqa: ARG002
        """Nothing: there is no file that could be damaged."""
        return None


def imitate(values: Sequence[WordFeatures], table: Tensor) -> Tensor:
    """Features `(N, D)` of images or recordings, one after the other, as large as a projector makes them.

    Args:
        values: what they show or say.
        table: `(V, D)` embeddings of the Thinker; they get no gradient.
    """
    starts = np.cumsum([0, *(len(value.noise) for value in values)])[:-1]
    placed = [value._replace(owners=value.owners + start) for value, start in zip(values, starts, strict=True)]
    tokens, weights, owners, noise = (
        torch.from_numpy(np.concatenate(parts)).to(table.device) for parts in zip(*placed, strict=True)
    )
    table = table.detach().float()
    mixed = torch.zeros_like(noise).index_add_(0, owners, table[tokens] * weights[:, None])  # (N, D)
    named = (mixed != 0).any(-1, keepdim=True)
    words = F.rms_norm(mixed, mixed.shape[-1:])
    return F.rms_norm(torch.where(named, words + NOISE * noise, noise), noise.shape[-1:])


def make_exercises(
    corpus: DialogueCorpus, tokenizer: Tokenizer, width: int, mixture: Mixture, sizes: ExerciseSizes
) -> tuple[Exercise, ...]:
    """What a Thinker does before it reads what encoders make; nothing, if nobody knows what images show.

    Args:
        corpus: the dialogues.
        tokenizer: the Thinker's.
        width: of its embeddings.
        mixture: of all tasks.
        sizes: how many examples.
    """
    if not corpus.generated:
        return ()

    def source(kind: MediaKind) -> WordSource:
        return WordSource(lambda number: corpus.words("train", Media(kind, number)) or (), tokenizer, width)

    features = MediaFeatures({kind: source(kind) for kind in corpus.kinds})
    return (
        Exercise(None, CONCLUSIONS, sizes.conclusions, few=FEW, find_learned=find_conclusion),
        Exercise(features, LOOKUPS, sizes.lookups, turns=TURNS),
        Exercise(features, mixture, sizes.all_tasks),
    )
