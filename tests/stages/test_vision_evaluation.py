"""What an evaluation of the vision stage reports."""

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_vision import CONTRASTIVE, PAIRS, Randomise, first_batch, on_files, stage_of, write_classes, write_corpus
from torch import Tensor

from omnictl.data.images.batches import ImageBatch, evaluation_batches
from omnictl.features import zero_shot
from omnictl.models.vision_encoder import VisionEncoder
from omnictl.stages import vision
from omnictl.stages.vision import Vision


@pytest.fixture
def giver(randomise: Randomise) -> Vision:
    stage = stage_of()
    randomise(stage.model)
    return stage


@pytest.fixture
def knows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that peeks at the labels of the batch."""
    current: list[ImageBatch] = []

    def watched(*arguments: Any, **options: Any) -> Iterator[tuple[range, ImageBatch]]:
        for indices, batch in evaluation_batches(*arguments, **options):
            current[:] = [batch]
            yield indices, batch

    def answers(labels: Tensor, heads: Any) -> list[Tensor]:
        return [20.0 * F.one_hot(labels[..., number], head.out_features) for number, head in enumerate(heads)]

    monkeypatch.setattr(vision, "evaluation_batches", watched)
    monkeypatch.setattr(VisionEncoder, "attribute_logits", lambda self, seen: answers(current[0].labels, self.head["picture"]))
    monkeypatch.setattr(VisionEncoder, "patch_logits", lambda self, seen: answers(current[0].patches, self.head["patch"]))


@pytest.mark.usefixtures("knows_everything")
def test_a_perfect_model_is_right_but_where_images_are_shuffled() -> None:
    stage = stage_of("data.num_eval_images=200", "label_smoothing=0")
    report = stage.evaluate("test", limit=None)
    assert (report.headline, report.better, report.num_examples) == ("top1", "higher", 200)
    assert list(report.metrics) == [
        "top1", "top5", "top1_heldout_pairs", *[f"accuracy_{name}" for name in stage.image_labels.attributes],
        "patch_accuracy", "patch_accuracy_background", "loss", "set_aside", "calibration_error",
    ]  # fmt: skip
    rates = [value for name, value in report.metrics.items() if name.startswith(("top", "accuracy", "patch"))]
    assert rates == [1.0] * 12
    assert report.metrics["loss"] < 1e-3
    assert report.metrics["set_aside"] == 0
    assert report.metrics["calibration_error"] < 1e-3
    assert report.controls["top1_shuffled"] < 0.06
    assert report.controls["top1_shuffled_floor"] < 0.06
    assert {group["top1"] for group in report.groups.values()} == {1}
    assert sum(group["pictures"] for group in report.groups.values()) == 200


@pytest.mark.slow
@pytest.mark.usefixtures("knows_everything")
def test_images_are_judged_in_parts_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of()
    reports = []
    for count in (128, 7, 1):
        monkeypatch.setattr(vision, "EVALUATION_IMAGES", count)
        reports.append(stage.evaluate("test", limit=None))
    for report in reports[1:]:
        assert report.metrics == pytest.approx(dict(reports[0].metrics), rel=1e-5)
        assert report.predictions == reports[0].predictions


@pytest.mark.slow
def test_how_many_are_seen_at_a_time_changes_nothing(giver: Vision, monkeypatch: pytest.MonkeyPatch) -> None:
    contrast = stage_of(CONTRASTIVE)
    for stage in (giver, contrast):
        whole = stage.validate().metrics
        monkeypatch.setattr(vision, "EVALUATION_IMAGES", 3)
        assert stage.validate().metrics == pytest.approx(dict(whole), rel=1e-4)
        monkeypatch.setattr(vision, "EVALUATION_IMAGES", 128)


def test_an_untrained_model_is_not_better_than_chance() -> None:
    report = stage_of("data.num_eval_images=200").evaluate("test", limit=None)
    assert report.metrics["top1"] <= 0.06
    assert report.metrics["top5"] <= 0.2
    assert report.metrics["loss"] > math.log(10)


def test_the_loss_of_a_report_is_that_of_training(giver: Vision) -> None:
    (found,) = [batch for _, batch in evaluation_batches(giver.data.split("val"), giver.labels, giver.view, 10, batch_size=10)]
    with torch.no_grad():
        assert giver.validate().metrics["loss"] == pytest.approx(giver.loss(found).sum.item() / 10, rel=1e-5)


def test_the_report_of_files(tmp_path: Path, giver: Vision) -> None:
    folder = write_classes(tmp_path, "cat", "dog")
    report = on_files(folder).evaluate("test", limit=None)
    assert list(report.metrics) == ["top1", "top5", "accuracy_label", "loss", "set_aside", "calibration_error"]
    assert report.metrics["top1"] == report.metrics["accuracy_label"]
    assert report.metrics["top5"] == 1
    assert report.controls["top1_shuffled_floor"] == 0.5
    assert report.predictions[0]["id"] == "test/cat/0.png"
    assert report.predictions[0]["image"] == str(folder / "test" / "cat" / "0.png")
    assert set(report.groups) == {"cat", "dog"}
    for content in report.images.values():
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert image.format == "PNG"


def test_pairs_that_files_never_show_in_training_count_apart(tmp_path: Path) -> None:
    rows = [{"label": {"shape": shape, "colour": colour}, "split": "train"} for shape, colour in PAIRS]
    rows += [{"label": {"shape": shape, "colour": colour}, "split": "test"} for shape, colour in (*PAIRS, ("ring", "blue"))]
    rows += [{"label": {"shape": "ring"}, "split": "test"}]
    stage = on_files(write_corpus(tmp_path, rows), "data.val_fraction=0")
    report = stage.evaluate("test", limit=None)
    assert stage.image_labels.classes.unseen == {("ring", "blue")}
    taken_for = {row["id"]: row["prediction"] for row in report.predictions}
    assert report.metrics["top1_heldout_pairs"] == (taken_for["6.png"] == "blue ring")
    assert report.metrics["top1"] == pytest.approx(sum(row["prediction"] == row["reference"] for row in report.predictions[:3]) / 3)
    assert report.num_examples == 5
    assert sum(group["pictures"] for group in report.groups.values()) == 4
    assert report.predictions[4]["reference"] is None


@pytest.mark.slow
def test_a_limit_takes_the_first_images(giver: Vision) -> None:
    for stage in (giver, stage_of(CONTRASTIVE)):
        report = stage.evaluate("test", limit=3)
        assert [row["id"] for row in report.predictions] == ["test/0", "test/1", "test/2"]
        assert "image" not in report.predictions[0]
        assert report.num_examples == 3
        assert stage.evaluate("test", limit=99).num_examples == 20
        assert stage.evaluate("test", limit=1).num_examples == 1


def test_captions_that_are_cut_are_counted_in_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot, "MAX_CAPTION_TOKENS", 4)
    monkeypatch.setattr(vision, "MAX_CAPTION_TOKENS", 4)
    with caplog.at_level("INFO", "omnictl"):
        stage = stage_of(CONTRASTIVE)
    assert stage.reader is not None
    texts = list(stage.data.corpus.captions())
    long = sum(len(ids) > 4 for ids in stage.reader.tokenizer.encode_batch(texts, markup=False))
    assert 0 < long < len(texts)
    assert f"{long} captions have more than 4 tokens: what comes after these is not read" in caplog.messages


@pytest.mark.parametrize(("overrides", "judge"), [((), "_judge"), ((CONTRASTIVE,), "_place")])
def test_of_scenes_without_end_as_many_are_judged_as_in_the_test(
    overrides: Sequence[str], judge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def count(*arguments: Any) -> None:
        counts.append(arguments[-1])
        raise InterruptedError  # before they are all drawn

    monkeypatch.setattr(Vision, judge, count)
    stage = stage_of(*overrides)
    for limit in (None, 25):
        with pytest.raises(InterruptedError):
            stage.evaluate("train", limit=limit)
    assert counts == [20, 25]


@torch.no_grad()
def test_an_image_is_named_as_in_the_split(giver: Vision) -> None:
    report = giver.evaluate("test", limit=5)
    found = giver.data.split("test")
    for index, row in enumerate(report.predictions):
        shares = giver.name_image(torch.from_numpy(found.example(index, giver.view).image))
        assert list(shares) == list(giver.image_labels.attributes)
        assert all(values.sum() == pytest.approx(1, abs=1e-5) for values in shares.values())
        best = {name: giver.image_labels.attributes[name][values.argmax()] for name, values in shares.items()}
        assert row["prediction"] == f"{best['colour']} {best['shape']}"
        assert row["probability"] == pytest.approx(float(shares["colour"].max() * shares["shape"].max()), abs=1e-3)


@pytest.mark.slow
@torch.no_grad()
def test_an_image_is_matched_as_in_the_split(randomise: Randomise) -> None:
    stage = stage_of(CONTRASTIVE)
    randomise(stage.model)
    stage.model.eval()
    found = stage.data.split("test")
    guessed = stage._guess(stage.reader, stage._place(stage.reader, found, 4))
    for index in range(4):
        placed = stage.reader.place(torch.from_numpy(found.example(index, stage.view).image)[None])
        (shares,) = stage.reader.match(placed.numpy(), stage.prompts())
        np.testing.assert_allclose(shares, guessed.probabilities[index], rtol=1e-3, atol=1e-6)


def test_an_answer_does_not_depend_on_what_was_asked_before(giver: Vision) -> None:
    """Judging leaves a stage that trains as it was."""
    giver.model.train()
    before = giver.loss(first_batch(giver)).sum.item()
    giver.validate()
    giver.model.train()
    assert giver.loss(first_batch(giver)).sum.item() == before
