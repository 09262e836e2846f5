"""What the codec is trained on is coded without a rest."""

import pytest
from pydantic import ValidationError

from omnictl.models.codec import CodecConfig
from omnictl.stages.codec import CodecRecipe


@pytest.mark.parametrize(("frames", "stride", "nearest"), [(130, 4, 128), (131, 4, 132), (3, 8, 8)])
def test_a_crop_is_a_multiple_of_the_stride(frames: int, stride: int, nearest: int) -> None:
    message = f"crop_frames {frames} must be a multiple of model.stride {stride}, such as {nearest}"
    with pytest.raises(ValidationError, match=message):
        CodecRecipe(crop_frames=frames, model=CodecConfig(stride=stride))
    assert CodecRecipe(crop_frames=nearest, model=CodecConfig(stride=stride)).crop_frames == nearest
