"""What a job does with the time that it is given, and with errors of its parts; nothing is trained."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from omnictl.config import to_json
from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import DataError, Diverged, RunError
from omnictl.pipeline import job, train_talker
from omnictl.pipeline.train_stage import StageJob
from omnictl.pipeline.train_talker import TalkerJob
from omnictl.runs.checksums import seal
from omnictl.runs.run import Run, create_run
from omnictl.stages import talker
from omnictl.stages.sft import PRESETS as SFT
from omnictl.stages.sft import SftConfig
from omnictl.stages.talker_recipe import PRESETS as SPEAKING
from omnictl.trainer.distributed.process_group import ProcessGroup


def test_recordings_too_long_for_a_talker_are_refused_before_its_parts_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talker, "CAPACITY", 10)
    with pytest.raises(DataError, match="too long for a Talker"):
        TalkerJob.create(tmp_path, "talker", SPEAKING["debug"], "a", {}, {}, cache=cache_dir())
    assert list(tmp_path.iterdir()) == []


class Answers:
    """A stage E without a model."""

    name = "sft"

    def __init__(self) -> None:
        self.config: SftConfig = SFT["tiny"]

    def save_description(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(to_json(self.config))


def begun(root: Path, stage: Answers) -> Run:
    run = create_run(root, "sft", "a", {"parents": {}})
    run.write_config(to_json(stage.config))
    stage.save_description(run.model)
    seal(run.model)
    return run


def context_that(train: Any) -> Any:
    return SimpleNamespace(group=ProcessGroup(), train=train, cache=Path())


def test_where_time_is_short_most_steps_are_no_exercises(tmp_path: Path) -> None:
    stage = Answers()
    whole, run = stage.config, begun(tmp_path, stage)
    trained: list[SftConfig] = []
    context = context_that(lambda made, *_, **__: trained.append(made.config))
    StageJob(run, stage).train(context, budget=SimpleNamespace(foresee=lambda _: {"sft": 100}), max_steps=None)  # type: ignore[arg-type]
    (short,) = trained
    assert short.exercise_steps + short.projector_steps <= 75
    assert (
        short
        == SftConfig(**json.loads(run.config_file.read_text()))
        == SftConfig(**json.loads((run.model / "config.json").read_text()))
    )
    assert SftConfig(**json.loads(run.whole_config_file.read_text())) == whole
    run.check_config()


def test_where_there_is_time_the_config_stays(tmp_path: Path) -> None:
    stage = Answers()
    run = begun(tmp_path, stage)
    context = context_that(lambda *_, **__: None)
    StageJob(run, stage).train(context, budget=SimpleNamespace(foresee=lambda _: {"sft": 2000}), max_steps=None)  # type: ignore[arg-type]
    assert stage.config is SFT["tiny"]
    assert not run.whole_config_file.exists()


def test_a_run_that_is_being_trained_keeps_its_plan(tmp_path: Path) -> None:
    run = begun(tmp_path, Answers())
    context = context_that(None)
    context.plan_time = lambda *_, **__: SimpleNamespace(plan=SimpleNamespace(as_json=lambda: {"level": 1}))
    with run.lock(), pytest.raises(RunError, match="another process is writing"):
        job.train_job(StageJob(Run(run.path), Answers()), context, deadline=1.0, max_steps=None)  # type: ignore[arg-type]
    assert "plan" not in run.record()


@pytest.mark.parametrize(("part", "stage", "fix"), [("codec", "codec", "its Talker"), ("aligner", "asr", "it with `omnictl asr")])
def test_a_part_that_is_not_finished_is_not_trained_on_in_its_run(tmp_path: Path, part: str, stage: str, fix: str) -> None:
    other = create_run(tmp_path, stage, "a", {"parents": {}})
    other.update(status="interrupted")
    with pytest.raises(RunError) as caught:
        TalkerJob.create(tmp_path, "talker", SPEAKING["tiny"], "b", {}, {part: other}, cache=tmp_path)
    assert (caught.value.message, caught.value.where) == (
        f"{other.path} is interrupted, expected a finished run",
        f"--{part}",
    )
    assert fix in caught.value.fix
    assert not (tmp_path / "talker").exists()


def test_a_part_of_a_talker_that_diverges_names_its_own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run(tmp_path, "talker", "a", {"parents": {}})
    run.write_config(to_json(SPEAKING["tiny"]))
    monkeypatch.setattr(train_talker, "_open_together", lambda *_: (None, None))

    def diverge(*_: object, **__: object) -> None:
        raise Diverged("not finite", fix="use --set train.precision=fp32")

    with pytest.raises(Diverged) as caught:
        TalkerJob(run).train(context_that(diverge), budget=None, max_steps=None)
    assert caught.value.fix == "use --set codec.train.precision=fp32"
