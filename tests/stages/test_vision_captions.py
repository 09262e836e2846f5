"""The vision stage on captions: the contrastive loss, prompts, reports."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_vision import (
    CONTRASTIVE,
    PAIRS,
    PNG,
    Randomise,
    first_batch,
    on_files,
    opened,
    plain_nats,
    run_of,
    stage_of,
    write_corpus,
)
from torch import Tensor

from omnictl.data.manifest.source import TINYWORLD_SEED
from omnictl.features.zero_shot import MAX_CAPTION_TOKENS
from omnictl.tinyworld.images.scenes import scene


@torch.no_grad()
def test_the_contrastive_loss_is_that_of_a_loop(randomise: Randomise) -> None:
    stage = stage_of(CONTRASTIVE)
    randomise(stage.model)
    stage.model.double().eval()
    stage.model.captions.log_scale.fill_(math.log(5.0))
    batch = first_batch(stage)
    found = stage.loss(batch)
    images = stage.model.captions.place(stage.model.encoder(batch.images)).tolist()
    captions = [stage.reader.read([caption])[0].tolist() for caption in batch.captions]  # one at a time: without padding
    scores = [[5.0 * math.fsum(a * b for a, b in zip(one, other, strict=True)) for other in captions] for one in images]
    expected = 0.0
    for number in range(8):
        expected += plain_nats(scores[number], number, 0.0) / 2
        expected += plain_nats([row[number] for row in scores], number, 0.0) / 2
    assert found.count == 8
    assert found.sum.item() == pytest.approx(expected, rel=1e-6)


@torch.no_grad()
def test_images_and_captions_are_of_unit_length(randomise: Randomise) -> None:
    stage = stage_of(CONTRASTIVE)
    randomise(stage.model)
    stage.model.eval()
    batch = first_batch(stage)
    placed = stage.model.captions.place(stage.model.encoder(batch.images))
    for vectors in (placed, stage.reader.read(batch.captions)):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(8))


@torch.no_grad()
def test_a_caption_of_nothing_and_a_very_long_one_can_be_read(randomise: Randomise) -> None:
    stage = stage_of(CONTRASTIVE)
    randomise(stage.model)
    stage.model.eval()
    long = "a small red circle " * MAX_CAPTION_TOKENS
    vectors = stage.reader.read(["", "a red star", long, f"{long} and a blue one"])
    assert vectors.isfinite().all()
    torch.testing.assert_close(vectors[2], vectors[3])  # what comes so late is not read
    torch.testing.assert_close(vectors[1:2], stage.reader.read(["a red star"]))


def vector(text: str) -> Tensor:
    """Of unit length, in eight dimensions, the same for the same text."""
    generator = torch.Generator().manual_seed(sum(ord(character) * 31**place for place, character in enumerate(text)) % 2**31)
    return F.normalize(torch.randn(8, generator=generator), dim=0)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 14.0, 100.0])
def test_several_prompts_of_a_class_count_as_their_mean(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of(CONTRASTIVE)
    stage.model.captions.log_scale.fill_(math.log(scale))
    monkeypatch.setattr(stage.reader, "read", lambda texts: torch.stack([vector(text) for text in texts]))
    images = torch.stack([vector("one"), vector("other")])
    prompts = [("a", "b", "c"), ("d",)]
    found = stage.reader.match(images.numpy(), prompts)
    means = torch.stack([F.normalize(torch.stack([vector(text) for text in ways]).mean(0), dim=0) for ways in prompts])
    for row, image in zip(found, images, strict=True):
        powers = [math.exp(scale * float(image @ mean)) for mean in means]
        np.testing.assert_allclose(row, [power / sum(powers) for power in powers], rtol=1e-3, atol=1e-6)


def test_prompts_speak_as_the_captions_that_were_learned_from(tmp_path: Path) -> None:
    stage = stage_of(CONTRASTIVE)
    assert len(stage.prompts()) == 100
    assert stage.prompts()[0][0] == "A small red circle at the top left."
    rows = [{"label": {"shape": shape, "colour": colour}, "caption": "a thing"} for shape, colour in PAIRS * 4]
    assert on_files(write_corpus(tmp_path, rows), CONTRASTIVE, 'data.top1=["shape","colour"]').prompts() == [
        ("blue ring",), ("red ring",), ("blue star",), ("red star",),
    ]  # fmt: skip
    other = opened(run_of(stage, tmp_path), data=str(tmp_path))
    assert other.prompts() == stage.prompts()  # whatever it is judged on


@pytest.mark.slow
def test_the_report_of_contrast() -> None:
    stage = stage_of(CONTRASTIVE)
    report = stage.evaluate("test", limit=None)
    assert (report.headline, report.better, report.num_examples) == ("recall_at_5", "higher", 20)
    assert list(report.metrics) == [
        "recall_at_5", "recall_at_1", "recall_at_10", "recall_at_1_captions", "recall_at_5_captions", "recall_at_10_captions",
        "top1", "top5", "top1_heldout_pairs", "set_aside",
    ]  # fmt: skip
    assert set(report.controls) == {
        "recall_at_5_shuffled", "recall_at_5_shuffled_floor", "top1_shuffled", "top1_shuffled_floor",
    }  # fmt: skip
    assert report.controls["recall_at_5_shuffled_floor"] >= 5 / 20
    assert report.predictions[3]["reference"] == scene(TINYWORLD_SEED, "test", 3).caption
    assert {content[:4] for content in report.images.values()} == {PNG}
    validated = stage.validate()
    assert validated.headline == "recall_at_5"
    assert validated.num_examples == 10


def test_a_model_that_places_images_on_their_captions_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of(CONTRASTIVE)
    captions = [scene(TINYWORLD_SEED, "test", index).caption for index in range(20)]
    placed = torch.stack([vector(text) for text in captions])
    monkeypatch.setattr(stage.reader, "read", lambda texts: torch.stack([vector(text) for text in texts]))
    monkeypatch.setattr(stage.model.captions, "place", lambda seen: placed)
    report = stage.evaluate("test", limit=None)
    assert report.value == report.metrics["recall_at_1_captions"] == 1
    assert report.metrics["recall_at_1"] == 1
    assert [row["prediction"] for row in report.predictions] == captions
    assert report.controls["recall_at_5_shuffled"] < 0.7


def test_captions_without_labels_are_enough(tmp_path: Path) -> None:
    write_corpus(tmp_path, [{"caption": f"cat number {number}"} for number in range(60)])
    stage = on_files(tmp_path, CONTRASTIVE)
    assert stage.image_labels.attributes == {}
    stage.loss(first_batch(stage)).sum.backward()
    report = stage.evaluate("test", limit=None)
    assert "top1" not in report.metrics
    assert report.images == {}
    assert opened(run_of(stage, tmp_path)).evaluate("test", limit=None).metrics == report.metrics


def test_labels_that_training_never_shows_do_not_matter_to_contrast(tmp_path: Path) -> None:
    rows = [{"label": "cat", "caption": "a cat", "split": "train"}] * 4
    rows += [{"label": "fox", "caption": "a fox", "split": "val"}, {"label": "cat", "caption": "the cat", "split": "val"}]
    stage = on_files(write_corpus(tmp_path, rows), CONTRASTIVE)
    assert stage.data.quarantine == ()
    assert stage.validate().num_examples == 2
