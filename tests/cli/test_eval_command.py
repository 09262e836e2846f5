import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

METRICS = [
    "perplexity",
    "loss",
    "bits_per_byte",
    "excess_ratio",
    "ngram_excess_ratio",
    "determined_accuracy",
    "optimal_loss",
]


def test_json_has_the_whole_report(omnictl: Command, trained: Path) -> None:
    ended = omnictl("eval", "pretrain", "--json")
    report = ended.json
    assert ended.code == 0
    assert list(report) == ["stage", "run", "split", "num_examples", "headline", "metrics", "controls", "predictions"]
    assert (report["stage"], report["run"], report["split"]) == ("pretrain", str(trained), "test")
    assert report["num_examples"] == 20
    assert list(report["metrics"]) == METRICS
    assert report["headline"] == {"name": "perplexity", "value": report["metrics"]["perplexity"], "better": "lower"}
    assert report["controls"] == {}
    assert 0 <= report["metrics"]["determined_accuracy"] <= 1
    assert report["metrics"]["loss"] == pytest.approx(
        report["metrics"]["optimal_loss"] * (1 + report["metrics"]["excess_ratio"]), rel=1e-6
    )


def test_predictions_are_jsonl(omnictl: Command, trained: Path) -> None:
    predictions = Path(omnictl("eval", "pretrain", "--json").json["predictions"])
    assert predictions == trained / "eval" / "test" / "predictions.jsonl"
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert len(rows) == 20
    assert all(list(row) == ["id", "task", "prompt", "reference", "prediction"] for row in rows)
    assert rows[0]["id"] == "test/0"
    assert rows[0]["task"] == "continue"
    assert json.loads((predictions.parent / "report.json").read_text())["num_examples"] == 20


def test_people_get_a_table(omnictl: Command, trained: Path) -> None:
    ended = omnictl("eval", "pretrain")
    assert ended.code == 0
    for name in METRICS:
        assert name in ended.out
    for part in (str(trained), "20 examples of the test split", "reference:", "prediction:", "predictions.jsonl"):
        assert part in ended.out


def test_another_draw_and_only_so_many(omnictl: Command, trained: Path) -> None:
    report = omnictl("eval", "pretrain", "--data", "tinyworld:7", "--limit", 5, "--json").json
    assert report["num_examples"] == 5
    assert report["predictions"] == str(trained / "eval" / "test_tinyworld-7" / "predictions.jsonl")
    own = omnictl("eval", "pretrain", "--limit", 5, "--json").json
    assert report["metrics"]["loss"] != own["metrics"]["loss"]


def test_a_single_example_can_be_judged(omnictl: Command, trained: Path) -> None:
    assert omnictl("eval", "pretrain", "--limit", 1, "--json").json["num_examples"] == 1


def test_the_validation_split_gives_what_training_saw(omnictl: Command, trained: Path) -> None:
    report = omnictl("eval", "pretrain", "--split", "val", "--json").json
    best = json.loads((trained / "best.json").read_text())
    assert report["split"] == "val"
    assert report["metrics"]["perplexity"] == pytest.approx(best["perplexity"], rel=0.02)  # training may have run in bf16


def test_the_same_run_gives_the_same_numbers(omnictl: Command, trained: Path) -> None:
    assert omnictl("eval", "pretrain", "--json").out == omnictl("eval", "pretrain", "--json").out


def test_the_users_text_is_judged_in_bits_per_byte(omnictl: Command, trained: Path, tmp_path: Path, prose: str) -> None:
    (tmp_path / "my.txt").write_text(prose)
    report = omnictl("eval", "pretrain", "--data", "my.txt", "--json").json
    assert list(report["metrics"]) == ["perplexity", "loss", "bits_per_byte"]


def test_the_newest_finished_run_is_judged(omnictl: Command, trained: Path) -> None:
    newer = omnictl("pretrain", "--preset", "debug", "--max-steps", 1, "--json").json["run"]
    assert omnictl("eval", "pretrain", "--limit", 1, "--json").json["run"] == newer
    assert omnictl("eval", "pretrain", "--limit", 1, "--run", trained.name, "--json").json["run"] == str(trained)
