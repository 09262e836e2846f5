"""What `--init` names: a run of the same stage, or a Hugging Face folder with a Qwen3, which becomes a run of its own first."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from omnictl.config import to_json
from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.foreign_tokenizer import ForeignTokenizer, read_foreign_tokenizer
from omnictl.data.text.tokenizer import CHAT_TEMPLATE_FILE, SPECIAL_TOKENS
from omnictl.errors import CheckpointError
from omnictl.models.qwen3 import thinker_settings, thinker_state_dict
from omnictl.models.thinker import Thinker, ThinkerConfig
from omnictl.pipeline.run_folder import versions_and_machine, whole_or_absent
from omnictl.runs.checksums import describe_file, seal
from omnictl.runs.files import read_json
from omnictl.runs.model_folder import write_description
from omnictl.runs.run import Run, create_run, find_run, list_runs
from omnictl.stages.pretrain import Pretrain, PretrainConfig
from omnictl.trainer.checkpoint import keep_weights

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""Of weights in several files."""


class InitialWeights(NamedTuple):
    """Where a new run starts from."""

    run: Run
    settings: list[str]
    """What the config of the new run must say to have room for them, as `KEY=VALUE`; of another run it is for the user to say."""


def find_initial_weights(root: Path, stage: str, reference: str, tell: Callable[[str], None]) -> InitialWeights:
    """The run that `--init` names, or the run that a Hugging Face folder becomes.

    Args:
        root: the folder of all runs.
        stage: that is to be trained.
        reference: what was given.
        tell: is told what is imported.

    Raises:
        RunError: there is no such run.
        CheckpointError: the folder holds another architecture, or not exactly its tensors.
    """
    folder = Path(reference).expanduser()
    if stage != Pretrain.name or not is_hugging_face(folder):
        return InitialWeights(find_run(root, stage, reference), [])
    run = import_thinker(root, folder.absolute(), tell)
    config = read_json(run.config_file)
    settings = [f"model.{key}={json.dumps(value)}" for key, value in config["model"].items()]
    settings += [f"data.{key}={json.dumps(config['data'][key])}" for key in ("tokenizer", "vocab_size", "seq_len")]
    return InitialWeights(run, settings)


def is_hugging_face(folder: Path) -> bool:
    """Whether a folder holds a model in the format of `transformers`."""
    path = folder / "config.json"
    if not path.is_file() or (folder / "run.json").exists():
        return False
    described = read_json(path)
    return isinstance(described, dict) and "model_type" in described


def import_thinker(root: Path, folder: Path, tell: Callable[[str], None]) -> Run:
    """A finished run with the Thinker of a Hugging Face folder; the one made earlier if the folder is the same.

    Raises:
        CheckpointError: it holds another architecture, another kind of tokenizer, or not exactly its tensors.
        RunError, DiskFull: the run cannot be written.
    """
    described = read_json(folder / "config.json")
    model = thinker_settings(described, str(folder / "config.json"))
    files = _weight_files(folder)
    origin = {"folder": str(folder), "sha256": _fingerprint([folder / "config.json", folder / "tokenizer.json", *files])}
    for run in list_runs(root, Pretrain.name):
        record = run.record()
        if record["status"] == "finished" and record.get("imported", {}).get("sha256") == origin["sha256"]:
            tell(f"imported before: {run.path}")
            return run
    foreign = read_foreign_tokenizer(folder / "tokenizer.json")
    thinker = ThinkerConfig(**model)
    tensors = _take(files, thinker, foreign, described["vocab_size"], str(folder))
    data = TextDataConfig(
        source=str(folder),
        tokenizer=foreign.tokenizer.kind,
        vocab_size=foreign.tokenizer.vocab_size,
        seq_len=min(TextDataConfig().seq_len, thinker.context),
    )
    run = create_run(root, Pretrain.name, "imported", {"parents": {}, "imported": origin, **versions_and_machine()})
    with whole_or_absent(run):
        _write(run, PretrainConfig(model=thinker, data=data), foreign, tensors, chats=_chats(folder))
    run.update(status="finished", steps=0)
    tell(f"imported {folder} as {run.path}{_changes(foreign, described['vocab_size'])}")
    return run


def _write(run: Run, config: PretrainConfig, foreign: ForeignTokenizer, tensors: dict[str, Tensor], *, chats: bool) -> None:
    """Fill the folder of an imported run."""
    run.write_config(to_json(config))
    chat = "chatml" if chats else "text"
    write_description(run.model, Pretrain.name, config, vocab_size=foreign.tokenizer.vocab_size, chat=chat)
    if chats:
        foreign.tokenizer.save_for_chat(run.model)
    else:
        foreign.tokenizer.save(run.model / "tokenizer.json")
    seal(run.model)
    keep_weights(tensors, run.model)


def _weight_files(folder: Path) -> list[Path]:
    """The files with the weights of a folder.

    Raises:
        CheckpointError: there are none, or one is missing.
    """
    files = [folder / WEIGHTS]
    if not files[0].is_file() and (folder / INDEX).is_file():
        files = [folder / name for name in sorted(set(read_json(folder / INDEX)["weight_map"].values()))]
    missing = [path.name for path in [*files, folder / "tokenizer.json"] if not path.is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} has no {', '.join(missing)}",
            where=str(folder),
            fix="copy the folder anew from where the model came from; weights must be safetensors, the tokenizer a tokenizer.json",
        )
    return files


def _fingerprint(files: list[Path]) -> str:
    return hashlib.sha256("".join(describe_file(file)["sha256"] for file in files).encode()).hexdigest()


def _take(files: list[Path], config: ThinkerConfig, foreign: ForeignTokenizer, vocab_size: int, where: str) -> dict[str, Tensor]:
    """A Thinker's tensors in fp32, with the embeddings in the order of its tokenizer.

    Raises:
        CheckpointError: they are not exactly those of the config, or the tokenizer has more tokens.
    """
    tensors: dict[str, Tensor] = {}
    for path in files:
        try:
            tensors |= load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"cannot read the weights in {path}: {error}", where=str(path), fix="copy the file anew from where it came from"
            ) from error
    with torch.device("meta"):
        expected = Thinker(config, vocab_size).state_dict()
    taken = {name: tensor.float() for name, tensor in thinker_state_dict(tensors, expected, where).items()}
    largest = max(number for number in foreign.origins if number is not None)
    if largest >= vocab_size:
        raise CheckpointError(
            f"the tokenizer in {where} has a token {largest}, the model embeds {vocab_size} tokens",
            where=where,
            fix="use the tokenizer that the model was trained with",
        )
    embeddings = taken["embedding.weight"]
    average = embeddings.mean(0)
    rows = [average if number is None else embeddings[number] for number in foreign.origins]
    return {**taken, "embedding.weight": torch.stack(rows)}


def _chats(folder: Path) -> bool:
    """Whether a folder has a template for conversations."""
    described: Any = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    return (folder / CHAT_TEMPLATE_FILE).is_file() or (isinstance(described, Mapping) and "chat_template" in described)


def _changes(foreign: ForeignTokenizer, vocab_size: int) -> str:
    """What is not as it was, in words."""
    fresh = [token for token, number in zip(SPECIAL_TOKENS, foreign.origins, strict=False) if number is None]
    unused = vocab_size - sum(number is not None for number in foreign.origins)
    parts = [f"new tokens, embedded as the average: {' '.join(fresh)}"] if fresh else []
    parts += [f"{unused:,} embeddings that belong to no token are left out"] if unused else []
    return f" ({'; '.join(parts)})" if parts else ""
