"""Stage E from the command line: which runs are joined, and a result that needs none of them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from stage_factory import finished_run

from omnictl.cli.app import run
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.runs.files import read_json, write_json
from omnictl.runs.run import Run
from omnictl.stages.sft import Sft
from omnictl.use import chat_session

Command = Callable[..., Any]

EXAMPLES = Path(__file__).parents[3] / "examples"
ASKED = "--image", EXAMPLES / "scene.png", "--audio", EXAMPLES / "question.wav", "--speak", "reply.wav"
LATER = "2099-01-01_00-00-00"
FP32 = "--set", "train.precision=fp32"
"""Which number format is faster may change from one run to the next."""


@pytest.fixture(scope="session")
def parts_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run root with a finished run of each stage that is joined; none has learned anything. Not to be changed."""
    root = tmp_path_factory.mktemp("parts") / "runs"
    for stage in Sft.needs:
        finished_run(root, stage)
    return root


@pytest.fixture(scope="session")
def joined_once(parts_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a finished debug run of stage E. Not to be changed."""
    root = Path(shutil.copytree(parts_once, tmp_path_factory.mktemp("joined") / "runs"))
    assert run(["sft", "--preset", "debug", *FP32, "--max-steps", "3", "--quiet", "--runs", str(root)]) == 0
    return root


@pytest.fixture
def parts(parts_once: Path, runs: Path) -> Path:
    """A copy of `parts_once` in this test's run root."""
    return Path(shutil.copytree(parts_once, runs))


@pytest.fixture
def joined(joined_once: Path, runs: Path) -> Run:
    """The run of stage E in a copy of `joined_once` in this test's run root."""
    shutil.copytree(joined_once, runs)
    return the_run(runs, "sft")


def the_run(runs: Path, stage: str) -> Run:
    (path,) = (runs / stage).iterdir()
    return Run(path)


def sft(omnictl: Command, *arguments: object) -> Any:
    return omnictl("sft", "--preset", "debug", *FP32, "--max-steps", 1, *arguments, "--json")


def test_the_newest_runs_are_joined_and_named(omnictl: Command, parts: Path) -> None:
    ended = sft(omnictl)
    assert ended.code == 0
    result = ended.json
    own = the_run(parts, "sft")
    assert list(result) == ["stage", "run", "status", "steps", "seconds", "headline", "parents"]
    assert (result["stage"], result["run"], result["status"], result["steps"]) == ("sft", str(own.path), "finished", 1)
    assert result["headline"]["name"] == "accuracy"
    assert result["parents"] == {stage: str(the_run(parts, stage).path.absolute()) for stage in Sft.needs}
    for stage in Sft.needs:
        assert f"{stage}: {the_run(parts, stage).path}" in ended.err
        assert (own.model / stage / "model.safetensors").is_file()


def test_newer_runs_that_do_not_fit_are_told_with_the_reason(omnictl: Command, parts: Path) -> None:
    old = {stage: the_run(parts, stage) for stage in ("asr", "vision")}
    unfinished, foreign = finished_run(parts, "asr"), finished_run(parts, "vision")
    unfinished.update(status="interrupted", created=LATER)
    foreign.update(created=LATER)
    config = read_json(foreign.config_file)
    write_json(foreign.config_file, config | {"data": config["data"] | {"source": "my/images"}})
    ended = sft(omnictl)
    assert ended.code == 0
    assert f"not taken: {unfinished.path}: it is interrupted" in ended.err
    assert f"not taken: {foreign.path}: it was trained on my/images, not tinyworld" in ended.err
    assert {stage: ended.json["parents"][stage] for stage in old} == {stage: str(r.path.absolute()) for stage, r in old.items()}


def test_runs_can_be_named(omnictl: Command, parts: Path) -> None:
    old = {stage: the_run(parts, stage) for stage in Sft.needs}
    for stage in Sft.needs:
        finished_run(parts, stage).update(created=LATER)
    named = (
        "--thinker",
        old["pretrain"].path,
        "--asr",
        old["asr"].path.name,
        "--vision",
        old["vision"].path,
        "--talker",
        old["talker"].path,
    )
    ended = sft(omnictl, *named)
    assert ended.json["parents"] == {stage: str(found.path.absolute()) for stage, found in old.items()}
    ended = sft(omnictl, "--asr", old["vision"].path)
    assert (ended.code, ended.json["error"]["kind"]) == (4, "run")
    assert "is a run of `vision`, expected one of `asr`" in ended.json["error"]["message"]


@pytest.mark.parametrize(("stage", "option"), [("pretrain", "--thinker"), ("asr", "--asr"), ("vision", "--vision")])
def test_a_missing_part_is_named_with_the_command_that_makes_it(omnictl: Command, parts: Path, stage: str, option: str) -> None:
    shutil.rmtree(parts / stage)
    ended = sft(omnictl)
    error = ended.json["error"]
    assert (ended.code, error["kind"], error["where"]) == (4, "run", option)
    assert f"`omnictl {stage}`" in error["fix"]
    assert not (parts / "sft").exists()


def test_without_a_talker_answers_are_written(omnictl: Command, parts: Path) -> None:
    shutil.rmtree(parts / "talker")
    ended = sft(omnictl)
    assert ended.code == 0
    assert "no Talker" in ended.err
    assert "`omnictl talker`" in ended.err
    assert set(ended.json["parents"]) == {"pretrain", "asr", "vision"}
    assert not (the_run(parts, "sft").model / "talker").exists()


def test_a_resumed_run_ends_as_an_undisturbed_one(omnictl: Command, parts: Path, joined_once: Path) -> None:
    assert sft(omnictl).code == 0
    ended = omnictl("sft", "--resume", "latest", "--thinker", "latest", "--json")
    assert (ended.code, ended.json["error"]["where"]) == (2, "--thinker")
    ended = omnictl("sft", "--resume", "latest", "--max-steps", 3, "--json")
    assert (ended.code, ended.json["steps"]) == (0, 3)
    own, whole = the_run(parts, "sft"), the_run(joined_once, "sft")
    steps = "checkpoints/step-00000003/model.safetensors"
    assert (own.path / steps).read_bytes() == (whole.path / steps).read_bytes()


def test_another_run_can_be_started_from_with_its_parts(omnictl: Command, joined: Run, runs: Path) -> None:
    for stage in ("asr", "vision"):
        shutil.rmtree(runs / stage)
    ended = sft(omnictl, "--init", joined.path)
    assert ended.code == 0
    assert ended.json["parents"] == {"init": str(joined.path.absolute())}
    assert f"asr: that of {joined.path}" in ended.err


@pytest.mark.slow
def test_an_evaluation_has_metrics_and_controls(omnictl: Command, joined: Run) -> None:
    ended = omnictl("eval", "sft", "--limit", 26, "--json")
    assert ended.code == 0
    result = ended.json
    assert (result["stage"], result["run"], result["num_examples"]) == ("sft", str(joined.path), 26)
    assert result["headline"] == {"name": "accuracy", "value": result["metrics"]["accuracy"], "better": "higher"}
    assert next(iter(result["metrics"])) == "accuracy"
    assert {"accuracy_text", "accuracy_caption", "accuracy_spoken_image", "wer_transcribe", "speech_reply_cer"} <= set(
        result["metrics"]
    )
    for control in ("accuracy_image_colour", "accuracy_spoken", "wer_transcribe"):
        assert {f"{control}_shuffled", f"{control}_text_only"} <= set(result["controls"])
    assert len(Path(result["predictions"]).read_text().splitlines()) == 26
    assert joined.page.is_file()


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, joined: Run) -> str:
    """What the model says; of itself it has hardly learned to."""
    tokenizer, text = Tokenizer.load(joined.model / "tokenizer.json"), "The star is red."

    def generate(*_: object, **__: object) -> Iterator[int]:
        yield from tokenizer.encode(text, markup=False)

    monkeypatch.setattr(chat_session, "generate", generate)
    return text


def test_it_is_talked_to(omnictl: Command, joined: Run) -> None:
    ended = omnictl("chat", *ASKED[:-2], "--max-tokens", 5, "--json")
    assert ended.code == 0
    assert ended.json["run"] == str(joined.path)
    assert 0 <= ended.json["tokens"]["new"] <= 5
    assert ended.json["tokens"]["image"] > 0 < ended.json["tokens"]["audio"]


def test_the_model_folder_needs_no_other_run(omnictl: Command, joined: Run, runs: Path, answer: str) -> None:
    copied = Path(shutil.copytree(joined.model, "elsewhere"))
    shutil.rmtree(runs)
    reply = omnictl("chat", *ASKED, "--run", copied, "--json").json
    assert (reply["run"], reply["answer"], reply["speech"]) == ("elsewhere", answer, "reply.wav")
    assert soundfile.info("reply.wav").frames > 0


@pytest.mark.slow
def test_pairs_are_learned_on_top_of_a_run(omnictl: Command, joined: Run, runs: Path) -> None:
    ended = sft(omnictl, "--objective", "dpo", "--init", joined.path, "--name", "better")
    assert (ended.code, ended.json["headline"]["name"]) == (0, "preferred")
    assert ended.json["parents"] == {"init": str(joined.path.absolute())}
    made = Run(Path(ended.json["run"]))
    assert (made.model / "reference.safetensors").is_file()
    resumed = omnictl("sft", "--resume", made.path, "--max-steps", 2, "--json")
    assert (resumed.code, resumed.json["steps"]) == (0, 2)
    evaluated = omnictl("eval", "sft", "--run", made.path, "--limit", 13, "--json")
    assert "preferred" in evaluated.json["metrics"]


def test_pairs_keep_the_parts_of_their_run(omnictl: Command, joined: Run) -> None:
    ended = sft(omnictl, "--objective", "dpo", "--init", joined.path, "--asr", "latest")
    assert (ended.code, ended.json["error"]["where"]) == (2, "--asr")
    assert "--asr cannot go with --objective dpo: it keeps the parts of the run that --init names" in ended.json["error"]["message"]
    ended = sft(omnictl, "--objective", "dpo")
    assert ended.json["error"]["fix"] == "name a run of `omnictl sft`: --objective dpo --init latest"
