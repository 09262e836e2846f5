import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stage_factory import unseal
from torch import Tensor

from omnictl.cli.app import run
from omnictl.cli.train.next_steps import next_commands
from omnictl.data.images.corpus import View
from omnictl.data.images.tinyworld import TinyWorldImages
from omnictl.features.zero_shot import CaptionReader
from omnictl.stages.vision import Vision
from omnictl.tinyworld.language.lexicon import COLOURS, SHAPES

Command = Callable[..., Any]

TRAIN = ("vision", "--preset", "debug", "--set", "train.precision=fp32", "--set", "data.num_eval_images=8", "--max-steps", "2")
CONTRAST = (*TRAIN, "--set", "objective=contrastive", "--set", "captions.width=32")


def trained_with(root: Path, *arguments: str) -> Path:
    assert run([*arguments, "--quiet", "--runs", str(root)]) == 0
    (path,) = (root / "vision").iterdir()
    return path


@pytest.fixture(scope="session")
def namer_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that names what TinyWorld shows. Not to be changed: `namer` is a copy."""
    return trained_with(tmp_path_factory.mktemp("namer"), *TRAIN)


@pytest.fixture(scope="session")
def matcher_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that matches TinyWorld's images and captions."""
    return trained_with(tmp_path_factory.mktemp("matcher"), *CONTRAST)


@pytest.fixture
def namer(namer_once: Path, runs: Path) -> Path:
    """In this test's run root."""
    return Path(shutil.copytree(namer_once, runs / "vision" / namer_once.name))


@pytest.fixture
def matcher(matcher_once: Path, runs: Path) -> Path:
    return Path(shutil.copytree(matcher_once, runs / "vision" / matcher_once.name))


def likely(count: int, *best: int) -> np.ndarray:
    """Three values with probabilities 0.6, 0.25 and 0.1, and the others with what is left."""
    shares = np.full(count, 0.05 / (count - 3), np.float32)
    shares[list(best)] = 0.6, 0.25, 0.1
    return shares


STAR, RING, MOON = map(SHAPES.index, ("star", "ring", "moon"))
RED, BLUE, PINK = map(COLOURS.index, ("red", "blue", "pink"))


@pytest.fixture
def sees(namer: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose model sees a red star in every image."""

    def name_image(self: Vision, image: Tensor) -> dict[str, np.ndarray]:
        assert (image.shape, image.dtype) == ((3, 32, 32), torch.uint8)
        return {"shape": likely(10, STAR, RING, MOON), "colour": likely(10, RED, BLUE, PINK)}

    monkeypatch.setattr(Vision, "name_image", name_image)
    return namer


@pytest.fixture
def matches(matcher: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose model takes the last caption for the likeliest."""

    def match(self: CaptionReader, images: np.ndarray, prompts: Sequence[Sequence[str]]) -> np.ndarray:
        assert images.shape == (1, 128)
        shares = np.arange(1, len(prompts) + 1, dtype=np.float32)
        return shares[None] / shares.sum()

    monkeypatch.setattr(CaptionReader, "match", match)
    return matcher


def photo(name: str, size: tuple[int, int] = (50, 70)) -> Path:
    """A file in the working directory."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).save(name)
    return Path(name)


SEEN = "shape star (0.60)  colour red (0.60)"
ENTRY = {
    "shape": [{"value": "star", "probability": 0.6}],
    "colour": [{"value": "red", "probability": 0.6}],
}


def test_what_an_image_shows(omnictl: Command, sees: Path) -> None:
    for name in ("a.png", "a.jpg", "a.webp", "a.gif", "a.bmp"):
        ended = omnictl("classify", photo(name))
        assert (ended.code, ended.out) == (0, f"{SEEN}\n")
        assert ended.err == f"classifying with {sees}\n"


def test_several_files_are_told_apart(omnictl: Command, sees: Path) -> None:
    ended = omnictl("classify", photo("a.png"), photo("some/b [x].jpg"))
    assert (ended.code, ended.out) == (0, f"a.png: {SEEN}\nsome/b [x].jpg: {SEEN}\n")


def test_json(omnictl: Command, sees: Path) -> None:
    ended = omnictl("classify", photo("a.png"), photo("b.png"), "--json")
    assert ended.code == 0
    assert ended.json == {
        "run": str(sees),
        "files": [{"image": "a.png", "attributes": ENTRY}, {"image": "b.png", "attributes": ENTRY}],
    }


def test_more_than_the_likeliest(omnictl: Command, sees: Path) -> None:
    ended = omnictl("classify", photo("a.png"), "--top", 3)
    assert ended.out == "shape star (0.60), ring (0.25), moon (0.10)  colour red (0.60), blue (0.25), pink (0.10)\n"
    values = omnictl("classify", "a.png", "--top", 99, "--json").json["files"][0]["attributes"]["shape"]
    assert {each["value"] for each in values} == set(SHAPES)
    assert omnictl("classify", "a.png", "--top", 0).code == 2


def test_a_broken_file_leaves_the_others_alone(omnictl: Command, sees: Path) -> None:
    photo("a.png")
    Path("broken.png").write_bytes(Path("a.png").read_bytes()[:1000])
    arguments = ("classify", "broken.png", "missing.png", "a.png")
    ended = omnictl(*arguments)
    assert (ended.code, ended.out) == (3, f"a.png: {SEEN}\n")
    assert "error: broken.png is cut off" in ended.err
    assert "error: no such file: missing.png\nfix: " in ended.err

    ended = omnictl(*arguments, "--json")
    broken, missing, whole = ended.json["files"]
    assert ended.code == 3
    assert list(broken) == ["image", "error"]
    assert missing["image"] == missing["error"]["where"] == "missing.png"
    assert list(missing["error"]) == ["kind", "where", "message", "fix"]
    assert missing["error"]["kind"] == "data"
    assert whole == {"image": "a.png", "attributes": ENTRY}
    assert "error: broken.png is cut off" in ended.err


def test_one_broken_file_is_an_error_like_any_other(omnictl: Command, sees: Path) -> None:
    ended = omnictl("classify", "missing.png", "--json")
    assert (ended.code, ended.json["error"]["kind"], ended.json["error"]["where"]) == (3, "data", "missing.png")
    ended = omnictl("classify", "missing.png")
    assert (ended.code, ended.out) == (3, "")


def test_a_model_of_classes_reads_no_captions(omnictl: Command, sees: Path) -> None:
    ended = omnictl("classify", photo("a.png"), "--caption", "a cat", "--json")
    assert (ended.code, ended.json["error"]["kind"], ended.json["error"]["where"]) == (2, "usage", "--caption")
    assert ended.json["error"]["message"] == "this model names the classes it was trained on and reads no captions"
    assert ended.json["error"]["fix"] == "leave --caption out, or train with --set objective=contrastive"


def test_captions_to_choose_from(omnictl: Command, matches: Path) -> None:
    captions = ("--caption", "a cat", "--caption", "a dog, asleep", "--caption", "a [red] fox")
    ended = omnictl("classify", photo("a.png"), *captions)
    assert (ended.code, ended.out) == (0, "caption a [red] fox (0.50)\n")
    ended = omnictl("classify", "a.png", *captions, "--top", 2, "--json")
    assert ended.json["files"][0]["attributes"] == {
        "caption": [{"value": "a [red] fox", "probability": 0.5}, {"value": "a dog, asleep", "probability": 0.3333}]
    }


def test_without_captions_the_classes_are_chosen_from(omnictl: Command, matches: Path) -> None:
    ended = omnictl("classify", photo("a.png"), "--top", 100, "--json")
    values = [each["value"] for each in ended.json["files"][0]["attributes"]["class"]]
    assert values[0] == f"{COLOURS[-1]} {SHAPES[-1]}"
    assert sorted(values) == sorted(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)


def test_a_model_of_captions_alone_must_be_told_what_to_choose_from(omnictl: Command, runs: Path, tmp_path: Path) -> None:
    rows = [{"image": str(photo(f"data/{number}.png").name), "caption": f"cat number {number}"} for number in range(20)]
    Path("data/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert omnictl(*CONTRAST, "--data", "data").code == 0
    ended = omnictl("classify", "data/0.png", "--json")
    assert (ended.code, ended.json["error"]["kind"], ended.json["error"]["where"]) == (2, "usage", "--caption")
    assert ended.json["error"]["message"] == "this model knows captions and no classes"
    assert ended.json["error"]["fix"] == "say what to choose from: --caption 'a cat' --caption 'a dog'"
    values = omnictl("classify", "data/0.png", "--caption", "one cat", "--json").json["files"][0]["attributes"]["caption"]
    assert values == [{"value": "one cat", "probability": 1.0}]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["namer", "matcher"])
def test_models_that_have_learned_nothing(model: str, omnictl: Command, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(model)
    for size in ((3, 200), (64, 64), (900, 300)):
        ended = omnictl("classify", photo("a.png", size), "--top", 100, "--json")
        assert ended.code == 0
        for values in ended.json["files"][0]["attributes"].values():
            shares = [each["probability"] for each in values]
            assert shares == sorted(shares, reverse=True)
            assert sum(shares) == pytest.approx(1, abs=0.01)


def test_an_image_is_classified_as_in_the_split(omnictl: Command, namer: Path) -> None:
    """It is kept as PNG at the size of the model, so nothing is lost."""
    judged = json.loads(Path(omnictl("eval", "vision", "--json").json["predictions"]).read_text().splitlines()[3])
    found = TinyWorldImages(1, 8, ("shape", "colour")).images("test", "labels", {})
    Image.fromarray(found.example(3, View(32, 4)).image.transpose(1, 2, 0)).save("a.png")
    values = omnictl("classify", "a.png", "--json").json["files"][0]["attributes"]
    assert judged["id"] == "test/3"
    colour, shape = values["colour"][0], values["shape"][0]
    assert f"{colour['value']} {shape['value']}" == judged["prediction"]
    assert colour["probability"] * shape["probability"] == pytest.approx(judged["probability"], abs=1e-4)


def test_without_a_run(omnictl: Command, runs: Path) -> None:
    ended = omnictl("classify", photo("a.png"), "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (4, "run")
    assert ended.json["error"]["message"] == f"no finished run of stage `vision` in {runs}"
    assert "omnictl vision" in ended.json["error"]["fix"]


def test_without_a_file(omnictl: Command) -> None:
    assert omnictl("classify").code == 2


def test_a_run_without_a_model(omnictl: Command, sees: Path) -> None:
    (sees / "model" / "model.safetensors").unlink()
    ended = omnictl("classify", photo("a.png"), "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (4, "checkpoint")


def test_the_data_it_was_trained_on_may_be_gone(omnictl: Command, sees: Path) -> None:
    unseal(sees / "model")  # or the changed description would be damage
    described = json.loads((sees / "model" / "config.json").read_text())
    described["config"]["data"]["source"] = "gone/images"
    (sees / "model" / "config.json").write_text(json.dumps(described))
    assert omnictl("classify", photo("a.png")).out == f"{SEEN}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_a_name_in_no_encoding(omnictl: Command, sees: Path) -> None:
    os.rename(photo("a.png"), b"\xff.png")  # noqa: PTH104  Path takes no bytes
    name = os.fsdecode(b"\xff.png")
    assert omnictl("classify", name, "--json").json["files"][0]["image"] == "\ufffd.png"
    assert omnictl("classify", name, name).out == f"\ufffd.png: {SEEN}\n" * 2
    Path(name).write_bytes(b"")
    broken, whole = omnictl("classify", name, photo("b.png"), "--json").json["files"]
    assert broken["error"]["message"] == "\ufffd.png is empty: 0 bytes"
    assert whole["attributes"] == ENTRY
    ended = omnictl("classify", name, "--json")
    assert (ended.code, ended.json["error"]["where"]) == (3, "\ufffd.png")


def test_training_says_how_to_go_on() -> None:
    assert next_commands("vision", "runs/x") == "  omnictl classify FILE --run runs/x"


# Judging


def opened(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


@pytest.mark.parametrize(("model", "headline", "task"), [("namer", "top1", "classify"), ("matcher", "recall_at_5", "retrieve")])
def test_a_run_is_judged_with_images(
    model: str, headline: str, task: str, omnictl: Command, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(model)
    ended = omnictl("eval", "vision", "--json")
    report, folder = ended.json, path / "eval" / "test"
    assert ended.code == 0
    assert (report["run"], report["num_examples"], report["headline"]["name"]) == (str(path), 8, headline)
    assert f"{headline}_shuffled_floor" in report["controls"]
    assert json.loads((folder / "report.json").read_text()) == report
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [(row["id"], row["task"]) for row in rows] == [(f"test/{number}", task) for number in range(8)]
    for name in ("confusion.png", "worst.png", "calibration.png"):
        assert min(opened((folder / name).read_bytes())) > 100
    assert {file.name for file in folder.iterdir()} == {
        "report.json", "predictions.jsonl", "confusion.png", "worst.png", "calibration.png",
    }  # fmt: skip


def test_people_get_a_table(omnictl: Command, namer: Path) -> None:
    ended = omnictl("eval", "vision", "--limit", 5)
    assert ended.code == 0
    for part in ("5 examples of the test split", "top1", "accuracy_colour", "patch_accuracy", "top1_shuffled", "precision"):
        assert part in ended.out
