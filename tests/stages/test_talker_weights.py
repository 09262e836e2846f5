"""The weights of another Talker, beside which a Thinker read along or none."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from stage_factory import untrained
from torch import Tensor, nn

from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import CheckpointError
from omnictl.runs.run import Run, create_run
from omnictl.stages.protocol import StageContext
from omnictl.stages.talker import PRESETS, THINKER_WEIGHTS, TalkerStage
from omnictl.trainer.checkpoint import plain_state_dict, save_tensors


def stage_with(thinker: Path | None) -> TalkerStage:
    parts = {name: untrained(name, cache_dir()) for name in TalkerStage.needs}
    upstream = parts if thinker is None else {**parts, "thinker": thinker}
    return TalkerStage.create(PRESETS["debug"], context=StageContext(cache_dir(), upstream=upstream))


@pytest.fixture(scope="module")
def alone() -> TalkerStage:
    return stage_with(None)


@pytest.fixture(scope="module")
def conditioned() -> TalkerStage:
    return stage_with(untrained("pretrain", cache_dir()))


def run_of(weights: dict[str, Tensor], folder: Path) -> Run:
    """A run that these weights are the best of."""
    run = create_run(folder, "talker", "giver", {})
    run.model.mkdir(exist_ok=True)
    save_tensors(weights, run.model / "model.safetensors")
    return run


def beside(weights: dict[str, Tensor], thinker_width: int | None) -> dict[str, Tensor]:
    """The weights as those of a Talker beside a Thinker of this width, or alone."""
    rest = {name: tensor for name, tensor in weights.items() if name != THINKER_WEIGHTS}
    of_thinker = {} if thinker_width is None else {THINKER_WEIGHTS: torch.full((PRESETS["debug"].model.width, thinker_width), 3.0)}
    return rest | of_thinker


@pytest.mark.parametrize("reads_along", [False, True])
@pytest.mark.parametrize("width", [None, "the same", "another"])
def test_weights_are_taken_over_whichever_thinker_read_along(
    width: str | None,
    reads_along: bool,
    alone: TalkerStage,
    conditioned: TalkerStage,
    tmp_path: Path,
    randomise: Callable[[nn.Module], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert conditioned.thinker is not None
    own_width = conditioned.thinker.model.config.width
    widths = {None: None, "the same": own_width, "another": own_width + 8}
    taker = conditioned if reads_along else alone
    randomise(taker.model)
    own = {name: tensor.clone() for name, tensor in plain_state_dict(taker.model).items()}
    run = run_of(beside(own, widths[width]), tmp_path)
    for parameter in taker.model.parameters():
        nn.init.zeros_(parameter)
    with caplog.at_level("INFO", "omnictl"):
        taker.take_weights(run)
    found = plain_state_dict(taker.model)
    begins_anew = found.pop(THINKER_WEIGHTS, None)
    assert all(torch.equal(tensor, own[name]) for name, tensor in found.items())
    assert (begins_anew is not None) == reads_along
    if begins_anew is not None:
        assert (begins_anew == (3.0 if width == "the same" else 0.0)).all()
    left_out = width is not None and not (reads_along and width == "the same")
    line = f"left out what {run.path} learned of a Thinker's states: none of that width reads along here"
    told = [record.getMessage() for record in caplog.records if record.name == "omnictl.stages.talker"]
    assert told == ([line] if left_out else [])


def test_a_talker_of_another_shape_is_refused(alone: TalkerStage, tmp_path: Path) -> None:
    weights = plain_state_dict(alone.model) | {"norm.weight": torch.ones(7)}
    run = run_of(weights, tmp_path)
    with pytest.raises(CheckpointError, match=r"norm\.weight: found 7, expected 32"):
        alone.take_weights(run)
