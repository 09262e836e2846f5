"""What `omnictl talker` makes: a codec, an aligner and a Talker, trained one after the other on the same recordings."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from omnictl.config import Config
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.models.aligner import STRIDE
from omnictl.stages.aligner import PRESETS as ALIGNERS
from omnictl.stages.aligner import AlignerRecipe, AlignerTraining
from omnictl.stages.codec import PRESETS as CODECS
from omnictl.stages.codec import CodecRecipe, CodecTraining
from omnictl.stages.talker import PRESETS as TALKERS
from omnictl.stages.talker import TalkerRecipe, TalkerTraining
from omnictl.stages.vocoder import PRESETS as VOCODERS
from omnictl.stages.vocoder import VocoderRecipe, VocoderTraining
from omnictl.stages.voice import VocoderKind

SECTIONS: Mapping[str, str] = {"codec": "codec", "aligner": "aligner", "vocoder": "istft", "talker": "talker"}
"""The stages in the order of training, each with the key of its recipe; what the last one needs comes before it."""


class SpeakingConfig(Config):
    """Config of the whole of stage D."""

    vocoder: VocoderKind = Field("griffin-lim", description="istft: a neural vocoder, trained too")
    data: SpeechDataConfig = SpeechDataConfig(voices="one", time_mask=0.0, frequency_mask=0)
    codec: CodecRecipe = CodecRecipe()
    aligner: AlignerRecipe = AlignerRecipe()
    istft: VocoderRecipe = VocoderRecipe()
    talker: TalkerRecipe = TalkerRecipe()

    @property
    def parts(self) -> tuple[str, ...]:
        """The stages to train, in order."""
        return tuple(part for part in SECTIONS if part != "vocoder" or self.vocoder == "istft")

    @model_validator(mode="after")
    def _parts_fit(self) -> "SpeakingConfig":
        codec = self.codec.model
        if self.talker.books > codec.quantiser.books:
            raise ValueError(f"talker.books {self.talker.books} exceeds the codec's {codec.quantiser.books} books")
        if codec.stride < STRIDE:
            raise ValueError(
                f"codec.model.stride {codec.stride} must be {STRIDE} or more: durations are counted in {STRIDE} mel frames"
            )
        for name, mel in {"aligner": self.aligner.model.mel, "istft": self.istft.model.mel}.items():
            if mel != codec.mel:
                raise ValueError(f"codec.model.mel is {codec.mel.as_text}, {name}.model.mel {mel.as_text}: they must be equal")
        return self

    def part(self, name: str) -> CodecTraining | AlignerTraining | VocoderTraining | TalkerTraining:
        """The config of one part."""
        if name == "talker":
            return TalkerTraining(data=self.data, vocoder=self.vocoder, **_fields(self.talker))
        recipes: dict[str, tuple[type[CodecTraining | AlignerTraining | VocoderTraining], Config]] = {
            "codec": (CodecTraining, self.codec),
            "aligner": (AlignerTraining, self.aligner),
            "vocoder": (VocoderTraining, self.istft),
        }
        training, recipe = recipes[name]
        return training(data=self.data, **_fields(recipe))


def _preset(name: str) -> SpeakingConfig:
    return SpeakingConfig(
        data=ALIGNERS[name].data,
        codec=_recipe(CodecRecipe, CODECS[name]),
        aligner=_recipe(AlignerRecipe, ALIGNERS[name]),
        istft=_recipe(VocoderRecipe, VOCODERS[name]),
        talker=_recipe(TalkerRecipe, TALKERS[name]),
    )


def _fields(recipe: Config) -> dict[str, Any]:
    return {key: getattr(recipe, key) for key in type(recipe).model_fields}


def _recipe(kind: type[Config], training: Config) -> Config:
    return kind(**{key: getattr(training, key) for key in kind.model_fields})


PRESETS: Mapping[str, SpeakingConfig] = {name: _preset(name) for name in ("debug", "tiny", "small")}
