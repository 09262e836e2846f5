"""Speech corpora as they come: manifests, and the folders of LJSpeech, LibriSpeech and Common Voice.

Each layout is read through its own index into the rows of `speech_manifest`, and judged by the same rules. Formats after
https://keithito.com/LJ-Speech-Dataset, https://www.openslr.org/12 and https://commonvoice.mozilla.org.
"""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from omnictl.data.manifest.layouts import Layout, choose_layout, find_manifest_files, find_manifests, read_columns, read_first_line
from omnictl.data.manifest.rows import BrokenRow, Record, missing_path_error, read_table
from omnictl.data.manifest.tables import read_lines
from omnictl.data.speech.manifest import SPEECH, SpeechManifest, SpeechRow, read_manifest

RECOGNISED = """\
manifest: metadata.csv, metadata.jsonl, manifest.csv or manifest.jsonl with audio,text[,speaker,split]
LJSpeech: metadata.csv with lines of id|text|normalised text, and wavs/ID.wav
LibriSpeech: [SUBSET/]SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt beside the .flac files
Common Voice: train.tsv, dev.tsv, test.tsv (or else validated.tsv), and clips/*.mp3"""

_NAMED_SPLITS = ("train", "dev", "test")


def find_speech(path: Path) -> SpeechManifest:
    """The recordings of a manifest file, or of a folder whose layout is recognised.

    Raises:
        DataError: no such path, no layout or several at once, an index that cannot be read, or no usable row.
    """
    if not path.exists():
        raise missing_path_error(path)
    if not path.is_dir():
        return read_manifest(path)
    files = find_manifest_files(path)
    layouts = [*find_manifests(files, SPEECH), *public_corpora(path)]
    if not layouts and files:
        return read_manifest(files[0])  # says what its header lacks
    return choose_layout(path, layouts, "speech data", RECOGNISED).read()


def public_corpora(folder: Path) -> Iterator[Layout[SpeechRow]]:
    """The public corpora that a folder seems to be, by its files."""
    return chain(_ljspeech(folder), _librispeech(folder), _common_voice(folder))


def _ljspeech(folder: Path) -> Iterator[Layout[SpeechRow]]:
    index = folder / "metadata.csv"
    if index.is_file() and "|" in read_first_line(index) and "audio" not in read_columns(index, SPEECH):
        yield Layout("LJSpeech", index, lambda: SPEECH.collect(folder, folder.resolve(), _ljspeech_records(index)))


def _ljspeech_records(index: Path) -> Iterator[Record | BrokenRow]:
    for number, line in read_lines(index, SPEECH.first_line):
        where = f"{index}:{number}"
        name, *texts = line.split("|")  # quotes stand for themselves here
        if len(texts) in (1, 2):
            yield Record(where, {"audio": f"wavs/{name.strip()}.wav", "text": texts[-1].strip() or texts[0]})
        else:
            yield BrokenRow(where, where, f"found {len(texts) + 1} fields, expected id|text or id|text|normalised text")


def _librispeech(folder: Path) -> Iterator[Layout[SpeechRow]]:
    """As the root of subsets, or as one of them."""
    indexes = sorted(chain(folder.glob("*/*/*.trans.txt"), folder.glob("*/*/*/*.trans.txt")))
    if indexes:
        read = partial(_read_librispeech, folder, indexes)
        yield Layout("LibriSpeech", indexes[0], read)


def _read_librispeech(folder: Path, indexes: list[Path]) -> SpeechManifest:
    root = folder.resolve()  # names the subset even where the folder was given as "."
    records = (_librispeech_records(index, root, index.parent.relative_to(folder)) for index in indexes)
    return SPEECH.collect(folder, root, chain.from_iterable(records))


def _librispeech_records(index: Path, root: Path, chapter: Path) -> Iterator[Record]:
    speaker = (root / chapter).parent
    subset = speaker.parent.name.partition("-")[0]  # "dev-clean"
    split = subset if subset in _NAMED_SPLITS else None
    for number, line in read_lines(index, SPEECH.first_line):
        name, _, text = line.strip().partition(" ")
        fields = {"audio": f"{chapter.as_posix()}/{name}.flac", "text": text, "speaker": speaker.name, "split": split}
        yield Record(f"{index}:{number}", fields)


def _common_voice(folder: Path) -> Iterator[Layout[SpeechRow]]:
    named = {folder / f"{split}.tsv": split for split in _NAMED_SPLITS}
    indexes: dict[Path, str | None] = {file: split for file, split in named.items() if file.is_file()}
    validated = folder / "validated.tsv"  # repeats the rows of the others
    if not indexes and validated.is_file():
        indexes[validated] = None
    if indexes and (folder / "clips").is_dir():
        records = chain.from_iterable(_common_voice_records(index, split) for index, split in indexes.items())
        yield Layout("Common Voice", next(iter(indexes)), lambda: SPEECH.collect(folder, folder.resolve(), records))


def _common_voice_records(index: Path, split: str | None) -> Iterator[Record | BrokenRow]:
    lines = (
        (number, line.split("\t")) for number, line in read_lines(index, SPEECH.first_line)
    )  # quotes stand for themselves here
    for row in read_table(index, lines, (("path",), ("sentence",))):
        if isinstance(row, BrokenRow):
            yield row
        else:
            clip, text, speaker = (row.fields.get(name) for name in ("path", "sentence", "client_id"))
            yield Record(row.where, {"audio": _in_clips(clip), "text": text, "speaker": speaker, "split": split})


def _in_clips(clip: object) -> str:
    name = str(clip).strip()
    return f"clips/{name.removesuffix('.mp3')}.mp3" if name else ""  # the first releases leave the suffix out
