"""Any command, killed at random and aimed moments, and started again: it comes to the same bytes and leaves nothing.

    python tests/kills.py 500               so many kills, over all jobs
    python tests/kills.py 30 respond        of jobs whose name has this word

A job is a command in a folder of its own. It is run once, undisturbed, and then again and again with a kill: by a
signal after a random part of its time, or by itself just before a system call that writes, renames or removes. Then
the same command runs to its end, and what is there is compared with what the undisturbed one made: arrays, weights and
cards but for their times, to the byte. After SIGINT and SIGTERM it must have said so in one line, with 130 or 143, and
no child may live. Three times of ten two processes do the same job at once, and one of them is killed.

Commands run in forks of this process, which has imported everything: so a kill costs a second. Only `book` is started
anew, in a checkout with one page; half of its SIGKILLs reach all that it has started, and half itself alone: then
Snakemake goes on with the lock, and the next `odin book` waits for it.
"""

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch._dynamo  # noqa: F401  # which every optimiser wants, seconds later
from tiny import TINY

from odinlib import artefacts, cli, profiles, record  # noqa: F401  # imported here, once for all forks
from odinlib.book import execution  # noqa: F401
from odinlib.datasets import prepare, script  # noqa: F401

HERE = Path(__file__).resolve().parent
NET, ID = "mlp-16x1", "digits"
KEY = f"{NET}_{ID}_seed0"
PROFILE = ("--profile", "tiny")
CHOSEN = (*PROFILE, "--network", NET, "--id-set", ID)
PATIENCE = 300.0  # seconds for a command on a busy machine
TOLD = {signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclasses.dataclass(frozen=True)
class Job:
    """A command, and the earlier ones that it needs."""

    name: str
    words: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    calls: int = 60  # that change what lies on the disk, about
    share: float = 1.0  # of the kills
    checkout: bool = False  # whether it is done in a checkout of its own, by a new process


RESPOND = ("respond", *CHOSEN)
JOBS = (
    Job("train", ("train", *CHOSEN), calls=25),
    Job("respond", RESPOND, (("train", *CHOSEN),), calls=180),
    Job("seal", ("seal", *PROFILE), (RESPOND,), calls=30),
    Job(
        "prepare",
        ("data", "prepare", "images_folder", "--name", "own", "--source", "{}/images"),
        calls=25,
    ),
    Job("run", ("run", "{}/page.ipynb", "-o", "{}/out.ipynb", "-q"), calls=12, share=0.1),
    Job("book", ("book", "--only", "record", "--cores", "1"), share=0.03, checkout=True),
)
FRAME = ("odinlib", "book", "profiles", "Snakefile", "_config.yml", "pyproject.toml", "CHANGELOG.md", "CITATION.cff")
TOC = "format: jb-book\nroot: intro\nparts: [{caption: All, chapters: [{file: notebooks/page}]}]\n"


# --- What a job makes -------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, str]:
    """A digest of every file that a job made, without the times and places in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name.startswith(("images/", "page.ipynb", "cache", ".snakemake/", "odinlib/")):
            continue
        # Of the rendered book, which says when it was made, the names.
        found[name] = "" if name.startswith("book/_build/") else hashlib.sha256(_timeless(path)).hexdigest()
    return found


def _timeless(path: Path) -> bytes:
    if path.suffix == ".npz":
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        told = json.loads(str(arrays.pop("artefact", arrays.pop("provenance", np.array("{}")))))
        kept = {key: told[key] for key in ("config", "sha256") if key in told}
        return json.dumps(kept, sort_keys=True).encode() + b"".join(arrays[name].tobytes() for name in sorted(arrays))
    if path.suffix == ".json":
        told = json.loads(path.read_text())
        if "files" in told:  # the manifest: digests of files that say when they were made
            told = sorted(told["files"])
        else:
            told = {key: value for key, value in told.items() if key not in ("date", "seconds", "commit")}
        return json.dumps(told, sort_keys=True).encode()
    if path.suffix == ".ipynb":
        return json.dumps([cell.get("source") for cell in json.loads(path.read_text())["cells"]]).encode()
    return path.read_bytes()


def make_inputs(folder: Path) -> None:
    """A folder of images and a page, the same in every run."""
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    draws = np.random.default_rng(0)
    for index in range(40):
        Image.fromarray(draws.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(
            folder / "images" / f"{index:02d}.png"
        )
    cell = {"cell_type": "code", "source": "2 + 2", "metadata": {}, "outputs": [], "execution_count": None, "id": "a"}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    page = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "page.ipynb").write_text(json.dumps(page))


def make_checkout(folder: Path) -> None:
    """A checkout whose book has one page."""
    make_inputs(folder)
    words = ["git", "ls-files", "-co", "--exclude-standard", "-z", *FRAME]
    for name in subprocess.run(words, cwd=HERE.parent, capture_output=True, check=True).stdout.decode().split("\0"):
        if name and (HERE.parent / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE.parent / name, folder / name)
    page = json.loads((folder / "page.ipynb").read_text())
    title = {"cell_type": "markdown", "source": "# A page\n\nOf a number.", "metadata": {}, "id": "title"}
    page["cells"].insert(0, title)
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "page.ipynb").write_text(json.dumps(page))
    (folder / "book" / "_toc.yml").write_text(TOC)
    (folder / "book" / "intro.md").write_text("# A book\n")
    (folder / "book" / "data" / "web").mkdir(parents=True)


# --- Running it -------------------------------------------------------------------------------------------------------


class Running:
    """A command in a fork of this process, in a session of its own.

    Args:
        words: of the command; `{}` stands for the folder.
        folder: where it works.
        at: the call that changes what lies on the disk before which it kills itself; 0 for none.
        by: with this signal.
    """

    def __init__(self, words: tuple[str, ...], folder: Path, at: int = 0, by: int = 0) -> None:
        (folder / "tmp").mkdir(exist_ok=True)
        self.said = folder / "tmp" / f"said-{random.random()}"
        self.process = multiprocessing.get_context("fork").Process(target=self._run, args=(words, folder, at, by))
        self.process.start()

    def _run(self, words: tuple[str, ...], folder: Path, at: int, by: int) -> None:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        said = os.open(self.said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(said, descriptor)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.environ.update(ODINLIB_RESULTS=f"{folder}/results", ODINLIB_DATA=f"{folder}/data", TMPDIR=f"{folder}/tmp")
        os.environ["PYTHONPATH"] = str(HERE.parent)
        tempfile.tempdir = None
        os.chdir(folder)
        if words[0] == "book":  # of the checkout that it is started in
            os.environ["PYTHONPATH"] = str(folder)
            os.execv(sys.executable, [sys.executable, "-m", "odinlib.cli", *words])
        if at:
            _aim(at, by)
        cli.main([word.replace("{}", str(folder)) for word in words], prog_name="odin")

    def end(self, seconds: float = PATIENCE) -> tuple[int, str]:
        """Wait for its end: status (minus a signal), and what it said."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            return -99, f"it took more than {seconds} s"
        return self.process.exitcode, self.said.read_text() if self.said.exists() else ""


def _aim(at: int, by: int) -> None:
    """Have this process kill itself before the `at`-th of the calls that change what lies on the disk."""
    left = at

    def aimed(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), by)
            return plain(*args, **options)

        return call

    for name in ("fsync", "unlink", "rmdir", "replace", "rename", "mkdir"):
        setattr(os, name, aimed(getattr(os, name)))


def finish(words: tuple[str, ...], folder: Path) -> str:
    """Run a command to its end; what was wrong with that."""
    status, said = Running(words, folder).end()
    return "" if status == 0 else f"{' '.join(words[:2])} ended with {status}: {said[-300:]}"


@contextlib.contextmanager
def left_alive(folder: Path) -> Iterator[list[str]]:
    """The command lines of the processes of this folder that live on, once this has ended."""
    found: list[str] = []
    yield found
    for _ in range(100):
        found[:] = [line for _, line in _processes() if str(folder) in line]
        if not found:
            return
        time.sleep(0.1)


def _processes() -> Iterator[tuple[int, str]]:
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if "\nState:\tZ" not in (path / "status").read_text() and int(path.name) != os.getpid():
                # Whoever works in the folder: a fork has the command line and the environment of its parent.
                lines = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield int(path.name), f"{(path / 'cwd').readlink()} {lines}"


def _with_children(process: int) -> list[int]:
    """A process and all that it has started, directly or not."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _without_the_lock(folder: Path, seconds: float = 3.0) -> list[str]:
    """Jobs of a book that run in a folder while nobody holds its lock."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = [line for _, line in _processes() if line.startswith(str(folder))]
        jobs = [line for line in lines if "odinlib.cli run" in line or "jupyter_book" in line]
        if jobs and not artefacts._is_held(folder / "build" / ".book.lock"):
            return [f"without the lock: {jobs[0]}"]
        time.sleep(0.1)
    return []


def kill_once(job: Job, made: Path, folder: Path, seconds: float, draws: random.Random) -> list[str]:
    """One kill of a job, and its end: what was not as it should be."""
    shutil.copytree(made, folder)
    by = draws.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
    aimed, twice = draws.random() < 0.5 and not job.checkout, draws.random() < 0.3
    all_of_it = job.checkout and draws.random() < 0.5
    orphans = job.checkout and by == signal.SIGKILL and not all_of_it
    wrong = []
    with left_alive(folder) as alive:
        beside = Running(job.words, folder) if twice else None
        running = Running(job.words, folder, draws.randint(1, job.calls) if aimed else 0, by)
        if not aimed:
            # Python itself, and not `odin`, has the first moment of a process.
            while not running.said.exists() and running.process.is_alive():
                time.sleep(0.001)
            running.process.join(0.01 + seconds * draws.uniform(0.1 * job.checkout, 1.05))
            process = running.process.pid or 0
            for one in _with_children(process) if all_of_it and by == signal.SIGKILL else [process]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, by)
        status, said = running.end()
        if status not in (0, -signal.SIGKILL) and status != TOLD.get(by):
            wrong.append(f"{by.name}: ended with {status}: {said[-300:]}")
        if status == TOLD.get(by):
            told = [line for line in said.splitlines() if line.startswith("stopped; ")]
            if len(told) != 1 or "Traceback" in said or "KeyboardInterrupt" in said:
                wrong.append(f"{by.name}: said {said[-300:]}")
        if beside is not None:
            status, said = beside.end()
            if status:
                wrong.append(f"the other one ended with {status}: {said[-300:]}")
        if orphans:
            wrong += _without_the_lock(folder)
            if failed := finish(job.words, folder):
                wrong.append(f"beside what was left: {failed}")
    if alive:
        wrong.append(f"{by.name}: still alive: {alive[0][:200]}")
    if failed := finish(job.words, folder):
        wrong.append(f"after {by.name}: {failed}")
    return wrong


def check(job: Job, whole: dict[str, str], folder: Path) -> list[str]:
    """What is otherwise than after an undisturbed run."""
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    for words in (("clean", *PROFILE), ("clean", "--data")) if job.name in ("train", "respond", "prepare") else ():
        finish(words, folder)
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    found = contents(folder)
    told = [f"{name} differs" for name in sorted(whole.keys() & found.keys()) if whole[name] != found[name]]
    told += [f"{name} is missing" for name in sorted(whole.keys() - found.keys())]
    return told + [f"{name} is left" for name in sorted(found.keys() - whole.keys())]


def main(words: list[str]) -> int:
    """So many kills over all jobs that have this word; print what was wrong, and how many were right."""
    profiles.PROFILES["tiny"] = TINY
    count = int(words[0]) if words else 20
    jobs = [job for job in JOBS if len(words) < 2 or words[1] in job.name]
    draws = random.Random(int(os.environ.get("KILL_SEED", "0")))
    right: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        made: dict[str, tuple[Path, dict[str, str], float]] = {}
        for job in jobs:
            place, whole = Path(temporary) / job.name, Path(temporary) / f"{job.name}-whole"
            (make_checkout if job.checkout else make_inputs)(place)
            for earlier in job.before:
                if failed := finish(earlier, place):
                    print(failed)
                    return 1
            shutil.copytree(place, whole)
            began = time.monotonic()
            if failed := finish(job.words, whole):
                print(failed)
                return 1
            shutil.rmtree(whole / "tmp")
            made[job.name] = place, contents(whole), time.monotonic() - began
        with contextlib.suppress(KeyboardInterrupt):
            for index in range(count):
                job = draws.choices(jobs, [job.share for job in jobs])[0]
                place, whole_files, seconds = made[job.name]
                folder = Path(temporary) / f"k{index}"
                wrong = kill_once(job, place, folder, seconds, draws)
                wrong += check(job, whole_files, folder)
                shutil.rmtree(folder, ignore_errors=True)
                tried[job.name] += 1
                right[job.name] += not wrong
                for line in wrong:
                    print(f"{index}: {job.name}: {line}", flush=True)
    for name in tried:
        print(f"{name}: {right[name]} of {tried[name]} kills right", flush=True)
    return int(right != tried)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
