"""Looks speech or text over before it is trained on: what is broken, what looks wrong, and (by `summary`) how much there is.

Broken is what training cannot use, with characters (a to z, or those of the data) as targets: it sets such rows aside, and stops at
text files that cannot be read. A warning is what training takes, and a person should look at. What cannot be noticed: a transcript
of the right length with the wrong words.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from omnictl.data.inspect.audio_files import AudioFacts, SpeechSource, decode, open_source, probe
from omnictl.data.inspect.findings import Finding, FindingsReport
from omnictl.data.inspect.summary import speech_summary, text_summary
from omnictl.data.manifest.source import source_path, tinyworld_seed
from omnictl.data.speech.corpus import Recording, SpeechDataConfig
from omnictl.data.speech.transcripts.targets import CharacterTargets, Spelling, TargetKind, choose_spelling
from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.file_corpus import TextFiles
from omnictl.data.text.files import empty_text_error, find_text_files, read_rows
from omnictl.data.text.source import open_corpus
from omnictl.errors import DataError
from omnictl.nn.audio.mel import MelConfig
from omnictl.nn.conv import SUBSAMPLING
from omnictl.nn.losses.ctc import min_frames
from omnictl.progress import log_progress

FASTEST, SLOWEST = 25.0, 2.0
"""Characters a second. English is read at about 15; beyond these a transcript is hardly that of its recording."""

_MEL = MelConfig()


# Speech


def check_speech(source: str, *, limit: int | None = None, targets: TargetKind = "characters") -> FindingsReport:
    """Reads every recording and its transcript.

    Args:
        source: a manifest, a corpus folder, or TinyWorld.
        limit: at most this many recordings of each split.
        targets: what transcripts are spelled in.

    Raises:
        DataError: no such source, or no row of it can be used.
    """
    speech = open_source(source, limit, decode)
    spelling = choose_spelling(targets, (recording.text for split, recording in speech.recordings if split == "train"))
    recordings, broken = _measure(speech, "checking recordings", spelling)
    flaws = ((recording, spelling.find_flaw(recording.text)) for _, recording in speech.recordings)
    fitting = [recording for recording in recordings if recording.text]
    broken += [_problem("transcript", recording, flaw) for recording, flaw in flaws if flaw is not None]
    broken += _infeasible(fitting, spelling, emissions=2)
    too_short = {problem.id for problem in broken}
    warnings = [problem for problem in _infeasible(fitting, spelling, emissions=1) if problem.id not in too_short]
    warnings += [*_odd_rates(fitting), *_too_long(recordings), *_duplicates(recordings)]
    return _speech_report(source, speech, recordings, broken, warnings)


def measure_speech(source: str, *, limit: int | None = None) -> FindingsReport:
    """Reads the headers of every recording and judges nothing; TinyWorld, which has no files, is spoken.

    Args:
        source: a manifest, a corpus folder, or TinyWorld.
        limit: at most this many recordings of each split.

    Raises:
        DataError: no such source, or no row of it can be used.
    """
    speech = open_source(source, limit, probe)
    recordings, broken = _measure(speech, "reading headers", CharacterTargets())
    return _speech_report(source, speech, recordings, broken, ())


def _measure(speech: SpeechSource, doing: str, spelling: Spelling) -> tuple[list[AudioFacts], list[Finding]]:
    """The recordings whose audio can be read, and a problem for every other row."""
    recordings, broken = [], [Finding("row", *row) for row in speech.broken]
    audio_files = log_progress(speech.audio_files, doing, len(speech.recordings))
    for (split, recording), audio in zip(speech.recordings, audio_files, strict=True):
        if isinstance(audio, DataError):
            broken.append(_problem("audio", recording, audio.message))
        else:
            text = "" if spelling.find_flaw(recording.text) else spelling.normalise(recording.text)
            recordings.append(AudioFacts(split, recording, audio, text))
    return recordings, broken


def _problem(kind: str, recording: Recording, message: str) -> Finding:
    return Finding(kind, recording.id, recording.where, message)


def _infeasible(recordings: Iterable[AudioFacts], spelling: Spelling, *, emissions: int) -> Iterator[Finding]:
    """The recordings too short for their transcripts, if the CTC head emits `emissions` symbols per frame of the encoder."""
    hertz = f"{_MEL.frames_hz / SUBSAMPLING * emissions:g}"
    for row in recordings:
        samples = -(-row.audio.frames * _MEL.sample_rate // row.audio.rate)  # as many as resampling gives
        steps = -(-(1 + samples // _MEL.hop) // SUBSAMPLING) * emissions
        needed = min_frames(spelling.encode(row.text))
        if steps < needed:
            message = f"too short for its transcript: {steps} steps at {hertz} Hz, CTC needs {needed}"
            yield _problem(f"infeasible_{hertz}hz", row.recording, message)


def _odd_rates(recordings: Iterable[AudioFacts]) -> Iterator[Finding]:
    for row in recordings:
        rate = len(row.text) / row.audio.seconds
        if rate > FASTEST:
            hint = "is the transcript that of another recording, or the recording cut off?"
        elif rate < SLOWEST:
            hint = "does the transcript lack words, or is the recording mostly silence?"
        else:
            continue
        yield _problem("rate", row.recording, f"{rate:.1f} characters a second: {hint}")


def _too_long(recordings: Iterable[AudioFacts]) -> Iterator[Finding]:
    limit = SpeechDataConfig().max_seconds
    for row in recordings:
        if row.audio.seconds > limit:
            message = f"{row.audio.seconds:.1f} s long: training sets it aside unless data.max_seconds is more than {limit:g}"
            yield _problem("long", row.recording, message)


def _duplicates(recordings: Iterable[AudioFacts]) -> Iterator[Finding]:
    """Recordings that are in an earlier split too, sample by sample, whatever their files are called."""
    first: dict[bytes, AudioFacts] = {}
    for row in recordings:
        earlier = first.setdefault(row.audio.digest, row)
        if earlier.split != row.split:
            message = f"the same recording is in the {earlier.split} split, this one in {row.split}: {earlier.recording.where}"
            yield _problem("duplicate", row.recording, message)


def _speech_report(
    source: str, speech: SpeechSource, recordings: Sequence[AudioFacts], broken: Sequence[Finding], warnings: Sequence[Finding]
) -> FindingsReport:
    summary = speech_summary(recordings)
    return FindingsReport(source, "speech", "rows", len(speech.recordings) + len(speech.broken), summary, broken, warnings)


# Text


def check_text(source: str) -> FindingsReport:
    """Reads every document.

    Args:
        source: a text file, a folder of them, or TinyWorld.

    Raises:
        DataError: no such source, or no text in it.
    """
    if tinyworld_seed(source) is not None:
        return FindingsReport(source, "text", "files", 0, text_summary(open_corpus(TextDataConfig(source=source))), ())
    path = source_path(source)
    files = find_text_files(path)
    flaws = {file: _read_through(file) for file in files}
    whole = tuple(file for file, flaw in flaws.items() if flaw is None)
    broken = [Finding("file", str(file), flaw.where or str(file), flaw.message) for file, flaw in flaws.items() if flaw]
    if not broken and not any(True for file in whole for _ in read_rows(file)):
        raise empty_text_error(path)
    summary = text_summary(TextFiles(path, whole, val_fraction=None, test_fraction=None))
    return FindingsReport(source, "text", "files", len(files), summary, broken)


def _read_through(file: Path) -> DataError | None:
    """Why a file cannot be read to its end, if it cannot."""
    try:
        for _ in log_progress(read_rows(file), f"reading documents of {file}"):
            pass
    except DataError as error:
        return error
    return None
