"""Recordings in a user's files, with their transcripts, in three splits."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property

from omnictl.config.split import Split
from omnictl.data.audio.decoder import read_audio
from omnictl.data.manifest.contents import fingerprint_rows
from omnictl.data.speech.corpus import BLOCK, Recording, Samples, SpeechDataConfig
from omnictl.data.speech.manifest import SpeechManifest
from omnictl.data.speech.splits import split_rows
from omnictl.errors import DataError


class SpeechFiles:
    """Recordings in files, with their transcripts."""

    def __init__(self, manifest: SpeechManifest, config: SpeechDataConfig) -> None:
        self.folder, self.broken = manifest.folder, manifest.broken
        self._max_seconds, self._holdout_speakers = config.max_seconds, config.holdout_speakers
        self._splits = split_rows(
            manifest.rows,
            val_fraction=config.val_fraction,
            test_fraction=config.test_fraction,
            holdout_speakers=config.holdout_speakers,
        )

    @property
    def name(self) -> str:
        """Its folder."""
        return str(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """Over what the rows say and the size and time of every file; files are not read for it."""
        digest = hashlib.sha256(repr(self._max_seconds).encode())
        for split, rows in self._splits.items():
            for row in rows:
                stat = row.audio.stat()
                digest.update(repr((split, row.id, row.text, row.speaker, stat.st_size, stat.st_mtime_ns)).encode())
        return digest.hexdigest()

    @cached_property
    def contents_fingerprint(self) -> str:
        """The same over sizes alone: data that was copied is still the same."""
        rows = ((split, row) for split, rows in self._splits.items() for row in rows)
        return fingerprint_rows((split, (row.id, row.text, row.speaker, row.audio.stat().st_size)) for split, row in rows)

    def recordings(self, split: Split) -> Sequence[Recording]:
        """The utterances of a split in a fixed order."""
        rows = self._splits[split]
        if not rows:
            sizes = ", ".join(f"{name} {len(members)}" for name, members in self._splits.items())
            message = f"the {split} split of {self.folder} is empty ({sizes} utterances)"
            fix = self._train_fix() if split == "train" else f"give more recordings, or --set data.{split}_fraction=0.1"
            raise DataError(message, where=str(self.folder), fix=fix)
        return [Recording(row.id, row.text, row.speaker, row.where, row.audio) for row in rows]

    def _train_fix(self) -> str:
        """What helps where nothing is left to train on, though there are recordings."""
        if self._holdout_speakers:
            return "give recordings of other speakers, too, or name fewer in data.holdout_speakers"
        named = [name for name, rows in self._splits.items() if rows]
        evaluation = f"omnictl eval asr --data ... --split {named[0]}"
        return f"all rows are named {' or '.join(named)}: give others to train on, or judge a trained run by these ({evaluation})"

    def samples(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        """The samples of a split's utterances from `block · BLOCK` on, up to `BLOCK` of them: `(n,)` mono at `rate` Hz."""
        for row in self._splits[split][block * BLOCK : (block + 1) * BLOCK]:
            try:
                yield read_audio(row.audio, rate=rate, max_seconds=self._max_seconds)
            except DataError as error:
                yield error
