import pytest

from omnictl.config import parse_override
from omnictl.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("null", None),
        ("[1,2]", [1, 2]),
        ("1e-3", 0.001),
        ("1e4", 10000),
        ('"x"', "x"),
        ('"5"', "5"),
        ("x", "x"),
        ("", ""),
        ("a=b", "a=b"),
        (" x y ", "x y"),
        ("tinyworld:7", "tinyworld:7"),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("[1,", "[1,"),
        ("NaN", "NaN"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_a_value_is_json_or_else_text(text: str, value: object) -> None:
    override = parse_override(f"train.x={text}")
    assert override.key == ("train", "x")
    assert override.value == value
    assert type(override.value) is type(value)


def test_an_override_nests_and_remembers_its_text() -> None:
    override = parse_override("a.b . c=1")
    assert override.as_mapping() == {"a": {"b": {"c": 1}}}
    assert override.where == "--set a.b . c=1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.lr", "found no '=', expected key=value"),
        ("=1", "found the key '', expected names joined by dots, as train.lr"),
        ("a..b=1", "found the key 'a..b', expected names joined by dots, as train.lr"),
        (".a=1", "found the key '.a', expected names joined by dots, as train.lr"),
    ],
)
def test_a_malformed_override_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_override(text)
    assert caught.value.message == message
    assert caught.value.where == f"--set {text}"
    assert "--set train.lr=1e-3" in caught.value.fix
