"""What stands for a transcript: characters or pieces of a BPE, which a CTC model spells, or symbols that are read aloud."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from omnictl.data.speech.transcripts import spoken_text, transcript
from omnictl.data.text.tokenizer import Tokenizer


class Spelling(Protocol):
    """Turns transcripts into ids."""

    @property
    def num_symbols(self) -> int:
        """Ids, 0 included, which stands for nothing that is written."""
        ...

    def normalise(self, text: str) -> str:
        """What of a transcript can be spelled."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of a normalised text."""
        ...


class Targets(Spelling, Protocol):
    """What a CTC model spells, and back; id 0 is the blank."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without blanks."""
        ...

    def save(self, folder: Path) -> None:
        """Write what is needed to read the ids again."""
        ...


class CharacterTargets:
    """Space, apostrophe and a to z."""

    num_symbols = 1 + len(transcript.ALPHABET)

    def normalise(self, text: str) -> str:
        """What of a transcript can be spelled."""
        return transcript.normalise(text)

    def encode(self, text: str) -> list[int]:
        """The ids of a normalised text."""
        return transcript.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without blanks."""
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
            DataError: they hold too little text for that many.
        """
        return cls(Tokenizer.train_bpe(texts, vocab_size))

    @classmethod
    def load(cls, folder: Path) -> "BpeTargets":
        """What `save` wrote."""
        return cls(Tokenizer.load(folder / "tokenizer.json"))

    @property
    def num_symbols(self) -> int:
        """Ids, 0 included, which stands for nothing that is written."""
        return 1 + self.tokenizer.vocab_size

    def normalise(self, text: str) -> str:
        """What of a transcript can be spelled."""
        return transcript.normalise(text)

    def encode(self, text: str) -> list[int]:
        """The ids of a normalised text."""
        return [1 + token for token in self.tokenizer.encode(text, markup=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without blanks."""
        return self.tokenizer.decode(symbol - 1 for symbol in ids)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`."""
        self.tokenizer.save(folder / "tokenizer.json")


EDGE = 0
"""The silence before and after what is said."""


class ReadAloud:
    """What is read aloud: characters and the marks that are heard, between the two edges."""

    num_symbols = 1 + spoken_text.NUM_SYMBOLS

    def normalise(self, text: str) -> str:
        """What of a transcript can be spelled."""
        return spoken_text.spell_out(text)

    def encode(self, text: str) -> list[int]:
        """The ids of a normalised text."""
        return [EDGE, *spoken_text.spoken_ids(text), EDGE]
