"""The stages: one module each, with what it trains, its config, presets, batches and loss.

`STAGES` holds one entry a stage, with all that commands, evaluations and reports must know of it. A stage's module (and torch) is
imported only when the stage is used. A new stage is a module and an entry.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from omnictl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omnictl.config import Config
    from omnictl.stages.protocol import TrainableStage

LITTLE_SPEECH = ("data.num_utterances=256", "data.num_eval_utterances=4")
"""`small_data` of the stages that train on speech."""


class StageEntry(NamedTuple):
    """Where a stage is, and what others must know of it."""

    module: str
    """Has its class as `STAGE` and its `PRESETS`."""
    summary: str
    small_data: tuple[str, ...] = ()
    """Overrides that make a preset's data small, and let all of a model learn from the first step; batches stay as they are."""
    part_of: str | None = None
    """The stage whose command trains it too; None: it has a command of its own."""
    recipe: str | None = None
    """The module with the `PRESETS` of its command, if that trains several stages."""
    training_keys: tuple[str, ...] = ("train",)
    """Where the config of its command says how to train."""
    judge: Literal["needed", "optional"] | None = None
    """Whether a recogniser listens in its evaluation."""
    flag: str | None = None
    """The option that names a run of it to the stage that joins all others."""
    table_metrics: int = 6
    """How many metrics stand beside its headline where several stages share one table."""
    table_controls: int = 4
    """Likewise controls."""
    first_examples: int = 64
    """How many examples are judged first where time is short: as many as cost little more than one."""
    converses: bool = False
    """Whether one can chat with it."""


STAGES: dict[str, StageEntry] = {
    "pretrain": StageEntry(
        "omnictl.stages.pretrain", "Stage A: train the Thinker, a language model, on text.", flag="--thinker", converses=True
    ),
    "asr": StageEntry(
        "omnictl.stages.asr", "Stage B: train the audio encoder to turn speech into text.", LITTLE_SPEECH, flag="--asr"
    ),
    "vision": StageEntry(
        "omnictl.stages.vision",
        "Stage C: train the vision encoder to tell images apart.",
        ("data.num_eval_images=8",),
        flag="--vision",
    ),
    "codec": StageEntry("omnictl.stages.codec", "Stage D, first part: the codec.", LITTLE_SPEECH, part_of="talker"),
    "aligner": StageEntry("omnictl.stages.aligner", "Stage D, second part: the aligner.", LITTLE_SPEECH, part_of="talker"),
    "vocoder": StageEntry(
        "omnictl.stages.vocoder", "Stage D, a part on request: the neural vocoder.", LITTLE_SPEECH, part_of="talker"
    ),
    "talker": StageEntry(
        "omnictl.stages.talker",
        "Stage D: train the Talker to speak, and the codec it speaks through.",
        LITTLE_SPEECH,
        recipe="omnictl.stages.talker_recipe",
        training_keys=("codec.train", "aligner.train", "istft.train", "talker.train"),
        judge="needed",
        flag="--talker",
        first_examples=8,
    ),
    "sft": StageEntry(
        "omnictl.stages.sft",
        "Stage E: join them all, and train to answer about text, images and audio.",
        (
            'data.counts={"spoken": 64, "spoken_image": 64, "transcribe": 64}',
            "data.num_pictures=64",
            "data.num_eval_dialogues=4",
            "conclusion_steps=0",
            "lookup_steps=0",
            "imitation_steps=0",
            "projector_steps=0",
        ),
        judge="optional",
        table_metrics=21,  # one for each task
        table_controls=15,
        converses=True,
    ),
}
"""By name, in the order of training."""


def command_stages() -> tuple[str, ...]:
    """The stages that a command trains, in order; `talker` trains the parts that it needs, too."""
    return tuple(name for name, entry in STAGES.items() if entry.part_of is None)


class Recipe(NamedTuple):
    """What a command or a stage can be configured to train."""

    config_type: "type[Config]"
    presets: "Mapping[str, Config]"


def stage_type(name: str) -> "type[TrainableStage]":
    """The class of a stage in `STAGES`."""
    kind: type[TrainableStage] = import_module(STAGES[name].module).STAGE
    return kind


def stage_recipe(name: str) -> Recipe:
    """Config and presets of a stage."""
    return _read_recipe(STAGES[name].module)


def command_recipe(name: str) -> Recipe:
    """Config and presets of a command, which may train several stages; of a stage without a command, its own."""
    return _read_recipe(STAGES[name].recipe or STAGES[name].module)


def _read_recipe(module: str) -> Recipe:
    presets: Mapping[str, Config] = import_module(module).PRESETS
    return Recipe(type(presets["debug"]), presets)


def command_presets(name: str, objective: str | None) -> "Mapping[str, Config]":
    """The presets of a command for an objective; None: for its only, or its usual one.

    Raises:
        UsageError: it has no such objective.
    """
    if objective is None:
        return command_recipe(name).presets
    presets: Mapping[str, Mapping[str, Config]] = getattr(import_module(STAGES[name].module), "OBJECTIVE_PRESETS", {})
    if objective not in presets:
        known = ", ".join(presets) or "none"
        raise UsageError(
            f"`{name}` has no objective {objective!r}; those that it has: {known}", where="--objective", fix="leave it out"
        )
    return presets[objective]


def unit_presets(unit: str) -> "Mapping[str, Config]":
    """The presets of a stage as the command that trains it makes them, by name."""
    command = STAGES[unit].part_of or unit
    presets: Mapping[str, Any] = command_recipe(command).presets
    return presets if STAGES[command].recipe is None else {name: preset.part(unit) for name, preset in presets.items()}


def unit_configs(command: str, config: Any) -> "dict[str, Config]":
    """The stages that a command trains, in order, each with its own config."""
    return {command: config} if STAGES[command].recipe is None else {part: config.part(part) for part in config.parts}
