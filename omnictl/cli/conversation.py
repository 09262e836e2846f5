"""A conversation at the terminal: answers as they are written and said, and commands that begin with a slash."""

import contextlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.markup import escape

from omnictl.cli.console import Output, show_error
from omnictl.cli.playing import Loudspeaker, open_loudspeaker
from omnictl.config.suggest import nearest
from omnictl.errors import DataError, OmniError, UsageError

if TYPE_CHECKING:
    from omnictl.chat.session import Attachment, Reply, Session
    from omnictl.data.dialogue import Message
    from omnictl.generate.sampling import SamplingConfig
    from omnictl.say import Speaker

HELP = """\
/image FILE…    show pictures with what you say next
/audio FILE     ask by a recording
/speak on|off   say the answers aloud, or into files where nothing can play them
/reset          forget what was said
/save FILE      keep the conversation, as a line of JSON
/help           this
/quit, Ctrl-D   leave; Ctrl-C stops an answer
anything else is said to the model"""


class Said(NamedTuple):
    """An answer."""

    reply: "Reply"
    speech: Path | None
    first_audio: float | None  # when, on `time.perf_counter`'s clock


def answer(
    session: "Session",
    text: str,
    shown: "Sequence[Attachment]",
    sampling: "SamplingConfig",
    max_tokens: int,
    output: Output,
    voice: "Speaker | None" = None,
    speech: Path | None = None,
    loudspeaker: Loudspeaker | None = None,
) -> Said:
    """Stream one reply to the terminal, and if there is a voice, say it while it is written; nothing is shown with `--json`.

    Args:
        session: the model and what was said so far.
        text: what is said to it.
        shown: pictures and sounds that go with it.
        sampling: how tokens are chosen.
        max_tokens: longest reply.
        output: where to write.
        voice: who says it.
        speech: the file to say it into.
        loudspeaker: plays it meanwhile.
    """
    from omnictl.chat.session import Reply

    reply = Reply()
    pieces = _shown(session.reply(text, sampling, max_tokens=max_tokens, into=reply, attachments=shown), output)
    first_audio: float | None = None
    if voice is None:
        for _ in pieces:
            pass
    else:
        first_audio = _say(pieces, voice, speech, loudspeaker, output)
    if not output.as_json:
        sys.stdout.write("\n")
    if reply.dropped_tokens:
        output.say(f"[dim](the oldest {reply.dropped_tokens} tokens did not fit into the context and were left out)[/dim]")
    written = speech if first_audio is not None else None
    if written is not None:
        output.say(f"[dim](said in {escape(str(written))})[/dim]")
    return Said(reply, written, first_audio)


def _shown(pieces: Iterator[str], output: Output) -> Iterator[str]:
    for piece in pieces:
        if not output.as_json:
            sys.stdout.write(piece)
            sys.stdout.flush()
        yield piece


def _say(
    pieces: Iterator[str], voice: "Speaker", speech: Path | None, loudspeaker: Loudspeaker | None, output: Output
) -> float | None:
    """Say a reply as it comes; returns when the first sound was there, None if there was none."""
    import numpy as np

    from omnictl.data.media import wav_bytes
    from omnictl.runs.files import write_bytes
    from omnictl.say import Manner, stream

    first: float | None = None
    parts = []
    try:
        for samples in stream(pieces, voice, Manner()):
            first = first or time.perf_counter()
            parts.append(samples)
            if loudspeaker is not None:
                loudspeaker.play(samples)
    except DataError as error:
        for _ in pieces:  # what cannot be said is written all the same
            pass
        output.say(f"\n[dim](not said: {escape(error.message)})[/dim]")
    if parts and speech is not None:
        write_bytes(speech, wav_bytes(np.concatenate(parts), voice.voice.vocoder.sample_rate))
    return first


class Conversation:
    """What a person types, line by line.

    Args:
        session: the model.
        sampling: how tokens are chosen.
        max_tokens: longest reply.
        output: where to write.
        find_voice: opens the Talker when it is first wanted.
        speech: a file to say answers into from the start.
    """

    def __init__(
        self,
        session: "Session",
        sampling: "SamplingConfig",
        max_tokens: int,
        output: Output,
        find_voice: "Callable[[], Speaker]",
        speech: Path | None = None,
    ) -> None:
        self._session, self._sampling, self._max_tokens, self._output = session, sampling, max_tokens, output
        self._find_voice, self._speech = find_voice, speech
        self._voice: Speaker | None = None
        self._speaking = speech is not None
        self._waiting: list[Attachment] = []
        self._said = 0
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "/image": self._image,
            "/audio": self._audio,
            "/speak": self._speak,
            "/reset": self._reset,
            "/save": self._save,
            "/help": self._help,
        }

    def hold(self, name: str) -> None:
        """Talk until the person leaves; whatever goes wrong is told, and the conversation goes on."""
        self._complete_paths()
        manner = "it answers" if self._session.mode == "chatml" else "it continues what you write"
        self._output.say(f"[bold]{escape(name)}[/bold]: {manner}. /help tells what else it can do")
        prompt = "> " if sys.stdin.isatty() else ""
        while True:
            try:
                line = input(prompt).strip()
            except EOFError:
                return
            if line in ("/quit", "/exit"):
                return
            with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C stops a reply, not the conversation
                try:
                    self._take(line)
                except OmniError as error:
                    show_error(error, self._output)

    def _take(self, line: str) -> None:
        if not line.startswith("/"):
            if line:
                self._answer(line)
            return
        word, *rest = _words(line)
        command = self._commands.get(word)
        if command is not None:
            command(rest)
            return
        meant = nearest(word, list(self._commands))
        self._output.say(f"no command {escape(word)}" + (f"; did you mean {meant}?" if meant else "") + " /help lists them")

    def _answer(self, text: str) -> None:
        shown, self._waiting = self._waiting, []
        voice, speech, loudspeaker = None, None, None
        if self._speaking:
            voice = self._voice = self._voice or self._find_voice()
            loudspeaker = open_loudspeaker(voice.voice.vocoder.sample_rate)
            self._said += 1
            speech = self._speech or (None if loudspeaker else Path(f"reply_{self._said}.wav"))
        try:
            answer(self._session, text, shown, self._sampling, self._max_tokens, self._output, voice, speech, loudspeaker)
        finally:
            if loudspeaker is not None:
                loudspeaker.close()

    def _image(self, files: list[str]) -> None:
        from omnictl.chat.session import Attachment

        if not files:
            raise UsageError("/image wants a file", where="/image", fix="/image picture.png")
        self._waiting += [Attachment("image", Path(file).expanduser()) for file in files]
        many = len(self._waiting)
        self._output.say(f"[dim]({many} {'picture waits' if many == 1 else 'pictures wait'} for what you say next)[/dim]")

    def _audio(self, files: list[str]) -> None:
        from omnictl.chat.session import Attachment

        if len(files) != 1:
            raise UsageError("/audio wants one file", where="/audio", fix="/audio question.wav")
        self._waiting.append(Attachment("audio", Path(files[0]).expanduser()))
        self._answer("")

    def _speak(self, words: list[str]) -> None:
        if words not in (["on"], ["off"]):
            raise UsageError("/speak is on or off", where="/speak", fix="/speak on")
        if words == ["on"]:
            self._voice = self._voice or self._find_voice()
        self._speaking = words == ["on"]
        self._output.say(f"[dim](answers are {'said' if self._speaking else 'not said any more'})[/dim]")

    def _reset(self, _: list[str]) -> None:
        self._session.history.clear()
        self._waiting.clear()
        self._output.say("[dim](forgotten)[/dim]")

    def _save(self, words: list[str]) -> None:
        from omnictl.runs.files import write_text

        if len(words) != 1:
            raise UsageError("/save wants one file", where="/save", fix="/save conversation.jsonl")
        history = [{"role": message.role, "content": _content(message)} for message in self._session.history]
        path = Path(words[0]).expanduser()
        write_text(path, json.dumps({"messages": history}, ensure_ascii=False) + "\n")
        self._output.say(f"[dim](saved in {escape(str(path))})[/dim]")

    def _help(self, _: list[str]) -> None:
        self._output.say(escape(HELP))

    def _complete_paths(self) -> None:
        """Let Tab complete commands and paths, where there is a terminal that can."""
        try:
            import readline
        except ImportError:
            return

        def complete(text: str, state: int) -> str | None:
            found = [name for name in (*self._commands, "/quit") if name.startswith(text)] if text.startswith("/") else []
            found += sorted(_paths(text))
            return found[state] if state < len(found) else None

        readline.set_completer(complete)
        readline.set_completer_delims(" ")
        readline.parse_and_bind("tab: complete")


def _paths(beginning: str) -> Iterator[str]:
    """The paths that begin so, folders with a slash behind them."""
    folder, _, name = beginning.rpartition("/")
    base = Path(folder or ("/" if beginning.startswith("/") else ".")).expanduser()
    if base.is_dir():
        for path in base.iterdir():
            if path.name.startswith(name):
                yield beginning[: len(beginning) - len(name)] + path.name + ("/" if path.is_dir() else "")


def _words(line: str) -> list[str]:
    """A command and what follows it; quotes hold a path with spaces together."""
    try:
        return shlex.split(line)
    except ValueError:  # a quote that does not close is meant as it stands
        return line.split()


def _content(message: "Message") -> str | list[dict[str, str]]:
    """A message as dialogues in JSONL have it; what was shown is named by its kind alone."""
    if all(isinstance(part, str) for part in message.parts):
        return message.text
    return [{"type": "text", "text": part} if isinstance(part, str) else {"type": part.kind} for part in message.parts]
