"""The parts of a voice, opened from the copies in a Talker's model folder."""

import shutil
from pathlib import Path

import pytest
import torch
from stage_factory import make_stage, untrained

from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import CheckpointError
from omnictl.generate.griffin_lim import GriffinLim
from omnictl.stages.talker import TalkerStage, open_voice
from omnictl.stages.voice import VoiceParts, folders_in, open_thinker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Talker's model folder far from the runs that its parts come from."""
    return shutil.copytree(untrained("talker", cache_dir()), tmp_path_factory.mktemp("elsewhere") / "talker")


def test_a_voice_needs_no_more_than_the_talkers_folder(folder: Path) -> None:
    stage: TalkerStage = make_stage("talker")
    voice = open_voice(folder, device=torch.device("cpu"), cache=cache_dir())
    assert isinstance(voice.vocoder, GriffinLim)
    assert voice.conditioner is None
    for opened, own in ((voice.codec, stage.codec), (voice.talker, stage.model)):
        assert not opened.training
        for name, tensor in own.state_dict().items():
            assert torch.equal(opened.state_dict()[name], tensor), name
    assert not any(parameter.requires_grad for parameter in voice.codec.parameters())


def test_copies_are_those_of_the_parts(folder: Path, tmp_path: Path) -> None:
    folders = folders_in(folder)
    assert set(folders) == {"codec", "aligner"}
    VoiceParts(folders, "griffin-lim", cache=cache_dir()).copy_into(tmp_path)
    assert folders_in(tmp_path) == {name: tmp_path / name for name in folders}


def test_a_thinker_is_opened_from_a_folder_of_stage_a_alone(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="expected format 1 of stage `pretrain`"):
        open_thinker(folder)
