"""Lessons before the documents: batches whose kind of text is a function of the step.

The first steps read nothing but lessons of TinyWorld, a few windows at a time, since what they teach takes many steps rather than
many tokens; then come the documents, of whose windows one in so many is still a lesson, lest it be forgotten.
"""

from collections.abc import Callable, Sequence

import torch

from omnictl.data.text.batches import TextBatch, TextBatches
from omnictl.data.text.corpus import CurriculumConfig
from omnictl.tinyworld.text.lessons import LessonKind


class CurriculumBatches:
    """The training order of a curriculum: lessons phase by phase, then documents with some lessons among them.

    An example id is a window's position in the endless order of its text, and which text that is.

    Args:
        documents: the batches of documents.
        config: the phases.
        open_lessons: opens the batches of one kind of lesson.
    """

    def __init__(self, documents: TextBatches, config: CurriculumConfig, open_lessons: Callable[[LessonKind], TextBatches]) -> None:
        self._config = config
        self._kinds = tuple(dict.fromkeys(phase.kind for phase in config.phases))
        self._texts = (documents, *(open_lessons(kind) for kind in self._kinds))
        self._rows = documents.batch_size

    @property
    def typical_step(self) -> int:
        """The first step of documents."""
        return self._config.steps

    def ids(self, step: int) -> Sequence[int]:
        """The example ids of a step (0-based)."""
        windows_read = dict.fromkeys(self._kinds, 0)  # windows of each kind before this step
        for phase in self._config.phases:
            if step < phase.steps:
                start = windows_read[phase.kind] + step * phase.windows
                return [self._id(1 + self._kinds.index(phase.kind), start + row) for row in range(phase.windows)]
            windows_read[phase.kind] += phase.steps * phase.windows
            step -= phase.steps
        return [self._document_or_lesson(step * self._rows + row, windows_read[self._kinds[-1]]) for row in range(self._rows)]

    def collate(self, ids: Sequence[int]) -> TextBatch:
        """A batch of these examples: the same ids give the same tensors, at any time and in any process."""
        parts = []
        for number, text in enumerate(self._texts):
            if positions := [
                position
                for position, text_number in (divmod(example_id, len(self._texts)) for example_id in ids)
                if text_number == number
            ]:
                parts.append(text.collate(positions))
        return parts[0] if len(parts) == 1 else _stack(parts)

    def names(self, ids: Sequence[int]) -> Sequence[str]:
        """The kind of text of each window, and its documents, by number."""
        windows = (divmod(example_id, len(self._texts)) for example_id in ids)
        kinds = ("documents", *self._kinds)
        return [f"{kinds[text]}: {self._texts[text].names([position])[0]}" for position, text in windows]

    def largest(self, size: int) -> Sequence[int]:
        """Any windows of documents: all are of one size."""
        return [self._id(0, position) for position in range(size)]

    def _document_or_lesson(self, window: int, lessons_before: int) -> int:
        """The id of a window after the phases, counted from there; the last kind of lesson is the one that goes on."""
        every = self._config.lesson_every
        if every and window % every == every - 1:
            return self._id(len(self._kinds), lessons_before + window // every)
        return self._id(0, window - window // every if every else window)

    def _id(self, text: int, position: int) -> int:
        return position * len(self._texts) + text


def _stack(parts: Sequence[TextBatch]) -> TextBatch:
    """Batches one below the other; where a target stands in its store is of no use any more."""
    segments = [torch.zeros_like(part.tokens, dtype=torch.int32) if part.segments is None else part.segments for part in parts]
    return TextBatch(
        tokens=torch.cat([part.tokens for part in parts]),
        targets=torch.cat([part.targets for part in parts]),
        segments=torch.cat(segments),
        index=torch.cat([part.index for part in parts]),
        num_targets=sum(part.num_targets for part in parts),
    )
