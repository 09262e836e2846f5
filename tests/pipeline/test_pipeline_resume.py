"""What a pipeline that is gone on with does about a stage that was begun in less time; nothing is trained."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from omnictl.config import Config, to_json
from omnictl.pipeline import pipeline
from omnictl.pipeline.time_budget.data_budget import limit_data
from omnictl.runs.files import write_text
from omnictl.runs.run import Run, create_run
from omnictl.runs.weights_file import WEIGHTS
from omnictl.stages.asr import PRESETS as ASR

WHOLE = ASR["tiny"]
FEW_STEPS = 40


class Begun(NamedTuple):
    """A pipeline whose recogniser was begun with data for few steps."""

    run: Run
    asr: Run
    made: list[tuple[Config, Mapping[str, Run]]]
    """Configs and parents of the runs that were created since."""
    told: list[str]

    def open_job(self, budget: Any) -> Run:
        """The run that is gone on with."""
        context: Any = SimpleNamespace(cache=Path(), tell=self.told.append)
        return pipeline._open_job(self.run, "asr", WHOLE, context, budget).run


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begun:
    """With data for half as many steps again as were planned."""
    run, asr = (create_run(tmp_path, stage, "a", {"parents": {}}) for stage in ("pipeline", "asr"))
    asr.write_config(to_json(limit_data(WHOLE, {"asr": FEW_STEPS}, "asr")))
    write_text(asr.whole_config_file, to_json(WHOLE))
    run.update(parents={"asr": str(asr.path)})
    made: list[tuple[Config, Mapping[str, Run]]] = []

    def create(root: Path, stage: str, config: Config, name: str, record: Any, parents: Mapping[str, Run], *, cache: Path) -> Any:
        made.append((config, parents))
        return SimpleNamespace(run=create_run(root, stage, name, {"parents": {}}))

    monkeypatch.setattr(pipeline, "create_job", create)
    monkeypatch.setattr(pipeline, "reopen_job", lambda run, cache: SimpleNamespace(run=run))
    return Begun(run, asr, made, [])


def budget_of(*steps: int) -> Any:
    """A budget that foresees so many steps, one number after the other."""
    numbers = list(steps)
    anew: list[str] = []
    return SimpleNamespace(foresee=lambda units: {"asr": numbers.pop(0)}, begin_anew=anew.append, anew=anew)


def test_a_stage_with_enough_data_is_gone_on_with(begun: Begun) -> None:
    assert begun.open_job(budget_of(FEW_STEPS * 3 // 2)) == begun.asr
    assert (begun.made, begun.told) == ([], [])


def test_without_a_limit_all_data_is_made_in_a_new_run(begun: Begun) -> None:
    new = begun.open_job(None)
    assert begun.made == [(WHOLE, {})]
    assert pipeline.stage_runs(begun.run) == {"asr": Run(new.path.absolute())}
    assert begun.told == [f"asr is to take more steps now than {begun.asr.path} has data for: a new run begins in its place"]
    assert not new.whole_config_file.exists()


def test_more_time_makes_more_data_and_the_weights_are_kept(begun: Begun) -> None:
    (begun.asr.model / WEIGHTS).parent.mkdir()
    (begun.asr.model / WEIGHTS).touch()
    budget = budget_of(100, 80)
    new = begun.open_job(budget)
    assert budget.anew == ["asr"]  # the time is that of all steps
    assert begun.made == [(limit_data(WHOLE, {"asr": 80}, "asr"), {"init": begun.asr})]
    assert new.whole_config_file.read_text() == to_json(WHOLE)
    assert begun.told[0].endswith("begins from its weights")


def test_what_was_begun_with_all_data_is_gone_on_with(begun: Begun) -> None:
    begun.asr.whole_config_file.unlink()
    assert begun.open_job(None) == begun.asr


def test_new_runs_lie_beside_a_pipeline_that_is_named_from_within(begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun.run.path)
    new = begun._replace(run=Run(Path())).open_job(None)
    assert new.path.parent == begun.asr.path.parent
