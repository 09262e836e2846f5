"""`omnictl data get`: a public corpus by its name."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from omnictl.cli.console import Output
from omnictl.cli.options import JsonOption
from omnictl.config.suggest import nearest
from omnictl.errors import UsageError

if TYPE_CHECKING:
    from omnictl.data.download.catalogue import PublicCorpus

_SECONDS_BETWEEN_NOTES = 5.0


def get(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Of the corpus, see --list.", show_default=False)] = None,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A new or empty folder; default: data/NAME.", show_default=False)
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show all corpora, with sizes, licences and stages.")] = False,
    mirror: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Look for the files below this address first; repeatable.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Download a public corpus, check it, unpack it.

    Space is checked first. An interrupted download goes on when the
    command is run again. The folder appears when all of it is there.
    """
    from omnictl.data.download.catalogue import CATALOGUE, with_mirrors
    from omnictl.data.download.corpus import get_corpus

    output = Output(as_json=as_json)
    if list_ or name is None:
        output.result({"corpora": {each: _describe(corpus) for each, corpus in CATALOGUE.items()}}, _table(CATALOGUE))
        return
    if name not in CATALOGUE:
        close = nearest(name, list(CATALOGUE))
        fix = f"did you mean {close}?" if close else "see all of them with `omnictl data get --list`"
        raise UsageError(f"there is no corpus {name!r} in the list", where="NAME", fix=fix)
    corpus = with_mirrors(CATALOGUE[name], mirror or [])
    target = folder or Path("data") / name
    output.say(f"{name}: about {_gigabytes(corpus.num_bytes)}, licence: {escape(corpus.licence)}, {corpus.source}")
    data = get_corpus(name, corpus, target, _Progress(output))
    commands = corpus.commands(data)
    value = {"corpus": name, "folder": str(target), "data": str(data), **_describe(corpus), "commands": commands}
    output.result(value, "\n".join([f"{name} is in {escape(str(target))}", "next", *(f"  {escape(line)}" for line in commands)]))


class _Progress:
    """Says every few seconds how far a download is."""

    def __init__(self, output: Output) -> None:
        self._output, self._last = output, time.monotonic()

    def __call__(self, name: str, have: int, total: int | None) -> None:
        if time.monotonic() - self._last < _SECONDS_BETWEEN_NOTES:
            return
        self._last = time.monotonic()
        of_all = "" if total is None else f" of {total / 1e6:,.0f} MB ({have / max(total, 1):.0%})"
        self._output.say(f"{escape(name)}: {have / 1e6:,.0f}{of_all or ' MB'}")


def _describe(corpus: "PublicCorpus") -> dict[str, object]:
    return {
        "summary": corpus.summary,
        "stages": list(corpus.stages),
        "bytes": corpus.num_bytes,
        "licence": corpus.licence,
        "source": corpus.source,
        "checksums": all(file.checksum is not None for file in corpus.files),
    }


def _table(corpora: "dict[str, PublicCorpus]") -> Table:
    table = Table("name", "for", "size", "checksum", "what", "licence", box=None)
    for name, corpus in corpora.items():
        checked = "yes" if all(file.checksum is not None for file in corpus.files) else "none published"
        size = _gigabytes(corpus.num_bytes)
        table.add_row(name, " ".join(corpus.stages), size, checked, corpus.summary, corpus.licence)
    return table


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
