"""How well speech was recognised: error rates over a split, by voices, with a control; and what went wrong, for people to read.

`wer` compares words after Whisper's English normaliser (Radford et al. 2022), `cer` the characters that the model spells, and
`wer_raw` words as they are written.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from omnictl.data.speech import Recording
from omnictl.metrics.speech import alignment_lines, character_errors, normalise_english, shuffled_floor, word_errors
from omnictl.train.stage import Report

WORST_UTTERANCES = 20


class Recognised(NamedTuple):
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


def error_rates(found: Sequence[Recognised]) -> dict[str, float]:
    """The three rates over some utterances."""
    heard = [one.heard for one in found]
    return {
        "wer": word_errors([one.reference for one in found], [one.hypothesis for one in found]).rate,
        "cer": character_errors([one.spelled for one in found], heard).rate,
        "wer_raw": word_errors([one.recording.text for one in found], heard).rate,
    }


def rates_by_voices(found: Sequence[Recognised], speakers: Collection[str]) -> dict[str, float]:
    """The rates, and the word error rate of voices that are new: of speakers who are none of the training's `speakers`.

    Where some speakers are known from training and some are not, the rates are of the known ones.
    """
    unseen = [one for one in found if one.recording.speaker is not None and one.recording.speaker not in speakers]
    known = [one for one in found if one.recording.speaker in speakers]
    rates = error_rates(known if known and unseen else found)
    return rates | {"wer_unseen_voices": error_rates(unseen)["wer"]} if unseen else rates


def recognition_report(found: Sequence[Recognised], metrics: Mapping[str, float]) -> Report:
    """The report of a split: `metrics`, the control with the sounds shuffled, every prediction, each speaker, the worst."""
    references, hypotheses = [one.reference for one in found], [one.hypothesis for one in found]
    rates = [word_errors([one], [other]).rate for one, other in zip(references, hypotheses, strict=True)]
    floor = shuffled_floor(references, seed=0)
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
    )


def _by_speaker(found: Sequence[Recognised]) -> dict[str, dict[str, float]]:
    """Error rates of every speaker who is named."""
    speakers = sorted({one.recording.speaker for one in found if one.recording.speaker is not None})
    own = {speaker: [one for one in found if one.recording.speaker == speaker] for speaker in speakers}
    return {speaker: {"utterances": len(spoken), **error_rates(spoken)} for speaker, spoken in own.items()}


def _prediction(one: Recognised, rate: float) -> dict[str, object]:
    row = one.recording
    shown: dict[str, object] = {"id": row.id, "task": "transcribe", "reference": row.text, "prediction": one.heard, "wer": rate}
    if row.speaker is not None:
        shown["speaker"] = row.speaker
    if row.audio is not None:
        shown["audio"] = str(row.audio)
    return shown


def _worst(found: Sequence[Recognised], rates: Sequence[float]) -> str:
    """The utterances with the highest error rates, aligned for people to read."""
    worst = sorted(range(len(rates)), key=lambda index: -rates[index])[:WORST_UTTERANCES]
    blocks = []
    for index in worst:
        row = found[index].recording
        title = f"{row.id}  {row.speaker or ''}  WER {rates[index]:.2f}"
        blocks.append(f"{title}\n{alignment_lines(found[index].reference, found[index].hypothesis)}\n")
    return "\n".join(blocks)
