"""Low-rank updates apart from their Thinker; `peft` and `transformers` are the reference, and are imported late."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from omnictl.errors import ExportError, UsageError
from omnictl.export import agreement
from omnictl.export.hugging_face import write_adapter as write_adapter_module
from omnictl.export.hugging_face.write_adapter import write_adapter
from omnictl.export.thinker import ThinkerExport, merge_updates
from omnictl.nn.lora import adapt, updates_of


@pytest.fixture
def updated(export: ThinkerExport, monkeypatch: pytest.MonkeyPatch) -> ThinkerExport:
    """A Thinker with updates that change much."""
    monkeypatch.setattr(agreement, "NUM_PROMPTS", 2)
    adapt(export.thinker, 3, 12.0)
    for update in updates_of(export.thinker).values():
        nn.init.normal_(update.up, std=0.1)
    return export


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_peft_puts_them_together_again(updated: ThinkerExport, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    agreements = write_adapter(updated, tmp_path, "run")
    assert agreements[-1].what == "logits with the updates in peft"
    described = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (described["r"], described["lora_alpha"]) == (3, 12.0)
    assert described["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    whole = PeftModel.from_pretrained(base, tmp_path).merge_and_unload()
    tokens = torch.randint(250, (1, 20))
    merge_updates(updated.thinker)
    with torch.no_grad():
        torch.testing.assert_close(
            whole(tokens).logits, updated.thinker.logits(updated.thinker(tokens).hidden), atol=1e-4, rtol=1e-4
        )


def test_they_are_small_and_the_base_is_without_them(updated: ThinkerExport, tmp_path: Path) -> None:
    frozen = updated.thinker.blocks[0].attention.q_proj.parametrizations.weight.original
    write_adapter(updated, tmp_path, "run")
    base = load_file(tmp_path / "base" / "model.safetensors")
    assert torch.equal(base["model.layers.0.self_attn.q_proj.weight"], frozen)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert len(tensors) == 2 * len(updates_of(updated.thinker))
    assert all(3 in tensor.shape for tensor in tensors.values())


def test_a_difference_is_an_error(updated: ThinkerExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = write_adapter_module.write_json
    monkeypatch.setattr(write_adapter_module, "write_json", lambda path, value: really(path, {**value, "lora_alpha": 6.0}))
    with pytest.raises(ExportError, match="logits with the updates in peft: the export differs from the run by up to"):
        write_adapter(updated, tmp_path, "run")


def test_a_thinker_without_updates_is_refused(export: ThinkerExport, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the Thinker of run has no low-rank updates: all of it was trained") as caught:
        write_adapter(export, tmp_path, "run")
    assert caught.value.fix == "export it whole, --to hf; or train some: omnictl sft --set model.lora_rank=8"
    assert not list(tmp_path.iterdir())
