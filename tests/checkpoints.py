"""Where the weights of others lie, for tests: `ODINLIB_CHECKPOINTS` names a folder, or several as a PATH does."""

import os
from pathlib import Path

import pytest

THIRD_PARTY = "densenet-bc-100_cifar10_100epochs.pth.tar"


def found(name: str) -> Path | None:
    """The file of that name in the first folder that has it; None where none has."""
    folders = [Path(folder) for folder in os.environ.get("ODINLIB_CHECKPOINTS", "").split(os.pathsep) if folder]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def checkpoint(name: str) -> Path:
    """The file of that name; the test is skipped where there is none."""
    path = found(name)
    if path is None:
        pytest.skip(f"ODINLIB_CHECKPOINTS has no {name}")
    return path
