"""`omnictl runs`: on trained runs, as people and programs see it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from omnictl.runs.run import Run
from omnictl.trainer.checkpoint import keep_weights

Command = Callable[..., Any]


@pytest.fixture
def two(trained: Path) -> list[Path]:
    """A trained run and a copy of it with another rate, whose validation was worse."""
    other = Path(shutil.copytree(trained, trained.with_name("2026-01-01_00-00-00_slower")))
    config, best = (json.loads((other / f"{name}.json").read_text()) for name in ("config", "best"))
    config["train"]["lr"] = 0.001
    best["perplexity"] *= 2
    lines = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    doubled = [{key: value * 2 if key in ("perplexity", "loss") else value for key, value in line.items()} for line in lines]
    (other / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in doubled))
    (other / "best.json").write_text(json.dumps(best))
    Run(other).update(name="slower", created="2026-01-01_00-00-00")
    Run(other).write_config(json.dumps(config))
    return [trained, other]


def test_runs_are_listed_filtered_and_sorted(omnictl: Command, two: list[Path], runs: Path) -> None:
    everything = omnictl("runs", "list", "--json").json
    assert [run["run"] for run in everything["runs"]] == [str(path) for path in two]
    assert everything["damaged"] == []
    first = everything["runs"][0]
    assert (first["stage"], first["status"], first["steps"], first["score"]["name"]) == ("pretrain", "finished", 20, "perplexity")
    assert first["score"]["better"] == "lower"
    assert [run["name"] for run in omnictl("runs", "list", "--name", "slow*", "--json").json["runs"]] == ["slower"]
    assert omnictl("runs", "list", "--stage", "asr", "--json").json["runs"] == []
    assert omnictl("runs", "list", "--status", "failed", "--json").json["runs"] == []
    assert [run["name"] for run in omnictl("runs", "list", "--sort", "score", "--limit", 1, "--json").json["runs"]] == ["debug"]
    shown = omnictl("runs", "list", "--limit", 1)
    assert f"pretrain/{two[0].name}" in shown.out
    assert "1 more" in shown.out
    (two[1] / "run.json").write_text("{")
    assert "cannot be read" in omnictl("runs", "list").out


def test_one_run_is_shown(omnictl: Command, trained: Path) -> None:
    ended = omnictl("runs", "show", "pretrain", "--json")
    assert ended.json["place"] == f"pretrain/{trained.name}"
    assert ended.json["training"]["trained steps"] == 20
    assert ended.json["training"]["tokens per second"] > 0
    assert ended.json["bytes"] > 10_000
    text = omnictl("runs", "show", trained).out
    for words in ("finished", "seconds a step", "memory MiB", "disk", str(trained / "model")):
        assert words in text


def test_runs_are_compared(omnictl: Command, two: list[Path], runs: Path) -> None:
    ended = omnictl("runs", "compare", *two, "--json")
    assert ended.code == 0
    assert ended.json["settings"] == {"train.lr": [0.01, 0.001]}
    good, bad = ended.json["training"]["validation perplexity"]
    assert bad == pytest.approx(2 * good)
    page = (runs / "comparison.html").read_text()
    assert ended.json["page"] == str(runs / "comparison.html")
    assert page.count('class="curve curve-0"') == page.count('class="curve curve-1"') == 5
    assert "slower" in page
    assert "train.lr" in omnictl("runs", "compare", *two, "--out", runs / "a" / "b.html").out
    assert (runs / "a" / "b.html").is_file()


def test_what_cannot_be_compared(omnictl: Command, trained: Path) -> None:
    alone = omnictl("runs", "compare", "pretrain", trained)
    assert (alone.code, "one run alone cannot be compared" in alone.err) == (2, True)
    other = Path(shutil.copytree(trained, trained.parent.parent / "asr" / "x"))
    Run(other).update(stage="asr")
    mixed = omnictl("runs", "compare", "pretrain", "asr")
    assert (mixed.code, "runs of several stages cannot be compared: asr, pretrain" in mixed.err) == (2, True)


def test_the_same_settings_are_said_to_be_the_same(omnictl: Command, trained: Path) -> None:
    shutil.copytree(trained, trained.with_name("copy"))
    assert "the settings are the same" in omnictl("runs", "compare", trained, trained.with_name("copy")).out


def test_runs_are_verified(omnictl: Command, trained: Path) -> None:
    whole = omnictl("runs", "verify", "--json")
    assert whole.code == 0
    assert whole.json["runs"][0]["problems"] == []
    assert whole.json["runs"][0]["files"] > 10
    weights = max(trained.glob("checkpoints/*/optimizer.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    (trained / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n')
    damaged = omnictl("runs", "verify", trained)
    assert damaged.code == 4
    assert "optimizer.safetensors does not match its checksum" in damaged.out
    assert "metrics.jsonl: line 2" in damaged.out
    assert "--resume" in damaged.err
    (trained / "run.json").write_text("{")
    assert omnictl("runs", "verify", "--json").json["error"]["exit_code"] == 4


def test_one_flipped_bit_of_the_model_is_found(omnictl: Command, trained: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        path, whole = trained / "model" / name, (trained / "model" / name).read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        damaged = omnictl("runs", "verify", trained, "--json")
        assert damaged.code == 4
        assert any(name in problem for problem in damaged.json["runs"][0]["problems"])
        path.write_bytes(whole)
    (trained / "model" / "manifest.json").unlink()
    old = omnictl("runs", "verify", trained, "--json")
    assert old.code == 0
    assert old.json["runs"][0]["notes"] == ["its model folder is of before checksums: only whether it can be read is known"]


def test_a_changed_number_is_found_wherever_it_is(omnictl: Command, trained: Path) -> None:
    changes = {
        "run.json": ('"steps": 20', '"steps": 30', "run.json is damaged: its values are not those that were written"),
        "config.json": ('"eval_every": 10', '"eval_every": 11', "config.json is damaged: its SHA-256 is not the one"),
        "metrics.jsonl": ('"step": 10', '"step": 11', "metrics.jsonl: up to step 20 it is not as it was written"),
        "best.json": ('"step": 20', '"step": 10', "best.json: it does not name step 20, which was the best"),
    }
    for name, (old, new, problem) in changes.items():
        path, whole = trained / name, (trained / name).read_text()
        assert old in whole
        path.write_text(whole.replace(old, new))
        damaged = omnictl("runs", "verify", "--json")
        assert damaged.code == 4
        assert any(problem in found for found in damaged.json["runs"][0]["problems"]), (name, damaged.json)
        resumed = omnictl("pretrain", "--resume", trained)
        assert resumed.code == (0 if name in ("metrics.jsonl", "best.json") else 4)
        assert name == "best.json" or name in resumed.out + resumed.err
        path.write_text(whole)
    assert omnictl("runs", "verify", trained).code == 0


def test_an_older_model_folder_is_found(omnictl: Command, trained: Path) -> None:
    """Whole in itself, and not the best one."""
    before = Run(trained.with_name("before"))
    shutil.copytree(trained, before.path)
    keep_weights({name: tensor * 2 for name, tensor in load_file(before.model / "model.safetensors").items()}, trained / "model")
    damaged = omnictl("runs", "verify", trained, "--json")
    assert damaged.json["runs"][0]["problems"] == ["model: its weights are not those of step 20, which were the best"]
    assert omnictl("runs", "verify", before.path).code == 0


def test_a_parent_that_is_gone_is_a_note(omnictl: Command, trained: Path) -> None:
    Run(trained).update(parents={"init": str(trained.with_name("gone"))})
    ended = omnictl("runs", "verify", "--json")
    assert (ended.code, len(ended.json["runs"][0]["notes"])) == (0, 1)


def test_runs_are_removed_only_when_that_is_wanted(omnictl: Command, two: list[Path]) -> None:
    unasked = omnictl("runs", "rm", two[0])
    assert (unasked.code, "give --yes" in unasked.err) == (2, True)
    assert two[0].is_dir()
    removed = omnictl("runs", "rm", f"pretrain/{two[0].name}", "--yes", "--json")
    assert removed.json["removed"] == [f"pretrain/{two[0].name}"]
    assert removed.json["freed_bytes"] > 10_000
    assert not two[0].exists()


def test_a_parent_is_not_removed_without_force(omnictl: Command, two: list[Path]) -> None:
    Run(two[1]).update(parents={"init": str(two[0])})
    refused = omnictl("runs", "rm", two[0], "--yes")
    assert (refused.code, "is a parent of pretrain/2026-01-01_00-00-00_slower" in refused.err) == (4, True)
    assert omnictl("runs", "rm", two[0], "--yes", "--force").code == 0


def test_pruning_says_what_it_would_free_and_frees_it_when_told(omnictl: Command, two: list[Path]) -> None:
    told = omnictl("runs", "prune", "--json")
    assert list(told.json["would_remove"]) == [f"pretrain/{two[1].name}"]
    assert told.json["would_free_bytes"] > 10_000
    assert list(told.json["kept"].values()) == ["the newest of its stage"]
    text = omnictl("runs", "prune").out
    assert "nothing is removed yet" in text
    assert "omnictl runs prune --yes" in text
    assert two[1].is_dir()
    assert omnictl("runs", "prune", "--yes", "--json").json["removed"] == [f"pretrain/{two[1].name}"]
    assert [path.exists() for path in two] == [True, False]
    assert "nothing to remove" in omnictl("runs", "prune").out


def test_the_path_of_a_run(omnictl: Command, trained: Path) -> None:
    assert omnictl("runs", "path", "pretrain").out == f"{trained}\n"
    missing = omnictl("runs", "path", "asr", "--json")
    assert (missing.code, missing.json["error"]["kind"]) == (4, "run")


def test_a_moved_folder_of_runs_is_whole(omnictl: Command, trained: Path, runs: Path) -> None:
    child = omnictl("pretrain", "--preset", "debug", "--init", trained, "--max-steps", 1, "--json")
    name = Path(child.json["run"]).name
    moved = Path(shutil.move(runs, runs.with_name("moved")))
    shown = omnictl("runs", "show", f"pretrain/{name}", "--runs", moved, "--json").json
    assert shown["parents"] == {"init": str(moved / "pretrain" / trained.name)}
    assert omnictl("pretrain", "--resume", moved / "pretrain" / name, "--max-steps", 2).code == 0
