"""The target of what is not scored, apart from the loss: data is prepared without torch."""

IGNORE = -100
"""Target of a position that is not scored."""
