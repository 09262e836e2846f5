"""Sound out loud, where `sounddevice` is installed and there is something to play on."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from omnictl.data.speech import Samples


class Loudspeaker(Protocol):
    """Plays samples as they come."""

    def play(self, samples: "Samples") -> None:
        """Play `(n,)` samples behind the ones before."""
        ...

    def close(self) -> None:
        """Wait until all of them were heard."""
        ...


class _Device:
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        stream.start()

    def play(self, samples: "Samples") -> None:
        self._stream.write(samples[:, None])

    def close(self) -> None:
        self._stream.stop()
        self._stream.close()


def open_loudspeaker(rate: int) -> Loudspeaker | None:
    """Something to play sound of that many samples a second on; None where there is nothing."""
    try:
        import sounddevice
    except (ImportError, OSError):  # not installed, or without PortAudio
        return None
    try:
        return _Device(sounddevice.OutputStream(samplerate=rate, channels=1, dtype="float32"))
    except sounddevice.PortAudioError:  # no device
        return None
