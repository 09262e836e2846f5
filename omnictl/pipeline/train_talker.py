"""Stage D from one command: codec, aligner and Talker, each a run of its own, the Talker's naming the others as its parents.

The Talker's run exists from the beginning, so that it can be resumed whichever part was under way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from omnictl.config import resolve
from omnictl.errors import ConfigError, Diverged, RunError
from omnictl.nn.audio.mel import MelConfig
from omnictl.pipeline.context import TrainContext
from omnictl.pipeline.run_folder import create_stage_run, describe, new_run, steps_taken
from omnictl.pipeline.time_budget.budget import TimeBudget
from omnictl.pipeline.time_budget.unit_costs import UnitConfig
from omnictl.pipeline.train_stage import StageJob
from omnictl.runs.checksums import is_sealed
from omnictl.runs.files import read_json
from omnictl.runs.model_folder import read_config
from omnictl.runs.run import Run
from omnictl.stages import stage_type, unit_configs
from omnictl.stages.codec import CodecStage, CodecTraining
from omnictl.stages.protocol import StageContext, TrainableStage
from omnictl.stages.talker import TalkerStage, open_sayable
from omnictl.stages.talker_recipe import SECTIONS, SpeakingConfig
from omnictl.stages.voice import PARTS, folders_in
from omnictl.trainer.distributed.process_group import ProcessGroup
from omnictl.trainer.loop import Outcome
from omnictl.trainer.plan.model_size_limit import limit_to_memory


@dataclass(frozen=True)
class TalkerJob:
    """A Talker's run as a `Job`; its parts are opened when their turn comes."""

    run: Run

    @classmethod
    def create(
        cls,
        root: Path,
        stage: str,
        config: SpeakingConfig,
        name: str,
        record: Mapping[str, object],
        parents: Mapping[str, Run],
        *,
        cache: Path,
    ) -> "TalkerJob":
        """A run whose parts are yet to be trained, but for finished ones that `parents` names, or that the Talker `init` holds.

        Of the parts that `init` holds, those that were cut short are trained on first.
        """
        _check_finished({part: run for part, run in parents.items() if part in config.parts})
        folders = {parent: run.path for parent, run in parents.items()}
        if "init" in parents:
            other = parents["init"]
            short = parts_cut_short(other)
            held = {part: folder for part, folder in folders_in(other.model).items() if part not in short}
            folders = {"init": other.path, **held, **folders}
        for part, path in folders.items():
            _check_features(part, path, config.codec.model.mel)
        codec = config.codec.model
        if "codec" in folders:
            codec = read_config(part_folder(folders["codec"]), CodecStage.name, CodecTraining).model
        open_sayable(config.data, codec, cache).check()
        named = {part: str(path.absolute()) for part, path in folders.items()}
        return cls(new_run(root, stage, name, {**record, "parents": named}, config))

    @classmethod
    def reopen(cls, run: Run, *, cache: Path) -> "TalkerJob":  # noqa: ARG003  its parts take it when they are opened
        """A run to go on with, whichever part was under way."""
        run.check_config()
        return cls(run)

    @staticmethod
    def units_left(stage: str, config: SpeakingConfig, run: Run | None) -> list[UnitConfig]:
        """The parts that are not trained to their end yet, the Talker the last."""
        return [
            UnitConfig(part, part_config, steps_taken(None if run is None else part_run(run, part)))
            for part, part_config in unit_configs(stage, config).items()
            if run is None or not is_passed(run, part)
        ]

    @staticmethod
    def units_cut_short(run: Run) -> list[str]:
        """The parts that going on with the run would leave as they are."""
        return list(parts_cut_short(run))

    def train(self, context: TrainContext, *, budget: TimeBudget | None, max_steps: int | None) -> Outcome:
        """Train what is not finished yet, part after part.

        Args:
            context: what it is trained with.
            budget: the time for the parts, and perhaps for more.
            max_steps: total steps of every part instead of the configured ones.

        Returns:
            How the last part that was trained ended.
        """
        run, config = self.run, resolve(SpeakingConfig, preset=None, file=self.run.config_file)
        for part in config.parts:
            if context.group.first(partial(is_passed, run, part)):
                continue
            stage, stage_run = _open_together(run, part, config, context.cache, context.group)
            try:
                outcome = context.train(stage, stage_run, budget=budget, max_steps=max_steps)
            except Diverged as error:
                error.within(SECTIONS[part])
                raise
            if outcome.exit_code and part != "talker":  # also if the signal came when the part's last step had been taken
                outcome = outcome._replace(status="interrupted")
                if context.group.is_main:
                    run.update(status=outcome.status)
                return outcome
        return outcome


def part_folder(parent: Path) -> Path:
    """The model folder of a parent, which is a run or such a folder itself."""
    return Run(parent).model if (parent / "run.json").is_file() else parent


def part_run(run: Run, part: str) -> Run | None:
    """The run of a part of a Talker's run, the Talker's own included; None if it has not begun."""
    if part == "talker":
        return run
    parent = run.record()["parents"].get(part)
    return None if parent is None else Run(Path(parent))


def parts_cut_short(run: Run) -> dict[str, Run]:
    """The runs of a Talker's parts that took fewer steps than their configs plan, and of the parts that need such a part.

    A part that is a copy, or whose run is gone, is none of them: only its weights are known.
    """
    short: dict[str, Run] = {}
    for part in PARTS:
        stage_run = part_run(run, part)
        if stage_run is None or not (stage_run.path / "run.json").is_file() or stage_run.stage != part:
            continue
        if _is_cut_short(stage_run) or any(need in short for need in stage_type(part).needs):
            short[part] = stage_run
    return short


def _is_cut_short(run: Run) -> bool:
    planned = int(read_json(run.config_file)["train"]["steps"])
    return int(run.record().get("steps", planned)) < planned


def _check_finished(parts: Mapping[str, Run]) -> None:
    """Refuse a codec or an aligner whose training has not ended: it would be trained on in its own run.

    Raises:
        RunError: there is one.
    """
    for part, run in parts.items():
        status = run.record()["status"]
        if status != "finished":
            command = "finish it with `omnictl asr" if run.stage == "asr" else "finish its Talker with `omnictl talker"
            fix = f"{command} --resume RUN`, name one that is finished, or leave --{part} out"
            raise RunError(f"{run.path} is {status}, expected a finished run", where=f"--{part}", fix=fix)


def _check_features(part: str, parent: Path, mel: MelConfig) -> None:
    """Refuse a codec or an aligner that hears other features.

    Raises:
        ConfigError: it does.
        CheckpointError: its folder holds no model.
    """
    folder = part_folder(parent)
    part_mel = MelConfig(**read_json(folder / "config.json")["config"]["model"]["mel"]) if part in TalkerStage.needs else mel
    if part_mel != mel:
        raise ConfigError(
            f"the model of {parent} hears {part_mel.as_text}, the config asks for {mel.as_text}",
            where=f"--{part}",
            fix=f"set codec.model.mel and aligner.model.mel as in {folder / 'config.json'}, or leave --{part} out",
        )


def is_passed(run: Run, part: str) -> bool:
    """Whether a part before the Talker is ready."""
    if part == "talker":
        return False
    parent = run.record()["parents"].get(part)
    if parent is None:
        return False
    path = Path(parent)
    return not (path / "run.json").is_file() or Run(path).record()["status"] == "finished"


def _open_together(run: Run, part: str, config: SpeakingConfig, cache: Path, group: ProcessGroup) -> tuple[TrainableStage, Run]:
    """A part to be trained and its run; the leading process begins it, the others find it begun."""
    begin = partial(_open, run, part, config, cache)
    return group.begin_first(begin, lambda begun: begun[1].path, lambda _: begin())


def _open(run: Run, part: str, config: SpeakingConfig, cache: Path) -> tuple[TrainableStage, Run]:
    """A part to be trained, and its run: the one that was begun, else a new one."""
    record = run.record()
    begun = run if part == "talker" else None if part not in record["parents"] else Run(Path(record["parents"][part]))
    if begun is not None and (is_sealed(begun.model) or any(begun.checkpoints.glob("step-*"))):  # described to the end
        return StageJob.reopen(begun, cache=cache).stage, begun
    parents = {name: Path(parent) for name, parent in record["parents"].items()}
    if part == "talker":
        init = Run(parents["init"]) if "init" in parents else None
        upstream = {name: part_folder(path) for name, path in parents.items() if name != "init"}
        with limit_to_memory():
            stage = stage_type(part).create(config.part(part), context=StageContext(cache, init, upstream))
        describe(run, stage)
        return stage, run
    older = parts_cut_short(Run(parents["init"])).get(part) if "init" in parents else None
    upstream = {name: part_folder(parents[name]) for name in stage_type(part).needs}
    with limit_to_memory():
        new = stage_type(part).create(config.part(part), context=StageContext(cache, older, upstream))
    named = {} if older is None else {"init": str(older.path.absolute())}
    kept: dict[str, object] = {key: record[key] for key in ("command", "versions", "machine") if key in record}
    stage_run = create_stage_run(run.root, new, record["name"], {"parents": named, **kept})
    run.update(parents={**record["parents"], part: str(stage_run.path.absolute())})
    return new, stage_run
