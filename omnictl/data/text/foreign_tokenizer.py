"""The tokenizer of another project as one of this: a byte-level BPE whose special tokens get the first ids.

Merges, pre-tokeniser and normaliser stay, so ordinary text is cut as before; only ids change. What else the other project marks by
a token of its own (`<tool_call>` and the like) keeps its embedding and can be written, but is plain characters when it is read.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers

from omnictl.data.text.tokenizer import SPECIAL_TOKENS, Tokenizer, name_bytes
from omnictl.errors import CheckpointError
from omnictl.regular_files import read_regular

_OTHER_NAMES = {"<|end|>": "<|endoftext|>", "<|image|>": "<|image_pad|>", "<|audio|>": "<|audio_pad|>"}
"""What Qwen's tokenizers call some special tokens; the others have the same name or are not there."""


class ForeignTokenizer(NamedTuple):
    """A tokenizer with new ids."""

    tokenizer: Tokenizer
    origins: list[int | None]
    """The id that each token had; None of special tokens that it had not."""


def read_foreign_tokenizer(path: Path) -> ForeignTokenizer:
    """Read a `tokenizer.json` of any project that uses byte-level BPE, or of this one.

    Raises:
        CheckpointError: it is missing, corrupt, or of another kind.
    """
    try:
        core = tokenizers.Tokenizer.from_str(read_regular(path).decode("utf-8"))
        described: dict[str, Any] = json.loads(core.to_str())
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(
            f"cannot read the tokenizer {path}: {error}",
            where=str(path),
            fix="copy the file anew from where the model came from",
        ) from error
    described["post_processor"] = None  # it would add tokens by their old ids; no text gets any here
    if [core.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS))):
        return ForeignTokenizer(_build(described), [*range(core.get_vocab_size())])
    _check_kind(described, path)
    names = dict(sorted(((number, name) for name, number in core.get_vocab().items())))
    ids = {name: number for number, name in names.items()}
    origins = [ids.get(token, ids.get(_OTHER_NAMES.get(token, ""))) for token in SPECIAL_TOKENS]
    ordinary = [number for number in names if number not in origins]
    added = {token["id"] for token in described["added_tokens"]}
    renamed = [name_bytes(names[number].encode()) if number in added else names[number] for number in ordinary]
    vocabulary = {name: number for number, name in enumerate([*SPECIAL_TOKENS, *renamed])}
    if len(vocabulary) < len(SPECIAL_TOKENS) + len(renamed):
        raise CheckpointError(f"two tokens of {path} have the same name in bytes", where=str(path), fix="use another tokenizer")
    described["model"]["vocab"] = vocabulary
    described["added_tokens"] = [
        {"id": number, "content": token, **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False), "special": True}
        for number, token in enumerate(SPECIAL_TOKENS)
    ]
    return ForeignTokenizer(_build(described), [*origins, *ordinary])


def _build(described: dict[str, Any]) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(described)))


def _check_kind(described: dict[str, Any], path: Path) -> None:
    """Refuse what is not byte-level BPE.

    Raises:
        CheckpointError: it is another kind; what it is, is said.
    """
    kind = described["model"].get("type")
    before = described["pre_tokenizer"] or {}
    steps = [step["type"] for step in before.get("pretokenizers", [before]) if step]
    if kind != "BPE" or "ByteLevel" not in steps or described["model"].get("byte_fallback"):
        raise CheckpointError(
            f"{path} is a tokenizer of kind {kind} after {' and '.join(steps) or 'no pre-tokeniser'}, "
            "expected BPE after ByteLevel, as Qwen's are",
            where=str(path),
            fix="name a model with such a tokenizer, or train a Thinker from scratch",
        )
