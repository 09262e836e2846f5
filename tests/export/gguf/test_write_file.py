"""The Thinker as a GGUF file; without llama.cpp here, the `gguf` package's own reader says what is in it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import gguf
import pytest
from torch import nn

from omnictl.data.text.tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS, Tokenizer
from omnictl.errors import ConfigError, ExportError
from omnictl.export import Quantisation, agreement
from omnictl.export.agreement import write_greedily
from omnictl.export.gguf.write_file import FORMATS, LIMITS, Limits, read_thinker, write_gguf
from omnictl.export.targets import ExportSettings, export_model
from omnictl.export.thinker import ThinkerExport
from omnictl.models.thinker import Thinker
from omnictl.runs.run import Run


def test_the_file_says_what_llama_cpp_asks_for(export: ThinkerExport, tmp_path: Path) -> None:
    write_gguf(export, tmp_path / "a.gguf", "run", "f16", "small")
    fields = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / "a.gguf").fields.items()}
    config = export.thinker.config
    assert fields["general.architecture"] == "qwen3"
    assert (fields["qwen3.attention.key_length"], fields["qwen3.rope.freq_base"]) == (config.head_width, config.rope_theta)
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert tokens[:8] == list(SPECIAL_TOKENS)
    assert kinds == [int(gguf.TokenType.CONTROL)] * 8 + [int(gguf.TokenType.NORMAL)] * (len(tokens) - 8)
    ids = [number for merge in fields["tokenizer.ggml.merges"] for number in [tokens.index(merge.replace(" ", "", 1))]]
    assert ids == sorted(ids)  # merged tokens come in the order in which they were learned
    assert (fields["tokenizer.ggml.bos_token_id"], fields["tokenizer.ggml.eos_token_id"]) == (0, 3)
    assert fields["tokenizer.chat_template"] == CHAT_TEMPLATE


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four bits may change all choices: between random weights' scores there is hardly any difference."""
    for quantisation in ("q4_0", "q4_k"):
        monkeypatch.setitem(LIMITS, quantisation, Limits(scores=2.0, tie=0.0, others=1.0))  # type: ignore[misc]


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("quantisation", ["f32", "f16", "q8_0", "q4_0"])
def test_weights_in_every_format(export: ThinkerExport, tmp_path: Path, quantisation: Quantisation) -> None:
    agreements = write_gguf(export, tmp_path / "a.gguf", "run", quantisation, "small")
    assert [one.what for one in agreements] == ["logits of the file's weights", "greedy text of the file's weights"]
    assert kinds_in(tmp_path / "a.gguf") == (FORMATS[quantisation].embeddings, FORMATS[quantisation].matrices, "F32")
    exact = (quantisation == "f32") == (agreements[0].difference == 0)
    assert exact
    twin = read_thinker(gguf, tmp_path / "a.gguf", export.thinker)
    assert (twin.embedding.weight - export.thinker.embedding.weight).abs().max() < 0.01


def kinds_in(file: Path) -> tuple[str, str, str]:
    """The number formats of embeddings, of a matrix and of a norm."""
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}
    return kinds["token_embd.weight"], kinds["blk.0.ffn_down.weight"], kinds["blk.0.attn_q_norm.weight"]


@pytest.mark.usefixtures("lenient")
def test_weights_in_four_bits(
    export: ThinkerExport, tmp_path: Path, randomise: Callable[[nn.Module], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "NUM_PROMPTS", 3)
    wide = Thinker(
        export.thinker.config.model_copy(update={"layers": 1, "width": 256, "hidden": 256}), export.tokenizer.vocab_size
    ).eval()
    randomise(wide)
    write_gguf(export._replace(thinker=wide), tmp_path / "a.gguf", "run", "q4_k", "small")
    assert kinds_in(tmp_path / "a.gguf") == ("Q8_0", "Q4_K", "F32")
    twin = read_thinker(gguf, tmp_path / "a.gguf", wide)
    for name, matrix in wide.blocks[0].named_parameters():
        error = (twin.blocks[0].get_parameter(name) - matrix).square().mean() / matrix.square().mean()
        assert error < 0.1**2


def test_what_does_not_fit_is_named(export: ThinkerExport, tmp_path: Path) -> None:
    narrow = Thinker(export.thinker.config.model_copy(update={"hidden": 40}), export.tokenizer.vocab_size)
    with pytest.raises(ConfigError, match="a multiple of 32, this Thinker has 40") as caught:
        write_gguf(export._replace(thinker=narrow), tmp_path / "a.gguf", "run", "q8_0", "small")
    assert caught.value.fix == "--quantization f16"
    with pytest.raises(ConfigError, match=r"Q4_K takes .* a multiple of 256, this Thinker has 32, 64") as caught:
        write_gguf(export, tmp_path / "a.gguf", "run", "q4_k", "small")
    assert caught.value.fix == "--quantization q4_0"
    letters = Tokenizer.train_char(["abc"])
    with pytest.raises(ConfigError, match="one token a character"):
        write_gguf(export._replace(tokenizer=letters), tmp_path / "a.gguf", "run", "f16", "small")
    assert not list(tmp_path.iterdir())


def test_a_difference_is_an_error(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ExportSettings("small", tmp_path / "cache", quantisation="f16")
    really = gguf.quants.quantize
    monkeypatch.setattr(gguf.quants, "quantize", lambda values, kind: really(values * 1.5, kind))
    with pytest.raises(ExportError, match="logits of the file's weights: the export differs from the run by up to"):
        export_model("gguf", run.model, tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


class Llama:
    """What is used of `llama_cpp.Llama`, with the run's own Thinker behind it."""

    thinker: Thinker
    shift = 0

    def __init__(self, **settings: object) -> None:
        assert settings["n_ctx"] == self.thinker.config.context

    def reset(self) -> None: ...

    def generate(self, tokens: Sequence[int], **sampling: float) -> Iterator[int]:
        assert sampling == {"temp": 0.0, "repeat_penalty": 1.0}
        yield from [token + self.shift for token in write_greedily(self.thinker, [list(tokens)])[0]]


def test_llama_cpp_is_asked_where_it_is_installed(export: ThinkerExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "NUM_PROMPTS", 3)  # one after the other, token by token
    monkeypatch.setattr(Llama, "thinker", export.thinker, raising=False)
    monkeypatch.setitem(sys.modules, "llama_cpp", SimpleNamespace(Llama=Llama, __spec__=SimpleNamespace()))  # type: ignore[arg-type]
    agreements = write_gguf(export, tmp_path / "a.gguf", "run", "f16", "small")
    assert agreements[-1].what == "greedy text in llama.cpp"
    monkeypatch.setattr(Llama, "shift", 1)
    with pytest.raises(ExportError, match=r"greedy text in llama.cpp: \d+ of 192 tokens are not those that the run writes"):
        write_gguf(export, tmp_path / "b.gguf", "run", "f16", "small")
