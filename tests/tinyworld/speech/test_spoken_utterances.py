"""What TinyWorld says, who says it, and how it is recorded."""

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import espeakng_loader
import numpy as np
import pytest
from numpy.typing import NDArray

from omnictl.config.split import Split
from omnictl.errors import DataError
from omnictl.tinyworld.speech.acoustics import Samples, record
from omnictl.tinyworld.speech.espeak import Request, SpeechBlock, speak
from omnictl.tinyworld.speech.utterances import FEWEST_UNSEEN_WORDS, MOST_WORDS, Utterance, reply, utterance
from omnictl.tinyworld.speech.voices import KNOWN_VOICES, REPLY_VOICE, REPLY_VOICES, UNSEEN_VOICES

SPLITS: tuple[Split, ...] = ("train", "val", "test")
RATE = 16_000

ECHO = Utterance(
    text="Nora has five large carrots.",
    voice="en-029+m3",
    rate=153,
    pitch=57,
    gain_db=-5.837439936452498,
    lead_seconds=0.14807622860065986,
    snr_db=44.14405561901292,
    noise_tilt=0.5529536713504984,
    reverb=0.2497753762785433,
    reverb_seconds=0.3928291592733444,
    seed=3040266353,
)
OPEN_AIR = Utterance(
    text="Last Monday Oscar was in the forest.",
    voice="en-gb-x-rp+f3",
    rate=158,
    pitch=65,
    gain_db=-1.9776036584399765,
    lead_seconds=0.059967632421773324,
    snr_db=38.71506669271791,
    noise_tilt=0.9110665233521597,
    reverb=0.0,
    reverb_seconds=0.2362392737278606,
    seed=3099672232,
)
GOLDEN_REPLY = Utterance(
    text="Later Nora drew the seals and painted all five seals.",
    voice="en-us",
    rate=140,
    pitch=50,
    gain_db=0.0,
    lead_seconds=0.0,
    snr_db=60.0,
    noise_tilt=1.0,
    reverb=0.0,
    reverb_seconds=0.1,
    seed=3767527767,
)


def test_goldens() -> None:
    assert utterance(0, "train", 26) == ECHO
    assert utterance(0, "test", 0) == OPEN_AIR
    texts = [utterance(7, split, 5).text for split in SPLITS]
    assert texts == [
        "There are two.",
        "Look for the brown diamond on the left.",
        "Sara has four fresh eggs.",
    ]


def test_an_utterance_is_the_same_in_any_process_and_order() -> None:
    script = (
        "from omnictl.tinyworld.speech.utterances import utterance\n"
        "for index in (9, 3, 4):\n"
        "    for split in ('test', 'train', 'val'):\n"
        "        print(utterance(1, split, index))\n"
    )
    said = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
        said.append(child.stdout.splitlines())
    order: tuple[Split, ...] = ("test", "train", "val")
    assert said[0] == said[1] == [repr(utterance(1, split, index)) for index in (9, 3, 4) for split in order]


@pytest.mark.slow
def test_a_sentence_belongs_to_one_split_whatever_the_seed() -> None:
    said = {split: {utterance(seed, split, index).text for seed in (0, 7) for index in range(200)} for split in SPLITS}
    for one, two in itertools.combinations(SPLITS, 2):
        assert not said[one] & said[two]
    assert min(len(texts) for texts in said.values()) > 150  # of 400: they are not the same few


def test_sentences_can_be_spoken() -> None:
    for index in range(500):
        text = utterance(0, "train", index).text
        assert 1 <= len(text.split()) <= MOST_WORDS
        assert text[-1] in ".?!"
        assert not set("<|>\n") & set(text), text  # no markup of a dialogue


def test_short_sentences_are_all_trained_on() -> None:
    """They may be the only ones with some word."""
    lengths = {split: [len(utterance(0, split, index).text.split()) for index in range(150)] for split in SPLITS}
    assert min(lengths["train"]) < FEWEST_UNSEEN_WORDS == min(lengths["val"] + lengths["test"])


def test_unseen_voices_speak_at_odd_places_of_the_test_and_nowhere_else() -> None:
    for split in SPLITS:
        for index in range(100):
            unseen = split == "test" and index % 2 == 1
            assert utterance(3, split, index).voice in (UNSEEN_VOICES if unseen else KNOWN_VOICES)


def test_every_voice_speaks() -> None:
    trained = {utterance(0, "train", index).voice for index in range(500)}
    tested = {utterance(0, "test", index).voice for index in range(1, 80, 2)}
    assert trained == set(KNOWN_VOICES)
    assert tested == set(UNSEEN_VOICES)


def test_there_are_many_voices_and_one_accent_is_kept_for_the_test() -> None:
    assert len(KNOWN_VOICES) >= 20
    assert len({*KNOWN_VOICES, *UNSEEN_VOICES}) == len(KNOWN_VOICES) + len(UNSEEN_VOICES)
    trained, tested = ({voice.partition("+")[0] for voice in voices} for voices in (KNOWN_VOICES, UNSEEN_VOICES))
    assert tested - trained == {"en-gb-scotland"}
    assert tested & trained  # and new voices of known accents


# The voice of replies


def test_a_golden_reply() -> None:
    assert reply(0, "train", 0) == GOLDEN_REPLY


def test_a_reply_is_the_same_in_any_process_and_order() -> None:
    script = (
        "from omnictl.tinyworld.speech.utterances import reply\n"
        "for index in (9, 3):\n"
        "    for split in ('test', 'train', 'val'):\n"
        "        print(reply(1, split, index))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    order: tuple[Split, ...] = ("test", "train", "val")
    assert child.stdout.splitlines() == [repr(reply(1, split, index)) for index in (9, 3) for split in order]


def test_replies_are_said_by_one_voice_that_is_clear_and_close() -> None:
    plans = [reply(seed, split, index) for seed in (0, 7) for split in SPLITS for index in range(50)]
    manners = {replace(plan, text="", seed=0) for plan in plans}
    (manner,) = manners
    assert (manner.voice, manner.rate, manner.pitch) == (REPLY_VOICE, 140, 50)
    assert (manner.gain_db, manner.lead_seconds, manner.reverb, manner.snr_db) == (0, 0, 0, 60)
    assert len({plan.seed for plan in plans}) == len(plans)  # noises differ


@pytest.mark.slow
def test_a_replied_sentence_is_of_the_same_split_as_an_uttered_one() -> None:
    """So a Talker's test is new to a recogniser that was trained on this world, and to the Talker."""
    said: dict[Split, set[str]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        for seed in (0, 7):
            said[split] |= {reply(seed, split, index).text for index in range(150)}
            said[split] |= {utterance(seed, split, index).text for index in range(150)}
    for one, two in itertools.combinations(SPLITS, 2):
        assert not said[one] & said[two]


def test_replies_may_be_of_one_word_and_short_ones_are_all_trained_on() -> None:
    lengths = {split: [len(reply(0, split, index).text.split()) for index in range(150)] for split in SPLITS}
    assert min(lengths["train"]) == 1
    assert max(itertools.chain.from_iterable(lengths.values())) <= MOST_WORDS
    assert min(lengths["val"] + lengths["test"]) == FEWEST_UNSEEN_WORDS


def test_replies_are_not_what_is_uttered() -> None:
    """They are draws of their own."""
    assert [reply(0, "val", index).text for index in range(5)] != [utterance(0, "val", index).text for index in range(5)]


def test_the_voice_of_replies_can_be_heard() -> None:
    """It is among the voices that a recogniser is trained on."""
    assert REPLY_VOICE in KNOWN_VOICES
    plans = [reply(0, "train", index) for index in range(16)]
    spoken = speak([Request(plan.text, plan.voice, plan.rate, plan.pitch) for plan in plans])
    for plan, samples in zip(plans, spoken.samples, strict=True):
        clean = samples.astype(np.float32) / np.float32(2**15)
        found = record(clean, plan, spoken.rate)
        assert len(found) == len(clean)
        assert np.abs(found / np.abs(found).max() - clean / np.abs(clean).max()).max() < 0.005, plan


# espeak-ng


def block(numbers: Sequence[int]) -> list[Request]:
    plans = [utterance(0, "train", number) for number in numbers]
    return [Request(plan.text, plan.voice, plan.rate, plan.pitch) for plan in plans]


def same(one: Sequence[NDArray[np.int16]], two: Sequence[NDArray[np.int16]]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.fixture(scope="module")
def spoken() -> SpeechBlock:
    """The first block, or what a small corpus has of it."""
    return speak(block(range(64)))


def test_a_block_sounds_the_same_every_time(spoken: SpeechBlock) -> None:
    again = speak(block(range(64)))
    assert again.rate == spoken.rate == 22_050
    assert same(again.samples, spoken.samples)


def test_the_beginning_of_a_block_sounds_as_in_the_whole(spoken: SpeechBlock) -> None:
    """So the utterances of a corpus do not change when it grows."""
    for count in (1, 17):
        assert same(speak(block(range(count))).samples, spoken.samples[:count])


def test_speech_is_as_long_and_as_loud_as_speech(spoken: SpeechBlock) -> None:
    for request, samples in zip(block(range(64)), spoken.samples, strict=True):
        words_a_second = len(request.text.split()) / (len(samples) / spoken.rate)
        assert 1 < words_a_second < 6, request
        assert 5_000 < np.abs(samples.astype(int)).max() < 2**15 - 1, request


def test_nothing_to_say_is_no_error() -> None:
    assert speak([]) == (22_050, [])


@pytest.mark.slow
def test_the_voices_are_different() -> None:
    """espeak-ng takes a variant that it does not know for none."""
    spoken = [speak([Request("A red circle.", voice, 160, 50)]).samples[0].tobytes() for voice in (*KNOWN_VOICES, *UNSEEN_VOICES)]
    assert len({hashlib.sha256(audio).digest() for audio in spoken}) == len(spoken)


def test_rate_and_pitch_are_heard() -> None:
    slow, fast, high = speak(
        [
            Request("A red circle.", "en-us", 135, 50),
            Request("A red circle.", "en-us", 190, 50),
            Request("A red circle.", "en-us", 135, 90),
        ]
    ).samples
    assert 1.2 < len(slow) / len(fast) < 1.6
    assert pitch_hz(high) > 1.2 * pitch_hz(slow)


def pitch_hz(samples: NDArray[np.int16]) -> float:
    """Of the whole: where the autocorrelation is largest between 60 and 300 Hz."""
    power = np.abs(np.fft.rfft(samples.astype(float), 2 * len(samples))) ** 2
    shortest, longest = 22_050 // 300, 22_050 // 60
    return float(22_050 / (shortest + np.argmax(np.fft.irfft(power)[shortest:longest])))


def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(DataError) as caught:
        speak([Request("A red circle.", "tlh", 160, 50)])
    assert caught.value.message == "espeak-ng failed (exit code 1): espeak-ng has no voice 'tlh'"
    assert caught.value.where == "data.source"
    assert "pip install --force-reinstall espeakng-loader" in caught.value.fix


def test_a_library_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: "/nowhere/libespeak-ng.so")
    with pytest.raises(DataError, match=r"espeak-ng failed \(exit code 1\): .*/nowhere/libespeak-ng.so.*No such file"):
        speak([Request("A red circle.", "en", 160, 50)])


def noise_alone(tilt: float) -> Samples:
    """Ten seconds in which the voice, an impulse, is 120 dB below the noise."""
    voice = np.zeros(10 * RATE, np.float32)
    voice[0] = 1
    return record(voice, replace(OPEN_AIR, snr_db=-120, noise_tilt=tilt), RATE)


@pytest.fixture(scope="module")
def voice() -> Samples:
    """Two seconds of a clear tone."""
    return (0.4 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)


@pytest.mark.parametrize("plan", [ECHO, OPEN_AIR], ids=["echo", "no echo"])
def test_a_recording_is_a_function_of_the_utterance(plan: Utterance, voice: Samples) -> None:
    before = voice.copy()
    one, two = record(voice, plan, RATE), record(voice, plan, RATE)
    assert np.array_equal(one, two)
    assert one.dtype == np.float32
    assert np.array_equal(voice, before)
    assert not np.array_equal(one, record(voice, replace(plan, seed=1), RATE))


@pytest.mark.parametrize("gain_db", [-12.0, -6.0, 0.0])
def test_the_level_is_that_of_the_loudest_sample(gain_db: float, voice: Samples) -> None:
    peak = np.abs(record(voice, replace(ECHO, gain_db=gain_db), RATE)).max()
    assert 20 * np.log10(peak / 0.9) == pytest.approx(gain_db, abs=1e-3)


@pytest.mark.parametrize("lead_seconds", [0.0, 0.0501, 0.2])
def test_before_the_first_word_there_is_only_noise(lead_seconds: float, voice: Samples) -> None:
    num_samples = round(lead_seconds * RATE)
    for plan in (ECHO, OPEN_AIR):
        found = record(voice, replace(plan, lead_seconds=lead_seconds, snr_db=200), RATE)
        assert len(found) == num_samples + len(voice)
        assert np.abs(found[:num_samples]).max(initial=0) < 1e-5
        assert np.abs(found[num_samples:][:100]).max() > 0.1


@pytest.mark.parametrize("snr_db", [0.0, 15.0, 45.0])
def test_the_noise_is_as_far_below_the_voice_as_asked(snr_db: float, voice: Samples) -> None:
    plan = replace(OPEN_AIR, snr_db=snr_db, lead_seconds=0)
    found = record(voice, plan, RATE).astype(float)
    scale = found @ voice / (voice @ voice)
    noise = found - scale * voice
    assert 20 * np.log10(scale * np.sqrt(np.mean(voice**2)) / np.sqrt(np.mean(noise**2))) == pytest.approx(snr_db, abs=0.3)


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.0])
def test_the_noise_falls_with_frequency_as_asked(tilt: float) -> None:
    power = np.abs(np.fft.rfft(noise_alone(tilt))) ** 2
    hertz = np.arange(len(power)) * RATE / (2 * len(power) - 2)
    octaves = [power[(hertz >= low) & (hertz < 2 * low)].mean() for low in (100, 200, 400, 800, 1600, 3200)]
    slopes = 10 * np.log10(np.array(octaves[1:]) / octaves[:-1])
    assert slopes.mean() == pytest.approx(-10 * np.log10(2) * tilt, abs=0.2)


@pytest.mark.parametrize(("loudness", "seconds"), [(0.4, 0.1), (0.2, 0.4)])
def test_an_echo_is_as_loud_and_as_long_as_asked(loudness: float, seconds: float) -> None:
    """A click tells the room's response; the first tenth of it is 54 dB above the last."""
    click = np.zeros(RATE, np.float32)
    click[0] = 1
    plan = replace(OPEN_AIR, lead_seconds=0, snr_db=300, reverb=loudness, reverb_seconds=seconds)
    found = record(click, plan, RATE).astype(float)
    length = round(seconds * RATE)
    response = found[1:length] / found[0]
    assert np.sqrt(np.sum(response**2)) == pytest.approx(loudness, rel=0.1)
    assert np.abs(found[length:]).max() < 1e-6
    first, last = response[: length // 10], response[-length // 10 :]
    assert 10 * np.log10(np.mean(first**2) / np.mean(last**2)) == pytest.approx(54, abs=2.5)


@pytest.mark.parametrize("length", [1, 2, 777, 16_384])
@pytest.mark.parametrize("level", [0.0, 1e-6, 1.0])
def test_a_recording_is_always_finite(length: int, level: float) -> None:
    voice = np.full(length, level, np.float32)
    for plan in (ECHO, OPEN_AIR):
        found = record(voice, plan, RATE)
        assert np.isfinite(found).all()
        assert np.abs(found).max() <= 0.9


def test_six_voices_take_turns_with_the_same_sentences() -> None:
    several = [reply(1, "train", number, 6) for number in range(12)]
    assert [plan.voice for plan in several] == [*REPLY_VOICES, *REPLY_VOICES]
    assert len(set(REPLY_VOICES)) == 6
    assert [plan.text for plan in several] == [reply(1, "train", number).text for number in range(12)]
