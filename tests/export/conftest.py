"""Small models to export, with weights that nothing agrees with by accident."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from stage_factory import finished_run
from torch import nn

from omnictl.data.text.tokenizer import Tokenizer
from omnictl.export.targets import ExportSettings
from omnictl.export.thinker import ThinkerExport
from omnictl.models.thinker import Thinker, ThinkerConfig
from omnictl.runs.files import write_json
from omnictl.runs.run import Run
from omnictl.trainer.checkpoint import keep_weights

TEXTS = ["There is a small red circle on the left.", "Two cats sat there; nobody counted 1234567890 of them, ever."]
SHAPE = ThinkerConfig(layers=2, width=32, heads=4, kv_heads=2, hidden=64, context=96)


@pytest.fixture
def settings(tmp_path: Path) -> ExportSettings:
    return ExportSettings("small", tmp_path / "cache")


@pytest.fixture
def export(randomise: Callable[[nn.Module], None]) -> ThinkerExport:
    """A Thinker that knows ChatML."""
    tokenizer = Tokenizer.train_bpe_at_most(TEXTS, 300)
    thinker = Thinker(SHAPE, tokenizer.vocab_size).eval()
    randomise(thinker)
    return ThinkerExport(thinker, tokenizer, chats=True)


@pytest.fixture
def run(tmp_path: Path, randomise: Callable[[nn.Module], None]) -> Run:
    """A finished run of stage A that was evaluated."""
    made = finished_run(tmp_path / "runs", "pretrain")
    vocab_size = Tokenizer.load(made.model / "tokenizer.json").vocab_size
    from omnictl.runs.model_folder import read_config
    from omnictl.stages.pretrain import PretrainConfig

    thinker = Thinker(read_config(made.model, "pretrain", PretrainConfig).model, vocab_size)
    randomise(thinker)
    keep_weights(thinker.state_dict(), made.model)
    (made.evaluations / "test").mkdir(parents=True)
    estimate = {"value": 7.5, "low": 7.0, "high": 8.0, "n": 40, "control": "perplexity_unigram", "control_value": 90.0}
    write_json(
        made.evaluations / "test" / "report.json",
        {
            "verdict": {"word": "learned", "reason": "because"},
            "headline": {"name": "perplexity", "better": "lower"},
            "num_examples": 40,
            "estimates": {"perplexity": estimate},
        },
    )
    torch.manual_seed(0)
    return made
