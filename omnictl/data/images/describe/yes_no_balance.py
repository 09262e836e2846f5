"""What yes or no questions ask, so that the question alone does not tell the answer: each label is asked about as often when it is
true as when it is not, and what is asked instead of the true label is one that is easily taken for it."""

from collections.abc import Mapping

from omnictl.data.images.describe.similar_labels import LabelWords, may_both_be_true

MOST_DUE = 3
"""By how much the yes of a label may outnumber the no's, at any time."""


class LabelBalance:
    """Chooses the label that is asked about, image after image of a split.

    Args:
        similar: the labels that each is easily taken for.
        words: of each label.
    """

    def __init__(self, similar: Mapping[str, tuple[str, ...]], words: LabelWords) -> None:
        self._similar, self._words = similar, words
        self._due: dict[str, int] = {}  # by how many the yes of a label outnumber its no's, where they do

    def choose(self, label: str) -> str | None:
        """What to ask about an image of this label: the label itself, or another; None where either would be one too many."""
        near = [other for other in self._similar[label] if other in self._due]
        if not near and self._due.get(label, 0) < MOST_DUE:
            self._due[label] = self._due.get(label, 0) + 1
            return label
        asked = max(near or self._far(label), key=lambda other: self._due[other], default=None)
        if asked is not None:
            self._due[asked] -= 1
            if not self._due[asked]:
                del self._due[asked]
        return asked

    def _far(self, label: str) -> list[str]:
        """Labels due for a no that are not similar."""
        words = self._words[label]
        return [other for other in self._due if other != label and not may_both_be_true(words, self._words[other])]


class TruthBalance:
    """Chooses of which images it is asked whether something is so: of about as many where it is as where it is not."""

    def __init__(self) -> None:
        self._ahead = 0

    def take(self, verdict: bool) -> bool:
        """Whether to ask about an image for which the answer is this."""
        ahead = self._ahead + (1 if verdict else -1)
        if abs(ahead) > MOST_DUE:
            return False
        self._ahead = ahead
        return True
