"""The README.md of an export."""

from pathlib import Path

from omnictl.export.model_card.origins import Origins
from omnictl.export.model_card.usage import Usage
from omnictl.export.model_card.write_card import write_model_card
from omnictl.runs.files import write_json


def card(folder: Path, origins: Origins, licence: str | None = None) -> str:
    model = folder / "model"
    model.mkdir(exist_ok=True)
    write_json(model / "config.json", {"stage": "pretrain", "config": {"train": {"batch_size": 8, "seed": 0}}})
    usage = Usage("A small model.", "Use it.", "transformers", None)
    write_model_card(folder, model, usage, origins, [], name="mine", licence=licence)
    return (folder / "README.md").read_text()


def test_the_card_says_no_more_than_is_known(tmp_path: Path) -> None:
    text = card(tmp_path, Origins(("tinyworld",), (), ()))
    for known in (
        "license: apache-2.0",
        "language: en",
        "A small model. Trained from scratch.",
        "Data: the built-in world of omnictl.",
    ):
        assert known in text
    text = card(tmp_path, Origins(("tinyworld", "/home/me/talks", "/data/voices"), ("/models/qwen",), ("/runs/asr/gone",)))
    for said in ("from scratch", "apache", "language", "/home/me"):
        assert said not in text
    assert "license: other" in text
    assert "Data: the built-in world of omnictl and `talks`, `voices`." in text
    assert "began as another project's model: `qwen`." in text
    assert text.rstrip().endswith(
        "Not stated. Under which licence this may be used, the owners say of the training data (`talks`, `voices`), "
        "of the model that it, or a part of it, began as (`qwen`) and of `gone`."
    )
    assert "license: mit" in card(tmp_path, Origins(("/data/voices",), (), ()), "mit")


def test_a_card_shows_what_an_evaluation_could_not_tell_as_a_dash(tmp_path: Path) -> None:
    """The interval of a single example is not finite: null in a report."""
    write_json(tmp_path / "run.json", {"stage": "pretrain", "status": "finished", "steps": 2, "command": "omnictl pretrain"})
    measured = {"value": 2.5, "low": None, "high": None, "n": 1, "control": "loss_unigram", "control_value": 5.25}
    report = {
        "num_examples": 1,
        "headline": {"name": "loss", "value": 2.5, "better": "lower"},
        "verdict": {"word": "weak", "reason": "of one example"},
        "estimates": {"loss": measured},
    }
    evaluation = tmp_path / "eval" / "test"
    evaluation.mkdir(parents=True)
    write_json(evaluation / "report.json", report)
    assert "| `loss` | 2.5 | – to – | 1 | 5.25 (`loss_unigram`) |" in card(tmp_path, Origins(("tinyworld",), (), ()))
