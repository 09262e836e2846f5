"""A run is not gone on with on other data than it began with, and says what has changed."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from omnictl.config import resolve
from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.dialogues.source import fingerprint_dialogues, open_dialogues
from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import DataError
from omnictl.measure.evaluate import evaluate_run
from omnictl.pipeline.job import reopen_job
from omnictl.pipeline.train_stage import StageJob
from omnictl.runs.checksums import seal_anew
from omnictl.runs.run import CHECKSUM, Run
from omnictl.stages import command_recipe
from omnictl.trainer.checkpoint import plain_state_dict, save_tensors


def write_texts(folder: Path) -> None:
    (folder / "a.txt").write_text("\n\n\n".join(f"Document {number} says that it is number {number}." for number in range(60)))


def write_recordings(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["audio,text,split"]
    for number in range(12):
        soundfile.write(folder / f"{number}.wav", rng.normal(0, 0.1, 16_000), 16_000)
        rows.append(f"{number}.wav,number {number},{'val' if number > 9 else 'train'}")
    (folder / "metadata.csv").write_text("\n".join(rows))


def write_photos(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(10):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / name / f"{number}.png")


WRITERS = {"pretrain": write_texts, "asr": write_recordings, "vision": write_photos}
SETTINGS = {"pretrain": ("data.vocab_size=300", "data.seq_len=32"), "asr": (), "vision": ()}


def begin(stage: str, folder: Path) -> Run:
    """A run of the stage on its own data, which has not taken a step."""
    data = folder / "data"
    data.mkdir()
    WRITERS[stage](data)
    recipe = command_recipe(stage)
    source = f"data.source={json.dumps(str(data))}"
    config = resolve(recipe.config_type, preset=recipe.presets["debug"], overrides=[source, *SETTINGS[stage]])
    return StageJob.create(folder / "runs", stage, config, "a", {}, {}, cache=cache_dir()).run


def grow_text(data: Path) -> None:
    (data / "a.txt").write_text((data / "a.txt").read_text() + "\n\n\nOne more.")


def replace_text(data: Path) -> None:
    (data / "a.txt").write_text((data / "a.txt").read_text().replace("Document", "Paper sh"))


def cut_recordings(data: Path) -> None:
    lines = (data / "metadata.csv").read_text().splitlines()
    (data / "metadata.csv").write_text("\n".join(lines[:8] + lines[-2:]))


def correct_a_transcript(data: Path) -> None:
    (data / "metadata.csv").write_text((data / "metadata.csv").read_text().replace("number 3", "number thirty"))


def rename_a_class(data: Path) -> None:
    (data / "dog").rename(data / "hound")


@pytest.mark.parametrize(
    ("stage", "change", "what"),
    [
        ("pretrain", grow_text, "train 5"),
        ("pretrain", replace_text, "as many examples as before, but not the same"),
        ("asr", cut_recordings, "train 10 → 7"),
        ("asr", correct_a_transcript, "as many examples as before, but not the same"),
        ("vision", rename_a_class, "no image of the val split"),
    ],
)
def test_other_data_is_refused(tmp_path, stage, change, what):
    run = begin(stage, tmp_path)
    change(tmp_path / "data")
    with pytest.raises(DataError) as error:
        reopen_job(run, cache=cache_dir())
    assert error.value.message.startswith(f"the data of {run.path} has changed since the run began ({what}")
    assert error.value.fix.endswith(f"omnictl {stage} --init {run.path} --data {tmp_path / 'data'}")


def test_the_same_data_written_anew_is_the_same(tmp_path):
    run = begin("vision", tmp_path)
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "copy", tmp_path / "data", copy_function=shutil.copyfile)  # with other times
    assert reopen_job(run, cache=cache_dir()).run.path == run.path


def test_what_the_record_says(tmp_path):
    record = begin("asr", tmp_path).record()["data"]
    assert (record["examples"], record["set_aside"]) == ({"train": 10, "val": 2}, 0)


def test_a_run_of_an_earlier_version_is_gone_on_with(tmp_path):
    run = begin("asr", tmp_path)
    record = json.loads((run.path / "run.json").read_text())
    del record["data"], record[CHECKSUM]
    (run.path / "run.json").write_text(json.dumps(record))
    correct_a_transcript(tmp_path / "data")
    reopen_job(run, cache=cache_dir())


def test_an_evaluation_says_it(tmp_path, caplog):
    run = begin("asr", tmp_path)
    stage = reopen_job(run, cache=cache_dir()).stage
    save_tensors(plain_state_dict(stage.model), run.model / "model.safetensors")
    seal_anew(run.model)
    for expected in (False, True):
        with caplog.at_level(logging.WARNING, logger="omnictl"):
            evaluate_run(run, data=None, split="val", limit=None, device=torch.device("cpu"), cache=cache_dir())
        assert ("has changed since it was trained" in caplog.text) == expected
        correct_a_transcript(tmp_path / "data")


def test_dialogues_are_known_by_their_words_and_media(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def fingerprint(text: str) -> str:
        asked = [{"type": "image", "image": "a.png"}, {"type": "text", "text": text}]
        row = {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "Black."}]}
        (tmp_path / "dialogues.jsonl").write_text(json.dumps(row))
        return fingerprint_dialogues(open_dialogues(DialogueDataConfig(source=str(tmp_path)), cache_dir()))

    first = fingerprint("What colour?")
    assert fingerprint("Which colour?") != first
    assert fingerprint("What colour?") == first
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    assert fingerprint("What colour?") != first
