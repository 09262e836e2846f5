"""What `omnictl talker` makes: a codec, an aligner and a Talker, trained one after the other on the same recordings."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import model_validator

from omnictl.config import Config
from omnictl.data.speech import SpeechDataConfig
from omnictl.models.aligner import STRIDE
from omnictl.stages.aligner import PRESETS as ALIGNERS
from omnictl.stages.aligner import AlignerRecipe, AlignerTraining
from omnictl.stages.codec import PRESETS as CODECS
from omnictl.stages.codec import CodecRecipe, CodecTraining
from omnictl.stages.talker import PRESETS as TALKERS
from omnictl.stages.talker import TalkerRecipe, TalkerTraining

PARTS = ("codec", "aligner", "talker")
"""In the order of training; each but the last is what the last needs."""

SHARES: Mapping[str, float] = {"codec": 0.35, "aligner": 0.05, "talker": 0.6}
"""Of the time given, what each part may take; what one leaves the next ones have."""


class SpeakingConfig(Config):
    """Config of the whole of stage D."""

    data: SpeechDataConfig = SpeechDataConfig(voices="one", time_mask=0.0, frequency_mask=0)
    codec: CodecRecipe = CodecRecipe()
    aligner: AlignerRecipe = AlignerRecipe()
    talker: TalkerRecipe = TalkerRecipe()

    @model_validator(mode="after")
    def _parts_fit(self) -> "SpeakingConfig":
        codec = self.codec.model
        if self.talker.books > codec.quantiser.books:
            raise ValueError(f"talker.books {self.talker.books} exceeds the codec's {codec.quantiser.books} books")
        if codec.stride < STRIDE:
            raise ValueError(
                f"codec.model.stride {codec.stride} must be {STRIDE} or more: durations are counted in {STRIDE} mel frames"
            )
        if codec.mel != self.aligner.model.mel:
            raise ValueError(f"the codec hears {codec.mel.described}, the aligner {self.aligner.model.mel.described}")
        return self

    def part(self, name: str) -> CodecTraining | AlignerTraining | TalkerTraining:
        """The config of one part."""
        recipes: dict[str, tuple[type[CodecTraining | AlignerTraining | TalkerTraining], Config]] = {
            "codec": (CodecTraining, self.codec),
            "aligner": (AlignerTraining, self.aligner),
            "talker": (TalkerTraining, self.talker),
        }
        training, recipe = recipes[name]
        return training(data=self.data, **{key: getattr(recipe, key) for key in type(recipe).model_fields})


def _preset(name: str) -> SpeakingConfig:
    return SpeakingConfig(
        data=ALIGNERS[name].data,
        codec=_recipe(CodecRecipe, CODECS[name]),
        aligner=_recipe(AlignerRecipe, ALIGNERS[name]),
        talker=_recipe(TalkerRecipe, TALKERS[name]),
    )


def _recipe(kind: type[Config], training: Config) -> Config:
    return kind(**{key: getattr(training, key) for key in kind.model_fields})


PRESETS: Mapping[str, SpeakingConfig] = {name: _preset(name) for name in ("debug", "tiny", "small")}


class Speaking:
    """Stage D as a recipe."""

    name: ClassVar[str] = "talker"
    config_type: ClassVar[type[SpeakingConfig]] = SpeakingConfig
    presets: ClassVar[Mapping[str, SpeakingConfig]] = PRESETS
