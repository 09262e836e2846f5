"""Config and presets of stage E, for its two objectives."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from omnictl.config import Config
from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.models.omni import OmniConfig
from omnictl.trainer.config import DEBUG_TRAINING, NumSteps, ScheduleConfig, TrainConfig

Objective = Literal["replies", "dpo"]

UNPAIRED = ("conclusion_steps", "lookup_steps", "imitation_steps", "projector_steps", "conclusion_share")
"""Settings that pairs of replies have no use for: of exercises, and of steps in which not the whole model learns."""


class SftConfig(Config):
    """Config of stage E."""

    model: OmniConfig = OmniConfig()
    data: DialogueDataConfig = DialogueDataConfig()
    objective: Objective = Field("replies", description="dpo: a trained model learns which of two replies is the better one")
    dpo_beta: float = Field(0.1, gt=0, description="of dpo: how dear it is to move away from the model that it began as")
    conclusion_steps: NumSteps = Field(0, description="of TinyWorld, first steps: what follows from facts, without images")
    lookup_steps: NumSteps = Field(0, description="then: questions about images for which the embeddings of words stand")
    imitation_steps: NumSteps = Field(0, description="then: all tasks, with such words for images and recordings")
    projector_steps: NumSteps = Field(100, description="steps after those, in which only the projectors learn")
    conclusion_share: float = Field(
        0.0, ge=0, lt=1, description="of TinyWorld, share of all later examples that are such conclusions"
    )
    max_reply: int = Field(64, ge=1, le=1_000_000, description="most tokens of an answer that is judged")
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _pairs_alone(self) -> "SftConfig":
        if self.objective == "dpo":
            wrong = [f"{key}=0" for key in UNPAIRED if getattr(self, key)]
            wrong += ["data.replay=0"] if self.data.replay else []
            if wrong:
                raise ValueError(f"dpo learns from pairs of replies alone: set {', '.join(wrong)}, or take --objective dpo")
            if self.model.encoders != "frozen":
                raise ValueError(
                    "dpo needs a run with frozen encoders: set model.encoders=frozen, and name one that has it with --init"
                )
        return self

    @property
    def exercise_steps(self) -> int:
        """Steps in which words stand for images and recordings."""
        return self.conclusion_steps + self.lookup_steps + self.imitation_steps


PRESETS: Mapping[str, SftConfig] = {
    # Seconds on a CPU: for trying things out and for the tests.
    "debug": SftConfig(
        model=OmniConfig(projector_hidden=32),
        data=DialogueDataConfig(
            counts={"spoken": 8, "spoken_image": 8, "transcribe": 8}, num_pictures=16, num_eval_dialogues=4, replay=0.1
        ),
        projector_steps=0,
        max_reply=8,
        train=DEBUG_TRAINING,
    ),
    # Minutes on a laptop CPU.
    "tiny": SftConfig(
        data=DialogueDataConfig(
            counts={"spoken": 2_500, "spoken_image": 3_500, "transcribe": 4_000},
            num_pictures=10_000,
            world_weights={
                "text": 6,
                "image_colour": 1,
                "image_shape": 1,
                "image_place": 1,
                "image_count": 0.5,
                "image_relation": 1,
                "image_yesno": 1,
                "caption": 3,
                "spoken": 2,
                "spoken_image": 4,
                "transcribe": 2.5,
                "two_images": 1.5,
                "multi_turn": 10,
            },
        ),
        conclusion_steps=300,
        lookup_steps=180,
        imitation_steps=200,
        projector_steps=80,
        conclusion_share=0.05,
        train=TrainConfig(
            steps=2200,
            batch_size=48,
            optimizer="muon",
            lr=2.5e-3,
            muon_lr=1e-2,
            eval_every=1100,
            save_every=550,
            schedule=ScheduleConfig(decay_fraction=0.8),
        ),
    ),
    # Hours on a 12 GB GPU.
    "small": SftConfig(
        model=OmniConfig(projector_hidden=1280),
        data=DialogueDataConfig(
            counts={"spoken": 12_000, "spoken_image": 16_000, "transcribe": 12_000}, num_pictures=15_000, num_eval_dialogues=400
        ),
        projector_steps=1000,
        train=TrainConfig(
            steps=40_000, batch_size=128, lr=1e-3, eval_every=2000, save_every=2000, schedule=ScheduleConfig(warmup_steps=500)
        ),
    ),
}


def _prefer(preset: SftConfig, train: TrainConfig) -> SftConfig:
    """A preset for pairs of replies: no exercises, nothing but pairs."""
    data = preset.data.model_copy(update={"replay": 0.0})
    return preset.model_copy(update={"objective": "dpo", "data": data, "train": train, **dict.fromkeys(UNPAIRED, 0)})


def _train_gently(*, steps: int, batch_size: int, lr: float, every: int) -> TrainConfig:
    """AdamW at a small rate: what has been learned is to be kept."""
    return TrainConfig(
        steps=steps, batch_size=batch_size, optimizer="adamw", lr=lr, weight_decay=0.0, eval_every=every, save_every=every
    )


OBJECTIVE_PRESETS: Mapping[Objective, Mapping[str, SftConfig]] = {
    "replies": PRESETS,
    "dpo": {
        "debug": _prefer(PRESETS["debug"], DEBUG_TRAINING),
        "tiny": _prefer(PRESETS["tiny"], _train_gently(steps=200, batch_size=32, lr=1e-4, every=100)),
        "small": _prefer(PRESETS["small"], _train_gently(steps=1000, batch_size=64, lr=2e-5, every=250)),
    },
}
"""What `--objective` chooses presets from."""
