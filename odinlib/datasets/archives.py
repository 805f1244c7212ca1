"""Raw files as their publishers leave them: a folder, a zip or a tar, read in place and never trusted.

Nothing is unpacked onto the disk. A member whose path leaves the archive, a link, or a declared size over the
limit refuses the whole archive, in one line.
"""

import gzip
import hashlib
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from odinlib import artefacts
from odinlib.errors import UserError, reading

MAX_BYTES = 8 * 2**30  # of all members together: above the largest raw archive here (LSUN's test set, 0.2 GiB) by far
MAX_MEMBERS = 1_000_000
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError)

Match = Callable[[PurePosixPath], bool]


@dataclass(frozen=True)
class RawFile:
    """One raw file: its path inside the folder or archive, and its bytes."""

    path: PurePosixPath
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def read(source: str | Path, match: Match = lambda path: True) -> list[RawFile]:
    """The files of a folder or archive whose paths match, sorted by path.

    Paths are compared as strings, folder by folder (`test_0, test_1, test_10, ...`). Hidden files and the
    side files of macOS are left out.

    Args:
        source: a folder, or a `.zip`, `.tar`, `.tar.gz` or `.tgz` file.
        match: whether a path, relative to the folder or inside the archive, is wanted.

    Raises:
        UserError: there is no such source, it is damaged, or it must not be trusted.
    """
    source = Path(source)
    if source.is_dir():
        files = _from_folder(source, match)
    elif not source.exists():
        raise UserError(f"{source} does not exist", expected="a folder or an archive")
    elif source.name.lower().endswith(".zip"):
        files = _from_zip(source, match)
    elif source.name.lower().endswith(ARCHIVES):
        files = _from_tar(source, match)
    else:
        raise UserError(f"{source} is no archive known here", expected=f"a folder or one of {', '.join(ARCHIVES)}")
    return sorted(files, key=lambda file: file.path.parts)


def digests(files: list[RawFile], most: int = 16) -> dict[str, str]:
    """The SHA-256 of each file, or, of more than `most` files, one digest over their sorted names and
    contents.

    The digest is that of the lines `<sha256>  <path>`, as `sha256sum` prints them, with paths relative to the
    deepest folder that holds all the files; a folder and its archive have the same.
    """
    if len(files) <= most:
        return {file.path.name: file.sha256 for file in files}
    root = os.path.commonpath([str(file.path.parent) for file in files])
    lines = sorted(f"{file.sha256}  {file.path.relative_to(root).as_posix()}\n" for file in files)
    return {f"{len(files)} files": hashlib.sha256("".join(lines).encode()).hexdigest()}


def gunzip(file: RawFile) -> RawFile:
    """The file itself, decompressed where its name ends in `.gz`."""
    if file.path.suffix != ".gz":
        return file
    try:
        with gzip.open(io.BytesIO(file.data)) as stream:
            data = stream.read(MAX_BYTES + 1)
    except _BROKEN as error:
        raise UserError(f"{file.path} is damaged ({error})", remedy="fetch it again") from error
    except OSError as error:
        raise UserError(f"{file.path} is damaged ({error})", remedy="fetch it again") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{file.path} holds more than {MAX_BYTES} bytes", remedy="it is refused")
    return RawFile(file.path.with_suffix(""), data)


def _from_folder(source: Path, match: Match) -> Iterator[RawFile]:
    for folder, _, names in os.walk(source):
        for name in names:
            path = PurePosixPath((Path(folder) / name).relative_to(source).as_posix())
            if _visible(path) and match(path):
                yield RawFile(path, artefacts.content(Path(folder) / name))


def _from_zip(source: Path, match: Match) -> Iterator[RawFile]:
    with reading(source, "fetch it again"), zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        _check(source, [member.filename for member in members], sum(member.file_size for member in members))
        for member in members:
            path = PurePosixPath(member.filename)
            if not member.is_dir() and _visible(path) and match(path):
                yield RawFile(path, archive.read(member))


def _from_tar(source: Path, match: Match) -> Iterator[RawFile]:
    # One pass, because going back in a compressed tar means starting over.
    decompress = open if source.suffix.lower() == ".tar" else gzip.open
    size = 0
    with (
        reading(source, "fetch it again"),
        decompress(source, "rb") as stream,
        tarfile.open(fileobj=stream, mode="r:") as archive,
    ):
        for count, member in enumerate(archive):
            size += member.size
            _check(source, [member.name], size, count)
            if member.issym() or member.islnk():
                raise UserError(f"{source} holds a link ({member.name!r})", remedy="it is refused")
            path = PurePosixPath(member.name)
            if member.isfile() and _visible(path) and match(path):
                content = archive.extractfile(member)
                assert content is not None  # a regular file has one
                yield RawFile(path, content.read())
        while stream.read(1 << 20):  # to the end, where the sum of a compressed file is
            _check(source, [], stream.tell())


def _check(source: Path, names: list[str], size: int, count: int = 0) -> None:
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or parts[:1] == ("/",) or name[1:2] == ":":
            raise UserError(f"{source} holds a path outside itself ({name!r})", remedy="it is refused")
    if size > MAX_BYTES or max(len(names), count) > MAX_MEMBERS:
        raise UserError(f"{source} holds more than {MAX_BYTES} bytes or {MAX_MEMBERS} files", remedy="it is refused")


def _visible(path: PurePosixPath) -> bool:
    return not any((part.startswith(".") and part != ".") or part == "__MACOSX" for part in path.parts)
