"""Stage C: what it trains on, its losses, what it takes over from another run, and what its report says."""

import io
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from omnictl.config import resolve
from omnictl.config.split import SPLITS
from omnictl.data.cache import cache_dir
from omnictl.data.images.batches import UNKNOWN, ImageBatch, evaluation_batches
from omnictl.data.images.tinyworld import ENDLESS
from omnictl.data.manifest.source import TINYWORLD_SEED
from omnictl.errors import CheckpointError, ConfigError, DataError
from omnictl.features import caption_space
from omnictl.features.caption_space import MAX_CAPTION_TOKENS
from omnictl.models.vision_encoder import VisionEncoder, training_flops
from omnictl.runs.run import Run, create_run
from omnictl.stages import vision
from omnictl.stages.protocol import StageContext
from omnictl.stages.vision import PRESETS, Vision, VisionConfig
from omnictl.tinyworld.images.renderer import draw
from omnictl.tinyworld.images.scenes import scene
from omnictl.trainer.checkpoint import load_weights, plain_state_dict, save_tensors
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loader import micro_batches
from omnictl.trainer.optim.gradient import accumulate, normalise
from omnictl.trainer.optim.optimizers import Optimizers

FP32 = Precision("fp32", "")
CONTRASTIVE = "objective=contrastive"
SMALL = ("captions.width=16", "captions.layers=1", "captions.hidden=32")
"""A caption encoder that reads the hundred classes in no time."""
Randomise = Callable[[nn.Module], None]


def config_of(*overrides: str) -> VisionConfig:
    return resolve(VisionConfig, preset=PRESETS["debug"], overrides=[*SMALL, *overrides])


def stage_of(*overrides: str, init: Run | None = None) -> Vision:
    return Vision.create(config_of(*overrides), context=StageContext(cache_dir(), init))


def write_picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)).save(path)


def write_classes(folder: Path, *names: str, count: int = 5) -> Path:
    """Class folders in three splits, of pictures that are all different."""
    for seed, (split, name, number) in enumerate(itertools.product(SPLITS, names, range(count))):
        write_picture(folder / split / name / f"{number}.png", seed)
    return folder


def write_corpus(folder: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """A manifest of pictures `0.png`, `1.png`, …; files that are there already are left alone."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"image": f"{number}.png", **row}) + "\n" for number, row in enumerate(rows)]
    (folder / "metadata.jsonl").write_text("".join(lines))
    for number in range(len(rows)):
        if not (folder / f"{number}.png").exists():
            write_picture(folder / f"{number}.png", seed=number)
    return folder


def on_files(folder: Path, *overrides: str, init: Run | None = None) -> Vision:
    return stage_of(f"data.source={json.dumps(str(folder))}", *overrides, init=init)


def run_of(stage: Vision, folder: Path) -> Run:
    """A run that this stage's model is the best of."""
    run = create_run(folder, "vision", "giver", {})
    stage.save_description(run.model)
    save_tensors(plain_state_dict(stage.model), run.model / "model.safetensors")
    return run


def opened(run: Run, data: str | None = None) -> Vision:
    stage = Vision.open(run.model, data=data, cache=cache_dir())
    load_weights(run.model / "model.safetensors", stage.model)
    return stage


def first_batch(stage: Vision) -> ImageBatch:
    batches = stage.batches()
    return batches.collate(batches.ids(0))


PNG = b"\x89PNG"


# What is trained on


def test_the_attributes_are_those_of_the_data(tmp_path: Path) -> None:
    stage = on_files(write_classes(tmp_path, "cat", "dog"))
    assert stage.known.attributes == {"label": ("cat", "dog")}
    assert (stage.known.patch_attributes, stage.known.classes.names) == ({}, ("cat", "dog"))
    assert len(stage.data.training_set) == 10
    (head,) = stage.model.encoder.head["picture"]
    assert (head.out_features, len(stage.model.encoder.head["patch"])) == (2, 0)


def test_tinyworld_has_attributes_of_pictures_and_patches() -> None:
    stage = stage_of()
    assert [head.out_features for head in stage.model.encoder.head["picture"]] == [10, 10, 2, 9, 3, 4, 9]
    assert [head.out_features for head in stage.model.encoder.head["patch"]] == [11, 11]
    assert stage.known.classes.attributes == ("shape", "colour")
    assert len(stage.known.classes.unseen) == 10
    assert len(stage.data.training_set) == ENDLESS
    assert stage.data.quarantine == ()


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Ten rows to train on, of which two are broken and one has no label, and two to validate on, of which one is unknown."""
    tmp_path.joinpath("2.png").write_text("this is no picture")
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


PAIRS = [("star", "red"), ("star", "blue"), ("ring", "red")]


def test_pictures_of_no_known_class_alone_cannot_be_judged(tmp_path: Path) -> None:
    """Some show their shape, others their colour, none both."""
    rows = [{"label": {"shape": "star"} if number % 2 else {"colour": "red"}} for number in range(20)]
    stage = on_files(write_corpus(tmp_path, rows), "data.val_fraction=0.2")
    with pytest.raises(DataError) as caught:
        stage.validate()
    assert caught.value.message == f"none of 4 pictures of {tmp_path} has all labels that name its class: colour, shape"
    assert caught.value.where == str(tmp_path)
    assert "data.top1" in caught.value.fix


def test_a_contrastive_batch_stays_whole() -> None:
    assert config_of(CONTRASTIVE, "train.micro_batch=8").train.micro_batch == 8
    assert config_of(CONTRASTIVE, "train.micro_batch=auto").train.micro_batch == "auto"
    with pytest.raises(ConfigError) as caught:
        config_of(CONTRASTIVE, "train.micro_batch=4")
    assert "the contrastive loss compares the pictures of a whole batch: train.micro_batch must be auto" in caught.value.message


@pytest.mark.parametrize(
    ("overrides", "mixes"),
    [((), False), (("data.augmentation=light",), False), (("data.augmentation=strong",), True)],
)
def test_pictures_are_mixed_where_they_are_strongly_varied(overrides: Sequence[str], mixes: bool, tmp_path: Path) -> None:
    batches = on_files(write_classes(tmp_path, "cat", "dog"), *overrides).batches()
    shares = torch.cat([batches.collate(batches.ids(step)).shares for step in range(5)])
    assert ((shares < 1).any().item()) == mixes


def test_pictures_with_captions_are_not_mixed(tmp_path: Path) -> None:
    write_corpus(tmp_path, [{"caption": f"cat number {number}"} for number in range(30)])
    batches = on_files(tmp_path, CONTRASTIVE, "data.augmentation=strong").batches()
    assert all((batches.collate(batches.ids(step)).shares == 1).all() for step in range(5))


def test_scenes_stay_as_they_are_or_their_patches_would_be_mislabelled() -> None:
    batch = first_batch(stage_of("data.augmentation=strong"))
    assert (batch.shares == 1).all()
    for index, picture in enumerate(batch.images):
        assert np.array_equal(picture, draw(scene(TINYWORLD_SEED, "train", index), 32).picture)


# The loss


def plain_nats(logits: Sequence[float], target: int, smoothing: float) -> float:
    """Cross-entropy with smoothed labels, as a definition says it."""
    if target == UNKNOWN:
        return 0.0
    total = math.log(math.fsum(math.exp(value) for value in logits))
    count = len(logits)
    return math.fsum(
        -(smoothing / count + (1 - smoothing if number == target else 0)) * (value - total) for number, value in enumerate(logits)
    )


def batch_of(stage: Vision, count: int, *, shares: Sequence[float] = ()) -> ImageBatch:
    """Random pictures and labels, some of them unknown."""
    generator = torch.Generator().manual_seed(3)

    def labels(sizes: Sequence[int], *shape: int) -> Tensor:
        columns = [torch.randint(0, size, shape, generator=generator) for size in sizes]
        return torch.stack(columns, -1) if columns else torch.zeros(*shape, 0, dtype=torch.int64)

    sizes = [len(values) for values in stage.known.attributes.values()]
    own, others = labels(sizes, count), labels(sizes, count)
    own[1, 0] = others[2, 0] = UNKNOWN
    patch_sizes = [len(values) for values in stage.known.patch_attributes.values()]
    return ImageBatch(
        images=torch.randint(0, 256, (count, 3, 32, 32), generator=generator).to(torch.uint8),
        labels=own,
        others=others if shares else own,
        shares=torch.tensor(shares) if shares else torch.ones(count),
        patches=labels(patch_sizes, count, 16) if patch_sizes else torch.zeros(count, 0, 0, dtype=torch.int64),
        captions=tuple(f"picture {number}" for number in range(count)),
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
    """As when it is judged on pictures of which nobody says what their parts show."""
    stage = stage_of()
    randomise(stage.model)
    batch = batch_of(stage, 4)
    pictures_alone = stage.loss(replace(batch, patches=torch.zeros(4, 0, 0, dtype=torch.int64))).sum.item()
    weightless = stage_of("patch_weight=0")
    randomise(weightless.model)
    assert pictures_alone == pytest.approx(weightless.loss(batch).sum.item(), rel=1e-6)
    assert pictures_alone < stage.loss(batch).sum.item()


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


# Contrast


@torch.no_grad()
def test_the_contrastive_loss_is_that_of_a_loop(randomise: Randomise) -> None:
    stage = stage_of(CONTRASTIVE)
    randomise(stage.model)
    stage.model.double().eval()
    stage.model.captions.log_scale.fill_(math.log(5.0))
    batch = first_batch(stage)
    found = stage.loss(batch)
    pictures = stage.model.captions.place(stage.model.encoder(batch.images)).tolist()
    captions = [stage.reader.read([caption])[0].tolist() for caption in batch.captions]  # one at a time: without padding
    scores = [[5.0 * math.fsum(a * b for a, b in zip(one, other, strict=True)) for other in captions] for one in pictures]
    expected = 0.0
    for number in range(8):
        expected += plain_nats(scores[number], number, 0.0) / 2
        expected += plain_nats([row[number] for row in scores], number, 0.0) / 2
    assert found.count == 8
    assert found.sum.item() == pytest.approx(expected, rel=1e-6)


@torch.no_grad()
def test_pictures_and_captions_are_of_unit_length(randomise: Randomise) -> None:
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
    pictures = torch.stack([vector("one"), vector("other")])
    prompts = [("a", "b", "c"), ("d",)]
    found = stage.reader.match(pictures.numpy(), prompts)
    means = torch.stack([F.normalize(torch.stack([vector(text) for text in ways]).mean(0), dim=0) for ways in prompts])
    for row, picture in zip(found, pictures, strict=True):
        powers = [math.exp(scale * float(picture @ mean)) for mean in means]
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
    assert {content[:4] for content in report.pictures.values()} == {PNG}
    validated = stage.validate()
    assert validated.headline == "recall_at_5"
    assert validated.num_examples == 10


def test_a_model_that_places_pictures_on_their_captions_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert stage.known.attributes == {}
    stage.loss(first_batch(stage)).sum.backward()
    report = stage.evaluate("test", limit=None)
    assert "top1" not in report.metrics
    assert report.pictures == {}
    assert opened(run_of(stage, tmp_path)).evaluate("test", limit=None).metrics == report.metrics


def test_labels_that_training_never_shows_do_not_matter_to_contrast(tmp_path: Path) -> None:
    rows = [{"label": "cat", "caption": "a cat", "split": "train"}] * 4
    rows += [{"label": "fox", "caption": "a fox", "split": "val"}, {"label": "cat", "caption": "the cat", "split": "val"}]
    stage = on_files(write_corpus(tmp_path, rows), CONTRASTIVE)
    assert stage.data.quarantine == ()
    assert stage.validate().num_examples == 2


# Work


def test_work_counts_pictures() -> None:
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


# Weights of another run


def trunk_of(stage: Vision) -> dict[str, Tensor]:
    names = stage.model.state_dict().items()
    return {name: tensor for name, tensor in names if name.startswith("encoder.") and not name.startswith("encoder.head.")}


def rest_of(stage: Vision) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in stage.model.state_dict().items() if name not in trunk_of(stage)}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture
def giver(randomise: Randomise) -> Vision:
    stage = stage_of()
    randomise(stage.model)
    return stage


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


# Opening


@pytest.mark.parametrize("overrides", [(), (CONTRASTIVE,)])
def test_an_opened_model_is_the_one_that_was_saved(overrides: Sequence[str], tmp_path: Path, randomise: Randomise) -> None:
    stage = stage_of(*overrides)
    randomise(stage.model)
    again = opened(run_of(stage, tmp_path))
    assert again.config == stage.config
    assert again.known == stage.known
    assert again.evaluate("test", limit=None).metrics == stage.evaluate("test", limit=None).metrics


def test_a_model_folder_opens_on_other_data(giver: Vision, tmp_path: Path) -> None:
    other = opened(run_of(giver, tmp_path), data="tinyworld:7")
    assert other.known == giver.known
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
    assert again.known.attributes == {"label": ("cat", "dog")}
    with pytest.raises(DataError, match=f"^no such file or folder: {folder}$"):
        again.validate()


def test_a_model_of_files_cannot_name_scenes(tmp_path: Path) -> None:
    run = run_of(on_files(write_classes(tmp_path / "data", "cat", "dog")), tmp_path)
    with pytest.raises(DataError) as caught:
        opened(run, data="tinyworld").evaluate("test", limit=5)
    assert caught.value.message == "none of 5 pictures of tinyworld has all labels that name its class: label"


# Judging


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
def test_a_perfect_model_is_right_but_where_pictures_are_shuffled() -> None:
    stage = stage_of("data.num_eval_images=200", "label_smoothing=0")
    report = stage.evaluate("test", limit=None)
    assert (report.headline, report.better, report.num_examples) == ("top1", "higher", 200)
    assert list(report.metrics) == [
        "top1", "top5", "top1_heldout_pairs", *[f"accuracy_{name}" for name in stage.known.attributes],
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


@pytest.mark.usefixtures("knows_everything")
def test_pictures_are_judged_in_parts_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of()
    reports = []
    for count in (128, 7, 1):
        monkeypatch.setattr(vision, "EVALUATION_PICTURES", count)
        reports.append(stage.evaluate("test", limit=None))
    for report in reports[1:]:
        assert report.metrics == pytest.approx(dict(reports[0].metrics), rel=1e-5)
        assert report.predictions == reports[0].predictions


def test_how_many_are_seen_at_a_time_changes_nothing(giver: Vision, monkeypatch: pytest.MonkeyPatch) -> None:
    contrast = stage_of(CONTRASTIVE)
    for stage in (giver, contrast):
        whole = stage.validate().metrics
        monkeypatch.setattr(vision, "EVALUATION_PICTURES", 3)
        assert stage.validate().metrics == pytest.approx(dict(whole), rel=1e-4)
        monkeypatch.setattr(vision, "EVALUATION_PICTURES", 128)


def test_an_untrained_model_is_not_better_than_chance() -> None:
    report = stage_of("data.num_eval_images=200").evaluate("test", limit=None)
    assert report.metrics["top1"] <= 0.06
    assert report.metrics["top5"] <= 0.2
    assert report.metrics["loss"] > math.log(10)


def test_the_loss_of_a_report_is_that_of_training(giver: Vision) -> None:
    (found,) = [batch for _, batch in evaluation_batches(giver._images("val"), giver.labels, giver.view, 10, batch_size=10)]
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
    for content in report.pictures.values():
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert image.format == "PNG"


def test_pairs_that_files_never_show_in_training_count_apart(tmp_path: Path) -> None:
    rows = [{"label": {"shape": shape, "colour": colour}, "split": "train"} for shape, colour in PAIRS]
    rows += [{"label": {"shape": shape, "colour": colour}, "split": "test"} for shape, colour in (*PAIRS, ("ring", "blue"))]
    rows += [{"label": {"shape": "ring"}, "split": "test"}]
    stage = on_files(write_corpus(tmp_path, rows), "data.val_fraction=0")
    report = stage.evaluate("test", limit=None)
    assert stage.known.classes.unseen == {("ring", "blue")}
    taken_for = {row["id"]: row["prediction"] for row in report.predictions}
    assert report.metrics["top1_heldout_pairs"] == (taken_for["6.png"] == "blue ring")
    assert report.metrics["top1"] == pytest.approx(sum(row["prediction"] == row["reference"] for row in report.predictions[:3]) / 3)
    assert report.num_examples == 5
    assert sum(group["pictures"] for group in report.groups.values()) == 4
    assert report.predictions[4]["reference"] is None


def test_a_limit_takes_the_first_pictures(giver: Vision) -> None:
    for stage in (giver, stage_of(CONTRASTIVE)):
        report = stage.evaluate("test", limit=3)
        assert [row["id"] for row in report.predictions] == ["test/0", "test/1", "test/2"]
        assert "image" not in report.predictions[0]
        assert report.num_examples == 3
        assert stage.evaluate("test", limit=99).num_examples == 20
        assert stage.evaluate("test", limit=1).num_examples == 1


def test_captions_that_are_cut_are_counted_in_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_space, "MAX_CAPTION_TOKENS", 4)
    monkeypatch.setattr(vision, "MAX_CAPTION_TOKENS", 4)
    with caplog.at_level("INFO"):
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
def test_a_picture_is_named_as_in_the_split(giver: Vision) -> None:
    report = giver.evaluate("test", limit=5)
    found = giver._images("test")
    for index, row in enumerate(report.predictions):
        shares = giver.name_picture(torch.from_numpy(found.example(index, giver.view).image))
        assert list(shares) == list(giver.known.attributes)
        assert all(values.sum() == pytest.approx(1, abs=1e-5) for values in shares.values())
        best = {name: giver.known.attributes[name][values.argmax()] for name, values in shares.items()}
        assert row["prediction"] == f"{best['colour']} {best['shape']}"
        assert row["probability"] == pytest.approx(float(shares["colour"].max() * shares["shape"].max()), abs=1e-3)


@torch.no_grad()
def test_a_picture_is_matched_as_in_the_split(randomise: Randomise) -> None:
    stage = stage_of(CONTRASTIVE)
    randomise(stage.model)
    stage.model.eval()
    found = stage._images("test")
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


# Pictures of the world


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


def test_photographs_can_be_trained_on(test_data: Path) -> None:
    stage = on_files(test_data / "cifar10_mini", "data.augmentation=strong", "train.batch_size=32", "label_smoothing=0")
    assert stage.data.quarantine == ()
    assert stage.known.attributes["label"] == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    assert len(stage.data.training_set) + len(stage.data.split("val")) == 5_000
    losses = take_steps(stage, 6)
    assert losses == pytest.approx([math.log(10)] * 6, rel=0.3)
    report = stage.evaluate("test", limit=20)
    assert report.num_examples == 20
    assert report.metrics["loss"] < 4
    assert {content[:4] for content in report.pictures.values()} == {PNG}


def test_drawings_and_their_captions_can_be_trained_on(test_data: Path) -> None:
    stage = on_files(test_data / "openmoji", CONTRASTIVE, "train.batch_size=16")
    assert stage.data.quarantine == ()
    assert len(stage.known.attributes["label"]) == 12
    losses = take_steps(stage, 6)
    assert max(losses) < 6
    report = stage.evaluate("test", limit=20)
    assert report.num_examples == 20
    assert report.controls["recall_at_5_shuffled_floor"] >= 0.25
    assert {"recall_at_5", "top1"} <= set(report.metrics)
    assert all(isinstance(row["prediction"], str) for row in report.predictions)
