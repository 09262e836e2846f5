"""Text to token ids and back: byte-level BPE, or one token a character.

The BPE is GPT-2's (Radford et al., 2019): a word with its leading space is a unit, every byte has a token, so any text
can be encoded and comes back unchanged. Chat markup (ChatML) and media placeholders have the first ids in both kinds.
Left out on purpose: text normalisation, which would make decoding lossy.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from omnictl.errors import CheckpointError, DataError
from omnictl.runs.checksums import is_sealed, read_sealed
from omnictl.runs.files import write_text

SPECIAL_TOKENS = (
    "<|end|>",
    "<|pad|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|image|>",
    "<|audio|>",
    "<|speech|>",
    "<|unk|>",
)
END, PAD, IM_START, IM_END, IMAGE, AUDIO, SPEECH, UNK = range(len(SPECIAL_TOKENS))
"""END closes a document and stands before the first token of one; UNK is used by the character kind alone."""

CHAT_TEMPLATE = """\
{{ '<|end|>' }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}\
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{{ part['text'] if part['type'] == 'text' else '<|' + part['type'] + '|>' }}{% endfor %}{% endif %}{{ '<|im_end|>' }}\
{% if not loop.last or add_generation_prompt %}{{ '\\n' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
"""ChatML as a Jinja template, for other libraries: `data.dialogues.chat_template.ChatTemplate` makes the same tokens of the same
texts, with as many media placeholders as there are features instead of one, and nothing that a text could forge."""

CHAT_TEMPLATE_FILE = "chat_template.jinja"
"""Beside `tokenizer.json`, where `transformers` looks for it. A key of `tokenizer.json` it cannot be: `tokenizers` refuses to read
a file with keys that it does not know."""

_MARKUP = re.compile("|".join(re.escape(token) for token in SPECIAL_TOKENS))
_PIECE_CHARACTERS = 100_000
_SAFE_CUT = re.compile(r"(?<=\S)[ \n]")  # no word of the BPE goes on across this place


class Tokenizer:
    """A trained tokenizer. Make one with `train_bpe`, `train_char` or `load`."""

    def __init__(self, core: tokenizers.Tokenizer) -> None:
        # Whether special tokens are recognised is a setting of the whole object in `tokenizers`, hence two of them.
        self._with_markup = core
        self._as_text = tokenizers.Tokenizer.from_str(core.to_str())
        self._as_text.encode_special_tokens = True

    @classmethod
    def train_bpe(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn `vocab_size` tokens, special ones and the 256 bytes among them. The same texts give the same tokenizer.

        Raises:
            DataError: the texts have fewer pairs to merge than the vocabulary needs, or it is too small for the bytes.
        """
        smallest = len(SPECIAL_TOKENS) + len(pre_tokenizers.ByteLevel.alphabet())
        if vocab_size < smallest:
            raise DataError(
                f"a vocabulary of {vocab_size} is too small: special tokens and single bytes alone are {smallest}",
                where="data.vocab_size",
                fix=f"--set data.vocab_size={smallest} or more",
            )
        tokenizer = cls.train_bpe_at_most(texts, vocab_size)
        largest = tokenizer.vocab_size
        if largest < vocab_size:
            raise DataError(
                f"a vocabulary of {vocab_size} is larger than this corpus allows, which is {largest}",
                where="data.vocab_size",
                fix=f"--set data.vocab_size={largest} or less",
            )
        return tokenizer

    @classmethod
    def train_bpe_at_most(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """The same with as many tokens as the texts allow, which may be fewer; special tokens and single bytes there always are."""
        core = tokenizers.Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        core.train_from_iterator((part for text in texts for part in _MARKUP.split(text)), trainer)
        return cls(core)

    @classmethod
    def train_char(cls, texts: Iterable[str]) -> "Tokenizer":
        """One token for each character of the texts, in code point order; any other character becomes `<|unk|>`."""
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        vocabulary = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *sorted(characters)))}
        # BPE without merges is exactly a table of characters.
        core = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=SPECIAL_TOKENS[UNK]))
        core.add_special_tokens(list(SPECIAL_TOKENS))
        core.decoder = decoders.Fuse()
        return cls(core)

    @property
    def kind(self) -> Literal["bpe", "char"]:
        """What a token stands for."""
        return "char" if self._with_markup.pre_tokenizer is None else "bpe"

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the special ones included."""
        return self._with_markup.get_vocab_size()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: equal for tokenizers that behave the same."""
        canonical = json.dumps(self.describe(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def encode(self, text: str, *, markup: bool) -> list[int]:
        """Token ids of a text.

        Args:
            text: any text without lone surrogates.
            markup: whether `<|im_start|>` and the like in it are special tokens. False for everything that a user or a
                file supplies: then they are encoded as the characters they are, and cannot forge a turn or an end.
        """
        return self.encode_batch([text], markup=markup)[0]

    def encode_batch(self, texts: Sequence[str], *, markup: bool) -> list[list[int]]:
        """Token ids of several texts, on all cores; as `encode`."""
        encodings = self._core(markup).encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_with_offsets(self, text: str, *, markup: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids, and for each the characters `text[start:stop]` it stands for.

        The spans cover the text, leading spaces included. Tokens that share the bytes of one character share its span.
        """
        encoding = self._core(markup).encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def _core(self, markup: bool) -> tokenizers.Tokenizer:
        return self._with_markup if markup else self._as_text

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The UTF-8 bytes each token stands for; special tokens stand for their name."""
        vocabulary = self._with_markup.get_vocab()
        names = sorted(vocabulary, key=vocabulary.__getitem__)
        if self.kind == "char":
            return tuple(name.encode() for name in names)
        byte_of = _byte_of_character()
        ordinary = (bytes(byte_of[character] for character in name) for name in names[len(SPECIAL_TOKENS) :])
        return (*(name.encode() for name in SPECIAL_TOKENS), *ordinary)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, special tokens by their name; bytes that are not UTF-8 become U+FFFD."""
        table = self.token_bytes
        return b"".join(table[i] for i in ids).decode("utf-8", errors="replace")

    def stream(self) -> "TextStream":
        """A decoder that takes one token at a time."""
        return TextStream(self.token_bytes)

    def describe(self) -> dict[str, Any]:
        """The contents of `tokenizer.json`."""
        described: dict[str, Any] = json.loads(self._with_markup.to_str())
        return described

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`, in the format of the `tokenizers` library.

        Raises:
            DiskFull, RunError: it cannot be written.
        """
        write_text(path, self._with_markup.to_str(pretty=True))

    def save_for_chat(self, folder: Path) -> None:
        """Write `tokenizer.json`, and the chat template beside it.

        Raises:
            DiskFull, RunError: they cannot be written.
        """
        self.save(folder / "tokenizer.json")
        write_text(folder / CHAT_TEMPLATE_FILE, CHAT_TEMPLATE)

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read what `save` wrote.

        Raises:
            CheckpointError: missing, corrupt, or without this project's special tokens.
        """
        try:
            core = tokenizers.Tokenizer.from_str(read_sealed(path).decode("utf-8"))
        except CheckpointError:
            raise
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(
                f"cannot read the tokenizer {path}: {error}",
                where=str(path),
                fix="choose another run, or copy the file anew from where the model came from",
            ) from error
        if [core.token_to_id(token) for token in SPECIAL_TOKENS] != list(range(len(SPECIAL_TOKENS))):
            raise CheckpointError(
                f"{path} is a tokenizer of another project: its first tokens are not {' '.join(SPECIAL_TOKENS)}",
                where=str(path),
                fix="choose a model folder that omnictl wrote",
            )
        problem = _vocabulary_problem(core)
        if problem is None and not is_sealed(path.parent):  # else checksums say that it is as it was written
            problem = _order_problem(core)
        if problem is not None:
            raise CheckpointError(f"{path} is damaged: {problem}", where=str(path), fix="restore the file from where it came")
        return cls(core)


class TextStream:
    """Turns tokens into text as they come. A character appears once its last byte has."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that this token completes, often its own, "" in the middle of a character."""
        return self._decoder.decode(self._token_bytes[token_id])


def split_for_encoding(text: str) -> Iterator[str]:
    """Cut a long text where no token can cross, so that its pieces encode to the same ids as the whole.

    The pieces have about 100,000 characters, or more where the text has no white space: encoding takes a hundred bytes
    of memory a character.
    """
    start = 0
    while len(text) - start > _PIECE_CHARACTERS and (cut := _SAFE_CUT.search(text, start + _PIECE_CHARACTERS)):
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def name_bytes(text: bytes) -> str:
    """The name that some bytes have in the alphabet of a byte-level BPE."""
    character_of = {byte: character for character, byte in _byte_of_character().items()}
    return "".join(character_of[byte] for byte in text)


def _vocabulary_problem(core: tokenizers.Tokenizer) -> str | None:
    """Why no text can be made of some ids of a vocabulary, None if it can."""
    names = core.get_vocab()
    if sorted(names.values()) != list(range(len(names))):
        return f"its {len(names):,} tokens do not have the ids 0 to {len(names) - 1:,}"
    if core.pre_tokenizer is None:
        return None
    alphabet = {*_byte_of_character()}
    odd = next((name for name in names if name not in SPECIAL_TOKENS and not alphabet.issuperset(name)), None)
    return None if odd is None else f"its token {odd!r} has characters that stand for no byte"


def _order_problem(core: tokenizers.Tokenizer) -> str | None:
    """Why a vocabulary is none that this module has learned, None if it is: its order follows from its characters and merges."""
    vocabulary = core.get_vocab()
    ordinary = sorted(vocabulary, key=vocabulary.__getitem__)[len(SPECIAL_TOKENS) :]
    merges = [tuple(pair) for pair in json.loads(core.to_str())["model"]["merges"]]
    if core.pre_tokenizer is None:
        expected = sorted(ordinary)
    else:
        expected = list(dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)]))
    if ordinary == expected:
        return None
    pairs = enumerate(zip(ordinary, expected, strict=False))
    first = next((n for n, (one, other) in pairs if one != other), min(len(ordinary), len(expected)))
    return f"token {len(SPECIAL_TOKENS) + first:,} is not the one that follows from its alphabet and merges"


def _byte_of_character() -> dict[str, int]:
    """The byte behind each character of the BPE's alphabet: printable Latin-1 as it is, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
