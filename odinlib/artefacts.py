"""Whole-or-nothing files that say what they are: arrays, the configuration that made them, and their provenance.

An artefact is one `.npz`: its arrays, and under `artefact` a JSON string with

* `config`: everything the numbers depend on (network, sets, counts, seeds, grids), compared on every read;
* `provenance`: where and when they were made (hardware, versions, commit, date, seconds), never compared;
* `sha256`: the digest of the arrays and the configuration, checked on every read.

A file whose digest or configuration does not match is never used.
"""

import contextlib
import datetime
import errno
import fcntl
import functools
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from odinlib.errors import UserError

Arrays = dict[str, np.ndarray]
Config = Mapping[str, Any]
MANIFEST = "MANIFEST.json"  # of a folder of artefacts that are not to change any more


class Refused(UserError):
    """An artefact that is there but must not be used: damaged, or made by another configuration."""


@dataclass(frozen=True)
class Artefact:
    """The contents of one artefact file."""

    arrays: Arrays
    config: dict[str, Any]
    provenance: dict[str, Any]


@contextlib.contextmanager
def write_atomically(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path` whole, when the block ends, or not at all.

    The bytes go to a temporary name in the same folder, are flushed to the disk, then renamed.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with _telling_of_writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def _telling_of_writing(path: Path) -> Iterator[None]:
    """Tell in one line why a file cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no space left to write {path}", remedy="free some space and run again") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise UserError(
                f"cannot write {path} ({error.strerror})", remedy="choose a folder you can write"
            ) from error
        raise


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


def load_header(path: str | Path) -> dict[str, Any]:
    """The configuration of an artefact, without reading its arrays: nothing is checked but that it can be read.

    Raises:
        FileNotFoundError: there is no such file.
        Refused: it is damaged.
    """
    config: dict[str, Any] = _whole_header(path)["config"]
    return config


def load_provenance(path: str | Path) -> dict[str, Any]:
    """What made an artefact, and when, without reading its arrays; errors as of `load_header`."""
    made: dict[str, Any] = _whole_header(path)["provenance"]
    return made


def _whole_header(path: str | Path) -> dict[str, Any]:
    with _refusing(Path(path)), np.load(path, allow_pickle=False) as file:
        header: dict[str, Any] = json.loads(str(file["artefact"]))
        return header


def load(path: str | Path, config: Config | None = None) -> Artefact:
    """Read an artefact, checking its digest and, where given, its configuration.

    Raises:
        FileNotFoundError: there is no such file.
        Refused: the file is damaged or was made by another configuration.
    """
    path = Path(path)
    with _refusing(path):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("artefact")))
        intact = header["sha256"] == _content_digest(arrays, header["config"])
    if not intact:
        raise Refused(f"{path} does not match its recorded SHA-256", remedy="delete it and run again")
    if config is not None and (found := _difference(header["config"], json.loads(_canonical(config)))):
        raise Refused(f"{path} was made by another configuration ({found})", remedy="delete it and run again")
    return Artefact(arrays, header["config"], header["provenance"])


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into `Refused`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, TypeError, EOFError, OSError) as error:
        raise Refused(f"{path} is damaged ({error})", remedy="delete it and run again") from error


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold the one right to make the artefact at `path`: another process that asks for it waits.

    The lock is one of the system's (`flock`) on a file beside the artefact, so that it ends with its process.
    """
    lock = Path(path).with_name(f".{Path(path).name}.lock")
    while True:
        with _telling_of_writing(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            opened = lock.open("w")
        with opened as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _same_file(lock, file.fileno()):
                continue  # whoever held it before has removed the file, and a third may have made a new one
            try:
                yield
                return
            finally:
                lock.unlink(missing_ok=True)


def _same_file(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that lies at `path`."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


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


def check_sealed(path: str | Path, folder: str | Path) -> None:
    """Refuse a file that its folder's manifest lists with another SHA-256.

    Raises:
        Refused: it is not the file that was sealed.
    """
    recorded = manifest(folder).get(Path(path).relative_to(folder).as_posix())
    if recorded and Path(path).exists() and file_digest(path) != recorded["sha256"]:
        raise Refused(f"{path} is not the file in {MANIFEST}", remedy="restore it, or run `odin seal` if it is right")


def manifest(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What the manifest of a folder says of each file, by its path in there: sha256, bytes. Empty without one."""
    try:
        files: dict[str, dict[str, Any]] = json.loads((Path(folder) / MANIFEST).read_text())["files"]
        return files
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{Path(folder) / MANIFEST} is damaged ({error!r})", remedy="restore it") from error


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
