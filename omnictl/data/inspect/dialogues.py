"""Looks dialogues over before they are trained on: what is broken, what looks wrong, and (by `summary`) how much there is.

Broken is what training sets aside. A warning is what it takes, and a person should look at. What cannot be noticed: a wrong answer,
and, without a model, a dialogue that is too long for it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.inspect import audio_files, image_files
from omnictl.data.inspect.audio_files import AudioFile
from omnictl.data.inspect.dialogue_files import DialogueFacts, DialogueSource, Look, look
from omnictl.data.inspect.findings import Finding, FindingsReport
from omnictl.data.inspect.image_files import ImageFile
from omnictl.data.inspect.summary import dialogue_summary

Media = Mapping[str, ImageFile | AudioFile]


def check_dialogues(source: str, *, limit: int | None = None) -> FindingsReport:
    """Reads every dialogue, and every image and recording once, however many dialogues have it.

    Args:
        source: a `.jsonl` file, a folder with one, or TinyWorld.
        limit: at most this many rows of each split.

    Raises:
        DataError: no such source, or no row of it can be used.
    """
    dialogues = look(source, limit, Look(image_files.decode, audio_files.decode), "checking")
    warnings = [*_duplicates("image", dialogues.seen, lambda dialogue: dialogue.images)]
    warnings += [*_duplicates("recording", dialogues.seen, lambda dialogue: dialogue.recordings), *_too_long(dialogues.seen)]
    warnings += [Finding("reply", *row) for row in dialogues.broken_replies]
    return _report(source, dialogues, warnings)


def measure_dialogues(source: str, *, limit: int | None = None) -> FindingsReport:
    """Reads the headers of every image and recording and judges nothing; TinyWorld, which has no files, is drawn and spoken.

    Args:
        source: a `.jsonl` file, a folder with one, or TinyWorld.
        limit: at most this many rows of each split.

    Raises:
        DataError: no such source, or no row of it can be used.
    """
    return _report(source, look(source, limit, Look(image_files.probe, audio_files.probe), "reading headers of"), ())


def _report(source: str, dialogues: DialogueSource, warnings: Sequence[Finding]) -> FindingsReport:
    broken = [*(Finding("row", *row) for row in dialogues.broken), *(Finding(kind, *row) for kind, row in dialogues.unreadable)]
    total = len(dialogues.seen) + len(broken)
    return FindingsReport(source, "dialogues", "rows", total, dialogue_summary(dialogues.seen), broken, warnings)


def _duplicates(kind: str, seen: Iterable[DialogueFacts], media: Callable[[DialogueFacts], Media]) -> Iterator[Finding]:
    """Images or recordings that are in an earlier split too, whatever their files are called; each once in a split."""
    first: dict[bytes, DialogueFacts] = {}
    for dialogue, file in _once_a_split(seen, media):
        earlier = first.setdefault(file.digest, dialogue)
        if earlier.split != dialogue.split:
            message = f"the same {kind} is in the {earlier.split} split, this one in {dialogue.split}: {earlier.where}"
            yield Finding("duplicate", dialogue.id, dialogue.where, message)


def _once_a_split(
    seen: Iterable[DialogueFacts], media: Callable[[DialogueFacts], Media]
) -> Iterator[tuple[DialogueFacts, ImageFile | AudioFile]]:
    """The first dialogue of each image or recording in each split."""
    listed: set[tuple[str, str]] = set()
    for dialogue in seen:
        for name, file in media(dialogue).items():
            if (dialogue.split, name) not in listed:
                listed.add((dialogue.split, name))
                yield dialogue, file


def _too_long(seen: Iterable[DialogueFacts]) -> Iterator[Finding]:
    limit = DialogueDataConfig().max_seconds
    for dialogue in seen:
        for audio in dialogue.recordings.values():
            if audio.seconds > limit:
                message = (
                    f"a recording of {audio.seconds:.1f} s: training sets it aside unless data.max_seconds is more than {limit:g}"
                )
                yield Finding("long", dialogue.id, dialogue.where, message)
