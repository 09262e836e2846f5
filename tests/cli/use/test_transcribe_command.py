import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from stage_factory import unseal

from omnictl.cli.app import run
from omnictl.cli.train.next_steps import next_commands
from omnictl.data.speech.corpus import Samples
from omnictl.models.audio_encoder import Encoded
from omnictl.stages.asr import Asr

Command = Callable[..., Any]

HEARD = [{"text": "hi", "start": 0.12, "stop": 0.2}, {"text": "you", "start": 0.28, "stop": 0.4}]


@pytest.fixture(scope="session")
def recogniser_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished debug run on TinyWorld's voices. Not to be changed: `recogniser` is a copy."""
    root = tmp_path_factory.mktemp("recogniser")
    assert run(["asr", "--preset", "debug", "--quiet", "--runs", str(root)]) == 0
    (path,) = (root / "asr").iterdir()
    return path


@pytest.fixture
def recogniser(recogniser_once: Path, runs: Path) -> Path:
    """A finished debug run in this test's run root."""
    return Path(shutil.copytree(recogniser_once, runs / "asr" / recogniser_once.name))


@pytest.fixture
def hears(recogniser: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose model hears "hi you" in every recording, a character a frame of 40 ms."""

    def hear(self: Asr, audio: Samples) -> Encoded:
        num_frames = -(-(1 + len(audio) // 160) // 4)
        ids = [0, 0, 0, *self.targets.encode("hi"), 0, *self.targets.encode(" you")]
        one_hot = torch.nn.functional.one_hot(torch.tensor([*ids, *[0] * (num_frames - len(ids))]), self.targets.num_symbols)
        return Encoded((20.0 * one_hot).float().log_softmax(-1)[None], torch.tensor([num_frames]))

    monkeypatch.setattr(Asr, "hear", hear)
    return recogniser


def recording(name: str, *, seconds: float = 1.0, rate: int = 16_000) -> Path:
    """A file in the working directory, of noise that comes and goes."""
    time = np.arange(round(seconds * rate)) / rate
    audio = 0.1 * np.random.default_rng(0).standard_normal(len(time)) * np.sin(4 * np.pi * time) ** 2
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(name, audio, rate)
    return Path(name)


def test_the_text_alone_is_on_standard_output(omnictl: Command, hears: Path) -> None:
    ended = omnictl("transcribe", recording("a.wav"))
    assert (ended.code, ended.out) == (0, "hi you\n")
    assert ended.err == f"transcribing with {hears}\n"


def test_several_files_by_name(omnictl: Command, hears: Path) -> None:
    ended = omnictl("transcribe", recording("a.wav"), recording("b [x].flac", rate=44_100), "--run", hears)
    assert (ended.code, ended.out) == (0, "a.wav: hi you\nb [x].flac: hi you\n")


def test_timestamps(omnictl: Command, hears: Path) -> None:
    recording("a.wav")
    lines = "[0.12–0.20] hi\n[0.28–0.40] you\n"
    assert omnictl("transcribe", "a.wav", "--timestamps").out == lines
    assert omnictl("transcribe", "a.wav", recording("b.wav"), "--timestamps").out == f"a.wav:\n{lines}b.wav:\n{lines}"


@pytest.mark.parametrize(
    ("format_", "subtitles"),
    [
        ("srt", "1\n00:00:00,120 --> 00:00:00,400\nhi you\n"),
        ("vtt", "WEBVTT\n\n00:00:00.120 --> 00:00:00.400\nhi you\n"),
    ],
)
def test_subtitles(omnictl: Command, hears: Path, format_: str, subtitles: str) -> None:
    one, other = recording("a.wav"), recording("some/b.c.wav")
    assert omnictl("transcribe", one, "--format", format_).out == subtitles

    ended = omnictl("transcribe", one, other, "--format", format_)
    assert (ended.code, ended.out) == (0, f"wrote a.{format_}\nwrote some/b.c.{format_}\n")
    assert Path(f"a.{format_}").read_text() == Path(f"some/b.c.{format_}").read_text() == subtitles

    ended = omnictl("transcribe", other, "--format", format_, "--out", "new/folder")
    assert (ended.code, ended.out) == (0, f"wrote new/folder/b.c.{format_}\n")
    assert Path(f"new/folder/b.c.{format_}").read_text() == subtitles


def test_text_into_a_folder(omnictl: Command, hears: Path) -> None:
    ended = omnictl("transcribe", recording("a.wav"), recording("b.wav"), "--out", "texts")
    assert (ended.code, ended.out) == (0, "wrote texts/a.txt\nwrote texts/b.txt\n")
    assert Path("texts/a.txt").read_text() == "hi you\n"


def test_two_transcripts_never_go_into_one_file(omnictl: Command, hears: Path) -> None:
    one, other = recording("x/a.wav"), recording("y/a.flac")
    ended = omnictl("transcribe", one, other, "--out", "texts", "--json")
    assert (ended.code, ended.json["error"]["kind"], ended.json["error"]["where"]) == (2, "usage", "y/a.flac")
    assert ended.json["error"]["message"] == "x/a.wav and y/a.flac would both be written to texts/a.txt"
    assert not Path("texts").exists()
    assert omnictl("transcribe", one, other, "--format", "srt").code == 0
    assert omnictl("transcribe", one, one).out == "x/a.wav: hi you\n" * 2


def test_json(omnictl: Command, hears: Path) -> None:
    ended = omnictl("transcribe", recording("a.wav"), recording("b.wav", seconds=2.5), "--format", "srt", "--json")
    assert ended.code == 0
    assert list(ended.json) == ["run", "files"]
    assert ended.json["run"] == str(hears)
    for name, seconds, entry in zip(("a.wav", "b.wav"), (1.0, 2.5), ended.json["files"], strict=True):
        assert entry.pop("real_time_factor") > 0
        assert list(entry) == ["audio", "text", "seconds", "words"]
        assert entry == {"audio": name, "text": "hi you", "seconds": seconds, "words": HEARD}
    assert list(Path().glob("*.srt")) == []


def test_json_and_files(omnictl: Command, hears: Path) -> None:
    ended = omnictl("transcribe", recording("a.wav"), "--out", ".", "--json")
    assert ended.json["files"][0]["text"] == "hi you"
    assert "wrote a.txt" in ended.err
    assert Path("a.txt").read_text() == "hi you\n"


def test_a_broken_file_leaves_the_others_alone(omnictl: Command, hears: Path) -> None:
    recording("a.wav")
    Path("broken.wav").write_bytes(Path("a.wav").read_bytes()[:1000])
    arguments = ("transcribe", "broken.wav", "missing.wav", "a.wav")
    ended = omnictl(*arguments)
    assert (ended.code, ended.out) == (3, "a.wav: hi you\n")
    assert "error: broken.wav is cut off" in ended.err
    assert "error: no such file: missing.wav\nfix: give the path of a WAV" in ended.err

    ended = omnictl(*arguments, "--json")
    broken, missing, whole = ended.json["files"]
    assert ended.code == 3
    assert list(broken) == ["audio", "error"]
    assert missing["audio"] == missing["error"]["where"] == "missing.wav"
    assert list(missing["error"]) == ["kind", "where", "message", "fix"]
    assert missing["error"]["kind"] == "data"
    assert whole["text"] == "hi you"
    assert "error: broken.wav is cut off" in ended.err


def test_one_broken_file_is_an_error_like_any_other(omnictl: Command, hears: Path) -> None:
    ended = omnictl("transcribe", "missing.wav", "--json")
    assert (ended.code, ended.json["error"]["kind"], ended.json["error"]["where"]) == (3, "data", "missing.wav")


def test_silence_is_an_empty_line(omnictl: Command, hears: Path) -> None:
    soundfile.write("a.wav", np.zeros(16_000), 16_000)
    ended = omnictl("transcribe", "a.wav")
    assert (ended.code, ended.out) == (0, "\n")
    assert "a.wav: silence or steady noise from 0.0 to 1.0 s" in ended.err
    assert omnictl("transcribe", "a.wav", "--format", "srt").out == ""
    assert omnictl("transcribe", "a.wav", "--json").json["files"][0]["words"] == []


def test_a_beam_with_a_language_model(omnictl: Command, hears: Path) -> None:
    recording("a.wav")
    Path("lm.txt").write_text("Hi you!\nHi there!\nкот\n", encoding="utf-8")
    assert omnictl("transcribe", "a.wav", "--beam", 4).out == "hi you\n"
    ended = omnictl("transcribe", "a.wav", "--lm", "lm.txt", "--lm-weight", 0.3)
    assert (ended.code, ended.out) == (0, "hi you\n")
    assert "1 of 3 lines" in ended.err


@pytest.fixture
def hears_two(hears: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose model hears "thqre is a dog", the q a little likelier than an e."""

    def hear(self: Asr, audio: Samples) -> Encoded:
        one_hot = torch.nn.functional.one_hot(torch.tensor(self.targets.encode("thqre is a dog")), self.targets.num_symbols)
        scores = 20.0 * one_hot
        scores[2, self.targets.encode("e")] = 19.5
        return Encoded(scores.float().log_softmax(-1)[None], torch.tensor([len(scores)]))

    monkeypatch.setattr(Asr, "hear", hear)
    return hears


def test_a_thinker_chooses_among_hypotheses(omnictl: Command, hears_two: Path, trained: Path) -> None:
    recording("a.wav")
    assert omnictl("transcribe", "a.wav", "--beam", 16).out == "thqre is a dog\n"
    ended = omnictl("transcribe", "a.wav", "--thinker", trained.name)
    assert (ended.code, ended.out) == (0, "there is a dog\n")
    assert ended.err == f"transcribing with {hears_two}, its hypotheses rated by {trained}\n"
    assert omnictl("transcribe", "a.wav", "--thinker", trained, "--lm-weight", 0).out == "thqre is a dog\n"
    Path("lm.txt").write_text("There is a cat.\n")
    for arguments in (("--thinker", "latest", "--lm", "lm.txt"), ("--thinker", trained, "--beam", 2)):
        assert omnictl("transcribe", "a.wav", *arguments, "--json").json["files"][0]["text"] == "there is a dog"


def test_a_thinker_must_be_a_run_of_pretrain(omnictl: Command, hears: Path, runs: Path) -> None:
    recording("a.wav")
    ended = omnictl("transcribe", "a.wav", "--thinker", "none", "--json")
    assert (ended.code, ended.json["error"]["kind"], ended.json["error"]["where"]) == (4, "run", "none")
    assert ended.json["error"]["message"].startswith("no run 'none' of stage `pretrain`")
    assert "omnictl pretrain" in ended.json["error"]["fix"]

    ended = omnictl("transcribe", "a.wav", "--thinker", "latest", "--json")
    assert (ended.code, ended.json["error"]["message"]) == (4, f"no run of stage `pretrain` in {runs}")
    assert "omnictl pretrain" in ended.json["error"]["fix"]

    ended = omnictl("transcribe", "a.wav", "--thinker", hears, "--json")
    assert (ended.code, ended.json["error"]["message"]) == (4, f"{hears} is a run of `asr`, expected one of `pretrain`")
    assert str(runs / "pretrain") in ended.json["error"]["fix"]


def test_a_thinker_without_weights(omnictl: Command, hears: Path, trained: Path) -> None:
    (trained / "model" / "model.safetensors").unlink()
    ended = omnictl("transcribe", recording("a.wav"), "--thinker", trained, "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (4, "checkpoint")


@pytest.mark.parametrize(
    ("arguments", "needs"),
    [
        (("--lm", "lm.txt"), "--lm needs a beam search"),
        (("--thinker", "latest"), "--thinker needs a beam search"),
        (("--thinker", "latest", "--lm", "lm.txt"), "--lm and --thinker need a beam search"),
    ],
)
def test_a_language_model_without_a_beam_is_refused(omnictl: Command, hears: Path, arguments: tuple[str, ...], needs: str) -> None:
    ended = omnictl("transcribe", "a.wav", *arguments, "--beam", 1, "--json")
    assert (ended.code, ended.json["error"]["where"]) == (2, "--beam")
    assert ended.json["error"]["message"] == f"{needs}, --beam 1 is none"


def test_a_missing_language_model(omnictl: Command, hears: Path) -> None:
    ended = omnictl("transcribe", recording("a.wav"), "--lm", "lm.txt", "--json")
    assert (ended.code, ended.json["error"]["where"]) == (3, "--lm")
    assert ended.json["error"]["message"] == "cannot read lm.txt: No such file or directory"


def test_a_folder_that_cannot_be(omnictl: Command, hears: Path) -> None:
    recording("a.wav")
    ended = omnictl("transcribe", "a.wav", "--out", "a.wav", "--json")
    assert (ended.code, ended.json["error"]["where"], ended.json["error"]["message"]) == (2, "--out", "a.wav is not a folder")
    ended = omnictl("transcribe", "a.wav", "--out", "a.wav/texts", "--json")
    assert (ended.code, ended.json["error"]["where"]) == (4, "a.wav/texts/a.txt")
    assert "Not a directory" in ended.json["error"]["message"]
    assert "--out DIR" in ended.json["error"]["fix"]


def test_without_a_run(omnictl: Command) -> None:
    ended = omnictl("transcribe", recording("a.wav"), "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (4, "run")
    assert "omnictl asr" in ended.json["error"]["fix"]


def test_without_a_file(omnictl: Command) -> None:
    assert omnictl("transcribe").code == 2


def test_the_data_it_was_trained_on_may_be_gone(omnictl: Command, hears: Path) -> None:
    unseal(hears / "model")  # or the changed description would be damage
    described = json.loads((hears / "model" / "config.json").read_text())
    described["config"]["data"] |= {"source": "gone/manifest.csv", "holdout_speakers": ["theo"]}
    (hears / "model" / "config.json").write_text(json.dumps(described))
    assert omnictl("transcribe", recording("a.wav")).out == "hi you\n"


def test_a_run_without_a_model(omnictl: Command, hears: Path) -> None:
    (hears / "model" / "model.safetensors").unlink()
    ended = omnictl("transcribe", recording("a.wav"), "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (4, "checkpoint")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_a_name_in_no_encoding(omnictl: Command, hears: Path) -> None:
    os.rename(recording("a.wav"), b"\xff.wav")  # noqa: PTH104  Path takes no bytes
    name = os.fsdecode(b"\xff.wav")
    assert omnictl("transcribe", name, "--json").json["files"][0]["audio"] == "\ufffd.wav"
    assert omnictl("transcribe", name, name).out == "\ufffd.wav: hi you\n" * 2
    assert omnictl("transcribe", name, "--out", ".").out == "wrote \ufffd.txt\n"
    Path(name).write_bytes(b"")
    broken, _ = omnictl("transcribe", name, recording("b.wav"), "--json").json["files"]
    assert broken["error"]["message"] == "\ufffd.wav is empty: 0 bytes"


def test_a_model_that_has_learned_nothing(omnictl: Command, recogniser: Path) -> None:
    recording("long.wav", seconds=45, rate=8_000)
    for arguments in ((), ("--beam", 3)):
        ended = omnictl("transcribe", "long.wav", "--json", *arguments)
        (entry,) = ended.json["files"]
        assert (ended.code, entry["seconds"]) == (0, 45.0)
        assert entry["text"] == " ".join(word["text"] for word in entry["words"])
        assert all(0 <= word["start"] <= word["stop"] <= 45 for word in entry["words"])


def test_training_says_how_to_go_on() -> None:
    assert next_commands("asr", "runs/x") == "  omnictl transcribe FILE --run runs/x"


def test_words_as_they_come(omnictl: Command, recogniser: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording("a.wav", seconds=3.0)
    refused = omnictl("transcribe", "a.wav", "--stream", "--json")
    assert (refused.code, refused.json["error"]["where"]) == (4, str(recogniser))
    assert "--set model.streaming.share=0.5" in refused.json["error"]["fix"]
    refused = omnictl("transcribe", "a.wav", "--stream", "--beam", 4, "--json")
    assert (refused.code, refused.json["error"]["where"]) == (2, "--stream")

    monkeypatch.setattr(Asr, "streams", True)
    ended = omnictl("transcribe", "a.wav", "--stream", "--json")
    words = ended.json["files"][0]["words"]
    told = [line.split("] ") for line in ended.err.splitlines() if line.startswith("[")]
    assert [text for _, text in told] == [word["text"] for word in words]
