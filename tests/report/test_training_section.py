"""What a page shows of a training, from logs made by hand."""

import json
from pathlib import Path

import pytest

from omnictl.report.curves import Limit, Point, chart, curve
from omnictl.report.run_files import figures_of_training
from omnictl.report.training import training_section, training_sections
from omnictl.runs.run import Run

STEPS = range(1, 11)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "asr" / "2026-11-22_14-05-09_tiny")
    made.samples.mkdir(parents=True)
    memory = {"micro_batch": 8, "peak_bytes": 300 * 2**20, "budget_bytes": 2**33, "evaluation_bytes": 400 * 2**20}
    record = {"stage": "asr", "status": "running", "parents": {}, "memory": memory, "loaded_bytes": 100 * 2**20}
    (made.path / "run.json").write_text(json.dumps(record))
    trained = [{"step": step, "split": "train", "loss": 1 / step, "lr": 0.01, "grad_norm": 2.0} for step in STEPS]
    write(made.metrics_file, [{"step": 0, "split": "val", "wer": 0.9}, *trained, {"step": 10, "split": "val", "wer": 0.5}])
    speeds = [{"step": step, "seconds": 0.5, "audio_seconds_per_second": 40.0, "memory_bytes": 450 * 2**20} for step in STEPS]
    write(made.timings_file, speeds)
    (made.path / "best.json").write_text('{"step": 10, "wer": 0.5}')
    return made


def write(file: Path, lines: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_speed_memory_rate_and_gradients_stand_beside_the_loss(run: Run) -> None:
    text = "".join(training_section(run))
    for name in ("training loss", "validation wer", "audio seconds a second", "memory, MiB", "learning rate", "gradient norm"):
        assert f"<figcaption>{name}" in text
    assert "planned 500" in text  # what was loaded, and the larger of step and evaluation
    assert text.count("<svg") == 6


def test_without_a_plan_there_is_no_line(run: Run) -> None:
    run.update(memory={"micro_batch": 8, "peak_bytes": None})
    assert "planned" not in "".join(training_section(run))


def test_the_same_samples_are_shown_over_time(run: Run) -> None:
    (run.samples / "0.png").write_bytes(b"\x89PNG")
    (run.samples / "step-00000090_a.wav").write_bytes(b"RIFF")
    lines = [
        {
            "step": step,
            "samples": [
                {
                    "prompt": "two <cats>",
                    "reference": "there are two",
                    "prediction": "there are two" if step > 50 else f"try {step}",
                },
                {"image": "0.png", "reference": "a cat", "prediction": "a dog"},
                {"prompt": "said", "audio": f"step-{step:08}_a.wav"},
            ],
        }
        for step in range(0, 100, 10)
    ]
    write(run.samples_file, lines)
    text = "".join(training_section(run))
    assert "samples over time (10 validations)" in text
    assert "two &lt;cats&gt;" in text
    assert "right: there are two" in text
    assert "try 0" in text
    assert "try 10" not in text  # six of ten are shown, the first and the last among them
    assert text.count('class="right">there are two') == 2
    assert text.count("data:image/png") == 1
    assert text.count("data:audio/wav") == 1
    assert "step-00000000_a.wav" in text  # its file is gone


def test_a_run_that_only_holds_others_shows_theirs(run: Run, tmp_path: Path) -> None:
    pipeline = Run(tmp_path / "pipeline" / "a")
    pipeline.path.mkdir(parents=True)
    record = {"stage": "pipeline", "status": "running", "parents": {"asr": f"asr/{run.path.name}", "vision": "vision/gone"}}
    (pipeline.path / "run.json").write_text(json.dumps(record))
    assert f"asr · {run.path.name} · running" in "".join(training_sections(pipeline))
    assert training_sections(run) == training_section(run)


def test_a_training_in_figures(run: Run) -> None:
    assert figures_of_training(run) == {
        "validation wer": 0.5,
        "best step": 10,
        "trained steps": 10,
        "training loss": 0.1,
        "seconds a step": 0.5,
        "audio seconds per second": 40.0,
        "memory MiB": 450.0,
    }
    run.metrics_file.unlink()
    run.timings_file.unlink()
    assert figures_of_training(run) == {}


def test_charts_have_a_colour_and_a_legend_for_each_line() -> None:
    lines = {"a": [Point(0, 1.0), Point(10, 0.5)], "empty": [], "b": [Point(0, 2.0), Point(20, 0.25)]}
    drawn = chart("loss", lines)
    assert 'class="curve curve-0"' in drawn
    assert 'class="curve curve-2"' in drawn  # the colour stays the run's own
    assert "empty" not in drawn
    assert drawn.count("━") == 2
    assert chart("loss", {"a": [], "b": []}) == ""


def test_a_limit_lies_within_the_picture() -> None:
    drawn = curve("memory", [Point(1, 100.0), Point(2, 110.0)], limits=[Limit("planned", 500.0)])
    assert 'class="limit"' in drawn
    assert "planned 500" in drawn


def test_what_rises_from_near_nothing_has_a_plain_axis_and_what_falls_to_it_a_logarithmic_one() -> None:
    rising = [Point(0, 0.01), Point(10, 0.99)]
    assert "logarithmic" not in curve("top1", rising)
    assert "logarithmic" in curve("wer", [Point(0, 0.99), Point(10, 0.01)])


def test_large_numbers_are_written_out() -> None:
    drawn = curve("tokens a second", [Point(0, 10_000.0), Point(20_000, 40_000.0)])
    assert ">20,000<" in drawn
    assert "e+0" not in drawn
