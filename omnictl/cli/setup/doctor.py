"""`omnictl doctor`: is this machine fit for training, and if not, what to do; briefly also in front of a first training."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from omnictl.cli.console import Output, error_fields, show_error
from omnictl.cli.options import DeviceOption, JsonOption, RunsOption
from omnictl.errors import MachineFault
from omnictl.runs.root import run_root

if TYPE_CHECKING:
    import torch

    from omnictl.measure.doctor.finding import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}

SUBJECT_WIDTH = 13


def doctor(runs: RunsOption = None, device: DeviceOption = "auto", as_json: JsonOption = False) -> int:
    """Look this machine over: software, GPU, CPU, memory, disks, voices, file formats.

    Each line is ok, warn (training works, but slower or not with everything) or
    fail (it does not), with the fix. Exit code 8 if anything fails.
    """
    from omnictl.measure.doctor.software import examine_software

    output = Output(as_json=as_json)
    findings: list[Finding] = []
    for finding in examine_software():
        _show(finding, output)
        findings.append(finding)
    if not any(finding.level == "fail" and finding.subject == "wheels" for finding in findings):  # else torch may not start
        from omnictl.data.manifest.cache import cache_dir
        from omnictl.measure.doctor.machine import examine_machine
        from omnictl.trainer.hardware.device import choose_device

        for finding in examine_machine(run_root(runs), cache_dir(), choose_device(device)):
            _show(finding, output)
            findings.append(finding)
    return _conclude(findings, output)


def is_first_training(root: Path) -> bool:
    """Whether there is no run yet."""
    return not any(root.glob("*/*/run.json"))


def examine_machine(root: Path, device: "torch.device", output: Output) -> None:
    """Say what is wrong with this machine, before a first training; it takes a moment, and stops nothing."""
    from omnictl.data.manifest.cache import cache_dir
    from omnictl.measure.doctor.machine import examine_briefly

    if output.silent:
        return
    for finding in examine_briefly(root, cache_dir(), device):
        _show(finding, output)


def _show(finding: "Finding", output: Output) -> None:
    colour = COLOURS[finding.level]
    output.say(f"[{colour}]{finding.level:<4}[/{colour}] {finding.subject:<{SUBJECT_WIDTH}} {escape(finding.message)}")
    if finding.fix is not None:
        output.say(f"     {'':<{SUBJECT_WIDTH}} [bold]fix[/bold]: {escape(finding.fix)}")


def _conclude(findings: "list[Finding]", output: Output) -> int:
    counts = {level: sum(finding.level == level for finding in findings) for level in COLOURS}
    failed = [finding for finding in findings if finding.level == "fail"]
    error = None
    if failed:
        message = f"this machine is not fit for training: {'; '.join(finding.message for finding in failed)}"
        error = MachineFault(message, where=failed[0].subject, fix=failed[0].fix or "")
    ending = {} if error is None else {"error": error_fields(error)}
    text = ", ".join(f"{count} {level}" for level, count in counts.items())
    output.result({"findings": [finding._asdict() for finding in findings], **counts, **ending}, text)
    if error is None:
        return 0
    show_error(error, Output(as_json=False))
    return error.exit_code
