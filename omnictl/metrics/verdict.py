"""Whether a stage has learned its task: one word, and the reason in a line.

- not learned: the headline does not beat its control (the 95 % intervals overlap, or it is worse), or a trivial answer is as good;
- learned: it beats the control and reaches the stage's bar;
- weak: between the two.

Bars that only TinyWorld gives a meaning to are asked of its data alone. Of one's own data a bar is asked that any data allows, and
the reason says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from omnictl.metrics.intervals import Better, Estimate

VerdictWord = Literal["learned", "weak", "not learned"]
Estimates = Mapping[str, Estimate]

EXCESS_BAR = 0.10
UNIGRAM_SHARE = 0.5
"""Of the unigram model's perplexity, what one's own text allows at most."""
WER_BAR = 0.15
TOP1_BAR = 0.90
CODEC_BAR = 0.10
"""Share of the features' variance that is lost; the presets lose 0.02 to 0.06."""
ALIGNER_BAR = 0.1
"""Of the cost of guessing every symbol alike; trained aligners need a hundredth."""
ALIGNER_CHANCE = 0.25
"""An untrained one, too, costs less than a guess: it prefers the diagonal, and the path is chosen in hindsight. Not so little."""
CER_BAR = 0.10
ACCURACY_BAR = 0.80
TEXT_BAR = 0.85
MEDIA_POINTS = 0.20
"""How far above exchanged media, and none, every task with media should be."""
LEAST_ACCURACY = 0.3
"""Below it nothing is learned, whatever the controls: half of the questions have few answers."""
OWN_ACCURACY_BAR = 0.5

TRIVIAL_ERRORS = 1.0
"""Error rate of an empty transcript."""

ANY_DATA = "a bar for any data"

MEDIA_CONTROLS = {"_shuffled": "exchanged media", "_text_only": "no media"}
"""How the names of controls without a dialogue's own media end, and what these have in their place."""


class Verdict(NamedTuple):
    """The verdict of an evaluation and the reason for it."""

    word: VerdictWord
    reason: str

    def as_json(self) -> dict[str, str]:
        """The object of a report."""
        return {"word": self.word, "reason": self.reason}


class Bar(NamedTuple):
    """What a metric should reach to be called learned."""

    name: str
    estimate: Estimate
    value: float
    better: Better
    note: str = ""
    """Why it is this bar, for people."""

    @property
    def is_reached(self) -> bool:
        """Whether the value reaches the bar."""
        return self.estimate.value <= self.value if self.better == "lower" else self.estimate.value >= self.value

    @property
    def as_text(self) -> str:
        """The bar and where it is from."""
        most = "at most" if self.better == "lower" else "at least"
        return f"expected {most} {self.value:.3g}{f' ({self.note})' if self.note else ''}"


def judge(name: str, estimate: Estimate, bar: Bar, trivial: float | None = None) -> Verdict:
    """The verdict on a metric by its control, by what a trivial answer reaches, and by a bar.

    Args:
        name: of the metric that is compared.
        estimate: of it, with its control.
        bar: of this metric or another.
        trivial: what a trivial answer reaches; the metric's interval must be better.
    """
    control = estimate.control
    assert control is not None, f"{name} has no control"
    value, against = f"{name} {estimate.as_text}", f"{control.name} {control.value:.3f}"
    if not estimate.beats:
        return Verdict("not learned", f"{value} does not beat {against} beyond doubt")
    if trivial is not None and not (estimate.high < trivial if control.better == "lower" else estimate.low > trivial):
        return Verdict("not learned", f"{value} is no better than a trivial answer, which reaches {trivial:.3g}; {against}")
    measured = value if bar.name == name else f"{bar.name} {bar.estimate.as_text}"
    beaten = f"{against}" if bar.name == name else f"{value} against {against}"
    if bar.is_reached:
        return Verdict("learned", f"{measured}, {bar.as_text}; {beaten}")
    return Verdict("weak", f"{measured}, {bar.as_text}; beats its control: {beaten}")


def judge_pretrain(estimates: Estimates) -> Verdict:
    """A Thinker: against a unigram model, then by its distance to TinyWorld's optimum, or by half of the unigram's perplexity."""
    perplexity = estimates["perplexity"]
    assert perplexity.control is not None
    if "excess_ratio" in estimates:
        bar = Bar("excess_ratio", estimates["excess_ratio"], EXCESS_BAR, "lower")
    else:
        most = UNIGRAM_SHARE * perplexity.control.value
        bar = Bar("perplexity", perplexity, most, "lower", f"half of the unigram model's, {ANY_DATA}")
    return judge("perplexity", perplexity, bar)


def judge_recognition(estimates: Estimates, name: str = "wer") -> Verdict:
    """A recogniser: against shuffled audio and against silence, then by the word error rate."""
    return judge(name, estimates[name], Bar(name, estimates[name], WER_BAR, "lower"), TRIVIAL_ERRORS)


def judge_vision(estimates: Estimates, name: str, *, generated: bool) -> Verdict:
    """A vision encoder: against shuffled images or chance; of one's own images, half of what chance leaves wrong must be right."""
    estimate = estimates[name]
    assert estimate.control is not None
    half = (1 + estimate.control.value) / 2
    bar = Bar(name, estimate, TOP1_BAR, "higher") if generated else Bar(name, estimate, half, "higher", f"halfway up, {ANY_DATA}")
    return judge(name, estimate, bar)


def judge_codec(estimates: Estimates) -> Verdict:
    """A codec: against the average frame, then by the share of the variance that it loses."""
    return judge("mel_mse", estimates["mel_mse"], Bar("mel_mse", estimates["mel_mse"], CODEC_BAR, "lower"))


def judge_aligner(estimates: Estimates) -> Verdict:
    """An aligner: the cost of its likeliest paths against guessing every symbol alike."""
    path = estimates["path_nats"]
    assert path.control is not None
    bar = Bar("path_nats", path, ALIGNER_BAR * path.control.value, "lower", "a tenth of a guess")
    return judge("path_nats", path, bar, ALIGNER_CHANCE * path.control.value)


def judge_vocoder(estimates: Estimates) -> Verdict:
    """A vocoder: against an untrained one, then by whether it is at least as near to the recordings as Griffin-Lim."""
    distance = estimates["spectral_distance"]
    most = estimates["spectral_distance_griffin_lim"].value
    return judge("spectral_distance", distance, Bar("spectral_distance", distance, most, "lower", "Griffin-Lim's"))


def judge_talker(estimates: Estimates, untrained: Estimate) -> Verdict:
    """A Talker, as a recogniser understands it: against exchanged texts and an untrained Talker, then by the character error rate.

    Args:
        estimates: of the metrics; the free-running error rate has the exchanged texts as its control.
        untrained: the error rate of a Talker that has learned nothing.
    """
    name, recorded = "cer_free_running", estimates["cer_original"]
    free = estimates[name]
    bar = Bar(name, free, CER_BAR, "lower")
    verdicts = [judge(name, one, bar, TRIVIAL_ERRORS) for one in (free, free.against("cer_untrained", untrained, "lower"))]
    verdict = next((one for one in verdicts if one.word == "not learned"), verdicts[0])
    if verdict.word != "learned" and recorded.value > CER_BAR:
        return verdict._replace(reason=f"{verdict.reason}; the judge mistakes {recorded.as_text} of the recordings, too")
    return verdict


def judge_answers(estimates: Estimates, *, generated: bool) -> Verdict:
    """An omni model: against exchanged or no media and the commonest answers, then by the mean accuracy and task by task.

    Args:
        estimates: of the metrics. What a task's control has in place of its media shows in how its name ends (`MEDIA_CONTROLS`).
        generated: whether the dialogues are TinyWorld's.
    """
    if not any(name.startswith("accuracy_") for name in estimates):
        return judge_recognition(estimates, "wer_transcribe")
    accuracy = estimates["accuracy"]
    for name in ("accuracy", "accuracy_media"):
        if name in estimates and not estimates[name].beats:
            return judge(name, estimates[name], _accuracy_bar(accuracy, generated=generated))
    value = f"accuracy {accuracy.as_text}"
    if generated and accuracy.value < LEAST_ACCURACY:
        return Verdict("not learned", f"{value}, below {LEAST_ACCURACY} little more than guesses are right")
    bar = _accuracy_bar(accuracy, generated=generated)
    shortfalls = [] if bar.is_reached else [f"{value}, {bar.as_text}"]
    shortfalls += _task_shortfalls(estimates) if generated else _media_shortfalls(estimates, ("accuracy_media",))
    if shortfalls:
        more = f", and {len(shortfalls) - 1} more of its tasks fall short" if len(shortfalls) > 1 else ""
        return Verdict("weak", f"{shortfalls[0]}{more}")
    reference = estimates.get("accuracy_media", accuracy).control
    assert reference is not None
    return Verdict("learned", f"{value}, {bar.as_text}; {reference.name} {reference.value:.3f}")


def _accuracy_bar(accuracy: Estimate, *, generated: bool) -> Bar:
    if generated:
        return Bar("accuracy", accuracy, ACCURACY_BAR, "higher")
    return Bar("accuracy", accuracy, OWN_ACCURACY_BAR, "higher", f"word for word, {ANY_DATA}")


def _task_shortfalls(estimates: Estimates) -> list[str]:
    """What TinyWorld's tasks lack, those about media first, the worst among them first."""
    tasks = [name for name in estimates if name.startswith("accuracy_") and name != "accuracy_media"]
    lacking = _media_shortfalls(estimates, [*tasks, *(name for name in ("wer_transcribe",) if name in estimates)])
    text = estimates.get("accuracy_text")
    if text is not None and text.value < TEXT_BAR:
        lacking.append(f"text {text.as_text}, expected at least {TEXT_BAR}")
    return lacking


def _media_shortfalls(estimates: Estimates, names: Sequence[str]) -> list[str]:
    """Those of the metrics with exchanged or no media as control that are too near to it, the nearest first."""
    return [text for _, text in sorted(_near_control(estimates, names))]


def _near_control(estimates: Estimates, names: Sequence[str]) -> Iterator[tuple[float, str]]:
    for name in names:
        estimate = estimates.get(name)
        if estimate is None or estimate.control is None:
            continue
        control = next((text for ending, text in MEDIA_CONTROLS.items() if estimate.control.name.endswith(ending)), None)
        if control is None:
            continue
        gain = estimate.value - estimate.control.value
        direction, points = "above", gain
        if estimate.control.better == "lower":
            direction, points = "below", -gain
        if points < MEDIA_POINTS:
            task = name.removeprefix("accuracy_").removeprefix("image_")
            distance = f"{100 * points:.0f} points {direction} {control}"
            yield points, f"{task} {estimate.as_text} is {distance}, expected {100 * MEDIA_POINTS:.0f}"
