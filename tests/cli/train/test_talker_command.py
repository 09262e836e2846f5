import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from safetensors.torch import load_file

from omnictl.cli.app import run
from omnictl.cli.train.next_steps import longer_command
from omnictl.cli.train.talker import _find_part
from omnictl.generate import tts
from omnictl.measure import judges
from omnictl.runs.run import Run, create_run
from omnictl.stages.talker import TalkerStage

Command = Callable[..., Any]

FP32 = [word for part in (*TalkerStage.needs, "talker") for word in ("--set", f"{part}.train.precision=fp32")]
"""Which number format is faster may change from one run to the next."""


@pytest.fixture(scope="session")
def voices_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run root with a finished debug Talker, its parts, and a recogniser. Not to be changed: `talker` is a copy."""
    root = tmp_path_factory.mktemp("voices")
    assert run(["talker", "--preset", "debug", *FP32, "--quiet", "--runs", str(root)]) == 0
    assert run(["asr", "--preset", "debug", "--quiet", "--runs", str(root)]) == 0
    return root


@pytest.fixture
def talker(voices_once: Path, runs: Path) -> Run:
    """A finished debug Talker in this test's run root."""
    shutil.copytree(voices_once, runs)
    (path,) = (runs / "talker").iterdir()
    return Run(path)


def the_run(runs: Path, stage: str) -> Run:
    (path,) = (runs / stage).iterdir()
    return Run(path)


@pytest.mark.slow
def test_one_command_trains_all_three(omnictl: Command, runs: Path) -> None:
    ended = omnictl("talker", "--preset", "debug", "--json")
    assert ended.code == 0
    result = ended.json
    assert (result["stage"], result["status"], result["headline"]["name"]) == ("talker", "finished", "nats_per_code")
    assert result["run"] == str(the_run(runs, "talker").path)
    assert set(result["parents"]) == {"codec", "aligner"}
    for part in (*TalkerStage.needs, "talker"):
        record = the_run(runs, part).record()
        assert record["status"] == "finished"
        assert record["name"] == "debug"
    for part, path in result["parents"].items():
        assert Path(path) == the_run(runs, part).path


def test_the_model_folder_needs_no_other_run(omnictl: Command, talker: Run, runs: Path) -> None:
    shutil.rmtree(runs / "codec")
    shutil.rmtree(runs / "aligner")
    moved = Path(shutil.move(talker.path, runs / "talker" / "moved"))
    ended = omnictl("say", "Hello.", "--out", "a.wav", "--run", moved)
    assert ended.code == 0
    assert soundfile.info("a.wav").frames > 0


@pytest.mark.slow
def test_what_was_finished_is_not_trained_again(omnictl: Command, runs: Path, interrupt_at: Callable[[int], list[str]]) -> None:
    """Ctrl-C in each part; `--resume` goes on there and ends as an undisturbed run does."""
    assert omnictl("talker", "--preset", "debug", *FP32, "--runs", "whole", "--quiet").code == 0
    trained = interrupt_at(7)
    assert omnictl("talker", "--preset", "debug", *FP32, "--quiet").code == 130
    for _ in range(5):
        if omnictl("talker", "--resume", "latest", "--quiet").code == 0:
            break
    assert trained == [part for part in (*TalkerStage.needs, "talker") for _ in range(2)]
    for part in (*TalkerStage.needs, "talker"):
        made, whole = (the_run(root, part) for root in (runs, Path("whole")))
        assert made.record()["status"] == "finished"
        for name in ("model/model.safetensors", "metrics.jsonl"):
            assert (made.path / name).read_bytes() == (whole.path / name).read_bytes(), (part, name)


def test_an_interrupt_in_the_last_step_of_a_part_ends_the_command(
    omnictl: Command, runs: Path, interrupt_at: Callable[[int], list[str]]
) -> None:
    trained = interrupt_at(1)
    assert omnictl("talker", "--preset", "debug", *FP32, "--max-steps", "1", "--quiet").code == 130
    assert trained == ["codec"]
    assert the_run(runs, "codec").record()["status"] == "finished"
    assert the_run(runs, "talker").record()["status"] == "interrupted"


def test_a_codec_and_an_aligner_can_be_given(omnictl: Command, talker: Run, runs: Path) -> None:
    codec, aligner = the_run(runs, "codec"), the_run(runs, "aligner")
    parts = "--codec", codec.path.name, "--aligner", aligner.path
    ended = omnictl("talker", "--preset", "debug", *FP32, *parts, "--name", "b", "--json")
    assert ended.code == 0
    assert ended.json["parents"] == {"codec": str(codec.path.absolute()), "aligner": str(aligner.path.absolute())}
    assert len(list((runs / "codec").iterdir())) == 1
    made, old = Run(Path(ended.json["run"])), talker
    assert (made.model / "model.safetensors").read_bytes() == (old.model / "model.safetensors").read_bytes()


def test_an_aligner_is_named_as_any_run_is(tmp_path: Path) -> None:
    asr, aligner = (create_run(tmp_path, stage, "mine", {}) for stage in ("asr", "aligner"))
    for reference, found in {f"asr/{asr.path.name}": asr, f"aligner/{aligner.path.name}": aligner, "mine": aligner}.items():
        assert _find_part(tmp_path, "aligner", reference) == found


def test_a_recogniser_can_align(omnictl: Command, talker: Run, runs: Path) -> None:
    asr = the_run(runs, "asr")
    ended = omnictl("talker", "--preset", "debug", "--codec", "latest", "--aligner", asr.path, "--name", "b", "--json")
    assert ended.code == 0
    assert ended.json["parents"]["aligner"] == str(asr.path.absolute())
    assert omnictl("say", "Hello.", "--out", "a.wav", "--run", ended.json["run"]).code == 0


def test_init_starts_from_another_talker_and_its_parts(omnictl: Command, talker: Run, runs: Path) -> None:
    ended = omnictl("talker", "--preset", "debug", "--init", "latest", "--max-steps", 1, "--name", "b", "--json")
    assert ended.code == 0
    assert ended.json["parents"]["init"] == str(talker.path.absolute())
    assert len(list((runs / "codec").iterdir())) == 1
    first = json.loads((Path(ended.json["run"]) / "metrics.jsonl").read_text().splitlines()[0])
    last = json.loads(talker.metrics_file.read_text().splitlines()[-1])
    assert first["nats_per_code"] == pytest.approx(last["nats_per_code"], rel=1e-3)


@pytest.mark.slow
def test_a_neural_vocoder_is_trained_on_request(omnictl: Command, talker: Run, runs: Path) -> None:
    ended = omnictl(
        "talker", "--preset", "debug", "--set", "vocoder=istft", "--init", "latest", "--max-steps", 4, "--name", "b", "--json"
    )
    assert ended.code == 0
    assert Path(ended.json["parents"]["vocoder"]) == the_run(runs, "vocoder").path
    shutil.rmtree(runs / "vocoder")
    assert omnictl("say", "Hello.", "--out", "a.wav", "--run", ended.json["run"]).code == 0
    assert omnictl("say", "Hello.", "--out", "b.wav", "--run", talker.path).code == 0
    assert Path("a.wav").read_bytes() != Path("b.wav").read_bytes()


@pytest.mark.slow
def test_the_vocoder_is_evaluated_beside_griffin_lim(omnictl: Command, talker: Run) -> None:
    settings = "--set", "vocoder=istft", "--init", "latest", "--max-steps", 4
    assert omnictl("talker", "--preset", "debug", *settings, "--name", "b").code == 0
    found = omnictl("eval", "vocoder", "--limit", 2, "--json").json
    assert found["metrics"]["spectral_distance_griffin_lim"] < found["metrics"]["spectral_distance"]


def test_half_the_frames_and_two_books_go_all_the_way(omnictl: Command) -> None:
    """12.5 Hz: each frame of codes is four of durations."""
    settings = "--set", "codec.model.stride=8", "--set", "codec.model.quantiser.books=2"
    ended = omnictl("talker", "--preset", "debug", *settings, "--max-steps", 4, "--json")
    assert ended.code == 0
    assert omnictl("eval", "codec", "--limit", 1, "--json").json["metrics"]["bits_per_second"] == 100  # 2 books of 16 codes
    assert omnictl("say", "Hello.", "--out", "a.wav").code == 0
    assert soundfile.info("a.wav").frames > 0


@pytest.mark.slow
def test_a_thinker_can_read_along(omnictl: Command, talker: Run, runs: Path) -> None:
    """Behind a gate that is closed at first: it changes nothing before it has been trained."""
    assert omnictl("pretrain", "--preset", "debug", "--max-steps", 2).code == 0
    ended = omnictl("talker", "--preset", "debug", *FP32, "--init", "latest", "--thinker", "latest", "--name", "b", "--json")
    assert ended.code == 0
    made = Run(Path(ended.json["run"]))
    first = json.loads(made.metrics_file.read_text().splitlines()[0])
    last = json.loads(talker.metrics_file.read_text().splitlines()[-1])
    assert first["nats_per_code"] == pytest.approx(last["nats_per_code"], rel=1e-6)
    assert load_file(made.model / "model.safetensors")["thoughts.weight"].any()
    shutil.rmtree(runs / "pretrain")
    assert omnictl("say", "Hello.", "--out", "a.wav", "--run", made.path).code == 0
    assert omnictl("eval", "talker", "--run", made.path, "--limit", 1).code == 0
    shutil.rmtree(made.model / "thinker")
    assert omnictl("say", "Hello.", "--out", "b.wav", "--run", made.path).code == 4


@pytest.mark.slow
def test_recordings_of_ones_own_and_their_speakers(omnictl: Command, runs: Path) -> None:
    assert omnictl("data", "export", "--kind", "speech", "--out", "mine", "--num", 24, "--num-eval", 4).code == 0
    ended = omnictl("talker", "--preset", "debug", "--data", "mine", "--json")
    assert ended.code == 0
    made = Run(Path(ended.json["run"]))
    speakers = json.loads((made.model / "config.json").read_text())["speakers"]
    assert len(speakers) > 1
    for name in (speakers[0], speakers[-1]):
        said = omnictl(
            "say", "The quick brown fox jumps over the lazy dog.", "--out", f"{name}.wav", "--speaker", name, "--seed", 0
        )
        assert said.code == 0
    assert Path(f"{speakers[0]}.wav").read_bytes() != Path(f"{speakers[-1]}.wav").read_bytes()
    ended = omnictl("say", "Hello.", "--out", "c.wav", "--speaker", "nobody")
    assert ended.code == 2
    assert speakers[0] in ended.err


@pytest.mark.slow
def test_evaluation_is_judged_by_the_newest_recogniser(omnictl: Command, talker: Run, runs: Path) -> None:
    ended = omnictl("eval", "talker", "--limit", 2, "--json")
    assert ended.code == 0
    found = ended.json
    assert found["judge"] == str(the_run(runs, "asr").path)
    assert found["headline"]["name"] == "cer_free_running"
    assert {"cer_original", "wer_resynthesis", "real_time_factor", "first_audio_seconds"} <= set(found["metrics"])
    assert {"cer_shuffled_text", "cer_shuffled_text_floor", "cer_untrained"} <= set(found["controls"])
    folder = Path(found["predictions"]).parent
    assert (folder / "test-0_free_running.wav").is_file()
    assert (folder / "test-0.png").is_file()


def test_the_parts_are_evaluated_too(omnictl: Command, talker: Run) -> None:
    codec = omnictl("eval", "codec", "--limit", 2, "--json").json
    assert {"mel_mse", "log_spectral_distance_db", "codebook_usage_min", "codebook_perplexity_min_ratio"} <= set(codec["metrics"])
    assert set(codec["groups"]) == {"1 books", "2 books"}
    least = min(group["perplexity_last_book"] for group in codec["groups"].values())
    assert least / 16 == pytest.approx(codec["metrics"]["codebook_perplexity_min_ratio"])
    least = min(group["usage_last_book"] for group in codec["groups"].values())
    assert least == pytest.approx(codec["metrics"]["codebook_usage_min"])
    aligner = omnictl("eval", "aligner", "--limit", 2, "--json").json
    assert aligner["controls"]["path_nats_uniform"] > aligner["metrics"]["path_nats"]


def test_without_a_judge_there_is_no_evaluation(omnictl: Command, talker: Run, runs: Path) -> None:
    asr = the_run(runs, "asr")
    asr.update(status="interrupted")
    ended = omnictl("eval", "talker", "--json")
    assert ended.code == 4
    error = ended.json["error"]
    assert f"{asr.path}: it is interrupted" in error["message"]
    assert "omnictl asr" in error["fix"]
    assert (
        omnictl("eval", "asr", "--run", asr.path, "--judge", "latest", "--json").json["error"]["message"] == "`asr` needs no judge"
    )


@pytest.mark.slow
def test_all_names_what_nobody_can_judge(omnictl: Command, talker: Run, runs: Path) -> None:
    ended = omnictl("eval", "all", "--limit", 2, "--json")
    assert [report["stage"] for report in ended.json["stages"]] == ["asr", "talker"]
    the_run(runs, "asr").update(status="interrupted")
    ended = omnictl("eval", "all", "--limit", 2, "--json")
    assert ended.code == 0
    assert ended.json["stages"] == []
    missing = {entry["stage"]: entry for entry in ended.json["missing"]}
    assert "needs a recogniser" in missing["talker"]["message"]
    assert "omnictl asr" in missing["talker"]["fix"]
    assert omnictl("eval", "all", "--judge", "nowhere").code == 4
    assert (
        omnictl("eval", "all", "--limit", 1, "--judge", the_run(runs, "asr").path, "--json").json["stages"][0]["stage"] == "talker"
    )


def test_a_recogniser_of_other_speech_is_no_judge(omnictl: Command, talker: Run, runs: Path) -> None:
    asr = the_run(runs, "asr")
    config = json.loads(asr.config_file.read_text())
    config["data"]["source"] = "/data/other"
    asr.config_file.write_text(json.dumps(config))
    ended = omnictl("eval", "talker", "--limit", 1)
    assert ended.code == 4
    assert "it was trained on /data/other, not tinyworld" in ended.err
    assert omnictl("eval", "talker", "--limit", 1, "--judge", "latest", "--json").json["judge"] == str(asr.path)


def test_an_outsider_that_is_not_installed_is_no_judge(omnictl: Command, talker: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "find_spec", lambda name: None)
    error = omnictl("eval", "talker", "--limit", 1, "--judge", "pocketsphinx", "--json").json["error"]
    assert (error["exit_code"], error["where"], error["message"]) == (2, "--judge", "pocketsphinx is not installed")
    assert "pip install 'omnictl[judges]'" in error["fix"]


def test_say_writes_a_file_and_how_fast(omnictl: Command, talker: Run) -> None:
    ended = omnictl("say", "Three red cats, and 2 dogs!", "--out", "a.wav", "--json")
    assert ended.code == 0
    found = ended.json
    info = soundfile.info("a.wav")
    assert (info.samplerate, info.subtype) == (16_000, "PCM_16")
    assert found["seconds"] == pytest.approx(info.frames / 16_000)
    assert found["first_audio_seconds"] > 0
    assert found["real_time_factor"] > 0
    assert found["run"] == str(talker.path)


def test_say_reads_standard_input_as_it_comes(omnictl: Command, talker: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO("One. Two.\nThree.\n"))
    assert omnictl("say", "-", "--out", "a.wav").code == 0
    assert omnictl("say", "One. Two.\nThree.\n", "--out", "b.wav").code == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_a_long_text_is_said_in_short_pieces(omnictl: Command, talker: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    code_frames = tts.code_frames

    def noted(talker: Any, symbols: list[int], *args: Any, **kwargs: Any) -> Any:
        lengths.append(len(symbols))
        return code_frames(talker, symbols[:4], *args, **kwargs)  # the rest would only take time

    monkeypatch.setattr(tts, "code_frames", noted)
    assert omnictl("say", "word " * 120, "--out", "a.wav").code == 0
    assert len(lengths) > 3
    assert max(lengths) <= 163


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["", "--out", "a.wav"], 3, "nothing of the text can be said"),
        (["🙂 …", "--out", "a.wav"], 3, "nothing of the text can be said"),
        (["Привет", "--out", "a.wav"], 3, "the Talker reads the letters a to z, the text has: веипрт"),
        (["Hello", "--out", "no/folder/a.wav"], 2, "there is no folder no/folder"),
        (["Hello", "--out", "a.mp3"], 2, "written as WAV, not as .mp3"),
        (["Hello", "--out", "a.wav", "--speaker", "bob"], 2, "no speaker 'bob'"),
        (["Hello", "--out", "a.wav", "--speed", "9"], 2, "speed"),
        (["Hello", "--out", "a.wav", "--run", "nowhere"], 4, "no run 'nowhere' of stage `talker`"),
    ],
)
def test_what_cannot_be_said(omnictl: Command, talker: Run, arguments: list[str], code: int, message: str) -> None:
    ended = omnictl("say", *arguments)
    assert ended.code == code
    assert message in ended.err.replace("\n", " ")
    assert not list(Path().glob("a.*"))


def test_say_without_a_talker_says_how_to_make_one(omnictl: Command) -> None:
    ended = omnictl("say", "Hello", "--out", "a.wav")
    assert ended.code == 4
    assert "omnictl talker" in ended.err


def test_a_codec_of_another_rate_is_refused(omnictl: Command, talker: Run, runs: Path) -> None:
    config = "--set", "codec.model.mel.sample_rate=22050", "--set", "aligner.model.mel.sample_rate=22050"
    ended = omnictl("talker", "--preset", "debug", *config, "--codec", "latest", "--name", "b")
    assert ended.code == 2
    assert "16,000 Hz" in ended.err.replace("\n", " ")
    assert "22,050 Hz" in ended.err.replace("\n", " ")
    assert len(list((runs / "talker").iterdir())) == 1


def test_more_books_than_the_codec_has_are_refused(omnictl: Command) -> None:
    ended = omnictl("talker", "--preset", "debug", "--set", "talker.books=3")
    assert ended.code == 2
    assert "talker.books" in ended.err


def test_resume_keeps_the_config(omnictl: Command, talker: Run) -> None:
    ended = omnictl("talker", "--resume", "latest", "--codec", "latest")
    assert ended.code == 2
    assert "--codec cannot go with --resume" in ended.err


@pytest.mark.slow
def test_parts_that_were_cut_short_are_trained_on_first(omnictl: Command, runs: Path) -> None:
    """The command that a short training prints begins with the codec and the aligner, from their weights."""
    assert omnictl("talker", "--preset", "debug", "--max-steps", 2, "--quiet").code == 0
    short = {part: the_run(runs, part) for part in (*TalkerStage.needs, "talker")}
    ended = omnictl("talker", "--resume", "latest", "--max-steps", 3)
    assert ended.code == 0
    assert "parts that took fewer steps than planned stay as they are: codec, aligner" in ended.out
    command = longer_command(short["talker"], 3)
    assert command in ended.out
    assert omnictl(*shlex.split(command)[1:], "--max-steps", 4, "--quiet").code == 0
    for part, old in short.items():
        (new,) = (Run(path) for path in (runs / part).iterdir() if path != old.path)
        assert (new.record()["steps"], new.record()["parents"]["init"]) == (4, str(old.path.absolute())), part
    assert new.record()["parents"]["codec"] != str(short["codec"].path.absolute())
    assert (new.model / "codec" / "model.safetensors").read_bytes() == (
        Run(Path(new.record()["parents"]["codec"])).model / "model.safetensors"
    ).read_bytes()


def test_what_was_trained_to_its_end_is_gone_on_with(talker: Run) -> None:
    assert longer_command(talker, 40) == f"omnictl talker --resume {talker.path} --max-steps 40"
