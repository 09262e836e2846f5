"""What encoders read in their features, and projectors that learn to point there."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from stage_factory import make_stage
from torch import Tensor

from omnictl.config import resolve
from omnictl.data.speech.transcripts.targets import CharacterTargets
from omnictl.features.media_encoders import AudioFrontend, VisionFrontend, Words
from omnictl.features.projector_alignment import alignment_loss, embed_words, projector_flops
from omnictl.models.audio_encoder import AudioEncoder, AudioEncoderConfig
from omnictl.models.vision_encoder import VisionEncoder, VisionEncoderConfig
from omnictl.stages.sft import PRESETS, Sft, SftConfig

VALUES = (("circle", "star", "background"), ("red", "background"))


def small_stage() -> Sft:
    stage = make_stage("sft", resolve(SftConfig, preset=PRESETS["debug"], overrides=["projector_steps=3"]))
    assert isinstance(stage, Sft)
    return stage


class Reader:
    """An encoder with these words for everything."""

    names_features = True

    def __init__(self, *words: Words) -> None:
        self._words = words

    def words(self, features: Sequence[Tensor]) -> list[Words]:
        assert len(features) == len(self._words)
        return list(self._words)


def test_patches_are_called_what_the_patch_heads_find_but_for_the_background() -> None:
    torch.manual_seed(0)
    config = VisionEncoderConfig(image_size=32, patch=16, stem=(), layers=1, width=16, heads=2, hidden=16)
    eye = VisionFrontend(VisionEncoder(config, (2,), (3, 2)), VALUES)
    features = [torch.randn(4, eye.width), torch.randn(4, eye.width)]
    shape, colour = (head(torch.cat(features)).softmax(-1) for head in eye.encoder.head["patch"])
    words = eye.words(features)
    assert [each.texts for each in words] == [("circle", "star", "red")] * 2
    expected = torch.stack([shape[:, 0], shape[:, 1], colour[:, 0]], 1) / 2
    torch.testing.assert_close(torch.cat([each.weights for each in words]), expected)
    assert not VisionFrontend(VisionEncoder(config, (2,))).names_features


def test_audio_is_called_what_the_likeliest_path_spells() -> None:
    width = 32
    encoder = AudioEncoder(AudioEncoderConfig(layers=1, width=width, heads=2, hidden=16, emissions=1), CharacterTargets.num_symbols)
    torch.nn.init.eye_(encoder.head.weight)  # a frame whose n-th number is the largest says symbol n
    torch.nn.init.zeros_(encoder.head.bias)
    blank, space, a, b = 0, 1, 3, 4
    said = [blank, a, b, blank, blank, blank, space, b, a, blank]  # five features of two frames each
    frames = torch.nn.functional.one_hot(torch.tensor(said), width).float()
    (words,) = AudioFrontend(encoder, CharacterTargets()).words([frames.view(5, 2 * width)])
    assert words.texts == ("ab", "ba")
    assert words.weights.tolist() == [[1, 0], [1, 0], [0, 0], [0, 1], [0, 1]]


def test_the_loss_is_one_minus_the_cosine_to_the_mixture_of_words() -> None:
    stage = small_stage()
    model, tokenizer = stage.model, stage.tokenizer
    table, width = model.thinker.embedding.weight, model.projectors["audio"].up.in_features
    features = [torch.randn(2, width), torch.randn(1, width)]
    words = [
        Words(("the", "circle"), torch.tensor([[1.0, 0.0], [0.5, 0.5]])),
        Words(("red",), torch.tensor([[0.2]])),  # too little to be called a word
    ]
    total, count = alignment_loss(model, {"audio": Reader(*words)}, {"audio": features}, tokenizer)  # type: ignore[dict-item]
    the, circle = (table[tokenizer.encode(f" {word}", markup=False)].mean(0) for word in ("the", "circle"))
    projected = model.projectors["audio"](features[0])
    cosines = [
        torch.dot(one, other) / one.norm() / other.norm() for one, other in zip(projected, (the, (the + circle) / 2), strict=True)
    ]
    assert count == 2
    assert float(total.detach()) == pytest.approx(2 - sum(float(cosine.detach()) for cosine in cosines), abs=1e-5)


def test_a_batch_without_a_word_teaches_nothing() -> None:
    stage = small_stage()
    for features, words in (({}, []), ({"audio": [torch.randn(2, 3)]}, [Words((), torch.zeros(2, 0))])):
        stage.model.projectors["audio"].up = torch.nn.Linear(3, 32)
        total, count = alignment_loss(stage.model, {"audio": Reader(*words)}, features, stage.tokenizer)  # type: ignore[dict-item, arg-type]
        torch.autograd.backward(total)
        assert (float(total.detach()), count) == (0.0, 0)
        assert all(not parameter.grad.any() for parameter in stage.model.projectors.parameters() if parameter.grad is not None)


def test_a_word_of_several_tokens_is_their_mean() -> None:
    stage = small_stage()
    table = stage.model.thinker.embedding.weight
    ids = stage.tokenizer.encode(" xylophone", markup=False)
    assert len(ids) > 1
    torch.testing.assert_close(embed_words(["xylophone"], stage.tokenizer, table), table[ids].mean(0)[None])
    assert embed_words([], stage.tokenizer, table).shape == (0, table.shape[1])


def test_projectors_learn_words_without_the_thinker(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = small_stage()
    batches = stage.batches()
    batch = batches.collate(batches.ids(0))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the Thinker is not asked")

    monkeypatch.setattr(stage.model.thinker, "forward", refuse)
    optimizer = torch.optim.AdamW(stage.model.projectors.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = stage.loss(batch)
        losses.append(float(loss.sum.detach()) / loss.count)
        optimizer.zero_grad()
        torch.autograd.backward(loss.sum / loss.count)
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    counts = {kind: sum(map(len, values)) for kind, values in batch.media.items()}
    assert stage.work(batch).flops == projector_flops(stage.model, counts) > 0
