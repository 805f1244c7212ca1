"""What all tests share: the checkout, one thread each, and the book, built when a test first asks for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports torch or pyplot: tests run beside each other, and draw to files.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from tiny import TINY

from odinlib import profiles
from odinlib.networks.planar import compiled

# A law does not cease to hold because a machine is busy.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def book() -> Path:
    """The folder of the built book, the record's pages and the demo's. What is still valid of it is not made again."""
    command = [sys.executable, "-m", "odinlib.cli", "book"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"`odin book` failed:\n{(done.stdout + done.stderr)[-6000:]}", pytrace=False)
    return ROOT / "book" / "_build" / "html"


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> profiles.Profile:
    """A tiny profile called `tiny`, its results and data in folders of their own."""
    monkeypatch.setitem(profiles.PROFILES, "tiny", TINY)
    monkeypatch.setenv("ODINLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("ODINLIB_DATA", str(tmp_path / "data"))
    return TINY


@pytest.fixture(scope="session")
def compiled_here() -> None:
    """For tests of the engine `planar`: they skip where its source cannot be compiled."""
    try:
        compiled.library()
    except compiled.Unavailable as reason:
        pytest.skip(f"nothing is compiled here: {reason}")


@pytest.fixture(scope="session")
def tiny_record(tmp_path_factory) -> Path:
    """The folder of what `odin respond` records of the tiny profile's first network: made once, to be copied."""
    from odinlib import record

    folder = tmp_path_factory.mktemp("record")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(profiles.PROFILES, "tiny", TINY)
        patch.setenv("ODINLIB_RESULTS", str(folder))
        lines = list(record.respond(TINY.trained(TINY.networks[0], TINY.id_sets[0])))
    assert lines and not any(line.startswith("without") for line in lines)
    return folder / "tiny"
