"""Opens the dialogues that `data.source` names: TinyWorld or files."""

from pathlib import Path

from omnictl.data.dialogues.corpus import DialogueCorpus, DialogueDataConfig
from omnictl.data.dialogues.file_corpus import DialogueFiles
from omnictl.data.dialogues.manifest import read_dialogues
from omnictl.data.dialogues.tinyworld import TinyWorldDialogues
from omnictl.data.manifest.source import source_path, tinyworld_seed


def open_dialogues(config: DialogueDataConfig, cache: Path) -> DialogueCorpus:
    """The corpus that a config names.

    Raises:
        DataError: no such source, or nothing in it that can be used.
    """
    seed = tinyworld_seed(config.source)
    if seed is not None:
        return TinyWorldDialogues.of(seed, config)
    return DialogueFiles(read_dialogues(source_path(config.source)), config, cache)
