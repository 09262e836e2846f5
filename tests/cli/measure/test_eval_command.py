import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnictl.stages import command_stages, pretrain

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
    assert list(report) == [
        "stage",
        "run",
        "verdict",
        "split",
        "num_examples",
        "headline",
        "metrics",
        "controls",
        "estimates",
        "shortfall",
        "predictions",
    ]
    assert (report["stage"], report["run"], report["split"]) == ("pretrain", str(trained), "test")
    assert report["num_examples"] == 20
    assert list(report["metrics"]) == METRICS
    assert report["headline"] == {"name": "perplexity", "value": report["metrics"]["perplexity"], "better": "lower"}
    assert list(report["controls"]) == ["perplexity_unigram", "loss_unigram", "bits_per_byte_unigram"]
    assert report["verdict"]["word"] == "not learned"
    assert "perplexity_unigram" in report["verdict"]["reason"]
    assert list(report["estimates"]) == METRICS
    for name, estimate in report["estimates"].items():
        assert estimate["value"] == pytest.approx(report["metrics"][name])
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
        assert estimate["n"] == 20
    assert 0 <= report["metrics"]["determined_accuracy"] <= 1
    assert report["metrics"]["loss"] == pytest.approx(
        report["metrics"]["optimal_loss"] * (1 + report["metrics"]["excess_ratio"]), rel=1e-6
    )


@pytest.mark.slow
def test_predictions_are_jsonl(omnictl: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "NUM_CONTINUATIONS", 20)  # as it is outside of these tests
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
    assert ended.out.splitlines()[1].startswith("pretrain: not learned — perplexity")
    for part in (
        str(trained),
        "does not beat perplexity_unigram",
        "the test split has no more",
        "20 examples of the test split",
        "reference:",
        "prediction:",
        "predictions.jsonl",
    ):
        assert part in ended.out


def test_another_draw_and_only_so_many(omnictl: Command, trained: Path) -> None:
    report = omnictl("eval", "pretrain", "--data", "tinyworld:7", "--limit", 5, "--json").json
    assert report["num_examples"] == 5
    predictions = Path(report["predictions"])
    assert predictions.parent.parent == trained / "eval"
    assert predictions.parent.name.startswith("test_tinyworld-7-")
    assert report["data"] == "tinyworld:7"
    own = omnictl("eval", "pretrain", "--limit", 5, "--json").json
    assert report["metrics"]["loss"] != own["metrics"]["loss"]


def test_a_single_example_can_be_judged(omnictl: Command, trained: Path) -> None:
    report = omnictl("eval", "pretrain", "--limit", 1, "--json").json
    assert report["num_examples"] == 1
    assert report["estimates"]["perplexity"]["low"] == 0
    assert report["estimates"]["perplexity"]["high"] is None
    assert report["verdict"]["word"] == "not learned"
    assert report["shortfall"].endswith("± unknown is of only 1 examples: no more were judged")


def test_the_validation_split_gives_what_training_saw(omnictl: Command, trained: Path) -> None:
    report = omnictl("eval", "pretrain", "--split", "val", "--json").json
    best = json.loads((trained / "best.json").read_text())
    assert report["split"] == "val"
    assert report["metrics"]["perplexity"] == pytest.approx(best["perplexity"], rel=0.02)  # training may have run in bf16


@pytest.mark.slow
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


@pytest.fixture
def two_stages(omnictl: Command, trained: Path) -> dict[str, Path]:
    """A finished run of `pretrain` and one of `asr`."""
    asr = omnictl("asr", "--preset", "debug", "--max-steps", 2, "--json").json["run"]
    return {"pretrain": trained, "asr": Path(asr)}


@pytest.mark.slow
def test_all_judges_the_newest_run_of_every_stage(omnictl: Command, two_stages: dict[str, Path]) -> None:
    ended = omnictl("eval", "all", "--limit", 4, "--json")
    assert ended.code == 0
    assert [report["run"] for report in ended.json["stages"]] == [str(path) for path in two_stages.values()]
    missing = {entry["stage"]: entry for entry in ended.json["missing"]}
    assert list(missing) == [stage for stage in command_stages() if stage not in two_stages]
    assert "no finished run of stage `vision`" in missing["vision"]["message"]
    assert missing["vision"]["fix"] == "make one with `omnictl vision`"
    alone = omnictl("eval", "pretrain", "--limit", 4, "--json").json
    assert ended.json["stages"][0] == alone


def test_all_is_one_table(omnictl: Command, two_stages: dict[str, Path]) -> None:
    ended = omnictl("eval", "all", "--limit", 4, "--data", "tinyworld:7")
    assert ended.code == 0
    assert ended.out.count("not learned") == 4  # above the table and in it
    for word in ("perplexity", "excess_ratio", "wer", "wer_shuffled_floor", *(path.name for path in two_stages.values())):
        assert word in ended.out
    assert "vision is missing: no finished run" in ended.out
    assert all([*path.glob("eval/test_tinyworld-7-*/report.json")] for path in two_stages.values())


def test_all_without_a_run(omnictl: Command) -> None:
    ended = omnictl("eval", "all", "--json")
    assert ended.code == 4
    assert ended.json["error"]["fix"] == "make them with `omnictl pipeline`"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "latest"], "--run names one run"),
        (["--data", "my.txt"], "my.txt cannot be the data of all stages"),
    ],
)
def test_what_all_cannot_take(omnictl: Command, trained: Path, arguments: list[str], message: str) -> None:
    Path("my.txt").write_text("Some text.")
    ended = omnictl("eval", "all", *arguments)
    assert ended.code == 2
    assert message in ended.err.replace("\n", " ")


def test_an_evaluation_makes_a_page(omnictl: Command, trained: Path) -> None:
    ended = omnictl("eval", "pretrain", "--limit", 3)
    assert f"report: {trained / 'report.html'}" in ended.out
    assert "3 examples of the test split" in (trained / "report.html").read_text()
