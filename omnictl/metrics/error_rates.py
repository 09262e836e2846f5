"""Metrics of speech recognition: word and character error rates over a whole split, and the floor of their control.

A rate is the errors of all utterances ÷ the symbols of all references, so a long utterance weighs more than a short one, and an
utterance in which nothing was said still counts what was heard in it. Texts are compared as given, but for white space: normalise
them first, both sides alike.
"""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jiwer

from omnictl.metrics.intervals import Estimate, error_rate
from omnictl.metrics.shuffled_control import shuffled_inputs


class ErrorCounts(NamedTuple):
    """The edits that turn references into hypotheses, over a corpus."""

    substitutions: int
    deletions: int
    insertions: int
    reference_length: int  # words or characters

    @property
    def errors(self) -> int:
        """All edits."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors ÷ reference length, beyond 1 where much is inserted; without any reference 0 or infinite."""
        if self.reference_length == 0:
            return math.inf if self.errors else 0.0
        return self.errors / self.reference_length


class ShuffledFloor(NamedTuple):
    """The error rate that remains when the recordings of a split are exchanged and each is recognised perfectly."""

    permutation: list[int]  # utterance i is given the recording of permutation[i]; never its own if there are two or more
    rate: float


def word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """Edits between the words of references and hypotheses, pair by pair; either may be empty.

    Raises:
        ValueError: there are not as many hypotheses as references.
    """
    output = jiwer.process_words(_single_space(reference), _single_space(hypothesis))
    return _counts(output)


def character_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """As `word_errors`, between characters; the space between two words is one."""
    output = jiwer.process_characters(_single_space(reference), _single_space(hypothesis))
    return _counts(output)


def by_pair(
    count: Callable[[Sequence[str], Sequence[str]], ErrorCounts], reference: Sequence[str], hypothesis: Sequence[str]
) -> Estimate:
    """The rate of all pairs with its interval, over pairs.

    Args:
        count: `word_errors` or `character_errors`.
        reference: what was said.
        hypothesis: what was heard, as many.
    """
    pair_counts = [count([said], [heard]) for said, heard in zip(reference, hypothesis, strict=True)]
    return error_rate([counts.errors for counts in pair_counts], [counts.reference_length for counts in pair_counts])


def _single_space(texts: Sequence[str]) -> list[str]:
    """Jiwer knows words to be separated by spaces only, not by tabs or line ends."""
    return [" ".join(text.split()) for text in texts]


def _counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    length = output.hits + output.substitutions + output.deletions
    return ErrorCounts(output.substitutions, output.deletions, output.insertions, length)


def normalise_english(text: str) -> str:
    """A text as error rates of English are usually compared: lower case, no punctuation, "twenty two" as "22", "colour" as "color".

    The normaliser of Whisper (Radford et al. 2022, appendix C).
    """
    return " ".join(_english_normaliser()(text).split())


@functools.cache
def _english_normaliser() -> Callable[[str], str]:
    with warnings.catch_warnings():
        # A docstring of it has an invalid escape sequence, of which Python warns as long as it has no compiled file of it.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", SyntaxWarning)
        from whisper_normalizer.english import (  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415  slow
            EnglishTextNormalizer,
        )
    normaliser: Callable[[str], str] = EnglishTextNormalizer()
    return normaliser


def shuffled_floor(references: Sequence[str], seed: int) -> ShuffledFloor:
    """The word error rate of a perfect recogniser whose recordings are exchanged.

    Args:
        references: what was said, normalised as for `word_errors`.
        seed: of the permutation, one random cycle through all utterances.
    """
    permutation = shuffled_inputs(len(references), seed)
    return ShuffledFloor(permutation, word_errors(references, [references[i] for i in permutation]).rate)


def alignment_lines(reference: str, hypothesis: str) -> str:
    """Reference and hypothesis word below word, and S, D or I below each that is substituted, deleted or inserted."""
    output = jiwer.process_words(_single_space([reference]), _single_space([hypothesis]))
    text = jiwer.visualize_alignment(output, show_measures=False, skip_correct=False)
    _title, _blank, *lines = text.rstrip("\n").split("\n")
    return "\n".join(line.rstrip() for line in lines)
