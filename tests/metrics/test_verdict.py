"""Every stage at chance, weak and good."""

from collections.abc import Callable

import pytest

from omnictl.metrics import verdict
from omnictl.metrics.intervals import Better, Estimate, certain, mean_of_rates, rate_of
from omnictl.metrics.verdict import Verdict


def near(value: float, control: float, better: Better = "lower", name: str = "control", half: float = 0.01) -> Estimate:
    """A value within so much, compared with a control within as much."""
    other = Estimate(control, 200, control - half, control + half)
    return Estimate(value, 200, value - half, value + half).against(name, other, better)


def pretrain(perplexity: float, excess: float | None) -> Verdict:
    found = {"perplexity": near(perplexity, 100.0, name="perplexity_unigram")}
    if excess is not None:
        found["excess_ratio"] = Estimate(excess, 200, excess - 0.01, excess + 0.01)
    return verdict.judge_pretrain(found)


def asr(wer: float) -> Verdict:
    return verdict.judge_recognition({"wer": near(wer, 1.04, name="wer_shuffled")})


def vision(top1: float, floor: float = 0.1) -> Verdict:
    return verdict.judge_vision({"top1": near(top1, floor, "higher", "top1_shuffled")}, "top1", generated=True)


def own_vision(top1: float) -> Verdict:
    return verdict.judge_vision({"top1": near(top1, 0.1, "higher", "top1_shuffled")}, "top1", generated=False)


def codec(mse: float) -> Verdict:
    return verdict.judge_codec({"mel_mse": near(mse, 1.0, name="mel_mse_mean_frame")})


def aligner(path: float) -> Verdict:
    return verdict.judge_aligner({"path_nats": near(path, 4.0, name="path_nats_guessed")})


def vocoder(distance: float) -> Verdict:
    griffin_lim = near(1.1, 6.0, name="spectral_distance_untrained")
    own = near(distance, 6.0, name="spectral_distance_untrained")
    return verdict.judge_vocoder({"spectral_distance": own, "spectral_distance_griffin_lim": griffin_lim})


def talker(cer: float, untrained: float = 0.77, original: float = 0.01) -> Verdict:
    found = {"cer_free_running": near(cer, 0.78, name="cer_shuffled_text"), "cer_original": near(original, 0.78)}
    return verdict.judge_talker(found, Estimate(untrained, 20, untrained - 0.05, untrained + 0.05))


TASKS = {"accuracy_image_colour": 0.1, "accuracy_image_yesno": 0.5, "accuracy_spoken": 0.05}


def sft(colour: float, yesno: float = 0.9, text: float = 0.9, spoken: float = 0.9, *, generated: bool = True) -> Verdict:
    """An evaluation of three tasks with media, which exchanged get right what `TASKS` says, and one of text."""
    values = dict(zip(TASKS, (colour, yesno, spoken), strict=True))
    rates = {name: rate_of(round(200 * value), 200) for name, value in values.items()}
    exchanged = {name: rate_of(round(200 * value), 200) for name, value in TASKS.items()}
    written = rate_of(round(200 * text), 200)
    found = {
        "accuracy": mean_of_rates([*rates.values(), written]).against("accuracy_commonest", rate_of(160, 800), "higher"),
        "accuracy_media": mean_of_rates([*rates.values()]).against(
            "accuracy_shuffled", mean_of_rates([*exchanged.values()]), "higher"
        ),
        "accuracy_text": written.against("accuracy_text_commonest", rate_of(10, 200), "higher"),
        **{name: one.against(f"{name}_shuffled", exchanged[name], "higher") for name, one in rates.items()},
        "wer_transcribe": near(0.05, 1.0, name="wer_transcribe_shuffled"),
    }
    return verdict.judge_answers(found, generated=generated)


@pytest.mark.parametrize(
    ("judged", "word", "reason"),
    [
        (lambda: pretrain(100.0, 2.0), "not learned", "perplexity 100.00 ± 0.01 does not beat perplexity_unigram 100.000"),
        (lambda: pretrain(5.0, 0.4), "weak", "excess_ratio 0.400 ± 0.010, expected at most 0.1"),
        (lambda: pretrain(2.2, 0.03), "learned", "excess_ratio 0.030 ± 0.010, expected at most 0.1"),
        (lambda: pretrain(101.0, None), "not learned", "does not beat"),
        (lambda: pretrain(70.0, None), "weak", "expected at most 50 (half of the unigram model's, a bar for any data)"),
        (lambda: pretrain(40.0, None), "learned", "perplexity_unigram 100.000"),
        (lambda: asr(1.04), "not learned", "wer 1.040 ± 0.010 does not beat wer_shuffled 1.040"),
        (lambda: asr(1.0), "not learned", "is no better than a trivial answer, which reaches 1"),
        (lambda: asr(0.4), "weak", "wer 0.400 ± 0.010, expected at most 0.15; beats its control: wer_shuffled 1.040"),
        (lambda: asr(0.01), "learned", "wer_shuffled 1.040"),
        (lambda: vision(0.1), "not learned", "does not beat top1_shuffled 0.100"),
        (lambda: vision(0.6), "weak", "expected at least 0.9"),
        (lambda: vision(0.99), "learned", "top1 0.990"),
        (lambda: own_vision(0.11), "not learned", "does not beat"),
        (lambda: own_vision(0.5), "weak", "expected at least 0.55 (halfway up, a bar for any data)"),
        (lambda: own_vision(0.6), "learned", "a bar for any data"),
        (lambda: codec(1.0), "not learned", "mel_mse_mean_frame"),
        (lambda: codec(0.3), "weak", "expected at most 0.1"),
        (lambda: codec(0.03), "learned", "mel_mse 0.030"),
        (lambda: aligner(3.0), "not learned", "a trivial answer"),
        (lambda: aligner(0.6), "weak", "expected at most 0.4 (a tenth of a guess)"),
        (lambda: aligner(0.05), "learned", "path_nats_guessed 4.000"),
        (lambda: vocoder(6.0), "not learned", "spectral_distance_untrained"),
        (lambda: vocoder(2.0), "weak", "expected at most 1.1 (Griffin-Lim's)"),
        (lambda: vocoder(0.9), "learned", "spectral_distance 0.900"),
        (lambda: talker(0.78), "not learned", "does not beat cer_shuffled_text 0.780"),
        (lambda: talker(0.75), "not learned", "does not beat cer_untrained 0.770"),
        (lambda: talker(0.3), "weak", "expected at most 0.1"),
        (lambda: talker(0.3, original=0.25), "weak", "the judge mistakes 0.250 ± 0.010 of the recordings, too"),
        (lambda: talker(0.01), "learned", "cer_shuffled_text 0.780"),
        (lambda: sft(0.1, 0.5, 0.5, 0.05), "not learned", "accuracy_media"),
        (lambda: sft(0.3, 0.6, 0.02, 0.2), "not learned", "below 0.3"),
        (lambda: sft(0.18), "weak", "accuracy 0.720"),
        (lambda: sft(0.95, 0.58, 0.95, 0.95), "weak", "yesno 0.580 ± 0.068 is 8 points above exchanged media, expected 20"),
        (lambda: sft(0.95, 0.95, 0.8, 0.95), "weak", "text 0.800"),
        (lambda: sft(0.95), "learned", "accuracy 0.912"),
        (lambda: sft(0.1, 0.5, 0.1, 0.05, generated=False), "not learned", "does not beat"),
        (lambda: sft(0.5, 0.6, 0.3, 0.4, generated=False), "weak", "word for word, a bar for any data"),
        (lambda: sft(0.5, 0.6, 0.6, 0.5, generated=False), "learned", "accuracy_shuffled"),
    ],
)
def test_every_stage_at_chance_weak_and_good(judged: Callable[[], Verdict], word: str, reason: str) -> None:
    found = judged()
    assert found.word == word, found
    assert reason in found.reason
    assert "\n" not in found.reason
    assert found.as_json() == {"word": word, "reason": found.reason}


def test_a_wide_interval_proves_nothing() -> None:
    """Two of four sentences right."""
    wide = Estimate(0.5, 4, 0.1, 1.2).against("wer_shuffled", Estimate(1.0, 4, 0.9, 1.1), "lower")
    assert verdict.judge_recognition({"wer": wide}).word == "not learned"


def test_dialogues_that_are_all_transcripts_are_judged_as_recognition_is() -> None:
    found = {"accuracy": mean_of_rates([]), "wer_transcribe": near(0.05, 1.0, name="wer_transcribe_shuffled")}
    assert verdict.judge_answers(found, generated=False).word == "learned"


def test_dialogues_without_media_are_compared_with_the_commonest_answers() -> None:
    def own(right: int) -> Verdict:
        accuracy = rate_of(right, 100).against("accuracy_commonest", rate_of(20, 100), "higher")
        return verdict.judge_answers({"accuracy": accuracy, "accuracy_chat": accuracy}, generated=False)

    assert [own(right).word for right in (20, 45, 90)] == ["not learned", "weak", "learned"]
    assert own(90).reason.endswith("accuracy_commonest 0.200")


def test_a_task_that_the_text_answers_falls_short() -> None:
    found = {
        "accuracy": rate_of(180, 200).against("accuracy_commonest", rate_of(10, 200), "higher"),
        "accuracy_media": rate_of(180, 200).against("accuracy_text_only", rate_of(150, 200), "higher"),
        "accuracy_multi_turn": rate_of(180, 200).against("accuracy_multi_turn_text_only", rate_of(150, 200), "higher"),
    }
    judged = verdict.judge_answers(found, generated=True)
    assert judged.word == "weak"
    assert judged.reason.startswith("multi_turn 0.900 ± 0.042 is 15 points above no media, expected 20")


def test_what_is_known_for_certain_can_be_a_control() -> None:
    estimate = Estimate(0.95, 50, 0.9, 0.99).against("top1_shuffled_floor", certain(0.2, 50), "higher")
    assert verdict.judge_vision({"top1": estimate}, "top1", generated=True).word == "learned"
