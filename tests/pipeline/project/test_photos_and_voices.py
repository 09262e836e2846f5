"""The project of real photographs and voices: its file is valid, and its commands lead to an omni model, here on a few rows."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stage_factory import FEW_JUDGED

from omnictl.cli.app import run
from omnictl.pipeline.pipeline import choose_config
from omnictl.pipeline.project.read_project import read_project

ROOT = Path(__file__).parents[3]
PROJECT = ROOT / "examples" / "projects" / "photos_and_voices.toml"
SPEAKERS = ("george", "theo")


def take_few(real: Path, folder: Path) -> None:
    """A few rows of every corpus, in the same layouts."""
    (folder / "text").mkdir(parents=True)
    for name in ("wikitext2_valid.txt", "tinyshakespeare.txt"):
        (folder / "text" / name).write_text((real / "text" / name).read_text()[:40_000])
    for name in ("kathleen", "fsdd"):
        with (real / name / "metadata.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["speaker"] in ("kathleen", *SPEAKERS)]
        kept = [
            row
            for split in ("train", "test")
            for row in [row for row in rows if row["split"] == split][:: 9 if name == "fsdd" else 31]
        ]
        (folder / name / "audio").mkdir(parents=True)
        for row in kept:
            shutil.copyfile(real / name / row["audio"], folder / name / row["audio"])
        with (folder / name / "metadata.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(kept)
    for image in sorted((real / "cifar10_mini").glob("*/*/*.jpg"))[::120]:
        target = folder / "cifar10_mini" / image.relative_to(real / "cifar10_mini")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, target)
    drawings = (real / "openmoji" / "metadata.jsonl").read_text().splitlines()[::60]
    (folder / "openmoji" / "images").mkdir(parents=True)
    (folder / "openmoji" / "metadata.jsonl").write_text("\n".join(drawings))
    for line in drawings:
        shutil.copyfile(real / "openmoji" / json.loads(line)["image"], folder / "openmoji" / json.loads(line)["image"])


def prepare(variables: dict[str, str]) -> None:
    """Run the commands in the head of the project file."""
    for line in re.findall(r"^#   (.*)$", PROJECT.read_text(), flags=re.MULTILINE):
        program, *arguments = shlex.split(re.sub(r"\$(\w+)", lambda name: variables[name[1]], line))
        if program == "omnictl":
            assert run(arguments) == 0, line
        else:
            subprocess.run([sys.executable, *arguments], check=True, cwd=ROOT)


@pytest.mark.slow
def test_a_few_rows_become_an_omni_model(test_data, tmp_path, monkeypatch, capsys):
    variables = {"OMNICTL_TEST_DATA": str(tmp_path / "data"), "PHOTOS_AND_VOICES": str(tmp_path / "prepared")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    take_few(test_data, tmp_path / "data")
    prepare(variables)
    project = read_project(PROJECT, preset="tiny")
    assert project.stages == ("pretrain", "asr", "vision", "talker", "sft")
    config = choose_config(project.stages, project.presets, [], project.config)
    assert (config.vision.model.image_size, config.talker.codec.model.quantiser.books) == (64, 12)

    small = re.sub(r"^(?!data = |\[|preset).*\n", "", PROJECT.read_text(), flags=re.MULTILINE)
    small = re.sub(r"source = (\S+?),.*}", r"source = \1 }", small).replace('"tiny"', '"debug"')
    (tmp_path / "small.toml").write_text(small)
    few = [f"{stage}.{setting}" for stage, setting in FEW_JUDGED.items() if stage in project.stages]
    few += ["pretrain.data.seq_len=128", "pretrain.train.steps=2", "asr.train.steps=2", "vision.train.steps=2", "sft.train.steps=2"]
    options = [part for setting in few for part in ("--set", setting)]
    code = run(
        ["pipeline", "--config", str(tmp_path / "small.toml"), "--runs", str(tmp_path / "runs"), "--device", "cpu", *options]
    )
    assert code == 0, capsys.readouterr().err
    sft = next((tmp_path / "runs" / "sft").iterdir())
    rows = [json.loads(line) for line in next(sft.glob("**/predictions*.jsonl")).read_text().splitlines()]
    assert {"naming", "yes_no", "digit", "transcribe", "named_photo"} <= {row["task"] for row in rows}


def test_variables_that_are_not_set_are_named(monkeypatch, tmp_path):
    from omnictl.errors import ConfigError

    for name in ("OMNICTL_TEST_DATA", "PHOTOS_AND_VOICES"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError) as error:
        read_project(PROJECT, preset="tiny")
    message = error.value.message
    assert message.count("needs the environment variable PHOTOS_AND_VOICES, which is not set") == 4
    assert "pretrain.data: $PHOTOS_AND_VOICES/texts needs" in message
