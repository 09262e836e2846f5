"""A Qwen3 of another project as a Thinker: the same scores for the same text, and an error for whatever does not fit."""

import json
import shutil
from pathlib import Path

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from omnictl.data.text.foreign_tokenizer import read_foreign_tokenizer
from omnictl.data.text.tokenizer import SPECIAL_TOKENS
from omnictl.errors import CheckpointError, RunError
from omnictl.models.thinker import Thinker
from omnictl.pipeline import initial_weights
from omnictl.pipeline.initial_weights import find_initial_weights
from omnictl.runs.model_folder import read_config
from omnictl.runs.run import Run
from omnictl.stages.pretrain import PretrainConfig
from omnictl.trainer.checkpoint import load_weights

TEXT = "the cat sat on the mat, the dog didn't; 1234 cats and dogs sat <tool_call> there\n\nnaïve 🙂"
PADDED = 320


def foreign_tokenizer() -> tokenizers.Tokenizer:
    """A small one that is built as Qwen's are: its own word boundaries, special tokens last."""
    core = tokenizers.Tokenizer(models.BPE())
    core.normalizer = normalizers.NFC()
    words = tokenizers.Regex(r"""[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+""")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    core.train_from_iterator([TEXT.replace("<tool_call>", "")], trainer)
    core.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>"])
    core.add_tokens([AddedToken("<tool_call>", normalized=False)])
    return core


@pytest.fixture(scope="module")
def foreign_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `transformers` writes it, not to be changed."""
    from transformers import Qwen3Config, Qwen3ForCausalLM  # slow: not for each process that collects tests

    folder = tmp_path_factory.mktemp("foreign") / "qwen"
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=PADDED,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    foreign_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def folder(foreign_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(foreign_folder, tmp_path / "qwen"))


def test_ordinary_text_is_cut_as_before(foreign_folder: Path) -> None:
    theirs, (own, origins) = foreign_tokenizer(), read_foreign_tokenizer(foreign_folder / "tokenizer.json")
    for text in (TEXT.replace("<tool_call>", "tool"), "  spaces \t and lines\n \n"):
        ids = own.encode(text, markup=False)
        assert [origins[number] for number in ids] == theirs.encode(text).ids
        assert own.decode(ids) == text
    assert [own.encode(token, markup=True) for token in SPECIAL_TOKENS] == [[number] for number in range(8)]
    assert origins[:8] == [theirs.token_to_id(name) if name else None for name in QWEN_NAMES]
    assert sorted(number for number in origins if number is not None) == list(range(theirs.get_vocab_size()))


QWEN_NAMES = ("<|endoftext|>", None, "<|im_start|>", "<|im_end|>", "<|image_pad|>", None, None, None)


def test_what_is_a_token_elsewhere_cannot_be_forged_but_read(foreign_folder: Path) -> None:
    own, origins = read_foreign_tokenizer(foreign_folder / "tokenizer.json")
    number = origins.index(foreign_tokenizer().token_to_id("<tool_call>"))
    assert number not in own.encode("<tool_call>", markup=True)
    assert own.decode([number]) == "<tool_call>"


def test_the_same_scores_for_the_same_text(foreign_folder: Path, tmp_path: Path) -> None:
    from transformers import Qwen3ForCausalLM

    told: list[str] = []
    run, settings = find_initial_weights(tmp_path, "pretrain", str(foreign_folder), told.append)
    config = read_config(run.model, "pretrain", PretrainConfig)
    assert {"model.layers=2", "model.rope_theta=10000.0", "data.vocab_size=289", 'data.tokenizer="bpe"'} <= set(settings)
    own, origins = read_foreign_tokenizer(run.model / "tokenizer.json")
    thinker = Thinker(config.model, own.vocab_size).eval()
    load_weights(run.model / "model.safetensors", thinker)
    ids = own.encode(TEXT.replace("<tool_call>", ""), markup=False)
    _, first_origins = read_foreign_tokenizer(foreign_folder / "tokenizer.json")
    theirs = Qwen3ForCausalLM.from_pretrained(foreign_folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(torch.tensor([[first_origins[number] for number in ids]])).logits[0]
        got = thinker.logits(thinker(torch.tensor([ids])).hidden)[0]
    known = [number for number, origin in enumerate(first_origins) if origin is not None]
    assert expected.std() > 0.1
    torch.testing.assert_close(got[:, known], expected[:, [first_origins[number] for number in known]], atol=1e-4, rtol=0)
    assert origins == [*range(own.vocab_size)]  # nothing is left to be changed
    assert run.record()["status"] == "finished"
    assert "new tokens, embedded as the average: <|pad|> <|audio|> <|speech|> <|unk|>" in told[0]
    assert "35 embeddings that belong to no token are left out" in told[0]
    again = find_initial_weights(tmp_path, "pretrain", str(foreign_folder), told.append)
    assert again.run == run
    assert told[1] == f"imported before: {run.path}"
    run.update(status="running")  # as after a kill within an import
    assert find_initial_weights(tmp_path, "pretrain", str(foreign_folder), told.append).run != run


def test_an_import_that_is_interrupted_leaves_nothing(
    foreign_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(initial_weights, "keep_weights", interrupt)
    with pytest.raises(KeyboardInterrupt):
        find_initial_weights(tmp_path, "pretrain", str(foreign_folder), lambda _: None)
    assert list(tmp_path.glob("*/*")) == []


def test_weights_in_several_files(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    for file, some in parts.items():
        save_file({name: tensors[name] for name in some}, folder / file)
    weight_map = {name: file for file, some in parts.items() for name in some}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    run = find_initial_weights(tmp_path / "runs", "pretrain", str(folder), lambda _: None).run
    assert len(load_file(run.model / "model.safetensors")) == len(tensors)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no model-00002"):
        find_initial_weights(tmp_path / "runs", "pretrain", str(folder), lambda _: None)


def test_a_wrong_tensor_leaves_no_run(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(32)
    del tensors["model.layers.1.self_attn.k_norm.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        find_initial_weights(tmp_path / "runs", "pretrain", str(folder), lambda _: None)
    assert caught.value.message.splitlines()[1:] == [
        "model.layers.0.self_attn.q_proj.bias: left over, 32",
        "model.layers.1.self_attn.k_norm.weight: missing, expected 8",
    ]
    assert not (tmp_path / "runs").exists()


def test_other_tokenizers_are_refused(folder: Path, tmp_path: Path) -> None:
    words = tokenizers.Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="of kind WordLevel after Whitespace, expected BPE after ByteLevel"):
        find_initial_weights(tmp_path / "runs", "pretrain", str(folder), lambda _: None)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot read the tokenizer"):
        find_initial_weights(tmp_path / "runs", "pretrain", str(folder), lambda _: None)


def test_other_stages_take_runs_alone(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run '.*qwen' of stage `asr`"):
        find_initial_weights(tmp_path, "asr", str(folder), lambda _: None)


def test_a_run_is_taken_as_it_is(foreign_folder: Path, tmp_path: Path) -> None:
    imported = find_initial_weights(tmp_path, "pretrain", str(foreign_folder), lambda _: None).run
    assert find_initial_weights(tmp_path, "pretrain", "latest", lambda _: None) == (Run(imported.path), [])
