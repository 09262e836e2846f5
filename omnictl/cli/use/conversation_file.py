"""A conversation kept as a line of JSON, as `omnictl sft --data` takes it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from omnictl.errors import UsageError

if TYPE_CHECKING:
    from omnictl.data.dialogues.chat_template import Media, Message
    from omnictl.use.chat_session import Session


def save_conversation(session: "Session", path: Path) -> list[Path]:
    """Write down what was said so far and answered.

    Args:
        session: knows what was said and shown.
        path: of the file; an older one is replaced.

    Returns:
        Files that were shown and lie outside of its folder, whose paths are written as they were given.

    Raises:
        UsageError: nothing was answered yet.
        RunError, DiskFull: the file cannot be written.
    """
    from omnictl.runs.files import write_text

    history = session.history
    answered = [turn for turn in zip(history[::2], history[1::2], strict=True) if turn[1].text.strip()]
    if not answered:
        fix = "say something first; a model that goes on writing your text keeps nothing of it"
        raise UsageError("there is no conversation to save yet", where="/save", fix=fix)
    writer = _MessageWriter(session, path.absolute().parent.resolve())
    messages = [writer.message(message) for turn in answered for message in turn]
    write_text(path, json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return writer.outside


class _MessageWriter:
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
        resolved = file.resolve()
        if resolved.is_relative_to(self._folder):
            return resolved.relative_to(self._folder).as_posix()
        self.outside += [file] if file not in self.outside else []
        return str(file)
