import builtins
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from stage_factory import finished_run, unseal

from omnictl.cli.use import chat_repl, playback
from omnictl.cli.use.chat_repl import completions
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.runs.run import Run
from omnictl.use import chat_session
from omnictl.visible_text import visible

Command = Callable[..., Any]
Script = Callable[..., list[str]]

LONG = "word " * 500
EXAMPLES = Path(__file__).parents[3] / "examples"
SCENE, QUESTION = EXAMPLES / "scene.png", EXAMPLES / "question.wav"
HEADS_UP = "The big red star is at the top left of the picture. "
REST = "The small blue ring is at the bottom right of the picture."


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let somebody type these lines, then Ctrl-D; an exception is raised instead."""

    def type_in(*texts: str | type[BaseException]) -> None:
        remaining: Iterator[str | type[BaseException]] = iter([*texts, EOFError])

        def read(prompt: str = "") -> str:
            text = next(remaining)
            if isinstance(text, str):
                return text
            raise text

        monkeypatch.setattr(builtins, "input", read)

    return type_in


@pytest.fixture(scope="session")
def joined_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished debug run of stage E that has learned nothing, with a Talker. Not to be changed: `joined` is a copy."""
    return finished_run(tmp_path_factory.mktemp("joined"), "sft").path


@pytest.fixture
def joined(joined_once: Path, runs: Path) -> Run:
    """A model that sees, hears and speaks, in this test's run root; the example files lie in the working directory."""
    for file in (SCENE, QUESTION):
        shutil.copy(file, file.name)
    return Run(Path(shutil.copytree(joined_once, runs / "sft" / joined_once.name)))


@pytest.fixture
def answers(joined: Run, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Let the model of `joined` answer these texts, one after the other, piece by piece; returns what happens meanwhile."""
    tokenizer = Tokenizer.load(joined.model / "tokenizer.json")

    def script(*texts: str | type[BaseException]) -> list[str]:
        remaining = iter(texts)
        happened: list[str] = []

        def generate(*_: object, **__: object) -> Iterator[int]:
            text = next(remaining)
            if not isinstance(text, str):
                yield from tokenizer.encode("Well", markup=False)
                raise text
            for token in tokenizer.encode(text, markup=False):
                happened.append("written")
                yield token

        monkeypatch.setattr(chat_session, "generate", generate)
        return happened

    return script


class Recorder:
    """A loudspeaker that notes what it is asked for."""

    def __init__(self, happened: list[str]) -> None:
        self._happened = happened

    def play(self, samples: object) -> None:
        self._happened.append("played")

    def close(self) -> None:
        self._happened.append("closed")

    def stop(self) -> None:
        self._happened.append("stopped")


def plug_in(loudspeaker: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (playback, chat_repl):
        monkeypatch.setattr(module, "open_loudspeaker", lambda rate: loudspeaker)


def write_silence(path: Path, seconds: float) -> None:
    soundfile.write(path, np.zeros(int(seconds * 4000), np.float32), 4000)


def test_one_reply(omnictl: Command, trained: Path) -> None:
    ended = omnictl("chat", "--text", "hello", "--seed", 2)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("\n")
    assert len(ended.out) > 1


def test_one_reply_as_json(omnictl: Command, trained: Path) -> None:
    ended = omnictl("chat", "--text", "hello", "--seed", 2, "--max-tokens", 12, "--json")
    reply = ended.json
    assert list(reply) == ["run", "answer", "speech", "tokens", "first_token_seconds", "first_audio_seconds"]
    assert reply["run"] == str(trained)
    assert list(reply["tokens"]) == ["text", "image", "audio", "new"]
    assert (reply["speech"], reply["tokens"]["image"], reply["tokens"]["audio"]) == (None, 0, 0)
    assert reply["tokens"]["text"] > 0
    assert 0 < reply["tokens"]["new"] <= 12
    assert reply["first_token_seconds"] > 0
    assert reply["first_audio_seconds"] is None
    assert ended.err == ""


def test_what_is_streamed_is_the_answer(omnictl: Command, trained: Path) -> None:
    answer = omnictl("chat", "--text", "hello", "--seed", 3, "--json").json["answer"]
    assert omnictl("chat", "--text", "hello", "--seed", 3).out == f"{visible(answer)}\n"


def test_a_seed_makes_replies_repeatable(omnictl: Command, trained: Path) -> None:
    first, again, other = (omnictl("chat", "--text", "hello", "--seed", seed).out for seed in (1, 1, 2))
    assert first == again != other


def test_without_a_seed_replies_differ(omnictl: Command, trained: Path) -> None:
    assert omnictl("chat", "--text", "hello", "--temperature", 2).out != omnictl("chat", "--text", "hello", "--temperature", 2).out


def test_greedy_replies_need_no_seed(omnictl: Command, trained: Path) -> None:
    first, again = (omnictl("chat", "--text", "hello", "--temperature", 0, "--max-tokens", 9).out for _ in range(2))
    assert first == again


def test_a_prompt_longer_than_the_context_is_cut_and_said_so(omnictl: Command, trained: Path) -> None:
    ended = omnictl("chat", "--text", LONG, "--seed", 1)
    assert ended.code == 0
    assert "did not fit into the context and were left out" in ended.out
    reply = omnictl("chat", "--text", LONG, "--seed", 1, "--json")
    assert reply.json["tokens"]["text"] < 128  # the context of the debug preset
    assert "did not fit" in reply.err


def test_json_of_a_conversation_is_refused(omnictl: Command, trained: Path) -> None:
    ended = omnictl("chat", "--json")
    assert (ended.code, ended.json["error"]["kind"], ended.json["error"]["where"]) == (2, "usage", "--json")
    assert "--text" in ended.json["error"]["fix"]


def test_a_conversation(omnictl: Command, trained: Path, lines: Callable[..., None]) -> None:
    lines("hello", "", "how are you?", "/reset", "/what", "/rest", "/help", "bye", "/quit", "never said")
    ended = omnictl("chat", "--seed", 1, "--max-tokens", 5)
    assert (ended.code, ended.err) == (0, "")
    shown = ended.out.splitlines()
    assert trained.name in shown[0]
    assert "it answers" in shown[0]
    assert "/help" in shown[0]
    assert "(forgotten)" in shown
    assert "no command /what; /help lists them" in shown
    assert "no command /rest; did you mean /reset?" in shown
    assert chat_repl.HELP in ended.out


def test_a_conversation_ends_with_the_input(omnictl: Command, trained: Path, lines: Callable[..., None]) -> None:
    lines()
    assert omnictl("chat").code == 0


def test_an_interrupt_between_replies_leaves_the_conversation(omnictl: Command, trained: Path, lines: Callable[..., None]) -> None:
    lines("hello", KeyboardInterrupt)
    assert omnictl("chat", "--seed", 1, "--max-tokens", 5).code == 130


def test_an_interrupt_within_a_reply_only_stops_the_reply(
    omnictl: Command, trained: Path, lines: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> Iterator[int]:
        yield ord("a")
        raise KeyboardInterrupt

    monkeypatch.setattr(chat_session, "generate", interrupted)
    lines("hello", "/reset")
    ended = omnictl("chat")
    assert ended.code == 0
    assert "(stopped)" in ended.out
    assert "(forgotten)" in ended.out


def test_reset_forgets_what_was_said(omnictl: Command, trained: Path, lines: Callable[..., None]) -> None:
    last = []
    for before in ([], ["there is a red cube.", "/reset"]):
        lines(*before, "what is red?")
        last.append(omnictl("chat", "--temperature", 0, "--max-tokens", 5).out.splitlines()[-1])
    assert last[0] == last[1]


def test_a_model_of_plain_text_continues_it(omnictl: Command, tmp_path: Path, prose: str, lines: Callable[..., None]) -> None:
    (tmp_path / "my.txt").write_text(prose)
    omnictl("pretrain", "--preset", "debug", "--data", "my.txt", "--max-steps", 2)
    lines("Ada found")
    ended = omnictl("chat", "--max-tokens", 5)
    assert ended.code == 0
    assert "it continues what you write" in ended.out.splitlines()[0]


def test_without_any_model_the_commands_that_make_one_are_named(omnictl: Command, runs: Path) -> None:
    ended = omnictl("chat", "--audio", QUESTION, "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (4, "run")
    assert "omnictl pipeline --preset tiny" in ended.json["error"]["fix"]


def test_a_model_that_does_not_hear_says_which_would(omnictl: Command, trained: Path) -> None:
    ended = omnictl("chat", "--audio", QUESTION, "--json")
    assert ended.code == 4
    assert "never learned from recordings" in ended.json["error"]["message"]
    for command in ("omnictl pipeline", "omnictl asr", "omnictl sft"):
        assert command in ended.json["error"]["fix"]


def test_the_ablest_model_is_talked_to(omnictl: Command, trained: Path, joined: Run, runs: Path) -> None:
    asked = "chat", "--text", "hello", "--max-tokens", 1, "--json"
    Run(trained).update(created="2099-01-01_00-00-00")
    assert omnictl(*asked).json["run"] == str(joined.path)
    assert omnictl(*asked, "--run", "latest").json["run"] == str(joined.path)
    for named in (trained, trained.name, f"pretrain/{trained.name}", joined.path, f"sft/{joined.path.name}", joined.model):
        assert Path(omnictl(*asked, "--run", named).json["run"]).name == Path(named).name
    joined.update(status="interrupted")
    assert omnictl(*asked).json["run"] == str(trained)


def test_a_spoken_question_alone_is_answered(omnictl: Command, joined: Run, answers: Script) -> None:
    answers("It is red.")
    reply = omnictl("chat", "--audio", "question.wav", "--json").json
    assert (reply["answer"], reply["tokens"]["image"], reply["speech"]) == ("It is red.", 0, None)
    assert reply["tokens"]["audio"] == pytest.approx(12.5 * soundfile.info("question.wav").duration, abs=1.5)


def test_several_images_are_shown(omnictl: Command, joined: Run) -> None:
    counts = [
        omnictl("chat", *["--image", "scene.png"] * many, "--text", "Same?", "--max-tokens", 1, "--json").json["tokens"]["image"]
        for many in (1, 2)
    ]
    assert counts[1] == 2 * counts[0] > 0


@pytest.mark.slow
def test_an_answer_is_said_into_a_file(omnictl: Command, joined: Run, answers: Script) -> None:
    answers(HEADS_UP + REST)
    asked = "--image", "scene.png", "--audio", "question.wav", "--speak", "reply.wav"
    reply = omnictl("chat", *asked, "--json").json
    assert (reply["answer"], reply["speech"]) == (HEADS_UP + REST, "reply.wav")
    assert 0 < reply["first_token_seconds"] < reply["first_audio_seconds"]
    assert soundfile.info("reply.wav").frames > 0


def test_a_sentence_is_heard_before_the_next_one_is_written(
    omnictl: Command, joined: Run, answers: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = answers(HEADS_UP + REST)
    plug_in(Recorder(happened), monkeypatch)
    assert omnictl("chat", "--text", "What is there?", "--speak", "reply.wav").code == 0
    tokenizer = Tokenizer.load(joined.model / "tokenizer.json")
    assert happened.index("played") <= len(tokenizer.encode(HEADS_UP + "The", markup=False))
    assert happened[-1] == "closed"
    last_written = len(happened) - 1 - happened[::-1].index("written")
    assert "played" in happened[last_written:]


@pytest.mark.parametrize(("text", "reason"), [("Это кот.", "letters a to z"), ("?!", "no letters and no numbers")])
def test_what_cannot_be_said_is_written(omnictl: Command, joined: Run, answers: Script, text: str, reason: str) -> None:
    answers(f"{text}", f"{text}")
    ended = omnictl("chat", "--text", "hi", "--speak", "reply.wav", "--json")
    assert ended.code == 0
    assert (ended.json["answer"], ended.json["speech"], ended.json["first_audio_seconds"]) == (text, None, None)
    assert "not said" in ended.err
    assert reason in ended.err
    assert not Path("reply.wav").exists()
    assert omnictl("chat", "--text", "hi", "--speak", "reply.wav").out.startswith(f"{text}\n(not said: ")


def test_another_talker_speaks_where_the_model_has_none(omnictl: Command, joined: Run, runs: Path, answers: Script) -> None:
    shutil.rmtree(joined.model / "talker")
    ended = omnictl("chat", "--text", "hi", "--speak", "reply.wav", "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (4, "run")
    assert "omnictl talker" in ended.json["error"]["fix"]
    talker = finished_run(runs, "talker")
    answers(HEADS_UP)
    ended = omnictl("chat", "--text", "hi", "--speak", "reply.wav", "--json")
    assert (ended.code, ended.json["speech"]) == (0, "reply.wav")
    assert str(talker.path) in ended.err


BAD: tuple[tuple[str, int, str, tuple[str, ...]], ...] = (
    ("--image missing.png --text hi", 3, "data", ("no such file", "missing.png")),
    ("--audio missing.wav", 3, "data", ("no such file", "missing.wav")),
    ("--image notes.txt --text hi", 3, "data", ("notes.txt",)),
    ("--audio scene.png", 3, "data", ("scene.png",)),
    ("--image question.wav --text hi", 3, "data", ("question.wav",)),
    ("--audio folder", 3, "data", ("folder",)),
    (f"{'--image scene.png ' * 10}--text hi", 2, "usage", ("of 10 images", "of text")),
    ("--audio long.wav", 2, "usage", ("7501 of one recording",)),
    ("--text=", 2, "usage", ("the question is empty",)),
    ("--text=a\udcff", 2, "usage", ("not valid UTF-8",)),
    ("--image scene.png", 2, "usage", ("an image alone asks nothing",)),
    ("--image scene.png --text=", 2, "usage", ("an image alone asks nothing",)),
    ("--text hi --speak nowhere/reply.wav", 2, "usage", ("there is no folder nowhere",)),
    ("--text hi --speak reply.mp3", 2, "usage", ("written as WAV, not as .mp3",)),
    ("--text hi --speak folder", 2, "usage", ("folder is a folder",)),
    ("--text hi --run nothing", 4, "run", ("no run 'nothing'",)),
)


@pytest.mark.slow
def test_bad_input_is_named_with_its_fix(omnictl: Command, joined: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_session, "generate", lambda *_, **__: pytest.fail("the model was asked"))
    Path("notes.txt").write_text("not an image")
    Path("folder").mkdir()
    write_silence(Path("long.wav"), 600)
    for arguments, code, kind, words in BAD:
        ended = omnictl("chat", *arguments.split(), "--json")
        assert ended.code == code, arguments
        error = ended.json["error"]
        assert (error["kind"], error["exit_code"]) == (kind, code), arguments
        assert all(word in error["message"] for word in words), error
        assert error["fix"]


def test_a_broken_model_folder_is_named(omnictl: Command, joined: Run) -> None:
    unseal(joined.model)  # else its checksums would find it first
    described = json.loads((joined.model / "config.json").read_text())
    (joined.model / "config.json").write_text(json.dumps(described | {"format": 7}))
    ended = omnictl("chat", "--text", "hi", "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (4, "checkpoint")
    assert "'format': 7" in ended.json["error"]["message"]
    (joined.model / "config.json").write_text(json.dumps(described))
    (joined.model / "model.safetensors").unlink()
    ended = omnictl("chat", "--text", "hi", "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (4, "checkpoint")
    assert "cannot read the weights" in ended.json["error"]["message"]


def test_a_conversation_survives_what_goes_wrong(
    omnictl: Command, joined: Run, answers: Script, lines: Callable[..., None]
) -> None:
    Path("notes.txt").write_text("not an image")
    write_silence(Path("long.wav"), 60)
    answers("Yes.", KeyboardInterrupt, "No.")
    wrong = {
        "/image missing.png": "no such file",
        "/image": "needs a file",
        "/image notes.txt": "notes.txt",
        "/audio scene.png": "scene.png",
        "/audio long.wav": "751 of one recording",
        "/audio": "needs one file",
        "/speak loudly": "is on or off",
        "/save nowhere/a.jsonl": "there is no folder nowhere",
        "/save a.json": "kept in a .jsonl file",
        "/save": "needs one file",
    }
    lines(*wrong, "/image 'scene.png' " + "scene.png " * 9, "ten?", "one?", "two?", "/imge", LONG)
    ended = omnictl("chat")
    assert ended.code == 0
    assert all(reason in ended.err for reason in (*wrong.values(), "of 10 images"))
    assert ended.err.count("fix") == len(wrong) + 1
    shown = ended.out.splitlines()
    assert "(10 images wait for what you say next)" in shown
    assert shown.index("Yes.") < shown.index("Well") < shown.index("(stopped)") < shown.index("No.")
    assert "no command /imge; did you mean /image?" in shown
    assert "did not fit into the context" in shown[-1]


def test_a_conversation_is_said_into_numbered_files(
    omnictl: Command, joined: Run, answers: Script, lines: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(None, monkeypatch)  # type: ignore[arg-type]
    answers("Before.", HEADS_UP, REST, "After.", HEADS_UP)
    lines("a", "/speak on", "b", "c", "/speak off", "d")
    assert omnictl("chat").code == 0
    assert sorted(path.name for path in Path().glob("*.wav")) == ["question.wav", "reply_1.wav", "reply_2.wav"]
    lines("e")
    assert omnictl("chat", "--speak", "said.wav").code == 0
    assert Path("said_1.wav").is_file()


def test_what_is_heard_needs_no_file_and_an_interrupt_silences_it(
    omnictl: Command, joined: Run, answers: Script, lines: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = answers(HEADS_UP, KeyboardInterrupt)
    plug_in(Recorder(happened), monkeypatch)
    lines("/speak on", "a", "b")
    assert omnictl("chat").code == 0
    assert [what for what in happened if what not in ("written", "played")] == ["closed", "stopped"]
    assert "played" in happened
    assert not list(Path().glob("reply*.wav"))


def test_a_conversation_is_kept_as_dialogues_that_can_be_trained_on(
    omnictl: Command, joined: Run, answers: Script, lines: Callable[..., None]
) -> None:
    answers("A star.", "Red.", "", "Bye.")
    Path("recordings").mkdir()
    Path("question.wav").rename("recordings/question.wav")
    lines(
        "/save a.jsonl",
        "/image scene.png",
        "What is it?",
        "/audio recordings/question.wav",
        "say nothing",
        "bye",
        *["/save a.jsonl"] * 2,
    )
    ended = omnictl("chat")
    assert ended.code == 0
    assert "no conversation to save yet" in ended.err
    assert ended.out.count("(saved in a.jsonl)") == 2
    (line,) = Path("a.jsonl").read_text().splitlines()
    assert json.loads(line)["messages"] == [
        {"role": "user", "content": [{"type": "image", "image": "scene.png"}, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": "A star."},
        {"role": "user", "content": [{"type": "audio", "audio": "recordings/question.wav"}]},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": "bye"},
        {"role": "assistant", "content": "Bye."},
    ]
    assert omnictl("data", "check", "a.jsonl").code == 0


def test_files_elsewhere_are_kept_as_given_and_what_is_there_is_left_alone(
    omnictl: Command, joined: Run, answers: Script, lines: Callable[..., None]
) -> None:
    answers("A star.")
    Path("talks").mkdir()
    Path("talks/old.jsonl").write_text("old")
    lines("/image scene.png", "What is it?", "/save talks/old.jsonl", "/save talks/a.jsonl")
    ended = omnictl("chat")
    assert "talks/old.jsonl exists already" in ended.err
    assert Path("talks/old.jsonl").read_text() == "old"
    assert "scene.png lie below its folder" in ended.out
    assert '"image": "scene.png"' in Path("talks/a.jsonl").read_text()


def test_tab_completes_commands_and_paths(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").touch()
    (tmp_path / "pick.wav").touch()
    commands = ["/image", "/audio", "/quit"]
    assert completions("/im", commands) == ["/image"]
    assert completions("pic", commands) == ["pick.wav", "pictures/"]
    assert completions("pictures/", commands) == ["pictures/one.png"]
    assert completions(f"{tmp_path}/pick", commands) == [f"{tmp_path}/pick.wav"]
    assert completions("nowhere/x", commands) == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("/image ~nosuchuser/x.png", "error (/image): ~nosuchuser is no user of this machine"),
        ("/audio ~nosuchuser/x.wav", "error (/audio): ~nosuchuser is no user of this machine"),
        (f"/save {'x' * 300}.jsonl", "cannot be a path: File name too long"),
        (f"/image {'x' * 300}.png", "cannot be a path: File name too long"),
        ("a byte that is none: \udcff", "that is not valid UTF-8"),
    ],
    ids=range(5),
)
def test_a_bad_line_takes_no_conversation_with_it(omnictl: Command, joined: Run, lines: Command, typed: str, said: str) -> None:
    lines("Hello.", typed, "Are you there?", "/save kept.jsonl")
    ended = omnictl("chat", "--max-tokens", 4)
    assert ended.code == 0
    assert said in ended.err + ended.out
    assert "Traceback" not in ended.err
    (kept,) = Path("kept.jsonl").read_text().splitlines()
    assert [message["content"] for message in json.loads(kept)["messages"][::2]] in (["Hello.", "Are you there?"], ["Hello."])


def test_any_error_is_one_line(omnictl: Command, joined: Run, lines: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise IndexError("what nobody thought of\x1b[31m")

    monkeypatch.setattr(chat_session.AttachedMedia, "take", fail)
    lines("/image scene.png", "/help")
    ended = omnictl("chat")
    assert ended.code == 0
    assert "error: that did not work: IndexError: what nobody thought of␛[31m" in ended.err
    assert "/reset" in ended.out
