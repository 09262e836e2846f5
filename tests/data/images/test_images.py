"""Corpora of images: TinyWorld's scenes, and images in files."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnictl.config.split import SPLITS, Split
from omnictl.data.images import file_corpus, tinyworld
from omnictl.data.images.augmentation import augment, prepare
from omnictl.data.images.corpus import ImageDataConfig, Int64, Pixels, View
from omnictl.data.images.file_corpus import FINER, ImageFiles
from omnictl.data.images.files.decoder import read_image
from omnictl.data.images.layouts import find_images
from omnictl.data.images.source import open_images
from omnictl.data.images.tinyworld import BACKGROUND, ENDLESS, TinyWorldImages, class_prompts, label_patches
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.manifest.source import TINYWORLD_SEED
from omnictl.errors import DataError
from omnictl.tinyworld.images.renderer import draw
from omnictl.tinyworld.images.scenes import HELDOUT_EVERY, HELDOUT_PAIRS, Figure, Scene, scene, sentence
from omnictl.tinyworld.language.lexicon import COLOURS, PLACES, SHAPES
from omnictl.tinyworld.topics.images import Item

VIEW = View(size=24, grid=3)
WORLD = TinyWorldImages(0, 6, ("shape", "colour"))

# TinyWorld


def test_tinyworld_says_what_the_world_says() -> None:
    sizes = {"train": ENDLESS, "val": 3, "test": 6}
    for split in SPLITS:
        found = WORLD.images(split, "labels", WORLD.attributes)
        assert len(found) == sizes[split]
        assert not found.set_aside
        for index in range(3):
            drawn, row = scene(0, split, index), found.row(index)
            assert (row.labels, row.caption, row.image) == (drawn.labels(), drawn.caption, None)
            assert (row.id, row.where) == (f"{split}/{index}", f"tinyworld:0/{split}/{index}")
    assert not WORLD.broken


def test_tinyworld_looks_as_it_is_drawn_whatever_the_seed() -> None:
    found = WORLD.images("train", "labels", WORLD.attributes)
    for index in (0, 1, 10**9):
        drawn = draw(scene(0, "train", index), VIEW.size)
        for seed in (None, (1, 2), (3, 4)):
            shown = found.example(index, VIEW, seed)
            assert np.array_equal(shown.image, drawn.image)
            assert np.array_equal(shown.patches, label_patches(scene(0, "train", index), drawn.owners, VIEW.grid))


def test_every_label_of_a_scene_is_among_the_values() -> None:
    seen: dict[str, set[str]] = {name: set() for name in WORLD.attributes}
    for index in range(400):
        labels = scene(0, "train", index).labels()
        assert list(labels) == list(WORLD.attributes)
        for name, value in labels.items():
            seen[name].add(value)
    assert seen == {name: set(values) for name, values in WORLD.attributes.items()}
    assert WORLD.patch_attributes == {
        "shape": (BACKGROUND, *SHAPES),
        "colour": (BACKGROUND, *COLOURS),
        "size": (BACKGROUND, "small", "big"),
        "place": (BACKGROUND, *PLACES),
        "count": (BACKGROUND, "one", "two", "three"),
    }


def test_pairs_that_training_never_shows_are_unseen() -> None:
    pairs = {(shape, colour) for colour, shape in HELDOUT_PAIRS}
    assert WORLD.unseen == pairs
    assert replace(WORLD, top1=("colour", "shape")).unseen == HELDOUT_PAIRS
    assert replace(WORLD, top1=("shape",)).unseen == replace(WORLD, top1=("shape", "colour", "size")).unseen == frozenset()

    def of(split: Split, index: int) -> tuple[str, ...]:
        labels = WORLD.images(split, "labels", WORLD.attributes).row(index).labels
        return labels["shape"], labels["colour"]

    assert not pairs & {of("train", index) for index in range(500)}
    assert [of("test", index) in pairs for index in range(40)] == [index % HELDOUT_EVERY == 0 for index in range(40)]


def test_the_source_of_a_config_is_opened(tmp_path: Path) -> None:
    config = ImageDataConfig(num_eval_images=6)
    assert open_images(config, tmp_path) == replace(WORLD, seed=TINYWORLD_SEED)
    assert open_images(config, tmp_path).name == "tinyworld"
    other = open_images(config.model_copy(update={"source": "tinyworld:5", "top1": ("size",)}), tmp_path)
    assert (other, other.name) == (TinyWorldImages(5, 6, ("size",)), "tinyworld:5")
    folder = write_corpus(tmp_path, [{"label": "cat"}, {"label": "dog"}])
    assert isinstance(open_images(config.model_copy(update={"source": str(folder)}), tmp_path / "cache"), ImageFiles)


def test_the_vocabulary_comes_from_training_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tinyworld, "VOCABULARY_SCENES", 4)
    assert list(WORLD.captions()) == [scene(0, "train", index).caption for index in range(4)]


def test_prompts_of_tinyworld_are_captions_of_its_scenes() -> None:
    prompted = 0
    for index in range(100):
        found = scene(0, "train", index)
        labels = {name: found.labels()[name] for name in ("shape", "colour")}
        prompts = class_prompts("tinyworld:3", labels)
        assert len(set(prompts)) == 18
        of_main_alone = found.caption == sentence(found.figures[0].item.phrase())
        assert (found.caption in prompts) == of_main_alone
        prompted += of_main_alone
    assert 30 < prompted < 70


@pytest.mark.parametrize(
    ("source", "labels", "prompt"),
    [
        ("tinyworld", {"shape": "star", "size": "big"}, "big star"),
        ("my/images", {"shape": "star", "colour": "red"}, "red star"),
        ("my/images", {"label": "grey cat"}, "grey cat"),
    ],
)
def test_other_prompts_are_the_words_of_the_labels(source: str, labels: dict[str, str], prompt: str) -> None:
    assert class_prompts(source, labels) == (prompt,)


# Patches


def labels_by_loops(found: Scene, owners: Pixels, grid: int) -> list[list[int]]:
    """The rule of `label_patches`, pixel by pixel."""
    side = len(owners) // grid
    covers = [[0] * len(found.figures) for _ in range(grid * grid)]
    for y, row in enumerate(owners.tolist()):
        for x, owner in enumerate(row):
            if owner:
                covers[y // side * grid + x // side][owner - 1] += 1
    shown: list[int | None] = []
    for cover in covers:
        best = max(range(len(cover)), key=cover.__getitem__)
        shown.append(best if 4 * cover[best] >= side * side else None)
    for number in range(len(found.figures)):
        left = [patch for patch in range(grid * grid) if shown[patch] is None and covers[patch][number]]
        if left and number not in shown:
            shown[max(left, key=lambda patch, number=number: covers[patch][number])] = number
    items = [figure.item for figure in found.figures]
    counts = Counter(item.shape for item in items)
    return [[0] * 5 if number is None else facts_of(items[number], counts[items[number].shape]) for number in shown]


def facts_of(item: Item, like: int = 1) -> list[int]:
    """Shape, colour, size and place by number, counted from one, and how many like it there are."""
    facts = SHAPES.index(item.shape), COLOURS.index(item.colour), ("small", "big").index(item.size), list(PLACES).index(item.place)
    return [*(1 + number for number in facts), like]


@pytest.mark.parametrize(("size", "grid"), [(28, 7), (32, 4), (30, 15), (24, 1)])
def test_patches_are_labelled_as_by_loops_over_pixels(size: int, grid: int) -> None:
    backgrounds = 0
    for index in range(15):
        found = scene(1, "val", index)
        owners = draw(found, size).owners
        labels = label_patches(found, owners, grid)
        assert labels.dtype == np.int64
        assert labels.tolist() == labels_by_loops(found, owners, grid)
        backgrounds += int((labels == 0).all(1).sum())
        assert ((labels == 0).all(1) == (labels == 0).any(1)).all()  # nothing has a shape without a colour
        assert labels.any()
    assert backgrounds > 0 or grid == 1


def scene_of(*kinds: tuple[str, str]) -> Scene:
    figures = tuple(Figure(Item("big", colour, shape, "in the middle"), 0.5, 0.5, 0.1, 0.0, (0, 0, 0)) for shape, colour in kinds)
    return replace(scene(0, "train", 0), figures=figures)


def owners_of(*patches: Mapping[int, int]) -> Pixels:
    """Four patches of 4 × 4 pixels, in which each figure covers so many."""
    tiles = [np.repeat([*patch, 0], [*patch.values(), 16 - sum(patch.values())]).reshape(4, 4) for patch in patches]
    return np.block([[tiles[0], tiles[1]], [tiles[2], tiles[3]]]).astype(np.uint8)


CIRCLE, STAR = facts_of(Item("big", "red", "circle", "in the middle")), facts_of(Item("big", "white", "star", "in the middle"))
GROUND = [0] * 5


@pytest.mark.parametrize(
    ("covered", "expected"),
    [
        ([{1: 4}, {1: 3}, {}, {2: 16}], [CIRCLE, GROUND, GROUND, STAR]),  # a quarter is enough
        ([{1: 8, 2: 5}, {}, {2: 6}, {}], [CIRCLE, GROUND, STAR, GROUND]),  # what covers more
        ([{1: 5, 2: 6}, {}, {1: 7}, {}], [STAR, GROUND, CIRCLE, GROUND]),
        ([{1: 3}, {1: 2}, {}, {2: 1}], [CIRCLE, GROUND, GROUND, STAR]),  # what is small is seen where most of it is
        ([{1: 9, 2: 3}, {2: 1}, {}, {2: 2}], [CIRCLE, GROUND, GROUND, STAR]),  # or, if another is seen there, of the rest
        ([{1: 3, 2: 3}, {}, {2: 1}, {}], [CIRCLE, GROUND, STAR, GROUND]),
        ([{1: 3, 2: 3}, {1: 2}, {}, {}], [CIRCLE, GROUND, GROUND, GROUND]),  # none is left
        ([{}, {1: 16}, {}, {}], [GROUND, CIRCLE, GROUND, GROUND]),  # the star is hidden
    ],
)
def test_patches_show_what_covers_them(covered: Sequence[Mapping[int, int]], expected: list[list[int]]) -> None:
    labels: Int64 = label_patches(scene_of(("circle", "red"), ("star", "white")), owners_of(*covered), 2)
    assert labels.tolist() == expected


# Files


def write_image(path: Path, *, size: tuple[int, int] = (24, 24), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


def write_corpus(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A manifest of images `0.png`, `1.png`, …; files that are there already are left alone."""
    lines = [json.dumps({"image": f"{number}.png", **row}) + "\n" for number, row in enumerate(rows)]
    (folder / "metadata.jsonl").write_text("".join(lines))
    for number in range(len(rows)):
        if not (folder / f"{number}.png").exists():
            write_image(folder / f"{number}.png", seed=number)
    return folder


def files(folder: Path, **settings: Any) -> ImageFiles:
    return ImageFiles(find_images(folder), ImageDataConfig(source=str(folder), **settings), cache_dir())


def row(label: object, split: Split = "train", caption: str | None = None) -> dict[str, object]:
    return {"label": label, "split": split, "caption": caption}


def test_class_folders_are_classes(tmp_path: Path) -> None:
    for number, name in enumerate(["dog/b.png", "cat/a.png", "cat/b.png"]):
        for split in SPLITS:
            write_image(tmp_path / split / name, seed=number)
    corpus = files(tmp_path)
    assert (corpus.name, corpus.top1, corpus.broken) == (str(tmp_path), ("label",), ())
    assert corpus.attributes == {"label": ("cat", "dog")}
    assert corpus.patch_attributes == {}
    found = corpus.images("val", "labels", corpus.attributes)
    assert [found.row(index).labels["label"] for index in range(len(found))] == ["cat", "cat", "dog"]
    assert found.row(0) == ("val/cat/a.png", f"{tmp_path}/val/cat/a.png", {"label": "cat"}, None, tmp_path / "val/cat/a.png")


def test_attributes_are_those_of_the_training_split(tmp_path: Path) -> None:
    write_corpus(
        tmp_path,
        [
            row({"shape": "star", "colour": "red"}),
            row({"shape": "ring"}),
            row({"shape": "moon", "size": "big"}, "test"),
            row({"shape": "star", "size": "big"}, "test"),
            row({"shape": "star", "colour": "blue"}, "test"),
            row({"colour": "red"}, "test"),
            row({"shape": "ring"}, "val"),
        ],
    )
    corpus = files(tmp_path)
    assert corpus.attributes == {"shape": ("ring", "star"), "colour": ("red",)}
    assert corpus.top1 == tuple(corpus.attributes) == ("shape", "colour")  # as they first appear
    found = corpus.images("test", "labels", corpus.attributes)
    assert [found.row(index).id for index in range(len(found))] == ["5.png"]
    assert found.set_aside == (
        ("2.png", f"{tmp_path}/metadata.jsonl:3", "the shape 'moon' is in no row of the training split"),
        ("3.png", f"{tmp_path}/metadata.jsonl:4", "the attribute 'size' is in no row of the training split"),
        ("4.png", f"{tmp_path}/metadata.jsonl:5", "the colour 'blue' is in no row of the training split"),
    )


def test_attributes_are_in_the_order_in_which_they_first_appear(tmp_path: Path) -> None:
    """Of the rows that are trained on and can be read."""
    (tmp_path / "1.png").write_text("this is no image")
    rows = [
        row({"size": "big"}, "test"),
        row({"place": "here"}),
        row({"shape": "star", "colour": "red"}),
        row({"age": 3, "colour": "blue", "place": "there", "size": "small"}),
        row({"size": "big", "age": 12}),
    ]
    corpus = files(write_corpus(tmp_path, rows))
    assert list(corpus.attributes.items()) == [
        ("shape", ("star",)),
        ("colour", ("blue", "red")),
        ("age", ("3", "12")),
        ("place", ("there",)),
        ("size", ("big", "small")),
    ]


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, ("size",)),  # the first one, however many values it has
        (3, ("size",)),
        (11, ("size",)),
        (12, ("size", "colour", "kind")),  # one more that has a single value costs nothing
        (23, ("size", "colour", "kind")),
        (24, ("size", "colour", "kind", "age")),
        (1_000, ("size", "colour", "kind", "age")),
    ],
)
def test_without_a_choice_the_first_attributes_that_are_not_too_many_name_a_class(
    most: int, expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 sizes × 4 colours × 1 kind × 2 ages; an attribute behind one that is too many is not taken."""
    labels = [{"size": n % 3, "colour": n, "kind": "cat", "age": n % 2} for n in range(4)]
    monkeypatch.setattr(file_corpus, "MOST_CLASSES", most)
    write_corpus(tmp_path, [row(label) for label in labels])
    assert files(tmp_path, val_fraction=0).top1 == expected
    assert files(tmp_path, val_fraction=0, top1=("age", "size", "colour")).top1 == ("age", "size", "colour")  # as chosen


def test_a_thousand_classes_are_not_too_many() -> None:
    assert file_corpus.MOST_CLASSES == 1_000


def test_without_labels_nothing_names_a_class(tmp_path: Path) -> None:
    corpus = files(write_corpus(tmp_path, [row(None, caption="a cat"), row(None, "val", caption="a dog")]))
    assert (corpus.attributes, corpus.top1, corpus.unseen) == ({}, (), frozenset())


def test_what_a_model_does_not_know_is_set_aside(tmp_path: Path) -> None:
    corpus = files(write_corpus(tmp_path, [row("cat"), row("dog"), row("dog", "val")]))
    found = corpus.images("train", "labels", {"label": ("dog", "fox")})
    assert [found.row(index).labels for index in range(len(found))] == [{"label": "dog"}]
    assert [aside.message for aside in found.set_aside] == ["the label 'cat' is in no row of the training split"]


def test_rows_without_what_is_needed_are_set_aside(tmp_path: Path) -> None:
    rows = [row("cat", caption="a cat"), row(None, caption="a dog"), row("dog"), row("cat", "val", caption="the cat")]
    corpus = files(write_corpus(tmp_path, rows))
    for needs, missing, line in (("labels", "no label", 2), ("caption", "no caption", 3)):
        found = corpus.images("train", needs, corpus.attributes)  # type: ignore[arg-type]
        assert found.set_aside == ((f"{line - 1}.png", f"{tmp_path}/metadata.jsonl:{line}", missing),)
        assert len(found) == 2
        assert found.row(0) == ("0.png", f"{tmp_path}/metadata.jsonl:1", {"label": "cat"}, "a cat", tmp_path / "0.png")


def test_a_caption_is_enough_where_labels_are_not_needed(tmp_path: Path) -> None:
    """Whatever they are."""
    corpus = files(write_corpus(tmp_path, [row("cat", caption="a cat"), row("fox", "test", caption="a fox")]), val_fraction=0)
    assert len(corpus.images("test", "caption", corpus.attributes)) == 1


def test_values_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    labels = [10, 9, "two", 1, "one", 100]
    corpus = files(write_corpus(tmp_path, [row(label) for label in labels]), val_fraction=0, test_fraction=0)
    assert corpus.attributes == {"label": ("1", "9", "10", "100", "one", "two")}


def test_captions_are_those_of_the_training_split(tmp_path: Path) -> None:
    rows = [row("cat", caption="one"), row("cat"), row("cat", caption="two"), row("cat", "val", caption="three")]
    assert list(files(write_corpus(tmp_path, rows)).captions()) == ["one", "two"]


def test_without_captions_there_is_no_vocabulary(tmp_path: Path) -> None:
    corpus = files(write_corpus(tmp_path, [row("cat"), row("cat", "val", caption="three")]))
    with pytest.raises(DataError) as caught:
        corpus.captions()
    assert caught.value.message == f"no row of the training split of {tmp_path} has a caption"
    assert caught.value.where == str(tmp_path)
    assert caught.value.fix == "give rows a `caption`, or learn from labels with --set objective=classes"


PAIRS = [("red", "star"), ("red", "ring"), ("blue", "star"), ("blue", "star")]


def test_combinations_that_training_does_not_show_are_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row({"colour": colour, "shape": shape, "size": "big"}) for colour, shape in PAIRS]
    rows += [row({"colour": "green"}), row({"colour": "blue", "shape": "ring", "size": "big"}, "test")]
    write_corpus(tmp_path, rows)
    pairs = {"val_fraction": 0, "top1": ("shape", "colour")}
    assert files(tmp_path, **pairs).unseen == {("ring", "blue"), ("ring", "green"), ("star", "green")}
    assert files(tmp_path, val_fraction=0, top1=("shape",)).unseen == frozenset()
    assert len(files(tmp_path, val_fraction=0).unseen) == 3  # of all three
    monkeypatch.setattr(file_corpus, "MOST_CLASSES", 5)
    assert files(tmp_path, **pairs).unseen == frozenset()  # too many to name


def test_nothing_is_unseen_of_what_there_is_not(tmp_path: Path) -> None:
    """The config is refused later, with its key."""
    rows = [row({"colour": colour, "shape": shape}) for colour, shape in PAIRS]
    assert files(write_corpus(tmp_path, rows), top1=("shape", "taste")).unseen == frozenset()


def test_what_cannot_be_read_is_broken_wherever_it_is(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_text("this is no image")
    write_image(tmp_path / "3.png")
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:200])
    splits: list[Split] = ["train", "train", "train", "val", "val", "test"]
    write_corpus(tmp_path, [row("cat", split) for split in splits])
    (tmp_path / "5.png").unlink()
    corpus = files(tmp_path)
    index = f"{tmp_path}/metadata.jsonl"
    assert [(broken.id, broken.where) for broken in corpus.broken] == [
        ("5.png", f"{index}:6"),  # known before anything is decoded
        ("1.png", f"{index}:2"),
        ("3.png", f"{index}:4"),
    ]
    missing, no_image, cut = (broken.message for broken in corpus.broken)
    assert missing == f"no such image file: {tmp_path}/5.png"
    assert no_image.startswith(f"{tmp_path}/1.png is not a JPEG, PNG, WebP, GIF or BMP file: it begins with ")
    assert cut.startswith(f"{tmp_path}/3.png is cut off")
    for split, names in (("train", ["0.png", "2.png"]), ("val", ["4.png"])):
        found = corpus.images(split, "labels", corpus.attributes)  # type: ignore[arg-type]
        assert [found.row(number).id for number in range(len(found))] == names
        assert not found.set_aside


def test_classes_of_broken_images_are_not_learned(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_text("this is no image")
    corpus = files(write_corpus(tmp_path, [row("cat"), row("fox"), row("cat", "val")]))
    assert corpus.attributes == {"label": ("cat",)}


@pytest.mark.parametrize(
    ("rows", "split", "needs", "message", "line", "fix"),
    [
        (
            [row("cat"), row("dog")],
            "test",
            "labels",
            "no image of the test split of FOLDER can be used (train 1, val 1, test 0 images)",
            None,
            "give rows with a label, or --set data.test_fraction=0.1",
        ),
        (
            [row("cat"), row("fox", "val"), row("dog", "val")],
            "val",
            "labels",
            "no image of the val split of FOLDER can be used (train 1, val 2, test 0 images); "
            "the first of 2 rows: the label 'fox' is in no row of the training split",
            2,
            "give rows with a label, or --set data.val_fraction=0.1",
        ),
        (
            [row("cat", "val", "a cat"), row("dog")],
            "train",
            "caption",
            "no image of the train split of FOLDER can be used (train 1, val 1, test 0 images); the first of 1 rows: no caption",
            2,
            "give rows with a caption",
        ),
    ],
)
def test_a_split_of_nothing_is_an_error(
    rows: Sequence[Mapping[str, Any]], split: Split, needs: Any, message: str, line: int | None, fix: str, tmp_path: Path
) -> None:
    corpus = files(write_corpus(tmp_path, rows), test_fraction=0)
    with pytest.raises(DataError) as caught:
        corpus.images(split, needs, corpus.attributes)
    assert caught.value.message == message.replace("FOLDER", str(tmp_path))
    assert caught.value.where == (str(tmp_path) if line is None else f"{tmp_path}/metadata.jsonl:{line}")
    assert caught.value.fix == fix


@pytest.mark.parametrize(("setting", "kind"), [("auto", "light"), ("light", "light"), ("strong", "strong"), ("none", "none")])
def test_training_images_are_varied_as_the_config_says(setting: Any, kind: Any, tmp_path: Path) -> None:
    write_image(tmp_path / "0.png", size=(40, 90))
    corpus = files(write_corpus(tmp_path, [row("cat"), row("cat", "val")]), augmentation=setting)
    found = corpus.images("train", "labels", corpus.attributes)
    pixels = read_image(tmp_path / "0.png")
    plain = prepare(pixels, VIEW.size, crop=1.0).numpy()
    for seed in ((1, 2), (3, 4), (5, 6)):
        shown = found.example(0, VIEW, seed)
        assert np.array_equal(shown.image, augment(pixels, VIEW.size, kind, seed).numpy())
        assert np.array_equal(shown.image, plain) == (kind == "none")
        assert shown.patches.shape == (0, 0)
    assert np.array_equal(found.example(0, VIEW).image, plain)


def test_large_images_are_reduced_before_they_are_cut(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png", size=(150, 200))
    corpus = files(write_corpus(tmp_path, [row("cat"), row("cat", "val")]))
    found = corpus.images("train", "labels", corpus.attributes)
    pixels = read_image(tmp_path / "0.png", shorter=FINER * VIEW.size)
    assert min(pixels.shape[:2]) == FINER * VIEW.size
    assert np.array_equal(found.example(0, VIEW, (1, 2)).image, augment(pixels, VIEW.size, "light", (1, 2)).numpy())
    assert np.array_equal(found.example(0, VIEW).image, prepare(pixels, VIEW.size, crop=1.0).numpy())
