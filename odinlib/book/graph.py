"""The book's jobs: what a page depends on, which is how the Snakefile decides what to run again, and running them.

A page depends on its notebook and on the modules of this package that the notebook reaches by importing them.
"""

import ast
import atexit
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from odinlib import artefacts
from odinlib.book import layout
from odinlib.errors import UserError, check_choice

_PATIENCE = 30.0  # seconds that interrupted jobs have for cleaning up
_PACKAGE = Path(__file__).resolve().parent.parent
#: Its own imports serve to look at the types of a profile's fields; no number on a page depends on them.
_LEAVES = {"odinlib.book.page", "odinlib.book.parameters"}
#: What a page may say in its metadata that it needs, `{"odin": {"needs": ["pictures"]}}`, beside what all need.
NEEDS = {
    "pictures": "what the first network of the profile answers whose images a page may show",
    "network": "the demo's first network",
    "benchmarks": "the recorded benchmarks",
    "record": "the paper's record, on a page without a profile",
}


def modules(page: str | Path) -> list[str]:
    """The files of this package, with the tables beside them, that the notebook `page` uses, directly or not."""
    cells = json.loads(Path(page).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return reached({name for source in sources for name in _imports(ast.parse(source), "")})


def needs(page: str | Path) -> set[str]:
    """What the notebook `page` needs beside its modules, by its own word: some of `NEEDS`.

    Raises:
        UserError: it needs something that is not known.
    """
    told = json.loads(Path(page).read_text(encoding="utf-8"))["metadata"].get("odin", {}).get("needs", [])
    return {check_choice(f"a need of {Path(page).name}", need, NEEDS) for need in told}


def reached(names: Iterable[str]) -> list[str]:
    """The files of this package, with the tables beside them, behind these modules and all that they import.

    Imports are read, not run, wherever they stand, so the list holds rather too many than too few.

    >>> [Path(path).name for path in reached(["odinlib.errors"])]
    ['__init__.py', 'errors.py']
    """
    waiting = set(names)
    seen: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or name in seen:
            continue
        seen[name] = path
        waiting.add(name.rpartition(".")[0])
        if name not in _LEAVES:
            waiting.update(_imports_of(name, path))
    tables = [table for path in seen.values() if path.name == "__init__.py" for table in path.parent.glob("*.csv")]
    return sorted(str(path) for path in (*seen.values(), *tables))


def make_book(kind: str = "both", cores: int | None = None, *, pdf: bool = False, dry_run: bool = False) -> Path:
    """Do the jobs of the Snakefile that are not done, and return the book's first page, or its PDF.

    Whoever asks while another process is at it waits, and then has little to do. What was interrupted is done again.

    Args:
        kind: of book, one of `odinlib.book.layout.KINDS`.
        cores: jobs at a time; None takes as many as there are cores.
        pdf: print the record's pages; `kind` has no part in it.
        dry_run: only say what would be done.

    Raises:
        UserError: there is no Snakefile here, or a job failed.
    """
    root = _PACKAGE.parent
    if not (root / "Snakefile").is_file():
        raise UserError("the Snakefile is not beside odinlib", remedy="run it from a checkout of the project")
    chosen = f"kind={check_choice('kind', kind, layout.KINDS)}"
    command = [sys.executable, "-m", "snakemake", *["pdf"] * pdf, "--cores", str(cores or "all"), "--config", chosen]
    command += ["--dry-run"] if dry_run else []
    # A session of its own, so that a terminal's Ctrl-C reaches Snakemake and its jobs through this process alone.
    with subprocess.Popen(command, cwd=root, start_new_session=True) as running:
        try:
            status = running.wait()
        except BaseException:
            _end(running)
            raise
    if status:
        raise UserError("the book was not made", remedy="the job that failed is named above")
    return root / "book" / "_build" / ("odin.pdf" if pdf else "html/index.html")


def _end(running: subprocess.Popen[bytes]) -> None:
    """End Snakemake at once, which would tell of each of its jobs, and interrupt the jobs, which clean up."""
    running.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGINT)
        for _ in range(int(_PATIENCE / 0.1)):
            time.sleep(0.1)
            running.poll()  # the group is there as long as nobody has asked how its first process ended
            os.killpg(running.pid, 0)
        os.killpg(running.pid, signal.SIGKILL)


def hold_the_lock() -> None:
    """Have this process make the book alone until it ends; one that comes later waits, and says so.

    It is Snakemake itself that holds it, whoever started it and whatever became of that process.
    """
    held = contextlib.ExitStack()
    held.enter_context(artefacts.locked(_PACKAGE.parent / "build" / "book"))
    atexit.register(held.close)


def contents(paths: Iterable[str | Path]) -> str:
    """One digest of the contents of files, for Snakemake, which goes by their times alone: a copy keeps an old one."""
    found = sorted((str(path), artefacts.file_digest(path)) for path in paths if Path(path).is_file())
    return artefacts.digest({"files": found})


def profile_option(page: str | Path, profile: str) -> str:
    """`odin run`'s option that makes a page with this profile; nothing for a page without one.

    Raises:
        UserError: the notebook is not there, or its parameters are not plain literals.
    """
    return f"-p profile {profile}" if layout.has_profile(page) else ""


_SHOWN = {"odinlib.ODIN": "odinlib.odin"}  # what the package shows of a module without its name


@functools.cache
def _imports_of(name: str, path: Path) -> tuple[str, ...]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return tuple(_imports(ast.parse(path.read_text(encoding="utf-8")), package))


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Names that may be modules of this package; `package` is what a relative import starts from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _file(name: str) -> Path | None:
    """The file of the module `name`, if it is one of this package."""
    first, *parts = _SHOWN.get(name, name).split(".")
    if first != _PACKAGE.name:
        return None
    path = _PACKAGE.joinpath(*parts)
    candidates = (path / "__init__.py", path.with_suffix(".py")) if parts else (path / "__init__.py",)
    return next((candidate for candidate in candidates if candidate.is_file()), None)
