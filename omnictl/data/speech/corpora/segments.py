"""Segments of long recordings, cut out once into files of their own, which the cache keeps.

A row may say where in its recording it is spoken: `offset` and `duration`, in seconds, as NeMo and Lhotse write it. A recording is
decoded once from its beginning to its end, whatever the number of its segments, a piece at a time.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnictl.data.manifest.cache import cache_dir, flush, read_or_build
from omnictl.data.manifest.rows import BrokenRow, Manifest
from omnictl.data.speech.manifest import SpeechManifest, SpeechRow
from omnictl.errors import DataError
from omnictl.progress import log_progress

if TYPE_CHECKING:
    from omnictl.data.audio.decoder import AudioInfo

VERSION = 2
"""Of how segments are cut; a change makes old ones worthless."""

MAX_HOURS = 24
"""Of a recording that has segments."""

_SLACK_SECONDS = 0.1
"""By which a segment may end behind its recording: times are rounded, by centiseconds in some formats."""
_INDEX = "segments.json"


class Span(NamedTuple):
    """Where in a recording a segment lies, in seconds."""

    start: float
    end: float | None
    """None: the end of the recording."""


def cut_segments(manifest: SpeechManifest) -> SpeechManifest:
    """The rows of a manifest, each with a recording of its own: where one names a part of a recording, that is cut out.

    Raises:
        DataError, DiskFull: the cache cannot be written.
    """
    by_file: dict[Path, list[SpeechRow]] = {}
    for row in manifest.rows:
        if row.offset is not None:
            by_file.setdefault(row.audio, []).append(row)
    if not by_file:
        return manifest
    cut: dict[str, Path | str] = {}
    for file, rows in log_progress(by_file.items(), "cutting segments out of recordings", len(by_file)):
        spans = [Span(row.offset or 0.0, None if row.duration is None else (row.offset or 0.0) + row.duration) for row in rows]
        cut.update(zip((row.id for row in rows), _segments_of(file, spans), strict=True))
    whole = [row._replace(audio=found) for row in manifest.rows if isinstance(found := cut.get(row.id, row.audio), Path)]
    broken = [BrokenRow(row.id, row.where, flaw) for row in manifest.rows if isinstance(flaw := cut.get(row.id), str)]
    return Manifest(manifest.folder, tuple(whole), (*manifest.broken, *broken))


def _segments_of(file: Path, spans: Sequence[Span]) -> list[Path | str]:
    """The file of each segment of a recording, or why there is none."""
    stat = file.stat()
    digest = hashlib.sha256(repr((VERSION, str(file), stat.st_size, stat.st_mtime_ns, list(spans))).encode())
    folder = cache_dir().resolve() / "segments" / digest.hexdigest()

    def write(draft: Path) -> None:
        flaws = _cut(file, spans, draft)
        with (draft / _INDEX).open("w", encoding="utf-8") as out:
            json.dump(flaws, out)
            flush(out)

    try:
        flaws = read_or_build(folder, _read_index, write)
    except DataError as error:
        if error.where != str(file):  # the cache, not the recording
            raise
        return [error.message] * len(spans)
    return [flaws.get(str(number)) or folder / _name(number) for number in range(len(spans))]


def _read_index(folder: Path) -> Mapping[str, str] | None:
    try:
        flaws = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return flaws if isinstance(flaws, dict) else None


def _name(number: int) -> str:
    return f"{number:06}.flac"


def _cut(file: Path, spans: Sequence[Span], folder: Path) -> dict[str, str]:
    """Write the segments of a recording; returns by number why some could not be.

    Raises:
        DataError: the recording cannot be read.
    """
    import soundfile  # noqa: PLC0415  libraries of sound take seconds to load, and few corpora have segments

    from omnictl.data.audio.decoder import stream_audio  # noqa: PLC0415

    flaws: dict[str, str] = {}
    with stream_audio(file, max_seconds=3600.0 * MAX_HOURS) as (info, blocks):
        bounds: dict[int, tuple[int, int]] = {}
        for number, span in enumerate(spans):
            found = _bounds(span, info)
            if isinstance(found, str):
                flaws[str(number)] = found
            else:
                bounds[number] = found
        order = sorted(bounds, key=lambda number: bounds[number])
        for number, samples in _take(blocks, [(number, *bounds[number]) for number in order]):
            soundfile.write(os.fsencode(folder / _name(number)), samples, info.rate, format="FLAC", subtype="PCM_16")
            del bounds[number]
    behind = f"begins behind the last sample of its recording, which has {info.seconds:.2f} s"
    return flaws | {str(number): f"the segment from {spans[number].start:g} s on {behind}" for number in bounds}


def _bounds(span: Span, info: "AudioInfo") -> tuple[int, int] | str:
    """The samples [first, end) of a segment, or why it has none."""
    end = info.seconds if span.end is None else span.end
    first, last = round(span.start * info.rate), min(round(end * info.rate), info.frames)
    segment = f"the segment from {span.start:g} to {end:g} s"
    if span.start < 0 or end <= span.start:
        return f"{segment} is empty: offset and duration are seconds from 0 up"
    if end > info.seconds + _SLACK_SECONDS or first >= info.frames:
        place = "begins" if first >= info.frames else "ends"
        return f"{segment} {place} behind its recording, which has {info.seconds:.2f} s"
    return (first, last) if first < last else f"{segment} is empty: it is shorter than a sample"


def _take(
    blocks: Iterator[NDArray[np.float32]], bounds: Sequence[tuple[int, int, int]]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The samples of segments, as (number, first, end) in the order of their first samples; they may overlap."""
    waiting = list(reversed(bounds))
    parts: dict[int, list[NDArray[np.float32]]] = {}
    ends = {number: (first, end) for number, first, end in bounds}
    position = 0
    for block in blocks:
        after = position + len(block)
        while waiting and waiting[-1][1] < after:
            parts[waiting.pop()[0]] = []
        for number in list(parts):
            first, end = ends[number]
            parts[number].append(block[max(0, first - position) : max(0, end - position)].copy())
            if end <= after:
                yield number, np.concatenate(parts.pop(number))
        position = after
    for number, pieces in parts.items():
        yield number, np.concatenate(pieces)
