"""A new file of dialogues about images, with copies of those images that it could not name otherwise; whole or not there at all."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from omnictl.data.images.describe.image_contents import ImageContent
from omnictl.data.images.describe.image_dialogues import ImageDialogue
from omnictl.data.manifest.cache import cache_dir, flush
from omnictl.errors import DiskFull, OmniError, UsageError

SUFFIX = ".jsonl"


class DialoguesFile:
    """Writes rows as `dialogues/manifest.py` reads them. Images below the folder of the file stay where they are.

    Args:
        file: to write to.
        folder: of the file, as it really is.
        corpus: folder of the images.
        copies: folder of copies, made when there is one; it is called `copies_name` in the end.
        copies_name: relative to the file.
    """

    def __init__(self, file: IO[str], folder: Path, corpus: Path, copies: Path, copies_name: Path) -> None:
        self._file, self._folder, self._corpus, self._copies, self._copies_name = file, folder, corpus, copies, copies_name
        self.num_copied = 0

    def write(self, dialogues: Sequence[ImageDialogue], image: ImageContent) -> None:
        """The rows of an image, which is shown in front of each first question."""
        path = self._place(image) if dialogues else ""
        for dialogue in dialogues:
            messages: list[dict[str, object]] = []
            for number, turn in enumerate(dialogue.turns):
                shown = [{"type": "image", "image": path}, {"type": "text", "text": turn.question}]
                messages.append({"role": "user", "content": turn.question if number else shown})
                messages.append({"role": "assistant", "content": turn.answer})
            row = {"messages": messages, "task": dialogue.task, "id": dialogue.id, "split": image.split}
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _place(self, image: ImageContent) -> str:
        """The path by which rows name an image, which is copied if it lies elsewhere."""
        real = Path(os.path.realpath(image.file))
        if _stays(real, self._folder):
            return _spell(real.relative_to(self._folder))
        path = image.file.relative_to(self._corpus)
        copy = self._copies / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real, copy)
        self.num_copied += 1
        return _spell(self._copies_name / path)


def _stays(real: Path, folder: Path) -> bool:
    """Whether a file can be named from a folder: it lies there or below, and not in the cache, which may be deleted."""
    return real.is_relative_to(folder) and not real.is_relative_to(cache_dir().resolve())


def _spell(path: Path) -> str:
    """A path that is read as it stands: white space in front would be cut off, and some beginnings mean something else."""
    text = path.as_posix()
    return text if text[:1].strip() and not text.startswith(("data:", "http:", "https:")) else f"./{text}"


def check_place(out: Path, corpus: Path) -> None:
    """Refuse a place for the file, before anything is read.

    Args:
        out: of the file.
        corpus: what the images are read from.

    Raises:
        UsageError: another ending, something is there, or it would be taken for the manifest of the images.
    """
    if out.suffix != SUFFIX:
        message = f"dialogues are written as {SUFFIX}, not as {out.suffix or 'a file without an ending'}"
        raise UsageError(message, where="--out", fix=f"--out {out.with_suffix(SUFFIX)}")
    for path in (out, _copies_of(out)):
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} is there already", where="--out", fix="name a file that is not there yet, or remove it first")
    if out.name in ("metadata.jsonl", "manifest.jsonl") and Path(os.path.realpath(out.parent)) == Path(os.path.realpath(corpus)):
        message = f"{out} would be taken for the manifest of the images"
        raise UsageError(message, where="--out", fix=f"--out {out.with_name('dialogues.jsonl')}")


@contextmanager
def new_dialogues_file(out: Path, corpus: Path, images: Iterator[ImageContent]) -> Iterator[DialoguesFile]:
    """A file that appears as `out` when all of it is written, with its copies beside it.

    Args:
        out: of the file.
        corpus: folder of the images.
        images: all that may be written about, to see whether there is room for copies.

    Raises:
        UsageError: it cannot be written there, or is there by now.
        DiskFull: no space left; nothing of it is.
    """
    out = Path(os.path.realpath(out.expanduser()))
    copies = _copies_of(out)
    draft = out.with_name(f".{out.name}.{os.getpid()}.draft")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _check_space(out, images)
        draft.mkdir()
        try:
            with (draft / out.name).open("w", encoding="utf-8", newline="\n") as file:
                yield DialoguesFile(file, out.parent, corpus, draft / copies.name, Path(copies.name))
                flush(file)
            check_place(out, corpus)
            if (draft / copies.name).exists():
                (draft / copies.name).rename(copies)
            (draft / out.name).rename(out)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise _explain(error, out) from error


def _copies_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}_images")


def _check_space(out: Path, images: Iterator[ImageContent]) -> None:
    outside = (image.file for image in images if not _stays(Path(os.path.realpath(image.file)), out.parent))
    needed, free = sum(file.stat().st_size for file in outside), shutil.disk_usage(out.parent).free
    if needed > free:
        raise DiskFull(
            f"the images lie outside of {out.parent}; to copy them takes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            where=str(out),
            fix="name a file in a folder that the images lie in or below, where none are copied, or on another disk",
        )


def _explain(error: OSError, out: Path) -> OmniError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left while writing {out}", where=str(out), fix="free some space, or name a file elsewhere")
    culprit = f" ({error.filename})" if error.filename else ""
    fix = "name a file elsewhere, or make the folder that it goes into writable"
    return UsageError(f"cannot write {out}: {error.strerror}{culprit}", where="--out", fix=fix)
