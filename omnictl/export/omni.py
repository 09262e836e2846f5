"""The parts of a model folder of stage E, ready to be written in another format."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from omnictl.data.dialogues.modalities import MediaKind
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.errors import ConfigError
from omnictl.export.thinker import merge_updates
from omnictl.features.media_encoders import AudioFrontend, VisionFrontend
from omnictl.generate.griffin_lim import Samples
from omnictl.generate.tts import Voice
from omnictl.models.omni import Omni, OmniConfig
from omnictl.models.qwen3 import check_is_qwen3
from omnictl.nn.audio.mel import MelConfig
from omnictl.stages.protocol import open_model
from omnictl.stages.sft import Sft
from omnictl.stages.talker import TalkerStage


class OmniParts(NamedTuple):
    """What is exported of an omni model, on the CPU, in fp32 and for evaluation."""

    omni: Omni
    tokenizer: Tokenizer
    ear: AudioFrontend | None
    eye: VisionFrontend | None
    voice: Voice | None
    """Also none where it is left out."""

    @property
    def media(self) -> list[MediaKind]:
        """What it perceives."""
        perceives: dict[MediaKind, bool] = {"image": self.eye is not None, "audio": self.ear is not None}
        return [kind for kind, there in perceives.items() if there]


def open_parts(folder: Path, cache: Path, *, with_voice: bool) -> OmniParts:
    """The parts of a model folder of stage E.

    Args:
        folder: the model folder.
        cache: the cache folder.
        with_voice: whether the Talker is wanted, if there is one.

    Raises:
        CheckpointError: it holds no whole model of that stage.
        ConfigError: it has what other formats have not; it is named.
    """
    cpu = torch.device("cpu")
    stage = open_model(Sft, folder, device=cpu, cache=cache)
    merge_updates(stage.model.thinker)
    check_is_qwen3(stage.model.thinker.config, str(folder))
    _check_positions(stage.config.model, folder)
    ear, eye = stage.encoders.get("audio"), stage.encoders.get("image")
    assert ear is None or isinstance(ear, AudioFrontend)
    assert eye is None or isinstance(eye, VisionFrontend)
    voice = None
    if with_voice and "talker" in stage.parts:
        voice = open_model(TalkerStage, stage.parts["talker"], device=cpu, cache=cache).voice()
    for module in (stage.model, ear, eye):
        if module is not None:
            module.eval().requires_grad_(requires_grad=False)
    return OmniParts(stage.model, stage.tokenizer, ear, eye, voice)


def _check_positions(config: OmniConfig, folder: Path) -> None:
    if config.positions != "sequential":
        raise ConfigError(
            f"this model has model.positions={config.positions}, exports of omni models count positions one by one",
            where=str(folder),
            fix="export one that was trained with --set model.positions=sequential",
        )


def sample_sound(mel: MelConfig, seconds: float) -> Samples:
    """`(n,)` samples of a rising tone with overtones that comes and goes, and noise."""
    time = np.arange(int(seconds * mel.sample_rate)) / mel.sample_rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    tone = sum(np.sin(2 * np.pi * number * (120 + 40 * time) * time) / number for number in range(1, 12))
    return (0.1 * np.sin(7 * time) ** 2 * tone + 0.003 * noise).astype(np.float32)
