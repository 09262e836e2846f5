"""Stage C: what it trains on, its losses, what it takes over from another run, and what its report says."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_vision import (
    CONTRASTIVE,
    PNG,
    Randomise,
    config_of,
    first_batch,
    on_files,
    plain_nats,
    stage_of,
    write_classes,
    write_corpus,
)
from torch import Tensor

from omnictl.data.images.batches import UNKNOWN, ImageBatch
from omnictl.data.images.tinyworld import ENDLESS
from omnictl.data.manifest.source import TINYWORLD_SEED
from omnictl.errors import ConfigError, DataError
from omnictl.features.zero_shot import MAX_CAPTION_TOKENS
from omnictl.models.vision_encoder import training_flops
from omnictl.stages.vision import Vision
from omnictl.tinyworld.images.renderer import draw
from omnictl.tinyworld.images.scenes import scene
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loader import micro_batches
from omnictl.trainer.optim.gradient import accumulate, normalise
from omnictl.trainer.optim.optimizers import Optimizers

FP32 = Precision("fp32", "")


def test_the_attributes_are_those_of_the_data(tmp_path: Path) -> None:
    stage = on_files(write_classes(tmp_path, "cat", "dog"))
    assert stage.image_labels.attributes == {"label": ("cat", "dog")}
    assert (stage.image_labels.patch_attributes, stage.image_labels.classes.names) == ({}, ("cat", "dog"))
    assert len(stage.data.training_set) == 10
    (head,) = stage.model.encoder.head["picture"]
    assert (head.out_features, len(stage.model.encoder.head["patch"])) == (2, 0)


def test_tinyworld_has_attributes_of_images_and_patches() -> None:
    stage = stage_of()
    assert [head.out_features for head in stage.model.encoder.head["picture"]] == [10, 10, 2, 9, 3, 4, 9]
    assert [head.out_features for head in stage.model.encoder.head["patch"]] == [11, 11, 3, 10, 4]
    assert stage.image_labels.classes.attributes == ("shape", "colour")
    assert len(stage.image_labels.classes.unseen) == 10
    assert len(stage.data.training_set) == ENDLESS
    assert stage.data.quarantine == ()


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Ten rows to train on, of which two are broken and one has no label, and two to validate on, of which one is unknown."""
    tmp_path.joinpath("2.png").write_text("this is no image")
    rows: list[dict[str, object]] = [{"label": "cat" if number % 2 else "dog", "split": "train"} for number in range(10)]
    rows[5] = {"caption": "a cat", "split": "train"}
    rows += [{"label": "cat", "split": "val"}, {"label": "fox", "split": "val"}]
    write_corpus(tmp_path, rows)
    tmp_path.joinpath("3.png").unlink()
    return tmp_path


def test_too_much_broken_data_is_refused_with_its_rows(mixed: Path) -> None:
    with pytest.raises(DataError) as caught:
        on_files(mixed, "data.max_broken=0.2")
    index = f"{mixed}/metadata.jsonl"
    first, *rows = caught.value.message.splitlines()
    assert first == "3 of 10 rows cannot be trained on, allowed are 20%:"
    assert rows[0] == f"{index}:4: no such image file: {mixed}/3.png"
    assert rows[1].startswith(f"{index}:3: {mixed}/2.png is not a JPEG, PNG, WebP, GIF or BMP file")
    assert rows[2:] == [f"{index}:6: no label"]
    assert caught.value.where == str(mixed)
    assert caught.value.fix == f"see all of them with `omnictl data check {mixed}`; mend or remove them, or --set data.max_broken=1"


def test_what_is_broken_and_allowed_is_left_out_and_recorded(mixed: Path) -> None:
    stage = on_files(mixed, "data.max_broken=0.3")
    assert [stage.data.training_set.row(index).id for index in range(7)] == [f"{number}.png" for number in (0, 1, 4, 6, 7, 8, 9)]
    assert [row.id for row in stage.data.quarantine] == ["3.png", "2.png", "5.png", "11.png"]
    assert stage.data.quarantine[3].message == "the label 'fox' is in no row of the training split"
    assert stage.loss(first_batch(stage)).sum.isfinite()
    assert stage.validate().num_examples == 1


def test_only_the_first_broken_rows_are_shown(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"caption": "a cat", "split": "train"}] * 9
    write_corpus(tmp_path, [*rows, {"label": "cat", "split": "train"}, {"label": "cat", "split": "val"}])
    with pytest.raises(DataError, match=r"^9 of 10 rows cannot be trained on, allowed are 5%:(\n.*: no label){5}\n… and 4 more$"):
        on_files(tmp_path)


def test_classes_need_labels(tmp_path: Path) -> None:
    write_corpus(tmp_path, [{"caption": "a cat"}] * 5)
    with pytest.raises(DataError) as caught:
        on_files(tmp_path)
    assert caught.value.message == f"no row of the training split of {tmp_path} has a label"
    assert caught.value.where == str(tmp_path)
    assert caught.value.fix == "give rows a `label`, or learn from captions with --set objective=contrastive"


def test_contrast_needs_captions(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        on_files(write_classes(tmp_path, "cat", "dog"), CONTRASTIVE)
    assert caught.value.message == f"no row of the training split of {tmp_path} has a caption"
    assert caught.value.where == str(tmp_path)
    assert caught.value.fix == "give rows a `caption`, or learn from labels with --set objective=classes"


@pytest.mark.parametrize("wanted", [["taste"], ["label", "taste"]])
def test_top1_of_an_unknown_attribute_is_refused(wanted: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        on_files(write_classes(tmp_path, "cat", "dog"), f"data.top1={json.dumps(wanted)}")
    assert caught.value.message == "there is no attribute 'taste'"
    assert caught.value.where == "data.top1"
    assert caught.value.fix == 'choose from label: --set data.top1=["label"]'


def test_too_many_classes_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        stage_of('data.top1=["shape","colour","size","place","relation"]')
    assert caught.value.message == "16,200 combinations of shape, colour, size, place, relation are too many for top1"


def test_images_of_no_known_class_alone_cannot_be_judged(tmp_path: Path) -> None:
    """Some show their shape, others their colour, none both."""
    rows = [{"label": {"shape": "star"} if number % 2 else {"colour": "red"}} for number in range(20)]
    stage = on_files(write_corpus(tmp_path, rows), "data.val_fraction=0.2")
    with pytest.raises(DataError) as caught:
        stage.validate()
    assert caught.value.message == f"none of 4 images of {tmp_path} has all labels that name its class: colour, shape"
    assert caught.value.where == str(tmp_path)
    assert "data.top1" in caught.value.fix


def test_a_contrastive_batch_stays_whole() -> None:
    assert config_of(CONTRASTIVE, "train.micro_batch=8").train.micro_batch == 8
    assert config_of(CONTRASTIVE, "train.micro_batch=auto").train.micro_batch == "auto"
    with pytest.raises(ConfigError) as caught:
        config_of(CONTRASTIVE, "train.micro_batch=4")
    assert "the contrastive loss compares the images of a whole batch: train.micro_batch must be auto" in caught.value.message


@pytest.mark.parametrize(
    ("overrides", "mixes"),
    [((), False), (("data.augmentation=light",), False), (("data.augmentation=strong",), True)],
)
def test_images_are_mixed_where_they_are_strongly_varied(overrides: Sequence[str], mixes: bool, tmp_path: Path) -> None:
    batches = on_files(write_classes(tmp_path, "cat", "dog"), *overrides).batches()
    shares = torch.cat([batches.collate(batches.ids(step)).shares for step in range(5)])
    assert ((shares < 1).any().item()) == mixes


def test_images_with_captions_are_not_mixed(tmp_path: Path) -> None:
    write_corpus(tmp_path, [{"caption": f"cat number {number}"} for number in range(30)])
    batches = on_files(tmp_path, CONTRASTIVE, "data.augmentation=strong").batches()
    assert all((batches.collate(batches.ids(step)).shares == 1).all() for step in range(5))


def test_scenes_stay_as_they_are_or_their_patches_would_be_mislabelled() -> None:
    batch = first_batch(stage_of("data.augmentation=strong"))
    assert (batch.shares == 1).all()
    for index, image in enumerate(batch.images):
        assert np.array_equal(image, draw(scene(TINYWORLD_SEED, "train", index), 32).image)


def batch_of(stage: Vision, count: int, *, shares: Sequence[float] = ()) -> ImageBatch:
    """Random images and labels, some of them unknown."""
    generator = torch.Generator().manual_seed(3)

    def labels(sizes: Sequence[int], *shape: int) -> Tensor:
        columns = [torch.randint(0, size, shape, generator=generator) for size in sizes]
        return torch.stack(columns, -1) if columns else torch.zeros(*shape, 0, dtype=torch.int64)

    sizes = [len(values) for values in stage.image_labels.attributes.values()]
    own, others = labels(sizes, count), labels(sizes, count)
    own[1, 0] = others[2, 0] = UNKNOWN
    patch_sizes = [len(values) for values in stage.image_labels.patch_attributes.values()]
    return ImageBatch(
        images=torch.randint(0, 256, (count, 3, 32, 32), generator=generator).to(torch.uint8),
        labels=own,
        others=others if shares else own,
        shares=torch.tensor(shares) if shares else torch.ones(count),
        patches=labels(patch_sizes, count, 16) if patch_sizes else torch.zeros(count, 0, 0, dtype=torch.int64),
        captions=tuple(f"image {number}" for number in range(count)),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("shares", [(), (1.0, 0.7, 0.25, 0.0, 0.5)], ids=["plain", "mixed"])
@torch.no_grad()
def test_the_loss_is_that_of_a_loop(smoothing: float, shares: Sequence[float], randomise: Randomise) -> None:
    stage = stage_of(f"label_smoothing={smoothing}", "patch_weight=0.3")
    randomise(stage.model)
    stage.model.double().eval()
    batch = batch_of(stage, 5, shares=shares)
    found = stage.loss(batch)
    seen = stage.model.encoder(batch.images)
    expected = 0.0
    for number, logits in enumerate(stage.model.encoder.attribute_logits(seen)):
        for row in range(5):
            own, other = batch.labels[row, number].item(), batch.others[row, number].item()
            share = batch.shares[row].item()
            expected += share * plain_nats(logits[row].tolist(), int(own), smoothing)
            expected += (1 - share) * plain_nats(logits[row].tolist(), int(other), smoothing)
    for number, logits in enumerate(stage.model.encoder.patch_logits(seen)):
        for row in range(5):
            nats = [plain_nats(logits[row, p].tolist(), int(batch.patches[row, p, number]), smoothing) for p in range(16)]
            expected += 0.3 * sum(nats) / 16
    assert found.count == 5
    assert found.sum.item() == pytest.approx(expected, rel=1e-6)


@torch.no_grad()
def test_what_is_not_known_costs_nothing(tmp_path: Path) -> None:
    stage = on_files(write_classes(tmp_path, "cat", "dog"))
    batch = batch_of(stage, 4)
    batch.labels.fill_(UNKNOWN)
    assert stage.loss(batch).sum.item() == 0


@torch.no_grad()
def test_a_model_that_names_patches_can_be_asked_without_them(randomise: Randomise) -> None:
    """As when it is judged on images of which nobody says what their parts show."""
    stage = stage_of()
    randomise(stage.model)
    batch = batch_of(stage, 4)
    images_alone = stage.loss(replace(batch, patches=torch.zeros(4, 0, 0, dtype=torch.int64))).sum.item()
    weightless = stage_of("patch_weight=0")
    randomise(weightless.model)
    assert images_alone == pytest.approx(weightless.loss(batch).sum.item(), rel=1e-6)
    assert images_alone < stage.loss(batch).sum.item()


def gradient(stage: Vision, micro_batch: int) -> Tensor:
    """Of the mean loss of a whole batch, all parameters in one vector."""
    stage.model.zero_grad(set_to_none=True)
    stage.model.train()
    batches, scaler = stage.batches(), FP32.scaler(torch.device("cpu"))
    made = map(batches.collate, micro_batches(batches.ids(2), micro_batch))
    sums = accumulate(stage, made, precision=FP32, scaler=scaler)
    normalise(list(stage.model.parameters()), sums.count, clip_norm=math.inf)
    return torch.cat([p.grad.flatten() for p in stage.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("data", ["tinyworld", "files"])
def test_any_split_of_a_batch_gives_the_same_gradient(data: str, dtype: torch.dtype, tmp_path: Path, randomise: Randomise) -> None:
    if data == "files":
        stage = on_files(write_classes(tmp_path, "cat", "dog"), "data.augmentation=strong")
        assert (first_batch(stage).shares < 1).any()
    else:
        stage = stage_of()
    randomise(stage.model)
    stage.model.to(dtype)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-10}[dtype]
    whole = gradient(stage, micro_batch=8)
    for micro_batch in (1, 3):
        assert (gradient(stage, micro_batch) - whole).norm() <= tolerance * whole.norm(), micro_batch


def test_work_counts_images() -> None:
    stage = stage_of()
    work = stage.work(first_batch(stage))
    assert (work.units, work.positions, work.slots) == (8, 8, 8)
    assert work.flops == training_flops(stage.model.encoder, 8, 32)


def test_reading_captions_is_work_too() -> None:
    stage = stage_of(CONTRASTIVE)
    batch = first_batch(stage)
    more = stage.work(batch).flops - training_flops(stage.model.encoder, 8, 32)
    tokens = sum(len(stage.tokenizer.encode(caption, markup=False)) for caption in batch.captions)
    matrices = [p.numel() for p in stage.model.captions.blocks.parameters() if p.ndim >= 2]
    assert more == pytest.approx(6 * tokens * sum(matrices))
    assert stage.reader.num_tokens(["a red star " * MAX_CAPTION_TOKENS]) == MAX_CAPTION_TOKENS  # no more are read


def take_steps(stage: Vision, count: int) -> list[float]:
    """The losses of so many training steps."""
    batches, scaler = stage.batches(), FP32.scaler(torch.device("cpu"))
    optimizers = Optimizers(stage.model, stage.config.train, "adamw")
    losses = []
    for step in range(count):
        sums = accumulate(stage, [batches.collate(batches.ids(step))], precision=FP32, scaler=scaler)
        normalise(optimizers.parameters, sums.count, stage.config.train.clip_norm)
        for part in optimizers.parts:
            part.step()
        optimizers.zero_grad()
        losses.append(sums.loss)
    return losses


@pytest.mark.slow
def test_photographs_can_be_trained_on(test_data: Path) -> None:
    stage = on_files(test_data / "cifar10_mini", "data.augmentation=strong", "train.batch_size=32", "label_smoothing=0")
    assert stage.data.quarantine == ()
    assert stage.image_labels.attributes["label"] == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    assert len(stage.data.training_set) + len(stage.data.split("val")) == 5_000
    losses = take_steps(stage, 6)
    assert losses == pytest.approx([math.log(10)] * 6, rel=0.3)
    report = stage.evaluate("test", limit=20)
    assert report.num_examples == 20
    assert report.metrics["loss"] < 4
    assert {content[:4] for content in report.images.values()} == {PNG}


@pytest.mark.slow
def test_drawings_and_their_captions_can_be_trained_on(test_data: Path) -> None:
    stage = on_files(test_data / "openmoji", CONTRASTIVE, "train.batch_size=16")
    assert stage.data.quarantine == ()
    assert len(stage.image_labels.attributes["label"]) == 12
    losses = take_steps(stage, 6)
    assert max(losses) < 6
    report = stage.evaluate("test", limit=20)
    assert report.num_examples == 20
    assert report.controls["recall_at_5_shuffled_floor"] >= 0.25
    assert {"recall_at_5", "top1"} <= set(report.metrics)
    assert all(isinstance(row["prediction"], str) for row in report.predictions)
