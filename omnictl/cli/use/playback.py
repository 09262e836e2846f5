"""Playing audio aloud, where `sounddevice` is installed and there is a device to play on."""

from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from omnictl.data.speech.corpus import Samples


class Loudspeaker(Protocol):
    """Plays samples as they come."""

    def play(self, samples: "Samples") -> None:
        """Play `(n,)` samples after those before; returns at once."""
        ...

    def close(self) -> None:
        """Wait until all of them have been heard."""
        ...

    def stop(self) -> None:
        """Be silent at once."""
        ...


class _Device:
    """A stream of `sounddevice`, fed by a thread of its own, so that the answer is written on while it is heard."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._waiting: SimpleQueue[Samples | None] = SimpleQueue()
        self._silent = Event()
        stream.start()
        self._thread = Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        while (samples := self._waiting.get()) is not None:
            if not self._silent.is_set():
                self._stream.write(samples[:, None])

    def play(self, samples: "Samples") -> None:
        self._waiting.put(samples)

    def close(self) -> None:
        self._end()
        self._stream.stop()
        self._stream.close()

    def stop(self) -> None:
        self._silent.set()
        self._end()
        self._stream.abort()
        self._stream.close()

    def _end(self) -> None:
        self._waiting.put(None)
        self._thread.join()


def open_loudspeaker(rate: int) -> Loudspeaker | None:
    """A device that plays audio at `rate` samples a second; None where there is none."""
    try:
        import sounddevice
    except (ImportError, OSError):  # not installed, or without PortAudio
        return None
    try:
        return _Device(sounddevice.OutputStream(samplerate=rate, channels=1, dtype="float32"))
    except sounddevice.PortAudioError:  # no device
        return None
