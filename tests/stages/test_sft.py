"""Stage E at its smallest: what moves and what does not, what is kept, what is asked of the data."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stage_factory import finished_run, make_stage, untrained

from omnictl.config import resolve
from omnictl.data.dialogues.examples import task_weights
from omnictl.data.dialogues.imitated_media import WordFeatures
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.errors import CheckpointError, DataError
from omnictl.evaluation.media_controls import exchange_media, take_media_away
from omnictl.generate.token_decoder import Prompt, answer_greedily
from omnictl.stages.protocol import StageContext, open_model
from omnictl.stages.sft import PRESETS, Sft, SftConfig
from omnictl.stages.talker import TalkerStage
from omnictl.trainer.checkpoint import plain_state_dict, save_tensors
from omnictl.trainer.hardware.precision import Precision
from omnictl.trainer.optim.gradient import accumulate, normalise
from omnictl.trainer.optim.optimizers import Optimizers

FP32 = Precision("fp32", "")


def config_of(*overrides: str) -> SftConfig:
    return resolve(SftConfig, preset=PRESETS["debug"], overrides=overrides)


def take_steps(stage: Any, steps: int) -> None:
    optimizers = Optimizers(stage.model, stage.config.train, "adamw")
    batches, scaler = stage.batches(), FP32.scaler(torch.device("cpu"))
    stage.model.train()
    for step in range(steps):
        sums = accumulate(stage, iter([batches.collate(batches.ids(step))]), precision=FP32, scaler=scaler)
        normalise(optimizers.parameters, sums.count, 1.0)
        optimizers.parts[0].step()
        optimizers.zero_grad()
    stage.model.eval()


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(before: dict[str, torch.Tensor], module: torch.nn.Module) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_frozen_encoders_stay_bit_for_bit_and_in_eval_mode() -> None:
    stage = make_stage("sft")
    before = {kind: snapshot(encoder) for kind, encoder in stage.encoders.items()}
    thinker = snapshot(stage.model.thinker)
    take_steps(stage, 3)
    assert set(before) == {"image", "audio"}
    for kind, encoder in stage.encoders.items():
        assert same(before[kind], encoder)
        assert not any(module.training for module in encoder.modules())
        assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not same(thinker, stage.model.thinker)


def test_projectors_learn_alone_first() -> None:
    stage = make_stage("sft", config_of("projector_steps=2"))
    thinker, projectors = snapshot(stage.model.thinker), snapshot(stage.model.projectors)
    take_steps(stage, 2)
    assert same(thinker, stage.model.thinker)
    assert not same(projectors, stage.model.projectors)
    stage = make_stage("sft", config_of("projector_steps=2"))
    take_steps(stage, 3)
    assert not same(thinker, stage.model.thinker)


def test_words_stand_for_media_before_projectors_learn() -> None:
    stage = make_stage("sft", config_of("lookup_steps=2", "projector_steps=2"))
    batches = stage.batches()
    made = [batches.collate(batches.ids(step)) for step in range(5)]
    assert [batch.imitates for batch in made] == [True, True, False, False, False]
    assert [batch.projectors_only for batch in made] == [False, False, True, True, False]
    assert batches.typical_step == 4
    assert all(isinstance(value, WordFeatures) for batch in made[:2] for values in batch.media.values() for value in values)
    assert made[0].media.keys() | made[1].media.keys() == {"image"}

    projectors, thinker = snapshot(stage.model.projectors), snapshot(stage.model.thinker)
    take_steps(stage, 2)
    assert same(projectors, stage.model.projectors)
    assert not same(thinker, stage.model.thinker)
    thinker = snapshot(stage.model.thinker)
    stage = make_stage("sft", config_of("lookup_steps=2", "projector_steps=2"))
    take_steps(stage, 4)
    assert same(thinker, stage.model.thinker)
    assert not same(projectors, stage.model.projectors)


def test_words_that_nobody_knows_stand_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make_stage("sft", config_of("imitation_steps=2", "projector_steps=1"))
    monkeypatch.setattr(type(stage.data.corpus), "generated", False)
    batches = stage.batches()
    assert batches.typical_step == 1
    assert not batches.collate(batches.ids(0)).imitates


def test_encoders_may_be_trained_along() -> None:
    stage = make_stage("sft", config_of("model.encoders=trained"))
    before = snapshot(stage.model.encoders["image"])
    take_steps(stage, 3)
    changed = {name for name, tensor in stage.model.encoders["image"].state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not any(".head." in name for name in changed)


def test_low_rank_updates_leave_the_thinker_itself_alone() -> None:
    stage = make_stage("sft", config_of("model.lora_rank=2"))
    before = snapshot(stage.model.thinker)
    take_steps(stage, 3)
    changed = {name for name, tensor in stage.model.thinker.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.endswith((".up", ".down")) for name in changed)


@pytest.mark.parametrize("overrides", [(), ("model.encoders=trained",), ("model.lora_rank=2",), ("model.positions=time",)], ids=str)
def test_what_is_saved_answers_and_speaks_the_same(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    stage = make_stage("sft", config_of(*overrides))
    take_steps(stage, 2)
    stage.save_description(tmp_path)
    save_tensors(plain_state_dict(stage.model), tmp_path / "model.safetensors")
    opened = open_model(Sft, tmp_path, device=torch.device("cpu"), cache=cache_dir())
    batch = stage.batches().collate([5, 6, 7])
    with torch.no_grad():
        one, two = stage.loss(batch), opened.loss(batch)
        logits = [each.model.thinker.logits(each._score(each.model, batch)[0].hidden) for each in (stage, opened)]
    assert torch.equal(one.sum, two.sum)
    assert torch.equal(*logits)
    first, second = (
        open_model(TalkerStage, folder, device=torch.device("cpu"), cache=cache_dir()).model.state_dict()
        for folder in (stage.parts["talker"], tmp_path / "talker")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_answers_side_by_side_are_those_one_by_one() -> None:
    for overrides in ((), ("model.positions=time",)):
        stage = make_stage("sft", config_of(*overrides))
        take_steps(stage, 25)
        dialogues, shown, respondent = list(stage.data.split("val").all()), stage.media_features("val"), stage.respondent()
        together = [one.answer for one in respondent.answer_all(dialogues, shown, max_reply=6)]
        alone = [respondent.answer_all([dialogue], shown, max_reply=6)[0].answer for dialogue in dialogues]
        assert together == alone
        assert len(set(together)) > 1


def test_cached_answers_are_those_of_the_full_forward() -> None:
    stage = make_stage("sft", config_of("model.positions=time"))
    take_steps(stage, 3)
    dialogue = next(dialogue for dialogue in stage.data.split("val").all() if dialogue.media)
    respondent, shown = stage.respondent(), stage.media_features("val")
    prompt = respondent.embed([stage.template.prompt(dialogue.messages[:-1], shown.count)], shown)
    (written,) = answer_greedily(stage.model.thinker, prompt, max_tokens=5, stop=())
    embeddings, positions = prompt.embeddings, prompt.positions
    assert positions is not None
    for token in written:
        with torch.no_grad():
            hidden = stage.model.thinker(embeddings=embeddings, positions=positions).hidden[:, -1]
            assert int(stage.model.thinker.logits(hidden).argmax()) == token
            embeddings = torch.cat([embeddings, stage.model.thinker.embedding(torch.tensor([[token]]))], 1)
        positions = torch.cat([positions, positions.amax().expand(1, 1, 3) + 1], 1)


def test_validation_counts_what_is_wholly_right() -> None:
    """Against answers written out token by token."""
    stage = make_stage("sft")
    take_steps(stage, 6)
    with torch.no_grad():
        report = stage.validate()
    respondent, shown = stage.respondent(), stage.media_features("val")
    dialogues = list(stage.data.split("val").all())
    limit = max(len(stage.tokenizer.encode(dialogue.answer, markup=False)) for dialogue in dialogues) + 1
    found = respondent.answer_all(dialogues, shown, max_reply=min(limit, 40))
    by_task: dict[str, list[bool]] = {}
    for one in found:
        by_task.setdefault(one.dialogue.task, []).append(one.answer == one.dialogue.answer)
    for task, hits in by_task.items():
        assert report.metrics[f"accuracy_{task}"] == pytest.approx(sum(hits) / len(hits)), task
    shares = [sum(hits) / len(hits) for task, hits in by_task.items() if task != "transcribe"]
    assert report.value == pytest.approx(sum(shares) / 12)


def test_controls_exchange_media_and_take_them_away() -> None:
    stage = make_stage("sft", config_of("data.num_eval_dialogues=8"))
    dialogues = [one for one in stage.data.split("test").all() if one.task != "multi_turn"]  # most are too long for this model
    changed, bare = exchange_media(dialogues), take_media_away(dialogues)
    having = [dialogue for dialogue in dialogues if dialogue.media]
    assert [each.id for each in changed] == [each.id for each in bare] == [each.id for each in having]
    assert {(dialogue.task, media.kind) for dialogue in bare for media in dialogue.media} == {("spoken_image", "audio")}
    for before, after in zip(having, changed, strict=True):
        assert [media.kind for media in before.media] == [media.kind for media in after.media]
        assert [message.text for message in before.messages] == [message.text for message in after.messages]
    for task in {dialogue.task for dialogue in having}:
        pairs = [(b, a) for b, a in zip(having, changed, strict=True) if b.task == task]
        assert sorted(m for b, _ in pairs for m in b.media) == sorted(m for _, a in pairs for m in a.media)


@pytest.mark.slow
def test_an_evaluation_has_metrics_controls_and_a_sheet() -> None:
    stage = make_stage("sft")
    report = stage.evaluate("test", limit=26)
    assert report.num_examples == 26
    assert report.headline == next(iter(report.metrics)) == "accuracy"
    assert {"accuracy_image_colour", "accuracy_spoken", "wer_transcribe", "excess_ratio", "text_loss"} <= set(report.metrics)
    assert {"accuracy_image_colour_shuffled", "accuracy_spoken_text_only", "wer_transcribe_shuffled"} <= set(report.controls)
    assert {"accuracy_shuffled", "accuracy_text_only", "accuracy_text_commonest"} <= set(report.controls)
    assert not {"accuracy_text_shuffled", "accuracy_text_text_only"} & set(report.controls)
    assert report.images["answers.png"].startswith(b"\x89PNG")
    assert {"id", "task", "prompt", "reference", "prediction"} <= set(report.predictions[0])


def test_a_part_that_the_data_needs_is_asked_for() -> None:
    parts = {name: untrained(name, cache_dir()) for name in ("pretrain", "vision")}
    with pytest.raises(CheckpointError, match="needs a trained model of stage `asr`"):
        Sft.create(PRESETS["debug"], context=StageContext(cache_dir(), upstream=parts))


def test_what_begins_as_another_run_keeps_its_parts(tmp_path: Path) -> None:
    init, upstream = finished_run(tmp_path, "sft"), {"asr": untrained("asr", cache_dir())}
    stage = Sft.create(PRESETS["debug"], context=StageContext(cache_dir(), init=init, upstream=upstream))
    assert stage.parts == {name: init.model / name for name in Sft.needs} | upstream
    upstream["pretrain"] = tmp_path / "thinker"
    upstream["pretrain"].mkdir()
    Tokenizer.train_char(["abc"]).save(upstream["pretrain"] / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"the tokenizer of .*thinker is not that of .* whose weights") as caught:
        Sft.create(PRESETS["debug"], context=StageContext(cache_dir(), init=init, upstream=upstream))
    assert (caught.value.where, caught.value.fix) == ("--thinker", "leave --thinker out, or --init")
    shutil.rmtree(init.model / "asr")
    with pytest.raises(CheckpointError, match=r"needs a trained model of stage `asr`, and .* was made without one") as caught:
        Sft.create(PRESETS["debug"], context=StageContext(cache_dir(), init=init, upstream={"asr": upstream["asr"]}))
    assert caught.value.fix.startswith("leave --init out")


def write_own(folder: Path, rows: int = 24) -> Path:
    """Dialogues about images alone."""
    lines = []
    for number in range(rows):
        colour, value = [("red", (200, 0, 0)), ("blue", (0, 0, 200))][number % 2]
        Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(folder / f"{number}.png")
        question = [{"type": "image", "image": f"{number}.png"}, {"type": "text", "text": "What colour is it?"}]
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": f"{colour.title()}."}]
        lines.append(json.dumps({"messages": messages, "task": "naming"}))
    (folder / "dialogues.jsonl").write_text("\n".join(lines))
    return folder / "dialogues.jsonl"


def own_config(path: Path, *overrides: str) -> SftConfig:
    return config_of(
        f"data.source={json.dumps(str(path))}", "data.counts={}", "data.val_fraction=0.2", "data.test_fraction=0.2", *overrides
    )


@pytest.mark.slow
def test_dialogues_of_ones_own_take_only_the_parts_they_need(tmp_path: Path) -> None:
    upstream = {name: untrained(name, cache_dir()) for name in ("pretrain", "asr", "vision")}
    stage = Sft.create(own_config(write_own(tmp_path)), context=StageContext(cache_dir(), upstream=upstream))
    assert set(stage.parts) == {"pretrain", "vision"}
    assert set(stage.model.projectors) == {"image"}
    take_steps(stage, 3)
    report = stage.evaluate("test", limit=None)
    assert "accuracy_naming" in report.metrics
    assert Path(str(report.predictions[0]["image"])).is_file()


@pytest.mark.slow
def test_it_learns_to_see_and_not_to_guess(tmp_path: Path) -> None:
    upstream = {name: untrained(name, cache_dir()) for name in ("pretrain", "vision")}
    stage = Sft.create(
        own_config(write_own(tmp_path, rows=60), "data.replay=0"), context=StageContext(cache_dir(), upstream=upstream)
    )
    take_steps(stage, 60)
    report = stage.evaluate("test", limit=None)
    assert report.num_examples >= 10
    assert report.metrics["accuracy_naming"] == 1.0
    assert report.controls["accuracy_naming_shuffled"] < 0.9
    assert report.controls["accuracy_naming_text_only"] < 0.9


def made_of_own(folder: Path, weights: str) -> Sft:
    upstream = {name: untrained(name, cache_dir()) for name in ("pretrain", "vision")}
    return Sft.create(
        own_config(write_own(folder), f"data.weights={weights}"), context=StageContext(cache_dir(), upstream=upstream)
    )


def test_weights_must_name_tasks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.weights names 'nameing', the tasks are naming"):
        made_of_own(tmp_path, '{"nameing":1}')


@pytest.mark.parametrize("task", ["naming", "caption", "multi_turn"])
def test_the_presets_weights_do_not_concern_other_data_whatever_its_tasks_are_called(tmp_path: Path, task: str) -> None:
    path = write_own(tmp_path)
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:12], *(row.replace("naming", task) for row in rows[12:])]))
    upstream = {name: untrained(name, cache_dir()) for name in ("pretrain", "vision")}
    world = json.dumps(PRESETS["tiny"].data.world_weights)
    stage = Sft.create(own_config(path, f"data.world_weights={world}"), context=StageContext(cache_dir(), upstream=upstream))
    examples = stage.data.training_set
    assert task_weights(examples, stage.config.data) == {name: len(numbers) for name, numbers in examples.numbers.items()}


def test_where_some_tasks_are_weighted_all_must_be(tmp_path: Path) -> None:
    path = write_own(tmp_path)
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:12], *(row.replace("naming", "caption") for row in rows[12:])]))
    upstream = {name: untrained(name, cache_dir()) for name in ("pretrain", "vision")}
    with pytest.raises(DataError, match="does not say how often 'naming' is drawn, beside caption") as caught:
        Sft.create(own_config(path, 'data.weights={"caption": 3}'), context=StageContext(cache_dir(), upstream=upstream))
    assert caught.value.fix.startswith("--set data.weights.naming=1")
    weighted = own_config(path, 'data.weights={"naming": 2, "caption": 3}')
    found = Sft.create(weighted, context=StageContext(cache_dir(), upstream=upstream)).data.training_set
    assert task_weights(found, weighted.data) == {"naming": 2, "caption": 3}


def test_text_that_is_gone_cannot_be_replayed(tmp_path: Path) -> None:
    own = tmp_path / "my.txt"
    own.write_text("\n\n\n".join(f"This is document number {number}." for number in range(60)))
    config = resolve(
        type(make_stage("pretrain").config),
        preset=make_stage("pretrain").config,
        overrides=[f"data.source={json.dumps(str(own))}", "data.vocab_size=270", "data.seq_len=16"],
    )
    thinker = make_stage("pretrain", config)
    folder = tmp_path / "thinker"
    thinker.save_description(folder)
    save_tensors(plain_state_dict(thinker.model), folder / "model.safetensors")
    upstream = {"pretrain": folder, "vision": untrained("vision", cache_dir())}
    data = write_own(tmp_path)
    own.unlink()
    stage = Sft.create(own_config(data), context=StageContext(cache_dir(), upstream=upstream))
    with pytest.raises(DataError, match="is to be replayed") as found:
        stage.batches()
    assert "data.replay=0" in found.value.fix
    Sft.create(own_config(data, "data.replay=0"), context=StageContext(cache_dir(), upstream=upstream)).batches()


def test_a_prompt_of_tokens_is_read_like_tokens() -> None:
    stage = make_stage("pretrain")
    tokens = torch.randint(20, 100, (1, 7))
    with torch.no_grad():
        direct = stage.model.eval()(tokens).hidden
        embedded = stage.model(embeddings=Prompt.of(stage.model, tokens[0].tolist()).embeddings).hidden
    assert torch.equal(direct, embedded)
