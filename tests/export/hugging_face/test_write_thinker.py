"""The Thinker in the format of `transformers`, which is imported late: not by each process that collects tests."""

import json
import sys
from pathlib import Path

import pytest
import torch

from omnictl.data.text.tokenizer import END, Tokenizer
from omnictl.errors import ConfigError, ExportError, UsageError
from omnictl.export.hugging_face import write_thinker
from omnictl.export.hugging_face.write_thinker import write_hugging_face
from omnictl.export.targets import ExportSettings, export_model
from omnictl.export.thinker import ThinkerExport, merge_updates
from omnictl.models.thinker import Thinker
from omnictl.nn.lora import adapt
from omnictl.pipeline.initial_weights import find_initial_weights
from omnictl.runs.run import Run


def test_a_run_as_a_folder_and_back(run: Run, settings: ExportSettings, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    out = tmp_path / "exported"
    exported = export_model("hf", run.model, out, settings)
    assert {one.what for one in exported.agreements} == {
        "token ids",
        "token ids of a conversation",
        "logits in transformers",
        "greedy text in transformers",
    }
    assert {path.name for path in out.iterdir()} == set(exported.files)
    assert not list(tmp_path.glob(".exported*"))
    theirs, own = AutoTokenizer.from_pretrained(out), Tokenizer.load(run.model / "tokenizer.json")
    assert theirs("A red circle.")["input_ids"] == [END, *own.encode("A red circle.", markup=False)]
    assert theirs.decode(own.encode("A  red\ncircle, 🙂.", markup=False)) == "A  red\ncircle, 🙂."
    generation = json.loads((out / "generation_config.json").read_text())
    assert (generation["eos_token_id"], generation["do_sample"]) == ([0, 2, 3], False)
    card = (out / "README.md").read_text()
    for part in (
        "license: apache-2.0",
        "| `perplexity` | 7.5 | 7 to 8 | 40 | 90 (`perplexity_unigram`) |",
        "**learned**",
        "built-in world",
    ):
        assert part in card
    imported = find_initial_weights(tmp_path / "runs", "pretrain", str(out), lambda _: None).run
    for name in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
        assert (imported.model / name).read_bytes() == (run.model / name).read_bytes()


def test_one_token_a_character(export: ThinkerExport, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = Tokenizer.train_char(["abc défg. \n"])
    thinker = Thinker(export.thinker.config, tokenizer.vocab_size).eval()
    write_hugging_face(ThinkerExport(thinker, tokenizer, chats=False), tmp_path, "run")
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("dé🙂")["input_ids"] == [END, *tokenizer.encode("dé🙂", markup=False)]
    assert theirs.chat_template is None


def test_a_difference_is_an_error_and_nothing_is_left(
    run: Run, settings: ExportSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = write_thinker.qwen3_config
    monkeypatch.setattr(write_thinker, "qwen3_config", lambda *given: {**really(*given), "rms_norm_eps": 0.5})
    with pytest.raises(ExportError, match=r"logits in transformers: the export differs from the run by up to \d") as caught:
        export_model("hf", run.model, tmp_path / "out", settings)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_low_rank_updates_are_merged(export: ThinkerExport, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    adapt(export.thinker, 2, 8.0)
    for name, parameter in export.thinker.named_parameters():
        if name.endswith("up"):
            torch.nn.init.normal_(parameter, std=0.1)
    tokens = torch.randint(250, (1, 20))
    with torch.no_grad():
        expected = export.thinker.logits(export.thinker(tokens).hidden)
    merge_updates(export.thinker)
    write_hugging_face(export, tmp_path, "run")
    with torch.no_grad():
        got = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(tokens).logits
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_exported_is_named(export: ThinkerExport, tmp_path: Path) -> None:
    config = export.thinker.config.model_copy(update={"kv_shift": True, "experts": 4})
    thinker = Thinker(config, export.tokenizer.vocab_size)
    with pytest.raises(ConfigError) as caught:
        write_hugging_face(export._replace(thinker=thinker), tmp_path, "runs/a")
    assert caught.value.where == "runs/a"
    assert "model.kv_shift=True" in caught.value.message
    assert "model.experts=4" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_named(export: ThinkerExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match="needs the Python package `transformers`") as caught:
        write_hugging_face(export, tmp_path, "run")
    assert caught.value.fix == "pip install 'omnictl[export]'"


def test_a_folder_with_something_in_it_is_kept(run: Run, settings: ExportSettings, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="out is not empty"):
        export_model("hf", run.model, tmp_path / "out", settings)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_other_stages_have_no_thinker(settings: ExportSettings, tmp_path: Path) -> None:
    from stage_factory import finished_run

    with pytest.raises(UsageError, match="a model of stage `asr`, which has no Thinker"):
        export_model("hf", finished_run(tmp_path / "runs", "asr").model, tmp_path / "out", settings)
