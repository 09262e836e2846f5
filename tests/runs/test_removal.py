"""What pruning keeps, and what is not removed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from handmade_runs import judged_wer

from omnictl.errors import RunError
from omnictl.runs.removal import check_removable, plan_pruning, remove_run
from omnictl.runs.run import Run

MakeRun = Callable[..., Run]


def names(runs: object) -> set[str]:
    return {run.path.name[14:16] for run in runs}  # type: ignore[attr-defined]


def test_the_best_the_newest_and_their_parents_stay(root: Path, make_run: MakeRun) -> None:
    good, weak = {0: 1.0, 10: 0.1}, {0: 1.0, 10: 0.5}
    make_run(minute=1, validated=weak)
    make_run(minute=2, validated=good)  # the best
    make_run(minute=3, validated=weak)  # a parent
    make_run(minute=4, validated=weak)
    make_run(minute=5, validated=weak)  # the newest that is finished
    make_run(minute=6, validated=weak, status="interrupted")  # the newest, may be resumed
    make_run("sft", 7, parents={"asr": "asr/2026-11-22_14-03-00_tiny"})
    plan = plan_pruning(root, None, newest=1)
    assert names(plan.remove) == {"01", "04"}
    reasons = {run.path.name[14:16]: reason for run, reason in plan.keep.items()}
    assert reasons == {
        "02": "the best wer on validation",
        "03": "sft/2026-11-22_14-07-00_tiny is made from it",
        "05": "finished lately",
        "06": "the newest of its stage",
        "07": "the newest of its stage",
    }
    assert plan.bytes > 0
    assert names(plan_pruning(root, None, newest=3).remove) == {"01"}
    assert plan_pruning(root, "vision", newest=0).remove == []


def test_runs_on_other_data_are_not_compared(root: Path, make_run: MakeRun) -> None:
    make_run(minute=1, validated={0: 1.0, 10: 0.5}, source="/my/recordings")
    make_run(minute=2, validated={0: 1.0, 10: 0.1})
    make_run(minute=3, validated={0: 1.0, 10: 0.9})
    assert plan_pruning(root, None, newest=0).remove == []


def test_an_evaluated_run_and_a_validated_one_are_each_the_best_of_their_kind(root: Path, make_run: MakeRun) -> None:
    make_run(minute=1, judged=judged_wer(0.3))
    make_run(minute=2, judged=judged_wer(0.2))
    make_run(minute=3, validated={0: 1.0, 10: 0.1})
    make_run(minute=4)
    assert names(plan_pruning(root, None, newest=0).remove) == {"01"}


def test_a_score_that_cannot_be_compared_is_no_reason_to_remove(root: Path, make_run: MakeRun) -> None:
    make_run(minute=1, validated={0: 0.5})
    make_run(minute=2, validated={0: 1.0, 10: 0.1})
    make_run(minute=3)
    assert plan_pruning(root, None, newest=0).remove == []


def test_what_is_being_trained_stays(root: Path, make_run: MakeRun) -> None:
    run = make_run(minute=1, status="running")
    make_run(minute=2)
    with run.lock():
        assert plan_pruning(root, None, newest=1).keep[Run(run.path.absolute())] == "it is being trained"
        with pytest.raises(RunError, match="is being trained"):
            check_removable(run, [run], root)
    assert names(plan_pruning(root, None, newest=1).remove) == {"01"}


def test_a_parent_is_removed_with_its_children_only(root: Path, make_run: MakeRun) -> None:
    asr = make_run(minute=1)
    sft = make_run("sft", 2, parents={"asr": "asr/2026-11-22_14-01-00_tiny"})
    with pytest.raises(RunError, match=r"is a parent of sft/2026-11-22_14-02-00_tiny") as caught:
        check_removable(asr, [asr], root)
    assert "--force" in caught.value.fix
    check_removable(asr, [asr, sft], root)
    check_removable(sft, [sft], root)


def test_a_parent_in_another_folder_of_runs_is_kept_for_its_children_there(root: Path, make_run: MakeRun, tmp_path: Path) -> None:
    asr = make_run(minute=1)
    make_run("sft", 2, parents={"asr": "asr/2026-11-22_14-01-00_tiny"})
    with pytest.raises(RunError, match=r"is a parent of sft/2026-11-22_14-02-00_tiny"):
        check_removable(asr, [asr], tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["config.json", "latest.json", "best.json"])
def test_what_cannot_be_read_stays_and_what_it_is_made_from(root: Path, make_run: MakeRun, name: str) -> None:
    make_run(minute=1)
    broken = make_run(minute=2, validated={0: 1.0}, parents={"init": "asr/2026-11-22_14-01-00_tiny", "asr": "asr/gone"})
    make_run(minute=3)
    make_run(minute=4)
    (broken.path / "run.json").write_text((broken.path / "run.json").read_text().replace('"steps"', '"stops"'))
    (broken.path / name).write_text("{")
    plan = plan_pruning(root, None, newest=1)
    assert names(plan.remove) == {"03"}
    assert plan.keep[Run(broken.path.absolute())] == "it cannot be read; `omnictl runs verify` says why"
    parent = root / "asr" / "2026-11-22_14-01-00_tiny"
    (parent / "run.json").write_text("{")
    assert names(plan_pruning(root, None, newest=1).remove) == {"03"}


def test_a_removed_run_is_gone(make_run: MakeRun) -> None:
    run = make_run()
    with run.lock(), pytest.raises(RunError, match="another process"):
        remove_run(run)
    assert (run.path / "run.json").is_file()
    remove_run(run)
    assert not run.path.exists()
