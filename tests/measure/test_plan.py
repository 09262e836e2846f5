from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from stage_factory import make_stage

from omnictl.errors import ConfigError
from omnictl.measure.disk_usage import data_bytes, size_of
from omnictl.measure.plan import ACHIEVED_SHARE, FP32_SHARE, GPU_TFLOPS, PROCESS, StagePlan, TargetGpu, plan_stage
from omnictl.measure.untrained_stages import WHOLE_MODEL, untrained_stage
from omnictl.nn.audio.mel import MelConfig
from omnictl.runs.run import create_run
from omnictl.stages import STAGES, stage_recipe
from omnictl.stages.asr import Asr
from omnictl.stages.pretrain import Pretrain
from omnictl.stages.protocol import StageContext
from omnictl.trainer.checkpoint import checkpoint_folders
from omnictl.trainer.loop import train

CPU = torch.device("cpu")
CARD = TargetGpu(12 * 10**9, 25.0)


def planned(stage: str, elsewhere: TargetGpu | None = CARD, **settings: object) -> StagePlan:
    """The plan of a stage of its preset `debug`, with other settings of its training."""
    preset = stage_recipe(stage).presets["debug"]
    training = preset.train.model_copy(update={"micro_batch": "auto", **settings})
    return plan_stage(make_stage(stage, preset.model_copy(update={"train": training})), preset.data, elsewhere, CPU)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_can_be_planned(stage: str) -> None:
    plan = planned(stage)
    assert (plan.stage, plan.fits, plan.precision, plan.checkpointing) == (stage, True, "bf16", "off")
    assert plan.micro_batch * plan.accumulation == stage_recipe(stage).presets["debug"].train.batch_size
    assert 0.9 * plan.peak_bytes < sum(plan.parts.values()) <= plan.peak_bytes < plan.room_bytes < CARD.memory - PROCESS
    assert plan.parts["parameters"] < plan.evaluation_bytes < plan.largest_bytes + 1 <= plan.room_bytes
    assert plan.parts["parameters"] >= 4 * plan.parameters > 0
    assert plan.hours == pytest.approx(plan.step_seconds * plan.total_steps / 3600)
    assert plan.disk_bytes > 3 * plan.parts["parameters"]


HOURS: Mapping[str, float] = {"pretrain": 12, "asr": 10, "vision": 8, "codec": 5, "aligner": 1, "talker": 9, "sft": 12}
"""That a stage may take of two or three days, on a GPU that one person can buy."""


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the parts of a model that stand on each other."""
    return tmp_path_factory.mktemp("whole_model")


@pytest.mark.slow
@pytest.mark.parametrize("name", HOURS)
def test_a_whole_model_fits_one_gpu_one_disk_and_a_few_days(name: str, whole_model: Path) -> None:
    """If the smallest step fits, one does: which of them is the fastest takes minutes to trace, and is asked of smaller models."""
    preset = stage_recipe(name).presets["small"]
    smallest = preset.train.model_copy(update={"micro_batch": 1, "checkpointing": "full"})
    config = preset.model_copy(update={"train": smallest})
    stage = untrained_stage(name, "small", whole_model / "cache", whole_model, config)
    assert stage.divisible  # into steps of one example
    plan = plan_stage(stage, config.data, CARD._replace(tflops=GPU_TFLOPS), CPU)
    assert plan.stage == name
    assert plan.fits
    assert plan.hours < HOURS[name]
    assert plan.data_bytes < 5e9


def test_the_hours_of_a_whole_model_are_limited() -> None:
    assert tuple(HOURS) == WHOLE_MODEL


@pytest.mark.slow
def test_a_gpu_twice_as_fast_takes_half_the_time() -> None:
    slow, fast = (planned("pretrain", CARD._replace(tflops=rate)) for rate in (10.0, 20.0))
    assert slow.step_seconds == pytest.approx(2 * fast.step_seconds)
    assert 0 < fast.step_seconds * 20e12 * ACHIEVED_SHARE < 1e12


@pytest.mark.slow
def test_fp32_takes_longer_than_16_bits() -> None:
    half, single = (planned("pretrain", precision=precision) for precision in ("bf16", "fp32"))
    assert single.precision == "fp32"
    assert single.step_seconds == pytest.approx(half.step_seconds / FP32_SHARE)


def test_the_rate_of_a_gpu_is_that_of_the_number_format() -> None:
    assert [CARD.rate(precision) for precision in ("bf16", "fp16", "fp32")] == [25e12, 25e12, 12.5e12]


@pytest.mark.slow
def test_less_memory_takes_smaller_parts_of_the_batch_and_then_recomputes() -> None:
    whole = planned("codec")  # whose evaluation is one utterance
    room = whole.peak_bytes
    plans = []
    for share in (1.0, 0.85, 0.6, 0.0):
        memory = int((share * room + 512 * 2**20) / 0.92) + PROCESS + 4096
        plans.append(planned("codec", TargetGpu(memory)))
    assert plans[0].micro_batch == whole.micro_batch
    assert plans[1].micro_batch < whole.micro_batch
    assert [plan.fits for plan in plans] == [True, True, True, False]
    assert all(plan.peak_bytes <= plan.room_bytes for plan in plans if plan.fits)
    assert (plans[-1].micro_batch, plans[-1].checkpointing) == (1, "full")
    assert plans[-1].peak_bytes > plans[-1].room_bytes


@pytest.mark.slow
def test_here_the_time_is_measured() -> None:
    plan = planned("pretrain", None, precision="fp32")
    assert (plan.precision, plan.fits) == ("fp32", True)
    assert 0 < plan.step_seconds < 10


def test_what_cannot_be_traced_says_so() -> None:
    preset = stage_recipe("pretrain").presets["debug"]
    model = preset.model.model_copy(update={"experts": 4})
    stage = make_stage("pretrain", preset.model_copy(update={"model": model}))
    with pytest.raises(ConfigError, match="pretrain cannot be traced") as caught:
        plan_stage(stage, preset.data, CARD, CPU)
    assert "start the training" in caught.value.fix


class Silent:
    """An observer that says nothing."""

    def __getattr__(self, name: str) -> object:
        return lambda *_, **__: None


@pytest.mark.slow
def test_the_disk_is_what_a_run_keeps(tmp_path: Path) -> None:
    stage = make_stage("pretrain")
    run = create_run(tmp_path, "pretrain", "debug", {"parents": {}})
    stage.save_description(run.model)
    train(stage, stage.config.train, run, device=CPU, observer=Silent())  # type: ignore[arg-type]
    kept = size_of(checkpoint_folders(run)) + (run.model / "model.safetensors").stat().st_size
    copies = len(checkpoint_folders(run)) + 1 / 2  # of weights and as much again of moments; the model has no moments
    assert planned("pretrain").disk_bytes == pytest.approx(kept * 3.5 / copies, rel=0.25)


@pytest.mark.slow
def test_the_built_in_voices_take_what_is_said_of_them(tmp_path: Path) -> None:
    config = stage_recipe("asr").presets["tiny"]
    data = config.data.model_copy(update={"num_utterances": 192, "num_eval_utterances": 2, "speeds": (0.9, 1.0)})
    stage = Asr.create(config.model_copy(update={"data": data}), context=StageContext(tmp_path))
    stage.batches()
    assert size_of([tmp_path]) == pytest.approx(data_bytes(data, MelConfig(), {}), rel=0.2)


@pytest.mark.slow
def test_the_built_in_texts_take_what_is_said_of_them(tmp_path: Path) -> None:
    config = stage_recipe("pretrain").presets["tiny"]
    data = config.data.model_copy(update={"num_documents": 1500, "num_eval_documents": 2})
    Pretrain.create(config.model_copy(update={"data": data}), context=StageContext(tmp_path)).batches()
    assert size_of([tmp_path]) == pytest.approx(data_bytes(data, None, {}), rel=0.2)


def test_files_of_ones_own_take_their_size(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 100)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.txt").write_text("x" * 11)
    data = stage_recipe("pretrain").presets["tiny"].data
    for source, size in ((tmp_path, 111), (tmp_path / "a.txt", 100)):
        assert data_bytes(data.model_copy(update={"source": str(source)}), None, {}) == size


@pytest.mark.slow
def test_a_made_up_text_fills_any_vocabulary(tmp_path: Path) -> None:
    stage = untrained_stage("pretrain", "small", tmp_path / "cache", tmp_path)
    assert stage.tokenizer.vocab_size == stage.config.data.vocab_size == 16_384
