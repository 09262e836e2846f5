from collections import Counter
from pathlib import Path

import pytest
import torch

from omnictl.data.text.batches import TextBatch, TextBatches
from omnictl.data.text.corpus import CurriculumConfig, LessonPhase
from omnictl.data.text.curriculum import CurriculumBatches
from omnictl.data.text.tinyworld import TinyWorldLessons, TinyWorldText
from omnictl.data.text.token_store import TokenStore, open_store
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.tinyworld.text.lessons import LessonKind, lesson

ROWS, LENGTH = 6, 64
CONFIG = CurriculumConfig(
    phases=(
        LessonPhase(kind="colours", steps=3, windows=2),
        LessonPhase(kind="lookups", steps=2, windows=1),
        LessonPhase(kind="colours", steps=1, windows=4),
        LessonPhase(kind="questions", steps=2, windows=3),
    ),
    lesson_every=4,
    num_lessons=60,
)


class Bench:
    """A curriculum over a little of TinyWorld, and its texts by name."""

    def __init__(self, cache: Path, config: CurriculumConfig = CONFIG) -> None:
        corpus = TinyWorldText(1, 80, 10)
        self.tokenizer = Tokenizer.train_bpe(corpus.documents("train"), 400)
        self.texts: dict[str, TextBatches] = {}
        self.stores: dict[str, TokenStore] = {}

        def windows(name: str, text: TinyWorldText | TinyWorldLessons) -> TextBatches:
            self.stores[name] = open_store(text, "train", self.tokenizer, cache)
            self.texts[name] = TextBatches(self.stores[name], seq_len=LENGTH, batch_size=ROWS, seed=0)
            return self.texts[name]

        def open_lessons(kind: LessonKind) -> TextBatches:
            return windows(kind, TinyWorldLessons(1, kind, config.num_lessons))

        self.batches = CurriculumBatches(windows("documents", corpus), config, open_lessons)

    def rows(self, batch: TextBatch) -> list[str]:
        """Which text each row of a batch is from: the one that has it as a window."""
        return [self._text_of(row) for row in batch.tokens]

    def _text_of(self, row: torch.Tensor) -> str:
        (found,) = [
            name for name, text in self.texts.items() if any(torch.equal(row, one) for one in text.collate(range(200)).tokens)
        ]
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_phases_follow_one_another_and_documents_come_last(bench: Bench) -> None:
    kinds = [Counter(bench.rows(bench.batches.collate(bench.batches.ids(step)))) for step in range(10)]
    assert kinds[:8] == [{"colours": 2}] * 3 + [{"lookups": 1}] * 2 + [{"colours": 4}] + [{"questions": 3}] * 2
    assert bench.batches.typical_step == 8
    assert kinds[8] + kinds[9] == {"documents": 9, "questions": 3}  # one window in four


def test_no_window_is_read_twice_before_all_have_been(bench: Bench) -> None:
    seen: Counter[tuple[int, ...]] = Counter()
    for step in range(12):
        seen.update(tuple(row.tolist()) for row in bench.batches.collate(bench.batches.ids(step)).tokens)
    assert set(seen.values()) == {1}


def test_a_batch_is_a_function_of_its_ids_however_it_is_split(bench: Bench, tmp_path: Path) -> None:
    ids = bench.batches.ids(8)
    whole = bench.batches.collate(ids)
    parts = [bench.batches.collate(ids[start : start + 2]) for start in range(0, len(ids), 2)]
    assert whole.num_targets == sum(part.num_targets for part in parts)

    def lines(*batches: TextBatch) -> list[list[int]]:
        return sorted(row.tolist() for batch in batches for row in torch.cat([batch.tokens, batch.targets], 1))

    assert lines(whole) == lines(*parts)
    again = Bench(tmp_path / "other").batches.collate(ids)
    assert torch.equal(again.tokens, whole.tokens)
    assert again.segments is not None
    assert torch.equal(again.segments, whole.segments if whole.segments is not None else torch.empty(0))


def test_the_largest_examples_are_documents(bench: Bench) -> None:
    assert set(bench.rows(bench.batches.collate(bench.batches.largest(ROWS)))) == {"documents"}
    assert len(bench.batches.ids(bench.batches.typical_step)) == ROWS


def test_without_lessons_among_them_documents_are_read_in_their_own_order(tmp_path: Path) -> None:
    bench = Bench(tmp_path, CONFIG.model_copy(update={"lesson_every": 0}))
    for step in range(3):
        own = bench.texts["documents"].collate(bench.texts["documents"].ids(step))
        assert torch.equal(bench.batches.collate(bench.batches.ids(8 + step)).tokens, own.tokens)


def test_lessons_are_a_corpus_of_their_own() -> None:
    lessons = TinyWorldLessons(1, "lookups", 3)
    assert list(lessons.documents("train")) == [lesson("lookups", 1, index) for index in range(3)]
    assert len({TinyWorldLessons(seed, kind, 3).fingerprint for seed in (1, 2) for kind in ("lookups", "colours")}) == 4
