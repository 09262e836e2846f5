"""The Thinker as a GGUF file, which llama.cpp and all that builds on it run.

Matrices in F32, F16, Q8_0, Q4_0 or Q4_K, norms in F32. The embeddings are the output head too, and stay in Q8_0 where the others
have four bits. Other formats are llama.cpp's own: `llama-quantize` makes them of an F16 file.
"""

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omnictl.data.text.tokenizer import CHAT_TEMPLATE, END, IM_END, PAD, SPECIAL_TOKENS, Tokenizer
from omnictl.errors import ConfigError, ExportError
from omnictl.export import Quantisation
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
    write_greedily,
)
from omnictl.export.extras import require
from omnictl.export.gguf import q4_k
from omnictl.export.thinker import ThinkerExport
from omnictl.models.qwen3 import check_is_qwen3, qwen3_state_dict, thinker_state_dict
from omnictl.models.thinker import Thinker
from omnictl.trainer.checkpoint import plain_state_dict


class Format(NamedTuple):
    """How numbers are kept, by the names of `gguf`."""

    matrices: str
    embeddings: str
    file_type: str
    block: int
    """Numbers that share a scale; the width of every matrix must be a multiple."""


FORMATS: Mapping[Quantisation, Format] = {
    "f32": Format("F32", "F32", "ALL_F32", 1),
    "f16": Format("F16", "F16", "MOSTLY_F16", 1),
    "q8_0": Format("Q8_0", "Q8_0", "MOSTLY_Q8_0", 32),
    "q4_0": Format("Q4_0", "Q8_0", "MOSTLY_Q4_0", 32),
    "q4_k": Format("Q4_K", "Q8_0", "MOSTLY_Q4_K_S", q4_k.BLOCK),
}

QWEN_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Word boundaries of imported Qwen tokenizers, which llama.cpp knows as `qwen2`."""


class Limits(NamedTuple):
    """How far a file may be from the run."""

    scores: float
    """Times the largest score."""
    tie: float
    """Scores so close, times the largest one, are as good as equal."""
    others: float
    """Share of tokens of greedy texts that may be others."""


LIMITS: Mapping[Quantisation, Limits] = {
    "f32": Limits(1e-4, 1e-4, 0.0),
    "f16": Limits(2e-3, 2e-3, 0.0),
    "q8_0": Limits(0.1, 0.0, 0.05),
    "q4_0": Limits(0.5, 0.0, 0.25),
    "q4_k": Limits(0.5, 0.0, 0.25),
}


def write_gguf(export: ThinkerExport, file: Path, where: str, quantisation: Quantisation, name: str) -> list[Agreement]:
    """Write a Thinker as GGUF, read it again, and compare; with llama-cpp-python installed, also what llama.cpp writes.

    Args:
        export: the Thinker.
        file: to be made.
        where: the run, for errors.
        quantisation: of the matrices.
        name: of the model, for the file's header.

    Raises:
        ConfigError: the Thinker or its tokenizer has what llama.cpp has not.
        ExportError: the file differs from the run.
        UsageError: `gguf` is not installed.
        DiskFull, RunError: it cannot be written.
    """
    config = export.thinker.config
    check_is_qwen3(config, where)
    words = _word_boundaries(export.tokenizer, where)
    _check_widths({config.width, config.hidden}, quantisation, where)
    gguf = require("gguf", "export")
    writer = gguf.GGUFWriter(str(file), "qwen3")
    _add_config(gguf, writer, export.thinker, quantisation, name)
    _add_tokenizer(gguf, writer, export, words)
    _add_tensors(gguf, writer, export.thinker, quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return _compare(gguf, export, file, LIMITS[quantisation])


def _check_widths(widths: set[int], quantisation: Quantisation, where: str) -> None:
    """Refuse matrices that do not consist of whole blocks.

    Raises:
        ConfigError: naming a format that takes them.
    """

    def odd(format_: Format) -> list[int]:
        return sorted(width for width in widths if width % format_.block)

    chosen = FORMATS[quantisation]
    if odd(chosen):
        raise ConfigError(
            f"{chosen.matrices} takes matrices whose width is a multiple of {chosen.block}, "
            f"this Thinker has {', '.join(map(str, odd(chosen)))}",
            where=where,
            fix=f"--quantization {'f16' if odd(FORMATS['q4_0']) else 'q4_0'}",
        )


def _word_boundaries(tokenizer: Tokenizer, where: str) -> str:
    """What llama.cpp calls the way in which a tokenizer cuts text into words.

    Raises:
        ConfigError: it has no such way.
    """
    described = tokenizer.describe()
    before = described["pre_tokenizer"]
    if before is not None and before["type"] == "ByteLevel" and before["use_regex"] and not before["add_prefix_space"]:
        return "gpt-2"
    if before is not None and QWEN_WORDS in json.dumps(before, ensure_ascii=False).replace("\\\\", "\\"):
        return "qwen2"
    kind = "one token a character" if before is None else "other word boundaries than GPT-2's and Qwen's"
    raise ConfigError(
        f"llama.cpp cannot read text as this tokenizer does: {kind}",
        where=where,
        fix="export a Thinker that was trained with --set data.tokenizer=bpe",
    )


def _add_config(gguf: Any, writer: Any, thinker: Thinker, quantisation: Quantisation, name: str) -> None:
    config = thinker.config
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[FORMATS[quantisation].file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(thinker.embedding.weight.shape[0])
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)


def _add_tokenizer(gguf: Any, writer: Any, export: ThinkerExport, words: str) -> None:
    model = export.tokenizer.describe()["model"]
    names = sorted(model["vocab"], key=model["vocab"].__getitem__)
    kinds = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words)
    writer.add_token_list(names)
    writer.add_token_types([kinds.CONTROL if token in SPECIAL_TOKENS else kinds.NORMAL for token in names])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(END)
    writer.add_eos_token_id(IM_END if export.chats else END)
    writer.add_eot_token_id(END)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(value=True)
    if export.chats:
        writer.add_chat_template(CHAT_TEMPLATE)


def _add_tensors(gguf: Any, writer: Any, thinker: Thinker, quantisation: Quantisation) -> None:
    kinds, chosen = gguf.GGMLQuantizationType, FORMATS[quantisation]
    named = _gguf_names(gguf, thinker)
    for name, tensor in qwen3_state_dict(plain_state_dict(thinker)).items():
        values = tensor.float().numpy()
        kind = kinds[_kind_of(name, values, chosen)]
        data = q4_k.quantize(values) if kind is kinds.Q4_K else gguf.quants.quantize(values, kind)
        writer.add_tensor(named(name), data, raw_dtype=kind)


def _kind_of(name: str, values: NDArray[np.float32], chosen: Format) -> str:
    """The number format of a tensor of `Qwen3ForCausalLM`."""
    if values.ndim < 2:
        return "F32"
    return chosen.embeddings if "embed_tokens" in name else chosen.matrices


def _gguf_names(gguf: Any, thinker: Thinker) -> Callable[[str], str]:
    """Gives the name in a GGUF file of a tensor of `Qwen3ForCausalLM`."""
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, thinker.config.layers)

    def name_of(name: str) -> str:
        found = table.get_name(name, try_suffixes=(".weight",))
        assert found is not None, name
        return str(found)

    return name_of


def _compare(gguf: Any, export: ThinkerExport, file: Path, limits: Limits) -> list[Agreement]:
    """The weights that are in the file, what a Thinker with them scores and writes, and what llama.cpp writes."""
    thinker = export.thinker
    twin = read_thinker(gguf, file, thinker)
    sequences = sample_sequences(export.tokenizer.vocab_size, thinker.config.context, number=NUM_SEQUENCES, length=SEQUENCE_TOKENS)
    expected = score(thinker, sequences)
    scale = scale_of(expected)
    prompts = sample_prompts(thinker)
    written = write_greedily(twin, prompts)
    agreements = [
        compare("logits of the file's weights", score(twin, sequences), expected, allowed=limits.scores * scale),
        compare_choices(
            "greedy text of the file's weights", thinker, prompts, written, tie=limits.tie * scale, allowed=limits.others
        ),
    ]
    if find_spec("llama_cpp") is not None:
        agreements += _compare_llama_cpp(export, file, prompts, limits, scale)
    return agreements


def read_thinker(gguf: Any, file: Path, like: Thinker) -> Thinker:
    """A Thinker with the weights of a GGUF file.

    Raises:
        ExportError: the header does not say the shape of `like`.
        CheckpointError: tensors are missing or left over.
    """
    reader = gguf.GGUFReader(str(file))
    config = like.config
    said = {
        name: reader.fields[f"qwen3.{name}"].contents()
        for name in ("block_count", "embedding_length", "context_length", "attention.head_count_kv", "rope.freq_base")
    }
    expected = dict(zip(said, (config.layers, config.width, config.context, config.kv_heads, config.rope_theta), strict=True))
    if said != expected:
        raise ExportError(f"{file.name} says {said}, expected {expected}", where=str(file), fix="use another version of `gguf`")
    named = _gguf_names(gguf, like)
    own_names = {named(name): name for name in qwen3_state_dict(like.state_dict())}
    tensors: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        shape = [int(size) for size in reversed(tensor.shape)]
        tensors[own_names.get(tensor.name, tensor.name)] = torch.from_numpy(np.array(values, np.float32).reshape(shape))
    twin = Thinker(config, like.embedding.weight.shape[0])
    twin.load_state_dict(thinker_state_dict(tensors, twin.state_dict(), str(file)))
    return twin.eval()


def _compare_llama_cpp(
    export: ThinkerExport, file: Path, prompts: list[list[int]], limits: Limits, scale: float
) -> list[Agreement]:
    """Token ids and greedy texts of llama.cpp."""
    llama_cpp = import_module("llama_cpp")
    model = llama_cpp.Llama(model_path=str(file), n_ctx=export.thinker.config.context, n_gpu_layers=0, verbose=False)
    number = room(export.thinker, prompts)
    written = []
    for prompt in prompts:
        model.reset()
        tokens = model.generate(prompt, temp=0.0, repeat_penalty=1.0)
        written.append([int(token) for token, _ in zip(tokens, range(number), strict=False)])
    return [
        compare_choices("greedy text in llama.cpp", export.thinker, prompts, written, tie=limits.tie * scale, allowed=limits.others)
    ]
