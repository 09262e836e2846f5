"""Low-rank updates apart from the Thinker that they update, as the `peft` library loads them.

    adapter_config.json  adapter_model.safetensors  README.md  base/ (the Thinker without them, a Hugging Face folder)

So they can be sent alone to whoever has the base, taken off again, or put together with others; `--to hf` merges them instead.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omnictl.errors import UsageError
from omnictl.export.agreement import NUM_SEQUENCES, SEQUENCE_TOKENS, Agreement, compare, sample_sequences, scale_of, score
from omnictl.export.extras import require, require_transformers
from omnictl.export.hugging_face.write_thinker import TOLERANCE, write_hugging_face
from omnictl.export.thinker import ThinkerExport
from omnictl.models.qwen3 import qwen3_state_dict
from omnictl.models.thinker import Thinker
from omnictl.nn.lora import LowRank, match_updates, updates_of
from omnictl.runs.files import write_json
from omnictl.trainer.checkpoint import save_tensors

BASE = "base"
"""The folder of the Thinker that is updated."""

PREFIX = "base_model.model."
"""In front of the names of tensors, as `peft` has them."""


def write_adapter(export: ThinkerExport, folder: Path, where: str) -> list[Agreement]:
    """Write the updates and the Thinker that they update, load both with `peft`, and compare.

    Args:
        export: a Thinker whose updates are not merged.
        folder: exists; takes the files.
        where: the run, for errors.

    Raises:
        UsageError: it has no updates, or `peft` is not installed.
        ConfigError: the Thinker has what Qwen3 has not.
        ExportError: what `peft` loads differs from the run.
        DiskFull, RunError: it cannot be written.
    """
    updates = updates_of(export.thinker)
    if not updates:
        raise UsageError(
            f"the Thinker of {where} has no low-rank updates: all of it was trained",
            where="--to",
            fix="export it whole, --to hf; or train some: omnictl sft --set model.lora_rank=8",
        )
    peft, transformers = require("peft", "export"), require_transformers()
    base = _merge(export.thinker, 0.0)
    (folder / BASE).mkdir()
    agreements = write_hugging_face(export._replace(thinker=base), folder / BASE, where)
    _write_updates(updates, folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / BASE, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of names that `transformers` has given up and `peft` has not
        tuned = peft.PeftModel.from_pretrained(model, folder).eval()
    return [*agreements, _compare(tuned, export)]


def _merge(thinker: Thinker, alpha: float) -> Thinker:
    """A Thinker with updates of this alpha as a plain one. Taking them off a copy takes them off the original."""
    merged = Thinker(thinker.config, thinker.embedding.weight.shape[0])
    merged.load_state_dict(match_updates(thinker.state_dict(), merged.state_dict(), alpha, alpha))
    return merged.eval()


def _write_updates(updates: Mapping[str, LowRank], folder: Path) -> None:
    their_names = {name: name_ for name in updates for name_ in qwen3_state_dict({f"{name}.weight": torch.empty(0)})}
    tensors: dict[str, Tensor] = {}
    for name, update in updates.items():
        layer = PREFIX + their_names[name].removesuffix(".weight")
        tensors |= {f"{layer}.lora_A.weight": update.down, f"{layer}.lora_B.weight": update.up}
    save_tensors({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    first = next(iter(updates.values()))
    rank = len(first.down)
    described: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": BASE,
        "r": rank,
        "lora_alpha": first.scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.rsplit(".", 2)[-2] for name in their_names.values()}),
        "inference_mode": True,
    }
    write_json(folder / "adapter_config.json", described)


@torch.no_grad()
def _compare(tuned: nn.Module, export: ThinkerExport) -> Agreement:
    """Scores of sequences by the updated base and by the run's own Thinker."""
    update = next(iter(updates_of(export.thinker).values()))
    merged = _merge(export.thinker, update.scale * len(update.down))
    vocab_size, context = export.tokenizer.vocab_size, merged.config.context
    sequences = sample_sequences(vocab_size, context, number=NUM_SEQUENCES, length=SEQUENCE_TOKENS)
    expected = score(merged, sequences)
    return compare("logits with the updates in peft", tuned(sequences).logits, expected, allowed=TOLERANCE * scale_of(expected))
