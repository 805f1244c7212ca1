"""What several test files need."""

import pytest
from tiny import TINY

from odinlib import profiles


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A tiny profile called `tiny`, its results and data in folders of their own."""
    monkeypatch.setitem(profiles.PROFILES, "tiny", TINY)
    monkeypatch.setenv("ODINLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("ODINLIB_DATA", str(tmp_path / "data"))
    return TINY
