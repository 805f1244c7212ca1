"""Where the weights of others lie, for tests: `ODINLIB_CHECKPOINTS` names a folder, or several as a PATH does."""

import os
from pathlib import Path

import pytest


def checkpoint(name: str) -> Path:
    """The file of that name in the first folder that has it; the test is skipped where none has."""
    folders = [Path(folder) for folder in os.environ.get("ODINLIB_CHECKPOINTS", "").split(os.pathsep) if folder]
    found = [folder / name for folder in folders if (folder / name).is_file()]
    if not found:
        pytest.skip(f"ODINLIB_CHECKPOINTS has no {name}")
    return found[0]
