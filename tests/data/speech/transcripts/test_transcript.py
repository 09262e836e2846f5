import random
import subprocess
import sys
import unicodedata

import pytest

from omnictl.data.speech.manifest import read_manifest
from omnictl.data.speech.transcripts.transcript import ALPHABET, decode, encode, foreign_characters, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Author of the danger trail, Philip Steels, etc.", "author of the danger trail philip steels etc"),
        ("  Hello,\tWORLD!\n", "hello world"),
        ("", ""),
        ("...", ""),
        # apostrophes
        ("It’s the dogs' o'clock, 'tis rock 'n' roll", "it's the dogs o'clock tis rock n roll"),
        ("don´t, don`t, donʼt, don＇t", "don't don't don't don't"),
        ("don''t ' 'quoted'", "dont quoted"),
        ("5'10\"", "five ten"),
        # letters
        ("Café naïve Ångström", "cafe naive angstrom"),
        ("Œuvre, Æsop, straße, Øl, ŁÓDŹ, İstanbul", "oeuvre aesop strasse ol lodz istanbul"),
        ("e\u0301tude ﬁne ＡＢＣ", "etude fine abc"),
        # punctuation and symbols
        ("well-known — either/or – this", "well known either or this"),
        ("wait…what,then;or:so", "wait what then or so"),
        ("U.S., e.g. the book(s)", "us eg the books"),
        ("AT&T, R & D, 100% or a %", "at and t r and d one hundred percent or a percent"),
        ("Brand™ ®© $5 ~ a+b *bold*", "brand five a b bold"),
        ("soft\u00adhyphen, zero\u200bwidth, bell\x07rings", "softhyphen zerowidth bell rings"),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected
    assert foreign_characters(text) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 7 12 45 105", "zero seven twelve forty five one hundred five"),
        ("1999", "one thousand nine hundred ninety nine"),
        ("1,234,567", "one million two hundred thirty four thousand five hundred sixty seven"),
        ("1,23 and 12,3456", "one twenty three and twelve three thousand four hundred fifty six"),
        ("3.5, 3.14, .5", "three point five three point one four point five"),
        ("version 1.10.2", "version one point one zero point two"),
        ("Page 5. No.6", "page five no six"),
        ("1st 2nd 3rd 21st 112th 1,000th", "first second third twenty first one hundred twelfth one thousandth"),
        ("the 1980s, my 90's", "the one thousand nine hundred eighties my nineties"),
        ("agent 007 at 10am, 4x4", "agent zero zero seven at ten am four x four"),
        ("10:30 on 1/2", "ten thirty on one two"),
        ("-5 and 3-4", "five and three four"),
        ("50% of １２", "fifty percent of twelve"),
        ("10² is 3½", "ten two is three one over two"),  # not 102, nor 31 over 2
        ("1234567890123456", "one two three four five six seven eight nine zero one two three four five six"),
        ("9" * 5000, " ".join(["nine"] * 5000)),
    ],
)
def test_numbers_are_read_out(text, expected):
    assert normalise(text) == expected
    assert foreign_characters(text) == ""


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("Привет и hi", "веипрт"),
        ("漢字 and 漢", "字漢"),
        ("три ٣ ३", "ирт٣३"),
        ("5 µm", "μ"),
        ("한", "한"),
        ("plain «text», naïve 5 € ½ ①", ""),
    ],
)
def test_foreign_characters(text, foreign):
    assert foreign_characters(text) == foreign


def test_what_is_foreign_leaves_no_trace():
    assert normalise("say Привет twice") == "say twice"


def texts(count, seed=0):
    """Random texts that mix what rules look for with anything that Unicode has."""
    draw = random.Random(seed)
    pieces = [*" '’.,-%&/½²ßé0123456789", "st ", "th", "s", "'s", ",000", ".5", "word", "İ", "e\u0301", "\u200b", "…", "™"]
    for _ in range(count):
        yield "".join(
            draw.choice(pieces) if draw.random() < 0.8 else chr(draw.choice([draw.randrange(0x300), draw.randrange(0xD800)]))
            for _ in range(draw.randrange(30))
        )


def test_whatever_comes_in_the_alphabet_comes_out():
    for text in texts(3000):
        once = normalise(text)
        assert set(once) <= set(ALPHABET), text
        assert once == " ".join(once.split()), text
        assert normalise(once) == once, text
        assert foreign_characters(once) == "", text
        assert decode(encode(once)) == once, text
        for place, character in enumerate(once):
            if character == "'":
                assert (once[place - 1] + once[place + 1]).isalpha(), text


@pytest.mark.slow
def test_every_letter_is_spelled_or_reported():
    """No letter of Unicode vanishes, but two half-width marks that mean something only behind another foreign letter."""
    for character in sorted(set(map(chr, range(sys.maxunicode + 1))) - {"\uff9e", "\uff9f"}):
        if unicodedata.category(character)[0] in "LN":
            assert normalise(f"a{character}b") != "ab" or foreign_characters(character), hex(ord(character))


def test_ids():
    assert ALPHABET == " 'abcdefghijklmnopqrstuvwxyz"
    assert encode(ALPHABET) == list(range(1, 29))
    assert decode(range(1, 29)) == ALPHABET
    assert encode("it's") == [11, 22, 2, 21]
    assert (encode(""), decode([])) == ([], "")
    with pytest.raises(AssertionError, match="blanks are for the caller"):
        decode([0, 3])


@pytest.mark.slow
def test_inflect_is_imported_when_it_is_needed():
    script = (
        "import sys\n"
        "from omnictl.data.speech.transcripts.transcript import normalise\n"
        "normalise('no number')\n"
        "assert 'inflect' not in sys.modules\n"
        "assert normalise('5') == 'five'\n"
        "assert 'torch' not in sys.modules\n"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr


def test_real_transcripts(test_data):
    words = set()
    for name in ("fsdd", "kathleen", "speech_bits"):
        for row in read_manifest(test_data / name / "metadata.csv").rows:
            assert foreign_characters(row.text) == "", row.where
            assert normalise(row.text), row.where
            words.update(normalise(row.text).split())
    assert {"zero", "o'brien", "americans", "steels"} <= words
