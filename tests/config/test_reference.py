"""The list of settings, against hand-made configs and against what every stage accepts."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from omnictl.config import Config, flatten
from omnictl.config.reference import REQUIRED, Setting, setting_groups
from omnictl.stages import command_recipe, command_stages


class Inner(Config):
    """What lies inside.

    More of it.
    """

    rate: float = Field(0.5, gt=0, lt=1, description="a share")


class Phase(Config):
    """One of several."""

    steps: int = Field(ge=1, description="how long")
    kind: Literal["a", "b"] = "a"


class Outer(Config):
    """All of it."""

    size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field("auto", description="how much")
    pair: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (0.0, 1.5)
    names: tuple[str, ...] = Field((), max_length=1_000)
    counts: dict[str, int] = Field({"x": 2})
    limit: float | None = None
    inner: Inner = Inner(rate=0.25)
    phases: tuple[Phase, ...] = ()


def test_settings_are_grouped_as_they_are_declared() -> None:
    groups = setting_groups(Outer)
    assert [(group.key, group.summary) for group in groups] == [
        ("", "All of it."),
        ("inner", "What lies inside."),
        ("phases[]", "One of several."),
    ]
    assert groups[0].settings == [
        Setting("size", "integer ≥ 1 or `auto`", "", '"auto"', "how much"),
        Setting("pair", "list of 2: number ≥ 0 each", "", "[0.0, 1.5]", ""),
        Setting("names", "list of text", "at most 1,000 long", "[]", ""),
        Setting("counts", "object of integer by text", "", '{"x": 2}', ""),
        Setting("limit", "number or null", "", "null", ""),
        Setting("phases", "list of object", "", "[]", ""),
    ]


def test_defaults_are_those_of_the_place_where_a_config_stands() -> None:
    inner = setting_groups(Outer)[1].settings
    assert inner == [Setting("inner.rate", "number", "> 0, < 1", "0.25", "a share")]


def test_a_setting_without_a_default_is_required() -> None:
    assert [one.default for one in setting_groups(Outer)[2].settings] == [REQUIRED, '"a"']


@pytest.mark.parametrize("stage", command_stages())
def test_every_setting_of_a_stage_is_listed_once_and_says_what_it_means(stage: str) -> None:
    kind = command_recipe(stage).config_type
    listed = [one for group in setting_groups(kind) for one in group.settings]
    keys = [one.key for one in listed]
    assert len(set(keys)) == len(keys)
    holders = {key for key, value in flatten(kind()).items() if isinstance(value, dict)}  # of which `flatten` names the values
    assert {key for key in flatten(kind()) if not any(key.startswith(f"{one}.") for one in keys)} - holders <= set(keys)
    assert [one.key for one in listed if not one.description] == []
    assert [group.key for group in setting_groups(kind) if not group.summary] == []
