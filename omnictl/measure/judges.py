"""Which recogniser listens to a Talker: the newest one of the same kind of speech, unless one is named.

A run of stage B knows the speech that the Talker learned from. `pocketsphinx`, if it is installed, was trained by others on other
speech: a stricter judge, to be read beside what it makes of the recordings themselves.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from omnictl.data.manifest.source import tinyworld_seed
from omnictl.data.speech.corpus import Samples
from omnictl.errors import RunError, UsageError
from omnictl.evaluation.talker import Judge
from omnictl.runs.compatible import data_source, newest_compatible
from omnictl.runs.run import Run
from omnictl.stages.asr import Asr
from omnictl.stages.protocol import open_trained

JUDGE = "asr"
"""The stage that judges."""


OUTSIDER = "pocketsphinx"


class Pocketsphinx:
    """CMU's recogniser with its own English models (Huggins-Daines et al. 2006).

    Raises:
        UsageError: it is not installed.
    """

    rate = 16_000

    def __init__(self) -> None:
        if find_spec(OUTSIDER) is None:
            fix = "pip install 'omnictl[judges]', or name an `asr` run"
            raise UsageError(f"{OUTSIDER} is not installed", where="--judge", fix=fix)
        self._decoder: Any = import_module(OUTSIDER).Decoder(samprate=self.rate, loglevel="FATAL")

    def read(self, samples: Samples) -> str:
        """The text that the recogniser hears."""
        self._decoder.start_utt()
        self._decoder.process_raw((samples.clip(-1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return "" if hypothesis is None else str(hypothesis.hypstr)


def open_judge(run: Run, device: torch.device, cache: Path) -> Judge:
    """A run's best model in fp32, to listen.

    Raises:
        CheckpointError: the run has no whole model yet.
    """
    return open_trained(Asr, run, device=device, cache=cache)


class JudgeChoice(NamedTuple):
    """A judge and the newer runs that cannot be it, each with the reason."""

    judge: Run
    rejected: list[str]


def newest_judge(root: Path, run: Run) -> JudgeChoice:
    """The newest finished recogniser of the speech that a run was trained on.

    Raises:
        RunError: there is none.
    """
    source = data_source(run)
    judge, rejected = newest_compatible(root, JUDGE, source)
    if judge is not None:
        return JudgeChoice(judge, rejected)
    reasons = "".join(f"\n  {line}" for line in rejected)
    data_option = "" if tinyworld_seed(source) is not None else f" --data {source}"
    raise RunError(
        f"{run.path} needs a recogniser of the same speech ({source}) as judge, {root / JUDGE} has none{reasons}",
        where="--judge",
        fix=f"make one with `omnictl {JUDGE}{data_option}`, or name one of other speech with --judge RUN",
    )
