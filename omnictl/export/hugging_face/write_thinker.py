"""The Thinker as a Hugging Face folder that `transformers` and what builds on it load as `Qwen3ForCausalLM`.

config.json  generation_config.json  model.safetensors  tokenizer.json  tokenizer_config.json  chat_template.jinja  README.md
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers.processors import TemplateProcessing

from omnictl.data.dialogues.chat_template import ChatTemplate, Message
from omnictl.data.text.tokenizer import CHAT_TEMPLATE, CHAT_TEMPLATE_FILE, END, IM_END, IM_START, PAD, SPECIAL_TOKENS, UNK
from omnictl.errors import ExportError
from omnictl.export.agreement import (
    NUM_SEQUENCES,
    SEQUENCE_TOKENS,
    Agreement,
    compare,
    compare_choices,
    room,
    sample_prompts,
    sample_sequences,
    scale_of,
    score,
)
from omnictl.export.extras import require_transformers
from omnictl.export.thinker import ThinkerExport
from omnictl.models.qwen3 import check_is_qwen3, qwen3_config, qwen3_state_dict
from omnictl.runs.files import write_json, write_text
from omnictl.trainer.checkpoint import plain_state_dict, save_tensors

TOLERANCE = 1e-4
"""Of scores in fp32, times the largest of them."""

MAX_REPLY = 128

TEXTS = (
    "There is a small red circle on the left.",
    "  Two  spaces,\ta tab\n\nand lines; don't count 1234567890!",
    "Ünïcode: naïve café, Ελλάδα, 日本語, 🙂.",
    "<|im_start|> is markup, <|end|> too",
)
"""Both tokenizers must read these alike, the last one without its markup."""

CONVERSATION = (
    Message("user", ("What is in the garden?",)),
    Message("assistant", ("A stone.",)),
    Message("user", ("Is it blue?",)),
)


def write_hugging_face(export: ThinkerExport, folder: Path, where: str) -> list[Agreement]:
    """Write a Thinker in the format of `transformers`, load it from there, and compare.

    Args:
        export: the Thinker.
        folder: exists; takes the files.
        where: the run, for errors.

    Raises:
        ConfigError: the Thinker has what Qwen3 has not.
        ExportError: what `transformers` loads differs from the run.
        UsageError: `transformers` is not installed.
        DiskFull, RunError: it cannot be written.
    """
    check_is_qwen3(export.thinker.config, where)
    transformers = require_transformers()
    write_thinker_files(export, folder)
    return [
        *compare_tokenizer(transformers.AutoTokenizer.from_pretrained(folder), export),
        *_compare_model(transformers, export, folder),
    ]


def write_thinker_files(export: ThinkerExport, folder: Path) -> None:
    """Write config, weights and tokenizer.

    Raises:
        DiskFull, RunError: they cannot be written.
    """
    thinker = export.thinker
    stops = stop_tokens(chats=export.chats)
    described = qwen3_config(thinker.config, export.tokenizer.vocab_size)
    write_json(folder / "config.json", {**described, "dtype": "float32", **stops})
    length = min(MAX_REPLY, thinker.config.context // 2)
    sampling = {"do_sample": False} if export.chats else {"do_sample": True, "temperature": 0.7, "top_p": 0.95}
    write_json(folder / "generation_config.json", {**stops, "max_new_tokens": length, **sampling})
    save_tensors(qwen3_state_dict(plain_state_dict(thinker)), folder / "model.safetensors", {"format": "pt"})
    write_tokenizer(export, folder)


def stop_tokens(*, chats: bool) -> dict[str, Any]:
    """The ids that begin, end and fill up a text, as configs name them."""
    return {"bos_token_id": END, "eos_token_id": [END, IM_START, IM_END] if chats else [END], "pad_token_id": PAD}


def write_tokenizer(export: ThinkerExport, folder: Path) -> None:
    """Write the tokenizer as `transformers` reads it; a text begins with `<|end|>` there, as in training.

    Raises:
        DiskFull, RunError: it cannot be written.
    """
    tokenizer = export.tokenizer
    tokenizer.save(folder / "tokenizer.json")
    core = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    begin = SPECIAL_TOKENS[END]
    core.post_processor = TemplateProcessing(single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, END)])
    write_text(folder / "tokenizer.json", core.to_str(pretty=True))
    described: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": begin,
        "eos_token": SPECIAL_TOKENS[IM_END if export.chats else END],
        "pad_token": SPECIAL_TOKENS[PAD],
        "model_max_length": export.thinker.config.context,
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": list(SPECIAL_TOKENS),
    }
    if tokenizer.kind == "char":
        described["unk_token"] = SPECIAL_TOKENS[UNK]
    if export.chats:
        described["chat_template"] = CHAT_TEMPLATE
        write_text(folder / CHAT_TEMPLATE_FILE, CHAT_TEMPLATE)
    write_json(folder / "tokenizer_config.json", described)


def compare_tokenizer(theirs: Any, export: ThinkerExport) -> list[Agreement]:
    """Token ids of texts, and of a conversation if the model converses; `theirs` is the tokenizer of an export."""
    own = export.tokenizer
    agreements = [
        _compare_ids(
            "token ids",
            [theirs(text)["input_ids"] for text in TEXTS[:-1]]
            + [theirs(text, split_special_tokens=True)["input_ids"] for text in TEXTS[-1:]],
            [[END, *own.encode(text, markup=False)] for text in TEXTS],
        )
    ]
    if export.chats:
        turns = [{"role": message.role, "content": message.text} for message in CONVERSATION]
        ids = theirs.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
        expected = ChatTemplate(own).prompt(CONVERSATION, lambda _: 0).tokens
        agreements.append(_compare_ids("token ids of a conversation", [ids], [expected]))
    return agreements


def _compare_ids(what: str, found: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> Agreement:
    for text, (one, other) in enumerate(zip(found, expected, strict=True)):
        if list(one) != list(other):
            raise ExportError(
                f"{what}: the export's tokenizer reads text {text} as {list(one)}, the run's as {list(other)}",
                where="tokenizer.json",
                fix="nothing was written; use the version of `transformers` that pyproject.toml names",
            )
    return Agreement(what, sum(map(len, expected)), 0.0, 0.0)


def _compare_model(transformers: Any, export: ThinkerExport, folder: Path) -> list[Agreement]:
    """Scores of sequences, and greedy texts."""
    thinker = export.thinker
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    vocab_size, context = export.tokenizer.vocab_size, thinker.config.context
    sequences = sample_sequences(vocab_size, context, number=NUM_SEQUENCES, length=SEQUENCE_TOKENS)
    expected = score(thinker, sequences)
    allowed = TOLERANCE * scale_of(expected)
    with torch.no_grad():
        logits = compare("logits in transformers", model(sequences).logits, expected, allowed=allowed)
    model.generation_config = transformers.GenerationConfig(do_sample=False, pad_token_id=PAD)  # without a token that ends texts
    prompts = sample_prompts(thinker)
    number = room(thinker, prompts)
    ids = torch.tensor(prompts)
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=number)[:, ids.shape[1] :]
    greedy = compare_choices("greedy text in transformers", thinker, prompts, written.tolist(), tie=allowed)
    return [logits, greedy]
