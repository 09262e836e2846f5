import itertools

import pytest

from omnictl.use.subtitles import CUE_SECONDS, Word, cues, to_srt, to_vtt


def spoken(text: str, *, seconds: float = 0.3, start: float = 0.0) -> list[Word]:
    """Words one after the other, without a pause."""
    return [Word(word, start + i * seconds, start + (i + 1) * seconds) for i, word in enumerate(text.split())]


WORDS = [Word("a", 0.48, 0.6), Word("cat", 0.64, 1.0), Word("<sat>", 3661.0, 3661.5), Word("&", 3661.5, 3662.25)]


def test_subrip() -> None:
    assert to_srt(WORDS) == (
        "1\n00:00:00,480 --> 00:00:01,000\na cat\n"
        "\n"
        "2\n01:01:01,000 --> 01:01:02,250\n<sat> &\n"
    )  # fmt: skip


def test_webvtt() -> None:
    assert to_vtt(WORDS) == (
        "WEBVTT\n"
        "\n"
        "00:00:00.480 --> 00:00:01.000\na cat\n"
        "\n"
        "01:01:01.000 --> 01:01:02.250\n&lt;sat&gt; &amp;\n"
    )  # fmt: skip


def test_nothing_said() -> None:
    assert to_srt([]) == ""
    assert to_vtt([]) == "WEBVTT\n"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "00:00:00,000"),
        (0.0004, "00:00:00,000"),
        (0.9996, "00:00:01,000"),
        (59.9994, "00:00:59,999"),
        (59.9996, "00:01:00,000"),
        (3599.9996, "01:00:00,000"),
        (86_399.9996, "24:00:00,000"),
        (1.001, "00:00:01,001"),
        (360_000.0, "100:00:00,000"),
    ],
)
def test_times_are_rounded_before_they_are_cut_up(seconds: float, expected: str) -> None:
    stamps = to_srt([Word("a", seconds, seconds + 60)]).splitlines()[1]
    assert stamps.startswith(f"{expected} --> ")


def test_a_pause_begins_a_new_cue() -> None:
    first, second = cues([*spoken("the cat"), *spoken("sat on it", start=1.2)])
    assert (first.lines, first.start, first.stop) == (["the cat"], 0, 0.6)
    assert (second.lines, second.start) == (["sat on it"], 1.2)
    assert len(list(cues([*spoken("the cat"), *spoken("sat on it", start=1.1)]))) == 1


def test_a_cue_has_two_full_lines_of_at_most_42_characters() -> None:
    words = spoken("there the small dog sees a red ball on the table and the big cat sees a blue ball " * 4, seconds=0.1)
    found = list(cues(words))
    lines = [line for cue in found for line in cue.lines]
    assert " ".join(lines).split() == [word.text for word in words]
    assert max(map(len, lines)) <= 42
    assert all(len(cue.lines) == 2 for cue in found[:-1])
    assert all(len(f"{line} {after.split()[0]}") > 42 for line, after in itertools.pairwise(lines))
    assert all(earlier.stop == later.start for earlier, later in itertools.pairwise(found))


def test_a_cue_stays_seven_seconds_at_most() -> None:
    found = list(cues(spoken("a b c d e f g h", seconds=1.75)))
    assert [cue.lines for cue in found] == [["a b c d"], ["e f g h"]]
    assert all(cue.stop - cue.start <= CUE_SECONDS for cue in found)


def test_words_beyond_any_limit_have_a_cue_of_their_own() -> None:
    (long,) = cues([Word("x" * 100, 0, 1)])
    assert long.lines == ["x" * 100]
    slow, after = cues([Word("well", 0, 9), Word("so", 9, 9.5)])
    assert (slow.lines, slow.stop) == (["well"], 7)
    assert (after.lines, after.start) == (["so"], 9)
