"""Documents as token ids on disk: encoded once, then memory-mapped by every run that asks for the same.

A store is a folder of the cache with `tokens.bin`, `bounds.bin` and `meta.json`, named by the fingerprints of corpus and
tokenizer.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnictl.config.split import Split
from omnictl.data.manifest.cache import flush, read_or_build
from omnictl.data.manifest.contents import DataContents
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.text.corpus import Corpus
from omnictl.data.text.tokenizer import END, Tokenizer, split_for_encoding

_FORMAT = 1
_BATCH_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class TokenStore:
    """The tokens of a split.

    `tokens[bounds[d] : bounds[d + 1]]` is document d with its closing `<|end|>`. One more `<|end|>` stands at the very
    front, so `tokens[bounds[d] - 1]` is the one that precedes it, and predicting document d means to tell each token of
    that range from the one before.
    """

    split: Split
    tokens: NDArray[Any]
    """Memory-mapped uint16 or uint32."""
    bounds: NDArray[np.int64]
    """(number of documents + 1,)"""
    num_bytes: int
    """UTF-8 bytes of all documents."""

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return len(self.bounds) - 1

    @property
    def num_predictions(self) -> int:
        """Tokens to predict: those of the documents and one end for each."""
        return len(self.tokens) - 1


def open_store(corpus: Corpus, split: Split, tokenizer: Tokenizer, cache: Path) -> TokenStore:
    """The tokens of a split of a corpus, encoded now if the cache does not have them or has them damaged.

    Raises:
        DataError: the corpus cannot be read, or the cache cannot be written.
        DiskFull: no space left for it; what was written is removed.
    """
    folder = cache / "tokens" / f"{corpus.fingerprint[:24]}-{tokenizer.fingerprint[:24]}-{split}"
    return read_or_build(folder, partial(_read, split=split), partial(_write, corpus, split, tokenizer))


class TokenStores(NamedTuple):
    """The data of a stage of text: a corpus in tokens. None of it is set aside, as text that cannot be read is an error at once."""

    corpus: Corpus
    tokenizer: Tokenizer
    cache: Path

    @property
    def quarantine(self) -> Sequence[BrokenRow]:
        """Always empty."""
        return ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the text and how it is split."""
        return self.corpus.fingerprint

    @property
    def contents(self) -> DataContents:
        """How many documents it has."""
        sizes = {split: self.split(split).num_documents for split in ("train", "val")}
        return DataContents(self.fingerprint, sizes, 0)

    def split(self, split: Split) -> TokenStore:
        """The tokens of a split; raises as `open_store`."""
        return open_store(self.corpus, split, self.tokenizer, self.cache)


def first_documents(store: TokenStore, count: int, tokenizer: Tokenizer) -> TokenStore:
    """The store of only the first `count` documents."""
    tokens = store.tokens[: store.bounds[count]]
    num_bytes = sum(len(tokenizer.token_bytes[token]) for token in tokens.tolist() if token != END)
    return replace(store, tokens=tokens, bounds=store.bounds[: count + 1], num_bytes=num_bytes)


def _read(folder: Path, split: Split) -> TokenStore | None:
    """The store, None if it is missing or not as it was written."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in ("tokens.bin", "bounds.bin")}
    except (OSError, ValueError):
        return None
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT or meta["sizes"] != sizes:
        return None
    return TokenStore(
        split=split,
        tokens=np.memmap(folder / "tokens.bin", dtype=meta["dtype"], mode="r"),
        bounds=np.fromfile(folder / "bounds.bin", dtype=np.int64),
        num_bytes=meta["num_bytes"],
    )


def _write(corpus: Corpus, split: Split, tokenizer: Tokenizer, folder: Path) -> None:
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
    num_tokens, num_bytes = 1, 0
    bounds = [num_tokens]
    with (folder / "tokens.bin").open("wb") as file:
        file.write(np.array([END], dtype).tobytes())
        for batch in _batches(_pieces(corpus.documents(split))):
            encoded = tokenizer.encode_batch([piece.text for piece in batch], markup=corpus.markup)
            for ids, piece in zip(encoded, batch, strict=True):
                if piece.is_last:
                    ids.append(END)
                num_tokens += len(ids)
                num_bytes += len(piece.text.encode())
                if piece.is_last:
                    bounds.append(num_tokens)
                file.write(np.array(ids, dtype).tobytes())
        flush(file)
    with (folder / "bounds.bin").open("wb") as file:
        file.write(np.array(bounds, np.int64).tobytes())
        flush(file)
    sizes = {"tokens.bin": num_tokens * dtype.itemsize, "bounds.bin": len(bounds) * 8}
    meta = {"format": _FORMAT, "dtype": dtype.name, "num_bytes": num_bytes, "sizes": sizes}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


class _Piece(NamedTuple):
    text: str
    is_last: bool


def _pieces(documents: Iterator[str]) -> Iterator[_Piece]:
    for document in documents:
        *first, last = split_for_encoding(document)
        yield from (_Piece(text, is_last=False) for text in first)
        yield _Piece(last, is_last=True)


def _batches(pieces: Iterator[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces in batches of about a million characters, which bounds the memory of encoding them."""
    batch: list[_Piece] = []
    num_characters = 0
    for piece in pieces:
        batch.append(piece)
        num_characters += len(piece.text)
        if num_characters >= _BATCH_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch
