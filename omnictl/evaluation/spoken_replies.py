"""How well a recogniser understands answers that the Talker says."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from omnictl.data.audio.decoder import wav_bytes
from omnictl.evaluation.talker import SHUFFLE_SEED, TalkerEvaluator
from omnictl.metrics.error_rates import by_pair, character_errors
from omnictl.metrics.intervals import Estimate
from omnictl.metrics.shuffled_control import shuffled_inputs

if TYPE_CHECKING:
    from omnictl.data.speech.corpus import Samples

SAID = 100
"""Answers that are said, drawn from all; one in fifty would be of one task only, where tasks take turns."""

KEPT = 5
"""Of these, kept for people to hear; of a model that has learned nothing no more are said, since its answers do not end."""


class SpokenReplies(NamedTuple):
    """How well the judge understood the spoken replies."""

    metrics: Mapping[str, float]
    controls: Mapping[str, float]
    audio: Mapping[str, bytes]
    estimates: Mapping[str, Estimate]


def say_replies(answers: Sequence[str], evaluator: TalkerEvaluator, *, most: int = SAID) -> SpokenReplies:
    """Say some of the answers, and let the judge write down what it hears; what has no audio counts as said and not heard."""
    chosen = answers if len(answers) <= most else Random(SHUFFLE_SEED).sample(answers, most)
    pronunciation = evaluator.voice.pronunciation
    sayable = [pronunciation.find_flaw(answer) is None and bool(pronunciation.words(answer)) for answer in chosen]
    texts = [pronunciation.words(answer) if is_sayable else answer for answer, is_sayable in zip(chosen, sayable, strict=True)]
    transcripts: list[str] = []
    kept: list[Samples] = []
    for answer, is_sayable in zip(chosen, sayable, strict=True):
        audio = evaluator.synthesise(answer, 0) if is_sayable else None
        transcripts.append("" if audio is None else evaluator.read(audio))
        if audio is not None and len(kept) < KEPT:
            kept.append(audio)
    exchanged = [texts[number] for number in shuffled_inputs(len(texts), SHUFFLE_SEED)]
    rate = evaluator.voice.vocoder.sample_rate
    understood, shuffled = by_pair(character_errors, texts, transcripts), by_pair(character_errors, exchanged, transcripts)
    return SpokenReplies(
        {"speech_reply_cer": understood.value},
        {"speech_reply_cer_shuffled": shuffled.value},
        {f"reply_{number}.wav": wav_bytes(audio, rate) for number, audio in enumerate(kept, start=1)},
        {"speech_reply_cer": understood.against("speech_reply_cer_shuffled", shuffled, "lower")},
    )
