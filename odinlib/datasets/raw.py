"""Finding a raw set on the disk or fetching it: downloads that resume, and sums that are checked."""

import errno
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from odinlib.datasets.archives import RawFile
from odinlib.datasets.catalogue import Download, Raw
from odinlib.errors import Missing, UserError

_CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte


def locate(raw: Raw, source: str | Path | None, folder: Path) -> Path:
    """The folder or archive that holds a raw set: the user's, else what lies under `folder`, else fetched
    into it.

    Args:
        raw: which set.
        source: the set's own folder or archive, or a folder in which one of its layouts lies; `None` to look
            and fetch.
        folder: where downloads are kept.

    Raises:
        UserError: the source is not there, or the download failed.
        Missing: it can only be fetched by hand.
    """
    if source is not None:
        source = Path(source)
        if not source.exists():
            raise UserError(f"source {source} does not exist", expected=f"{raw.title}: {' or '.join(raw.layouts)}")
        return present(raw, source) or source
    if (found := present(raw, folder)) is not None:
        return found
    if not raw.downloads:
        raise Missing(
            f"{raw.title} cannot be fetched from here ({raw.page})",
            remedy=f"{raw.by_hand}, put it at {folder / raw.layouts[0]} or name it with --source",
        )
    for entry in raw.downloads:
        try:
            fetch(entry, folder)
        except Missing as error:
            how = f"{raw.by_hand or 'fetch it by hand'}, put it at {folder / entry.path}"
            raise Missing(str(error), remedy=f"{how} or name it with --source") from error
    return folder / (raw.downloads[0].path if len(raw.downloads) == 1 else raw.layouts[0])


def present(raw: Raw, folder: Path) -> Path | None:
    """Where the raw set lies under `folder`, if it does."""
    if any(not (folder / entry.path).exists() for entry in raw.downloads) and len(raw.downloads) > 1:
        # Part of a set of several files may have been fetched; its folder counts only with all of them in it.
        layouts = [layout for layout in raw.layouts if not any((folder / layout).glob("*.partial"))]
        layouts = [layout for layout in layouts if len(list((folder / layout).glob("*"))) >= len(raw.downloads)]
    else:
        layouts = list(raw.layouts)
    return next((folder / layout for layout in layouts if (folder / layout).exists()), None)


def verify(raw: Raw, files: Iterable[RawFile]) -> None:
    """Check raw files against the sums known for them, by name.

    Raises:
        UserError: one differs.
    """
    known = dict(raw.sums)
    for file in files:
        if expected := known.get(file.path.name):
            _check_sum(str(file.path), expected, hashlib.new(expected.partition(":")[0], file.data).hexdigest())


def fetch(entry: Download, folder: Path) -> Path:
    """Download a file into `folder`, going on where an earlier try stopped, and check its sum.

    What has come so far is kept under the name with `.partial`; the name itself holds the whole file or
    nothing.

    Raises:
        Missing: no address answered.
        UserError: the sum differs, or there is no space left.
    """
    target = folder / entry.path
    if target.exists():
        return target
    partial = target.with_name(target.name + ".partial")
    failures = []
    for url in entry.urls:
        try:
            _transfer(url, partial)
            break
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            failures.append(f"{url} ({getattr(error, 'reason', None) or error})")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                what = f"no space left to download {target}"
                raise UserError(what, remedy="free some space and run again: it goes on") from error
            raise UserError(f"cannot write {target} ({error.strerror or error})") from error
    else:
        raise Missing(f"cannot download {', nor '.join(failures)}")
    if entry.sum is not None:
        try:
            _check_sum(target.name, entry.sum, _sum_of(partial, entry.sum.partition(":")[0]))
        except UserError:
            partial.unlink()
            raise
    partial.replace(target)
    return target


def _transfer(url: str, partial: Path) -> None:
    """Append to `partial` what it lacks of the file at `url`; start over where the server cannot resume."""
    done = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "odinlib", **({"Range": f"bytes={done}-"} if done else {})}
    )
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
        if error.code == 416 and total and int(total[1]) == done:
            return  # the earlier try had everything
        if error.code != 416:
            raise
        partial.unlink()
        return _transfer(url, partial)
    with response:
        if response.status != 206:
            done = 0
        length = response.headers.get("Content-Length")
        total_size = done + int(length) if length else None
        bar = tqdm(
            total=total_size,
            initial=done,
            unit="B",
            unit_scale=True,
            desc=partial.name.removesuffix(".partial"),
            disable=None,
        )
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab" if done else "wb") as file, bar:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        if total_size is not None and partial.stat().st_size < total_size:
            raise ConnectionError(f"the connection closed after {partial.stat().st_size} of {total_size} bytes")


def _sum_of(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _check_sum(name: str, expected: str, found: str) -> None:
    algorithm, _, value = expected.partition(":")
    if found != value:
        raise UserError(
            f"{name} has {algorithm.upper()} {found}",
            expected=value,
            remedy="it is damaged or another version: fetch it again",
        )
