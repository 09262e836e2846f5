"""Utterances out of long recordings with subtitles, their times found by a recogniser instead of those of the subtitles.

Subtitles are shown when it suits readers: early, late, or over a pause. Here the texts of up to half a minute of subtitles in a row
are aligned with what the CTC model of an `asr` run hears there and a little around (Kürzinger et al. 2020, "CTC-Segmentation of
Large Corpora for German End-to-end Speech Recognition", without its free edges). An utterance begins before its first symbol and
ends behind its last, at most half-way to its neighbours. What the model does not hear, measured in nats a symbol, is set aside.
"""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from omnictl.data.audio.decoder import read_audio
from omnictl.data.export import new_folder
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.split_names import split_of_path
from omnictl.data.speech.corpora.subtitles import Subtitle, check_subtitles, find_subtitled, read_subtitles
from omnictl.data.speech.corpus import Samples
from omnictl.data.speech.layouts import AUDIO_SUFFIXES
from omnictl.data.speech.transcripts.annotations import read_annotations
from omnictl.errors import DataError
from omnictl.generate.ctc_search import align
from omnictl.nn.conv import SUBSAMPLING
from omnictl.progress import log_progress
from omnictl.use.transcribe import Recogniser

LONGEST_GROUP = 30.0
"""Seconds of subtitles that are aligned at once."""
PADDING = 0.2
"""Seconds that an utterance has before its first symbol and behind its last, where there is room: CTC's symbols are short."""
COLUMNS = ("audio", "text", "speaker", "split")
TIMES_COLUMNS = ("audio", "recording", "subtitle", "shown_from", "shown_to", "said_from", "said_to", "nats_per_symbol")


class AlignedUtterance(NamedTuple):
    """A subtitle and when it is said, in seconds from the beginning of its recording."""

    subtitle: Subtitle
    start: float
    stop: float
    nats: float
    """-ln p a symbol in its clearest frame on the likeliest path: how much the model doubts that this is said here."""


class AlignmentSummary(NamedTuple):
    """What was written."""

    utterances: int
    seconds: float
    shift: float
    """By how much beginnings moved: the median, in seconds."""
    set_aside: Sequence[BrokenRow]


class AlignmentSettings(NamedTuple):
    """Where is looked, and what is believed."""

    margin: float = 2.0
    """Seconds by which times may be wrong."""
    most_nats: float = 2.0
    """A symbol; utterances that the model doubts more are set aside."""


def align_folder(folder: Path, out: Path, recogniser: Recogniser, settings: AlignmentSettings) -> AlignmentSummary:
    """Write the utterances of all subtitled recordings of a folder: FLAC files, `metadata.csv` and, with all times, `times.csv`.

    Raises:
        DataError: no recording with subtitles, one with several files of them, or nothing of them can be used.
        UsageError: `out` holds something or cannot be written.
        DiskFull: no space left; nothing is left there.
    """
    pairs = find_subtitled(folder, AUDIO_SUFFIXES) if folder.is_dir() else []
    if not pairs:
        fix = "put talk.srt or talk.vtt beside talk.mp3, and name their folder"
        raise DataError(f"{folder} has no recordings with subtitles", where=str(folder), fix=fix)
    check_subtitles(pairs)
    set_aside: list[BrokenRow] = []
    rows: list[tuple[AlignedUtterance, Path, str]] = []
    with new_folder(out, fewer="FOLDER") as draft:
        (draft / "audio").mkdir()
        for recording, subtitles in log_progress(pairs, "aligning recordings", len(pairs)):
            try:
                audio = read_audio(recording, rate=recogniser.config.model.mel.sample_rate)
            except DataError as error:
                set_aside.append(BrokenRow(str(recording), str(recording), error.message))
                continue
            for utterance in align_recording(audio, read_subtitles(subtitles), recogniser, settings, subtitles):
                if isinstance(utterance, BrokenRow):
                    set_aside.append(utterance)
                    continue
                name = f"audio/{len(rows):06}.flac"
                _write_audio(draft / name, audio, utterance, recogniser.config.model.mel.sample_rate)
                rows.append((utterance, recording.relative_to(folder), name))
        if not rows:
            message = f"nothing of {folder} can be used: {set_aside[0].message}" if set_aside else f"{folder} has no subtitles"
            fix = "look whether the subtitles are those of the recordings, or name a recogniser that has learned such speech"
            raise DataError(message, where=set_aside[0].where if set_aside else str(folder), fix=fix)
        _write_tables(draft, rows)
    shift = float(np.median([utterance.start + PADDING - utterance.subtitle.start for utterance, _, _ in rows]))
    return AlignmentSummary(len(rows), sum(each.stop - each.start for each, _, _ in rows), shift, set_aside)


def align_recording(
    audio: Samples, subtitles: Iterable[Subtitle], recogniser: Recogniser, settings: AlignmentSettings, file: Path
) -> Iterator[AlignedUtterance | BrokenRow]:
    """The utterances of a recording in the order of their subtitles, and why others are none.

    Args:
        audio: `(n,)` mono at the recogniser's rate.
        subtitles: of this recording.
        recogniser: with weights.
        settings: where is looked.
        file: of the subtitles, for messages.
    """
    seconds = len(audio) / recogniser.config.model.mel.sample_rate
    usable: list[Subtitle] = []
    for subtitle in subtitles:
        text = read_annotations(subtitle.text)
        flaw = _flaw(subtitle, seconds) or recogniser.targets.find_flaw(text.text)
        if text.unknown is not None:
            flaw = f"the transcript has {text.unknown} for words that nobody wrote down"
        if flaw is None:
            usable.append(subtitle._replace(text=text.text))
        else:
            yield _broken(file, subtitle, flaw)
    for group in _group(usable):
        yield from _align_group(audio, group, recogniser, settings, file)


def _flaw(subtitle: Subtitle, seconds: float) -> str | None:
    if subtitle.end <= subtitle.start:
        return f"the subtitle ends at {subtitle.end:g} s, before it begins at {subtitle.start:g} s"
    if subtitle.start >= seconds:
        return f"the subtitle begins at {subtitle.start:g} s, behind its recording, which has {seconds:.2f} s"
    return None


def _broken(file: Path, subtitle: Subtitle, flaw: str) -> BrokenRow:
    return BrokenRow(f"{file}:{subtitle.line}", f"{file}:{subtitle.line}", flaw)


def _group(subtitles: Sequence[Subtitle]) -> Iterator[list[Subtitle]]:
    """Subtitles in a row, no more than `LONGEST_GROUP` together; a longer row is parted at its widest gap."""
    if not subtitles:
        return
    if len(subtitles) == 1 or subtitles[-1].end - subtitles[0].start <= LONGEST_GROUP:
        yield list(subtitles)
        return
    within = [number for number in range(1, len(subtitles)) if subtitles[number - 1].end - subtitles[0].start <= LONGEST_GROUP]
    late = [number for number in within if subtitles[number - 1].end - subtitles[0].start >= LONGEST_GROUP / 3]
    cut = max(late or within or [1], key=lambda number: subtitles[number].start - subtitles[number - 1].end)
    yield list(subtitles[:cut])
    yield from _group(subtitles[cut:])


def _align_group(
    audio: Samples, group: Sequence[Subtitle], recogniser: Recogniser, settings: AlignmentSettings, file: Path
) -> Iterator[AlignedUtterance | BrokenRow]:
    model, targets = recogniser.config.model, recogniser.targets
    assert model.emissions != "auto"
    rate, step = model.mel.sample_rate, SUBSAMPLING / model.mel.frames_hz / model.emissions
    first = max(0.0, group[0].start - settings.margin)
    window = audio[round(first * rate) : round((group[-1].end + settings.margin) * rate)]
    texts = [targets.normalise(subtitle.text) for subtitle in group]
    pieces = [targets.encode(text if number == 0 else f" {text}") for number, text in enumerate(texts)]
    ids = [symbol for piece in pieces for symbol in piece]
    frames, lengths = recogniser.hear(window)
    log_probs = frames[0, : int(lengths[0])].float().cpu()  # (S, V)
    try:
        spans = align(log_probs, ids)
    except ValueError as error:
        yield from (_broken(file, subtitle, f"too short for what is said: {error}") for subtitle in group)
        return
    begin, said = 0, []
    for piece in pieces:
        parts = len(piece) > 1 and targets.decode(piece[:1]).isspace()  # from the one before
        own, symbols = spans[begin + parts : begin + len(piece)], piece[parts:]
        nats = -float(sum(log_probs[span.start : span.stop, symbol].max() for span, symbol in zip(own, symbols, strict=True)))
        said.append((first + own[0].start * step, first + own[-1].stop * step, nats / len(own)))
        begin += len(piece)
    yield from _with_room(said, group, settings, file, (first, first + len(window) / rate))


def _with_room(
    said: Sequence[tuple[float, float, float]],
    group: Sequence[Subtitle],
    settings: AlignmentSettings,
    file: Path,
    window: tuple[float, float],
) -> Iterator[AlignedUtterance | BrokenRow]:
    """Each utterance with a little around it, at most half-way to its neighbours."""
    for number, (start, stop, nats) in enumerate(said):
        if nats > settings.most_nats:
            message = f"the recogniser does not hear this text here: {nats:.1f} nats a symbol, believed are {settings.most_nats:g}"
            yield _broken(file, group[number], message)
            continue
        before = (said[number - 1][1] + start) / 2 if number else window[0]
        behind = (stop + said[number + 1][0]) / 2 if number + 1 < len(said) else window[1]
        yield AlignedUtterance(group[number], max(before, start - PADDING), min(behind, stop + PADDING), nats)


def _write_audio(file: Path, audio: Samples, utterance: AlignedUtterance, rate: int) -> None:
    samples = audio[round(utterance.start * rate) : round(utterance.stop * rate)]
    soundfile.write(os.fsencode(file), samples, rate, format="FLAC", subtype="PCM_16")


def _write_tables(folder: Path, rows: Sequence[tuple[AlignedUtterance, Path, str]]) -> None:
    with (
        (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as corpus,
        (folder / "times.csv").open("w", newline="", encoding="utf-8") as times,
    ):
        manifest, table = csv.writer(corpus), csv.writer(times)
        manifest.writerow(COLUMNS)
        table.writerow(TIMES_COLUMNS)
        for utterance, recording, name in rows:
            subtitle, split = utterance.subtitle, split_of_path(recording, Path())
            manifest.writerow([name, subtitle.text, subtitle.speaker or "", split or ""])
            said = [f"{value:.2f}" for value in (subtitle.start, subtitle.end, utterance.start, utterance.stop)]
            table.writerow([name, recording.as_posix(), subtitle.line, *said, f"{utterance.nats:.2f}"])
