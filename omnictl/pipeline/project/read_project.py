"""The project file: which stages a pipeline trains, each on which data, from which preset, with which settings.

    preset = "tiny"          # of every stage that names none
    others = "tinyworld"     # stages without a table: trained on TinyWorld, or left "out" (the default)

    [asr]
    data = "recordings"      # relative to this file; "$HOME/recordings" is fine, too
    train.steps = 400        # and any other setting of the stage

The file is judged whole, with the data that it names, before anything is trained.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omnictl.config.files import ConfigFile, Key, Lines, read_config
from omnictl.config.resolve import resolve
from omnictl.config.suggest import nearest
from omnictl.data.manifest.source import names_tinyworld, tinyworld_seed
from omnictl.errors import ConfigError, DataError, OmniError, UsageError
from omnictl.pipeline.project.stage_data import find_data_flaw
from omnictl.stages import command_recipe, command_stages

OTHERS = ("tinyworld", "out")
_OWN_KEYS = ("preset", "others")
_OTHER_SPEECH = "the Talker is judged by what asr hears of it, and the two have other kinds of speech: TinyWorld's, and people's"


class Project(NamedTuple):
    """What a project file says."""

    stages: tuple[str, ...]
    """That are trained, in their order."""
    presets: Mapping[str, str]
    """Of each of them."""
    config: ConfigFile
    """Their settings by stage, as the file has them, with the lines that they stand on."""
    preset: str | None
    """That the file gives to all stages that name none; None: it gives none."""

    def config_of(self, stages: Collection[str]) -> ConfigFile:
        """The settings of some of them."""
        values = {stage: table for stage, table in self.config.values.items() if stage in stages}
        return ConfigFile(self.config.path, values, {key: line for key, line in self.config.lines.items() if key[0] in stages})


class _Problem(NamedTuple):
    key: Key
    text: str


def read_project(path: Path, *, preset: str) -> Project:
    """The project that a file describes.

    Args:
        path: JSON, TOML or YAML.
        preset: of the stages for which the file names none.

    Raises:
        ConfigError: the file cannot be read, or anything in it is wrong; all of it in one error, a line each.
    """
    file = read_config(path)
    stages = [name for name in command_stages() if name in file.values]
    problems = [*_check_keys(file.values)]
    tables = {name: table for name in stages if isinstance(table := file.values[name], dict)}
    problems += [
        _Problem((name,), f"should be a table of settings, found {file.values[name]!r}") for name in stages if name not in tables
    ]
    presets = {}
    for name in command_stages():
        chosen = tables.get(name, {}).get("preset", file.values.get("preset", preset))
        if isinstance(chosen, str) and chosen in command_recipe(name).presets:
            presets[name] = chosen
        else:
            key = (name, "preset") if "preset" in tables.get(name, {}) else ("preset",)
            problems.append(_Problem(key, f"{chosen!r} is none of the presets {', '.join(command_recipe(name).presets)}"))
    others = file.values.get("others", "out")
    trained = tuple(name for name in command_stages() if name in tables or others == "tinyworld")
    problems += _check_data(tables, path.parent, others)
    settings = _settings(file, tables, path.parent)
    flaws = [flaw for name in tables for flaw in _settings_flaws(name, presets.get(name), settings)]
    if problems or flaws:
        raise _all_at_once(file, list(dict.fromkeys(problems)), flaws)
    if not trained:
        raise ConfigError(
            f"{path} trains nothing", where=str(path), fix='give a stage a table with its data: [asr] data = "folder"'
        )
    given = file.values.get("preset")
    return Project(trained, {name: presets[name] for name in trained}, settings, None if given is None else str(given))


def _check_keys(values: Mapping[str, object]) -> Iterable[_Problem]:
    known = (*_OWN_KEYS, *command_stages())
    for name in values:
        if name not in known:
            guess = nearest(name, known)
            yield _Problem((name,), f"unknown key; {f'did you mean {guess!r}?' if guess else 'known are ' + ', '.join(known)}")
    if values.get("others", "out") not in OTHERS:
        yield _Problem(("others",), f"{values['others']!r} is none of {', '.join(OTHERS)}")


def _check_data(tables: Mapping[str, Mapping[str, Any]], folder: Path, others: object) -> Iterable[_Problem]:
    for name, table in tables.items():
        data = _source(table)
        if data is None:
            if others != "tinyworld":
                yield _Problem((name,), 'no data: give it data = "PATH" or data = "tinyworld", or the file others = "tinyworld"')
        elif not isinstance(data, str):
            yield _Problem((name, "data"), f"should be a path or a table with source, found {data!r}")
        elif (unset := _unset_variable(data)) is not None:
            yield _Problem((name, "data"), f"{data} needs the environment variable {unset}, which is not set")
        else:
            flaw = _data_flaw(name, _place(data, folder), table)
            if flaw is not None:
                yield _Problem((name, "data"), flaw)
    if len({_is_tinyworld(tables[name], folder) for name in ("talker", "asr") if name in tables}) > 1:
        yield _Problem(("talker", "data"), f"{_OTHER_SPEECH}; give both the same kind")


def check_sources(sources: Mapping[str, str], config: Any) -> None:
    """Judge the data that options give to stages as that of a project file, and whether the data of all stages goes together.

    Args:
        sources: by stage.
        config: of all stages that are trained, with these sources.

    Raises:
        UsageError: a stage is not trained, a Talker and its recogniser are on other kinds of speech.
        DataError: a stage cannot be trained on its data.
    """
    stages = list(type(config).model_fields)
    for stage, source in sources.items():
        if stage not in stages:
            fix = f"leave it out, or let it train {stage}, too: --only {stage} beside the others, or a table in the project file"
            raise UsageError(f"this pipeline trains {', '.join(stages)}, not {stage}", where=f"--data {stage}={source}", fix=fix)
        flaw = _data_flaw(stage, source, getattr(config, stage).model_dump(include={"data", "targets"}))
        if flaw is not None:
            message, _, fix = flaw.rpartition("; ")
            raise DataError(message, where=f"--data {stage}={source}", fix=fix)
    if {"asr", "talker"} <= set(stages):
        kinds = {tinyworld_seed(getattr(config, stage).data.source) is None for stage in ("asr", "talker")}
        if len(kinds) > 1:
            fix = "give both the same kind: --data asr=PATH --data talker=PATH, or a table for each in the project file"
            raise UsageError(_OTHER_SPEECH, where="talker.data", fix=fix)


def _is_tinyworld(table: Mapping[str, Any], folder: Path) -> bool:
    data = _source(table)
    return data is None or (isinstance(data, str) and _is_built_in(data, folder))


def _is_built_in(data: str, folder: Path) -> bool:
    """Whether a source is the built-in world, and not a path that begins like it."""
    return names_tinyworld(data) and not (folder / data).exists()


def _source(table: Mapping[str, Any]) -> object:
    data = table.get("data")
    return data.get("source") if isinstance(data, dict) else data


def _data_flaw(stage: str, source: str, table: Mapping[str, Any]) -> str | None:
    """Why a stage cannot be trained on its data, as far as the rows of that and the stage's settings tell."""
    data, targets = table.get("data"), table.get("targets")
    share = data.get("max_broken") if isinstance(data, dict) else None
    kind = targets.get("kind") if isinstance(targets, dict) else None
    symbols = data.get("symbols") if isinstance(data, dict) else None
    try:
        if tinyworld_seed(source) is not None:
            return None
    except OmniError as error:
        return f"{error.message}; {error.fix}"
    return find_data_flaw(
        stage,
        Path(source),
        max_broken=share if isinstance(share, int | float) else 0.05,
        targets="chars" if kind == "chars" or symbols == "phonemes" else "characters",
    )


def _place(data: str, folder: Path) -> str:
    """A source as the runs' configs keep it: a path is found from the project file, `$NAME` in it is an environment variable."""
    if _is_built_in(data, folder) or not data.strip():
        return data
    path = Path(os.path.expandvars(data)).expanduser()
    return str((path if path.is_absolute() else folder / path).absolute())


def _unset_variable(data: str) -> str | None:
    """The first environment variable in a path that is not set."""
    names = re.findall(r"\$(?:\{(\w+)\}|(\w+))", data)
    return next((name for pair in names if (name := pair[0] or pair[1]) not in os.environ), None)


def _settings(file: ConfigFile, tables: Mapping[str, Mapping[str, Any]], folder: Path) -> ConfigFile:
    """The stages' settings alone, in the form of their configs."""
    values: dict[str, object] = {}
    lines: Lines = {key: line for key, line in file.lines.items() if key[0] in tables}
    for name, table in tables.items():
        settings = {key: value for key, value in table.items() if key != "preset"}
        data, source = settings.get("data"), _source(table)
        if isinstance(source, str):
            settings["data"] = {**(data if isinstance(data, dict) else {}), "source": _place(source, folder)}
            lines.setdefault((name, "data", "source"), _line_of((name, "data"), file))
        values[name] = settings
    return ConfigFile(file.path, values, lines)


def _settings_flaws(stage: str, preset: str | None, settings: ConfigFile) -> list[str]:
    """What is wrong with a stage's settings, a line each that begins with file and line."""
    values = settings.values[stage]
    assert isinstance(values, dict)
    lines = {key[1:]: line for key, line in settings.lines.items() if key[0] == stage}  # () is where the table begins
    recipe = command_recipe(stage)
    try:
        resolve(
            recipe.config_type,
            preset=recipe.presets[preset or next(iter(recipe.presets))],
            file=ConfigFile(settings.path, values, lines),
        )
    except ConfigError as error:
        return re.split(rf"\n(?={re.escape(str(settings.path))}:\d+: )", error.message)
    return []


def _line_of(key: Key, file: ConfigFile) -> int:
    """The line of a key; of one within an inline table, or of one that is not there, the line of its stage."""
    return file.lines.get(key, file.lines.get(key[:1], 0))


def _all_at_once(file: ConfigFile, problems: list[_Problem], flaws: list[str]) -> ConfigError:
    def line(text: str) -> int:
        return int(text.removeprefix(f"{file.path}:").partition(":")[0])

    texts = [f"{file.path}:{_line_of(each.key, file)}: {'.'.join(each.key)}: {each.text}" for each in problems]
    texts = sorted([*texts, *flaws], key=line)
    first = texts[0].partition(": ")[0]
    return ConfigError("\n".join(texts), where=first, fix="correct each of them; docs/data.md shows such a file")
