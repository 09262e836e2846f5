"""What stands for a transcript: characters or pieces of a BPE, which a CTC model spells, or symbols that are read aloud."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from omnictl.data.speech.transcripts import phonemes, spoken_text, transcript, unicode_text
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.errors import CheckpointError, DataError
from omnictl.regular_files import read_regular

TargetKind = Literal["characters", "chars", "bpe"]
"""What a CTC model spells: a to z, the characters of its training transcripts, or pieces of words of a to z."""


class Spelling(Protocol):
    """Turns transcripts into ids."""

    @property
    def num_symbols(self) -> int:
        """Ids, 0 included, which stands for nothing that is written."""
        ...

    def find_flaw(self, text: str) -> str | None:
        """Why a transcript cannot be spelled, if it cannot."""
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


_CHARACTERS = "characters.json"


class CharacterTargets:
    """Space, apostrophe and a to z."""

    num_symbols = 1 + len(transcript.ALPHABET)

    def find_flaw(self, text: str) -> str | None:
        """Why a transcript cannot be spelled, if it cannot."""
        flaw = transcript.find_flaw(text)
        return f"{flaw} (targets.kind=chars spells any)" if transcript.foreign_characters(text) else flaw

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


class FoundCharacters:
    """The characters of the training transcripts, of any script, after `unicode_text`."""

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._ids = {character: index for index, character in enumerate(characters, start=1)}

    @classmethod
    def find(cls, texts: Iterable[str]) -> "FoundCharacters":
        """All characters of some transcripts, by their code points; a space is always one of them.

        Raises:
            DataError: no letter in any of them.
        """
        found = {character for text in texts for character in unicode_text.normalise(text)}
        if not found - {" "}:
            fix = "look at them with `omnictl data check PATH --targets chars`"
            raise DataError("the training transcripts have no letters", where="targets.kind", fix=fix)
        return cls("".join(sorted(found | {" "})))

    @classmethod
    def load(cls, folder: Path) -> "FoundCharacters":
        """What `save` wrote.

        Raises:
            CheckpointError: it is not there, or something else.
        """
        file = folder / _CHARACTERS
        try:
            characters = json.loads(read_regular(file))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot read {file}: {error}", where=str(file), fix="take the run from a backup") from error
        if not isinstance(characters, str) or len(set(characters)) != len(characters) or not characters:
            raise CheckpointError(f"{file} is not a text of characters", where=str(file), fix="take the run from a backup")
        return cls(characters)

    @property
    def num_symbols(self) -> int:
        """Ids, 0 included, which stands for nothing that is written."""
        return 1 + len(self.characters)

    def find_flaw(self, text: str) -> str | None:
        """Why a transcript cannot be spelled, if it cannot."""
        spelled = unicode_text.normalise(text)
        unknown = "".join(sorted(set(spelled) - self._ids.keys()))
        if unknown:
            return f"the transcript has characters that no training transcript has: {unknown}"
        return None if spelled else f"the transcript {text!r} has no words"

    def normalise(self, text: str) -> str:
        """What of a transcript can be spelled."""
        return "".join(character for character in unicode_text.normalise(text) if character in self._ids)

    def encode(self, text: str) -> list[int]:
        """The ids of a normalised text."""
        return [self._ids[character] for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without blanks."""
        return "".join(self.characters[symbol - 1] for symbol in ids)

    def save(self, folder: Path) -> None:
        """Write `characters.json`."""
        (folder / _CHARACTERS).write_text(json.dumps(self.characters), encoding="utf-8")


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

    def find_flaw(self, text: str) -> str | None:
        """Why a transcript cannot be spelled, if it cannot."""
        return transcript.find_flaw(text)

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


def choose_spelling(kind: TargetKind, texts: Iterable[str]) -> Spelling:
    """How transcripts are spelled, as far as it is known without learning pieces.

    Args:
        kind: of the targets.
        texts: the training transcripts.

    Raises:
        DataError: no letter in any of them.
    """
    return FoundCharacters.find(texts) if kind == "chars" else CharacterTargets()


EDGE = 0
"""The silence before and after what is said."""


class Pronunciation(Spelling, Protocol):
    """What is read aloud: symbols and the marks that are heard, between the two edges."""

    def words(self, text: str) -> str:
        """The words of a text, as a recogniser is asked for them."""
        ...


class ReadAloud:
    """What is read aloud: English letters and the marks that are heard, between the two edges."""

    num_symbols = 1 + spoken_text.NUM_SYMBOLS

    def find_flaw(self, text: str) -> str | None:
        """Why a transcript cannot be read aloud, if it cannot."""
        return transcript.find_flaw(text)

    def normalise(self, text: str) -> str:
        """What of a transcript can be spelled."""
        return spoken_text.spell_out(text)

    def encode(self, text: str) -> list[int]:
        """The ids of a normalised text."""
        return [EDGE, *spoken_text.spoken_ids(text), EDGE]

    def words(self, text: str) -> str:
        """The words of a text, as a recogniser is asked for them."""
        return spoken_text.speech_text(spoken_text.spell_out(text))


class ReadPhonemes:
    """What is read aloud: phonemes of a language by espeak-ng and the marks that are heard, between the two edges.

    Args:
        language: a voice of espeak-ng.
    """

    num_symbols = 1 + len(phonemes.SYMBOLS)

    def __init__(self, language: str) -> None:
        self.language = language

    def find_flaw(self, text: str) -> str | None:
        """Why a transcript cannot be read aloud, if it cannot."""
        return None if self.normalise(text) else f"the transcript {text!r} has no words"

    def normalise(self, text: str) -> str:
        """What of a transcript is said."""
        return phonemes.pronounce(text, self.language)

    def encode(self, text: str) -> list[int]:
        """The ids of what is said."""
        return [EDGE, *(1 + phonemes.SYMBOLS.index(symbol) for symbol in text), EDGE]

    def words(self, text: str) -> str:
        """The words of a text, as a recogniser is asked for them."""
        return unicode_text.normalise(text)


SymbolKind = Literal["letters", "phonemes"]
"""What a Talker reads: English letters, or phonemes of any language."""


def choose_pronunciation(kind: SymbolKind, language: str) -> Pronunciation:
    """How texts are read aloud.

    Args:
        kind: of the symbols.
        language: a voice of espeak-ng; says nothing of letters.
    """
    return ReadPhonemes(language) if kind == "phonemes" else ReadAloud()
