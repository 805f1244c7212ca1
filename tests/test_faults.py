"""A faulty and hostile world, in part: `make faults` does all of it. And checkouts at paths that a shell would tear."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from odinlib import artefacts

ROOT = Path(__file__).resolve().parent.parent


def run(*words, cwd=ROOT, **env):
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **env})


def test_bad_inputs_are_one_line_each(tmp_path):
    done = run("tests/bad_inputs.py", "--every=6", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert int(done.stdout.splitlines()[-2].split("\t")[2]) > 80


def test_what_is_killed_comes_to_the_same_bytes(tmp_path):
    done = run("tests/kills.py", 8, TMPDIR=str(tmp_path))
    assert done.returncode == 0 and "kills right" in done.stdout, done.stdout + done.stderr[-2000:]


@pytest.mark.parametrize(
    ("words", "streams", "status"),
    [
        ("data status", ">&-", 0),
        ("data status", ">/dev/full", 1),
        ("data status", "2>&- <&-", 0),
        ("--help", ">/dev/full", 1),
        ("train --help", ">/dev/full", 1),
        ("--version", ">/dev/full", 1),
        ("verify --profile none", ">&-", 1),
        ("verify --profile none", ">/dev/full 2>/dev/full", 1),
        ("data status", "| true; exit ${PIPESTATUS[0]}", 1),
    ],
)
def test_streams_that_are_closed_or_full(words, streams, status):
    command = f"{shlex.quote(sys.executable)} -m odinlib.cli {words} {streams}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    told = done.stderr.splitlines()
    assert done.returncode == status and len(told) <= 1, done.stderr
    assert all(line.startswith("error: ") for line in told)


def test_a_folder_that_is_gone(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = f"rmdir {shlex.quote(str(tmp_path))}; {shlex.quote(sys.executable)} -m odinlib.cli data status"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: the folder that you are in was removed; cd to another one\n")


def test_clean_waits_for_no_pipe_and_follows_no_link(tmp_path):
    kept = tmp_path / "kept"
    (kept / "inner").mkdir(parents=True)
    folder = tmp_path / "results"
    folder.mkdir()
    os.mkfifo(folder / ".a.npz.0.partial")
    os.mkfifo(folder / ".a.npz.lock")
    (folder / "a.npz.shards").symlink_to(kept)
    (folder / ".b.npz.lock").symlink_to(kept / "inner")
    list(artefacts.clear(folder))
    assert (kept / "inner").is_dir() and not (folder / "a.npz.shards").is_symlink()


# --- Two at once ------------------------------------------------------------------------------------------------------

HOLDS = """
import sys, time
from odinlib import artefacts
with artefacts.locked(sys.argv[1]):
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def holder(tmp_path):
    """A process that makes `some.npz`."""
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "some.npz"), "60"]
    holding = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holding.stdout.readline() == "in\n"
    yield holding
    holding.kill()
    holding.communicate()


def test_the_second_says_for_whom_it_waits(holder, tmp_path):
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "some.npz"), "0"]
    second = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    told = second.stderr.readline()
    assert told.startswith(f"waiting for process {holder.pid} on ") and told.rstrip().endswith("some.npz")
    holder.kill()  # and its lock with it
    assert second.communicate(timeout=60)[0] == "in\n" and second.returncode == 0
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_known_from_what_a_living_one_makes(holder, tmp_path):
    for name in ("some.npz.shards", "other.npz.shards"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "000000.npz").write_text("half")
    (tmp_path / ".dead.npz.0.partial").write_text("half")
    (tmp_path / "a.checkpoint").write_text("half")
    with artefacts.write_atomically(tmp_path / "living.npz") as file:
        file.write(b"whole")
        removed = sorted(path.name for path in artefacts.clear(tmp_path))
    assert removed == [".dead.npz.0.partial", "a.checkpoint", "other.npz.shards"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".some.npz.lock", "living.npz", "some.npz.shards"]


def test_the_next_write_removes_what_an_earlier_one_left(tmp_path):
    for name in (".a.npz.0.partial", ".a.npz.0123456789abcdef.partial"):
        (tmp_path / name).write_text("half")
    artefacts.save(tmp_path / "a.npz", {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


# --- A checkout -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A clone of what is here at a path with a space, a quote and an umlaut."""
    root = tmp_path_factory.mktemp("a") / "it's my cöde"
    found = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    for name in filter(None, found.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    (root / ".venv").symlink_to(Path(sys.prefix))
    return root


PAGE = "build/pages/paper/06-related-work.ipynb"


def snakemake(checkout, *words):
    command = [str(checkout / ".venv" / "bin" / "python"), "-m", "snakemake", "--cores", "1", *words]
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    return subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, check=False)


def test_a_checkout_at_a_path_that_a_shell_would_tear(checkout):
    done = snakemake(checkout, PAGE)
    assert done.returncode == 0 and (checkout / PAGE).exists(), done.stderr[-2000:]
    planned = snakemake(checkout, "--dry-run", "--printshellcmds")
    assert planned.returncode == 0, planned.stderr[-2000:]
    commands = [line for line in planned.stdout.splitlines() if "odinlib.cli" in line or "jupyter_book" in line]
    assert len(commands) > 30 and "jupyter_book" in " ".join(commands)
    python = str(checkout / ".venv" / "bin" / "python")
    assert all(python in shlex.split(line.replace("toc=$(", "").replace(")", "")) for line in commands)


def test_an_edit_is_seen_whatever_its_time(checkout):
    snakemake(checkout, PAGE)
    assert "Nothing to be done" in snakemake(checkout, PAGE).stderr
    source = checkout / "notebooks" / "06-related-work.ipynb"
    source.write_text(source.read_text().replace("# ", "#  ", 1))
    os.utime(source, (1e9, 1e9))  # as `cp -p` and rsync leave it
    assert f"running notebooks/{source.name}" in snakemake(checkout, "--dry-run", PAGE).stdout


def test_snakemake_holds_the_lock_and_leaves_none_that_is_stale(checkout):
    """Killed with everything, it leaves no lock; a second one waits as long as it lives."""
    command = [str(checkout / ".venv" / "bin" / "python"), "-m", "snakemake", "--cores", "1", "--forcerun", "notebook"]
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    lock = checkout / "build" / ".book.lock"
    with subprocess.Popen(
        [*command, "--", PAGE], cwd=checkout, env=env, stderr=subprocess.DEVNULL, start_new_session=True
    ) as first:
        began = time.monotonic()
        while not (lock.exists() and lock.read_text()) and time.monotonic() - began < 120:
            time.sleep(0.05)
        with subprocess.Popen(
            [*command, "--", PAGE], cwd=checkout, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as second:
            told = ""
            while second.poll() is None and not told.startswith("waiting for process"):
                told = second.stderr.readline()
            assert told.startswith(f"waiting for process {first.pid} on "), told
            os.killpg(first.pid, signal.SIGKILL)
            second.communicate(timeout=300)
            assert second.returncode == 0
