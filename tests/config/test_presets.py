import pytest

from omnictl.config import Config, choose_preset
from omnictl.errors import ConfigError


class Size(Config):
    width: int = 1


PRESETS = {"debug": Size(), "tiny": Size(width=2), "small": Size(width=3)}


def test_a_preset_is_chosen_by_name() -> None:
    assert choose_preset(PRESETS, "small") is PRESETS["small"]


@pytest.mark.parametrize(("name", "fix"), [("tyny", "did you mean --preset tiny?"), ("huge", "choose one of them")])
def test_an_unknown_preset_lists_the_presets(name: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_preset(PRESETS, name)
    assert caught.value.message == f"found the preset '{name}', expected one of debug, tiny, small"
    assert caught.value.fix == fix
    assert caught.value.where == "--preset"
