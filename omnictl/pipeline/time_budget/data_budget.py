"""Limits how much data of the built-in world is made to what a short training reads.

TinyWorld's utterances, images and documents take time to be made, and a training that is planned for few steps would never read
most of them. Data of one's own is not touched.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from omnictl.config import Config
from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.manifest.source import tinyworld_seed
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.text.corpus import TextDataConfig
from omnictl.pipeline.time_budget.costs import DATA_SLACK
from omnictl.stages import unit_configs
from omnictl.tinyworld.dialogues import SPOKEN_TASKS, TASKS

LEAST = 512
"""Utterances of each kind, and images."""

LEAST_JUDGED = 64
"""Test dialogues of each task. No more are judged than are read: a model that has read little never ends its answers."""

LEAST_DOCUMENTS = 3_000
"""Enough to train a tokenizer on."""

TOKENS = 100
"""Approximate tokens of a document."""

C = TypeVar("C", bound=Config)


def steps_of_all_data(config: Any) -> int | None:
    """Steps in which a training reads as much as its config lets TinyWorld make; None if nothing is made for it.

    Args:
        config: of a stage, with `data` and `train`.
    """
    data, batch = config.data, int(config.train.batch_size)
    if tinyworld_seed(data.source) is None:
        return None
    match data:
        case SpeechDataConfig():
            return -(-int(data.num_utterances) // batch)
        case TextDataConfig():
            return -(-int(data.num_documents) * TOKENS // (batch * int(data.seq_len)))
        case DialogueDataConfig():
            if not (data.counts and _share_of_audio(data)):
                return None
            return math.ceil(sum(data.counts.values()) / (batch * _share_of_audio(data))) + int(config.exercise_steps)
    return None


def limit_data(config: C, steps: Mapping[str, int], command: str) -> C:
    """The config with no more of TinyWorld than its planned steps read.

    Args:
        config: of the command.
        steps: planned, by unit.
        command: what trains the units.
    """
    settings: Any = config
    if tinyworld_seed(settings.data.source) is None:
        return config
    units: Mapping[str, Any] = unit_configs(command, config)
    read = max(_steps_that_read(unit, steps.get(name, unit.train.steps)) * unit.train.batch_size for name, unit in units.items())
    return config.model_copy(update={"data": _limit(settings.data, read)})


def _steps_that_read(training: Any, steps: int) -> int:
    """The steps without those in which words stand for images and recordings."""
    return max(0, steps - int(getattr(training, "exercise_steps", 0)))


def _limit(data: Config, read: int) -> Config:
    """TinyWorld's data with no more than so many examples need."""
    match data:
        case SpeechDataConfig():
            return data.model_copy(update={"num_utterances": _enough(data.num_utterances, read, LEAST)})
        case TextDataConfig():
            documents = _enough(data.num_documents, read * data.seq_len // TOKENS, LEAST_DOCUMENTS)
            return data.model_copy(update={"num_documents": documents})
        case DialogueDataConfig():
            return _limit_dialogues(data, read)
    return data


def _limit_dialogues(data: DialogueDataConfig, examples: int) -> DialogueDataConfig:
    if not (data.counts and _share_of_audio(data)):
        return data
    fraction = math.ceil(examples * _share_of_audio(data) * DATA_SLACK / sum(data.counts.values()) * 1000) / 1000
    counts = {task: min(count, max(LEAST, math.ceil(count * fraction))) for task, count in data.counts.items()}
    judged = min(data.num_eval_dialogues, max(LEAST_JUDGED, examples // len(TASKS)))
    num_pictures = _enough(data.num_pictures, examples, 2 * LEAST)
    return data.model_copy(update={"counts": counts, "num_pictures": num_pictures, "num_eval_dialogues": judged})


def _share_of_audio(data: DialogueDataConfig) -> float:
    """Share of the examples with a recording; 0 also where no weights say so."""
    weights = data.weights_on_tinyworld
    spoken = sum(weight for task, weight in weights.items() if task in SPOKEN_TASKS)
    return (1 - data.replay) * spoken / sum(weights.values()) if spoken else 0.0


def _enough(configured: int, read: int, least: int) -> int:
    return min(configured, max(least, math.ceil(DATA_SLACK * read)))
