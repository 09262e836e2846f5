"""What must be true of every stage; a new one inherits these tests by being in the registry."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_factory import make_stage
from torch import Tensor, nn

from omnictl.config import resolve, to_dict, to_json
from omnictl.data.dialogues.batches import pack_examples
from omnictl.data.dialogues.modalities import MODALITIES
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.speech.batches.codes import collate_codes
from omnictl.nn.batch_statistics import apply_batch_statistics
from omnictl.stages import STAGES, command_recipe, command_stages, stage_recipe, stage_type
from omnictl.stages.pretrain import Pretrain
from omnictl.stages.sft import Sft
from omnictl.stages.talker import TalkerStage
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loader import micro_batches
from omnictl.trainer.optim.gradient import accumulate, normalise
from omnictl.trainer.optim.optimizers import Optimizers

EXAMPLES = Path(__file__).parents[2] / "examples" / "configs"
EXAMPLE_OF: Mapping[str, str] = {
    "pretrain": "thinker_tiny.json",
    "asr": "audio_enc_tiny.json",
    "vision": "vision_tiny.json",
    "talker": "talker_tiny.json",
    "sft": "omni_sft_tiny.json",
}
"""The example file that equals a command's preset `tiny`."""

FP32 = Precision("fp32", "")

every_stage = pytest.mark.parametrize("name", STAGES)


def take_gradient(stage: Any, ids: Sequence[int], *, micro_batch: int | None = None) -> float:
    """Leave the clipped gradient of the mean loss over examples in `.grad`; returns that loss."""
    batches, scaler = stage.batches(), FP32.scaler(torch.device("cpu"))
    made = map(batches.collate, micro_batches(ids, micro_batch or len(ids)))
    sums = accumulate(stage, made, precision=FP32, scaler=scaler)
    normalise(list(stage.model.parameters()), sums.count, stage.config.train.clip_norm)
    return sums.loss


@every_stage
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_parameter_gets_a_gradient_within_three_steps(name: str, kind: str) -> None:
    stage = make_stage(name)
    optimizers = Optimizers(stage.model, stage.config.train, kind)
    missing = set(optimizers.named)
    for step in range(3):
        take_gradient(stage, stage.batches().ids(step))
        for parameter_name, parameter in optimizers.named.items():
            if parameter.grad is not None:
                assert parameter.grad.isfinite().all(), parameter_name
                if parameter.grad.any():
                    missing.discard(parameter_name)
        for part in optimizers.parts:
            part.step()
        optimizers.zero_grad()
    assert not missing


@every_stage
def test_a_loss_is_a_sum_over_examples(name: str, randomise: Callable[[nn.Module], None]) -> None:
    stage = make_stage(name)
    randomise(stage.model)
    stage.model.double().eval()
    batches = stage.batches()
    ids = list(batches.ids(0))
    whole, *halves = (stage.loss(batches.collate(part)) for part in (ids, ids[:3], ids[3:]))
    assert whole.count == sum(half.count for half in halves) > 0
    torch.testing.assert_close(whole.sum, sum(half.sum for half in halves), rtol=1e-6, atol=0)
    for key, value in whole.scalars.items():
        assert not value.requires_grad
        torch.testing.assert_close(value, sum(half.scalars[key] for half in halves), rtol=1e-6, atol=0)


@every_stage
def test_work_adds_up_too(name: str) -> None:
    stage = make_stage(name)
    batches = stage.batches()
    ids = list(batches.ids(1))
    whole, *halves = (stage.work(batches.collate(part)) for part in (ids, ids[:3], ids[3:]))
    total = [sum(values) for values in zip(*halves, strict=True)]
    assert whole[:3] == pytest.approx(total[:3])  # the slots are fewer if halves of different length are padded apart
    assert min(whole) > 0
    assert whole.positions <= whole.slots


@every_stage
def test_batches_are_a_function_of_the_step(name: str) -> None:
    one, two = make_stage(name), make_stage(name)
    size = one.config.train.batch_size
    first, second = one.batches(), two.batches()
    later = first.collate(first.ids(5))  # asked for out of order
    for step in (0, 1, 5):
        assert list(first.ids(step)) == list(second.ids(step))
        assert len(first.ids(step)) == size
        names = first.names(first.ids(step))
        assert len(names) == size
        assert all(names)
    assert one.loss(later).sum.item() == two.loss(second.collate(second.ids(5))).sum.item()


@every_stage
def test_the_same_seed_gives_the_same_weights_and_another_does_not(name: str) -> None:
    config: Any = stage_recipe(name).presets["debug"]
    other = config.model_copy(update={"train": config.train.model_copy(update={"seed": 1})})
    one, two, three = (make_stage(name, c).model.state_dict() for c in (config, config, other))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], three[key]) for key in one)


@every_stage
def test_the_loss_falls_on_one_batch_again_and_again(name: str) -> None:
    stage = make_stage(name)
    optimizers = Optimizers(stage.model, stage.config.train, "adamw")
    losses = []
    for _ in range(15):
        losses.append(take_gradient(stage, stage.batches().ids(0)))
        optimizers.parts[0].step()
        optimizers.zero_grad()
        apply_batch_statistics(stage.model)
    assert losses[-1] < 0.8 * losses[0]


WITHOUT_SAMPLES = {"codec", "aligner", "vocoder"}
"""Stages whose validation has nothing that a person would read."""


@every_stage
def test_validation_is_repeatable_and_has_its_headline(name: str) -> None:
    stage = make_stage(name)
    with torch.no_grad():
        one, two = stage.validate(), stage.validate()
    assert one.metrics == two.metrics
    assert one.predictions == two.predictions
    assert bool(one.predictions) == (name not in WITHOUT_SAMPLES)
    assert one.headline == next(iter(one.metrics))
    assert one.num_examples > 0


@every_stage
def test_a_model_folder_opens_as_the_stage_it_describes(name: str, tmp_path: Path) -> None:
    stage = make_stage(name)
    stage.save_description(tmp_path)
    opened = stage_type(name).open(tmp_path, data=None, cache=cache_dir())
    assert opened.config == stage.config
    shapes = [{key: tensor.shape for key, tensor in each.model.state_dict().items()} for each in (stage, opened)]
    assert shapes[0] == shapes[1]


@every_stage
def test_an_opened_stage_begins_as_the_one_that_was_made(name: str, tmp_path: Path) -> None:
    """A run that was killed before its first checkpoint begins anew, from its description alone."""
    stage = make_stage(name)
    stage.save_description(tmp_path)
    opened = stage_type(name).open(tmp_path, data=None, cache=cache_dir())
    made, again = (each.batches() for each in (stage, opened))  # as the loop begins
    one, two = stage.model.state_dict(), opened.model.state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert stage.loss(made.collate(made.ids(0))).sum.item() == opened.loss(again.collate(again.ids(0))).sum.item()


@every_stage
def test_registry_and_class_agree(name: str) -> None:
    assert stage_type(name).name == name
    assert STAGES[name].summary.endswith(".")
    assert {"debug", "tiny", "small"} <= set(stage_recipe(name).presets)


@every_stage
@pytest.mark.parametrize("preset", ["debug", "tiny", "small"])
def test_presets_are_valid_and_survive_a_file(name: str, preset: str, tmp_path: Path) -> None:
    recipe = stage_recipe(name)
    config = recipe.presets[preset]
    (tmp_path / "config.json").write_text(to_json(config))
    assert resolve(recipe.config_type, preset=None, file=tmp_path / "config.json") == config
    assert recipe.config_type(**to_dict(config)) == config


@pytest.mark.parametrize("name", command_stages())
def test_the_example_file_is_the_tiny_preset(name: str) -> None:
    recipe, path = command_recipe(name), EXAMPLES / EXAMPLE_OF[name]
    assert json.loads(path.read_text(encoding="utf-8")) == to_dict(recipe.presets["tiny"])


def pretrain_logits(stage: Pretrain, changed: Sequence[int]) -> Tensor:
    """As below: the targets of one window are the tokens of its text, and they are changed in the text itself."""
    batches = stage.batches()
    index = batches.collate([1]).index[0]
    tokens = batches.store.tokens.copy()
    for target in changed:
        place = int(index[target])
        tokens[place] = (int(tokens[place]) + 1) % stage.tokenizer.vocab_size
    batches.store = replace(batches.store, tokens=tokens)
    batch = batches.collate([1])
    logits: Tensor = stage.model.logits(stage.model(batch.tokens, segments=batch.segments).hidden)[0]
    return logits


def talker_logits(stage: TalkerStage, changed: Sequence[int]) -> Tensor:
    """As below: the targets of one step are its codes of all books."""
    found = stage.code_split("train")
    index = max(range(len(found)), key=lambda i: found.codes[i].shape[1])
    codes = found.codes[index].copy()  # (K, S)
    for step, book in itertools.product(changed, range(len(codes))):
        if 0 <= step - book < codes.shape[1]:
            codes[book, step - book] = (codes[book, step - book] + 1) % stage.layout.codes
    all_codes = [codes if i == index else each for i, each in enumerate(found.codes)]
    batch = collate_codes(replace(found, codes=all_codes), [index], [codes], stage.layout)
    return stage.scores(batch, stage.read(batch))[0].flatten(1)


def sft_logits(stage: Sft, changed: Sequence[int]) -> Tensor:
    """As below: the targets of an example are its tokens, read one later; of media, whose places stay as they are, those after."""
    examples = map(stage.batches().example, itertools.count())
    example = next(each for each in examples if each.encoded.media and len(each.encoded.tokens) > 90)
    tokens = example.encoded.tokens.copy()
    first = (
        max(place for place, token in enumerate(tokens) if token in [modality.placeholder for modality in MODALITIES.values()]) + 1
    )
    for target in changed:
        tokens[first + target] = 10 + (tokens[first + target] + 1) % 200
    batch = pack_examples([example._replace(encoded=example.encoded._replace(tokens=tokens))], len(tokens), placed=stage.placed)
    features = {kind: stage.features(kind, values) for kind, values in batch.media.items()}
    hidden = stage.model(batch.tokens, features, segments=batch.segments).hidden
    logits: Tensor = stage.model.thinker.logits(hidden)[0, first - 1 : -1]
    return logits


AUTOREGRESSIVE: Mapping[str, Callable[[Any, Sequence[int]], Tensor]] = {
    "pretrain": pretrain_logits,
    "talker": talker_logits,
    "sft": sft_logits,
}
"""For a stage that predicts one target after another: the logits `(T, V)` scored against the T targets of one example after
some of these targets, given by number, were changed in the data."""

NOT_AUTOREGRESSIVE: frozenset[str] = frozenset({"asr", "vision", "codec", "aligner", "vocoder"})
"""Stages whose targets are no inputs."""


@every_stage
@torch.no_grad()
def test_a_target_is_scored_without_seeing_it(name: str, randomise: Callable[[nn.Module], None]) -> None:
    assert (name in AUTOREGRESSIVE) != (name in NOT_AUTOREGRESSIVE), f"say of `{name}` whether its targets are inputs"
    if name in NOT_AUTOREGRESSIVE:
        return
    stage = make_stage(name)
    randomise(stage.model)
    stage.model.double().eval()
    logits = AUTOREGRESSIVE[name]
    plain = logits(stage, [])
    for t in (1, 2, len(plain) // 2, 40):
        at_and_after = logits(stage, range(t, min(t + 12, 50)))
        torch.testing.assert_close(at_and_after[: t + 1], plain[: t + 1], atol=1e-10, rtol=0)
        assert (at_and_after[t + 1] - plain[t + 1]).abs().max() > 1e-3
        just_before = logits(stage, [t - 1])
        assert (just_before[t] - plain[t]).abs().max() > 1e-3
        torch.testing.assert_close(just_before[:t], plain[:t], atol=1e-10, rtol=0)


NOT_ESTIMATED = {"real_time_factor", "set_aside", "first_audio_seconds", "bits_per_second", "loss", "mel_mse"} | {
    "calibration_error",
    "codebook_perplexity_min_ratio",
    "codebook_usage_min",
}
"""Speeds, counts and settings; losses that are not the headline; and measures that resampling is wrong about, since few examples
bias them."""


@pytest.mark.slow
@every_stage
def test_every_metric_says_how_exact_it_is(name: str) -> None:
    stage: Any = make_stage(name)
    stage.model.eval()
    report = stage.evaluate("test", limit=4, judge=Deaf() if STAGES[name].judge else None)
    assert set(report.metrics) - set(report.estimates) <= NOT_ESTIMATED
    assert set(report.estimates) <= set(report.metrics)
    for metric, estimate in report.estimates.items():
        assert estimate.value == pytest.approx(report.metrics[metric], rel=1e-4), metric
        assert estimate.low <= estimate.value <= estimate.high, metric
        assert estimate.count > 0
        if estimate.control is not None:
            assert estimate.control.value == pytest.approx({**report.metrics, **report.controls}[estimate.control.name]), metric
            assert isinstance(estimate.beats, bool)
    assert report.estimates[report.headline].control is not None or name == "aligner"
    assert report.verdict is not None
    assert report.verdict.word == "not learned"
    validated = stage.validate()
    assert validated.verdict is None
    assert not validated.estimates


class Deaf:
    """A recogniser that understands nothing."""

    rate = 16_000

    def read(self, audio: object) -> str:
        return "nothing"
