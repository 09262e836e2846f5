"""Who speaks when, on real speech and on what is none."""

from collections.abc import Iterator

import numpy as np
import pytest
from loopback import QUESTION

from omnictl.data.audio.decoder import read_audio
from omnictl.data.speech.corpus import Samples
from omnictl.serve.realtime.listener import Heard, Listener
from omnictl.serve.realtime.session_schema import TurnDetection
from omnictl.serve.realtime.voice_activity import VoiceActivity, VoiceEvent, level_db
from omnictl.serve.traffic.errors import RequestError

RATE = 24_000


@pytest.fixture(scope="module")
def speech() -> Samples:
    return read_audio(QUESTION, rate=RATE)


def noise(seconds: float, db: float, seed: int = 0) -> Samples:
    return (np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * 10 ** (db / 20)).astype(np.float32)


def heard(samples: Samples, size: int = 960, reply_db: float | None = None) -> Iterator[tuple[float, VoiceEvent]]:
    """When what has changed, in seconds."""
    activity = VoiceActivity(RATE)
    activity.reply_db = reply_db
    for start in range(0, len(samples), size):
        for event in activity.push(samples[start : start + size]):
            yield (start + size) / RATE, event


def test_a_question_begins_and_ends(speech: Samples) -> None:
    quiet = noise(1, -65)
    begins = 1 + float(np.flatnonzero(np.abs(speech) > 0.1 * np.abs(speech).max())[0]) / RATE
    events = list(heard(np.concatenate([quiet, speech, noise(1, -65)])))
    assert [event for _, event in events] == [VoiceEvent.STARTED, VoiceEvent.STOPPED]
    assert abs(events[0][0] - begins) < 0.2
    assert 1 + len(speech) / RATE < events[1][0] + 0.3 < 1 + len(speech) / RATE + 1


@pytest.mark.parametrize("db", [-90, -55, -40, -20])
def test_steady_noise_is_no_speech(db: float) -> None:
    assert list(heard(noise(20, db))) == []


def test_speech_stands_out_of_noise(speech: Samples) -> None:
    mixed = noise(4, level_db(speech) - 20)
    mixed[2 * RATE : 2 * RATE + len(speech)] += speech[: len(mixed) - 2 * RATE]
    started = [at for at, event in heard(mixed) if event is VoiceEvent.STARTED and at > 1]
    assert len(started) == 1
    assert 1.9 < started[0] < 2.6


def test_the_echo_of_a_reply_is_no_speech_but_a_voice_over_it_is(speech: Samples) -> None:
    loudest = max(level_db(speech[start : start + 480]) for start in range(0, len(speech) - 480, 480))
    echo = np.tile(speech, 3) / 10  # -20 dB
    assert list(heard(echo, reply_db=loudest)) == []
    assert VoiceEvent.STARTED in [event for _, event in heard(np.tile(speech, 3) / 10 + np.tile(speech, 3), reply_db=loudest)]


@pytest.mark.parametrize("size", [37, 480, 24_000])
def test_how_audio_is_cut_does_not_matter(speech: Samples, size: int) -> None:
    samples = np.concatenate([noise(0.5, -65), speech, noise(0.7, -65)])[: 4 * RATE]

    def turns(size: int) -> list[Heard]:
        listener = Listener(TurnDetection(), 60)
        return [change for start in range(0, len(samples), size) for change in listener.push(samples[start : start + size])]

    assert [change.at_ms for change in turns(size)] == pytest.approx([change.at_ms for change in turns(480)], abs=21)


class Guesses:
    """A detector that takes for speech what stands in a list, frame by frame."""

    def __init__(self, probabilities: list[float]) -> None:
        self.probabilities = probabilities

    def probability(self, samples: Samples) -> float:
        return self.probabilities.pop(0)


def test_a_detector_judges_instead_of_the_level() -> None:
    quiet, loud = noise(0.02, -60), noise(0.02, -10)
    activity = VoiceActivity(RATE, silence_seconds=0.06, detector=Guesses([0.4] * 5 + [0.5] * 3 + [0.4, 0.3, 0.4] + [0.3] * 3))
    events = [activity.push(loud if number < 5 else quiet) for number in range(14)]
    assert [number for number, changes in enumerate(events) if changes] == [7, 13]
    activity = VoiceActivity(RATE, detector=Guesses([1.0] * 10))
    activity.reply_db = -20.0
    assert not any(activity.push(quiet) for _ in range(5))  # an echo may be as loud
    assert any(activity.push(loud) for _ in range(5))


def test_silero_hears_speech_and_no_noise(speech: Samples) -> None:
    silero = pytest.importorskip("omnictl.serve.realtime.silero")
    pytest.importorskip("silero_vad")
    changes = Listener(TurnDetection(), 60, silero.SileroVad(RATE)).push(np.concatenate([noise(1, -65), speech, noise(1, -65)]))
    assert [change.kind for change in changes] == ["started", "stopped"]
    clicks = noise(3, -65)
    clicks[:: RATE // 2] = 1.0
    for other in (noise(3, -30), clicks):
        assert Listener(TurnDetection(), 60, silero.SileroVad(RATE)).push(other) == []


def test_a_turn_is_shown_piece_by_piece(speech: Samples) -> None:
    listener, shown = Listener(TurnDetection(), 60), []
    samples = np.concatenate([noise(1, -65), speech, noise(0.3, -65)])
    for start in range(0, len(samples), 480):
        listener.push(samples[start : start + 480])
        if listener.activity.speaking:
            shown.append(listener.fresh())
    assert np.array_equal(np.concatenate(shown), listener.commit())


def test_a_turn_holds_the_whole_question(speech: Samples) -> None:
    listener = Listener(TurnDetection(prefix_padding_ms=300), 60)
    changes = listener.push(np.concatenate([noise(3, -65), speech, noise(1, -65)]))
    assert [change.kind for change in changes] == ["started", "stopped"]
    turn = changes[1].turn
    assert turn is not None
    loud = np.abs(speech) > 0.1 * np.abs(speech).max()
    assert loud.sum() == (np.abs(turn) > 0.1 * np.abs(speech).max()).sum()
    assert len(turn) < len(speech) + 2 * RATE


def test_a_buffer_is_bounded_and_committed_by_hand(speech: Samples) -> None:
    listener = Listener(None, 1)
    with pytest.raises(RequestError, match="0 ms"):
        listener.commit()
    listener.push(speech[: RATE // 2])
    with pytest.raises(RequestError, match="more than 1 s"):
        listener.push(speech[:RATE])
    assert len(listener.commit()) == RATE // 2
    with pytest.raises(RequestError, match="0 ms"):
        listener.commit()
