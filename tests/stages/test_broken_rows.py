"""One row in twenty is broken, in every way that is known: exactly those are set aside, and a resumed run sets aside the same."""

import hashlib
import json
import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import broken_corpora as corpora
import pytest
import torch
from broken_corpora import Break, Corpus, write_corpus
from stage_factory import make_stage

from omnictl.config import resolve
from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import DataError
from omnictl.pipeline.run_folder import create_stage_run
from omnictl.runs.run import Run
from omnictl.stages import STAGES, stage_recipe, stage_type
from omnictl.trainer import trainer
from omnictl.trainer.log import StepRecord
from omnictl.trainer.loop import train
from omnictl.trainer.stage import Report

pytestmark = pytest.mark.faults

LARGE = int(os.environ.get("OMNICTL_FAULTS", "20")) >= 200

EACH = 5
"""With large counts, so many rows are broken in every way; else so many rows, each in another."""

ALIGNED = corpora.SPEECH | corpora.TOO_SHORT
KINDS: Mapping[str, tuple[str, Mapping[str, Break], Mapping[str, Break]]] = {
    "asr": ("speech", ALIGNED, corpora.SPEECH_FILES | corpora.SPEECH_TEXTS),  # what is too short can still be judged
    "vision": ("images", corpora.IMAGES, {"a label that training has not": corpora.with_field(label="fox")}),
    "codec": ("speech", corpora.SPEECH, corpora.SPEECH_FILES | corpora.SPEECH_TEXTS),
    "aligner": ("speech", ALIGNED, corpora.SPEECH_FILES | corpora.SPEECH_TEXTS | corpora.TOO_SHORT),
    "vocoder": ("speech", corpora.SPEECH, corpora.SPEECH_FILES | corpora.SPEECH_TEXTS),
    "talker": ("speech", ALIGNED, corpora.SPEECH_FILES | corpora.SPEECH_TEXTS | corpora.TOO_SHORT),
    "sft": (
        "dialogues",
        corpora.DIALOGUES,
        {"longer than the context": corpora.DIALOGUES["longer than the context"]},
    ),
}
"""By stage: its corpus, how rows to train on break, and rows to validate on."""

SETTINGS = {"asr": ["model.emissions=1"], "sft": ["data.replay=0"]}


class Interrupting:
    """An observer that presses Ctrl-C after the first step."""

    def begin(self, run: Run, facts: dict[str, str], step: int) -> None:
        pass

    def step(self, record: StepRecord) -> None:
        if record.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    def evaluated(self, step: int, report: Report, *, is_best: bool) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Quiet(Interrupting):
    """One that does not."""

    def step(self, record: StepRecord) -> None:
        pass


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "matmul_rate", lambda device: 1e11)


def draw(breaks: Mapping[str, Break], generator: random.Random) -> list[Break]:
    return [*breaks.values()] * EACH if LARGE else generator.sample([*breaks.values()], min(EACH, len(breaks)))


def corpus_for(name: str, folder: Path) -> Corpus:
    kind, breaks, validation = KINDS[name]
    generator = random.Random(name)
    return write_corpus(
        folder / "corpus", kind, draw(breaks, generator), draw(validation, generator)[: None if LARGE else 1], generator
    )


def config_for(name: str, corpus: Corpus) -> Any:
    recipe = stage_recipe(name)
    overrides = [f"data.source={json.dumps(str(corpus.folder))}", "train.precision=fp32", "train.steps=2", "train.batch_size=4"]
    seconds = [] if name == "vision" else ["data.max_seconds=2"]
    return resolve(recipe.config_type, preset=recipe.presets["debug"], overrides=[*overrides, *seconds, *SETTINGS.get(name, [])])


def go_on(run: Run, observer: Interrupting) -> str:
    stage = stage_type(run.stage).open(run.model, data=None, cache=cache_dir())
    status = train(stage, stage.config.train, run, device=torch.device("cpu"), observer=observer).status
    lines = [json.loads(line) for line in run.quarantine_file.read_text().splitlines()]
    assert [row._asdict() for row in stage.data.quarantine] == lines
    return status


def weights(run: Run) -> str:
    return hashlib.sha256((run.model / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", KINDS)
def test_exactly_the_broken_rows_are_set_aside(name: str, tmp_path: Path) -> None:
    corpus = corpus_for(name, tmp_path)
    stage = make_stage(name, config_for(name, corpus))
    runs = [create_stage_run(tmp_path / place, stage, "test", {"parents": {}}) for place in ("a", "b")]
    aside = [json.loads(line) for line in runs[0].quarantine_file.read_text().splitlines()]
    assert sorted(row["where"] for row in aside) == corpus.broken
    assert all(row["message"] and row["id"] for row in aside)
    assert len(stage.data.training_set) == corpus.usable

    assert go_on(runs[0], Quiet()) == "finished"
    assert go_on(runs[1], Interrupting()) == "interrupted"
    assert go_on(runs[1], Quiet()) == "finished"
    assert runs[0].quarantine_file.read_bytes() == runs[1].quarantine_file.read_bytes()
    assert weights(runs[0]) == weights(runs[1])


def test_every_stage_but_that_of_text_sets_rows_aside() -> None:
    assert {*KINDS, "pretrain"} == {*STAGES}


TEXTS = {
    "broken JSON": '{"text": "one',
    "no object": "[1]",
    "no text": '{"txt": "one"}',
    "a number": '{"text": 5}',
    "half a character": '{"text": "one \\ud800"}',
}


@pytest.mark.parametrize("broken", TEXTS.values(), ids=TEXTS)
def test_text_is_refused_by_line(broken: str, tmp_path: Path) -> None:
    """A text that lacks some of its lines is another text: none is set aside."""
    rows = [json.dumps({"text": f"the cat number {number} sat on the mat"}) for number in range(40)]
    rows[17] = broken
    (tmp_path / "texts.jsonl").write_text("".join(f"{row}\n" for row in rows))
    recipe = stage_recipe("pretrain")
    source = f"data.source={json.dumps(str(tmp_path / 'texts.jsonl'))}"
    with pytest.raises(DataError) as caught:
        make_stage("pretrain", resolve(recipe.config_type, preset=recipe.presets["debug"], overrides=[source]))
    assert caught.value.where == f"{tmp_path}/texts.jsonl:18"
