"""Stage E on pairs of replies: what is compared with what, what is kept, and what is asked of data and settings."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from stage_factory import finished_run, make_stage

from omnictl.config import resolve
from omnictl.data.dialogues.examples import encode_pair
from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import CheckpointError, ConfigError
from omnictl.runs.checksums import seal_anew
from omnictl.runs.run import Run
from omnictl.stages.protocol import StageContext, open_model
from omnictl.stages.sft import OBJECTIVE_PRESETS, Sft, SftConfig
from omnictl.trainer.checkpoint import keep_weights, plain_state_dict
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.plan.memory_trace import trace_step

DPO = OBJECTIVE_PRESETS["dpo"]["debug"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of stage E that has learned nothing. Not to be changed."""
    return finished_run(tmp_path_factory.mktemp("trained") / "runs", "sft")


def begin(trained: Run, *overrides: str) -> Sft:
    config = resolve(SftConfig, preset=DPO, overrides=overrides)
    return Sft.create(config, context=StageContext(cache_dir(), init=trained))


def take_steps(stage: Sft, steps: int, lr: float = 3e-3) -> list[float]:
    """Losses of one batch that is learned again and again."""
    batch = stage.batches().collate(range(6))
    optimizer = torch.optim.AdamW([one for one in stage.model.parameters() if one.requires_grad], lr=lr)
    losses = []
    for _ in range(steps):
        result = stage.loss(batch)
        losses.append(float(result.sum.detach()) / result.count)
        (result.sum / result.count).backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses


def save_and_open(stage: Sft, folder: Path) -> Sft:
    stage.save_description(folder)
    seal_anew(folder)
    keep_weights(plain_state_dict(stage.model), folder)
    return open_model(Sft, folder, device=torch.device("cpu"), cache=cache_dir())


def test_it_begins_undecided_and_learns_which_is_better(trained: Run) -> None:
    stage = begin(trained)
    batch = stage.batches().collate(range(6))
    result = stage.loss(batch)
    assert (result.count, len(batch.lengths)) == (6, 12)
    assert float(result.sum.detach()) == pytest.approx(6 * torch.tensor(2.0).log().item(), abs=1e-6)
    assert float(result.scalars["margin"]) == float(result.scalars["preferred"]) == 0
    losses = take_steps(stage, 8)
    assert losses[-1] < 0.5 < losses[0]
    assert float(stage.loss(batch).scalars["preferred"]) == 6


def test_only_the_last_replies_are_compared(trained: Run) -> None:
    stage = begin(trained)
    dialogue = next(one for one in stage.data.training_set.all_pairs() if len(one.messages) > 2)
    better, worse = encode_pair(dialogue, stage.template, stage.media_features("train"))
    read = [stage.tokenizer.decode([token for token in one.encoded.targets if token >= 0]).strip() for one in (better, worse)]
    assert read == [f"{dialogue.answer}<|im_end|>", f"{dialogue.rejected}<|im_end|>"]
    assert dialogue.rejected != dialogue.answer


def test_a_pair_is_scored_as_it_is_alone(trained: Run) -> None:
    stage = begin(trained)
    batches = stage.batches()
    with torch.no_grad():
        together = stage._score_examples(stage.model, batches.collate([3, 4, 5]))
        alone = torch.cat([stage._score_examples(stage.model, batches.collate([number])) for number in (3, 4, 5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("overrides", [(), ("model.lora_rank=2",)], ids=str)
def test_what_it_began_as_is_kept_in_the_model_folder(trained: Run, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    stage = begin(trained, *overrides)
    take_steps(stage, 3)
    opened = save_and_open(stage, tmp_path)
    batch = stage.batches().collate([7, 8])
    with torch.no_grad():
        assert torch.equal(opened.loss(batch).sum, stage.loss(batch).sum)
        assert float(stage.loss(batch).scalars["margin"]) != 0
    (tmp_path / "reference.safetensors").write_bytes(b"")
    again = Sft.open(tmp_path, data=None, cache=cache_dir())
    for _ in range(2):  # there is no half-opened one after the first
        with pytest.raises(CheckpointError, match=r"reference\.safetensors is damaged"):
            again.loss(batch)


@pytest.mark.parametrize("overrides", [(), ("model.lora_rank=2",)], ids=str)
def test_a_resumed_run_has_what_it_began_as_before_its_memory_is_planned(
    trained: Run, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    stage = begin(trained, *overrides)
    take_steps(stage, 2)
    again = save_and_open(stage, tmp_path)
    batches = again.batches()
    (tmp_path / "reference.safetensors").unlink()
    fp32 = Precision("fp32", "for the test")
    few = batches.collate(batches.largest(2))
    trace_step(again, few, again.config.train, optimizer="adamw", precision=fp32, accumulates=False)
    batch = batches.collate([7, 8])
    with torch.no_grad():
        assert torch.equal(again.loss(batch).sum, stage.loss(batch).sum)


def test_a_run_with_trained_encoders_is_refused_by_name(trained: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(trained.path, tmp_path / "run")))
    described = json.loads((run.model / "config.json").read_text())
    described["config"]["model"]["encoders"] = "trained"
    (run.model / "config.json").write_text(json.dumps(described))
    seal_anew(run.model)
    with pytest.raises(
        ConfigError, match=r"has model.encoders=trained, pairs of replies are learned with frozen encoders"
    ) as caught:
        begin(run)
    assert caught.value.fix == "name a run of `omnictl sft` with model.encoders=frozen, which is the default"
    with pytest.raises(ConfigError, match="dpo needs a run with frozen encoders"):
        resolve(SftConfig, preset=DPO, overrides=["model.encoders=trained"])


def test_validation_leads_with_the_pairs(trained: Run) -> None:
    report = begin(trained).validate()
    assert report.headline == "preferred"
    assert report.metrics["preferred"] == 0
    assert report.metrics["preference_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert "accuracy" in report.metrics


def test_a_model_is_asked_for() -> None:
    with pytest.raises(CheckpointError, match="and none was named") as caught:
        make_stage("sft", DPO)
    assert caught.value.fix == "name a run of `omnictl sft`: --objective dpo --init latest"


def test_settings_that_pairs_have_no_use_for_are_named() -> None:
    with pytest.raises(ConfigError, match=r"set lookup_steps=0, data.replay=0, or take --objective dpo"):
        resolve(SftConfig, preset=DPO, overrides=["lookup_steps=3", "data.replay=0.1"])


def rows(*pairs: tuple[str, str | None]) -> str:
    asked = {"role": "user", "content": "What do you like?"}
    lines = [
        {"messages": [asked, {"role": "assistant", "content": better}], **({} if worse is None else {"rejected": worse})}
        for better, worse in pairs
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_pairs_of_ones_own(trained: Run, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(rows(*((f"I like {n} trees.", f"Trees, {n}.") for n in range(30)), ("No pair.", None)))
    fractions = ("data.val_fraction=0.2", "data.test_fraction=0.2", "data.max_broken=0.2", "data.counts={}")
    stage = begin(trained, f"data.source={json.dumps(str(path))}", *fractions)
    assert set(stage.parts) == set(Sft.needs)
    for row in stage.data.quarantine:
        assert row.message == 'no "rejected" reply beside the better one, which --objective dpo compares it with'
    assert stage.validate().headline == "preferred"
