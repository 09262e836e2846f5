import builtins
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

LONG = "word " * 500


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


def test_one_reply(omnictl: Command, trained: Path) -> None:
    ended = omnictl("chat", "--text", "hello", "--seed", 1)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("\n")
    assert len(ended.out) > 1


def test_one_reply_as_json(omnictl: Command, trained: Path) -> None:
    ended = omnictl("chat", "--text", "hello", "--seed", 1, "--max-tokens", 12, "--json")
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
    assert omnictl("chat", "--text", "hello", "--seed", 3).out == f"{answer}\n"


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
    lines("hello", "", "how are you?", "/reset", "/what", "bye", "/quit", "never said")
    ended = omnictl("chat", "--seed", 1, "--max-tokens", 5)
    assert ended.code == 0
    shown = ended.out.splitlines()
    assert trained.name in shown[0]
    assert "it answers" in shown[0]
    assert "/reset" in shown[0]
    assert "/quit" in shown[0]
    assert "(forgotten)" in shown
    assert ended.out.count("/reset forgets") == 2  # at the beginning, and after what is no command


def test_a_conversation_ends_with_the_input(omnictl: Command, trained: Path, lines: Callable[..., None]) -> None:
    lines()
    assert omnictl("chat").code == 0


def test_an_interrupt_between_replies_leaves_the_conversation(omnictl: Command, trained: Path, lines: Callable[..., None]) -> None:
    lines("hello", KeyboardInterrupt)
    assert omnictl("chat", "--seed", 1, "--max-tokens", 5).code == 130


def test_an_interrupt_within_a_reply_only_stops_the_reply(
    omnictl: Command, trained: Path, lines: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from omnictl.chat import session

    def interrupted(model: object, prompt: Sequence[int], **settings: object) -> Iterator[int]:
        yield prompt[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "generate", interrupted)
    lines("hello", "/reset")
    ended = omnictl("chat")
    assert ended.code == 0
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
