"""Texts as phonemes, by a process of espeak-ng that stays while it is needed."""

import atexit
import json
import subprocess
import sys
from functools import cache, lru_cache
from pathlib import Path
from typing import IO

from omnictl.errors import DataError

MOST_KNOWN_TEXTS = 65_536
"""Texts whose phonemes are remembered: a corpus is read more than once, a server reads on and on."""

_CHILD = Path(__file__).with_name("phoneme_child.py")


@cache
def phonemiser(language: str) -> "Phonemiser":
    """That of a language, started when it is first asked."""
    return Phonemiser(language)


class Phonemiser:
    """Writes texts of a language as phonemes.

    Args:
        language: a voice of espeak-ng: `de`, `es`, `en-us`.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._process: subprocess.Popen[str] | None = None
        self._known_phonemes = lru_cache(MOST_KNOWN_TEXTS)(self._ask)

    def phonemes(self, text: str) -> str:
        """A text without marks in the International Phonetic Alphabet, words a space apart.

        Raises:
            DataError: espeak-ng cannot run here, or does not know the language.
        """
        return self._known_phonemes(text)

    def _ask(self, text: str) -> str:
        process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(text) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process = None
            raise DataError(
                f"espeak-ng cannot read {self.language!r} ({_last_line(process.stderr)})",
                where="data.language",
                fix="name a voice of espeak-ng, as in --set data.language=de, or train on letters: --set data.symbols=letters",
            )
        answer = json.loads(line)
        assert isinstance(answer, str)
        return answer

    def _start(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            import espeakng_loader  # noqa: PLC0415  only needed by who speaks

            places = [str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())]
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_CHILD), *places, self.language],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            atexit.register(self._process.kill)
        return self._process


def _last_line(stream: IO[str] | None) -> str:
    lines = stream.read().strip().splitlines() if stream is not None else []
    return lines[-1] if lines else "no error message"
