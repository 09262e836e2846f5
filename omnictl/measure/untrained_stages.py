"""Fresh stages on a little of their data, each with what it stands on, untrained too: to be timed and planned for."""

import json
import multiprocessing
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from string import ascii_letters
from typing import Any, TypeVar

from omnictl.config import Config, resolve
from omnictl.data.manifest.source import tinyworld_seed
from omnictl.runs.checksums import seal_anew
from omnictl.stages import STAGES, stage_recipe, stage_type
from omnictl.stages.protocol import StageContext
from omnictl.tinyworld.text.documents import document
from omnictl.trainer.checkpoint import keep_weights, plain_state_dict

T = TypeVar("T")

WHOLE_MODEL = tuple(name for name in STAGES if name != "vocoder")
"""The stages that a whole model is made by."""

DOCUMENTS, NONSENSE = 3_000, 60_000
"""Of the made-up text: documents of TinyWorld, and words of no meaning, which fill any vocabulary up.

They are of letters of both cases, so that no pair of these is as frequent as those of TinyWorld's words, and all in one document:
texts are as long as TinyWorld's, in tokens too.
"""


def in_fresh_processes(work: Callable[..., T], names: Iterable[str], *arguments: object) -> Iterator[T]:
    """`work(name, *arguments, folder)` for each name, in a process of its own whose memory nothing else has used.

    Args:
        work: a function of a module, which is also given a folder that all of them share.
        names: of the stages.
        arguments: further ones.
    """
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool,
    ):
        for name in names:
            yield pool.submit(work, name, *arguments, Path(folder)).result()


def in_one_fresh_process(work: Callable[..., T], *arguments: object) -> T:
    """`work(*arguments, folder)` in a process whose memory nothing else has used; the folder is removed afterwards."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *arguments, Path(folder)).result()


def untrained_stage(name: str, preset: str, cache: Path, folder: Path, config: Config | None = None) -> Any:
    """A fresh stage of a preset, or of another config, on little data if that is the built-in world.

    Args:
        name: of the stage.
        preset: also of what it stands on, which is put into `folder`.
        cache: folder of the cache.
        folder: of model folders, and of the made-up text.
        config: instead of the preset's.
    """
    kind: Any = stage_type(name)
    recipe = stage_recipe(name)
    chosen: Any = config or recipe.presets[preset]
    if tinyworld_seed(chosen.data.source) is not None:
        chosen = resolve(recipe.config_type, preset=chosen, overrides=_small_data(name, folder))
    parts = {part: folder / part for part in kind.needs}
    for part, model in parts.items():
        if not model.exists():
            save_untrained(untrained_stage(part, preset, cache, folder), model)
    return kind.create(chosen, context=StageContext(cache, upstream=parts))


def save_untrained(stage: Any, model: Path) -> None:
    """Write the model folder of a fresh stage, for what stands on it."""
    stage.save_description(model)
    seal_anew(model)
    stage.batches()  # codebooks and statistics are begun with
    keep_weights(plain_state_dict(stage.model), model)


def _small_data(name: str, folder: Path) -> tuple[str, ...]:
    if name != "pretrain":
        return STAGES[name].small_data
    file = folder / "made_up.jsonl"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_made_up_text(file)
    return (f"data.source={json.dumps(str(file))}",)


def _write_made_up_text(file: Path) -> None:
    rng = Random(0)
    words = ["".join(rng.choices(ascii_letters, k=rng.randint(3, 9))) for _ in range(NONSENSE)]
    texts = [*(document(0, "train", number) for number in range(DOCUMENTS)), " ".join(words)]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
