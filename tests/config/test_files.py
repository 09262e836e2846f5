import json
from pathlib import Path

import pytest

from omnictl.config import ConfigFile, read_config
from omnictl.errors import ConfigError

# One content in three formats. The keys of the second half catch scanners that look inside strings.
JSON = r"""{
	"train": {"lr": 1e-3,
		"betas": [0.9,
			0.95],
		"optimizer": {
			"kind": "muon"}},

	"data": {
		"source": "a \" {b}: [\n] #",
		"na.me":null, "parts": [
			{"path": "x"},
			{"path":"y"}
		]
	}
}
"""
TOML = r'''# a comment, not = a key
train.lr = 1e-3
train.betas = [0.9,  # ] not the end
  0.95]

[train.optimizer]
kind = "muon"

[data]
source = "a \" {b}: [\n] #"
text = """
x = 1
[table] \"""
"""
'raw.key' = ''
x."quoted # \u0061" = 1979-05-27

[[data.parts]]
path = "x"
[[data.parts]]
path = 'y'
'''
YAML = """\
# a comment
train:
  lr: 1e-3
  betas: [0.9,
    0.95]
  optimizer: {kind: muon}
data:
  source: |
    lr: 3
    [
  "na.me":
  parts:
  - path: x
  - path: y
"""


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, name: str, text: str | bytes) -> ConfigFile:
    return read_config(write(folder, name, text))


def error_of(folder: Path, name: str, text: str | bytes) -> tuple[str, str | None]:
    path = write(folder, name, text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert caught.value.fix
    assert caught.value.where is not None
    return caught.value.message, caught.value.where.replace(str(path), name)


def test_json_gives_values_and_the_line_of_every_key(tmp_path: Path) -> None:
    file = read(tmp_path, "a.json", JSON)
    assert file.values == json.loads(JSON)
    assert file.lines == {
        ("train",): 2,
        ("train", "lr"): 2,
        ("train", "betas"): 3,
        ("train", "optimizer"): 5,
        ("train", "optimizer", "kind"): 6,
        ("data",): 8,
        ("data", "source"): 9,
        ("data", "na.me"): 10,
        ("data", "parts"): 10,
        ("data", "parts", "0", "path"): 11,
        ("data", "parts", "1", "path"): 12,
    }


def test_toml_gives_values_and_the_line_of_every_key(tmp_path: Path) -> None:
    file = read(tmp_path, "a.toml", TOML)
    assert file.values["train"] == {"lr": 0.001, "betas": [0.9, 0.95], "optimizer": {"kind": "muon"}}
    assert file.lines == {
        ("train",): 2,
        ("train", "lr"): 2,
        ("train", "betas"): 3,
        ("train", "optimizer"): 6,
        ("train", "optimizer", "kind"): 7,
        ("data",): 9,
        ("data", "source"): 10,
        ("data", "text"): 11,
        ("data", "raw.key"): 15,
        ("data", "x"): 16,
        ("data", "x", "quoted # a"): 16,
        ("data", "parts"): 18,
        ("data", "parts", "0"): 18,
        ("data", "parts", "0", "path"): 19,
        ("data", "parts", "1"): 20,
        ("data", "parts", "1", "path"): 21,
    }


def test_yaml_gives_values_and_the_line_of_every_key(tmp_path: Path) -> None:
    file = read(tmp_path, "a.yaml", YAML)
    assert file.values == {
        "train": {"lr": 0.001, "betas": [0.9, 0.95], "optimizer": {"kind": "muon"}},
        "data": {"source": "lr: 3\n[\n", "na.me": None, "parts": [{"path": "x"}, {"path": "y"}]},
    }
    assert file.lines == {
        ("train",): 2,
        ("train", "lr"): 3,
        ("train", "betas"): 4,
        ("train", "optimizer"): 6,
        ("train", "optimizer", "kind"): 6,
        ("data",): 7,
        ("data", "source"): 8,
        ("data", "na.me"): 11,
        ("data", "parts"): 12,
        ("data", "parts", "0", "path"): 13,
        ("data", "parts", "1", "path"): 14,
    }


@pytest.mark.parametrize("name", ["a.json", "a.toml", "a.YML"])
def test_windows_line_ends_and_byte_order_marks_are_read(tmp_path: Path, name: str) -> None:
    text = {"a.json": '{\n"a": 1,\n"b": 2}', "a.toml": "\na = 1\nb = 2", "a.YML": "# c\na: 1\nb: 2"}[name]
    file = read(tmp_path, name, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert file.values == {"a": 1, "b": 2}
    assert file.lines == {("a",): 2, ("b",): 3}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E+2", 100),
        (".5", 0.5),
        ("-1.5e3", -1500.0),
        ("1_000", 1000),
        ("010", 10),
        ("off", "off"),
        ("True", True),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("'1e-3'", "1e-3"),
        ("!!str 5", "5"),
    ],
)
def test_yaml_scalars_mean_what_they_mean_in_json(tmp_path: Path, text: str, value: object) -> None:
    read_value = read(tmp_path, "a.yaml", f"key: {text}").values["key"]
    assert read_value == value
    assert type(read_value) is type(value)


@pytest.mark.parametrize("text", ['{"a": 1e4, "b": 1.0, "c": 1e300}', "a: 1e4\nb: 1.0\nc: 1e300", "a=1e4\nb=1.0\nc=1e300"])
def test_an_exponent_writes_a_whole_number_in_every_format(tmp_path: Path, text: str) -> None:
    name = "a.json" if text[0] == "{" else "a.yaml" if ":" in text else "a.toml"
    values = read(tmp_path, name, text).values
    assert values == {"a": 10000, "b": 1.0, "c": 1e300}
    assert [type(value) for value in values.values()] == [int, float, float]


def test_a_file_of_comments_sets_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "a.yaml", "# nothing\n").values == {}
    assert read(tmp_path, "a.toml", "# nothing\n").values == {}


@pytest.mark.parametrize(
    ("name", "text", "message", "where"),
    [
        ("a.json", '{"a": 1,\n "b" 2}', "not valid JSON: Expecting ':' delimiter", "a.json:2"),
        ("a.toml", "a = 1\n\nb 2\n", "not valid TOML: Expected '=' after a key in a key/value pair", "a.toml:3"),
        ("a.toml", "a = 1\nb = [1,\n\n", "not valid TOML: Invalid value", "a.toml:2"),
        (
            "a.yaml",
            "a: 1\nb: [1\nc: 2\n",
            "not valid YAML: while parsing a flow sequence, expected ',' or ']', but got ':'",
            "a.yaml:3",
        ),
        ("a.yaml", "a: 1\nb: \x07\n", "not valid YAML: special characters are not allowed", "a.yaml:2"),
        (
            "a.yaml",
            "a: 1\n---\nb: 1\n",
            "not valid YAML: expected a single document in the stream, but found another document",
            "a.yaml:2",
        ),
        ("a.yaml", "a: 1\nb: !!python/name:os.system\n", "could not determine a constructor for the tag", "a.yaml:2"),
        ("a.yaml", "a: 1\nb: !thing {c: 1}\n", "found the tag !thing, expected a plain value", "a.yaml:2"),
        ("a.yaml", "a: &x 1\nb: *x\n", "found an alias (*), expected the value itself", "a.yaml:2"),
        ("a.yaml", "a: 1\n[b]: 1\n", "found a list or mapping as a key, expected a word", "a.yaml:2"),
        (
            "a.json",
            '{"a": {"b": 1,\n"b": 2}}',
            "not valid JSON: the key 'a.b' is given twice, first on line 1",
            "a.json:2",
        ),
        ("a.yaml", "a:\n  b: 1\n  b: 2\n", "not valid YAML: the key 'a.b' is given twice, first on line 2", "a.yaml:3"),
        ("a.toml", "a = 1\na = 2\n", "not valid TOML: Cannot overwrite a value", "a.toml:2"),
        ("a.json", "[" * 100_000, "not valid JSON: nested too deeply", "a.json"),
        ("a.json", f'{{"a": {"9" * 5000}}}', "not valid JSON: Exceeds the limit", "a.json"),
        ("a.yaml", f"a: {'9' * 5000}", "not valid YAML: Exceeds the limit", "a.yaml"),
        ("a.toml", f"a = {'9' * 5000}", "not valid TOML: Exceeds the limit", "a.toml"),
        ("a.json", "[1]", "found a list at the top of the file, expected a mapping of keys to values", "a.json"),
        ("a.yaml", "just words", "found the single value 'just words' at the top of the file", "a.yaml"),
        ("a.json", "null", "found null at the top of the file", "a.json"),
        ("a.json", " \n", "the config file is empty", "a.json"),
        ("a.toml", b"a = '\xff'", "found bytes that are not UTF-8 text (at byte 5), expected a text file", "a.toml"),
        ("a.ini", "a=1", "the config file ends in '.ini', expected one of .json, .toml, .yaml, .yml", "a.ini"),
    ],
)
def test_an_unreadable_file_says_why_and_where(tmp_path: Path, name: str, text: str | bytes, message: str, where: str) -> None:
    found, found_where = error_of(tmp_path, name, text)
    assert message in found
    assert found_where == where


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file") as caught:
        read_config(tmp_path / "missing.json")
    assert caught.value.where == str(tmp_path / "missing.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ConfigError, match="found a directory, expected a config file"):
        read_config(tmp_path / "folder.json")
    (tmp_path / "loop.json").symlink_to("loop.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "loop.json")
