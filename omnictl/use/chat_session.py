"""A conversation with a model: history, prompt, streamed reply.

A model that was trained on dialogues (its model folder says `chat: chatml`) answers turns in ChatML, and what it was joined with
encoders for it sees and hears; any other model continues the text it is given.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from omnictl.data.dialogues.chat_template import ChatTemplate, Media, Message, Tokens, list_media
from omnictl.data.dialogues.media_features import MediaFeatures
from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.data.text.tokenizer import END, Tokenizer
from omnictl.errors import RunError, UsageError
from omnictl.evaluation.sft import STOP, Respondent
from omnictl.features.media_encoders import MediaEncoder
from omnictl.generate.sampling import SamplingConfig
from omnictl.generate.token_decoder import generate
from omnictl.models.omni import Omni, OmniConfig
from omnictl.models.thinker import Thinker
from omnictl.runs.model_folder import described_field
from omnictl.stages.pretrain import Pretrain, open_thinker
from omnictl.stages.protocol import open_model
from omnictl.stages.sft import Sft
from omnictl.use.media_memory import KnownMedia, MediaMemory, features_of

Mode = Literal["chatml", "text"]


class Attachment(NamedTuple):
    """An image or audio to show."""

    kind: MediaKind
    file: Path


@dataclass
class Reply:
    """What happened while a reply was written; times are counted from when this was made, when the question was asked."""

    text: str = ""
    prompt_tokens: int = 0
    """Of text alone."""
    media_tokens: dict[MediaKind, int] = field(default_factory=lambda: dict.fromkeys(MODALITIES, 0))
    new_tokens: int = 0
    dropped_tokens: int = 0
    """Positions of the oldest turns that did not fit into the context."""
    first_token_seconds: float | None = None
    first_audio_seconds: float | None = None
    """For who says it."""
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since the question."""
        return time.perf_counter() - self.began


@dataclass
class AttachedMedia:
    """What was shown so far, of one kind; as `MediaFeatures` takes it. Features are made when they are first asked for."""

    encoder: MediaEncoder
    memory: MediaMemory | None = None
    """Of what earlier conversations showed."""
    files: list[Path] = field(default_factory=list)
    shown: list[KnownMedia] = field(default_factory=list)

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of an image's features; None of audio."""
        return self.encoder.grid

    def count(self, number: int) -> int:
        """Features of one of them: the placeholders that it takes."""
        return self.encoder.count(self.shown[number].raw)

    @torch.no_grad()
    def value(self, number: int) -> NDArray[Any]:
        """The features `(S, D)` of one of them."""
        return features_of(self.shown[number], lambda raw: self.encoder([raw])[0].float().cpu().numpy())

    def num_features(self, value: NDArray[Any]) -> int:
        """How many features these are."""
        return len(value)

    def flaw(self, number: int) -> str | None:  # noqa: ARG002
        """None: what cannot be read was refused when it was shown."""
        return None

    def take(self, attachment: Attachment) -> Media:
        """Keep an image or audio.

        Raises:
            DataError: it cannot be read.
        """
        file, load = attachment.file, self.encoder.load
        self.shown.append(KnownMedia(load(file)) if self.memory is None else self.memory.load(file, load))
        self.files.append(file)
        return Media(attachment.kind, len(self.shown) - 1)

    def release(self, number: int) -> None:
        """Keep no more of one of them than its name."""
        self.shown[number] = KnownMedia(np.empty(0))

    def forget(self) -> None:
        """Keep nothing of it."""
        self.files.clear()
        self.shown.clear()


@dataclass
class Session:
    """A model and what was said so far."""

    respondent: Respondent
    mode: Mode
    senses: Mapping[MediaKind, AttachedMedia] = field(default_factory=dict)
    generator: torch.Generator = field(default_factory=torch.Generator)
    history: list[Message] = field(default_factory=list)
    _forgotten: int = 0
    """Messages at the beginning of the history that fit into the context no more: they are kept for a file, and not read again."""
    _forgotten_tokens: int = 0

    @classmethod
    def open(cls, folder: Path, device: torch.device, cache: Path) -> "Session":
        """A session with the model of a run's model folder, of stage A or E.

        Raises:
            CheckpointError: it is not a whole model folder.
        """
        if (folder / Pretrain.name).is_dir():
            stage = open_model(Sft, folder, device=device, cache=cache)
            senses = {kind: AttachedMedia(encoder) for kind, encoder in stage.encoders.items()}
            return cls(replace(stage.respondent(), features=None), "chatml", senses)  # senses give features, not what they are of
        mode = described_field(folder, Pretrain.name, "chat", str)
        thinker, tokenizer = open_thinker(folder)
        return cls.of(thinker.to(device).eval(), tokenizer, "chatml" if mode == "chatml" else "text")

    @classmethod
    def of(cls, thinker: Thinker, tokenizer: Tokenizer, mode: Mode) -> "Session":
        """A session with a Thinker that reads nothing but text."""
        omni = Omni(OmniConfig(), thinker, {}, {}).eval()
        return cls(Respondent(omni, ChatTemplate(tokenizer), placed=False), mode)

    def show(self, attachment: Attachment) -> Media:
        """Take in an image or audio, to go with what is said next.

        Raises:
            RunError: the model cannot see, or hear.
            DataError: it cannot be read.
        """
        sense = self.senses.get(attachment.kind)
        if sense is None:
            modality = MODALITIES[attachment.kind]
            raise RunError(
                f"this model has never learned from {MODALITIES[attachment.kind].noun}s",
                where=str(attachment.file),
                fix=f"make one that {modality.verb}: `omnictl pipeline --preset tiny --max-minutes 30`, "
                f"or `omnictl {modality.stage}` and then `omnictl sft`",
            )
        return sense.take(attachment)

    def file(self, media: Media) -> Path:
        """Where an image or audio that was shown lies."""
        return self.senses[media.kind].files[media.number]

    def reset(self) -> None:
        """Forget what was said and shown."""
        self.history.clear()
        self._forgotten = self._forgotten_tokens = 0
        for sense in self.senses.values():
            sense.forget()

    def reply(
        self, text: str, sampling: SamplingConfig, *, max_tokens: int, into: Reply, shown: Sequence[Media] = ()
    ) -> Iterator[str]:
        """Say something, about what is shown with it, and stream the answer piece by piece; `into` is filled in meanwhile.

        The turn joins the history when the answer is complete; one that is broken off leaves no trace.

        Raises:
            UsageError: what is shown is longer than the model can read.
        """
        asked = Message("user", (*shown, *([text] if text else [])))
        thinker = self.respondent.model.thinker
        context = thinker.config.context
        turns = [*self.history[self._forgotten :], asked]
        fitting = self._fitting_prompt(turns, context - 1 - min(max_tokens, context // 2))
        prompt, into.dropped_tokens = fitting.prompt, self._forgotten_tokens + fitting.dropped_tokens
        everything = MediaFeatures(self.senses)
        into.media_tokens = {kind: sum(everything.count(m) for m in prompt.media if m.kind == kind) for kind in MODALITIES}
        into.prompt_tokens = len(prompt.tokens) - 1 - sum(into.media_tokens.values())
        stream = self.respondent.template.tokenizer.stream()
        for token in generate(
            thinker,
            self.respondent.embed([prompt], everything),
            max_tokens=max_tokens,
            sampling=sampling,
            stop=STOP,
            generator=self.generator,
        ):
            if into.first_token_seconds is None:
                into.first_token_seconds = into.seconds
            piece = stream.push(token)
            into.text += piece
            into.new_tokens += 1
            yield piece
        if self.mode == "chatml":
            self._forgotten += fitting.dropped_turns
            self._forgotten_tokens += fitting.tokens_of_turns
            self.history += [asked, Message("assistant", (into.text,))]
            self._release(list_media(self.history[: self._forgotten]))

    def _release(self, forgotten: Sequence[Media]) -> None:
        """Give up what media are that are not read again."""
        for media in forgotten:
            self.senses[media.kind].release(media.number)

    def _fitting_prompt(self, turns: Sequence[Message], room: int) -> "_FittingPrompt":
        """The prompt without the oldest exchanges, and if one message of text alone is too long, without its beginning.

        Raises:
            UsageError: what is shown with it is too long; of that nothing may be left out.
        """
        prompt = whole = self.encode(turns)
        given = len(turns)
        while len(prompt.tokens) > room + 1 and len(turns) > 1:
            turns = turns[2:]
            prompt = self.encode(turns)
        tokens_of_turns = len(whole.tokens) - len(prompt.tokens)
        if len(prompt.tokens) > room + 1:
            if prompt.media:
                raise self._too_long(prompt, room)
            opening = self.respondent.template.opening("user") if self.mode == "chatml" else []
            prompt = prompt._replace(tokens=[END, *opening, *prompt.tokens[len(opening) - room :]])
        return _FittingPrompt(prompt, given - len(turns), tokens_of_turns, len(whole.tokens) - len(prompt.tokens))

    def _too_long(self, prompt: Tokens, room: int) -> UsageError:
        counts = {media: MediaFeatures(self.senses).count(media) for media in prompt.media}
        longest = max(counts, key=lambda media: counts[media])
        parts = [f"{sum(sizes)} of {_so_many(kind, len(sizes))}" for kind in MODALITIES if (sizes := _of_kind(kind, counts))]
        text = len(prompt.tokens) - sum(counts.values())
        return UsageError(
            f"the question takes {len(prompt.tokens)} positions ({', '.join(parts)}, {text} of text), "
            f"beside its answer the model reads {room + 1}",
            where=str(self.file(longest)),
            fix="show fewer images, play a shorter recording (a second of it is 12.5 positions), or say it in fewer words",
        )

    def encode(self, turns: Sequence[Message]) -> Tokens:
        """A conversation up to where the assistant begins; a model of plain text reads the last message alone."""
        template = self.respondent.template
        if self.mode == "text":
            return Tokens([END, *template.tokenizer.encode(turns[-1].text, markup=False)], [], list_media(turns[-1:]))
        return template.prompt(turns, MediaFeatures(self.senses).count)


class _FittingPrompt(NamedTuple):
    """A prompt that fits into the context, and what was left out for it."""

    prompt: Tokens
    dropped_turns: int
    tokens_of_turns: int
    dropped_tokens: int
    """These, and those of the beginning of a message that is too long alone."""


def _of_kind(kind: MediaKind, counts: Mapping[Media, int]) -> list[int]:
    return [count for media, count in counts.items() if media.kind == kind]


def _so_many(kind: MediaKind, number: int) -> str:
    return f"one {MODALITIES[kind].noun}" if number == 1 else f"{number} {MODALITIES[kind].noun}s"
