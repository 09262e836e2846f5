"""A conversation at the terminal: answers as they are written and said, and commands that begin with a slash."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from omnictl.cli.console import Output, show_error
from omnictl.cli.use.conversation_file import save_conversation
from omnictl.cli.use.playback import open_loudspeaker
from omnictl.cli.use.reply import ReplySettings, SpokenReply, write_reply
from omnictl.config.suggest import nearest
from omnictl.errors import OmniError, UsageError
from omnictl.visible_text import is_unicode

if TYPE_CHECKING:
    from omnictl.data.dialogues.chat_template import Media
    from omnictl.data.dialogues.modalities import MediaKind
    from omnictl.generate.tts import Voice
    from omnictl.use.chat_session import Session

HELP = """\
/image FILE…    show images with what you say next
/audio FILE     ask by a recording
/speak on|off   say the answers aloud, or into files where nothing can play them
/reset          forget what was said
/save FILE      keep the conversation as a line of JSON, as `omnictl sft --data` takes it
/help           this
/quit, Ctrl-D   leave; Ctrl-C stops an answer
anything else is said to the model"""

UNDECODED = "\udcff"
"""Stands for a line that could not be decoded."""

LEAVE = ("/quit", "/exit")


class ChatRepl:
    """What a person types, line by line.

    Args:
        session: the model.
        settings: how it answers.
        output: where to write.
        find_voice: opens the Talker when it is first needed.
        speech: say answers from the start, into files that are named after this one.

    Raises:
        RunError: answers are to be said, and there is no Talker.
    """

    def __init__(
        self,
        session: "Session",
        settings: ReplySettings,
        output: Output,
        find_voice: "Callable[[], Voice]",
        speech: Path | None = None,
    ) -> None:
        self._session, self._settings, self._output = session, settings, output
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

    def run(self, name: str) -> None:
        """Talk until the person leaves; an error is shown, and the conversation goes on."""
        self._complete_paths()
        behaviour = "it answers" if self._session.mode == "chatml" else "it continues what you write"
        self._output.say(f"[bold]{escape(name)}[/bold]: {behaviour}. /help lists what else it can do")
        prompt = "> " if sys.stdin.isatty() else ""
        while True:
            try:
                line = input(prompt).strip()
            except EOFError:
                return
            except UnicodeDecodeError:
                line = UNDECODED
            if not is_unicode(line):
                self._output.say("[dim](that is not valid UTF-8)[/dim]")
                continue
            if line in LEAVE:
                return
            try:
                self._take(line)
            except KeyboardInterrupt:
                self._output.say("\n[dim](stopped)[/dim]")
            except OmniError as error:
                show_error(error, self._output)
            except Exception as error:  # noqa: BLE001  whatever it is, it must not take the conversation with it
                fix = "go on, or /save the conversation; if it happens again, it is a bug worth reporting"
                show_error(OmniError(f"that did not work: {type(error).__name__}: {error}", fix=fix), self._output)

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
        write_reply(
            self._session, text, shown, self._settings, self._output, reply, self._spoken_reply() if self._speaking else None
        )

    def _spoken_reply(self) -> SpokenReply:
        voice = self._voice = self._voice or self._find_voice()
        loudspeaker = open_loudspeaker(voice.vocoder.sample_rate)
        file = None if loudspeaker and not self._speech else _free_name(self._speech or Path("reply.wav"))
        return SpokenReply(voice, file, loudspeaker)

    def _image(self, files: list[str]) -> None:
        if not files:
            raise UsageError("/image needs a file", where="/image", fix="/image photo.png")
        self._waiting += [self._show("image", file) for file in files]
        many = len(self._waiting)
        self._output.say(f"[dim]({many} {'image waits' if many == 1 else 'images wait'} for what you say next)[/dim]")

    def _audio(self, files: list[str]) -> None:
        if len(files) != 1:
            raise UsageError("/audio needs one file", where="/audio", fix="/audio question.wav")
        self._waiting.append(self._show("audio", files[0]))
        self._answer("")

    def _show(self, kind: "MediaKind", file: str) -> "Media":
        from omnictl.use.chat_session import Attachment

        return self._session.show(Attachment(kind, _path(file, f"/{kind}")))

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
        if len(words) != 1:
            raise UsageError("/save needs one file", where="/save", fix="/save conversation.jsonl")
        path = _path(words[0], "/save")
        self._check_place(path)
        outside = save_conversation(self._session, path)
        self._saved.add(path.absolute())
        self._output.say(f"[dim](saved in {escape(str(path))})[/dim]")
        if outside:
            files = escape(", ".join(map(str, outside)))
            self._output.say(f"[dim](to train on it, move it to where {files} lie below its folder)[/dim]")

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
            words = completions(text, [*self._commands, *LEAVE])
            return words[state] if state < len(words) else None

        readline.set_completer(complete)
        readline.set_completer_delims(" ")
        readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")


def completions(text: str, commands: Sequence[str]) -> list[str]:
    """What a word that was begun may become: a command, or the path of a file or of a folder."""
    return [*(name for name in commands if text.startswith("/") and name.startswith(text)), *sorted(_paths(text))]


def _paths(beginning: str) -> Iterator[str]:
    """The paths that begin so, folders with a slash behind them."""
    folder, _, name = beginning.rpartition("/")
    try:
        base = Path(folder or ("/" if beginning.startswith("/") else ".")).expanduser()
        paths = list(base.iterdir()) if base.is_dir() else []
    except (OSError, RuntimeError):  # no such user, a folder that may not be read
        return
    for path in paths:
        if path.name.startswith(name):
            yield beginning[: len(beginning) - len(name)] + path.name + ("/" if path.is_dir() else "")


def _path(text: str, command: str) -> Path:
    """The path that is meant.

    Raises:
        UsageError: nothing can lie there.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except RuntimeError as error:
        raise UsageError(f"{text.partition('/')[0]} is no user of this machine", where=command, fix="write the path out") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{text[:60]!r} … cannot be a path: {reason}", where=command, fix="choose another") from error
    return path


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
