"""`omnictl transcribe FILE…`: what is said in recordings, as text or subtitles."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from omnictl.cli.console import Output, printable, show_file_error
from omnictl.cli.options import DeviceOption, JsonOption, RunOption, RunsOption, check_finite, choose_run
from omnictl.errors import DataError, OmniError, UsageError
from omnictl.runs.root import run_root
from omnictl.visible_text import visible

if TYPE_CHECKING:
    from omnictl.use.subtitles import Word
    from omnictl.use.transcribe import Transcript

BEAM_WITH_LANGUAGE_MODEL = 16
"""Width of the beam search with `--lm` or `--thinker` and without `--beam`."""


class TextFormat(StrEnum):
    """How a transcript is written."""

    text = "text"
    srt = "srt"
    vtt = "vtt"


_THINKER = "A `pretrain` run's path or name, or latest: its Thinker chooses among what the beam search found."
ThinkerOption = Annotated[str | None, typer.Option("--thinker", metavar="RUN", help=_THINKER, show_default=False)]


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="WAV, FLAC, OGG or MP3, at any rate.", show_default=False)],
    run: RunOption = None,
    format_: Annotated[TextFormat, typer.Option("--format", help="Text, or subtitles: SubRip or WebVTT.")] = TextFormat.text,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Text as one word a line with its seconds.")] = False,
    beam: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Width of a beam search, 1: none; default: the run's own, or {BEAM_WITH_LANGUAGE_MODEL} with --lm or --thinker.",
        ),
    ] = None,
    lm: Annotated[
        Path | None,
        typer.Option("--lm", metavar="TEXT", help="Text file, one sentence a line: the beam search prefers what reads like it."),
    ] = None,
    thinker: ThinkerOption = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Hear in chunks, as while somebody speaks; words come on standard error.")
    ] = False,
    lm_weight: Annotated[
        float, typer.Option(min=0, max=1000, callback=check_finite, help="How much --lm and --thinker each count beside the audio.")
    ] = 0.5,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for a .txt, .srt or .vtt a FILE; default: all is printed, only subtitles of several go beside the files.",
            show_default=False,
        ),
    ] = None,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> int:
    """Write down what is said in recordings of up to an hour, with the newest speech recogniser."""
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.generate.ctc_decoder import Decoding
    from omnictl.trainer.hardware.device import choose_device
    from omnictl.use.transcribe import fit_language_model, open_recogniser, open_thinker, transcribe_file

    width = _beam_width(beam, {"--lm": lm, "--thinker": thinker})
    if stream:
        _check_stream(width)
    places = _places(files, format_, out, as_json=as_json)
    delivery = _Delivery(format_, timestamps, len(files) > 1, places, Output(as_json))
    news = Output(as_json=True)  # on standard error, always: the result is the text alone
    news.show_log()
    chosen = choose_run(run_root(runs), "asr", run)
    reader = None if thinker is None else choose_run(run_root(runs), "pretrain", thinker)
    place = choose_device(device)
    recogniser = open_recogniser(chosen, place, cache_dir())
    rater = None if reader is None else open_thinker(reader, place)
    helped = "" if reader is None else f", its hypotheses rated by {reader.path}"
    news.say(f"transcribing with {escape(f'{chosen.path}{helped}')}")
    scorer = None if lm is None else fit_language_model(lm, recogniser.targets)
    decoding = recogniser.decoding if width is None else Decoding(width, scorer, rater, lm_weight)
    if stream:
        from omnictl.use.transcript_stream import require_chunks, stream_file

        require_chunks(recogniser, str(chosen.path))
        entries = [_entry(file, lambda path: stream_file(path, recogniser, _show_word), delivery) for file in files]
    else:
        entries = [_entry(file, lambda path: transcribe_file(path, recogniser, decoding), delivery) for file in files]
    if as_json:
        delivery.output.result({"run": str(chosen.path), "files": entries}, "")
    return DataError.exit_code if any("error" in entry for entry in entries) else 0


@dataclass(frozen=True)
class _Delivery:
    """What becomes of a transcript."""

    format: TextFormat
    timestamps: bool
    several: bool
    places: Mapping[Path, Path]
    """Where transcripts are written; those of other files are printed, or part of the JSON."""
    output: Output

    def deliver(self, file: Path, transcript: "Transcript") -> None:
        """Write or print it.

        Raises:
            RunError, DiskFull: it cannot be written.
        """
        text, place = self._render(transcript), self.places.get(file)
        if place is not None:
            _write(place, text)
            self.output.say(f"wrote {escape(printable(place))}")
        elif not self.output.as_json:
            between = ":\n" if self.timestamps else ": "
            sys.stdout.write(visible(f"{printable(file)}{between}{text}" if self.several else text))
            sys.stdout.flush()

    def _render(self, transcript: "Transcript") -> str:
        from omnictl.use.subtitles import to_srt, to_vtt

        if self.format is not TextFormat.text:
            return to_srt(transcript.words) if self.format is TextFormat.srt else to_vtt(transcript.words)
        if self.timestamps:
            return "".join(f"[{start:.2f}–{stop:.2f}] {text}\n" for text, start, stop in transcript.words)
        return f"{transcript.text}\n"


def _places(files: Sequence[Path], format_: TextFormat, out: Path | None, *, as_json: bool) -> dict[Path, Path]:
    """The file to write for each recording, if any is written.

    Raises:
        UsageError: the same one for two recordings, or `out` is not a folder.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder", where="--out", fix="name a folder; it is made if it does not exist")
    is_text = format_ is TextFormat.text
    if out is None and (as_json or is_text or len(files) == 1):
        return {}
    sources: dict[Path, Path] = {}
    for file in files:
        place = (file.parent if out is None else out) / f"{file.stem}.{'txt' if is_text else format_.value}"
        if place in sources:
            raise UsageError(
                f"{sources[place]} and {file} would both be written to {place}",
                where=str(file),
                fix="give each file once, and those of one name in commands of their own with different --out DIR",
            )
        sources[place] = file
    return {file: place for place, file in sources.items()}


def _entry(file: Path, hear: "Callable[[Path], Transcript]", delivery: _Delivery) -> dict[str, object]:
    """Transcribe a file; a broken one among several is reported and leaves the others alone."""
    try:
        transcript = hear(file)
    except DataError as error:
        if not delivery.several:
            raise
        return {"audio": printable(file), "error": show_file_error(error)}
    delivery.deliver(file, transcript)
    return {"audio": printable(file), **transcript.as_json()}


def _beam_width(beam: int | None, models: Mapping[str, object | None]) -> int | None:
    """The width of the beam search, 1 for none, None for the run's own way; `models` are the language models, by their options.

    Raises:
        UsageError: a language model for the best path.
    """
    given = [option for option, model in models.items() if model is not None]
    if beam == 1 and given:
        needs = f"{' and '.join(given)} need{'s' if len(given) == 1 else ''}"
        raise UsageError(f"{needs} a beam search, --beam 1 is none", where="--beam", fix="leave --beam out, or make it wider")
    return beam or (BEAM_WITH_LANGUAGE_MODEL if given else None)


def _check_stream(width: int | None) -> None:
    """Refuse to search among texts of which the words have been printed already.

    Raises:
        UsageError: a beam search was asked for.
    """
    if width is not None and width > 1:
        message = "words that are printed as they come cannot be chosen by a beam search"
        raise UsageError(message, where="--stream", fix="leave out --beam, --lm and --thinker, or --stream")


def _show_word(word: "Word") -> None:
    """On standard error: standard output is for the whole transcript."""
    sys.stderr.write(f"[{word.stop:.2f}] {visible(word.text)}\n")
    sys.stderr.flush()


def _write(path: Path, text: str) -> None:
    """Write a transcript, and its folder if there is none.

    Raises:
        RunError, DiskFull: the system refuses.
    """
    from omnictl.runs.files import write_text, writing

    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OmniError as error:  # whose fix speaks of runs
        fix = "make room or the folder writable, or choose another folder with --out DIR"
        raise type(error)(error.message, where=str(path), fix=fix) from error
