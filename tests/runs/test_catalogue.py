"""Finding runs by any of their names, and what they came to in a line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from handmade_runs import judged_wer

from omnictl.errors import RunError
from omnictl.runs.catalogue import (
    children,
    disk_bytes,
    find_any_run,
    is_trained_now,
    parents_of,
    read_catalogue,
    summarise,
    summarise_all,
)
from omnictl.runs.run import Run

MakeRun = Callable[..., Run]


def test_all_runs_are_listed_newest_first_and_damaged_ones_apart(root: Path, make_run: MakeRun) -> None:
    assert read_catalogue(root) == ([], [])
    old, new, broken = make_run("asr", 1), make_run("vision", 2), make_run("asr", 3)
    (broken.path / "run.json").write_text("{")
    (root / "notes.txt").write_text("")
    assert read_catalogue(root) == ([new, old], [broken.path])


def test_the_newest_is_so_by_utc(root: Path, make_run: MakeRun) -> None:
    """When clocks go back, the later run has the earlier local time."""
    before = make_run("asr", 50, created_utc="2026-10-25T00:50:00.000000+00:00")
    after = make_run("asr", 10, created_utc="2026-10-25T01:10:00.000000+00:00")
    assert read_catalogue(root).runs == [after, before]
    assert find_any_run(root, "latest") == after


@pytest.mark.parametrize(
    ("reference", "minute"),
    [
        ("asr/2026-11-22_14-01-00_tiny", 1),
        ("2026-11-22_14-01-00_tiny", 1),
        ("long", 2),
        ("asr", 2),  # the newest that is finished
        ("asr/latest", 3),
        ("latest", 4),
    ],
)
def test_a_run_has_several_names(root: Path, make_run: MakeRun, reference: str, minute: int) -> None:
    made = {
        1: make_run("asr", 1),
        2: make_run("asr", 2, name="long"),
        3: make_run("asr", 3, name="broken", status="failed"),
        4: make_run("vision", 4, name="photos"),
    }
    assert find_any_run(root, reference) == made[minute]
    assert find_any_run(root, str(made[minute].path)) == made[minute]


def test_a_name_that_is_not_one_run_s(root: Path, make_run: MakeRun) -> None:
    make_run("asr", 1), make_run("vision", 2)
    with pytest.raises(RunError, match=r"2 runs are called 'tiny': vision/2026-11-22_14-02-00_tiny, asr/") as caught:
        find_any_run(root, "tiny")
    assert "STAGE/FOLDER" in caught.value.fix
    with pytest.raises(RunError, match=r"no run 'small' in .*; the newest: vision/2026"):
        find_any_run(root, "small")


def test_a_run_in_a_line(make_run: MakeRun) -> None:
    judged = summarise(make_run(judged=judged_wer(0.1), validated={0: 1.0, 10: 0.2}))
    assert judged.score == ("wer", 0.1, "lower", 0.05, 0.2, 50, "test")
    assert (judged.status, judged.steps, judged.verdict, judged.data) == ("finished", 10, "learned", "tinyworld")
    validated = summarise(make_run(minute=1, validated={0: 1.0, 10: 0.2}))
    assert validated.score == ("wer", 0.2, "lower", None, None, None, "validation")
    once = summarise(make_run(minute=2, validated={0: 1.0}))
    assert once.score is not None
    assert once.score.better is None  # from one value nobody can tell
    assert once.score.goodness is None
    bare = summarise(make_run("pipeline", minute=3))
    assert (bare.score, bare.verdict) == (None, None)
    assert bare.as_json()["place"] == "pipeline/2026-11-22_14-03-00_tiny"


@pytest.mark.parametrize("content", ["{", "null", "[]", "{}"])
@pytest.mark.parametrize("name", ["latest.json", "best.json", "eval/test/report.json"])
def test_a_run_with_a_damaged_file_is_set_apart(make_run: MakeRun, name: str, content: str) -> None:
    whole, broken = (
        make_run(minute=minute, validated={0: 1.0}, judged=judged_wer(0.1) if "eval" in name else None) for minute in (1, 2)
    )
    record = json.loads((broken.path / "run.json").read_text())
    del record["steps"]
    (broken.path / "run.json").write_text(json.dumps(record))
    (broken.path / name).write_text(content)
    summaries, unreadable = summarise_all([broken, whole])
    assert ([summary.run for summary in summaries], unreadable) == ([whole], [broken])
    with pytest.raises(RunError, match=name):
        summarise(broken)


def test_a_run_that_says_running_and_is_held_by_nobody_was_killed(make_run: MakeRun) -> None:
    run = make_run(status="running")
    assert summarise(run).status == "killed"
    with run.lock():
        assert summarise(run).status == "running"
    assert summarise(run).status == "killed"


def test_a_talker_is_being_trained_while_a_part_of_it_is(make_run: MakeRun) -> None:
    codec = make_run("codec", 1, status="running")
    talker = make_run("talker", 1, status="running", parents={"codec": "codec/2026-11-22_14-01-00_tiny"})
    with codec.lock():
        assert is_trained_now(talker)
    assert not is_trained_now(talker)


def test_parents_and_children(root: Path, make_run: MakeRun) -> None:
    asr = make_run("asr", 1)
    (asr.path / "model" / "part").mkdir(parents=True)
    place = "asr/2026-11-22_14-01-00_tiny"
    sft = make_run("sft", 2, parents={"asr": place, "codec": f"{place}/model/part", "vision": "vision/gone"})
    assert parents_of(sft) == {"asr": Run(asr.path.absolute()), "codec": Run(asr.path.absolute())}
    assert children(read_catalogue(root).runs) == {asr.path.absolute(): [sft]}


def test_the_size_of_a_run_is_that_of_its_files(make_run: MakeRun) -> None:
    run = make_run()
    before = disk_bytes(run)
    run.checkpoints.mkdir()
    (run.checkpoints / "weights").write_bytes(bytes(1000))
    assert disk_bytes(run) == before + 1000
