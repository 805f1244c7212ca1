"""`planar.cpp`, compiled once for each machine into a folder of the user's own, and loaded.

Nothing is compiled when the library is installed. The folder is `$ODINLIB_CACHE`, by default `odinlib` in
`$XDG_CACHE_HOME` (`~/.cache`). What lies there is loaded into the process, so a folder that others could write is not
used; and nothing but the package's own source is ever compiled.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

try:
    import fcntl
except ImportError:  # Windows: see `folder`
    fcntl = None  # type: ignore[assignment]

SOURCE = Path(__file__).with_name("planar.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++20", "-fPIC", "-shared")
COMPILERS = ("c++", "g++", "clang++")  # in this order, after $CXX
SECONDS = 120  # after which a compiler is given up; it takes about 5


class Unavailable(Exception):
    """Why there is no compiled source here, in a few words."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled source, compiled now if it is not in the cache.

    Raises:
        Unavailable: there is no compiler, no folder to keep it in, or it fails.
    """
    path = file(".so")
    if not path.is_file():
        _compile(path)
    try:
        found = ctypes.CDLL(str(path))
    except OSError as error:
        raise Unavailable(f"the compiled file does not load ({error})") from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    found.planar_new.argtypes, found.planar_new.restype = [pointer, pointer, ctypes.c_int64, number], pointer
    found.planar_delete.argtypes, found.planar_delete.restype = [pointer], None
    found.planar_forward.argtypes, found.planar_forward.restype = [pointer, pointer, number, pointer, number], None
    found.planar_backward.argtypes, found.planar_backward.restype = [pointer, pointer, number, pointer], None
    return found


def file(suffix: str) -> Path:
    """Where something is kept that depends on this machine, compiler, PyTorch and source; `Unavailable` if nowhere."""
    return folder() / f"planar-{_key()}{suffix}"


def folder() -> Path:
    """The folder of the cache: made if it is not there, private to the user."""
    chosen, caches = os.environ.get("ODINLIB_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        path = Path(chosen) if chosen else Path(caches or Path.home() / ".cache", "odinlib")
    except RuntimeError as error:
        raise Unavailable("there is no home folder for the cache") from error
    if fcntl is None:
        raise Unavailable("this system has no owners of files to check")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise Unavailable(f"the cache {path} cannot be made ({error.strerror})") from error
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Unavailable(f"the cache {path} could be written by others")
    if not os.access(path, os.W_OK | os.X_OK):
        raise Unavailable(f"the cache {path} cannot be written")
    return path


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One process at a time; without a lock, where the file system has none: then what is written is still whole."""
    with file(".lock").open("w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def compiler() -> tuple[str, str]:
    """The path of the compiler and the first line of what it says of its version."""
    path = next(filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), *COMPILERS)))), None)
    if path is None:
        raise Unavailable(f"there is no C++ compiler, {', '.join(COMPILERS[:-1])} or {COMPILERS[-1]}")
    return path, next(iter(_run(path, "--version").splitlines()), path)


@functools.cache
def _key() -> str:
    """Everything that the compiled code, its equality and its speed depend on, as a few hexadecimal digits."""
    path, version = compiler()
    # What "native" means belongs to it: machines may share a home directory.
    native = _run(path, *FLAGS, "-dM", "-E", "-x", "c++", os.devnull)
    here = Path(__file__).parent
    sources = [SOURCE, *here.glob("*.py"), *(here.parent / f"{name}.py" for name in ("engines", "folded", "prefix"))]
    code = [source.read_text() for source in sorted(sources)]
    parts = [path, version, native, _processor(), str(torch.__version__), *FLAGS, *code]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line
    return f"{platform.machine()} {platform.processor()}"


def _compile(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        built = Path(scratch, path.name)
        _run(compiler()[0], *FLAGS, str(SOURCE), "-o", str(built))
        built.replace(path)  # others see all of it or nothing


def _run(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, check=True, text=True, timeout=SECONDS).stdout
    except (OSError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise Unavailable(f"{words[0]} fails ({told[0] if told else 'and does not say why'})") from error
