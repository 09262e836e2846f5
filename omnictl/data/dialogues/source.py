"""Opens the dialogues that `data.source` names: TinyWorld or files."""

import hashlib
from pathlib import Path

from omnictl.data.dialogues.corpus import DialogueCorpus, DialogueDataConfig
from omnictl.data.dialogues.file_corpus import DialogueFiles
from omnictl.data.dialogues.manifest import read_dialogues
from omnictl.data.dialogues.tinyworld import TinyWorldDialogues
from omnictl.data.manifest.source import source_path, tinyworld_seed


def fingerprint_dialogues(corpus: DialogueCorpus) -> str:
    """SHA-256 over what is said in a corpus, the sizes of its media, and how it is split."""
    if isinstance(corpus, DialogueFiles):
        return corpus.contents_fingerprint
    return hashlib.sha256(corpus.name.encode()).hexdigest()


def open_dialogues(config: DialogueDataConfig, cache: Path) -> DialogueCorpus:
    """The corpus that a config names.

    Raises:
        DataError: no such source, or nothing in it that can be used.
    """
    seed = tinyworld_seed(config.source)
    if seed is not None:
        return TinyWorldDialogues.of(seed, config)
    return DialogueFiles(read_dialogues(source_path(config.source)), config, cache)
