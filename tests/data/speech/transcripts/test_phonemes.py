import pytest

from omnictl.data.speech.transcripts.phonemes import SYMBOLS, pronounce
from omnictl.data.speech.transcripts.targets import ReadAloud, ReadPhonemes
from omnictl.errors import DataError
from omnictl.tinyworld.speech import phonemiser
from omnictl.tinyworld.speech.phonemiser import Phonemiser


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("Hallo, Welt!", "de", "haloː, vɛlt!"),
        ("Hola. Adiós.", "es", "ola. aðjos."),
        ("…!?", "de", ""),
    ],
)
def test_marks_stay_where_they_are(text, language, said):
    found = pronounce(text, language)
    assert found.replace("ˈ", "").replace("ˌ", "") == said


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Fünf Brötchen kosten 3,50 Euro.", "de"),
        ("El niño comió tres manzanas rojas.", "es"),
        ("Привет, как дела?", "ru"),
        ("Ça va bien, merci.", "fr"),
        ("She sells sea shells.", "en-us"),
        ("नमस्ते दुनिया", "hi"),
    ],
)
def test_every_phoneme_is_a_symbol(text, language):
    """What espeak-ng writes and is not known would be left out: count what is left of its own signs."""
    spelling = ReadPhonemes(language)
    said = spelling.normalise(text)
    ids = spelling.encode(said)
    assert (ids[0], ids[-1], len(ids)) == (0, 0, len(said) + 2)
    assert all(0 < symbol < spelling.num_symbols for symbol in ids[1:-1])
    assert spelling.find_flaw(text) is None
    raw = Phonemiser(language).phonemes(text.strip(".?"))
    left_out = {sign for sign in raw if sign not in SYMBOLS and not sign.isspace()}
    assert left_out <= set("()-"), left_out


@pytest.mark.parametrize(("number", "words", "language"), [("21", "einundzwanzig", "de"), ("7", "siete", "es")])
def test_numbers_are_read_in_their_language(number, words, language):
    """But for stress and spaces, which espeak-ng sets otherwise within a number."""
    read = [pronounce(text, language).translate(str.maketrans("", "", "ˈˌ ")) for text in (number, words)]
    assert read[0] == read[1]


def letters(text, language):
    """But for stress and spaces, which espeak-ng sets otherwise within a number."""
    return pronounce(text, language).translate(str.maketrans("", "", "ˈˌ "))


@pytest.mark.parametrize(
    ("text", "spelled", "language"),
    [
        ("Brötchen kosten 3,50 Euro.", "Brötchen kosten drei Komma fünf null Euro.", "de"),
        ("Am 3., 4. und 5. mai 2024: 1,5 Prozent.", "Am drei, vierte und fünfte mai 2024, eins Komma fünf Prozent.", "de"),
        ("Dr. Weber, z. B. heute.", "Dr Weber, z B heute.", "de"),
        ("D.h. u. a. so. Gut.", "D h u a so. Gut.", "de"),
        ("J. S. Bach schrieb ca. 1100 Werke.", "J S Bach schrieb ca 1100 Werke.", "de"),
        ("Den 5. mai.", "Den femte mai.", "nb"),
        ("El Sr. López paga 3,5.", "El señor López paga tres coma cinco.", "es"),
        # what ends a sentence
        ("Es kostet 3,50. Ja, gut. Plan A. Dann", "Es kostet drei Komma fünf null. Ja, gut. Plan A. Dann", "de"),
        ("Wir waren 123. Nun 12.", "Wir waren 123. Nun zwölf.", "de"),
        ("He has 12. So do I. Yes.", "He has twelve. So do I. Yes.", "en-us"),
        ("Это я. Он дома.", "Это я. Он дома.", "ru"),
    ],
)
def test_numbers_dates_and_abbreviations_reach_espeak_whole(text, spelled, language):
    """The marks alone that are heard stand in what is said."""
    assert [mark for mark in pronounce(text, language) if mark in ",.?!"] == [mark for mark in spelled if mark in ",.?!"]
    assert letters(text, language) == letters(spelled, language)


def test_a_text_is_said_alike_whatever_was_said_before():
    """A single character behind a full stop stayed in espeak-ng, and was said in front of the next text."""
    said = [Phonemiser("de").phonemes("Hallo")]
    phonemiser = Phonemiser("de")
    for text in ("Nr. 5", "Gut! a"):
        alone = phonemiser.phonemes(text)
        assert len(alone.split()) == 2
        phonemiser._known_phonemes.cache_clear()
        said.append(phonemiser.phonemes("Hallo"))
    assert len(set(said)) == 1


def test_what_a_recogniser_is_asked_for():
    assert ReadPhonemes("de").words("Fünf Äpfel, bitte!") == "fünf äpfel bitte"
    assert ReadAloud().words("Five apples, please!") == "five apples please"
    assert ReadPhonemes("de").find_flaw("…") == "the transcript '…' has no words"


def test_a_language_that_there_is_not():
    with pytest.raises(DataError, match="espeak-ng cannot read 'klingonese'") as error:
        pronounce("a", "klingonese")
    assert "--set data.language=de" in error.value.fix


def test_only_so_many_texts_are_remembered(monkeypatch):
    asked = []
    monkeypatch.setattr(phonemiser, "MOST_KNOWN_TEXTS", 2)
    monkeypatch.setattr(Phonemiser, "_ask", lambda self, text: asked.append(text) or text.upper())
    german = Phonemiser("de")
    assert [german.phonemes(text) for text in "abacab"] == list("ABACAB")
    assert asked == ["a", "b", "c", "b"]  # what was said last but one is forgotten first
