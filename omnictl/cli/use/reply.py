"""One reply at the terminal, written and said as it comes."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.markup import escape

from omnictl.cli.console import Output
from omnictl.cli.use.playback import Loudspeaker
from omnictl.errors import DataError
from omnictl.visible_text import visible

if TYPE_CHECKING:
    from omnictl.data.dialogues.chat_template import Media
    from omnictl.data.speech.corpus import Samples
    from omnictl.generate.sampling import SamplingConfig
    from omnictl.generate.tts import Voice
    from omnictl.use.chat_session import Reply, Session
    from omnictl.use.say import SpeechSettings


class ReplySettings(NamedTuple):
    """How the model answers."""

    sampling: "SamplingConfig"
    max_tokens: int
    speech: "SpeechSettings"


class SpokenReply(NamedTuple):
    """How an answer is said."""

    voice: "Voice"
    file: Path | None
    loudspeaker: Loudspeaker | None


class _Speech(NamedTuple):
    """What became of an answer that was to be said: its audio, or why there is none."""

    audio: "Samples | None"
    reason: str | None


def write_reply(
    session: "Session",
    text: str,
    shown: "Sequence[Media]",
    settings: ReplySettings,
    output: Output,
    reply: "Reply",
    spoken: SpokenReply | None = None,
) -> Path | None:
    """Stream one reply to the terminal, and say it while it is written; nothing is shown with `--json`.

    Args:
        session: the model and what was said so far.
        text: what is said to it.
        shown: images and audio that go with it.
        settings: how it answers.
        output: where to write.
        reply: is filled in.
        spoken: how it is said, if it is.

    Returns:
        The file it was said into; None if there is none, or it cannot be said.
    """
    loudspeaker = spoken.loudspeaker if spoken else None
    with _play_out(loudspeaker):
        pieces = _write(session.reply(text, settings.sampling, max_tokens=settings.max_tokens, into=reply, shown=shown), output)
        speech = _say(pieces, spoken, settings.speech, reply) if spoken else None
        for _ in pieces:  # what is not said is written all the same
            pass
        if not output.as_json:
            sys.stdout.write("\n")
        if reply.dropped_tokens:
            output.say(f"[dim](the oldest {reply.dropped_tokens} tokens did not fit into the context and were left out)[/dim]")
        if spoken is None or speech is None:
            return None
        if speech.audio is None:
            output.say(f"[dim](not said: {escape(str(speech.reason))})[/dim]")
            return None
        if spoken.file is not None:
            _write_audio(spoken.file, speech.audio, spoken.voice)
            output.say(f"[dim](said in {escape(str(spoken.file))})[/dim]")
        return spoken.file


def _write(pieces: Iterator[str], output: Output) -> Iterator[str]:
    for piece in pieces:
        if not output.as_json:
            sys.stdout.write(visible(piece))
            sys.stdout.flush()
        yield piece


def _say(pieces: Iterator[str], spoken: SpokenReply, settings: "SpeechSettings", reply: "Reply") -> _Speech:
    """Say a reply as it comes, all of it or it counts as unsaid."""
    import numpy as np

    from omnictl.use.say import stream

    parts: list[Samples] = []
    try:
        for samples in stream(pieces, spoken.voice, settings):
            if reply.first_audio_seconds is None:
                reply.first_audio_seconds = reply.seconds
            parts.append(samples)
            if spoken.loudspeaker is not None:
                spoken.loudspeaker.play(samples)
    except DataError as error:  # of the text: what was shown has been read before
        reply.first_audio_seconds = None
        return _Speech(None, error.message)
    return _Speech(np.concatenate(parts), None) if parts else _Speech(None, "the answer has no letters and no numbers")


def _write_audio(file: Path, audio: "Samples", voice: "Voice") -> None:
    from omnictl.data.audio.decoder import wav_bytes
    from omnictl.runs.files import write_bytes

    write_bytes(file, wav_bytes(audio, voice.vocoder.sample_rate))


@contextmanager
def _play_out(loudspeaker: Loudspeaker | None) -> Iterator[None]:
    """Wait until all was heard; be silent at once if something comes between."""
    try:
        yield
        if loudspeaker is not None:
            loudspeaker.close()
    except BaseException:
        if loudspeaker is not None:
            loudspeaker.stop()
        raise
