"""Texts of strangers, made fit to be shown: what a terminal would execute can be seen instead."""

_VISIBLE = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    **dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), "\ufffd"),
}
"""A picture of each control character of ASCII; of those of Latin-1, which have none, and of halves of characters, U+FFFD."""


def visible(text: str) -> str:
    """A text whose control characters can be seen instead of doing something; lines stay lines."""
    return text.translate(_VISIBLE)


def is_unicode(text: str) -> bool:
    """Whether a text that came from outside could be decoded."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
