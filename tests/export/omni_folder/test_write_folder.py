"""An omni model in the format of `transformers`, with its own modelling code."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stage_factory import finished_run
from torch import nn

from omnictl.data.images.file_corpus import load_image
from omnictl.errors import ExportError
from omnictl.export import agreement
from omnictl.export.omni import OmniParts, open_parts
from omnictl.export.omni_folder import write_folder
from omnictl.export.omni_folder.write_folder import write_omni_folder

USE = """
import sys
import numpy as np
from PIL import Image
from transformers import AutoModel, AutoProcessor

processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
turns = [{"role": "user", "content": [{"type": "image"}, {"type": "audio"}]}]
inputs = processor(turns, images=[Image.new("RGB", (60, 40))], audio=[np.random.randn(9000)])
print(processor.decode(model.generate(**inputs, max_new_tokens=4)[0]))
for images in ([], [Image.new("RGB", (60, 40))] * 2):
    try:
        processor(turns, images=images, audio=[np.random.randn(9000)])
    except ValueError as error:
        assert str(error) == f"the turns have places for 1 of kind image, and {len(images)} are given", error
    else:
        raise AssertionError("as many images as the turns have places for are required")
try:
    model.embed(inputs["input_ids"], images=[*inputs["images"], *inputs["images"]], audio=inputs["audio"])
except ValueError as error:
    assert "image features for" in str(error), error
else:
    raise AssertionError("surplus features are refused")
assert not any(name.startswith("omnictl.") for name in sys.modules)
"""


@pytest.fixture
def parts(tmp_path: Path, randomise: Callable[[nn.Module], None]) -> OmniParts:
    opened = open_parts(finished_run(tmp_path / "runs", "sft").model, tmp_path / "cache", with_voice=False)
    for module in (opened.omni, opened.ear, opened.eye):
        assert module is not None
        randomise(module)
    return opened


@pytest.mark.slow
def test_it_is_loaded_by_others_and_agrees(parts: OmniParts, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    found = {one.what for one in write_omni_folder(parts, tmp_path / "out")}
    assert {"its embeddings", "its scores", "greedy text in transformers", "positions of a question with media"} <= found
    settings = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path / "out")], capture_output=True, text=True, check=False, env=settings, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_model_without_a_vision_encoder(parts: OmniParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "NUM_PROMPTS", 2)
    del parts.omni.projectors["image"]
    write_omni_folder(parts._replace(eye=None), tmp_path)
    processor = write_folder._load(tmp_path).OmnictlProcessor.from_pretrained(tmp_path)
    turns = [{"role": "user", "content": [{"type": "image"}]}]
    with pytest.raises(ValueError, match="this model has no vision encoder: it reads nothing of kind image"):
        processor(turns, images=[Image.new("RGB", (60, 40))])


@pytest.mark.slow
def test_a_difference_is_an_error(parts: OmniParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = write_folder._tensors

    def changed(some: OmniParts) -> dict[str, torch.Tensor]:
        tensors = really(some)
        return {**tensors, "encoders.audio.mean": tensors["encoders.audio.mean"] + 3}

    monkeypatch.setattr(write_folder, "_tensors", changed)
    with pytest.raises(ExportError, match="its embeddings: the export differs from the run by up to"):
        write_omni_folder(parts, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), [("a.jpg", "RGB"), ("a.png", "RGBA"), ("a.png", "LA"), ("a.png", "RGB")])
def test_images_are_seen_as_the_run_sees_them(tmp_path: Path, name: str, mode: str) -> None:
    """Turned as their EXIF says, on white where they are transparent."""
    pytest.importorskip("transformers")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, len(mode)), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = {"transparency": tuple(pixels[7, 12].tolist())} if (name, mode) == ("a.png", "RGB") else {}
    Image.fromarray(pixels).save(tmp_path / name, exif=exif, **clear)
    code = write_folder._load(Path(write_folder.__file__).parent)
    with Image.open(tmp_path / name) as image:
        seen = code.OmnictlProcessor(None, {"vision": {"image_size": 16}}).read_image(image)
    assert np.array_equal(seen, load_image(tmp_path / name, 16))
