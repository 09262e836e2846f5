"""Writing replies, and saying them meanwhile: the work behind a chat completion, as slices for the scheduler.

A reply is said while it is written: when a sentence is whole, its speech and the text after it take turns.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch

from omnictl.errors import DataError
from omnictl.evaluation.sft import STOP
from omnictl.generate.sampling import SamplingConfig
from omnictl.generate.slot_pool import SlotPool
from omnictl.generate.stop_texts import StopTexts
from omnictl.generate.token_decoder import Choice, EndReason, Prompt, choose_tokens
from omnictl.generate.tts import Samples, Voice
from omnictl.serve.replies.conversation import ReadConversation
from omnictl.use.chat_session import Session
from omnictl.use.say import SpeechSettings, SpokenStream

if TYPE_CHECKING:
    from omnictl.data.text.tokenizer import Tokenizer


class TokenLogprob(NamedTuple):
    """A token that was written, and how probable the model found it and others in its place."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Begun(NamedTuple):
    """The conversation has been read."""

    conversation: ReadConversation


class TextDelta(NamedTuple):
    """More of a reply's text."""

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...]


class AudioDelta(NamedTuple):
    """More of a reply's speech, at the voice's rate."""

    choice: int
    samples: Samples
    sentences: tuple[tuple[str, float], ...]
    """Those that were begun so far, and the seconds of speech before each."""


class Unsaid(NamedTuple):
    """From here on, a reply that was to be said is only written."""

    choice: int
    reason: str


class ChoiceEnd(NamedTuple):
    """A reply is complete."""

    choice: int
    reason: EndReason
    text: str
    new_tokens: int
    known_tokens: int
    """Positions of the conversation that did not have to be read again."""


CompletionEvent = Begun | TextDelta | AudioDelta | Unsaid | ChoiceEnd


class ReplyPlan(NamedTuple):
    """How replies are written."""

    sampling: SamplingConfig
    most_tokens: int | None
    stops: tuple[str, ...] = ()
    choices: int = 1
    top_logprobs: int | None = None
    """How many other tokens to tell of; None: no probabilities at all."""


class Speaker(NamedTuple):
    """How replies are said."""

    voice: Voice
    settings: SpeechSettings


def complete(
    session: Session, conversation: ReadConversation, plan: ReplyPlan, speaker: Speaker | None, pool: SlotPool
) -> Iterator[CompletionEvent | None]:
    """Write the replies to a conversation, several in turns, in slots of the model's pool."""
    yield Begun(conversation)
    replies = [_Reply(number, session, plan).events(conversation.prompt, pool, speaker) for number in range(plan.choices)]
    try:
        while replies:
            for reply in list(replies):
                try:
                    yield next(reply)
                except StopIteration:
                    replies.remove(reply)
    finally:
        for reply in replies:
            reply.close()


@dataclass
class _Written:
    """What has been written of a reply."""

    tokens: int = 0
    known: int = 0
    text: str = ""
    pending: list[TokenLogprob] = field(default_factory=list)


class _Reply:
    """One reply."""

    def __init__(self, number: int, session: Session, plan: ReplyPlan) -> None:
        self._number, self._plan = number, plan
        self._tokenizer: Tokenizer = session.respondent.template.tokenizer
        self._generator = torch.Generator().manual_seed((session.generator.initial_seed() + number) % 2**63)
        self._written = _Written()

    def events(self, prompt: Prompt, pool: SlotPool, speaker: Speaker | None) -> Generator[CompletionEvent | None, None, None]:
        """The reply as it is written and said."""
        with closing(pool.open(prompt, self._plan.most_tokens or pool.model.config.context)) as reading:
            self._written.known = reading.known
            yield None
            writing = self._write(choose_tokens(reading, self._plan.sampling, STOP, self._generator))
            if speaker is None:
                yield self._end((yield from writing))
            else:
                yield from self._say(writing, speaker)

    def _say(self, writing: Generator[TextDelta | None, None, EndReason], speaker: Speaker) -> Iterator[CompletionEvent | None]:
        spoken = SpokenStream(speaker.voice, speaker.settings)
        ended: EndReason | None = None
        can_say = True
        while True:
            if ended is None:
                try:
                    delta = next(writing)
                except StopIteration as stop:
                    ended = stop.value
                    if can_say:
                        spoken.finish()
                else:
                    if can_say and delta is not None and (reason := _push(spoken, delta.text)):
                        can_say = False
                        spoken.finish()
                        yield Unsaid(self._number, reason)
                    yield delta
            samples = spoken.step()
            if samples is not None:
                yield AudioDelta(self._number, samples, spoken.sentences) if len(samples) else None
            elif ended is not None:
                yield self._end(ended)
                return

    def _end(self, reason: EndReason) -> ChoiceEnd:
        return ChoiceEnd(self._number, reason, self._written.text, self._written.tokens, self._written.known)

    def _write(self, choices: Generator[Choice, None, EndReason]) -> Generator[TextDelta | None, None, EndReason]:
        """Tokens as text, up to a text that ends the reply."""
        stops = StopTexts(self._plan.stops)
        pieces = self._tokenizer.stream()
        while True:
            try:
                choice = next(choices)
            except StopIteration as ended:
                yield self._delta(stops.finish())
                reason: EndReason = ended.value
                return reason
            self._written.tokens += 1
            if self._plan.top_logprobs is not None:
                self._written.pending.append(_logprob(choice, self._plan.top_logprobs))
            fresh = stops.push(pieces.push(choice.token))
            if fresh.stopped:
                yield self._delta(fresh.text)
                return "stop"
            yield self._delta(fresh.text)

    def _delta(self, text: str) -> TextDelta | None:
        """More text, with the probabilities of the tokens since the last of it."""
        if not text:
            return None
        self._written.text += text
        logprobs, self._written.pending = tuple(self._written.pending), []
        return TextDelta(self._number, text, logprobs)


def _push(spoken: SpokenStream, text: str) -> str | None:
    """Say more of a text; why it cannot be said, if it cannot: what is written goes on all the same."""
    try:
        spoken.push(text)
    except DataError as error:
        return error.message
    return None


def _logprob(choice: Choice, num_top: int) -> TokenLogprob:
    logprobs = choice.scores.float().log_softmax(-1)
    values, ids = logprobs.topk(min(num_top, len(logprobs)))
    top: Sequence[tuple[int, float]] = list(zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprob(choice.token, float(logprobs[choice.token]), tuple(top))
