"""The weights of a recogniser: statistics of its features, weights of another run, a model folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_asr import SPLITS, TEXTS, Randomise, on_files, stage_of, write_corpus

from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import CheckpointError, ConfigError, DataError
from omnictl.generate.ctc_search import greedy
from omnictl.runs.run import Run, create_run
from omnictl.stages.asr import Asr
from omnictl.trainer.checkpoint import load_weights, plain_state_dict, save_tensors


def run_of(stage: Asr, folder: Path) -> Run:
    """A run that this stage's model is the best of."""
    run = create_run(folder, "asr", "giver", {})
    stage.save_description(run.model)
    save_tensors(plain_state_dict(stage.model), run.model / "model.safetensors")
    return run


def test_the_features_statistics_are_part_of_a_fresh_model() -> None:
    stage = stage_of()
    frames = np.concatenate([stage.data.training_set.features(index) for index in range(len(stage.data.training_set))])
    np.testing.assert_allclose(stage.model.mean, frames.mean(0), atol=1e-3)
    np.testing.assert_allclose(stage.model.std, frames.std(0), atol=2e-3)


def test_weights_are_taken_from_another_run_but_not_its_statistics(tmp_path: Path, randomise: Randomise) -> None:
    giver = stage_of()
    randomise(giver.model)
    giver.model.mean.fill_(-7)
    (tmp_path / "data").mkdir()
    folder = write_corpus(tmp_path / "data", TEXTS, split=SPLITS)
    own, taker = on_files(folder), on_files(folder, init=run_of(giver, tmp_path))
    for name, tensor in taker.model.state_dict().items():
        expected = own.model if name in ("mean", "std") else giver.model
        assert torch.equal(tensor, expected.state_dict()[name]), name
    assert not torch.equal(taker.model.mean, giver.model.mean)


@torch.no_grad()
def test_a_doubled_head_reads_the_same(tmp_path: Path, randomise: Randomise) -> None:
    giver = stage_of("model.emissions=1")
    randomise(giver.model)
    taker = stage_of("model.emissions=2", "train.seed=5", init=run_of(giver, tmp_path))
    batches = giver.batches()
    batch = batches.collate(batches.ids(0))
    once, twice = (stage.encode(batch) for stage in (giver, taker) if stage.model.eval())
    assert torch.equal(twice.lengths, 2 * once.lengths)
    torch.testing.assert_close(twice.frames, once.frames.repeat_interleave(2, 1))
    texts = [greedy(*each) for each in (once, twice)]
    assert texts[0] == texts[1]
    assert min(map(len, texts[0])) > 3  # random weights babble


def test_a_run_that_emits_twice_hands_that_on(tmp_path: Path) -> None:
    giver = run_of(stage_of("model.emissions=2"), tmp_path)
    assert stage_of(init=giver).config.model.emissions == 2
    with pytest.raises(CheckpointError, match=r"head\.bias: found 58, expected 29"):
        stage_of("model.emissions=1", init=giver)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    giver = run_of(stage_of(), tmp_path)
    with pytest.raises(CheckpointError, match="belong to another model"):
        stage_of("model.width=48", init=giver)


BPE = ("targets.kind=bpe", "targets.vocab_size=300")


def test_other_targets_than_those_of_the_weights_are_refused(tmp_path: Path) -> None:
    characters, pieces = (run_of(stage_of(*overrides), tmp_path) for overrides in ((), BPE))
    with pytest.raises(ConfigError) as caught:
        stage_of(*BPE, init=characters)
    assert caught.value.message == f"the weights of {characters.path} spell characters, the config asks for bpe"
    assert caught.value.where == "targets"
    assert "--set targets.kind=characters" in caught.value.fix
    with pytest.raises(ConfigError) as caught:
        stage_of(*BPE[:1], "targets.vocab_size=280", init=pieces)
    assert caught.value.message == f"the weights of {pieces.path} spell bpe, the config asks for bpe (300 against 280 pieces)"
    assert caught.value.fix == "--set targets.kind=bpe --set targets.vocab_size=300, or start without --init"


def test_characters_have_no_number_of_pieces_to_differ_in(tmp_path: Path) -> None:
    giver = run_of(stage_of(), tmp_path)
    assert stage_of("targets.vocab_size=300", init=giver).targets.num_symbols == 29


def test_pieces_go_with_the_weights(tmp_path: Path) -> None:
    giver = stage_of(*BPE)
    (tmp_path / "data").mkdir()
    taker = on_files(write_corpus(tmp_path / "data", TEXTS, split=SPLITS), *BPE, init=run_of(giver, tmp_path))
    text = giver.data.training_set.texts[0]
    assert taker.targets.encode(text) == giver.targets.encode(text)


def test_a_model_folder_opens_on_other_data(tmp_path: Path, randomise: Randomise) -> None:
    stage = stage_of(*BPE, "data.num_eval_utterances=4")
    randomise(stage.model)
    run = run_of(stage, tmp_path)
    opened = Asr.open(run.model, data="tinyworld:7", cache=cache_dir())
    load_weights(run.model / "model.safetensors", opened.model)
    assert opened.targets.encode("the cat") == stage.targets.encode("the cat")
    assert opened.speakers == stage.speakers
    here, there = stage.evaluate("val", limit=None), opened.evaluate("val", limit=None)
    assert [row["reference"] for row in here.predictions] != [row["reference"] for row in there.predictions]
    assert torch.equal(opened.model.mean, stage.model.mean)  # the weights', not those of the new data


# Other scripts


RUSSIAN = ["раз", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять", "десять", "раз два", "три пять"]


def test_characters_of_the_data_are_learned_and_kept(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, RUSSIAN, split=SPLITS)
    chars = on_files(folder, "targets.kind=chars", "decoding.beam=2")
    assert chars.data.training_set.set_aside == ()
    assert chars.data.training_set.texts[0] == "раз"
    assert chars.model.num_symbols == chars.targets.num_symbols
    description = tmp_path / "description"
    description.mkdir()
    chars.save_description(description)
    opened = Asr.open(description, data=None, cache=cache_dir())
    assert opened.targets.decode(opened.targets.encode("два")) == "два"
    report = opened.evaluate("test", limit=None)
    assert report.predictions[0]["reference"] == RUSSIAN[-1]
    assert report.metrics["wer"] == report.metrics["wer_raw"] > 0  # nothing of English is done to these words


def test_another_script_is_refused_without(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="characters outside the alphabet"):
        on_files(write_corpus(tmp_path, RUSSIAN, split=SPLITS))
