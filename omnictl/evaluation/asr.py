"""How well speech was recognised: error rates over a split, by voices, with a control; and the worst mistakes, for people to read.

`wer` compares words after Whisper's English normaliser (Radford et al. 2022), or after Unicode's for other languages; `cer` the
characters that the model spells, and `wer_raw` words as they are written.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from omnictl.data.speech.corpus import Recording
from omnictl.metrics.error_rates import (
    alignment_lines,
    by_pair,
    character_errors,
    normalise_english,
    shuffled_floor,
    word_errors,
)
from omnictl.metrics.intervals import Estimate, ratio
from omnictl.metrics.verdict import judge_recognition
from omnictl.trainer.stage import Report

WORST_UTTERANCES = 20

SAMPLES = 4
"""Utterances of each validation whose transcription is kept."""

SHUFFLE_SEED = 0


class RecognitionResult(NamedTuple):
    """An utterance and its transcription."""

    recording: Recording
    target: str  # its transcript in the model's characters
    prediction: str
    compared: Callable[[str], str] = normalise_english
    """How both are normalised before words are compared."""

    @property
    def reference(self) -> str:
        """Its transcript, normalised."""
        return self.compared(self.recording.text)

    @property
    def hypothesis(self) -> str:
        """The transcription, normalised."""
        return self.compared(self.prediction)


class TranscriptionResult(NamedTuple):
    """A split as the model transcribed it."""

    results: list[RecognitionResult]  # one for each utterance of the set
    by_utterance: Sequence[tuple[float, int]] = ()  # nats and symbols of each transcript that fits

    def loss_estimate(self) -> dict[str, Estimate]:
        """As `loss`, with its interval over utterances."""
        if not self.by_utterance:
            return {}
        return {"loss": ratio([nats for nats, _ in self.by_utterance], [symbols for _, symbols in self.by_utterance])}

    def loss(self) -> dict[str, float]:
        """The metric of that name, if any transcript fits."""
        num_symbols = sum(symbols for _, symbols in self.by_utterance)
        return {"loss": sum(nats for nats, _ in self.by_utterance) / num_symbols} if num_symbols else {}


def error_rates(results: Sequence[RecognitionResult]) -> dict[str, float]:
    """The three rates over some utterances."""
    predictions = [result.prediction for result in results]
    return {
        "wer": word_errors([result.reference for result in results], [result.hypothesis for result in results]).rate,
        "cer": character_errors([result.target for result in results], predictions).rate,
        "wer_raw": word_errors([result.recording.text for result in results], predictions).rate,
    }


def estimates_by_voices(results: Sequence[RecognitionResult], speakers: Collection[str]) -> dict[str, Estimate]:
    """The rates, and the word error rate of voices that are new: of speakers who are none of the training's `speakers`.

    Where some speakers are known from training and some are not, the rates are of the known ones. Intervals are over utterances;
    word error rates are compared with those of shuffled audio.
    """
    reported, unseen = _by_voices(results, speakers)
    estimates = {
        "wer": _word_estimate(reported),
        "cer": by_pair(character_errors, [result.target for result in reported], [result.prediction for result in reported]),
        "wer_raw": by_pair(word_errors, [result.recording.text for result in reported], [result.prediction for result in reported]),
    }
    if unseen:
        estimates["wer_unseen_voices"] = _word_estimate(unseen)
    shuffled = _shuffle_audio(results)
    return {
        name: estimate.against("wer_shuffled", shuffled, "lower") if name.startswith("wer") else estimate
        for name, estimate in estimates.items()
    }


def _by_voices(
    results: Sequence[RecognitionResult], speakers: Collection[str]
) -> tuple[list[RecognitionResult], list[RecognitionResult]]:
    """The utterances whose rates are reported, and those of new voices."""
    unseen = [result for result in results if result.recording.speaker is not None and result.recording.speaker not in speakers]
    familiar = [result for result in results if result.recording.speaker in speakers]
    return (familiar if familiar and unseen else list(results)), unseen


def _word_estimate(results: Sequence[RecognitionResult]) -> Estimate:
    return by_pair(word_errors, [result.reference for result in results], [result.hypothesis for result in results])


def _shuffle_audio(results: Sequence[RecognitionResult]) -> Estimate:
    """The word error rate where every utterance is given the audio of another."""
    references = [result.reference for result in results]
    floor = shuffled_floor(references, seed=SHUFFLE_SEED)
    return by_pair(word_errors, references, [results[index].hypothesis for index in floor.permutation])


def samples(results: Sequence[RecognitionResult]) -> list[dict[str, object]]:
    """The first few utterances and their transcriptions, to be seen at each validation."""
    return [
        {"prompt": result.recording.id, "reference": result.target, "prediction": result.prediction} for result in results[:SAMPLES]
    ]


def recognition_report(
    results: Sequence[RecognitionResult], metrics: Mapping[str, float], estimates: Mapping[str, Estimate]
) -> Report:
    """The report of a split: `metrics`, how exact they are, the control with shuffled audio, predictions, speakers, the worst."""
    references, hypotheses = [result.reference for result in results], [result.hypothesis for result in results]
    rates = [word_errors([reference], [hypothesis]).rate for reference, hypothesis in zip(references, hypotheses, strict=True)]
    floor = shuffled_floor(references, seed=SHUFFLE_SEED)
    return Report(
        "wer",
        "lower",
        metrics,
        len(results),
        controls={
            "wer_shuffled": word_errors(references, [hypotheses[index] for index in floor.permutation]).rate,
            "wer_shuffled_floor": floor.rate,
        },
        predictions=[_prediction(result, rate) for result, rate in zip(results, rates, strict=True)],
        groups=_by_speaker(results),
        texts={"worst.txt": _worst(results, rates)},
        estimates=estimates,
        verdict=judge_recognition(estimates),
    )


def _by_speaker(results: Sequence[RecognitionResult]) -> dict[str, dict[str, float]]:
    """Error rates of every speaker who is named."""
    speakers = sorted({result.recording.speaker for result in results if result.recording.speaker is not None})
    by_speaker = {speaker: [result for result in results if result.recording.speaker == speaker] for speaker in speakers}
    return {speaker: {"utterances": len(spoken), **error_rates(spoken)} for speaker, spoken in by_speaker.items()}


def _prediction(result: RecognitionResult, rate: float) -> dict[str, object]:
    row = result.recording
    line: dict[str, object] = {
        "id": row.id,
        "task": "transcribe",
        "reference": row.text,
        "prediction": result.prediction,
        "wer": rate,
    }
    if row.speaker is not None:
        line["speaker"] = row.speaker
    if row.audio is not None:
        line["audio"] = str(row.audio)
    return line


def _worst(results: Sequence[RecognitionResult], rates: Sequence[float]) -> str:
    """The utterances with the highest error rates, aligned for people to read."""
    worst = sorted(range(len(rates)), key=lambda index: -rates[index])[:WORST_UTTERANCES]
    blocks = []
    for index in worst:
        row = results[index].recording
        title = f"{row.id}  {row.speaker or ''}  WER {rates[index]:.2f}"
        blocks.append(f"{title}\n{alignment_lines(results[index].reference, results[index].hypothesis)}\n")
    return "\n".join(blocks)
