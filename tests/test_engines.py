"""Which engine computes a network: chosen once a machine, by what can be had and pays, or as it is asked for."""

import copy
import json
import os
import stat
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import ROOT
from test_fast import network, relative

from odinlib.errors import UserError
from odinlib.networks import build, engines
from odinlib.networks.fast import fast
from odinlib.networks.planar import compiled


def python(code, cache, **environment):
    """What a new process prints."""
    kept = {name: value for name, value in os.environ.items() if name != engines.VARIABLE}
    kept |= {"ODINLIB_CACHE": str(cache), "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # nothing is said on the way
    return done.stdout


IN_USE = "from odinlib.networks import engines; print(engines.in_use())"


@pytest.fixture
def afresh(monkeypatch):
    """As a new process starts: nothing is known of this machine, and nobody asks for an engine."""
    known = (engines.verdict, compiled.compiler, compiled._key)

    def forget(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))
        for each in known:
            each.cache_clear()

    monkeypatch.delenv(engines.VARIABLE, raising=False)
    forget()
    yield forget
    monkeypatch.undo()
    forget()


def test_the_verdict_is_found_once_and_read_ever_after(compiled_here, tmp_path, monkeypatch, afresh):
    """By two processes at once on an empty cache, which agree."""
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: python(IN_USE, tmp_path), range(2))
    assert first == second
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".lock", ".so"]
    (path,) = tmp_path.glob("*.json")
    found = json.loads(path.read_text())
    assert found["trials"]["float32"]["error"] < engines.EQUAL

    def told(**changes):
        found["trials"]["float32"] |= changes
        path.write_text(json.dumps(found))
        afresh(ODINLIB_CACHE=tmp_path)
        return engines.in_use()

    monkeypatch.setattr(engines, "_trials", lambda: pytest.fail("measured again"))
    network = build("densenet-bc-10-4", 3)
    assert told(fast=7.0, planar=1.0).startswith("planar")
    assert "7.0 times (float32)" in engines.in_use()
    assert fast(network).engine == "planar"
    assert "in float32 it takes 7.0 times as long" in told(fast=1.0, planar=7.0)
    assert fast(network).engine == "fast"
    assert fast(network, engine="planar").engine == "planar"  # asked for, it need not pay
    assert "its error in float32 is 1.0e+00" in told(error=1.0, planar=0.1)
    with pytest.raises(UserError, match="the engine planar cannot be had: its error in float32"):
        fast(network, engine="planar")
    assert "its error in float32 is nan" in told(error=float("nan"))


def test_the_trial_is_the_same_whatever_the_caller_has_set(compiled_here):
    usual = {precision: trial["error"] for precision, trial in engines._trials().items()}
    threads = torch.get_num_threads()
    with torch.inference_mode():
        assert {precision: trial["error"] for precision, trial in engines._trials().items()} == usual
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(3)
        assert all(trial["error"] <= trial["allowed"] for trial in engines._trials().values())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)


def test_a_damaged_verdict_is_found_again(compiled_here, tmp_path, monkeypatch, afresh):
    monkeypatch.setattr(engines, "_trials", lambda: {"float32": {"error": 0, "allowed": 1, "fast": 3, "planar": 1}})
    afresh(ODINLIB_CACHE=tmp_path)
    for damaged in ("{", "[]", "{}", ""):
        compiled.file(".json").write_text(damaged)
        afresh()
        expected = "planar in float32, fast in bfloat16 (not planar: this processor has no bfloat16)"
        assert engines.in_use() == expected
        assert fast(build("densenet-bc-10-12", 3), "bfloat16", engine="planar").engine == "fast"  # the next best
        assert json.loads(compiled.file(".json").read_text()) == engines.verdict()


def test_without_a_compiler(tmp_path, afresh):
    (tmp_path / "empty").mkdir()
    afresh(PATH=tmp_path / "empty", CXX="", ODINLIB_CACHE=tmp_path / "cache")
    assert engines.in_use() == "fast (not planar: there is no C++ compiler, c++, g++ or clang++)"
    assert fast(build("densenet-bc-10-4", 3)).engine == "fast"
    afresh(ODINLIB_ENGINE="planar")
    for refuse in (engines.in_use, lambda: fast(build("densenet-bc-10-4", 3))):
        with pytest.raises(UserError, match=r"^the engine planar cannot be had: there is no C\+\+ compiler") as error:
            refuse()
        assert "\n" not in str(error.value)
    assert fast(build("mlp-8x1", 2)).engine == "plain"


def test_a_compiler_that_fails_is_not_tried_again(tmp_path, monkeypatch, afresh):
    broken = tmp_path / "c++"
    broken.write_text('#!/bin/sh\ncase "$*" in *version*|*-dM*) echo 1.0;; *) echo called >> "$0.log"; exit 3;; esac\n')
    broken.chmod(0o755)
    monkeypatch.setattr(compiled, "library", compiled.library.__wrapped__)
    for _ in range(2):
        afresh(CXX=broken, ODINLIB_CACHE=tmp_path / "cache")
        assert engines.in_use().startswith(f"fast (not planar: {broken} fails")
    assert (tmp_path / "c++.log").read_text().count("called") == 1


def test_a_cache_that_others_could_write_or_that_cannot_be_written_is_not_used(tmp_path, monkeypatch, afresh):
    for mode in (0o777, 0o775):
        cache = tmp_path / oct(mode)
        cache.mkdir()
        cache.chmod(mode)
        afresh(ODINLIB_CACHE=cache)
        assert "could be written by others" in engines.in_use()
        assert not list(cache.iterdir())
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        afresh(ODINLIB_CACHE=path)
        assert engines.in_use().startswith(f"fast (not planar: the cache {path} cannot be made")
    monkeypatch.setattr(os, "access", lambda *_: False)  # as root, no folder refuses
    afresh(ODINLIB_CACHE=tmp_path / "closed")
    assert "cannot be written" in engines.in_use()


def test_a_cache_of_somebody_else_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("ODINLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(compiled.Unavailable, match="could be written by others"):
        compiled.folder()


def test_the_cache_is_private_and_where_the_system_has_caches(tmp_path, monkeypatch):
    monkeypatch.delenv("ODINLIB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert compiled.folder() == tmp_path / "there" / "odinlib"
    assert stat.S_IMODE(compiled.folder().stat().st_mode) == 0o700
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compiled.folder() == tmp_path / ".cache" / "odinlib"
    monkeypatch.setenv("ODINLIB_CACHE", str(tmp_path / "mine"))
    assert compiled.folder() == tmp_path / "mine"


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_an_engine_can_be_asked_for(engine, monkeypatch, request):
    if engine == "planar":
        request.getfixturevalue("compiled_here")
    monkeypatch.setenv(engines.VARIABLE, engine)
    found = network("densenet-bc-22-8", 10, 3, 16)
    assert fast(found).engine == fast(found, "bfloat16").engine == engine
    assert fast(build("mlp-8x1", 2)).engine == "plain"
    assert fast(build("wrn-10-1", 2)).engine == ("plain" if engine == "plain" else "fast")
    assert engines.in_use() == f"{engine}, as ODINLIB_ENGINE asks for"
    monkeypatch.setenv(engines.VARIABLE, "plain")
    assert fast(found, engine=engine).engine == engine  # as a run had that goes on
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    assert relative(fast(found, engine=engine)(images), copy.deepcopy(found).double()(images.double())) < 1e-5


def test_the_source_is_part_of_the_package():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["odinlib"]
    assert any(compiled.SOURCE in (ROOT / "odinlib").glob(pattern) for pattern in patterns)


def test_an_engine_that_is_none_is_refused_in_one_line(monkeypatch):
    with pytest.raises(UserError, match="engine is 'slow'; expected one of plain, fast, planar"):
        fast(build("mlp-8x1", 2), engine="slow")
    monkeypatch.setenv(engines.VARIABLE, "plannar")
    for refuse in (engines.in_use, engines.chosen, lambda: fast(build("mlp-8x1", 2))):
        with pytest.raises(UserError, match=r"ODINLIB_ENGINE is 'plannar'; .* did you mean 'planar'"):
            refuse()
    monkeypatch.setenv(engines.VARIABLE, "")
    assert engines.wanted() is None


def test_a_form_left_to_torch_compile_says_so(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda run, **_: run)
    assert fast(network("densenet-bc-10-4", 3, 3, 8), compile=True).engine == "compiled"
