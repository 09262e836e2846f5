"""Speech corpora as they come: manifests, and the folders of LJSpeech, LibriSpeech and Common Voice.

Each layout is read through its own index into the rows of `speech_manifest`, and judged by the same rules. Formats after
https://keithito.com/LJ-Speech-Dataset, https://www.openslr.org/12 and https://commonvoice.mozilla.org.
"""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path, PurePath

from omnictl.data.audio.av_decoder import AV_SUFFIXES
from omnictl.data.manifest.layouts import Layout, choose_layout, find_manifest_files, find_manifests, read_columns, read_first_line
from omnictl.data.manifest.rows import BrokenRow, Manifest, Record, missing_path_error, read_table
from omnictl.data.manifest.tables import read_lines
from omnictl.data.packed.unpack import find_packed, require_kind, unpack
from omnictl.data.speech.corpora.kaldi import find_kaldi, read_kaldi
from omnictl.data.speech.corpora.segments import cut_segments
from omnictl.data.speech.corpora.subtitles import check_subtitles, find_subtitled, read_subtitled
from omnictl.data.speech.corpora.vctk import find_vctk, read_vctk
from omnictl.data.speech.manifest import SPEECH, SpeechManifest, SpeechRow, read_manifest
from omnictl.data.speech.transcripts.annotations import log_dropped, read_annotations
from omnictl.errors import DataError

RECOGNISED = """\
manifest: metadata.csv, metadata.jsonl, manifest.csv or manifest.jsonl with audio,text[,speaker,split]
LJSpeech: metadata.csv with lines of id|text, id|text|normalised text or id|speaker|text, and wavs/ID.wav
LibriSpeech: [SUBSET/]SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt beside the .flac files
Common Voice: train.tsv, dev.tsv, test.tsv (or else validated.tsv), and clips/*.mp3
VCTK: txt/SPEAKER/*.txt, and wav48_silence_trimmed/SPEAKER/*.flac or wav48/SPEAKER/*.wav
Kaldi: wav.scp and text[, utt2spk, segments], in the folder or in one for each split
subtitles: long recordings with .srt or .vtt files of the same names beside them
packed: .parquet or .arrow files (Hugging Face datasets) or .tar files (WebDataset) with audio and text"""

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", *AV_SUFFIXES)

_NAMED_SPLITS = ("train", "dev", "test")
_SHOWN = 5

logger = logging.getLogger(__name__)


def find_speech(path: Path) -> SpeechManifest:
    """The recordings of a manifest file, or of a folder whose layout is recognised.

    Signs in transcripts are read (`annotations`), and segments of long recordings cut out (`segments`).

    Raises:
        DataError: no such path, no layout or several at once, an index that cannot be read, or no usable row.
        DiskFull: no space for segments.
    """
    manifest = cut_segments(_without_annotations(_find_rows(path)))
    if not manifest.rows:
        first, *others = manifest.broken
        more = f"; {len(others)} more are broken" if others else ""
        fix = "a row needs words, and an offset and a duration in seconds that lie in its recording"
        raise DataError(f"no row of {path} can be used: {first.message}{more}", where=first.where, fix=fix)
    return manifest


def _find_rows(path: Path) -> SpeechManifest:
    if not path.exists():
        raise missing_path_error(path)
    files = find_manifest_files(path) if path.is_dir() else []
    layouts = [*find_manifests(files, SPEECH), *public_corpora(path)] or [*subtitled_recordings(path)]
    packed = None if layouts else find_packed(path)
    if packed is not None:
        unpacked = unpack(require_kind(packed, "speech"))
        return SPEECH.collect(path, unpacked.folder, unpacked.records)
    if not path.is_dir():
        return read_manifest(path)
    if not layouts and files:
        return read_manifest(files[0])  # says what its header lacks
    return choose_layout(path, layouts, "speech data", RECOGNISED).read()


def _without_annotations(manifest: SpeechManifest) -> SpeechManifest:
    """The same rows with nothing but words and punctuation; those without words, or with unknown ones, are broken."""
    rows: list[SpeechRow] = []
    broken: list[BrokenRow] = []
    dropped: list[str] = []
    for row in manifest.rows:
        annotated = read_annotations(row.text)
        if annotated.unknown is not None:
            broken.append(BrokenRow(row.id, row.where, f"the transcript has {annotated.unknown} for words that nobody wrote down"))
        elif annotated.dropped and not annotated.text.strip(" ,.?!"):
            broken.append(BrokenRow(row.id, row.where, f"the transcript has no words, only {' '.join(annotated.dropped)}"))
        else:
            rows.append(row if annotated.text == row.text else row._replace(text=annotated.text))
            dropped += annotated.dropped
    log_dropped(str(manifest.folder), dropped)
    return manifest if rows == list(manifest.rows) else Manifest(manifest.folder, tuple(rows), (*manifest.broken, *broken))


def public_corpora(folder: Path) -> Iterator[Layout[SpeechRow]]:
    """The public corpora that a folder seems to be, by its files."""
    return chain(_ljspeech(folder), _librispeech(folder), _common_voice(folder), _vctk(folder), _kaldi(folder))


def _vctk(folder: Path) -> Iterator[Layout[SpeechRow]]:
    recordings = find_vctk(folder)
    if recordings is not None:
        yield Layout("VCTK", recordings, lambda: SPEECH.collect(folder, folder.resolve(), read_vctk(recordings)))


def _kaldi(folder: Path) -> Iterator[Layout[SpeechRow]]:
    indexes = find_kaldi(folder)
    if indexes:
        records = chain.from_iterable(read_kaldi(index, folder) for index in indexes)
        yield Layout("Kaldi", indexes[0], lambda: SPEECH.collect(folder, folder.resolve(), records))


def subtitled_recordings(folder: Path) -> Iterator[Layout[SpeechRow]]:
    """The long recordings with subtitles that a folder seems to have."""
    pairs = find_subtitled(folder, AUDIO_SUFFIXES)
    if pairs:

        def read_at_own_times() -> SpeechManifest:
            check_subtitles(pairs)
            logger.info(
                "%s: cut at the times of the subtitles, which may be off; `omnictl data align` hears when each is said", folder
            )
            records = chain.from_iterable(read_subtitled(recording, subtitles, folder) for recording, subtitles in pairs)
            return SPEECH.collect(folder, folder.resolve(), records)

        yield Layout("subtitles", pairs[0][1], read_at_own_times)


def _ljspeech(folder: Path) -> Iterator[Layout[SpeechRow]]:
    index = folder / "metadata.csv"
    if index.is_file() and "|" in read_first_line(index) and "audio" not in read_columns(index, SPEECH):
        yield Layout("LJSpeech", index, lambda: SPEECH.collect(folder, folder.resolve(), _ljspeech_records(index)))


def _ljspeech_records(index: Path) -> Iterator[Record | BrokenRow]:
    lines = [(f"{index}:{number}", line.split("|")) for number, line in read_lines(index, SPEECH.first_line)]  # quotes are letters
    has_speakers = _names_speakers([fields for _, fields in lines if len(fields) == 3])
    for where, (name, *texts) in lines:
        if len(texts) not in (1, 2):
            yield BrokenRow(where, where, f"found {len(texts) + 1} fields, expected id|text or id|text|normalised text")
            continue
        row: dict[str, object] = {"audio": _in_wavs(name.strip(), index.parent), "text": texts[-1].strip() or texts[0]}
        yield Record(where, {**row, "speaker": texts[0]} if has_speakers and len(texts) == 2 else row)


def _names_speakers(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the second of three fields is a speaker, as Piper writes it: one word that comes again, and not what is said."""
    names = [row[1].strip() for row in rows]
    are_words = all(name and len(name.split()) == 1 for name in names)
    num_said = sum(name.lower() == row[2].strip().lower() for name, row in zip(names, rows, strict=True))
    is_speaker = are_words and bool(rows) and 2 * len(set(names)) <= len(rows) and 2 * num_said < len(rows)
    if is_speaker:
        logger.info("id|speaker|text: the second field is read as the speaker (%s)", ", ".join(sorted(set(names))[:_SHOWN]))
    return is_speaker


def _in_wavs(name: str, folder: Path) -> str:
    """The path of an id or a file name, with `wavs/` before it and a suffix behind it where they are missing."""
    path = name if name.startswith(("wavs/", "./")) else f"wavs/{name}"
    if PurePath(name).suffix.lower() in AUDIO_SUFFIXES:
        return path
    suffix = next((suffix for suffix in AUDIO_SUFFIXES if ".." not in path and (folder / f"{path}{suffix}").is_file()), ".wav")
    return f"{path}{suffix}"


def _librispeech(folder: Path) -> Iterator[Layout[SpeechRow]]:
    """As the root of subsets, or as one of them."""
    found = chain(folder.glob("*/*/*.trans.txt"), folder.glob("*/*/*/*.trans.txt"))
    indexes = sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))
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
