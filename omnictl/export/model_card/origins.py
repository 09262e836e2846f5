"""What a model was made from, as far as its parts, its run and the runs that this came from say."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from omnictl.data.manifest.source import names_tinyworld
from omnictl.runs.files import read_json
from omnictl.runs.run import Run


class Origins(NamedTuple):
    """What a model was made from."""

    sources: tuple[str, ...]
    """Of data, as configs name them, each once."""
    imported: tuple[str, ...]
    """Folders of other projects' models, whose weights something began as."""
    unknown: tuple[str, ...]
    """Runs that are gone, and copies of model folders, which do not say what they began as."""

    @property
    def from_scratch(self) -> bool:
        """Whether all of it is known to have begun as random numbers."""
        return not self.imported and not self.unknown

    @property
    def built_in(self) -> bool:
        """Whether all of it is known to be made from the built-in world alone."""
        return self.from_scratch and all(names_tinyworld(source) for source in self.sources)


def find_origins(model: Path) -> Origins:
    """What the model of a model folder was made from; its run, if it lies in one, and all parents of that are asked.

    Raises:
        RunError: a record or a config cannot be read, or is not as it was written.
    """
    sources: list[str] = []
    imported: list[str] = []
    unknown: list[str] = []
    places, seen = [model.absolute()], set[Path]()
    for place in places:  # which grows meanwhile
        run = _run_around(place)
        folder = place if run is None else run.path
        if folder in seen:
            continue
        seen.add(folder)
        sources += _sources_in(place if run is None else run.model)
        if run is None:
            unknown.append(str(place))
            continue
        record = run.record()
        places += [Path(parent) for parent in record.get("parents", {}).values()]
        imported += [str(record["imported"]["folder"])] if "imported" in record else []
    read = [source for source in sources if source not in imported]  # of an imported model, its own folder stands there
    return Origins(*(tuple(dict.fromkeys(each)) for each in (read, imported, unknown)))


def _run_around(place: Path) -> Run | None:
    """The run that a folder is, or lies in."""
    return next((Run(folder) for folder in (place, *place.parents) if (folder / "run.json").is_file()), None)


def _sources_in(model: Path) -> Iterator[str]:
    """`data.source` of a model folder and of the parts in it."""
    for file in sorted(model.rglob("config.json")):
        yield str(read_json(file)["config"]["data"]["source"])
