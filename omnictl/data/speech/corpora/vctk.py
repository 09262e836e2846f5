"""VCTK: `txt/SPEAKER/SPEAKER_NUMBER.txt`, and the recordings in `wav48_silence_trimmed` (0.92, two microphones) or `wav48` (0.80).

Of two microphones the first is read: both heard the same words. Format after https://datashare.ed.ac.uk/handle/10283/3443.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from omnictl.data.manifest.rows import BrokenRow, Record
from omnictl.data.manifest.tables import read_text

_FOLDERS = ("wav48_silence_trimmed", "wav48", "wav16", "wav")
_MICROPHONE = re.compile(r"_mic(\d)$")

logger = logging.getLogger(__name__)


def find_vctk(folder: Path) -> Path | None:
    """The folder of the recordings of a VCTK, if the folder is one."""
    if not (folder / "txt").is_dir():
        return None
    return next((folder / name for name in _FOLDERS if (folder / name).is_dir()), None)


def read_vctk(recordings: Path) -> Iterator[Record | BrokenRow]:
    """The recordings of all speakers, each with what is said in it."""
    folder = recordings.parent
    second = 0
    for file in sorted(recordings.glob("*/*")):
        if file.name.startswith(".") or file.suffix.lower() not in (".flac", ".wav"):
            continue
        microphone = _MICROPHONE.search(file.stem)
        if microphone is not None and microphone[1] != "1" and file.with_name(file.name.replace(microphone[0], "_mic1")).is_file():
            second += 1
            continue
        speaker = file.parent.name
        path = file.relative_to(folder).as_posix()
        text = folder / "txt" / speaker / f"{_MICROPHONE.sub('', file.stem)}.txt"
        if text.is_file():
            said = " ".join(read_text(text, "write what is said").split())
            yield Record(str(text), {"audio": path, "text": said, "speaker": speaker})
        else:
            yield BrokenRow(path, str(file), f"there is no text of it: {text.relative_to(folder)}")
    if second:
        logger.info(
            "%s: %s recordings of a second microphone are passed over, for the first has the same words", folder, f"{second:,}"
        )
