"""Text as it is read aloud."""

import random
import subprocess
import sys

import pytest

from omnictl.data.speech.transcripts.spoken_text import MARKS, NUM_SYMBOLS, SYMBOLS, sentences, speech_text, spell_out, spoken_ids
from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.data.speech.transcripts.transcript import ALPHABET, normalise
from omnictl.tinyworld.speech.utterances import reply, utterance


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nora has 5 large carrots.", "nora has five large carrots."),
        ("Well, hello! Who's there?", "well, hello! who's there?"),
        ("no mark", "no mark"),
        # marks that sound like others
        ("red; green: blue", "red, green, blue"),
        ("red — green – blue - grey -- black", "red, green, blue, grey, black"),
        ("a well-known, either/or thing", "a well known, either or thing"),
        ("one\ntwo\r\n\nthree", "one. two. three"),
        ("wait…what? and...so", "wait. what? and. so"),
        ("ＯＫ！ 好。yes、no，maybe？", "ok! yes, no, maybe?"),
        # several in a row, and those without a word
        ("what?! no!!! so... yes,.", "what? no! so. yes."),
        ("one ,two . three", "one, two. three"),
        ("one, — (,) two,\nthree", "one, two. three"),
        ("... , hello", "hello"),
        ("¿Qué? ¡Sí!", "que? si!"),
        ('He said "yes." (Twice!) Then ‘no’.', "he said yes. twice! then no."),
        # numbers
        ("3.14, 1,000 and 1,234,567.", "three point one four, one thousand and one million two hundred thirty four thousand "
         "five hundred sixty seven."),
        ("It is .5. Is it 2? 1,2,3, 10,20", "it is point five. is it two? one, two, three, ten, twenty"),
        ("1st. 2nd, the 1980s.", "first. second, the one thousand nine hundred eighties."),
        ("At 10:30, 1914–1918, 1:200, -5", "at ten thirty, one thousand nine hundred fourteen one thousand nine hundred eighteen, "
         "one two hundred, five"),
        ("３．１４ and １，０００", "three point one four and one thousand"),
        ("version 1.10.2.", "version one point one zero point two."),
        # points that end nothing
        ("e.g. the U.S.'s site example.com.", "eg. the us's site examplecom."),
        # what cannot be said
        ("Hi 👋🏽, you 🙂!", "hi, you!"),
        ("say Привет twice", "say twice"),
        ("* one\n- two\n---\n# three", "one. two. three"),
        ("Café, “naïve” — don’t…", "cafe, naive, don't."),
        ("", ""),
        (" \n.,?!— 👋", ""),
    ],
)  # fmt: skip
def test_spoken(text: str, expected: str) -> None:
    assert spell_out(text) == expected
    assert spell_out(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "It's 3.14 or 1,000; the dogs' U.S. trip — e.g. at 10:30 – cost 50% of $5 (twice!)…",
        "Well-known: AT&T, R & D\n1st, 2nd? The 1980s, 10² and 3½. No.6",
        "'tis \"rock 'n' roll\"; 1914–1918, 3-4, -5, 4x4, 1,23 and 12,3456.",
        "Привет 👋, naïve straße. http://example.com/a_b?c=d",
    ],
)
def test_the_words_are_those_of_a_transcript(text: str) -> None:
    assert speech_text(spell_out(text)) == normalise(text)


def test_what_tinyworld_says_can_be_read_aloud() -> None:
    for index in range(200):
        for text in (utterance(0, "train", index).text, reply(0, "train", index).text):
            assert speech_text(spell_out(text)) == normalise(text)
            assert spell_out(text)[-1] == text[-1]


def texts(count: int, seed: int = 0) -> list[str]:
    """Random texts that mix what rules look for with anything that Unicode has."""
    draw = random.Random(seed)
    pieces = [*" ',.?!;:-–—\n…’%/0123456789ab", ",000", ".5", "...", " - ", "th", "word", "İ", "e\u0301", "\u200b", "👋", "。"]
    return [
        "".join(
            draw.choice(pieces)
            if draw.random() < 0.8
            else chr(draw.choice([draw.randrange(0x300), draw.randrange(sys.maxunicode)]))
            for _ in range(draw.randrange(40))
        )
        for _ in range(count)
    ]


def test_whatever_comes_in_the_symbols_come_out() -> None:
    for text in texts(3000):
        said = spell_out(text)
        assert set(said) <= set(SYMBOLS), text
        assert said == " ".join(said.split()), text
        assert spell_out(said) == said, text
        assert speech_text(said) == normalise(said), text
        for word in said.split():
            assert word[0] not in MARKS, text
            assert not set(word[:-1]) & set(MARKS), text


@pytest.mark.parametrize("longest", [2, 3, 7, 30, 1000])
def test_sentences_of_anything_are_the_text(longest: int) -> None:
    for text in texts(300, seed=1):
        said = spell_out(text)
        found = list(sentences(said, longest))
        assert "".join(found).replace(" ", "") == said.replace(" ", ""), text
        for sentence in found:
            assert 1 <= len(sentence) <= longest, text
            assert sentence == sentence.strip(), text
            assert sentence[0] not in MARKS, text
            assert not set(sentence[:-1]) & set(".?!"), text


@pytest.mark.parametrize(
    ("said", "longest", "expected"),
    [
        ("", 9, []),
        ("one. two? three", 99, ["one.", "two?", "three"]),
        ("one, two, three four.", 13, ["one, two,", "three four."]),  # at the last comma
        ("one, two.", 9, ["one, two."]),
        ("one, two", 4, ["one,", "two"]),
        ("one two three.", 9, ["one two", "three."]),
        ("one two.", 7, ["one", "two."]),
        ("sixteen.", 3, ["six", "tee", "n."]),
        ("sixteen.", 7, ["sixtee", "n."]),  # no mark is said alone
        ("seven, one", 5, ["seve", "n,", "one"]),
    ],
)
def test_sentences(said: str, longest: int, expected: list[str]) -> None:
    assert list(sentences(said, longest)) == expected


def test_symbols_are_numbered_from_one() -> None:
    assert SYMBOLS == ALPHABET + ",.?!" == " 'abcdefghijklmnopqrstuvwxyz,.?!"
    assert spoken_ids(SYMBOLS) == list(range(1, NUM_SYMBOLS + 1))
    assert spoken_ids("") == []
    assert ReadAloud().num_symbols == NUM_SYMBOLS + 1
    assert ReadAloud().encode("a!") == [0, 3, 32, 0]


def test_torch_is_not_imported() -> None:
    script = "import sys\nimport omnictl.data.speech.transcripts.spoken_text\nassert 'torch' not in sys.modules\n"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
