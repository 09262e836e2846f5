import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from omnictl.config import Config, diff, flatten, schema, to_dict, to_json


class Wave(Config):
    kind: Literal["wave"] = "wave"
    rate_hz: int = 16_000


class Mel(Config):
    kind: Literal["mel"] = "mel"
    num_mels: int = 80


class Example(Config):
    path: Path = Path("a")
    pair: tuple[int, int] = (1, 2)
    source: Wave | Mel = Wave()
    named: dict[str, int] = Field(default_factory=dict)
    rate: float = 1
    other: Wave | None = None


def test_a_config_is_plain_data_in_field_order() -> None:
    assert list(to_dict(Example())) == ["path", "pair", "source", "named", "rate", "other"]
    assert to_dict(Example())["pair"] == [1, 2]
    assert to_dict(Example())["path"] == "a"


def test_json_is_indented_and_ends_its_line() -> None:
    text = to_json(Example(path=Path("ü")))
    assert text.startswith('{\n  "path": "ü",\n')
    assert text.endswith("}\n")
    assert '"rate": 1.0' in text
    assert json.loads(text) == to_dict(Example(path=Path("ü")))


def test_flatten_names_every_value_as_set_does() -> None:
    assert flatten(Example(named={"a": 1})) == {
        "path": "a",
        "pair": [1, 2],
        "source.kind": "wave",
        "source.rate_hz": 16_000,
        "named.a": 1,
        "rate": 1.0,
        "other": None,
    }
    assert flatten(Example())["named"] == {}


def test_diff_lists_only_what_differs_in_field_order() -> None:
    assert diff(Example(), Example()) == []
    assert diff(Example(), Example(rate=2, pair=(1, 3))) == [("pair", [1, 2], [1, 3]), ("rate", 1.0, 2.0)]
    assert diff(Example(), Example(source=Mel(), named={"a": 1}, other=Wave())) == [
        ("source.kind", "wave", "mel"),
        ("source.rate_hz", 16_000, None),
        ("source.num_mels", None, 80),
        ("named.a", None, 1),
        ("other", None, {"kind": "wave", "rate_hz": 16_000}),
    ]


def test_schema_describes_the_fields() -> None:
    described = schema(Example)
    assert described["additionalProperties"] is False
    assert described["properties"]["rate"] == {"default": 1, "title": "Rate", "type": "number"}
    json.dumps(described)
