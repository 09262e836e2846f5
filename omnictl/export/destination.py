"""Where an export goes: it is written and compared in a draft folder, and takes its place only when it agrees."""

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omnictl.errors import UsageError
from omnictl.runs.files import writing


def check_place(out: Path) -> None:
    """Refuse what holds something, or what no other folder can take the place of, before anything is computed.

    Raises:
        UsageError: it is a file, a link, a mount point or the current folder, or not empty.
    """
    if out.is_symlink() or out.is_file() or (out.is_dir() and any(out.iterdir())):
        kind = "a link" if out.is_symlink() else "a file" if out.is_file() else "not empty"
        raise UsageError(f"{out} is {kind}", where="--out", fix="name a new or empty folder")
    whole = out.resolve()
    if whole == Path.cwd().resolve() or whole.is_mount():
        kind = "the current folder" if whole == Path.cwd().resolve() else "a mount point"
        fix = f"name a new folder in it: --out {shlex.quote(str(out / 'exported'))}"
        raise UsageError(f"{out} is {kind}, which an export cannot replace", where="--out", fix=fix)


@contextmanager
def draft_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` if the block ends well, and is removed if it does not.

    Raises:
        UsageError: `out` cannot be replaced.
        DiskFull, RunError: it cannot be written.
    """
    check_place(out)
    draft = out.absolute().with_name(f".{out.absolute().name}.draft")
    with writing(out):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    try:
        with writing(out):
            yield draft
            if out.is_dir():
                out.rmdir()
            draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
