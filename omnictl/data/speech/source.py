"""Opens the speech that `data.source` names: TinyWorld or files."""

from pathlib import Path

from omnictl.data.manifest.source import tinyworld_seed
from omnictl.data.speech.corpus import SpeechCorpus, SpeechDataConfig
from omnictl.data.speech.file_corpus import SpeechFiles
from omnictl.data.speech.layouts import find_speech
from omnictl.data.speech.tinyworld import TinyWorldSpeech


def open_speech(config: SpeechDataConfig) -> SpeechCorpus:
    """The corpus that a config names.

    Raises:
        DataError: no such source, or nothing in it that can be used.
    """
    seed = tinyworld_seed(config.source)
    if seed is not None:
        return TinyWorldSpeech(seed, config.num_utterances, config.num_eval_utterances, config.voices)
    return SpeechFiles(find_speech(Path(config.source).expanduser()), config)
