"""Cutting, varying and mixing images: pure functions, of any image, that change what they say they change."""

import multiprocessing
import warnings
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from omnictl.data.images.augmentation import (
    MAGNITUDE,
    OPERATIONS,
    RATIO,
    Augmentation,
    Mixing,
    Pixels,
    _random_box,
    augment,
    mix,
    prepare,
)

KINDS: tuple[Augmentation, ...] = get_args(Augmentation)
MIXINGS: tuple[Mixing, ...] = get_args(Mixing)
VARYING: tuple[Augmentation, ...] = ("light", "strong")


def photograph(height: int, width: int, seed: int = 0) -> Pixels:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(coarse).astype(int) + rng.integers(-8, 9, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def chw(image: Pixels) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).contiguous()


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_depends_on_the_arguments_alone(kind: Augmentation) -> None:
    image = photograph(40, 50)
    before = image.copy()
    state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002  it is the global one that is meant
    one = augment(image, 32, kind, [3, 1, 7])
    torch.manual_seed(99)
    state_then = torch.get_rng_state()
    two = augment(image, 32, kind, [3, 1, 7])
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), state_then)
    torch.set_rng_state(state)
    assert all(np.array_equal(now, then) for now, then in zip(np.random.get_state(), numpy_state, strict=True))  # noqa: NPY002
    assert np.array_equal(image, before)


@pytest.mark.parametrize("kind", VARYING)
def test_another_seed_gives_another_image(kind: Augmentation) -> None:
    image = photograph(40, 50)
    shown = {augment(image, 32, kind, [0, number]).numpy().tobytes() for number in range(50)}
    assert len(shown) == 50


class Augmented(torch.utils.data.Dataset[Tensor]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, number: int) -> Tensor:
        return augment(photograph(40, 50), 32, "strong", [5, number])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_worker_finds_the_same() -> None:
    here = [Augmented()[number] for number in range(12)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python, of forking where there are threads
        there = list(DataLoader(Augmented(), batch_size=None, num_workers=2, multiprocessing_context="fork"))
    assert all(torch.equal(one, other) for one, other in zip(here, there, strict=True))


def test_mixing_depends_on_the_arguments_alone() -> None:
    one, other = chw(photograph(32, 32)), chw(photograph(32, 32, seed=1))
    for kind in MIXINGS:
        state = torch.get_rng_state()
        results = [mix(one, other, kind, np.random.default_rng(seed), 0.8) for seed in (4, 4, 5)]
        assert torch.equal(results[0].image, results[1].image)
        assert results[0].share == results[1].share != results[2].share
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, chw(photograph(32, 32)))
    assert torch.equal(other, chw(photograph(32, 32, seed=1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (500, 20), (20, 500), (33, 32), (300, 200), (3, 1_000)])
@pytest.mark.parametrize("size", [1, 32, 112])
def test_images_of_any_shape(kind: Augmentation, shape: tuple[int, int], size: int) -> None:
    image = photograph(*shape)
    image.flags.writeable = False  # as a memory-mapped one
    for number in range(5):
        shown = augment(image, size, kind, [number])
        assert (tuple(shown.shape), shown.dtype, shown.is_contiguous()) == ((3, size, size), torch.uint8, True)
    assert prepare(image, size, crop=0.8).shape == (3, size, size)


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = photograph(32, 32)
    once = augment(image, 32, "none", [0])
    assert torch.equal(once, chw(image))
    assert torch.equal(prepare(once.permute(1, 2, 0).numpy(), 32, crop=1.0), once)
    once.zero_()
    assert image.any(), "the result shares no memory"


def test_the_centre_is_cut_out() -> None:
    image = photograph(60, 100)
    assert torch.equal(prepare(image, 60, crop=1.0), chw(image[:, 20:80]))
    assert torch.equal(prepare(image, 30, crop=0.5), chw(image[15:45, 35:65]))
    image = photograph(9, 4)
    assert torch.equal(prepare(image, 4, crop=1.0), chw(image[2:6]))


def test_resizing_is_antialiased() -> None:
    image = photograph(301, 301)
    expected = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(prepare(image, 64, crop=1.0).permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def test_half_of_the_images_are_mirrored() -> None:
    ramp = np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (100, 1, 3))  # brighter to the right
    for kind in VARYING:
        rows = [augment(ramp, 32, kind, [n])[0, 16].int() for n in range(400)]
        brighter = [row[-8] > row[8] for row in rows]
        assert 0.42 < np.mean(brighter) < 0.58, kind


def test_crops_keep_their_share_and_shape() -> None:
    rng = np.random.default_rng(0)
    boxes = [_random_box(250, 300, (0.5, 1.0), rng) for _ in range(500)]
    shares = np.array([box.height * box.width / 75_000 for box in boxes])
    ratios = np.array([box.width / box.height for box in boxes])
    assert 0.49 < shares.min() < 0.52
    assert 0.9 < shares.max() <= 1
    assert RATIO[0] * 0.98 < ratios.min() < 1 < ratios.max() < RATIO[1] * 1.02
    assert all(box.top + box.height <= 250 and box.left + box.width <= 300 for box in boxes)
    assert {box.top == 0 for box in boxes} == {box.left == 0 for box in boxes} == {True, False}


@pytest.mark.parametrize(
    ("height", "width", "shape"), [(500, 20, (27, 20)), (20, 500, (20, 27)), (1, 1, (1, 1)), (3, 1_000, (3, 4))]
)
def test_where_no_crop_fits_it_is_nearly_square_and_anywhere(height: int, width: int, shape: tuple[int, int]) -> None:
    boxes = [_random_box(height, width, (0.5, 1.0), np.random.default_rng(seed)) for seed in range(50)]
    assert {(box.height, box.width) for box in boxes} == {shape}
    assert len({(box.top, box.left) for box in boxes}) > 10 or height == width
    assert all(box.top + box.height <= height and box.left + box.width <= width for box in boxes)


def test_a_crop_shows_a_part() -> None:
    corners = np.zeros((100, 100, 3), np.uint8)
    corners[:2, :2] = corners[-2:, :2] = corners[:2, -2:] = corners[-2:, -2:] = 255
    shown = [augment(corners, 100, "light", [n]) for n in range(50)]
    cut = [int((image[0, [0, 0, -1, -1], [0, -1, 0, -1]] == 0).sum()) for image in shown]
    assert max(cut) == 4
    assert np.mean(cut) > 2


TORCHVISION = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "colour": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterise": "Posterize",
    "solarise": "Solarize",
    "autocontrast": "AutoContrast",
    "equalise": "Equalize",
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("magnitude", [MAGNITUDE, -MAGNITUDE, 0.9])
@pytest.mark.parametrize("size", [32, 75])
def test_operations_are_those_of_torchvision(name: str, magnitude: float, size: int) -> None:
    image = chw(photograph(size, size))
    theirs = v2.RandAugment(num_ops=1, fill=128)
    strengths, has_direction = theirs._AUGMENTATION_SPACE[TORCHVISION[name]]
    strength = strengths(31, size, size)
    value = 0.0 if strength is None else float(strength[round(30 * abs(magnitude))])
    if has_direction and magnitude < 0:
        value = -value
    expected = theirs._apply_image_or_video_transform(image, TORCHVISION[name], value, "nearest", theirs._fill)
    changed = OPERATIONS[name](image, magnitude)
    assert (changed.shape, changed.dtype, changed.is_contiguous()) == (image.shape, torch.uint8, True)
    # Their magnitudes are fp32: what is close to the middle between two values may be rounded to either.
    assert int((changed.int() - expected.int()).abs().max()) <= (1 if name == "colour" else 0)


def test_all_operations_are_torchvisions() -> None:
    assert set(v2.RandAugment._AUGMENTATION_SPACE) == set(TORCHVISION.values())
    assert list(OPERATIONS) == list(TORCHVISION)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "identity"])
def test_operations_change_the_image(name: str) -> None:
    image = chw(photograph(32, 32)) // 2 + 100
    before = image.clone()
    changed = OPERATIONS[name](image, MAGNITUDE)
    assert (changed.shape, changed.dtype) == (image.shape, torch.uint8)
    assert not torch.equal(changed, image)
    assert torch.equal(image, before)


def test_a_blend_holds_its_share_of_each() -> None:
    one, other = torch.full((3, 8, 8), 200, dtype=torch.uint8), torch.full((3, 8, 8), 100, dtype=torch.uint8)
    for seed in range(50):
        mixed, share = mix(one, other, "mixup", np.random.default_rng(seed), 1.0)
        assert mixed.dtype == torch.uint8
        assert (mixed == round(100 + 100 * share)).all()


@pytest.mark.parametrize("shape", [(32, 32), (7, 19), (1, 1)])
def test_the_share_is_the_area_that_is_left(shape: tuple[int, int]) -> None:
    one, other = torch.zeros(3, *shape, dtype=torch.uint8), torch.ones(3, *shape, dtype=torch.uint8)
    for seed in range(200):
        mixed, share = mix(one, other, "cutmix", np.random.default_rng(seed), 1.0)
        assert share == pytest.approx(int((mixed == 0).sum()) / mixed.numel(), abs=1e-12)
        rows, columns = mixed[0].any(1).nonzero(), mixed[0].any(0).nonzero()
        assert int(mixed[0].sum()) == len(rows) * len(columns), "a rectangle"


@pytest.mark.parametrize("kind", MIXINGS)
def test_shares_are_spread(kind: Mixing) -> None:
    one = torch.zeros(3, 32, 32, dtype=torch.uint8)
    even, uneven = (
        np.array([mix(one, one, kind, np.random.default_rng(seed), alpha).share for seed in range(300)]) for alpha in (1.0, 0.1)
    )
    assert 0 <= even.min() < 0.1 < 0.9 < even.max() <= 1
    assert np.abs(uneven - 0.5).mean() > np.abs(even - 0.5).mean() + 0.05


def test_images_of_two_sizes_do_not_mix() -> None:
    one, other = torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 5, dtype=torch.uint8)
    with pytest.raises(AssertionError, match=r"\(3, 4, 4\) and \(3, 4, 5\)"):
        mix(one, other, "mixup", np.random.default_rng(0), 1.0)
