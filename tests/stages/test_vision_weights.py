"""The weights of the vision stage: taken from another run, saved, opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from small_vision import CONTRASTIVE, PAIRS, Randomise, on_files, opened, run_of, stage_of, write_classes, write_corpus
from torch import Tensor

from omnictl.errors import CheckpointError, DataError
from omnictl.stages.vision import Vision


@pytest.fixture
def giver(randomise: Randomise) -> Vision:
    stage = stage_of()
    randomise(stage.model)
    return stage


def trunk_of(stage: Vision) -> dict[str, Tensor]:
    names = stage.model.state_dict().items()
    return {name: tensor for name, tensor in names if name.startswith("encoder.") and not name.startswith("encoder.head.")}


def rest_of(stage: Vision) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in stage.model.state_dict().items() if name not in trunk_of(stage)}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_all_weights_are_taken_where_the_same_is_named(giver: Vision, tmp_path: Path) -> None:
    taker = stage_of("train.seed=5", "data.source=tinyworld:4", init=run_of(giver, tmp_path))
    assert same(taker.model.state_dict(), giver.model.state_dict())


def test_heads_are_learned_anew_where_other_things_are_named(giver: Vision, tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "data", "cat", "dog")
    fresh, taker = on_files(folder), on_files(folder, init=run_of(giver, tmp_path))
    assert same(trunk_of(taker), trunk_of(giver))
    assert same(rest_of(taker), rest_of(fresh))
    assert len(rest_of(taker)) == 2


def test_other_names_of_as_many_classes_are_other_classes(tmp_path: Path, randomise: Randomise) -> None:
    giver = on_files(write_classes(tmp_path / "one", "cat", "dog"))
    randomise(giver.model)
    folder = write_classes(tmp_path / "other", "cat", "fox")
    fresh, taker = on_files(folder), on_files(folder, init=run_of(giver, tmp_path))
    assert same(rest_of(taker), rest_of(fresh))


def test_positions_are_stretched_to_another_size(giver: Vision, tmp_path: Path) -> None:
    taker = stage_of("model.image_size=48", init=run_of(giver, tmp_path))
    stretched = F.interpolate(giver.model.encoder.positions, (6, 6), mode="bicubic", antialias=True)
    weights, taken = giver.model.state_dict(), taker.model.state_dict()
    assert torch.equal(taken.pop("encoder.positions"), stretched)
    del weights["encoder.positions"]
    assert same(taken, weights)


@pytest.mark.parametrize("objectives", [(CONTRASTIVE, "objective=classes"), ("objective=classes", CONTRASTIVE)])
def test_the_trunk_is_taken_whatever_it_was_trained_for(objectives: Sequence[str], tmp_path: Path, randomise: Randomise) -> None:
    before, after = objectives
    giver = stage_of(before)
    randomise(giver.model)
    fresh, taker = stage_of(after), stage_of(after, init=run_of(giver, tmp_path))
    assert same(trunk_of(taker), trunk_of(giver))
    assert same(rest_of(taker), rest_of(fresh))


@pytest.mark.slow
def test_captions_are_learned_anew(tmp_path: Path, randomise: Randomise) -> None:
    giver = stage_of(CONTRASTIVE)
    randomise(giver.model)
    fresh, taker = (stage_of(CONTRASTIVE, "captions.width=32", init=init) for init in (None, run_of(giver, tmp_path)))
    assert same(trunk_of(taker), trunk_of(giver))
    assert same(rest_of(taker), rest_of(fresh))


def test_weights_of_another_shape_are_refused(giver: Vision, tmp_path: Path) -> None:
    run = run_of(giver, tmp_path)
    for change in ("model.width=48", "model.layers=2", "model.patch=16"):
        with pytest.raises(CheckpointError, match="belong to another model"):
            stage_of(change, init=run)


def test_a_run_without_a_model_gives_nothing(giver: Vision, tmp_path: Path) -> None:
    run = run_of(giver, tmp_path)
    (run.model / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot read the weights"):
        stage_of(init=run)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(), (CONTRASTIVE,)])
def test_an_opened_model_is_the_one_that_was_saved(overrides: Sequence[str], tmp_path: Path, randomise: Randomise) -> None:
    stage = stage_of(*overrides)
    randomise(stage.model)
    again = opened(run_of(stage, tmp_path))
    assert again.config == stage.config
    assert again.image_labels == stage.image_labels
    assert again.evaluate("test", limit=None).metrics == stage.evaluate("test", limit=None).metrics


def test_a_model_folder_opens_on_other_data(giver: Vision, tmp_path: Path) -> None:
    other = opened(run_of(giver, tmp_path), data="tinyworld:7")
    assert other.image_labels == giver.image_labels
    here, there = giver.evaluate("val", limit=None), other.evaluate("val", limit=None)
    assert [row["reference"] for row in here.predictions] != [row["reference"] for row in there.predictions]
    assert other.data.corpus.name == "tinyworld:7"


def test_a_model_of_scenes_is_judged_on_files_as_far_as_it_can_name_them(giver: Vision, tmp_path: Path) -> None:
    rows = [{"label": {"shape": shape, "colour": colour}, "split": "test"} for shape, colour in (*PAIRS, ("cat", "red"))]
    folder = write_corpus(tmp_path / "data", [{"label": {"shape": "star"}, "split": "train"}, *rows])
    report = opened(run_of(giver, tmp_path), data=str(folder)).evaluate("test", limit=None)
    assert report.num_examples == 3
    assert report.metrics["set_aside"] == 1
    assert "patch_accuracy" not in report.metrics
    assert [row["reference"] for row in report.predictions] == ["red star", "blue star", "red ring"]


def test_a_model_of_files_can_be_opened_without_them(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "data", "cat", "dog")
    run = run_of(on_files(folder), tmp_path)
    folder.rename(tmp_path / "gone")
    again = opened(run)
    assert again.image_labels.attributes == {"label": ("cat", "dog")}
    with pytest.raises(DataError, match=f"^no such file or folder: {folder}$"):
        again.validate()


def test_a_model_of_files_cannot_name_scenes(tmp_path: Path) -> None:
    run = run_of(on_files(write_classes(tmp_path / "data", "cat", "dog")), tmp_path)
    with pytest.raises(DataError) as caught:
        opened(run, data="tinyworld").evaluate("test", limit=5)
    assert caught.value.message == "none of 5 images of tinyworld has all labels that name its class: label"
