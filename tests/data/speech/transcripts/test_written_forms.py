"""What is written in signs, as the words that are read aloud."""

import pytest

from omnictl.data.speech.transcripts.written_forms import expand_written_forms, find_unspeakable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Is it red?", "Is it red?"),
        ("Dr. Smith vs. Mr. Jones, e.g. here, etc.", "Doctor Smith versus Mister Jones, for example here, et cetera."),
        ("St. Paul & St. Peter", "Saint Paul and Saint Peter"),
        ("the GPU's fan, NASA, the U.S. and the USA", "the G P U's fan, NASA, the U S and the U S A"),
        ("IS IT RED? MY SKY, BY TRY", "IS IT RED? MY SKY, BY TRY"),  # shouted, not spelled
        ("x = y", "x equals y"),
        ("It is well-known… (yes!)", "It is well-known… (yes!)"),
        ("either/or", "either or"),
        ("a ½ cup, ¾ of it", "a one half cup, three quarters of it"),
        ("- one\n- two,\n\n• three", "one. two, three"),
    ],
)
def test_signs_without_digits(text: str, expected: str) -> None:
    assert find_unspeakable(text) is None
    assert expand_written_forms(text) == expected
    assert expand_written_forms(expected) == expected


READINGS = [
    # dates, after the Chicago Manual of Style and as Python's calendar counts them
    ("Born on 5 May 1984.", "Born on May fifth, nineteen eighty-four."),
    ("May 17th, 2024", "May seventeenth, twenty twenty-four"),
    ("the 3rd of Sept. 2001", "the September third, two thousand one"),
    ("2024-05-17", "May seventeenth, twenty twenty-four"),
    ("17/05/2024 and 05/17/2024", "May seventeenth, twenty twenty-four and May seventeenth, twenty twenty-four"),
    # years
    ("in 1166, 1900, 1905, 2000, 2005 and 2024", "in eleven sixty-six, nineteen hundred, nineteen oh five, two thousand, "
     "two thousand five and twenty twenty-four"),
    ("1914–1918 and the 1980s", "nineteen fourteen to nineteen eighteen and the nineteen eighties"),
    ("1,984 coins", "one thousand nine hundred eighty-four coins"),
    # clock times
    ("at 10:05 pm, 7am, 7 p.m. or 10:30", "at ten oh five P M, seven A M, seven P M or ten thirty"),
    ("10:00, 14:00, 14:30", "ten o'clock, fourteen hundred, fourteen thirty"),
    # money
    ("$5.50, $1, £0.01, £2.02, $0.99", "five dollars and fifty cents, one dollar, one penny, two pounds and two pence, "
     "ninety-nine cents"),
    ("€1,000.25 or $3 million", "one thousand euros and twenty-five cents or three million dollars"),
    ("¥500, $1.5", "five hundred yen, one point five dollars"),
    # units
    ("20 °C, 5 km/h, 1 m, 3 m², 1.5kg", "twenty degrees Celsius, five kilometres per hour, one metre, three square metres, "
     "one point five kilograms"),
    ("1 ft, 6 ft, 16 kHz, 50 % and 90°", "one foot, six feet, sixteen kilohertz, fifty percent and ninety degrees"),
    ("5 minutes, 5 min, the 20s", "five minutes, five minutes, the twenties"),
    # fractions, sums, ranges
    ("3½ cups, 1/2, 2/3, 5/8, 24/7", "three and a half cups, one half, two thirds, five eighths, twenty-four seven"),
    ("2+2=?", "two plus two equals?"),
    ("7-3=4, 7 - 3, -5", "seven minus three equals four, seven minus three, minus five"),
    ("6 × 7, 8 ÷ 2 and 3 < 4", "six times seven, eight divided by two and three is less than four"),
    ("pages 10–12, ages 3-4", "pages ten to twelve, ages three to four"),
    ("10² m, 2³", "ten squared m, two cubed"),
    ("#5, No. 7 and the 21st", "number five, number seven and the twenty-first"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("text", "expected"), READINGS)
def test_signs_with_digits(text: str, expected: str) -> None:
    """Slow: what names numbers takes a second to load."""
    assert find_unspeakable(text) is None
    assert expand_written_forms(text) == expected
    assert expand_written_forms(expected) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("See https://example.com/a_b", "an address, which nobody reads aloud: https://"),
        ("Write to me@example.org", "an address, which nobody reads aloud: e@example.o"),
        ("World War II", "a Roman numeral, which has several readings: II"),
        ("on 05/06/2024", "a date that may be of two days: 05/06/2024"),
        ("Привет, you", "letters that the voices have no sound for: веипрт"),
        ("**bold** `code` {x}", "signs that have no reading: * ` { }"),
        ("Hi 👋🏽", "signs that have no reading: 🏽 👋"),
        ("a <b>bold</b> word", "markup: <b>"),
        ("... ?!", "it has no words"),
        ("", "it has no words"),
    ],
)
def test_what_cannot_be_read_aloud_is_named(text: str, reason: str) -> None:
    assert find_unspeakable(text) == reason


@pytest.mark.slow
def test_a_date_of_one_day_can_be_read_aloud() -> None:
    assert find_unspeakable("on 05/05/2024") is None
    assert find_unspeakable("$5m") == "signs that have no reading: $"  # metres, or millions
