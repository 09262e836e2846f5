import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from omnictl.config import resolve
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.text.tokenizer import END
from omnictl.errors import CheckpointError
from omnictl.models.thinker import training_flops
from omnictl.nn.batch_statistics import apply_batch_statistics
from omnictl.nn.moe import MixtureOfExperts
from omnictl.runs.run import create_run
from omnictl.stages import pretrain
from omnictl.stages.pretrain import PRESETS, Pretrain, PretrainConfig
from omnictl.stages.protocol import StageContext
from omnictl.trainer.checkpoint import load_weights, plain_state_dict, save_tensors
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.loader import micro_batches
from omnictl.trainer.optim.gradient import accumulate, normalise

FP32 = Precision("fp32", "")
Randomise = Callable[[nn.Module], None]


def stage_of(*overrides: str) -> Pretrain:
    """The debug preset; its windows hold several pieces of documents, of unequal length, and padding."""
    config = resolve(PretrainConfig, preset=PRESETS["debug"], overrides=["data.seq_len=128", *overrides])
    return Pretrain.create(config, context=StageContext(cache_dir()))


UNEVEN = 8
"""A step whose windows hold different numbers of tokens."""


def gradient(stage: Any, micro_batch: int) -> Tensor:
    """Of the mean loss of a whole batch, all parameters in one vector."""
    stage.model.zero_grad(set_to_none=True)
    stage.model.train()
    batches, scaler = stage.batches(), FP32.scaler(torch.device("cpu"))
    made = map(batches.collate, micro_batches(batches.ids(UNEVEN), micro_batch))
    sums = accumulate(stage, made, precision=FP32, scaler=scaler)
    normalise(list(stage.model.parameters()), sums.count, clip_norm=math.inf)
    return torch.cat([p.grad.flatten() for p in stage.model.parameters() if p.grad is not None])


def mixtures(model: nn.Module) -> list[MixtureOfExperts]:
    return [module for module in model.modules() if isinstance(module, MixtureOfExperts)]


def set_uneven_loads(model: nn.Module) -> None:
    """Under even ones, as in the first step, the balance term is constant: the shares of a position sum to one."""
    for mixture in mixtures(model):
        mixture.load.copy_(torch.tensor([0.1, 0.4, 0.2, 0.3]))


def test_the_windows_that_are_accumulated_over_are_unequal() -> None:
    batches = stage_of().batches()
    segments = batches.collate(batches.ids(UNEVEN)).segments
    assert segments is not None
    assert len({int((row >= 0).sum()) for row in segments}) > 3
    assert segments.max() >= 1


@pytest.mark.parametrize("kind", ["dense", "mixture"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["fp32", "fp64"])
def test_any_split_of_a_batch_gives_the_same_gradient(
    kind: str, dtype: torch.dtype, tolerance: float, randomise: Randomise
) -> None:
    stage = stage_of("model.experts=4", "model.balance_weight=0.5") if kind == "mixture" else stage_of()
    randomise(stage.model)
    stage.model.to(dtype)
    set_uneven_loads(stage.model)
    whole = gradient(stage, micro_batch=8)
    apply_batch_statistics(stage.model)
    taken_over = [mixture.load.tolist() for mixture in mixtures(stage.model)]
    assert len(taken_over) == (2 if kind == "mixture" else 0)
    for micro_batch in (1, 2, 3):
        set_uneven_loads(stage.model)
        parts = gradient(stage, micro_batch)
        assert (parts - whole).norm() <= tolerance * whole.norm(), micro_batch
        apply_batch_statistics(stage.model)
        assert [mixture.load.tolist() for mixture in mixtures(stage.model)] == taken_over


def test_the_balance_term_reaches_the_gradient(randomise: Randomise) -> None:
    gradients = []
    for weight in (0.0, 0.5):
        stage = stage_of("model.experts=4", f"model.balance_weight={weight}")
        randomise(stage.model)
        set_uneven_loads(stage.model)
        gradients.append(gradient(stage, 8))
    assert (gradients[1] - gradients[0]).norm() > 1e-3 * gradients[0].norm()


def test_experts_are_logged_apart_from_the_nats(randomise: Randomise) -> None:
    stage = stage_of("model.experts=4", "model.balance_weight=0.5")
    randomise(stage.model)
    batches = stage.batches()
    loss = stage.loss(batches.collate(batches.ids(0)))
    assert set(loss.scalars) == {"nats", "balance"}
    torch.testing.assert_close(loss.sum, loss.scalars["nats"] + 0.5 * loss.scalars["balance"])
    assert loss.scalars["balance"] / loss.count == pytest.approx(2.0, abs=0.3)  # E Σ f p is 1 a layer when even


@torch.no_grad()
def test_scores_are_those_of_each_document_read_alone(randomise: Randomise) -> None:
    stage = stage_of("data.seq_len=300", "model.context=300", "data.num_eval_documents=5")
    randomise(stage.model)
    stage.model.double()
    store = stage.data.split("val")
    scores = stage.score(store)
    assert scores.nats[0] == 0
    for start, stop in itertools.pairwise(store.bounds.tolist()):
        text = torch.tensor([END, *store.tokens[start:stop].tolist()])
        assert text[-1] == END
        logits = stage.model.logits(stage.model(text[None, :-1]).hidden[0])
        nats = F.cross_entropy(logits, text[1:], reduction="none")
        torch.testing.assert_close(torch.from_numpy(scores.nats[start:stop]), nats, atol=1e-5, rtol=0)
        assert scores.is_likeliest[start:stop].tolist() == (logits.argmax(-1) == text[1:]).tolist()


def test_an_untrained_thinker_knows_no_more_than_a_uniform_guess() -> None:
    stage = stage_of()
    report = stage.validate()
    scatter = 0.5  # logits of variance one cost half their variance
    assert report.metrics["loss"] == pytest.approx(math.log(320) + scatter, abs=0.05)
    assert report.metrics["perplexity"] == report.value == pytest.approx(math.exp(report.metrics["loss"]))
    store = stage.data.split("val")
    bits = report.metrics["loss"] * store.num_predictions / math.log(2) / store.num_bytes
    assert report.metrics["bits_per_byte"] == pytest.approx(bits)
    assert report.num_examples == 20


def test_the_batch_size_does_not_change_what_is_measured(randomise: Randomise) -> None:
    metrics = []
    for size in (1, 7):
        stage = stage_of(f"train.batch_size={size}")
        randomise(stage.model)
        metrics.append(stage.validate().metrics)
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-6)


@pytest.mark.slow
def test_evaluation_measures_writes_and_knows_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "NUM_CONTINUATIONS", 20)  # tests of commands take fewer, as long as they last
    stage = stage_of("data.num_eval_documents=6")
    report = stage.evaluate("test", limit=None)
    assert list(report.metrics) == [
        "perplexity", "loss", "bits_per_byte", "excess_ratio", "ngram_excess_ratio", "determined_accuracy", "optimal_loss",
    ]  # fmt: skip
    assert report.num_examples == 6
    assert 1 + report.metrics["excess_ratio"] == pytest.approx(report.metrics["loss"] / report.metrics["optimal_loss"])
    documents = list(stage.data.corpus.documents("test"))
    assert len(report.predictions) == 6
    for number, prediction in enumerate(report.predictions):
        assert set(prediction) == {"id", "task", "prompt", "reference", "prediction"}
        assert prediction["id"] == f"test/{number}"
        assert documents[number].startswith(f"{prediction['prompt']}{prediction['reference']}")
        json.dumps(prediction)


@pytest.mark.slow
def test_evaluation_of_some_documents_is_that_of_a_smaller_split() -> None:
    few, many = stage_of("data.num_eval_documents=2"), stage_of("data.num_eval_documents=6")
    expected, got = few.evaluate("test", limit=None), many.evaluate("test", limit=2)
    assert got.num_examples == 2
    assert got.metrics == pytest.approx(dict(expected.metrics))
    assert got.predictions == expected.predictions
    assert many.evaluate("test", limit=99).num_examples == 6


def test_text_of_ones_own_has_no_known_limit(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("\n".join(f"Line {n} tells of {n * n} things, and {n % 7} more." for n in range(400)))
    stage = stage_of(f"data.source={path}", "data.tokenizer=char")
    report = stage.evaluate("test", limit=None)
    assert list(report.metrics) == ["perplexity", "loss", "bits_per_byte"]


def test_work_counts_targets_and_attention_inside_documents() -> None:
    stage = stage_of()
    batches = stage.batches()
    batch = batches.collate(batches.ids(1))
    assert batch.segments is not None
    lengths = [int((row == piece).sum()) for row in batch.segments for piece in range(int(row.max()) + 1)]
    assert sum(lengths) == batch.num_targets
    flops = training_flops(stage.model, torch.tensor(lengths))
    assert stage.work(batch) == (batch.num_targets, flops, batch.num_targets, batch.tokens.numel())


def test_a_model_folder_brings_weights_and_tokenizer_back(tmp_path: Path, randomise: Randomise) -> None:
    stage = stage_of("data.num_eval_documents=4")
    randomise(stage.model)
    stage.save_description(tmp_path)
    save_tensors(plain_state_dict(stage.model), tmp_path / "model.safetensors")
    opened = Pretrain.open(tmp_path, data=None, cache=cache_dir())
    load_weights(tmp_path / "model.safetensors", opened.model)
    assert opened.tokenizer.fingerprint == stage.tokenizer.fingerprint
    assert opened.validate().metrics == stage.validate().metrics
    description = json.loads((tmp_path / "config.json").read_text())
    assert (description["vocab_size"], description["chat"]) == (320, "chatml")


def test_a_model_folder_opens_on_other_data(tmp_path: Path) -> None:
    stage = stage_of("data.num_eval_documents=4")
    stage.save_description(tmp_path)
    opened = Pretrain.open(tmp_path, data="tinyworld:7", cache=cache_dir())
    assert opened.tokenizer.fingerprint == stage.tokenizer.fingerprint  # the model's, not one of the new data
    assert list(opened.data.corpus.documents("val")) != list(stage.data.corpus.documents("val"))
    assert opened.config.model == stage.config.model


def test_weights_are_taken_from_another_run(tmp_path: Path, randomise: Randomise) -> None:
    giver, taker = stage_of(), stage_of("train.seed=5")
    run = create_run(tmp_path, "pretrain", "giver", {})
    giver.save_description(run.model)
    randomise(giver.model)
    save_tensors(plain_state_dict(giver.model), run.model / "model.safetensors")
    taker.take_weights(run)
    for one, two in zip(giver.model.parameters(), taker.model.parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(CheckpointError, match=r"embedding\.weight: found 320×32, expected 300×32"):
        stage_of("data.vocab_size=300").take_weights(run)


def test_windows_longer_than_the_context_are_refused() -> None:
    values = PRESETS["debug"].model_dump()
    values["data"]["seq_len"] = values["model"]["context"] + 1
    with pytest.raises(ValidationError, match="context"):
        PretrainConfig(**values)
