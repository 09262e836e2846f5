"""How well speech was recognised: error rates over a split, by voices, with a control; and what went wrong, for people to read.

`wer` compares words after Whisper's English normaliser (Radford et al. 2022), `cer` the characters that the model spells, and
`wer_raw` words as they are written.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from omnictl.data.speech.corpus import Recording
from omnictl.metrics.intervals import Estimate, ratio
from omnictl.metrics.speech import (
    alignment_lines,
    by_pair,
    character_errors,
    normalise_english,
    shuffled_floor,
    word_errors,
)
from omnictl.metrics.verdict import judge_recognition
from omnictl.trainer.stage import Report

WORST_UTTERANCES = 20
SHUFFLE_SEED = 0


class RecognitionResult(NamedTuple):
    """An utterance and what was heard in it."""

    recording: Recording
    spelled: str  # its transcript in the model's characters
    heard: str

    @property
    def reference(self) -> str:
        """Its transcript, normalised."""
        return normalise_english(self.recording.text)

    @property
    def hypothesis(self) -> str:
        """What was heard, normalised."""
        return normalise_english(self.heard)


class TranscriptionResult(NamedTuple):
    """A split as the model heard it."""

    found: list[RecognitionResult]  # one for each utterance of the set
    nats: float  # of the transcripts that fit
    num_symbols: int  # of these transcripts
    by_utterance: Sequence[tuple[float, int]] = ()  # nats and symbols of each transcript that fits

    def loss_estimate(self) -> dict[str, Estimate]:
        """As `loss`, with its interval over utterances."""
        if not self.by_utterance:
            return {}
        return {"loss": ratio([nats for nats, _ in self.by_utterance], [symbols for _, symbols in self.by_utterance])}

    def loss(self) -> dict[str, float]:
        """The metric of that name, if any transcript fits."""
        return {"loss": self.nats / self.num_symbols} if self.num_symbols else {}


def error_rates(found: Sequence[RecognitionResult]) -> dict[str, float]:
    """The three rates over some utterances."""
    heard = [one.heard for one in found]
    return {
        "wer": word_errors([one.reference for one in found], [one.hypothesis for one in found]).rate,
        "cer": character_errors([one.spelled for one in found], heard).rate,
        "wer_raw": word_errors([one.recording.text for one in found], heard).rate,
    }


def rates_by_voices(found: Sequence[RecognitionResult], speakers: Collection[str]) -> dict[str, float]:
    """The rates, and the word error rate of voices that are new: of speakers who are none of the training's `speakers`.

    Where some speakers are known from training and some are not, the rates are of the known ones.
    """
    judged, unseen = _by_voices(found, speakers)
    rates = error_rates(judged)
    return rates | {"wer_unseen_voices": error_rates(unseen)["wer"]} if unseen else rates


def estimates_by_voices(found: Sequence[RecognitionResult], speakers: Collection[str]) -> dict[str, Estimate]:
    """As `rates_by_voices`, with intervals over utterances, the word error rates compared with those of shuffled audio."""
    judged, unseen = _by_voices(found, speakers)
    estimates = {
        "wer": _word_estimate(judged),
        "cer": by_pair(character_errors, [one.spelled for one in judged], [one.heard for one in judged]),
        "wer_raw": by_pair(word_errors, [one.recording.text for one in judged], [one.heard for one in judged]),
    }
    if unseen:
        estimates["wer_unseen_voices"] = _word_estimate(unseen)
    shuffled = _shuffled(found)
    return {
        name: one.against("wer_shuffled", shuffled, "lower") if name.startswith("wer") else one for name, one in estimates.items()
    }


def _by_voices(
    found: Sequence[RecognitionResult], speakers: Collection[str]
) -> tuple[list[RecognitionResult], list[RecognitionResult]]:
    """The utterances whose rates are reported, and those of new voices."""
    unseen = [one for one in found if one.recording.speaker is not None and one.recording.speaker not in speakers]
    known = [one for one in found if one.recording.speaker in speakers]
    return (known if known and unseen else list(found)), unseen


def _word_estimate(found: Sequence[RecognitionResult]) -> Estimate:
    return by_pair(word_errors, [one.reference for one in found], [one.hypothesis for one in found])


def _shuffled(found: Sequence[RecognitionResult]) -> Estimate:
    """The word error rate where every utterance is given the audio of another."""
    references = [one.reference for one in found]
    floor = shuffled_floor(references, seed=SHUFFLE_SEED)
    return by_pair(word_errors, references, [found[index].hypothesis for index in floor.permutation])


def recognition_report(
    found: Sequence[RecognitionResult], metrics: Mapping[str, float], estimates: Mapping[str, Estimate]
) -> Report:
    """The report of a split: `metrics`, how exact they are, the control with shuffled audio, predictions, speakers, the worst."""
    references, hypotheses = [one.reference for one in found], [one.hypothesis for one in found]
    rates = [word_errors([one], [other]).rate for one, other in zip(references, hypotheses, strict=True)]
    floor = shuffled_floor(references, seed=SHUFFLE_SEED)
    return Report(
        "wer",
        "lower",
        metrics,
        len(found),
        controls={
            "wer_shuffled": word_errors(references, [hypotheses[index] for index in floor.permutation]).rate,
            "wer_shuffled_floor": floor.rate,
        },
        predictions=[_prediction(one, rate) for one, rate in zip(found, rates, strict=True)],
        groups=_by_speaker(found),
        texts={"worst.txt": _worst(found, rates)},
        estimates=estimates,
        verdict=judge_recognition(estimates),
    )


def _by_speaker(found: Sequence[RecognitionResult]) -> dict[str, dict[str, float]]:
    """Error rates of every speaker who is named."""
    speakers = sorted({one.recording.speaker for one in found if one.recording.speaker is not None})
    own = {speaker: [one for one in found if one.recording.speaker == speaker] for speaker in speakers}
    return {speaker: {"utterances": len(spoken), **error_rates(spoken)} for speaker, spoken in own.items()}


def _prediction(one: RecognitionResult, rate: float) -> dict[str, object]:
    row = one.recording
    shown: dict[str, object] = {"id": row.id, "task": "transcribe", "reference": row.text, "prediction": one.heard, "wer": rate}
    if row.speaker is not None:
        shown["speaker"] = row.speaker
    if row.audio is not None:
        shown["audio"] = str(row.audio)
    return shown


def _worst(found: Sequence[RecognitionResult], rates: Sequence[float]) -> str:
    """The utterances with the highest error rates, aligned for people to read."""
    worst = sorted(range(len(rates)), key=lambda index: -rates[index])[:WORST_UTTERANCES]
    blocks = []
    for index in worst:
        row = found[index].recording
        title = f"{row.id}  {row.speaker or ''}  WER {rates[index]:.2f}"
        blocks.append(f"{title}\n{alignment_lines(found[index].reference, found[index].hypothesis)}\n")
    return "\n".join(blocks)
