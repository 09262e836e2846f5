"""A kind of media is added by one file and one line: an omni model takes it in then."""

import json
from pathlib import Path

import pytest
import torch
from stage_factory import finished_run

import omnictl
from omnictl.api import _watch
from omnictl.config import resolve
from omnictl.data.dialogues.modalities import MODALITIES, Modality
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.text.tokenizer import SPEECH
from omnictl.generate.sampling import SamplingConfig
from omnictl.pipeline.context import TrainContext
from omnictl.pipeline.job import create_job, train_job
from omnictl.stages import command_recipe
from omnictl.trainer import trainer
from omnictl.use.chat_session import Attachment, Reply, Session


def write_weather(folder: Path) -> Path:
    """Dialogues about the weather of three hours."""
    lines = []
    for number in range(24):
        rain, answer = [("0", "Sunny."), ("1", "Rainy.")][number % 2]
        (folder / f"{number}.txt").write_text(f"0.{number} {rain}\n" * 3, encoding="utf-8")
        question = [{"type": "weather", "weather": f"{number}.txt"}, {"type": "text", "text": "How was it?"}]
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"messages": messages, "task": "forecast"}))
    (folder / "dialogues.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "dialogues.jsonl"


@pytest.mark.slow
def test_one_file_and_one_line_add_a_kind_of_media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "matmul_rate", lambda device: 1e11)  # timing it takes longer than four steps
    monkeypatch.setitem(MODALITIES, "weather", Modality("vision", "weather", SPEECH, "weather", "feels the weather"))
    data = json.dumps(str(write_weather(tmp_path)))
    recipe, lines = command_recipe("sft"), list[str]()
    settings = [f"data.source={data}", "data.counts={}", "data.val_fraction=0.2", "data.test_fraction=0.2"]
    config = resolve(recipe.config_type, preset=recipe.presets["debug"], overrides=settings)
    parents = {stage: finished_run(tmp_path / "runs", stage) for stage in ("pretrain", "vision")}
    job = create_job(tmp_path / "runs", "sft", config, "new", {}, parents, cache=cache_dir())
    context = TrainContext(torch.device("cpu"), lambda stage: _watch(stage, lines.append), cache_dir(), lines.append)
    assert train_job(job, context, deadline=None, max_steps=4).status == "finished"
    report = omnictl.evaluate(job.run.path, device="cpu", tell=lines.append).report
    assert {"accuracy_forecast", "accuracy_forecast_shuffled"} <= {*report.metrics, *report.controls}
    session = Session.open(job.run.model, torch.device("cpu"), cache_dir())
    reply, shown = Reply(), session.show(Attachment("weather", tmp_path / "3.txt"))
    assert (
        "".join(session.reply("How was it?", SamplingConfig(temperature=0), max_tokens=3, into=reply, shown=[shown])) == reply.text
    )
    assert reply.media_tokens == {"image": 0, "audio": 0, "weather": 3}
