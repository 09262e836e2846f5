"""What the user says, written down while it is being said."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from omnictl.data.audio.resample import ResampleStream
from omnictl.data.speech.corpus import Samples
from omnictl.serve.replies.audio_formats import PCM_HZ
from omnictl.serve.traffic.errors import RequestError
from omnictl.serve.traffic.scheduler import Scheduler
from omnictl.stages.asr import Asr
from omnictl.use.subtitles import Word
from omnictl.use.transcript_stream import TranscriptStream

if TYPE_CHECKING:
    from omnictl.serve.traffic.scheduler import Job


class PartialTranscript:
    """One turn's words as they are said.

    Args:
        recogniser: has learned to hear in chunks.
        scheduler: lets it compute.
        tell: is given more of the text.
        fail: is given what broke it off; nothing more is told then.
    """

    def __init__(
        self,
        recogniser: Asr,
        scheduler: Scheduler,
        tell: Callable[[str], Awaitable[None]],
        fail: Callable[[Exception], Awaitable[None]],
    ) -> None:
        self._stream = TranscriptStream(recogniser)
        self._resample = ResampleStream(PCM_HZ, recogniser.rate)
        self._scheduler, self._tell, self._fail = scheduler, tell, fail
        self._held: list[Samples] = []
        self._listening: asyncio.Task[None] | None = None
        self._told = self._failed = False

    def push(self, samples: Samples) -> None:
        """Take `(n,)` more samples at 24 kHz; they are heard beside everything else."""
        if self._failed:
            return
        self._held.append(samples)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """The turn is over, and nothing more is told."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        while self._held:
            try:
                job: Job[Word] = self._scheduler.submit(self._hear(np.concatenate(self._held)))
            except RequestError:  # others have to wait already: what is held is heard with what comes next
                return
            self._held.clear()
            try:
                async for word in job:
                    await self._tell(f" {word.text}" if self._told else word.text)
                    self._told = True
            except Exception as error:  # noqa: BLE001  whatever it was, its words are missing
                self._failed = True
                await self._fail(error)
                return
            finally:
                job.cancel()

    def _hear(self, samples: Samples) -> Iterator[Word]:
        yield from self._stream.push(self._resample.push(samples))
