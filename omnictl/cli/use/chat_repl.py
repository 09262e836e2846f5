"""A conversation at the terminal: answers as they are written and said, and commands that begin with a slash."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.markup import escape

from omnictl.cli.console import Output, show_error
from omnictl.cli.use.playback import Loudspeaker, open_loudspeaker
from omnictl.config.suggest import nearest
from omnictl.errors import DataError, OmniError, UsageError

if TYPE_CHECKING:
    from omnictl.data.dialogues.chat_template import Media, MediaKind, Message
    from omnictl.data.speech.corpus import Samples
    from omnictl.generate.sampling import SamplingConfig
    from omnictl.use.chat_session import Reply, Session
    from omnictl.use.say import Speaker

HELP = """\
/image FILE…    show pictures with what you say next
/audio FILE     ask by a recording
/speak on|off   say the answers aloud, or into files where nothing can play them
/reset          forget what was said
/save FILE      keep the conversation as a line of JSON, as `omnictl sft --data` takes it
/help           this
/quit, Ctrl-D   leave; Ctrl-C stops an answer
anything else is said to the model"""

LEAVE = ("/quit", "/exit")


class ReplySettings(NamedTuple):
    """How the model answers."""

    sampling: "SamplingConfig"
    max_tokens: int


class SpokenReply(NamedTuple):
    """How an answer is said."""

    voice: "Speaker"
    file: Path | None
    loudspeaker: Loudspeaker | None


class _Heard(NamedTuple):
    """What became of an answer that was to be said: its sound, or why there is none."""

    sound: "Samples | None"
    flaw: str | None


def answer(
    session: "Session",
    text: str,
    shown: "Sequence[Media]",
    manners: ReplySettings,
    output: Output,
    reply: "Reply",
    aloud: SpokenReply | None = None,
) -> Path | None:
    """Stream one reply to the terminal, and say it while it is written; nothing is shown with `--json`.

    Args:
        session: the model and what was said so far.
        text: what is said to it.
        shown: pictures and sounds that go with it.
        manners: how it answers.
        output: where to write.
        reply: is filled in.
        aloud: how it is said, if it is.

    Returns:
        The file it was said into; None if there is none, or it cannot be said.
    """
    loudspeaker = aloud.loudspeaker if aloud else None
    with _heard_out(loudspeaker):
        pieces = _shown(session.reply(text, manners.sampling, max_tokens=manners.max_tokens, into=reply, shown=shown), output)
        heard = _hear(pieces, aloud, reply) if aloud else None
        for _ in pieces:  # what is not said is written all the same
            pass
        if not output.as_json:
            sys.stdout.write("\n")
        if reply.dropped_tokens:
            output.say(f"[dim](the oldest {reply.dropped_tokens} tokens did not fit into the context and were left out)[/dim]")
        if aloud is None or heard is None:
            return None
        if heard.sound is None:
            output.say(f"[dim](not said: {escape(str(heard.flaw))})[/dim]")
            return None
        if aloud.file is not None:
            _write_sound(aloud.file, heard.sound, aloud.voice)
            output.say(f"[dim](said in {escape(str(aloud.file))})[/dim]")
        return aloud.file


def _shown(pieces: Iterator[str], output: Output) -> Iterator[str]:
    for piece in pieces:
        if not output.as_json:
            sys.stdout.write(piece)
            sys.stdout.flush()
        yield piece


def _hear(pieces: Iterator[str], aloud: SpokenReply, reply: "Reply") -> _Heard:
    """Say a reply as it comes, all of it or it counts as unsaid."""
    import numpy as np

    from omnictl.use.say import SpeechSettings, stream

    parts: list[Samples] = []
    try:
        for samples in stream(pieces, aloud.voice, SpeechSettings()):
            if reply.first_audio_seconds is None:
                reply.first_audio_seconds = reply.seconds
            parts.append(samples)
            if aloud.loudspeaker is not None:
                aloud.loudspeaker.play(samples)
    except DataError as error:  # of the text: what was shown has been read before
        reply.first_audio_seconds = None
        return _Heard(None, error.message)
    return _Heard(np.concatenate(parts), None) if parts else _Heard(None, "the answer has no letters and no numbers")


def _write_sound(file: Path, sound: "Samples", voice: "Speaker") -> None:
    from omnictl.data.audio.files import wav_bytes
    from omnictl.runs.files import write_bytes

    write_bytes(file, wav_bytes(sound, voice.voice.vocoder.sample_rate))


@contextmanager
def _heard_out(loudspeaker: Loudspeaker | None) -> Iterator[None]:
    """Wait until all was heard; be silent at once if something comes between."""
    try:
        yield
        if loudspeaker is not None:
            loudspeaker.close()
    except BaseException:
        if loudspeaker is not None:
            loudspeaker.stop()
        raise


class ChatRepl:
    """What a person types, line by line.

    Args:
        session: the model.
        manners: how it answers.
        output: where to write.
        find_voice: opens the Talker when it is first wanted.
        speech: say answers from the start, into files that are named after this one.

    Raises:
        RunError: answers are to be said, and there is no Talker.
    """

    def __init__(
        self,
        session: "Session",
        manners: ReplySettings,
        output: Output,
        find_voice: "Callable[[], Speaker]",
        speech: Path | None = None,
    ) -> None:
        self._session, self._manners, self._output = session, manners, output
        self._find_voice, self._speech = find_voice, speech
        self._voice = find_voice() if speech else None
        self._speaking = speech is not None
        self._waiting: list[Media] = []
        self._saved: set[Path] = set()
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
            except UnicodeDecodeError:
                self._output.say("[dim](that is no UTF-8)[/dim]")
                continue
            if line in LEAVE:
                return
            try:
                self._take(line)
            except KeyboardInterrupt:
                self._output.say("\n[dim](stopped)[/dim]")
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
        meant = nearest(word, [*self._commands, *LEAVE])
        self._output.say(f"no command {escape(word)}" + (f"; did you mean {meant}?" if meant else "; /help lists them"))

    def _answer(self, text: str) -> None:
        from omnictl.use.chat_session import Reply

        reply = Reply()
        shown, self._waiting = self._waiting, []
        answer(self._session, text, shown, self._manners, self._output, reply, self._aloud() if self._speaking else None)

    def _aloud(self) -> SpokenReply:
        voice = self._voice = self._voice or self._find_voice()
        loudspeaker = open_loudspeaker(voice.voice.vocoder.sample_rate)
        file = None if loudspeaker and not self._speech else _free_name(self._speech or Path("reply.wav"))
        return SpokenReply(voice, file, loudspeaker)

    def _image(self, files: list[str]) -> None:
        if not files:
            raise UsageError("/image wants a file", where="/image", fix="/image picture.png")
        self._waiting += [self._show("image", file) for file in files]
        many = len(self._waiting)
        self._output.say(f"[dim]({many} {'picture waits' if many == 1 else 'pictures wait'} for what you say next)[/dim]")

    def _audio(self, files: list[str]) -> None:
        if len(files) != 1:
            raise UsageError("/audio wants one file", where="/audio", fix="/audio question.wav")
        self._waiting.append(self._show("audio", files[0]))
        self._answer("")

    def _show(self, kind: "MediaKind", file: str) -> "Media":
        from omnictl.use.chat_session import Attachment

        return self._session.show(Attachment(kind, Path(file).expanduser()))

    def _speak(self, words: list[str]) -> None:
        if words not in (["on"], ["off"]):
            raise UsageError("/speak is on or off", where="/speak", fix="/speak on")
        if words == ["on"]:
            self._voice = self._voice or self._find_voice()
        self._speaking = words == ["on"]
        self._output.say(f"[dim](answers are {'said' if self._speaking else 'not said any more'})[/dim]")

    def _reset(self, _: list[str]) -> None:
        self._session.reset()
        self._waiting.clear()
        self._output.say("[dim](forgotten)[/dim]")

    def _save(self, words: list[str]) -> None:
        from omnictl.runs.files import write_text

        if len(words) != 1:
            raise UsageError("/save wants one file", where="/save", fix="/save conversation.jsonl")
        path = Path(words[0]).expanduser()
        self._check_place(path)
        history = self._session.history
        answered = [turn for turn in zip(history[::2], history[1::2], strict=True) if turn[1].text.strip()]
        if not answered:
            fix = "say something first; a model that goes on writing your text keeps nothing of it"
            raise UsageError("there is no conversation to save yet", where="/save", fix=fix)
        record = _Record(self._session, path.absolute().parent.resolve())
        messages = [record.message(message) for turn in answered for message in turn]
        write_text(path, json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
        self._saved.add(path.absolute())
        self._output.say(f"[dim](saved in {escape(str(path))})[/dim]")
        if record.outside:
            found = escape(", ".join(map(str, record.outside)))
            self._output.say(f"[dim](to train on it, move it to where {found} lie below its folder)[/dim]")

    def _check_place(self, path: Path) -> None:
        """Refuse a file that a conversation should not be written to.

        Raises:
            UsageError: its folder is not there, it has another ending, or it is something else already.
        """
        if path.suffix.lower() != ".jsonl":
            raise UsageError(
                f"a conversation is kept in a .jsonl file, not in {path.name}", where="/save", fix=f"/save {path.stem}.jsonl"
            )
        if not path.absolute().parent.is_dir():
            fix = f"make it (mkdir -p {path.parent}), or name another"
            raise UsageError(f"there is no folder {path.parent}", where="/save", fix=fix)
        if path.exists() and path.absolute() not in self._saved:
            raise UsageError(f"{path} exists already", where="/save", fix="name another file")

    def _help(self, _: list[str]) -> None:
        self._output.say(escape(HELP))

    def _complete_paths(self) -> None:
        """Let Tab complete commands and paths, where there is a terminal that can."""
        try:
            import readline
        except ImportError:
            return

        def complete(text: str, state: int) -> str | None:
            found = completions(text, [*self._commands, *LEAVE])
            return found[state] if state < len(found) else None

        readline.set_completer(complete)
        readline.set_completer_delims(" ")
        readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")


def completions(text: str, commands: Sequence[str]) -> list[str]:
    """What a word that was begun may become: a command, or the path of a file or of a folder."""
    return [*(name for name in commands if text.startswith("/") and name.startswith(text)), *sorted(_paths(text))]


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


def _free_name(file: Path) -> Path:
    """The first of `reply_1.wav`, `reply_2.wav`, … that is not there yet."""
    names = (file.with_name(f"{file.stem}_{number}.wav") for number in count(1))
    return next(name for name in names if not name.exists())


class _Record:
    """Writes messages down as dialogues in JSONL have them.

    Args:
        session: knows the files that were shown.
        folder: of the JSONL file, resolved; the paths of files below it are written relative to it.
    """

    def __init__(self, session: "Session", folder: Path) -> None:
        self._session, self._folder = session, folder
        self.outside: list[Path] = []
        """Files that lie elsewhere, whose paths are written as they were given."""

    def message(self, message: "Message") -> dict[str, object]:
        """A message."""
        return {"role": message.role, "content": self._content(message)}

    def _content(self, message: "Message") -> str | list[dict[str, str]]:
        if all(isinstance(part, str) for part in message.parts):
            return message.text
        return [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": part.kind, part.kind: self._path(part)}
            for part in message.parts
        ]

    def _path(self, media: "Media") -> str:
        file = self._session.file(media)
        found = file.resolve()
        if found.is_relative_to(self._folder):
            return found.relative_to(self._folder).as_posix()
        self.outside += [file] if file not in self.outside else []
        return str(file)
