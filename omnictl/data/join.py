"""Several corpora of one kind as one folder, which a stage reads as it reads each of them.

Rows keep the split that training would give them in their own corpus, so that nothing is trained on which one of them keeps for its
test. Media are hard links where the disk allows it, else copies, in a folder for each corpus. As text, any corpus gives what is
written in it: documents, transcripts, captions, what is said in dialogues.
"""

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple, TypeVar

from omnictl.config.split import SPLITS, Split
from omnictl.data.dialogues.manifest import DialogueRow, MediaFile, MessageRow, read_dialogues
from omnictl.data.export import DIALOGUES, IMAGES, RECORDINGS, check_empty, new_folder
from omnictl.data.images.layouts import find_images
from omnictl.data.images.manifest import ImageRow
from omnictl.data.inspect.corpus_kind import find_kind
from omnictl.data.inspect.findings import Kind
from omnictl.data.manifest.rows import BrokenRow, Manifest
from omnictl.data.manifest.source import source_path, tinyworld_seed
from omnictl.data.manifest.splits import fill_splits
from omnictl.data.speech.layouts import find_speech
from omnictl.data.speech.manifest import SpeechRow
from omnictl.data.speech.splits import split_rows
from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.source import open_corpus
from omnictl.errors import DataError, UsageError
from omnictl.regular_files import open_regular

Row = TypeVar("Row", ImageRow, DialogueRow)


class JoinSummary(NamedTuple):
    """What was written."""

    kind: Kind
    rows: dict[str, dict[Split, int]]
    """By corpus and split."""
    broken: Sequence[BrokenRow]
    """Rows that cannot be used, which are not in the folder."""


class _Corpus(NamedTuple):
    """A corpus, and what it is called in the folder."""

    name: str
    path: Path
    kind: Kind


def join_corpora(sources: Sequence[str], out: Path, *, kind: Kind | None = None, holdout: Sequence[str] = ()) -> JoinSummary:
    """Write corpora into one folder.

    Args:
        sources: two or more corpora, as training reads them; for text, one or more.
        out: a new or empty folder.
        kind: what to write; None: what all of them are.
        holdout: speakers whose every recording belongs to the test split.

    Raises:
        UsageError: corpora of different kinds, TinyWorld, or a folder that holds something.
        DataError: a corpus cannot be read, or nobody has the name of a speaker.
        DiskFull: no space left; nothing of the folder is.
    """
    check_empty(Path(os.path.realpath(out.expanduser())))
    corpora = _name_all(sources)
    wanted = kind or corpora[0].kind
    other = next((corpus for corpus in corpora if corpus.kind != wanted), None)
    if other is not None and wanted != "text":
        message = f"{other.path} is {other.kind}, not {wanted} as {corpora[0].path}"
        raise UsageError(message, where="CORPUS", fix="join corpora of one kind, or write what is in them as text: --kind text")
    if holdout and wanted != "speech":
        raise UsageError(f"there are no speakers in {wanted}", where="--holdout", fix="leave it out")
    with new_folder(out, fewer="fewer corpora") as draft:
        writer = {"speech": _write_speech, "images": _write_images, "dialogues": _write_dialogues, "text": _write_texts}[wanted]
        counts, broken = writer(corpora, draft, tuple(holdout))
    return JoinSummary(wanted, {corpus.name: {split: counts[corpus.name, split] for split in SPLITS} for corpus in corpora}, broken)


def _name_all(sources: Sequence[str]) -> list[_Corpus]:
    corpora: list[_Corpus] = []
    for source in sources:
        if tinyworld_seed(source) is not None:
            fix = f"write it out first: omnictl data export --data {source} --out FOLDER"
            raise UsageError("TinyWorld has no files to be joined", where="CORPUS", fix=fix)
        path = source_path(source)
        name = path.resolve().name if path.is_dir() else path.name.partition(".")[0]
        taken = {corpus.name for corpus in corpora}
        unique = next(each for each in (name, *(f"{name}_{number}" for number in range(2, len(sources) + 2))) if each not in taken)
        corpora.append(_Corpus(unique, path, find_kind(source)))
    return corpora


Written = tuple[Counter[tuple[str, Split]], list[BrokenRow]]
"""Rows by corpus and split, and those that cannot be used."""


class _Links:
    """Media of a corpus, each put once into a folder of the corpus's name, none in the place of another."""

    def __init__(self, draft: Path, name: str, folder: Path) -> None:
        self._draft, self._name, self._folder = draft, name, folder
        self._paths: dict[Path, str] = {}

    def place(self, file: Path) -> str:
        """The path below the new folder; what lies in the cache, like a segment, is called by its number."""
        if file not in self._paths:
            inside = file.is_relative_to(self._folder)
            path = file.relative_to(self._folder) if inside else Path(f"{len(self._paths):06}{file.suffix}")
            target = _find_free(self._draft / self._name / path)
            target.parent.mkdir(parents=True, exist_ok=True)
            real = os.path.realpath(file)
            try:
                os.link(real, target)
            except OSError:  # another disk, or one without links
                with open_regular(Path(real)) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy)
            self._paths[file] = target.relative_to(self._draft).as_posix()
        return self._paths[file]


def _find_free(path: Path) -> Path:
    """The path itself, or with a number behind its name where there is a file already: writing there would change the file that
    it is a link to."""
    names = chain([path], (path.with_name(f"{path.stem}_{number}{path.suffix}") for number in count(2)))
    return next(name for name in names if not name.exists())


def _write_speech(corpora: Sequence[_Corpus], draft: Path, holdout: Sequence[str]) -> Written:
    counts: Counter[tuple[str, Split]] = Counter()
    broken: list[BrokenRow] = []
    unheard = set(holdout)
    with (draft / RECORDINGS).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["audio", "text", "speaker", "split"])
        for corpus in corpora:
            manifest = find_speech(corpus.path)
            broken += manifest.broken
            links = _Links(draft, corpus.name, manifest.folder)
            for split, row in _split_speech(manifest.rows, holdout):
                unheard.discard(row.speaker or "")
                table.writerow([links.place(row.audio), row.text, row.speaker or "", split])
                counts[corpus.name, split] += 1
    if unheard:
        fix = "see the speakers with `omnictl data stats CORPUS`"
        raise DataError(f"no recording of {', '.join(sorted(unheard))}", where="--holdout", fix=fix)
    return counts, broken


def _split_speech(rows: Sequence[SpeechRow], holdout: Sequence[str]) -> Iterator[tuple[Split, SpeechRow]]:
    """All rows: those of held out speakers in the test, the others where their corpus has them."""
    others = [row for row in rows if row.speaker not in holdout]
    splits = split_rows(others)
    yield from ((split, row) for split in SPLITS for row in splits[split])
    yield from (("test", row) for row in rows if row.speaker in holdout)


def _write_images(corpora: Sequence[_Corpus], draft: Path, _: Sequence[str]) -> Written:
    def describe(_: str, row: ImageRow, links: _Links) -> dict[str, object]:
        said: dict[str, object] = {"label": dict(row.labels)} if row.labels else {}
        said |= {"caption": row.caption} if row.caption else {}
        return {"image": links.place(row.image), **said}

    return _write_rows(corpora, draft, IMAGES, find_images, describe)


def _write_dialogues(corpora: Sequence[_Corpus], draft: Path, _: Sequence[str]) -> Written:
    def describe(name: str, row: DialogueRow, links: _Links) -> dict[str, object]:
        messages = [_as_json(message, links) for message in row.messages]
        worse = {"rejected": row.rejected} if row.rejected is not None else {}
        return {"messages": messages, "task": row.task, "id": f"{name}: {row.id}", **worse}

    return _write_rows(corpora, draft, DIALOGUES, read_dialogues, describe)


def _write_rows(
    corpora: Sequence[_Corpus],
    draft: Path,
    name: str,
    read: Callable[[Path], Manifest[Row]],
    describe: Callable[[str, Row, _Links], dict[str, object]],
) -> Written:
    """A line of JSON for each row, with its split: what `describe` makes of its corpus's name, itself and its media."""
    counts: Counter[tuple[str, Split]] = Counter()
    broken: list[BrokenRow] = []
    with (draft / name).open("w", encoding="utf-8", newline="\n") as file:
        for corpus in corpora:
            manifest = read(corpus.path)
            broken += manifest.broken
            links = _Links(draft, corpus.name, manifest.folder)
            splits = fill_splits(manifest.rows)
            for split in SPLITS:
                for row in splits[split]:
                    fields = describe(corpus.name, row, links) | {"split": split}
                    file.write(json.dumps(fields, ensure_ascii=False) + "\n")
                    counts[corpus.name, split] += 1
    return counts, broken


def _as_json(message: MessageRow, links: _Links) -> dict[str, object]:
    parts = [
        {"type": part.kind, part.kind: links.place(part.file)} if isinstance(part, MediaFile) else {"type": "text", "text": part}
        for part in (*message.parts, *message.spoken)
    ]
    return {"role": message.role, "content": parts}


def _write_texts(corpora: Sequence[_Corpus], draft: Path, _: Sequence[str]) -> Written:
    """A file for each split of each corpus, with every text once, whichever of them have it."""
    counts: Counter[tuple[str, Split]] = Counter()
    broken: list[BrokenRow] = []
    seen = set[str]()
    for split in ("test", "val", "train"):  # a text that any of them keeps for the test is not trained on
        for corpus in corpora:
            texts = list(dict.fromkeys(text for text in _texts(corpus, split, broken) if text not in seen))
            seen.update(texts)
            counts[corpus.name, split] = len(texts)
            if texts:
                lines = "".join(json.dumps({"text": text, "split": split}, ensure_ascii=False) + "\n" for text in texts)
                (draft / f"{corpus.name}.{split}.jsonl").write_text(lines, encoding="utf-8")
    return counts, list(dict.fromkeys(broken))


def _texts(corpus: _Corpus, split: Split, broken: list[BrokenRow]) -> Iterator[str]:
    """What is written in a split of a corpus."""
    if corpus.kind == "text":
        try:
            yield from open_corpus(TextDataConfig(source=str(corpus.path))).documents(split)
        except DataError:
            if split == "train":  # others may well be empty
                raise
    elif corpus.kind == "speech":
        speech = find_speech(corpus.path)
        broken += speech.broken
        yield from (row.text for row in split_rows(speech.rows)[split])
    elif corpus.kind == "images":
        images = find_images(corpus.path)
        broken += images.broken
        yield from (row.caption for row in fill_splits(images.rows)[split] if row.caption)
    else:
        dialogues = read_dialogues(corpus.path)
        broken += dialogues.broken
        yield from map(_words, fill_splits(dialogues.rows)[split])


def _words(row: DialogueRow) -> str:
    return "\n".join(part for message in row.messages for part in message.parts if isinstance(part, str))
