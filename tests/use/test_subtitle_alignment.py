"""A recording whose every letter is a quarter of a second of its own level, and a recogniser that knows these levels."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.speech.corpora.subtitles import Subtitle
from omnictl.data.speech.layouts import find_speech
from omnictl.data.speech.transcripts.targets import CharacterTargets
from omnictl.errors import DataError, UsageError
from omnictl.models.audio_encoder import Encoded
from omnictl.stages.asr import PRESETS
from omnictl.use.subtitle_alignment import (
    AlignedUtterance,
    AlignmentSettings,
    _group,
    align_folder,
    align_recording,
)

RATE, FRAME = 16_000, 640
"""A frame of the encoder is 40 ms."""
LETTER = 6 * FRAME
FILE = Path("talk.srt")


class LevelReader:
    """Hears each symbol by the level that stands for it."""

    def __init__(self):
        self.targets = CharacterTargets()
        model = PRESETS["debug"].model.model_copy(update={"emissions": 1})
        self.config = PRESETS["debug"].model_copy(update={"model": model})

    def hear(self, audio):
        levels = audio[FRAME // 2 :: FRAME]
        symbols = torch.from_numpy(np.rint(levels * 100).astype(np.int64)).clamp(0, self.targets.num_symbols - 1)
        log_probs = (12.0 * torch.nn.functional.one_hot(symbols, self.targets.num_symbols)).float().log_softmax(-1)
        return Encoded(log_probs[None], torch.tensor([len(symbols)]))


def say(text, silence=1.0):
    """`(n,)`: silence, then a level for each letter."""
    ids = CharacterTargets().encode(text)
    return np.concatenate([np.zeros(round(silence * RATE)), *(np.full(LETTER, symbol / 100) for symbol in ids)]).astype(np.float32)


TEXTS = ("one", "cat", "dig")
TRUTH = [(1.0, 1.72), (2.72, 3.44), (4.44, 5.16)]
AUDIO = np.concatenate([*map(say, TEXTS), np.zeros(RATE, np.float32)])


def shown(shift, texts=TEXTS):
    return [
        Subtitle(2 + 4 * n, max(0.0, a + shift), b + shift, text, None)
        for n, ((a, b), text) in enumerate(zip(TRUTH, texts, strict=True))
    ]


@pytest.mark.parametrize("shift", [0.0, 1.3, -1.3])
def test_utterances_are_where_they_are_said(shift):
    """Whatever the subtitles say, to the frame, with as much silence around as there is room for."""
    found = list(align_recording(AUDIO, shown(shift), LevelReader(), AlignmentSettings(), FILE))
    for utterance, (start, stop) in zip(found, TRUTH, strict=True):
        assert isinstance(utterance, AlignedUtterance)
        assert utterance.start == pytest.approx(start - 0.2, abs=0.065)
        assert utterance.stop == pytest.approx(stop + 0.2, abs=0.065)
        assert utterance.nats < 0.1


def test_neighbours_share_the_silence_between_them():
    audio = np.concatenate([say("one"), say("cat", 0.08), np.zeros(RATE, np.float32)])
    subtitles = [Subtitle(2, 0.5, 1.5, "one", None), Subtitle(6, 1.5, 2.5, "cat", None)]
    first, second = align_recording(audio, subtitles, LevelReader(), AlignmentSettings(), FILE)
    assert first.stop == pytest.approx(second.start) == pytest.approx(1.76, abs=0.065)


def test_what_is_not_said_there_is_set_aside():
    subtitles = [*shown(0.0, ("one", "wry", "dig")), Subtitle(14, 5.2, 5.1, "cat", None), Subtitle(18, 99.0, 99.5, "cat", None)]
    subtitles += [Subtitle(22, 5.2, 5.5, "<unk> cat", None), Subtitle(26, 5.2, 5.5, "кот", None)]
    found = list(align_recording(AUDIO, subtitles, LevelReader(), AlignmentSettings(), FILE))
    broken = {row.where: row.message for row in found if isinstance(row, BrokenRow)}
    assert broken.pop("talk.srt:6").startswith("the recogniser does not hear this text here: ")
    assert broken == {
        "talk.srt:14": "the subtitle ends at 5.1 s, before it begins at 5.2 s",
        "talk.srt:18": "the subtitle begins at 99 s, behind its recording, which has 6.16 s",
        "talk.srt:22": "the transcript has <unk> for words that nobody wrote down",
        "talk.srt:26": "the transcript has characters outside the alphabet: кот (targets.kind=chars spells any)",
    }
    assert [row.subtitle.text for row in found if isinstance(row, AlignedUtterance)] == ["one", "dig"]


def test_more_text_than_there_is_room_for():
    (row,) = align_recording(say("one"), [Subtitle(2, 1.0, 1.7, "one " * 40, None)], LevelReader(), AlignmentSettings(), FILE)
    assert isinstance(row, BrokenRow)
    assert row.message.startswith("too short for what is said: ")


def test_rows_of_subtitles_are_parted_at_their_widest_gaps():
    times = [(0, 8), (8.5, 14), (18, 24), (24.5, 29), (29.5, 40), (41, 45)]
    groups = list(_group([Subtitle(1, a, b, "a", None) for a, b in times]))
    assert [[(each.start, each.end) for each in group] for group in groups] == [times[:2], times[2:]]
    assert list(_group([])) == []


SRT = "".join(
    f"{n}\n00:00:0{start:.3f} --> 00:00:0{start + 0.9:.3f}\n{text.title()}.\n\n"
    for n, (start, text) in enumerate(zip((1.5, 3.2, 4.9), TEXTS, strict=True), start=1)
)


def test_a_folder(tmp_path):
    soundfile.write(tmp_path / "talk.wav", AUDIO, RATE, subtype="FLOAT")
    (tmp_path / "talk.srt").write_text(SRT)
    summary = align_folder(tmp_path, tmp_path / "out", LevelReader(), AlignmentSettings())
    assert (summary.utterances, summary.set_aside, summary.shift) == (3, [], pytest.approx(-0.48, abs=0.05))
    manifest = find_speech(tmp_path / "out")
    assert [row.text for row in manifest.rows] == ["One.", "Cat.", "Dig."]
    assert [soundfile.info(row.audio).duration for row in manifest.rows] == pytest.approx([1.12] * 3, abs=0.09)
    with (tmp_path / "out" / "times.csv").open() as file:
        times = list(csv.DictReader(file))
    assert (times[1]["recording"], times[1]["subtitle"], times[1]["shown_from"]) == ("talk.wav", "6", "3.20")
    assert float(times[1]["said_from"]) == pytest.approx(2.52, abs=0.05)


def test_a_folder_without_subtitles(tmp_path):
    with pytest.raises(DataError, match="has no recordings with subtitles"):
        align_folder(tmp_path, tmp_path / "out", LevelReader(), AlignmentSettings())
    for name in ("talk.wav", "talk.srt", "talk.vtt"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"talk\.wav has two files of subtitles, talk\.srt and talk\.vtt"):
        align_folder(tmp_path, tmp_path / "out", LevelReader(), AlignmentSettings())


def test_a_place_that_is_taken_and_recordings_that_are_others(tmp_path):
    soundfile.write(tmp_path / "talk.wav", np.zeros(8 * RATE), RATE)
    (tmp_path / "talk.srt").write_text(SRT)
    with pytest.raises(DataError, match=r"nothing of .* can be used: the recogniser does not hear this text here"):
        align_folder(tmp_path, tmp_path / "out", LevelReader(), AlignmentSettings())
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError):
        align_folder(tmp_path, tmp_path, LevelReader(), AlignmentSettings())
