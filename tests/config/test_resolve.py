from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator, model_validator

from omnictl.config import Config, flatten, resolve, to_json
from omnictl.errors import ConfigError


class AdamW(Config):
    kind: Literal["adamw"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)


class Muon(Config):
    kind: Literal["muon"] = "muon"
    lr: float = 0.02
    momentum: float = 0.95


class Model(Config):
    num_layers: int = 4
    width: Annotated[int, Field(gt=0, multiple_of=8)] = 64


class Data(Config):
    source: str = "tinyworld"
    folder: Path | None = None
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    speakers: tuple[str, ...] = ()
    weights: dict[str, float] = Field(default_factory=dict)

    @field_validator("source")
    @classmethod
    def _is_known(cls, source: str) -> str:
        if source.startswith("http"):
            raise ValueError("expected a path, not a web address")
        return source


class Train(Config):
    steps: int = 100
    warmup_steps: int = 10
    lr: Annotated[float, Field(gt=0)] = 1e-3
    micro_batch: int | Literal["auto"] = "auto"
    optimizer: Annotated[AdamW | Muon, Field(discriminator="kind")] = AdamW()
    fallback: AdamW | Muon | None = None
    backup: Annotated[AdamW | Muon, Field(discriminator="kind")] | None = None
    compile: bool = False

    @model_validator(mode="after")
    def _warmup_ends(self) -> "Train":
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}, expected at most steps ({self.steps})")
        return self


class Stage(Config):
    model: Model = Model()
    data: Data = Data()
    # Not the defaults of Train itself: a file must be laid over these.
    train: Train = Train(steps=200, compile=True)


class Needy(Config):
    size: int
    train: Train


TINY = Stage(model=Model(num_layers=2), train=Train(optimizer=Muon(momentum=0.8)))


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def problems_of(*overrides: str, file: Path | None = None, preset: Stage | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(Stage, preset=preset, file=file, overrides=overrides)
    return caught.value.message.splitlines()


def problem_of(override: str) -> str:
    """The only line that an override gives, without its place."""
    (line,) = problems_of(override)
    where = f"--set {override}: "
    assert line.startswith(where)
    return line.removeprefix(where)


def test_layers_are_laid_over_key_by_key(tmp_path: Path) -> None:
    file = write(tmp_path, "c.toml", "[train]\nlr = 0.5\nsteps = 30\n[data]\nspeakers = ['a', 'b']\n")
    config = resolve(Stage, preset=TINY, file=file, overrides=["train.lr=0.1", "train.lr=0.2"])
    assert config.train.lr == 0.2
    assert config.train.steps == 30
    assert config.data.speakers == ("a", "b")
    assert config.train.optimizer == Muon(momentum=0.8)
    assert config.model.num_layers == 2


def test_without_layers_the_preset_comes_back() -> None:
    assert resolve(Stage, preset=TINY) == TINY


def test_without_a_preset_the_field_defaults_are_the_lowest_layer() -> None:
    config = resolve(Stage, preset=None, overrides=["train.lr=0.1"])
    assert config == Stage(train=Train(steps=200, compile=True, lr=0.1))


def test_required_fields_may_come_from_layers() -> None:
    config = resolve(Needy, preset=None, overrides=["size=3", "train.steps=50"])
    assert config == Needy(size=3, train=Train(steps=50))


@pytest.mark.parametrize(
    "config",
    [
        Stage(),
        TINY,
        Stage(
            data=Data(source='ü "quoted" 😀', folder=Path("a/b"), speakers=("x",), weights={"text": 1, "b": 1e-30}),
            train=Train(lr=1e-5, micro_batch=8, fallback=Muon(lr=3)),
        ),
    ],
)
def test_a_written_config_resolves_to_itself(tmp_path: Path, config: Stage) -> None:
    file = write(tmp_path, "config.json", to_json(config))
    read = resolve(Stage, preset=None, file=file)
    assert read == config
    assert to_json(read) == to_json(config)


def test_another_variant_of_a_union_starts_from_its_own_defaults() -> None:
    config = resolve(Stage, preset=TINY, overrides=["train.optimizer.kind=adamw"])
    assert config.train.optimizer == AdamW()


def test_the_order_of_kind_and_value_does_not_matter() -> None:
    overrides = ["train.optimizer.lr=0.5", "train.optimizer.kind=adamw"]
    for order in (overrides, overrides[::-1]):
        assert resolve(Stage, preset=TINY, overrides=order).train.optimizer == AdamW(lr=0.5)


@pytest.mark.parametrize("field", ["optimizer", "fallback"])
def test_a_union_is_replaced_key_by_key_within_a_variant(field: str) -> None:
    overrides = [f'train.{field}={{"kind": "muon", "lr": 0.5}}', f"train.{field}.momentum=0.1"]
    train = resolve(Stage, preset=None, overrides=overrides).train
    assert getattr(train, field) == Muon(lr=0.5, momentum=0.1)


def test_a_mapping_can_be_removed_and_a_dict_extended() -> None:
    preset = Stage(data=Data(weights={"a": 1.0}), train=Train(fallback=Muon()))
    config = resolve(Stage, preset=preset, overrides=["train.fallback=null", "data.weights.b=2"])
    assert config.train.fallback is None
    assert config.data.weights == {"a": 1.0, "b": 2.0}


def test_an_exponent_is_a_number_in_yaml_and_may_give_steps(tmp_path: Path) -> None:
    file = write(tmp_path, "c.yaml", "train:\n  lr: 1e-3\n  steps: 1e4\n")
    train = resolve(Stage, preset=None, file=file).train
    assert train.lr == 0.001
    assert train.steps == 10000


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("train.lr=fast", 'train.lr: found "fast", expected a number'),
        ('train.lr="1e-3"', 'train.lr: found "1e-3", expected a number'),
        ("train.lr=true", "train.lr: found true, expected a number"),
        ("train.lr=0", "train.lr: found 0, expected a number above 0"),
        ("train.lr=1e999", "train.lr: found Infinity, expected a finite number"),
        ("train.steps=1.5", "train.steps: found 1.5, expected a whole number"),
        ("train.steps=null", "train.steps: found null, expected a whole number"),
        ("train.compile=yes", 'train.compile: found "yes", expected true or false'),
        ("train.micro_batch=all", 'train.micro_batch: found "all", expected a whole number or "auto"'),
        ("data.val_fraction=1", "data.val_fraction: found 1, expected a number below 1"),
        ("data.val_fraction=-1", "data.val_fraction: found -1, expected at least 0"),
        ("data.source=7", "data.source: found 7, expected text in quotes"),
        ("data.source=http://x", 'data.source: found "http://x", expected a path, not a web address'),
        ('data.speakers=["a", 2]', "data.speakers.1: found 2, expected text"),
        ("data.speakers=theo", 'data.speakers: found "theo", expected a list'),
        ("data.weights.a=x", 'data.weights.a: found "x", expected a number'),
        ("model.width=12", "model.width: found 12, expected a multiple of 8"),
        ("model=[1]", "model: found [1], expected a mapping of keys to values"),
        ("train.optimizer=adamw", 'train.optimizer: found "adamw", expected a mapping of keys to values'),
        ("train.optimizer.kind=sgd", 'train.optimizer.kind: found "sgd", expected one of "adamw", "muon"'),
        ("train.optimizer.lr=x", 'train.optimizer.lr: found "x", expected a number'),
        ("train.optimizer.betas=[1]", "train.optimizer.betas.1: missing, expected a value"),
        ("train.fallback.lr=x", 'train.fallback.lr: found "x", expected a number'),
        ('train.fallback={"kind":"muon","lr":"x"}', 'train.fallback.lr: found "x", expected a number'),
        ("train.fallback=3", "train.fallback: found 3, expected a mapping of keys to values"),
        ("train.warmup_steps=500", "train: warmup_steps is 500, expected at most steps (200)"),
        ('data.source="\\ud800"', "config: found a text with a lone surrogate (a name that is not UTF-8)"),
        ("train.backup.lr=1", "train.backup.kind: missing, expected the kind that is meant"),
        ("train", "found no '=', expected key=value"),
        (f"train.lr={'x' * 99}", f'train.lr: found "{"x" * 58}…, expected a number'),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(override: str, problem: str) -> None:
    assert problem_of(override).startswith(problem)


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("train.lrr=1", "train.lrr: unknown key, did you mean 'train.lr'?"),
        ("train.learning_rate=1", "train.learning_rate: unknown key, did you mean 'train.lr'?"),
        ("trian.lr=1", "trian: unknown key, did you mean 'train'?"),
        ("steps=1", "steps: unknown key, did you mean 'train.steps'?"),
        ("num_layer=1", "num_layer: unknown key, did you mean 'model.num_layers'?"),
        ("lr=1", "lr: unknown key, did you mean 'train.lr' or 'train.optimizer.lr' or 'train.fallback.lr'?"),
        ("train.optimizer.beta=1", "train.optimizer.beta: unknown key, did you mean 'train.optimizer.betas'?"),
        ("train.width=8", "train.width: unknown key, did you mean 'model.width'?"),
        ("model.zzz=1", "model.zzz: unknown key, expected one of num_layers, width"),
        (
            'train.optimizer={"kind":"muon","betas":[0,1]}',
            "train.optimizer.betas: not a key of the kind that is chosen, expected one of kind, lr, momentum",
        ),
        (
            'train.fallback={"kind":"muon","betas":[0,1]}',
            "train.fallback.betas: not a key of the kind that is chosen, expected one of kind, lr, momentum",
        ),
    ],
)
def test_an_unknown_key_suggests_the_nearest(override: str, hint: str) -> None:
    assert problem_of(override) == hint


SCREENS = {
    "c.json": """{
  "model": {"num_layers": 2,
    "widht": 64},
  "train": {
    "lr": "fast",

    "optimizer": {"kind": "sgd"}
  }
}""",
    "c.toml": """train.lr = "fast"

[model]
num_layers = 2
widht = 64

[train.optimizer]
kind = "sgd"
""",
    "c.yaml": """# wrong in three places
model:
  num_layers: 2
  widht: 64
train:
  optimizer:
    kind: sgd
  lr: fast
""",
}
LINES = {
    "c.json": {"model.widht": 3, "train.lr": 5, "train.optimizer.kind": 7},
    "c.toml": {"train.lr": 1, "model.widht": 5, "train.optimizer.kind": 8},
    "c.yaml": {"model.widht": 4, "train.optimizer.kind": 7, "train.lr": 8},
}
TOLD = {
    "model.widht": "unknown key, did you mean 'model.width'?",
    "train.lr": 'found "fast", expected a number',
    "train.optimizer.kind": 'found "sgd", expected one of "adamw", "muon"',
}


@pytest.mark.parametrize("name", SCREENS)
def test_all_problems_come_in_one_error_in_the_order_they_were_written(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, name, SCREENS[name])
    with pytest.raises(ConfigError) as caught:
        resolve(Stage, preset=TINY, file=file, overrides=["data.val_fraction=2", "seed=1", "train.steps=50", "steps"])
    assert caught.value.message.splitlines() == [
        *(f"{file}:{line}: {key}: {TOLD[key]}" for key, line in LINES[name].items()),
        "--set data.val_fraction=2: data.val_fraction: found 2, expected a number below 1",
        "--set seed=1: seed: unknown key, expected one of model, data, train",
        "--set steps: found no '=', expected key=value",
    ]
    assert caught.value.where == f"{file}:{next(iter(LINES[name].values()))}"
    assert "omnictl config schema" in caught.value.fix


def test_the_place_is_where_the_value_was_given_last(tmp_path: Path) -> None:
    file = write(tmp_path, "c.yaml", "train:\n  lr: fast\n  steps: many\n")
    assert problems_of("train.steps=10", 'train={"lr": "slow"}', file=file) == [
        '--set train={"lr": "slow"}: train.lr: found "slow", expected a number'
    ]


def test_a_replaced_list_is_blamed_on_its_replacement(tmp_path: Path) -> None:
    file = write(tmp_path, "c.yaml", "data:\n  speakers:\n  - a\n  - b\n")
    (line,) = problems_of("data.speakers=[1]", file=file)
    assert line.startswith("--set data.speakers=[1]: data.speakers.0: found 1, expected text")


def test_a_config_that_does_not_hold_together_names_what_was_set_in_it(tmp_path: Path) -> None:
    file = write(tmp_path, "c.toml", "[data]\n\n[train]\nwarmup_steps = 90\nsteps = 80\n")
    told = "train: warmup_steps is {}, expected at most steps ({})"
    assert problems_of(file=file) == [f"{file}:3: {told.format(90, 80)}"]
    assert problems_of("train.steps=5", file=file) == [f"--set train.steps=5: {told.format(90, 5)}"]
    assert problems_of("train.steps=5", "model.width=8", "train.lr=1", preset=TINY) == [
        f"--set train.steps=5 --set train.lr=1: {told.format(10, 5)}"
    ]


def test_missing_keys_point_at_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "c.yaml", "train: {}\n")
    with pytest.raises(ConfigError) as caught:
        resolve(Needy, preset=None, file=file)
    assert caught.value.message == f"{file}: size: missing, expected a value"
    with pytest.raises(ConfigError) as caught:
        resolve(Needy, preset=None)
    assert caught.value.message.splitlines() == [
        "size: missing, expected a value",
        "train: missing, expected a value",
    ]


def test_keys_in_an_inline_table_point_at_its_line(tmp_path: Path) -> None:
    file = write(tmp_path, "c.toml", "\ntrain = { steps = 10, lr = 'fast', optimizer = { kind = 'muon' } }\n")
    assert problems_of(file=file) == [f'{file}:2: train.lr: found "fast", expected a number']


def test_a_syntax_error_leaves_the_reader_untouched(tmp_path: Path) -> None:
    file = write(tmp_path, "c.json", '{"train": \n{"lr": }}')
    with pytest.raises(ConfigError) as caught:
        resolve(Stage, preset=TINY, file=file)
    assert caught.value.where == f"{file}:2"


def test_configs_are_frozen_and_finite() -> None:
    config = Stage()
    with pytest.raises(ValueError, match="frozen"):
        config.train.lr = 3.0
    with pytest.raises(ValueError, match="finite"):
        Train(lr=float("inf"))
    assert flatten(config)["train.lr"] == 0.001
