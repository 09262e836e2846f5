"""Which runs dialogues of one's own are joined from."""

import json
from pathlib import Path

import pytest
from stage_factory import finished_run

from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import RunError
from omnictl.pipeline.upstream_runs import choose_upstream
from omnictl.runs.run import Run
from omnictl.stages.sft import Sft, SftConfig


@pytest.fixture
def config(tmp_path: Path) -> SftConfig:
    """Of dialogues without images and recordings."""
    file = tmp_path / "talks.jsonl"
    messages = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}]
    file.write_text("".join(json.dumps({"messages": messages, "id": str(number)}) + "\n" for number in range(3)))
    return SftConfig(data=DialogueDataConfig(source=str(file)))


def choose(root: Path, config: SftConfig, init: Run | None = None, **given: str) -> tuple[dict[str, Run], list[str]]:
    told: list[str] = []
    chosen = choose_upstream(root, config, {s: given.get(s) for s in Sft.needs}, init, cache=cache_dir(), tell=told.append)
    return chosen, told


def test_only_what_the_dialogues_need_is_taken_even_if_more_is_named(tmp_path: Path, config: SftConfig) -> None:
    thinker, asr = finished_run(tmp_path, "pretrain"), finished_run(tmp_path, "asr")
    chosen, told = choose(tmp_path, config, asr=asr.path.name)
    assert chosen == {"pretrain": thinker}
    assert "no run of `asr` is taken: the dialogues do not need it" in told
    assert "no run of `vision` is taken: the dialogues do not need it" in told
    assert any(line.startswith("no Talker, so answers will be written, not said") for line in told)
    assert f"pretrain: {thinker.path}" in told


def test_what_they_need_must_be_there(tmp_path: Path, config: SftConfig) -> None:
    with pytest.raises(RunError, match="no finished run of stage `pretrain`"):
        choose(tmp_path, config)


def test_what_a_model_begins_as_has_its_own_parts(tmp_path: Path, config: SftConfig) -> None:
    init = finished_run(tmp_path, "sft")
    newer = {stage: finished_run(tmp_path, stage) for stage in Sft.needs}
    chosen, told = choose(tmp_path, config, init)
    assert chosen == {}
    assert told == [f"{stage}: that of {init.path}" for stage in Sft.needs]
    chosen, _ = choose(tmp_path, config, init, asr=newer["asr"].path.name)
    assert chosen == {"asr": newer["asr"]}
