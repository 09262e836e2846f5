"""The Python API: what the commands do, from a notebook."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stage_factory import finished_run

import omnictl
from omnictl.errors import CheckpointError, UsageError

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
def test_importing_it_costs_no_torch() -> None:
    code = "import sys, omnictl; assert 'torch' not in sys.modules; omnictl.load; assert 'torch' in sys.modules"
    code += "; assert 'torchvision' not in sys.modules"  # two seconds, for images alone
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_it_has_not_is_said_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        omnictl.lode  # noqa: B018


def test_train_evaluate_and_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omnictl.trainer import trainer

    monkeypatch.setattr(trainer, "matmul_rate", lambda device: 1e11)  # timing it takes longer than all the rest
    lines: list[str] = []
    settings = {"train.precision": "fp32", "train.eval_every": 2}
    trained = omnictl.train("pretrain", preset="debug", settings=settings, runs=tmp_path, max_steps=3, tell=lines.append)
    assert (trained.status, trained.steps) == ("finished", 3)
    assert trained.run.parent == tmp_path / "pretrain"
    assert trained.report is not None
    assert any(line.startswith("step 2: perplexity") for line in lines)
    evaluation = omnictl.evaluate(trained.run, limit=4, tell=lines.append)
    assert evaluation.report.num_examples == 4
    assert evaluation.report.verdict is not None
    assert (trained.run / "eval" / "test" / "report.json").is_file()
    model = omnictl.load(trained.run)
    assert model.stage == "pretrain"
    first = model.chat("There is a red circle.", max_tokens=5)
    model.reset()
    assert model.chat("There is a red circle.", max_tokens=5) == first
    with pytest.raises(UsageError, match="a model of stage `pretrain` cannot hear"):
        model.transcribe(EXAMPLES / "question.wav")
    more = omnictl.train(
        "pretrain", preset="debug", settings=settings, init=trained.run, runs=tmp_path, max_steps=1, tell=lines.append
    )
    assert more.run != trained.run


def test_an_omni_model_does_everything(tmp_path: Path) -> None:
    model = omnictl.load(finished_run(tmp_path, "sft").path)
    answer = model.chat("What is it?", images=[EXAMPLES / "scene.png"], audio=EXAMPLES / "question.wav", max_tokens=4)
    assert isinstance(answer, str)
    model.reset()
    assert model.transcribe(EXAMPLES / "question.wav").seconds > 1
    guesses = model.classify(EXAMPLES / "scene.png", most=2)
    assert {"shape", "colour"} <= set(guesses)
    assert all(len(each) == 2 for each in guesses.values())
    speech = model.say("red.")
    assert speech.samples.dtype == np.float32
    assert len(speech.samples) > 0.01 * speech.sample_rate
    assert "stage sft" in repr(model)


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a model folder"):
        omnictl.load(tmp_path)
    with pytest.raises(UsageError, match="there is no stage 'pretrian'"):
        omnictl.train("pretrian")
    with pytest.raises(UsageError, match="`pretrain` has no objective 'dpo'; those that it has: none"):
        omnictl.train("pretrain", objective="dpo")
    with pytest.raises(UsageError, match="cannot converse"):
        omnictl.load(finished_run(tmp_path, "asr").path).chat("hello")
