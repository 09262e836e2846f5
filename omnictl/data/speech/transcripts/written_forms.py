"""What is written in signs, as the words that are read aloud: dates, years, clock times, money, units, fractions, abbreviations.

Where one writing has several readings, one is chosen and used everywhere: a bare 1100 to 2099 is a year, capitals without a vowel
are spelled letter by letter. What has none here (`find_unspeakable`) is for the caller to leave written: addresses, code,
Roman numerals, 05/06/2024. English only.

Source: the classes of Sproat et al., Normalization of non-standard words, Computer Speech and Language 15 (2001), section 2.
"""

import re
import unicodedata
from collections.abc import Callable

from omnictl.data.speech.transcripts.spoken_text import spell_out
from omnictl.data.speech.transcripts.transcript import foreign_characters, number_words, read_numbers

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_MONTH_OF = {name[:length]: name for name in _MONTHS for length in (3, len(name))} | {"Sept": "September"}
_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTH_OF, key=len, reverse=True))})\b\.?"
_DAY = r"(?P<day>3[01]|[12][0-9]|0?[1-9])(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>1[1-9][0-9]{2}|20[0-9]{2})"

_ABBREVIATIONS = {
    "Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Miz", "Dr.": "Doctor", "Prof.": "Professor", "Jr.": "Junior", "Sr.": "Senior",
    "vs.": "versus", "e.g.": "for example", "i.e.": "that is", "etc.": "et cetera", "approx.": "approximately", "Mt.": "Mount",
    "Ave.": "Avenue", "Rd.": "Road", "Gen.": "General", "Capt.": "Captain", "dept.": "department", "Inc.": "Incorporated",
}  # fmt: skip
_UNITS = {
    "km/h": "kilometre per hour", "mph": "mile per hour", "m/s": "metre per second", "kWh": "kilowatt hour",
    "km": "kilometre", "cm": "centimetre", "mm": "millimetre", "m": "metre", "kg": "kilogram", "mg": "milligram", "g": "gram",
    "ml": "millilitre", "mL": "millilitre", "l": "litre", "L": "litre", "lb": "pound", "lbs": "pound", "oz": "ounce", "ft": "foot",
    "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "Hz": "hertz", "kB": "kilobyte", "KB": "kilobyte",
    "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "kW": "kilowatt", "W": "watt", "V": "volt", "ms": "millisecond",
    "s": "second", "sec": "second", "min": "minute", "h": "hour", "hrs": "hour", "°C": "degree Celsius", "°F": "degree Fahrenheit",
    "°": "degree",
}  # fmt: skip
_UNCHANGED = ("hertz", "kilohertz", "megahertz", "gigahertz")
_CURRENCIES = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "")}
_FRACTIONS = {"½": "one half", "¼": "one quarter", "¾": "three quarters", "⅓": "one third", "⅔": "two thirds"}
_PARTS = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth", 9: "ninth", 10: "tenth"}
_OPERATORS = {"+": "plus", "−": "minus", "-": "minus", "×": "times", "*": "times", "÷": "divided by", "=": "equals",
              "<": "is less than", ">": "is greater than"}  # fmt: skip
_LETTER_WORDS = ("USA", "UK", "EU", "UN", "AI", "FBI", "CIA", "DNA", "RNA", "CPU", "GPU", "USB", "URL", "ID", "CEO", "IBM")
_VOWELLESS = r"[B-DF-HJ-NP-TV-XZ]{2,5}"

_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_AMOUNT = rf"{_WHOLE}(?:\.[0-9]+)?"
_ADDRESS = re.compile(r"https?://|www\.|\S@\S+\.\S|\b[\w-]+\.(?:com|org|net|edu|gov|io|ai)\b")
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>")
_ROMAN = re.compile(r"\b[IVX]{2,}\b")
_SPEAKABLE_MARKS = frozenset("'’‘\"“”„,.?!;:…()-–—/")

Replace = Callable[[re.Match[str]], str]


def expand_written_forms(text: str) -> str:
    """A text with words for what is written in signs, on one line; what has no reading stays as it is."""
    for pattern, replace in _RULES:
        text = pattern.sub(replace, text)
    text = read_numbers(text)
    text = re.sub(r"(?<=\w)\s*/\s*(?=\w)", " ", text)
    lines = [line for line in (line.strip(" \t-•") for line in text.splitlines()) if line]
    text = " ".join([*(line if line[-1] in ".?!,;:" else f"{line}." for line in lines[:-1]), *lines[-1:]])
    return re.sub(r"\s+(?=[,.?!;:)])", "", " ".join(text.split()))


def find_unspeakable(text: str) -> str | None:
    """Why a text cannot be read aloud, as its writer wrote it; None if it can."""
    if (address := _ADDRESS.search(text)) is not None:
        return f"an address, which nobody reads aloud: {address[0]}"
    if (markup := _MARKUP.search(text)) is not None:
        return f"markup: {markup[0]}"
    if (roman := _ROMAN.search(text)) is not None:
        return f"a Roman numeral, which has several readings: {roman[0]}"
    if (date := _AMBIGUOUS_DATE.search(text)) is not None:
        return f"a date that may be of two days: {date[0]}"
    if foreign := foreign_characters(text):
        return f"letters that the voices have no sound for: {foreign}"
    expanded = expand_written_forms(text)
    marks = sorted({mark for mark in expanded if not _is_speakable(mark)})
    if marks:
        return f"signs that have no reading: {' '.join(marks)}"
    return None if spell_out(expanded) else "it has no words"


def _is_speakable(character: str) -> bool:
    return character in _SPEAKABLE_MARKS or character.isspace() or unicodedata.category(character)[0] in "LM"


def _year(digits: str) -> str:
    century, rest = digits[:2], int(digits[2:])
    if digits[:3] == "200":
        return number_words(digits)
    if rest == 0:
        return f"{number_words(century)} hundred"
    return f"{number_words(century)} {'oh ' if rest < 10 else ''}{number_words(str(rest))}"


def _decade(match: re.Match[str]) -> str:
    """The 1980s: the plural of the last word of its first year."""
    said = _year(match["decade"])
    return f"{said[:-1]}ies" if said.endswith("ty") else f"{said}s"


def _day_month(match: re.Match[str]) -> str:
    day = read_numbers(f"{int(match['day'])}{_ordinal_ending(int(match['day']))}").strip()
    return f"{_MONTH_OF[match['month']]} {day}{_year_after(match)}"


def _year_after(match: re.Match[str]) -> str:
    return f", {_year(match['year'])}" if match["year"] else ""


def _ordinal_ending(day: int) -> str:
    return "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def _numeric_date(match: re.Match[str]) -> str:
    """2024-05-17, or 17/05/2024 in whichever order can be."""
    first, second = int(match["first"]), int(match["second"])
    month, day = (first, second) if match["iso"] or second > 12 else (second, first)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    said = read_numbers(f"{day}{_ordinal_ending(day)}").strip()
    return f"{_MONTHS[month - 1]} {said}, {_year(match['iso'] or match['year'])}"


def _clock(match: re.Match[str]) -> str:
    hour, minute, half = int(match["hour"]), match["minute"], match["half"]
    said = number_words(str(hour))
    if minute and int(minute):
        said += f" {'oh ' if minute < '10' else ''}{number_words(str(int(minute)))}"
    elif minute and not half:
        said += " o'clock" if 0 < hour <= 12 else " hundred"
    return f"{said} {half[0].upper()} M" if half else said


def _money(match: re.Match[str]) -> str:
    unit, part = _CURRENCIES[match["currency"]]
    whole, _, cents = match["amount"].partition(".")
    if match["scale"]:
        return f"{match['amount']} {match['scale'].strip()} {_plural(unit)}"
    if len(cents) != 2 or not part:
        return f"{match['amount']} {unit if match['amount'] == '1' else _plural(unit)}"
    pieces = [f"{whole} {unit if whole == '1' else _plural(unit)}"] if whole != "0" or cents == "00" else []
    pieces += [f"{int(cents)} {part if cents == '01' else _plural(part)}"] if cents != "00" else []
    return " and ".join(pieces)


def _plural(unit: str) -> str:
    first, _, rest = unit.partition(" ")
    if unit in (*_UNCHANGED, "yen"):
        return unit
    if unit == "kilowatt hour":
        return "kilowatt hours"
    words = {"foot": "feet", "penny": "pence"}.get(first, f"{first}s")
    return f"{words} {rest}".strip()


def _unit(match: re.Match[str]) -> str:
    unit = _UNITS[match["unit"]]
    power = {"²": "square ", "³": "cubic "}.get(match["power"] or "", "")
    return f"{match['amount']} {power}{unit if match['amount'] == '1' else _plural(unit)}"


def _fraction(match: re.Match[str]) -> str:
    over, under = int(match["over"]), int(match["under"])
    if not (0 < over < under and under in _PARTS):
        return match[0]
    part = _PARTS[under]
    return f"{number_words(str(over))} {part if over == 1 else 'halves' if part == 'half' else f'{part}s'}"


def _mixed(match: re.Match[str]) -> str:
    said = _FRACTIONS[match["fraction"]]
    if not match["whole"]:
        return said
    return f"{match['whole']} and {said.replace('one half', 'a half').replace('one ', 'a ')}"


def _range(match: re.Match[str]) -> str:
    rising = int(match["low"]) < int(match["high"])
    return f"{match['low']} to {match['high']}" if rising else match[0]


def _letters(match: re.Match[str]) -> str:
    letters = match["letters"].replace(".", "")
    return f"{' '.join(letters)}{match['rest'] or ''}"


def _whole_match(words: str) -> Replace:
    return lambda _: words


_AMBIGUOUS_DATE = re.compile(r"\b(?!(0?[1-9]|1[0-2])/\1/)(?:0?[1-9]|1[0-2])/(?:0?[1-9]|1[0-2])/(?:[0-9]{4}|[0-9]{2})\b")
_BEFORE = r"(?:(?<=[0-9)])|(?<=\b[a-zA-Z]))"
_AFTER = r"(?=[-−(]?(?:[0-9]|[a-zA-Z]\b)|\?)"
_HALF = r"(?P<half>[ap]\.m\.|[AP]\.M\.|[ap]m\b|[AP]M\b)"

_RULES: tuple[tuple[re.Pattern[str], Replace], ...] = (
    # Dates and times: before their digits are numbers.
    (re.compile(r"\b(?P<iso>1[1-9]\d\d|20\d\d)-(?P<first>\d\d)-(?P<second>\d\d)\b(?P<year>)"), _numeric_date),
    (re.compile(rf"\b(?P<first>[0-9]{{1,2}})/(?P<second>[0-9]{{1,2}})/{_YEAR}\b(?P<iso>)"), _numeric_date),
    (re.compile(rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+{_YEAR}\b)?"), _day_month),
    (re.compile(rf"\b{_MONTH}\s+{_DAY}\b(?:,?\s+{_YEAR}\b)?"), _day_month),
    (re.compile(rf"\b(?P<hour>2[0-3]|[01]?[0-9]):(?P<minute>[0-5][0-9])(?:\s*{_HALF})?(?![:\d])"), _clock),
    (re.compile(rf"\b(?P<hour>1[0-2]|[1-9])(?P<minute>)\s*{_HALF}"), _clock),
    (re.compile(r"\b(?P<decade>1[1-9][0-9]0|20[1-9]0)'?s\b"), _decade),
    # Money and units.
    (
        re.compile(rf"(?P<currency>[$€£¥])\s?(?P<amount>{_AMOUNT})(?P<scale>\s(?:thousand|million|billion|trillion)\b)?(?!\w|[.,]\d)"),
        _money,
    ),
    (
        re.compile(
            rf"(?<![\d.,])(?!{_WHOLE}s\b)(?P<amount>{_AMOUNT})\s?"  # 20s is a decade as often as a time
            rf"(?P<unit>{'|'.join(sorted(map(re.escape, _UNITS), key=len, reverse=True))})(?P<power>[²³])?(?![\w²³/°])"
        ),
        _unit,
    ),
    (re.compile(r"\s?%"), _whole_match(" percent")),
    # Fractions, ranges, signs between numbers.
    (re.compile(rf"(?:(?P<whole>[0-9]+)\s?)?(?P<fraction>[{''.join(_FRACTIONS)}])"), _mixed),
    (re.compile(r"(?<![\d/.])(?P<over>[0-9]{1,2})/(?P<under>[0-9]{1,2})(?![\d/.])"), _fraction),
    (re.compile(r"(?<=\d)(?:\s+[-−]\s+|[-−])(?=\d+\s*=)|(?<=\d)\s+[-−]\s+(?=\d)"), _whole_match(" minus ")),
    (re.compile(r"(?<![\d,.:/-])(?P<low>[0-9]{1,3})[-–](?P<high>[0-9]{1,3})(?![\d,.:/–-]\d|\d)"), _range),
    (re.compile(r"\b(?P<low>[0-9]{4})\s?[-–]\s?(?P<high>[0-9]{4})\b(?!-)"), _range),
    (re.compile(rf"{_BEFORE}\s*(?P<sign>[+×÷=<>*−])\s*{_AFTER}"), lambda match: f" {_OPERATORS[match['sign']]} "),
    (re.compile(r"(?<![\w)])[-−–](?=\d)"), _whole_match("minus ")),
    (re.compile(r"(?<=[\w)])²"), _whole_match(" squared")),
    (re.compile(r"(?<=[\w)])³"), _whole_match(" cubed")),
    (re.compile(r"(?:#|\b[Nn]o\.\s?)(?=\d)"), _whole_match("number ")),
    (re.compile(r"\s*&\s*"), _whole_match(" and ")),
    (
        re.compile(rf"(?<![\d.,:/-])\b{_YEAR}\b(?![\d:/]|[.,]\d)(?!\s(?:plus|minus|times|divided|equals))"),
        lambda match: _year(match["year"]),
    ),
    # Abbreviations.
    (re.compile(r"\bSt\.\s(?=[A-Z])"), _whole_match("Saint ")),
    (
        re.compile(rf"(?<![\w.])(?P<mark>{'|'.join(map(re.escape, _ABBREVIATIONS))})(?P<end>\s*$)?"),
        lambda match: _ABBREVIATIONS[match["mark"]] + ("." if match["end"] is not None else ""),
    ),
    (re.compile(rf"\b(?P<letters>{_VOWELLESS}|{'|'.join(_LETTER_WORDS)})(?P<rest>s|'s)?\b"), _letters),
    (re.compile(r"\b(?P<letters>(?:[A-Z]\.){2,})(?P<rest>'s)?"), _letters),
)  # fmt: skip
"""In this order."""
