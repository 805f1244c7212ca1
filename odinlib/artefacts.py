"""Whole-or-nothing files that say what they are: arrays, the configuration that made them, and their provenance.

An artefact is one `.npz`: its arrays, and under `artefact` a JSON string with

* `config`: everything the numbers depend on (network, sets, counts, seeds, grids), compared on every read;
* `provenance`: where and when they were made (hardware, versions, commit, date, seconds), never compared;
* `sha256`: the digest of the arrays and the configuration, checked on every read.

A file whose digest or configuration does not match is never used.

What a process that was killed leaves can be told from what a living one is making, on whatever machine: a file that is
being written, and the lock of what is being made, are held by the system's own lock (`flock`), which ends with its
process. `clear` removes the former; readers remove nothing.
"""

import contextlib
import contextvars
import datetime
import errno
import fcntl
import functools
import hashlib
import io
import json
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from odinlib.errors import UserError, in_words, reading

Arrays = dict[str, np.ndarray]
Config = Mapping[str, Any]
_AGAIN = "delete it and run again"
_MAX_BYTES = 2**31  # of an artefact's arrays: thirty times the largest here
MANIFEST = "MANIFEST.json"  # of a folder of artefacts that are not to change any more


class Refused(UserError):
    """An artefact that is there but must not be used: damaged, or made by another configuration."""


@dataclass(frozen=True)
class Artefact:
    """The contents of one artefact file."""

    arrays: Arrays
    config: dict[str, Any]
    provenance: dict[str, Any]


# --- Writing ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def write_atomically(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path` whole, when the block ends, or not at all.

    The bytes go to a temporary name in the same folder, are flushed to the disk, then renamed. What processes that were
    killed have left in this folder of such files is removed.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    if path.is_dir() or not path.name:
        raise UserError(f"{path} is a folder", expected="the name of a file to write")
    with _telling_of_writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, file = _begin(path)
    try:
        with _telling_of_writing(path), file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            if entry.name.startswith(".") and entry.name.endswith(".partial"):
                _remove_dead(Path(entry.path))


def _begin(path: Path) -> tuple[Path, BinaryIO]:
    """A new temporary file beside `path`, held while it is open; process numbers of several machines may be equal."""
    while True:
        partial = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial")
        file = partial.open("xb")
        held = True
        with contextlib.suppress(OSError):  # a disk without locks; then nobody takes it for a dead one's either
            held = _hold(file.fileno())
        if held and _same_file(partial, file.fileno()):
            return partial, file
        file.close()  # somebody took it for a dead one's, in the moment before it was held


@contextlib.contextmanager
def _telling_of_writing(path: Path) -> Iterator[None]:
    """Tell in one line why a file cannot be written."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str) and Path(error.filename).parent not in path.parents:
            raise  # of another file, which was read meanwhile
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no space left to write {path}", remedy="free some space and run again") from error
        raise UserError(f"cannot write {path} ({in_words(error)})", remedy="choose a place you can write") from error


# --- Artefacts --------------------------------------------------------------------------------------------------------


def digest(config: Config) -> str:
    """The SHA-256 of a configuration's canonical JSON, in hexadecimal."""
    return hashlib.sha256(_canonical(config).encode()).hexdigest()


def save(path: str | Path, arrays: Mapping[str, np.ndarray], config: Config, provenance: Config | None = None) -> None:
    """Write an artefact whole. Equal arrays, configuration and provenance give equal bytes."""
    header = {
        "config": json.loads(_canonical(config)),
        "provenance": dict(provenance or {}),
        "sha256": _content_digest(arrays, config),
    }
    members = {"artefact": np.array(json.dumps(header, sort_keys=True)), **arrays}
    with write_atomically(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in members.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asanyarray(array), allow_pickle=False)
            # np.savez would stamp the time of day into every member; a fixed date keeps the bytes the same.
            member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(member, buffer.getvalue(), zipfile.ZIP_DEFLATED)  # a ZipInfo stores, unless told


def content(path: str | Path, sealed: str | None = None) -> bytes:
    """The bytes of a recorded file: the one way in which artefacts, cards and manifests are read.

    Args:
        path: of the file.
        sealed: the SHA-256 that it must have, see `sealed`.

    Raises:
        FileNotFoundError: there is no such file.
        Refused: it cannot be read, or is not the file that was sealed.
    """
    with reading(path, refusal=Refused):
        found = Path(path).read_bytes()
    if sealed is not None and hashlib.sha256(found).hexdigest() != sealed:
        raise Refused(f"{path} is not the file in {MANIFEST}", remedy="restore it, or run `odin seal` if it is right")
    return found


def load_json(path: str | Path, sealed: str | None = None) -> dict[str, Any]:
    """A recorded JSON file, such as a network's card; arguments and errors as of `content`."""
    held = content(path, sealed)
    with reading(path, "restore it, or delete it and run again", Refused):
        found = json.loads(held)
        if not isinstance(found, dict):
            raise TypeError(f"it holds {type(found).__name__}, expected a mapping")
        return found


def load_header(path: str | Path, sealed: str | None = None) -> dict[str, Any]:
    """The configuration of an artefact, without reading its arrays; arguments and errors as of `content`."""
    with _read(path, sealed) as file:
        return _header(file["artefact"])["config"]


def load_provenance(path: str | Path, sealed: str | None = None) -> dict[str, Any]:
    """What made an artefact, and when, without reading its arrays; arguments and errors as of `content`."""
    with _read(path, sealed) as file:
        made: dict[str, Any] = _header(file["artefact"])["provenance"]
        return made


def load(path: str | Path, config: Config | None = None, sealed: str | None = None) -> Artefact:
    """Read an artefact, checking its digest and, where given, its configuration.

    Raises:
        FileNotFoundError: there is no such file.
        Refused: the file is damaged, was made by another configuration, or is not the one that was sealed.
    """
    with _read(path, sealed) as file:
        arrays = {name: file[name] for name in file.files}
        header = _header(arrays.pop("artefact"))
        intact = header["sha256"] == _content_digest(arrays, header["config"])
    if not intact:
        raise Refused(f"{path} does not match its recorded SHA-256", remedy=_AGAIN)
    if config is not None and (found := _difference(header["config"], json.loads(_canonical(config)))):
        raise Refused(f"{path} was made by another configuration ({found})", remedy=_AGAIN)
    return Artefact(arrays, header["config"], header["provenance"])


@contextlib.contextmanager
def _read(path: str | Path, sealed: str | None) -> Iterator[Any]:
    """The members of an artefact; whatever goes wrong with them is the file's damage."""
    held = content(path, sealed)
    with reading(path, _AGAIN, Refused), np.load(io.BytesIO(held), allow_pickle=False) as file:
        if (size := sum(member.file_size for member in file.zip.infolist())) > _MAX_BYTES:
            raise MemoryError(f"it holds {size} bytes")
        yield file


def _header(held: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(held))
    if not isinstance(found["config"], dict) or not isinstance(found["provenance"], dict):
        raise TypeError("its header is no mapping")
    return found


# --- Two at once ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold the one right to make what is at `path`: another process that asks for it waits, and says for whom.

    The lock is one of the system's (`flock`) on a file beside the artefact, so that it ends with its process, however
    that ends and on whatever machine; the file says whose it is.

    Raises:
        UserError: the folder cannot be written, or its disk has no locks.
    """
    lock = _lock(Path(path))
    while True:
        with _telling_of_writing(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            opened = lock.open("a+")
        with opened as file:
            with _telling_of_writing(lock):
                if not _hold(file.fileno()):
                    file.seek(0)
                    print(f"waiting for {file.read() or 'another process'}, which makes {path}", file=sys.stderr)
                    fcntl.flock(file, fcntl.LOCK_EX)
            if not _same_file(lock, file.fileno()):
                continue  # whoever held it before has removed the file, and a third may have made a new one
            with _telling_of_writing(lock):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
                file.flush()
            try:
                yield
                return
            finally:
                lock.unlink(missing_ok=True)


def _hold(descriptor: int) -> bool:
    """Take the system's lock of an open file, unless another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same_file(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that lies at `path`."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def clear(folder: str | Path) -> Iterator[Path]:
    """Remove what was begun under a folder and nobody is at: partial files, locks, shards and checkpoints.

    Yields:
        Each path that was removed.
    """
    for path in sorted(Path(folder).rglob("*")):
        if path.name.startswith(".") and path.suffix in (".partial", ".lock"):
            if _remove_dead(path):
                yield path
        elif path.suffix in (".shards", ".checkpoint"):
            target = path.with_suffix("" if path.suffix == ".shards" else ".safetensors")
            if _is_held(_lock(target)):
                continue
            with locked(target):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            yield path


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _is_held(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), _opened(path) as file:
        return not _hold(file.fileno())
    return False


def _opened(path: Path) -> BinaryIO:
    """A file to be held; of a pipe in its place nobody waits for the other end."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW))


def _remove_dead(path: Path) -> bool:
    """Remove a file that no process holds; who takes hold of one looks whether it is still there."""
    with contextlib.suppress(OSError), _opened(path) as file:
        if _hold(file.fileno()) and _same_file(path, file.fileno()):
            path.unlink()
            return True
    return False


# --- A shard at a time ------------------------------------------------------------------------------------------------


def in_shards(
    path: str | Path,
    config: Config,
    count: int,
    compute: Callable[[slice], Mapping[str, np.ndarray]],
    *,
    size: int = 250,
) -> Arrays:
    """Compute an artefact's arrays a shard of images at a time, keeping every finished shard beside `path`.

    An interrupted computation goes on at the first shard that is not there. The last axis of every array counts the
    images. `forget_shards` removes the shards once the whole is written.

    Args:
        path: of the whole artefact.
        config: of the whole artefact.
        count: images in all.
        compute: gives the arrays of the images in a slice.
        size: images in a shard.
    """
    parts = []
    for start in range(0, count, size):
        piece = slice(start, min(start + size, count))
        shard = {**config, "shard": [piece.start, piece.stop]}
        part = _shards(path) / f"{start:06d}.npz"
        try:
            parts.append(load(part, shard).arrays)
        except (FileNotFoundError, Refused):
            parts.append(dict(compute(piece)))
            save(part, parts[-1], shard)
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def begun(path: str | Path) -> dict[str, Any] | None:
    """The configuration of a shard of the artefact at `path` that an earlier run left; None where there is none."""
    for shard in sorted(_shards(path).glob("[0-9]*.npz")):
        with contextlib.suppress(Refused):
            return load_header(shard)
    return None


def forget_shards(path: str | Path) -> None:
    """Remove the shards of the artefact at `path`, where there are any."""
    shutil.rmtree(_shards(path), ignore_errors=True)


def _shards(path: str | Path) -> Path:
    path = Path(path)
    return path.with_name(f"{path.name}.shards")


# --- The seal ---------------------------------------------------------------------------------------------------------

_unsealed: contextvars.ContextVar[bool] = contextvars.ContextVar("unsealed", default=False)


@contextlib.contextmanager
def unsealed() -> Iterator[None]:
    """While this lasts, what is read need not be what was sealed: for making a seal, and for checking one."""
    token = _unsealed.set(True)
    try:
        yield
    finally:
        _unsealed.reset(token)


def sealed(path: str | Path, folder: str | Path) -> str | None:
    """The SHA-256 that the manifest of a folder has for a file in it; None where it has none.

    Raises:
        Refused: the manifest is damaged.
    """
    recorded = None if _unsealed.get() else manifest(folder).get(_place(path, folder))
    return recorded["sha256"] if recorded else None


@functools.lru_cache(maxsize=4096)
def _place(path: str | Path, folder: str | Path) -> str:
    return Path(path).relative_to(folder).as_posix()


def manifest(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What the manifest of a folder says of each file, by its path in there: sha256, bytes. Empty without one.

    Raises:
        Refused: it is damaged.
    """
    path = os.path.join(folder, MANIFEST)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return {}
    return _manifest(path, found.st_mtime_ns, found.st_size, found.st_ino)


@functools.lru_cache(maxsize=8)
def _manifest(path: str, changed: int, size: int, place: int) -> dict[str, dict[str, Any]]:
    with reading(path, "restore it", Refused):
        files: dict[str, dict[str, Any]] = load_json(path)["files"]
        for name, entry in files.items():
            if not isinstance(entry["sha256"], str) or not isinstance(entry["bytes"], int):
                raise TypeError(f"its entry {name!r} has no SHA-256")
        return files


def file_digest(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def provenance(**extra: Any) -> dict[str, Any]:
    """Where and when a number is made: hardware, versions, commit and date."""
    import torch

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "hardware": accelerator or f"{_processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        **extra,
    }


@functools.cache
def commit() -> str:
    """The commit of the source tree, with `+changes` where the package differs from it, or `unknown`."""
    root = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if git("status", "--porcelain", "--", "odinlib", "notebooks") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@functools.cache
def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _canonical(config: Config) -> str:
    return json.dumps(config, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not belong in a configuration")


def _content_digest(arrays: Mapping[str, np.ndarray], config: Config) -> str:
    content = hashlib.sha256(_canonical(config).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        content.update(f"{name} {array.dtype.str} {array.shape}".encode())
        content.update(array.tobytes())
    return content.hexdigest()


def _difference(found: Config, wanted: Config) -> str:
    """The first entry that was wanted and is not so, in words; empty where there is none. More may be found."""
    for key in sorted(wanted):
        if isinstance(wanted[key], Mapping) and isinstance(found.get(key), Mapping):
            if inner := _difference(found[key], wanted[key]):
                return inner
        elif found.get(key) != wanted[key]:
            return f"{key} is {found.get(key)!r}, wanted {wanted[key]!r}"[:200]
    return ""
