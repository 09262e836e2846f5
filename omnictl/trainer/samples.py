"""The same few examples at each validation, kept in a run so that one can see it learn."""

from collections.abc import Mapping

from omnictl.runs.files import write_bytes, writing
from omnictl.runs.run import Run
from omnictl.trainer.log import json_line
from omnictl.trainer.stage import Report

MOST_SAMPLES = 6
"""Of each validation."""


def keep_samples(run: Run, step: int, report: Report) -> None:
    """Append a validation's samples to `samples.jsonl`, and write the images and the audio that they name.

    An image is the same at every validation; audio, which is a prediction, has its step in its name.

    Args:
        run: where to.
        step: of the validation.
        report: of the validation; nothing is written if it has no predictions.

    Raises:
        DiskFull, RunError: it cannot be written.
    """
    if not report.predictions:
        return
    rows = [_named(row, step) for row in report.predictions[:MOST_SAMPLES]]
    if report.images or report.audio:
        with writing(run.samples):
            run.samples.mkdir(exist_ok=True)
    for name, image in report.images.items():
        if not (run.samples / name).is_file():
            write_bytes(run.samples / name, image)
    for name, audio in report.audio.items():
        write_bytes(run.samples / _with_step(name, step), audio)
    with writing(run.path), run.samples_file.open("ab", buffering=0) as file:
        file.write(json_line({"step": step, "samples": rows}))


def _named(row: Mapping[str, object], step: int) -> dict[str, object]:
    """A sample as it is kept."""
    return {**row, "audio": _with_step(str(row["audio"]), step)} if "audio" in row else dict(row)


def _with_step(name: str, step: int) -> str:
    return f"step-{step:08d}_{name}"
