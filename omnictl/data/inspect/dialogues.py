"""Looks dialogues over before they are trained on: what is broken, what looks wrong, and (by `summary`) how much there is.

Broken is what training sets aside. A warning is what it takes, and a person should look at. What cannot be noticed: a wrong answer,
and, without a model, a dialogue that is too long for it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.inspect import audio_files, image_files
from omnictl.data.inspect.audio_files import Sound
from omnictl.data.inspect.dialogue_files import DialogueFacts, DialogueSource, Look, look
from omnictl.data.inspect.findings import Finding, FindingsReport
from omnictl.data.inspect.image_files import ImageFile
from omnictl.data.inspect.summary import dialogue_summary

Media = Mapping[str, ImageFile | Sound]


def check_dialogues(source: str, *, limit: int | None = None) -> FindingsReport:
    """Reads every dialogue, and every image and sound once, however many dialogues have it.

    Args:
        source: a `.jsonl` file, a folder with one, or TinyWorld.
        limit: so many rows of each split at most.

    Raises:
        DataError: no such source, or no row of it can be used.
    """
    found = look(source, limit, Look(image_files.decode, audio_files.decode), "checking")
    warnings = [*_duplicates("image", found.seen, lambda each: each.images)]
    warnings += [*_duplicates("sound", found.seen, lambda each: each.sounds), *_too_long(found.seen)]
    warnings += [Finding("reply", *row) for row in found.mute]
    return _report(source, found, warnings)


def measure_dialogues(source: str, *, limit: int | None = None) -> FindingsReport:
    """Reads the headers of every image and sound and judges nothing; TinyWorld, which has no files, is drawn and spoken.

    Args:
        source: a `.jsonl` file, a folder with one, or TinyWorld.
        limit: so many rows of each split at most.

    Raises:
        DataError: no such source, or no row of it can be used.
    """
    return _report(source, look(source, limit, Look(image_files.probe, audio_files.probe), "reading headers of"), ())


def _report(source: str, found: DialogueSource, warnings: Sequence[Finding]) -> FindingsReport:
    broken = [*(Finding("row", *row) for row in found.broken), *(Finding(kind, *row) for kind, row in found.unreadable)]
    total = len(found.seen) + len(broken)
    return FindingsReport(source, "dialogues", "rows", total, dialogue_summary(found.seen), broken, warnings)


def _duplicates(what: str, seen: Iterable[DialogueFacts], media: Callable[[DialogueFacts], Media]) -> Iterator[Finding]:
    """Images or sounds that are in an earlier split too, whatever their files are called; each once in a split."""
    first: dict[bytes, DialogueFacts] = {}
    for each, found in _once_a_split(seen, media):
        other = first.setdefault(found.digest, each)
        if other.split != each.split:
            message = f"the same {what} is in the {other.split} split, this one in {each.split}: {other.where}"
            yield Finding("duplicate", each.id, each.where, message)


def _once_a_split(
    seen: Iterable[DialogueFacts], media: Callable[[DialogueFacts], Media]
) -> Iterator[tuple[DialogueFacts, ImageFile | Sound]]:
    """The first dialogue of each image or sound in each split."""
    known: set[tuple[str, str]] = set()
    for each in seen:
        for name, found in media(each).items():
            if (each.split, name) not in known:
                known.add((each.split, name))
                yield each, found


def _too_long(seen: Iterable[DialogueFacts]) -> Iterator[Finding]:
    most = DialogueDataConfig().max_seconds
    for each in seen:
        for sound in each.sounds.values():
            if sound.seconds > most:
                message = f"a sound of {sound.seconds:.1f} s: training sets it aside unless data.max_seconds is more than {most:g}"
                yield Finding("long", each.id, each.where, message)
