"""The order of images, what batches hold, and what is mixed in."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from omnictl.data.images.batches import MIXED, UNKNOWN, ImageBatch, ImageBatches, LabelEncoder, evaluation_batches
from omnictl.data.images.corpus import ImageExample, ImageRecord, View
from omnictl.data.images.tinyworld import ENDLESS
from omnictl.data.manifest.rows import BrokenRow
from omnictl.trainer.loader import Feed

VIEW = View(size=6, grid=2)


@dataclass(frozen=True)
class Numbered:
    """Images of one colour that tells their number, and what their seed draws; labels tell the number too."""

    size: int
    set_aside: Sequence[BrokenRow] = ()
    without_label: frozenset[int] = field(default_factory=frozenset)

    def __len__(self) -> int:
        return self.size

    def row(self, index: int) -> ImageRecord:
        labels = {} if index in self.without_label else {"number": str(index)}
        return ImageRecord(str(index), "", {**labels, "parity": "even" if index % 2 == 0 else "odd"}, f"image {index}", None)

    def example(self, index: int, view: View, seed: Sequence[int] | None = None) -> ImageExample:
        drawn = 0 if seed is None else int(np.random.default_rng(seed).integers(1, 256))
        image = np.empty((3, view.size, view.size), np.uint8)
        image[:] = np.array([index // 256 % 256, index % 256, drawn])[:, None, None]
        return ImageExample(image, np.full((view.grid**2, 1), index))


def labels_of(found: Numbered) -> LabelEncoder:
    return LabelEncoder({"number": tuple(map(str, range(min(found.size, 1_000)))), "parity": ("even", "odd")})


def batches_of(found: Numbered, batch_size: int = 8, *, seed: int = 0, mixes: bool = False) -> ImageBatches:
    return ImageBatches(found, labels_of(found), VIEW, batch_size=batch_size, seed=seed, mixes=mixes)


def step(batches: ImageBatches, number: int) -> ImageBatch:
    return batches.collate(batches.ids(number))


def numbers(batch: ImageBatch) -> list[int]:
    return [int(caption.split()[1]) for caption in batch.captions]


def equal(one: ImageBatch, two: ImageBatch) -> bool:
    """In all that they hold."""

    def same(first: Any, second: Any) -> bool:
        return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second

    return all(same(getattr(one, name), getattr(two, name)) for name in ImageBatch.__dataclass_fields__)


@pytest.mark.parametrize("mixes", [False, True])
def test_a_batch_is_a_function_of_its_ids(mixes: bool) -> None:
    found = Numbered(50)
    one, two = (batches_of(found, mixes=mixes) for _ in range(2))
    asked = {number: step(one, number) for number in (30, 3, 200, 3, 12, 13, 0)}
    for number in sorted(asked):
        assert equal(step(two, number), asked[number])
        assert equal(step(one, number), asked[number])
    assert not equal(asked[12], asked[13])
    assert not equal(step(batches_of(found, seed=1, mixes=mixes), 3), asked[3])


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
def test_workers_make_the_same_batches() -> None:
    made = []
    for workers in (0, 2):
        feed = Feed(batches_of(Numbered(20), mixes=True), micro_batch=3, first_step=4, workers=workers)
        made.append([batch for number in range(4, 8) for batch in feed.step(number)])
        feed.close()
    assert len(made[0]) == 4 * 3
    assert all(equal(one, two) for one, two in zip(*made, strict=True))


@pytest.mark.parametrize("mixes", [False, True])
def test_a_micro_batch_is_a_part_of_its_batch(mixes: bool) -> None:
    batches = batches_of(Numbered(20), mixes=mixes)
    ids = batches.ids(5)
    whole = batches.collate(ids)
    for start in range(0, 8, 3):
        part, rows = batches.collate(ids[start : start + 3]), slice(start, start + 3)
        for name in ("images", "labels", "others", "shares", "patches"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[rows]), name
        assert part.captions == whole.captions[rows]


@pytest.mark.parametrize(("count", "batch_size"), [(50, 8), (10, 10), (3, 8), (1, 4)])
def test_an_epoch_shows_each_image_once(count: int, batch_size: int) -> None:
    batches = batches_of(Numbered(count), batch_size)
    shown = [n for number in range(3 * count) for n in numbers(step(batches, number))]
    epochs = [shown[start : start + count] for start in range(0, 3 * count, count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count > 3:
        assert len({tuple(epoch) for epoch in epochs}) == 3
        assert list(range(count)) not in epochs


def test_scenes_without_end_come_one_after_the_other() -> None:
    batches = batches_of(Numbered(ENDLESS, without_label=frozenset(range(10_000))))
    assert numbers(step(batches, 1_000)) == list(range(8_000, 8_008))


def test_an_image_is_varied_otherwise_every_time() -> None:
    batches = batches_of(Numbered(1), 64)
    drawn = step(batches, 0).images[:, 2, 0, 0].tolist()
    assert len(set(drawn)) > 40
    assert 0 not in drawn


def test_what_a_batch_holds() -> None:
    found = Numbered(300, without_label=frozenset(range(100)))
    batch = step(batches_of(found, 50), 3)
    own = numbers(batch)
    assert (batch.images.shape, batch.images.dtype) == ((50, 3, 6, 6), torch.uint8)
    assert (256 * batch.images[:, 0, 5, 5].int() + batch.images[:, 1, 5, 5]).tolist() == own
    assert batch.labels.tolist() == [[UNKNOWN if number < 100 else number, number % 2] for number in own]
    assert min(own) < 100 < max(own)
    assert (batch.patches.shape, batch.patches.dtype) == ((50, 4, 1), torch.int64)
    assert batch.patches[:, 3, 0].tolist() == own
    assert batch.labels.dtype == batch.others.dtype == torch.int64
    assert batch.shares.dtype == torch.float32


def test_without_mixing_an_image_is_all_its_own() -> None:
    batches = batches_of(Numbered(50))
    for number in range(10):
        batch = step(batches, number)
        assert batch.shares.tolist() == [1.0] * 8
        assert torch.equal(batch.others, batch.labels)


def mixed_images(count: int, size: int = 200) -> list[tuple[int, int, float, np.ndarray]]:
    """Of so many training images the number, that of what was mixed in, the share, and the pixels that tell numbers."""
    batch = batches_of(Numbered(size), count, mixes=True).collate(range(count))
    rows = zip(numbers(batch), batch.others[:, 0].tolist(), batch.shares.tolist(), batch.images[:, 1].numpy(), strict=True)
    assert batch.labels[:, 0].tolist() == numbers(batch) == batch.patches[:, 0, 0].tolist()
    return list(rows)


def test_what_is_mixed_in_has_its_share_and_its_labels() -> None:
    kinds = Counter[str]()
    for own, other, share, pixels in mixed_images(400):
        values = set(pixels.ravel().tolist())
        if own == other:
            assert values == {own}
            kinds["itself" if share < 1 else "alone"] += 1
        elif len(values) > 1:  # a part of one lies on the other
            assert values == {own, other}
            assert share == pytest.approx((pixels == own).mean(), abs=1e-6)
            kinds["cutmix"] += 1
        else:
            assert values.pop() == pytest.approx(share * own + (1 - share) * other, abs=0.51)
            kinds["mixup"] += 1
    assert kinds["alone"] == pytest.approx((1 - MIXED) * 400, abs=40)
    assert kinds["cutmix"] == pytest.approx(kinds["mixup"], abs=40)


def test_what_is_mixed_in_comes_from_the_whole_set() -> None:
    partners = [other for own, other, share, _ in mixed_images(400) if share < 1]
    assert len(set(partners)) > 90  # of 200
    own = {own for own, _, _, _ in mixed_images(8)}
    others = {other for _, other, share, _ in mixed_images(8) if share < 1}
    assert others
    assert not others <= own


def test_what_is_mixed_in_is_varied_too() -> None:
    batch = batches_of(Numbered(1), 64, mixes=True).collate(range(64))
    cut = [len(set(pixels.ravel().tolist())) for pixels in batch.images[:, 2].numpy()]
    assert max(cut) == 2  # the same image, drawn twice
    assert batch.images[:, 2].min() > 0  # and never without a seed


def test_labels_are_numbers() -> None:
    labels = LabelEncoder({"shape": ("star", "ring"), "colour": ("red", "blue", "pink")})
    assert labels.names == ("shape", "colour")
    assert labels.encode({"shape": "ring", "colour": "pink"}) == [1, 2]
    assert labels.encode({"colour": "red"}) == [UNKNOWN, 0]
    assert labels.encode({}) == [UNKNOWN, UNKNOWN]


def test_what_a_model_cannot_name_is_unknown() -> None:
    """Images with captions are used whatever their labels."""
    labels = LabelEncoder({"shape": ("star", "ring")})
    assert labels.encode({"shape": "moon", "size": "big"}) == [UNKNOWN]


def test_images_without_labels() -> None:
    batches = ImageBatches(Numbered(9), LabelEncoder({}), VIEW, batch_size=4, seed=0, mixes=False)
    batch = step(batches, 0)
    assert batch.labels.shape == batch.others.shape == (4, 0)
    assert batch.labels.dtype == torch.int64
    assert len(set(batch.captions)) == 4


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (3, [3])])
def test_evaluation_shows_the_first_images_as_they_are(count: int, sizes: list[int]) -> None:
    found = Numbered(20)
    made = list(evaluation_batches(found, labels_of(found), VIEW, count, batch_size=4))
    assert [len(batch.images) for _, batch in made] == sizes
    assert [index for indices, _ in made for index in indices] == list(range(count))
    for indices, batch in made:
        assert numbers(batch) == list(indices)
        assert not batch.images[:, 2].any()  # drawn without a seed
        assert batch.shares.tolist() == [1.0] * len(indices)
