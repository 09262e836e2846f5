"""The one model that a server serves: what answers, what hears, and what speaks."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from omnictl.data.images.augmentation import prepare
from omnictl.errors import CheckpointError, RunError
from omnictl.generate.tts import Voice
from omnictl.runs.run import newest_run
from omnictl.serve.traffic.errors import RequestError
from omnictl.stages.asr import Asr
from omnictl.stages.protocol import open_model
from omnictl.use.chat_session import AttachedMedia, Session
from omnictl.use.media_memory import MediaMemory
from omnictl.use.say import open_voice

ALWAYS = "omnictl"
"""A name that every server's model answers to."""

STOCK_VOICES = (
    "alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse", "marin", "cedar",
)  # fmt: skip
"""The names of OpenAI's voices: programs ask for them. Each stands for one of the Talker's speakers, in turn."""


class Parts(NamedTuple):
    """Model folders of what a server needs besides the model that answers; None: there is none."""

    recogniser: Path | None
    talker: Path | None


@dataclass(frozen=True)
class ServedModel:
    """A trained model, ready to use; nothing in it changes but what its senses remember."""

    names: tuple[str, ...]
    """The ids under which clients ask for it, its own first."""
    created: int
    """Seconds since 1970."""
    session: Session
    """Never talked with: each request has a copy."""
    recogniser: Asr | None
    voice: Voice | None
    temperature: float
    """Where a request gives none."""

    def new_session(self, seed: int | None) -> Session:
        """A conversation of its own with the model."""
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        senses = {kind: AttachedMedia(sense.encoder, sense.memory) for kind, sense in self.session.senses.items()}
        return replace(self.session, senses=senses, generator=generator, history=[])

    @property
    def context(self) -> int:
        """Positions that the model can read at once."""
        return self.session.respondent.model.thinker.config.context

    def check_name(self, name: str) -> None:
        """Refuse another model.

        Raises:
            RequestError: it is not served here.
        """
        if name not in self.names:
            message = f"the model {name[:100]!r} does not exist here; there is: {', '.join(self.names)}"
            fix = f"ask for model {ALWAYS!r}, or start the server with --alias {name[:40]}"
            raise RequestError(message, fix=fix, where="model", status=404, code="model_not_found")

    def require_voice(self) -> Voice:
        """What speaks.

        Raises:
            RequestError: nothing does.
        """
        if self.voice is None:
            raise _lacks("speak", "omnictl talker")
        return self.voice

    def require_recogniser(self) -> Asr:
        """What hears.

        Raises:
            RequestError: nothing does.
        """
        if self.recogniser is None:
            raise _lacks("transcribe", "omnictl asr")
        return self.recogniser

    def speaker(self, name: str | None) -> str | None:
        """The Talker's own name of a voice that a client asks for; None: its only one, which has no name.

        Raises:
            RequestError: there is no such voice.
        """
        speakers = self.require_voice().speakers
        if name is None:
            return speakers[0] if speakers else None
        if name in speakers:
            return name
        if name in STOCK_VOICES:
            return speakers[STOCK_VOICES.index(name) % len(speakers)] if speakers else None
        known = ", ".join(speakers) or "one without a name"
        fix = "name one of these, or one of OpenAI's voices, which stand for them in turn"
        raise RequestError(f"there is no voice {name[:100]!r}; this Talker has: {known}", fix=fix, where="voice")


def _lacks(ability: str, command: str) -> RequestError:
    message = f"this server has nothing to {ability} with"
    return RequestError(message, fix=f"train a model with `{command}` and start the server anew", status=501, code="unsupported")


def find_parts(model: Path, root: Path) -> Parts:
    """The recogniser and the Talker that a model was joined with, else those of the newest finished runs."""
    return Parts(_part(model, "asr", root), _part(model, "talker", root))


def _part(model: Path, stage: str, root: Path) -> Path | None:
    if (model / stage).is_dir():
        return model / stage
    try:
        return newest_run(root, stage, "finished").model
    except CheckpointError:
        raise
    except RunError:
        return None


def open_served_model(
    names: tuple[str, ...], model: Path, parts: Parts, device: torch.device, cache: Path, *, temperature: float
) -> ServedModel:
    """Load everything.

    Raises:
        CheckpointError: a model folder is not whole.
    """
    recogniser = None if parts.recogniser is None else open_model(Asr, parts.recogniser, device=device, cache=cache)
    session = Session.open(model, device, cache)
    for sense in session.senses.values():
        sense.memory = MediaMemory()
    if "image" in session.senses:
        prepare(np.zeros((8, 8, 3), np.uint8), 8, crop=1.0)  # what resizes takes seconds to load, for which all would have to wait
    return ServedModel(
        names=tuple(dict.fromkeys((*names, ALWAYS))),
        created=int((model / "config.json").stat().st_mtime),
        session=session,
        recogniser=recogniser,
        voice=None if parts.talker is None else open_voice(parts.talker, device, cache),
        temperature=temperature,
    )
