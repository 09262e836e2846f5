import errno
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from corpus_files import write_rows
from PIL import Image

from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.dialogues.manifest import DialogueRow, MediaFile, read_dialogues
from omnictl.data.dialogues.source import open_dialogues
from omnictl.data.images.corpus import ImageDataConfig
from omnictl.data.images.describe import dialogues_file
from omnictl.data.images.describe.describe_images import DescribeReport, Wording, describe_images, read_names
from omnictl.data.images.describe.yes_no_balance import MOST_DUE
from omnictl.data.images.file_corpus import ImageFiles
from omnictl.data.images.source import open_images
from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import DataError, DiskFull, OmniError, UsageError

ANIMALS = {"cat": 20, "dog": 60, "fire_truck": 200, "airplane": 240}
"""Labels, and how bright their images are."""


def write_image(path: Path, brightness: int, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), (brightness, brightness, number % 256), np.uint8)).save(path, compress_level=0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of 4 × 40 images, 8 of each the test; not to be changed."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    for label, brightness in ANIMALS.items():
        for number in range(40):
            write_image(folder / ("test" if number < 8 else "train") / label / f"{number}.png", brightness, number)
    return folder


def make(source: Path, out: Path, *, seed: int = 1, **options: object) -> DescribeReport:
    return describe_images(str(source), out, seed=seed, **options)  # type: ignore[arg-type]


def rows_of(out: Path) -> tuple[DialogueRow, ...]:
    manifest = read_dialogues(out)
    assert manifest.broken == ()
    return manifest.rows


def said(row: DialogueRow) -> list[str]:
    return [part for message in row.messages for part in message.parts if isinstance(part, str)]


def label_of(row: DialogueRow) -> str:
    return row.file.parent.name.replace("_", " ")


def test_class_folders_become_dialogues_in_the_splits_of_vision(folders: Path) -> None:
    out = folders.parent / "dialogues.jsonl"
    report = make(folders, out)
    rows = rows_of(out)
    assert report.tasks.keys() == {"naming", "yes_no", "several_turns"}
    for split in ("train", "val", "test"):
        vision = open_images(ImageDataConfig(source=str(folders)), cache_dir())
        assert isinstance(vision, ImageFiles)
        files = {row.image for row in vision.rows(split)}
        assert {row.file for row in rows if row.split == split} == files
        assert report.images[split] == len(files)
        counts = Counter(row.task for row in rows if row.split == split)
        assert {task: counts[split] for task, counts in report.tasks.items()} == counts
    assert report.images["test"] == 32
    assert (report.num_copied, report.set_aside) == (0, ())


def test_answers_are_true_and_questions_show_the_image_first(folders: Path, tmp_path: Path) -> None:
    make(folders, tmp_path / "d.jsonl")
    articles = {"cat": "a cat", "dog": "a dog", "fire truck": "a fire truck", "airplane": "an airplane"}
    for row in rows_of(tmp_path / "d.jsonl"):
        truth = articles[label_of(row)]
        assert isinstance(row.messages[0].parts[0], MediaFile)
        assert len(row.media) == 1
        questions, answers = said(row)[::2], said(row)[1::2]
        for question, answer in zip(questions, answers, strict=True):
            asked = next((phrase for phrase in articles.values() if phrase in question), None)
            if asked is None:
                assert answer == f"{truth.capitalize()}."
            else:
                assert answer == f"This is {truth}, so {'yes' if asked == truth else 'no'}."


def test_yes_and_no_are_balanced_for_every_label_that_is_asked_about(folders: Path, tmp_path: Path) -> None:
    make(folders, tmp_path / "d.jsonl")
    verdicts: Counter[tuple[str, bool]] = Counter()
    for row in rows_of(tmp_path / "d.jsonl"):
        if row.task == "yes_no" and row.split == "train":
            question, answer = said(row)
            asked = next(label for label in ANIMALS if label.replace("_", " ") in question)
            verdicts[asked, answer.endswith("yes.")] += 1
    assert all(verdicts[label, True] > 5 for label in ANIMALS)
    assert all(abs(verdicts[label, True] - verdicts[label, False]) <= MOST_DUE for label in ANIMALS)


def test_the_seed_alone_decides(folders: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make(folders, tmp_path / name / "d.jsonl", seed=seed)
    one, same, other = ((tmp_path / name / "d.jsonl").read_bytes() for name in "abc")
    assert one == same != other


def test_a_row_more_leaves_the_wording_of_the_others(folders: Path, tmp_path: Path) -> None:
    rows = [{"image": f"{n}.png", "label": "cat" if n % 2 else "dog", "split": "train"} for n in range(9)]
    for number in range(9):
        write_image(tmp_path / f"{number}.png", 9, number)
    naming = []
    for count in (8, 9):
        source = write_rows(tmp_path / f"{count}.jsonl", *rows[:count])
        make(source, tmp_path / f"d{count}.jsonl")
        naming.append({row.id: said(row) for row in rows_of(tmp_path / f"d{count}.jsonl") if row.task == "naming"})
    assert naming[0].items() < naming[1].items()


@pytest.fixture
def cars(tmp_path: Path) -> Path:
    """A manifest of twelve images with several attributes, most with a caption."""
    rows = []
    for number in range(12):
        write_image(tmp_path / "images" / f"{number}.png", 20 * number)
        label = {"colour": ("red", "blue", "green")[number % 3], "wheels": 3 + number % 2, "parked": number % 4 == 0}
        caption = None if number == 11 else f"car number {number}"
        split = ("train", "train", "val", "test")[number // 3]
        rows.append({"image": f"images/{number}.png", "label": label, "caption": caption, "split": split})
    return write_rows(tmp_path / "metadata.jsonl", *rows)


def test_a_manifest_with_attributes_and_captions(cars: Path) -> None:
    report = make(cars, cars.with_name("dialogues.jsonl"))
    rows = rows_of(cars.with_name("dialogues.jsonl"))
    assert set(report.tasks) == {"attribute_colour", "attribute_wheels", "yes_no", "description", "several_turns"}
    by_id = {row.id: said(row) for row in rows}
    assert by_id["images/0.png: colour"][1] == "The colour is red."
    assert by_id["images/1.png: wheels"][1] == "There are four wheels."
    assert by_id["images/2.png: description 1"][1] == "Car number 2."
    assert "images/11.png: description 1" not in by_id
    assert "1 of 12 images have no captions, and no questions that need them" in report.notes
    turns = [said(row) for row in rows if row.task == "several_turns"]
    assert {len(texts) for texts in turns} == {4, 6}
    assert all(len(set(texts[::2])) == len(texts) / 2 for texts in turns)
    assert {message.parts for row in rows for message in row.messages} >= {("Yes.",), ("No.",)}


def test_every_sentence_about_an_image_is_a_description(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 1)
    write_image(tmp_path / "b.png", 2)
    rows = [{"image": "a.png", "caption": text} for text in ("a cat", "a sofa\n with a cat", "a cat")]
    source = write_rows(tmp_path / "m.jsonl", *rows, {"image": "b.png", "caption": "a dog"})
    report = make(source, tmp_path / "d.jsonl", max_broken=1.0)
    answers = {row.id: said(row)[1] for row in rows_of(tmp_path / "d.jsonl")}
    assert report.tasks.keys() == {"description"}
    assert answers.items() >= {("a.png: description 1", "A cat."), ("a.png: description 2", "A sofa with a cat.")}
    assert len(answers) == 3


# Where images lie


def test_images_elsewhere_are_copied_beside_the_file(folders: Path, tmp_path: Path) -> None:
    report = make(folders, tmp_path / "new" / "talk.jsonl", limit=2)
    rows = rows_of(tmp_path / "new" / "talk.jsonl")
    assert report.num_copied == sum(report.images.values()) == 6
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["talk.jsonl", "talk_images"]
    for row in rows:
        original = folders / row.file.relative_to(tmp_path / "new" / "talk_images")
        assert row.file.read_bytes() == original.read_bytes()


def test_names_with_white_space_in_front_and_links_are_followed(tmp_path: Path) -> None:
    for number in range(4):
        write_image(tmp_path / " photos" / "cat" / f"{number}.png", 10, number)
        write_image(tmp_path.with_name("elsewhere") / "dogs" / f"{number}.png", 90, number)
    (tmp_path / " photos" / "dog").symlink_to(tmp_path.with_name("elsewhere") / "dogs")
    report = make(tmp_path / " photos", tmp_path / "d.jsonl", max_broken=1.0)
    files = {row.file.relative_to(tmp_path).as_posix() for row in rows_of(tmp_path / "d.jsonl")}
    assert report.num_copied == 4
    assert files == {f"{place}/{number}.png" for place in (" photos/cat", "d_images/dog") for number in range(4)}


def test_images_unpacked_into_the_cache_are_copied_out_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNICTL_CACHE", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for number in range(4):
            write_image(tmp_path / "loose" / f"{number}.png", 10, number)
            (tmp_path / "loose" / f"{number}.txt").write_text(f"scene {number}")
            for suffix in ("png", "txt"):
                tar.add(tmp_path / "loose" / f"{number}.{suffix}", arcname=f"{number}.{suffix}")
    report = make(tmp_path / "set.tar", tmp_path / "d.jsonl")
    assert report.num_copied == 4
    assert all(row.file.is_relative_to(tmp_path / "d_images") for row in rows_of(tmp_path / "d.jsonl"))


def test_the_file_beside_class_folders_changes_nothing_for_vision(folders: Path) -> None:
    before = ImageFiles(open_manifest(folders), ImageDataConfig(), cache_dir()).rows("train")
    make(folders, folders / "dialogues.jsonl")
    after = ImageFiles(open_manifest(folders), ImageDataConfig(), cache_dir()).rows("train")
    (folders / "dialogues.jsonl").unlink()
    assert before == after


def open_manifest(folder: Path):  # type: ignore[no-untyped-def]
    from omnictl.data.images.layouts import find_images

    return find_images(folder)


# What is not used is named


def test_what_cannot_be_used_is_set_aside_with_the_reason(tmp_path: Path) -> None:
    for number in range(8):
        write_image(tmp_path / f"{number}.png", 20 * number)
    rows = [{"image": f"{n}.png", "label": "cat" if n % 2 else "dog", "split": "val" if n == 1 else "train"} for n in range(4)]
    rows += [
        {"image": "0.png", "label": "cat", "split": "train"},
        {"image": "4.png", "label": "cat", "split": "train"},
        {"image": "4.png", "label": "cat", "split": "test"},
        {"image": "5.png", "label": "owl", "caption": "an owl", "split": "test"},
        {"image": "gone.png", "label": "cat", "split": "test"},
    ]
    (tmp_path / "6.png").write_bytes((tmp_path / "6.png").read_bytes()[:-30])
    source = write_rows(tmp_path / "m.jsonl", *rows, {"image": "6.png", "label": "dog", "split": "train"})
    report = make(source, tmp_path / "d.jsonl", max_broken=1.0)
    reasons = {row.where.rpartition(":")[2]: row.message for row in report.set_aside}
    assert reasons["5"] == f"the label of this image is 'cat' here and 'dog' there: {source}:1; it is left out"
    assert reasons["6"] == reasons["7"] == f"the same image is in the train and in the test split: {source}:7"
    assert reasons["8"] == "the label 'owl' is in no row of the training split, so its labels are left out"
    assert reasons["9"].startswith("no such image file")
    assert "is cut off" in reasons["10"]
    rows_written = rows_of(tmp_path / "d.jsonl")
    assert {row.file.name for row in rows_written} == {"1.png", "2.png", "3.png", "5.png"}
    assert [said(row)[1] for row in rows_written if row.file.name == "5.png"] == ["An owl."]


def test_too_much_set_aside_is_refused(cars: Path) -> None:
    (cars.parent / "images" / "3.png").unlink()
    with pytest.raises(DataError) as refused:
        make(cars, cars.with_name("d.jsonl"))
    assert refused.value.message.startswith("1 of 12 rows cannot be used, allowed are 5%:\n")
    assert refused.value.fix.endswith("mend or remove them, or --max-broken 1")
    make(cars, cars.with_name("d.jsonl"), max_broken=1.0)


def test_one_label_alone_gives_no_yes_or_no(tmp_path: Path) -> None:
    for number in range(6):
        write_image(tmp_path / f"{number}.png", number)
    source = write_rows(tmp_path / "m.jsonl", *({"image": f"{n}.png", "label": "cat"} for n in range(6)))
    report = make(source, tmp_path / "d.jsonl")
    assert report.tasks.keys() == {"naming"}
    assert list(report.notes) == [
        "label has one value alone, 'cat': no yes or no questions are asked about it",
        "no attribute has two values: there are no yes or no questions",
    ]


def test_a_label_with_most_images_is_left_out_where_it_would_give_the_answer_away(tmp_path: Path) -> None:
    for number in range(40):
        write_image(tmp_path / f"{number}.png", number)
    rows = [{"image": f"{n}.png", "label": "cat" if n else "dog", "split": "val" if n > 37 else "train"} for n in range(40)]
    report = make(write_rows(tmp_path / "m.jsonl", *rows), tmp_path / "d.jsonl")
    assert report.tasks["yes_no"]["train"] < 10
    assert any("images of the train split have no yes or no question" in note for note in report.notes)


# Words


def test_names_of_labels(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"cat": "tabby", "airplane": "the old plane"}')
    make(folders, tmp_path / "d.jsonl", wording=Wording(None, read_names(tmp_path / "names.json")))
    answers = {said(row)[1] for row in rows_of(tmp_path / "d.jsonl") if row.task == "naming"}
    assert answers == {"A tabby.", "A dog.", "A fire truck.", "The old plane."}


def test_the_name_of_what_labels_are(folders: Path, tmp_path: Path) -> None:
    make(folders, tmp_path / "d.jsonl", wording=Wording("kind"))
    assert "The kind is fire truck." in {said(row)[1] for row in rows_of(tmp_path / "d.jsonl") if row.task == "attribute_kind"}


def test_codes_are_noted(tmp_path: Path) -> None:
    for label in ("n01440764", "n02102040"):
        for number in range(10):
            write_image(tmp_path / "photos" / label / f"{number}.png", 4, number)
    notes = make(tmp_path / "photos", tmp_path / "d.jsonl").notes
    assert notes[0] == "2 values of label are not words, such as 'n01440764': say what they are called with --names FILE"


# Refusals


@pytest.mark.parametrize(
    ("out", "message", "fix"),
    [
        ("d.json", "dialogues are written as .jsonl, not as .json", "--out d.jsonl"),
        ("d", "dialogues are written as .jsonl, not as a file without an ending", "--out d.jsonl"),
        ("taken.jsonl", "taken.jsonl is there already", "name a file that is not there yet, or remove it first"),
        ("half.jsonl", "half_images is there already", "name a file that is not there yet, or remove it first"),
        ("photos/metadata.jsonl", "photos/metadata.jsonl would be taken for the manifest", "--out photos/dialogues.jsonl"),
    ],
)
def test_places_that_are_refused(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, message: str, fix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(folders)
    (tmp_path / "taken.jsonl").write_text("mine")
    (tmp_path / "half_images").mkdir()
    with pytest.raises(UsageError) as refused:
        make(Path("photos"), Path(out))
    assert refused.value.message.startswith(message)
    assert refused.value.fix == fix
    assert (tmp_path / "taken.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    ("call", "message", "fix"),
    [
        (
            lambda folder, out: describe_images("tinyworld:7", out, seed=1),
            "TinyWorld has dialogues of its own",
            "--data tinyworld:7 --out",
        ),
        (lambda folder, out: make(folder / "gone", out), "no such file or folder", "check the path"),
        (lambda folder, out: make(folder / "train" / "cat", out), "has images in no class folder", "move each into a folder"),
        (
            lambda folder, out: make(folder, out, wording=Wording(None, {"dgo": "dog"})),
            "no training image has the label 'dgo'",
            "'dog'",
        ),
        (lambda folder, out: make(folder, out, wording=Wording(None, {"zzzzzz": "x"})), "no training image", "omnictl data stats"),
    ],
)
def test_sources_and_names_that_are_refused(
    folders: Path, tmp_path: Path, call: Callable[[Path, Path], object], message: str, fix: str
) -> None:
    with pytest.raises(OmniError) as refused:
        call(folders, tmp_path / "d.jsonl")
    assert message in refused.value.message
    assert fix in refused.value.fix
    assert list(tmp_path.iterdir()) == []


def test_a_name_for_labels_that_have_one(cars: Path) -> None:
    with pytest.raises(UsageError) as refused:
        make(cars, cars.with_name("d.jsonl"), wording=Wording("kind"))
    assert "its labels are called colour, wheels, parked" in refused.value.message
    assert refused.value.fix == "leave --label-name out"


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}', '{"a": " "}'])
def test_names_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(DataError) as refused:
        read_names(tmp_path / "names.json")
    assert refused.value.fix.startswith("write an object of labels and their words")


def test_a_full_disk_leaves_nothing(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(dialogues_file, "flush", full)
    with pytest.raises(DiskFull):
        make(folders, tmp_path / "d.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_room_for_copies_is_looked_for_first(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogues_file.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(DiskFull) as refused:
        make(folders, tmp_path / "d.jsonl")
    assert "where none are copied" in refused.value.fix
    assert list(tmp_path.iterdir()) == []


# Real data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("cifar10_mini", {"naming", "yes_no", "several_turns"}),
        ("openmoji", {"description", "attribute_group", "yes_no", "several_turns"}),
    ],
)
def test_real_images(test_data: Path, tmp_path: Path, name: str, tasks: set[str]) -> None:
    report = make(test_data / name, tmp_path / "d.jsonl")
    assert set(report.tasks) == tasks
    assert report.set_aside == ()
    corpus = open_dialogues(DialogueDataConfig(source=str(tmp_path / "d.jsonl")), cache_dir())
    assert corpus.broken == ()
    for split in ("train", "val", "test"):
        assert corpus.tasks(split) == {task: counts[split] for task, counts in report.tasks.items()}
    tests = {row.file for row in rows_of(tmp_path / "d.jsonl") if row.split == "test"}
    assert len(tests) == report.images["test"] > 200
    lines = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    verdicts = Counter(line["messages"][-1]["content"].endswith("yes.") for line in lines if line["task"] == "yes_no")
    assert 0.45 < verdicts[True] / verdicts.total() < 0.55
