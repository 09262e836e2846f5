"""All stages from one command: trained one after the other, then judged, then a page over all of them.

A pipeline has a run directory of its own, `runs/pipeline/TIME_name`, whose record names the stages' runs as its parents; these are
ordinary runs, as the single commands make them. It names each as soon as that exists, so that whatever ends the process, a resume
skips the stages that are finished and goes on with the one that was under way.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import create_model

from omnictl.config import Config, choose_preset, resolve, to_json
from omnictl.config.files import ConfigFile
from omnictl.data.dialogues.modalities import needed_stages
from omnictl.data.dialogues.source import open_dialogues
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.manifest.source import tinyworld_seed
from omnictl.errors import Diverged, RunError
from omnictl.measure.judges import JUDGE
from omnictl.pipeline.context import TrainContext
from omnictl.pipeline.evaluate import EvaluationResults, Measure, MissingStage, Tell, measure_all
from omnictl.pipeline.job import Job, create_job, reopen_job, train_job, units_left
from omnictl.pipeline.run_folder import new_run
from omnictl.pipeline.time_budget.budget import TimeBudget
from omnictl.pipeline.time_budget.data_budget import limit_data, steps_of_all_data
from omnictl.pipeline.time_budget.first_steps import shorten_first_steps
from omnictl.report import write_pipeline_report
from omnictl.report.run_files import history
from omnictl.runs.compatible import require_run
from omnictl.runs.files import read_json, write_text
from omnictl.runs.run import Run, Status, newest_run
from omnictl.runs.weights_file import WEIGHTS
from omnictl.stages import STAGES, command_recipe, command_stages, stage_type, unit_configs

PIPELINE = "pipeline"


class Plan(NamedTuple):
    """The stages to train, and those of which a finished run is taken, in the order of training."""

    train: tuple[str, ...]
    take: tuple[str, ...]


class PipelineResult(NamedTuple):
    """How a pipeline ended; nothing is judged before everything is trained."""

    status: Status
    exit_code: int
    measured: EvaluationResults | None
    page: Path | None


def make_plan(only: Sequence[str], first: str | None) -> Plan:
    """Train all stages, or `only` some, or those from `first` on.

    Of the stages before `first` a run is taken; beside `only` some, of those that they need.
    """
    stages = command_stages()
    if first is not None:
        place = stages.index(first)
        return Plan(stages[place:], stages[:place])
    train = tuple(stage for stage in stages if stage in only or not only)
    needed = {other for stage in train for other in _needs(stage)}
    return Plan(train, tuple(stage for stage in stages if stage in needed and stage not in train))


def choose_config(
    stages: Sequence[str], presets: Mapping[str, str], overrides: Sequence[str], file: ConfigFile | None = None
) -> Config:
    """The config of several stages, each below its name.

    Args:
        stages: names of the stages to train.
        presets: of every stage.
        overrides: texts `STAGE.key=value`.
        file: settings below the stages' names.

    Raises:
        ConfigError: it does not validate.
    """
    kind = _config_type(stages)
    base = kind(**{stage: choose_preset(command_recipe(stage).presets, presets[stage]) for stage in stages})
    return resolve(kind, preset=base, file=file, overrides=overrides)


def create_pipeline_run(root: Path, plan: Plan, config: Config, name: str, record: Mapping[str, object], *, tell: Tell) -> Run:
    """A pipeline of which nothing is trained yet.

    Args:
        root: the folder of all runs.
        plan: what to train and what to take.
        config: of the stages to train.
        name: of the runs.
        record: what else the runs' records hold.
        tell: is told which runs are taken, and which newer ones are not.

    Raises:
        RunError: of a stage that is needed there is no fitting run; or the root cannot be written.
        DiskFull: no space left.
    """
    needed = [stage for stage in plan.take if _is_needed(stage, config)]
    taken = {stage: str(_take_newest(root, stage, plan, config, tell).path.absolute()) for stage in needed}
    return new_run(root, PIPELINE, name, {**record, "parents": taken}, config)


def run_pipeline(run: Run, context: TrainContext, tell: Tell, *, deadline: float | None) -> PipelineResult:
    """Train what is not finished yet of a pipeline, judge all of it and write the page.

    Args:
        run: the pipeline's run.
        context: what every training is given.
        tell: takes a line for people.
        deadline: on `time.monotonic`'s clock; what is left is planned for it, and the evaluation judges as many examples as fit.

    Raises:
        RunError: another process writes to the run, or a run that belongs to it is gone.
        OmniError: whatever a stage raises; the pipeline can be resumed.
    """
    with run.lock(), run.record_end():
        run.update(status="running")
        exit_code = _train_stages(run, context, tell, deadline)
        if exit_code:
            run.update(status="interrupted")
            return PipelineResult("interrupted", exit_code, None, None)
        measured = _measure_stages(run, context, tell, deadline)
        run.update(status="finished")
        folders = [evaluation.predictions.parent for evaluation in measured.evaluations]
        page = write_pipeline_report(run, folders, {stage: message for stage, message, _ in measured.missing})
        return PipelineResult("finished", 0, measured, page)


def stage_runs(run: Run) -> dict[str, Run]:
    """The runs that a pipeline has so far, by stage."""
    parents = run.record()["parents"]
    return {stage: Run(Path(parents[stage])) for stage in command_stages() if stage in parents}


def states(run: Run) -> dict[str, dict[str, Any]]:
    """How far each stage of a pipeline is: its run, its status, its best validation."""
    return {stage: _state(stage_run) for stage, stage_run in stage_runs(run).items()}


def _state(stage_run: Run) -> dict[str, Any]:
    run_history = history(stage_run)
    value = None if run_history.best is None else run_history.best.value
    return {
        "run": str(stage_run.path),
        "status": stage_run.record()["status"],
        "headline": {"name": run_history.headline, "value": value},
    }


def _needs(stage: str) -> tuple[str, ...]:
    """The stages whose runs a stage is trained from or judged by."""
    judge = (JUDGE,) if STAGES[stage].judge == "needed" else ()
    return (*stage_type(stage).needs, *judge)


def _is_needed(stage: str, config: Config) -> bool:
    """Whether a stage that is not trained has to be taken from another run: one's own dialogues may do without some."""
    omni = getattr(config, "sft", None)
    if omni is None or tinyworld_seed(omni.data.source) is not None:
        return True
    return stage in needed_stages(open_dialogues(omni.data, cache_dir()).kinds)


def _config_type(stages: Sequence[str]) -> type[Config]:
    fields: dict[str, Any] = {stage: (command_recipe(stage).config_type, ...) for stage in stages}
    kind: type[Config] = create_model("PipelineConfig", __base__=Config, **fields)
    return kind


def _read_config(run: Run) -> Config:
    """The config that a pipeline was made with.

    Raises:
        RunError: it is damaged, or has stages that there are not.
        ConfigError: it is one of another version.
    """
    run.check_config()
    stages = list(read_json(run.config_file))
    unknown = [stage for stage in stages if stage not in command_stages()]
    if unknown:
        raise RunError(
            f"{run.config_file} has the stages {', '.join(unknown)}, expected some of {', '.join(command_stages())}",
            where=str(run.config_file),
            fix="go on with the version of omnictl that made the run, or start a new one",
        )
    return resolve(_config_type(stages), preset=None, file=run.config_file)


def _take_newest(root: Path, stage: str, plan: Plan, config: Any, tell: Tell) -> Run:
    """The newest finished run of a stage on the same kind of data.

    Raises:
        RunError: there is none.
    """
    fix = f"make one with `omnictl {stage}`, or let the pipeline train it too: --only {stage} beside the others"
    is_judge = stage == JUDGE and "talker" in plan.train
    source = config.talker.data.source if is_judge else getattr(config, plan.train[-1]).data.source
    if is_judge or tinyworld_seed(source) is not None:
        run = require_run(root, stage, source, tell, where=stage, fix=fix)
    else:  # one's own data of different stages have no source in common
        try:
            run = newest_run(root, stage, "finished")
        except RunError as error:
            in_file = f'; in a project file, give it a table: [{stage}] data = "PATH"'
            raise RunError(error.message, where=stage, fix=f"{fix}{in_file}") from error
    tell(f"{stage} is taken from {run.path}")
    return run


def _train_stages(run: Run, context: TrainContext, tell: Tell, deadline: float | None) -> int:
    """Train what is not finished yet; returns 0, or the exit code of the interrupt that ended it."""
    config = _read_config(run)
    stages = list(type(config).model_fields)
    left = [stage for stage in stages if not _is_finished(run, stage)]
    budget = None if deadline is None or not left else _plan_time(run, config, left, context, deadline)
    for stage in left:
        tell(f"{stage}, stage {stages.index(stage) + 1} of {len(stages)}")
        job = _open_job(run, stage, getattr(config, stage), context, budget)
        try:
            outcome = train_job(job, context, deadline=None, max_steps=None, budget=budget)
        except Diverged as error:
            error.within(stage)
            error.fix += f"; in a new pipeline, which `--from {stage}` begins there"  # going on would take the same steps again
            raise
        if outcome.exit_code:  # also if the signal came when the last step had been taken
            return outcome.exit_code
    return 0


def _plan_time(run: Run, config: Config, left: Sequence[str], context: TrainContext, deadline: float) -> TimeBudget:
    """A plan for what is left of a pipeline, noted in its record."""
    runs = stage_runs(run)
    units = [unit for stage in left for unit in units_left(stage, getattr(config, stage), runs.get(stage))]
    budget = context.plan_time(units, deadline=deadline, max_steps=None, judged=True)
    run.update(plan=budget.plan.as_json())
    return budget


def _is_finished(run: Run, stage: str) -> bool:
    stage_run = stage_runs(run).get(stage)
    return stage_run is not None and stage_run.record()["status"] == "finished"


def _open_job(run: Run, stage: str, config: Config, context: TrainContext, budget: TimeBudget | None) -> Job:
    """A stage's job: the one that was begun, else a new one, whose run the pipeline's record then names.

    Where steps are planned, no more data is made than they read, and there are fewer exercises; the whole config stands beside, for
    who trains it on. A run that was begun so and is to take more steps now is left for a new one, which begins from its weights.
    """
    runs, record, units = stage_runs(run), run.record(), unit_configs(stage, config)
    planned = {} if budget is None else budget.foresee(units)
    parents = {name: runs[name] for name in stage_type(stage).needs if name in runs}
    if stage in runs:
        begun = runs[stage]
        if not _has_too_little_data(begun, config, planned.get(stage)):
            return reopen_job(begun, cache=context.cache)
        has_weights = (begun.model / WEIGHTS).is_file()
        parents |= {"init": begun} if has_weights else {}
        begins = "from its weights" if has_weights else "in its place"
        context.tell(f"{stage} is to take more steps now than {begun.path} has data for: a new run begins {begins}")
        if budget is not None:
            budget.begin_anew(stage)
            planned = budget.foresee(units)
    kept: dict[str, object] = {key: record[key] for key in ("command", "versions", "machine") if key in record}
    limited = limit_data(shorten_first_steps(config, planned, stage), planned, stage) if planned else config
    new = create_job(run.root, stage, limited, record["name"], kept, parents, cache=context.cache)
    if limited != config:
        write_text(new.run.whole_config_file, to_json(config))
    run.update(parents={**record["parents"], stage: str(new.run.path.absolute())})
    return new


def _has_too_little_data(begun: Run, whole: Any, planned: int | None) -> bool:
    """Whether TinyWorld was to make less for a run than its steps would read now; of a stage that is one model.

    Args:
        begun: the run.
        whole: the stage's config, with all data.
        planned: the steps that it would take now; None: all that are configured.
    """
    if not begun.whole_config_file.is_file() or STAGES[begun.stage].recipe is not None:
        return False
    begun.check_config()
    made = steps_of_all_data(resolve(type(whole), preset=None, file=begun.config_file))
    most = steps_of_all_data(whole)
    return made is not None and most is not None and made < min(most, planned or whole.train.steps)


def _measure_stages(run: Run, context: TrainContext, tell: Tell, deadline: float | None) -> EvaluationResults:
    """Judge the pipeline's own runs; what speaks by its own recogniser."""
    runs = stage_runs(run)
    how = Measure(
        root=run.root,
        judge=str(runs[JUDGE].path) if JUDGE in runs else None,
        data=None,
        split="test",
        limit=None,
        device=context.device,
        cache=context.cache,
        tell=tell,
    )
    measured = measure_all(runs, how, deadline=deadline)
    others = [stage for stage in command_stages() if stage not in runs]
    absent = [MissingStage(stage, "it is not part of this pipeline", f"omnictl {stage}") for stage in others]
    return EvaluationResults(measured.evaluations, [*absent, *measured.missing])
