"""What a CTC model spells: characters, or the pieces of a BPE learned from the transcripts. Id 0 is the blank in both."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from omnictl.data import transcript
from omnictl.data.tokenizer import Tokenizer


class Targets(Protocol):
    """Turns normalised transcripts into ids of 1 and up, and back."""

    @property
    def num_symbols(self) -> int:
        """Ids, the blank included."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of a normalised text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without blanks."""
        ...

    def save(self, folder: Path) -> None:
        """Write what is needed to read the ids again."""
        ...


class CharacterTargets:
    """Space, apostrophe and a to z."""

    num_symbols = 1 + len(transcript.ALPHABET)

    def encode(self, text: str) -> list[int]:
        """See `Targets`."""
        return transcript.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """See `Targets`."""
        return transcript.decode(ids)

    def save(self, folder: Path) -> None:
        """Nothing: the alphabet is fixed."""


class BpeTargets:
    """Pieces of a byte-level BPE."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BpeTargets":
        """Learn `vocab_size` pieces from normalised transcripts.

        Raises:
            DataError: they hold too little for so many.
        """
        return cls(Tokenizer.train_bpe(texts, vocab_size))

    @classmethod
    def load(cls, folder: Path) -> "BpeTargets":
        """What `save` wrote."""
        return cls(Tokenizer.load(folder / "tokenizer.json"))

    @property
    def num_symbols(self) -> int:
        """See `Targets`."""
        return 1 + self.tokenizer.vocab_size

    def encode(self, text: str) -> list[int]:
        """See `Targets`."""
        return [1 + token for token in self.tokenizer.encode(text, markup=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """See `Targets`."""
        return self.tokenizer.decode(symbol - 1 for symbol in ids)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`."""
        self.tokenizer.save(folder / "tokenizer.json")
