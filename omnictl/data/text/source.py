"""Opens the text that `data.source` names: TinyWorld or files."""

from omnictl.data.manifest.source import source_path, tinyworld_seed
from omnictl.data.text.corpus import Corpus, TextDataConfig
from omnictl.data.text.file_corpus import TextFiles
from omnictl.data.text.files import find_text_files
from omnictl.data.text.tinyworld import TinyWorldText


def open_corpus(config: TextDataConfig) -> Corpus:
    """The corpus that a config names. Files are looked for here, and read when documents are first asked for.

    Raises:
        DataError: no such source, or files without a byte.
    """
    seed = tinyworld_seed(config.source)
    if seed is not None:
        return TinyWorldText(seed, config.num_documents, config.num_eval_documents)
    path = source_path(config.source)
    return TextFiles(path, tuple(find_text_files(path)), config.val_fraction, config.test_fraction)
