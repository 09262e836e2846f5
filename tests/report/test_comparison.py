"""Which evaluations of runs made by hand are laid side by side."""

import json
from pathlib import Path

import pytest

from omnictl.report.comparison import compare_runs, write_comparison
from omnictl.runs.run import Run


def make_run(root: Path, name: str, source: str, folder: str, **more: str) -> Run:
    run = Run(root / "talker" / name)
    (run.evaluations / folder).mkdir(parents=True)
    (run.path / "run.json").write_text(json.dumps({"stage": "talker", "name": name, "status": "finished", "parents": {}}))
    run.config_file.write_text(json.dumps({"data": {"source": source}}))
    report = {
        "stage": "talker",
        "split": "test",
        "num_examples": 3,
        "headline": {"name": "cer", "value": 0.5, "better": "lower"},
        "metrics": {"cer": 0.5, "unknown": None},
        "controls": {},
        **more,
    }
    (run.evaluations / folder / "report.json").write_text(json.dumps(report))
    return run


@pytest.mark.parametrize(
    ("first", "second", "evaluation"),
    [
        (("tinyworld", "test", {}), ("tinyworld", "test", {}), "test"),
        (("tinyworld", "test", {}), ("my/data", "test", {}), None),
        (("tinyworld", "test_a-1", {"data": "a"}), ("my/data", "test_a-1", {"data": "a"}), "test_a-1"),
        (("tinyworld", "test_tinyworld-7", {}), ("my/data", "test_tinyworld-7", {}), "test_tinyworld-7"),  # as older versions wrote
        (("tinyworld", "test", {"judge": "runs/asr/a"}), ("tinyworld", "test", {"judge": "runs/asr/b"}), None),
        (("tinyworld", "test", {"judge": "runs/asr/a"}), ("tinyworld", "test", {"judge": "/moved/asr/a"}), "test"),
        (
            ("tinyworld", "test_pocketsphinx", {"judge": "pocketsphinx"}),
            ("my/data", "test_pocketsphinx", {"judge": "pocketsphinx"}),
            None,
        ),
    ],
)
def test_only_figures_of_the_same_examples_and_judge_are_compared(
    tmp_path: Path, first: tuple[str, str, dict[str, str]], second: tuple[str, str, dict[str, str]], evaluation: str | None
) -> None:
    runs = [
        make_run(tmp_path, name, source, folder, **more) for name, (source, folder, more) in zip("ab", (first, second), strict=True)
    ]
    comparison = compare_runs(runs)
    assert comparison.evaluation == evaluation
    assert comparison.metric_rows() == ([["cer", "0.5", "0.5"], ["unknown", "–", "–"]] if evaluation else [])
    page = write_comparison(comparison, tmp_path / "page.html").read_text()
    assert ("not evaluated on the same data by the same judge" in page) is (evaluation is None)
