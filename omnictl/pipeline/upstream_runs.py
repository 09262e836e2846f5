"""Which trained models are joined: those that are named, else the newest ones of the same kind of data.

A model that begins as another run keeps that run's parts: its weights know their tokens and features alone.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from omnictl.data.dialogues.modalities import needed_stages
from omnictl.data.dialogues.source import open_dialogues
from omnictl.data.manifest.source import tinyworld_seed
from omnictl.errors import RunError, UsageError
from omnictl.runs.compatible import require_run
from omnictl.runs.model_folder import parts_in
from omnictl.runs.run import Run, find_run, newest_run
from omnictl.stages import STAGES
from omnictl.stages.sft import Sft, SftConfig

TALKER = "talker"
"""The stage that an omni model can do without, whatever its data."""


def choose_upstream(
    root: Path, config: SftConfig, given: Mapping[str, str | None], init: Run | None, *, cache: Path, tell: Callable[[str], None]
) -> dict[str, Run]:
    """The runs that an omni model is made of, beside the one that it begins as: that one's parts are kept, but for those named.

    Args:
        root: the folder of all runs.
        config: of stage E; its data decides what it cannot do without.
        given: by stage the run that was named, if one was.
        init: the run that the model begins as.
        cache: folder of the cache.
        tell: is told what is taken, what is not, and what is done without.

    Raises:
        DataError: the data cannot be read.
        RunError: of a stage that is needed there is no run that fits.
        UsageError: a run was named that is not taken.
    """
    if config.objective == "dpo":
        _refuse_parts(given)
        return {}
    needed = needed_stages(open_dialogues(config.data, cache).kinds)
    held = {} if init is None else parts_in(init.model, Sft.needs)
    chosen: dict[str, Run] = {}
    for stage in Sft.needs:
        reference = given[stage]
        if stage not in (*needed, *held, TALKER):
            tell(f"no run of `{stage}` is taken: the dialogues do not need it")
        elif reference is not None:
            chosen[stage] = find_run(root, stage, reference)
        elif init is not None and stage in held:
            tell(f"{stage}: that of {init.path}")
        elif stage != TALKER:
            if init is None:  # else a part is missing, which the stage itself says
                chosen[stage] = _newest(root, stage, config.data.source, tell)
        else:
            try:
                chosen[stage] = _newest(root, stage, config.data.source, tell)
            except RunError as error:
                tell(f"no Talker, so answers will be written, not said: {error.message}; `omnictl {stage}` makes one")
    for stage, run in chosen.items():
        tell(f"{stage}: {run.path}")
    return chosen


def _refuse_parts(given: Mapping[str, str | None]) -> None:
    """Refuse runs that are named beside the one that has all parts already.

    Raises:
        UsageError: there are some.
    """
    named = [STAGES[stage].flag or stage for stage, reference in given.items() if reference is not None]
    if named:
        raise UsageError(
            f"{', '.join(named)} cannot go with --objective dpo: it keeps the parts of the run that --init names",
            where=named[0],
            fix="leave that out",
        )


def _newest(root: Path, stage: str, source: str, tell: Callable[[str], None]) -> Run:
    """The newest finished run; for TinyWorld's dialogues of TinyWorld, for others of any data.

    Raises:
        RunError: there is none.
    """
    if tinyworld_seed(source) is None:
        return newest_run(root, stage, "finished")
    flag = STAGES[stage].flag or ""
    fix = f"make one with `omnictl {stage}`, or name a run with {flag} RUN; `omnictl pipeline` makes all of them"
    return require_run(root, stage, source, tell, where=flag, fix=fix)
