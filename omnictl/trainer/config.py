"""Settings of the training loop, the same for every stage."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from omnictl.config import Config

TrackerName = Literal["tensorboard", "trackio", "wandb"]

Beta = Annotated[float, Field(ge=0, lt=1)]
NumSteps = Annotated[int, Field(ge=0, le=1_000_000_000)]


class ScheduleConfig(Config):
    """Warmup–stable–decay schedule of the learning rate."""

    warmup_steps: NumSteps = Field(20, description="steps over which the rate rises from zero")
    decay_fraction: float = Field(0.4, ge=0, le=1, description="share of the steps over which the rate falls to zero")


class RuntimeConfig(Config):
    """How the loop runs; nothing here changes what is learned, except `deterministic` on CUDA."""

    compile: bool = Field(False, description="torch.compile the model; pays off from some minutes of training")
    deterministic: bool = Field(False, description="bit-exact resume on CUDA too, at some speed")
    trackers: tuple[TrackerName, ...] = Field((), description="write the figures of metrics.jsonl and timings.jsonl there, too")
    workers: int = Field(
        0, ge=0, le=1_000, description="processes that prepare batches ahead; 0: the training process does it itself"
    )
    log_every: int = Field(1, ge=1, le=1_000_000_000, description="steps between lines of metrics.jsonl")
    keep: int = Field(2, ge=2, le=1_000_000_000, description="newest checkpoints kept, besides the best one")

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, values: Any) -> Any:
        """Take `tensorboard`, which configs of older versions have, as one of the trackers."""
        if not isinstance(values, dict):
            return values
        kept = dict(values)
        if isinstance(kept.get("trackers"), list):  # of JSON, which is no tuple any more once this has looked at it
            kept["trackers"] = tuple(kept["trackers"])
        if isinstance(kept.get("tensorboard"), bool) and kept.pop("tensorboard"):
            kept["trackers"] = (*kept.get("trackers", ()), "tensorboard")
        return kept


class TrainConfig(Config):
    """Optimisation, cadence and precision."""

    steps: int = Field(1000, ge=1, le=1_000_000_000, description="updates of the weights")
    batch_size: int = Field(32, ge=1, le=1_000_000, description="examples a step, over all micro-batches")
    micro_batch: Annotated[int, Field(ge=1)] | Literal["auto", "whole"] = Field(
        "auto", description="examples at a time; auto: as many as fit into memory, traced before the first step; whole: the batch"
    )
    optimizer: Literal["auto", "adamw", "muon"] = Field(
        "auto", description="muon: 2-D hidden weights on Muon, the rest on AdamW; auto: by tokens a step"
    )
    lr: float = Field(3e-3, gt=0, description="peak learning rate of AdamW")
    muon_lr: float = Field(2e-2, gt=0, description="peak learning rate of Muon")
    weight_decay: float = Field(0.1, ge=0, description="of matrices; norms and biases have none")
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), description="AdamW's averaging of gradients and their squares")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient; what is above is scaled down")
    average: float = Field(0.0, ge=0, lt=1, description="decay of an average of the weights, judged and kept instead; 0: none")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto", description="number format; auto: what is fastest on this machine, measured"
    )
    checkpointing: Literal["auto", "off", "selective", "full"] = Field(
        "auto", description="activation checkpointing; auto: as little as fits, none if micro_batch is given"
    )
    sharding: Literal["none", "fsdp"] = Field(
        "none", description="of several processes: fsdp: each keeps a slice of the weights, for models that outgrow a card"
    )
    eval_every: int = Field(100, ge=1, le=1_000_000_000, description="steps between validations")
    save_every: int = Field(100, ge=1, le=1_000_000_000, description="steps between checkpoints")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of weights and data order")
    schedule: ScheduleConfig = ScheduleConfig()
    runtime: RuntimeConfig = RuntimeConfig()


DEBUG_TRAINING = TrainConfig(
    steps=20,
    batch_size=8,
    micro_batch="whole",
    lr=1e-2,
    eval_every=10,
    save_every=5,
    schedule=ScheduleConfig(warmup_steps=2),
)
"""Of every stage's preset `debug`: seconds, of which a trace of memory would be a large part."""


def train_with_adamw(*, steps: int, batch_size: int, lr: float, every: int, schedule: ScheduleConfig) -> TrainConfig:
    """AdamW with little weight decay, judged and saved every so many steps: what small convolutional models learn well with."""
    return TrainConfig(
        steps=steps,
        batch_size=batch_size,
        optimizer="adamw",
        lr=lr,
        weight_decay=0.01,
        eval_every=every,
        save_every=every,
        schedule=schedule,
    )


def train_with_muon(*, steps: int, batch_size: int, every: int, schedule: ScheduleConfig) -> TrainConfig:
    """Muon at its usual rate, judged and saved every so many steps: what small transformers learn most with in minutes."""
    return TrainConfig(
        steps=steps,
        batch_size=batch_size,
        optimizer="muon",
        lr=3e-3,
        eval_every=every,
        save_every=every,
        schedule=schedule,
    )
