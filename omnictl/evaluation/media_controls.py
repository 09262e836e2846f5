"""Dialogues for the controls of an evaluation: with the media of others, and without.

What is exchanged and taken away is what an answer is about. A recording beside an image asks the question, and stays: an answer to
another question would say nothing of looking.
"""

from collections.abc import Sequence
from itertools import cycle

from omnictl.data.dialogues.chat_template import Dialogue, Media, Message
from omnictl.metrics.shuffled_control import exchange_inputs

SHUFFLE_SEED = 0

ASKS = "audio"
"""The kind of media that may be a question about others."""


def exchange_media(dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """The dialogues that have media, each with those of another one of its task that has others of the same kinds.

    None keeps its own. Where more than half of them share one image (or recording), some find nobody to exchange it with: from
    these it is taken away.
    """
    having = [dialogue for dialogue in dialogues if dialogue.media]
    changed = take_media_away(dialogues)
    alike: dict[tuple[str, frozenset[str]], list[int]] = {}
    for number, dialogue in enumerate(having):
        alike.setdefault((dialogue.task, _kinds(dialogue)), []).append(number)
    for numbers in alike.values():
        inputs = [_subject(having[number]) for number in numbers]
        for here, there in exchange_inputs(inputs, SHUFFLE_SEED).items():
            changed[numbers[here]] = _with_media(having[numbers[here]], inputs[there])
    return changed


def take_media_away(dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """The dialogues that have media, without these."""
    return [_with_media(dialogue, ()) for dialogue in dialogues if dialogue.media]


def _subject(dialogue: Dialogue) -> tuple[Media, ...]:
    """The media that the answers of a dialogue are about."""
    return tuple(media for media in dialogue.media if media.kind != ASKS) or dialogue.media


def _kinds(dialogue: Dialogue) -> frozenset[str]:
    return frozenset(media.kind for media in _subject(dialogue))


def _with_media(dialogue: Dialogue, others: Sequence[Media]) -> Dialogue:
    """A dialogue with others in the place of what it is about, those of each kind taken in turn; without others, without it."""
    kinds = _kinds(dialogue)
    taken = {kind: cycle([media for media in others if media.kind == kind]) for kind in kinds}
    messages = []
    for message in dialogue.messages:
        parts = (next(taken[part.kind], None) if isinstance(part, Media) and part.kind in kinds else part for part in message.parts)
        messages.append(Message(message.role, tuple(part for part in parts if part is not None)))
    return dialogue._replace(messages=tuple(messages))
