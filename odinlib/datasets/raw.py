"""Where the raw sets come from: their addresses, their published sums, and downloads that resume."""

import errno
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from odinlib.datasets.archives import RawFile
from odinlib.errors import Missing, UserError

_CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class Download:
    """A published file: where it lies under the raw folder, its addresses, and its sum where one is known.

    `sum` is `md5:...` or `sha256:...`, as published; without one the file's SHA-256 is recorded, not checked.
    """

    path: str
    urls: tuple[str, ...]
    sum: str | None = None


@dataclass(frozen=True)
class Raw:
    """One publisher's raw set.

    `layouts` are the folders and archives it may lie in, under a raw folder; `sums` hold for files inside; `by_hand`
    says what to do where no address works without a form or a player.
    """

    title: str
    page: str
    layouts: tuple[str, ...]
    downloads: tuple[Download, ...] = ()
    sums: tuple[tuple[str, str], ...] = ()
    by_hand: str | None = None


def _authors(archive: str, key: str, title: str, folder: str) -> Raw:
    url = f"https://www.dropbox.com/s/{key}/{archive}?dl=1"
    return Raw(
        f"{title}, as the paper's authors published it",
        "https://github.com/facebookresearch/odin",
        (folder, archive),
        (Download(archive, (url,)),),
    )


_SCENES = "a folder with one folder of images for each scene category (MiniPlaces, 128 x 128)"

# Sums: CIFAR and MNIST archives and Omniglot, as torchvision publishes them; Tiny ImageNet, as Avalanche does. Sums of the
# files inside: MD5 of CIFAR-100's as torchvision publishes them; the SHA-256 were taken from files whose MD5 are the
# published ones. The paper authors' archives, LSUN and notMNIST have no published sum: theirs are recorded only.
PUBLISHED = {
    "cifar10": Raw(
        "CIFAR-10",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
        (
            Download(
                "cifar-10-python.tar.gz",
                ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
                "md5:c58f30108f718f92721af3b95e74349a",
            ),
        ),
        (
            ("batches.meta", "sha256:f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb"),
            ("data_batch_1", "sha256:54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
            ("data_batch_2", "sha256:766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
            ("data_batch_3", "sha256:0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
            ("data_batch_4", "sha256:3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
            ("data_batch_5", "sha256:d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
            ("test_batch", "sha256:f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
        ),
    ),
    "cifar100": Raw(
        "CIFAR-100",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        ("cifar-100-python", "cifar-100-python.tar.gz"),
        (
            Download(
                "cifar-100-python.tar.gz",
                ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
                "md5:eb9058c3a382ffc7106e4002c42a8d85",
            ),
        ),
        (
            ("train", "md5:16019d7e3df5f24257cddd939b257f8d"),
            ("test", "md5:f0ef6b0ae62326f3e7ffdfab6717acfc"),
            ("meta", "md5:7973b15100ade9c7d40fb424638fde48"),
        ),
    ),
    "mnist": Raw(
        "MNIST",
        "http://yann.lecun.com/exdb/mnist/",
        ("MNIST/raw", "mnist"),
        tuple(
            Download(
                f"MNIST/raw/{name}.gz",
                (
                    f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz",
                    f"http://yann.lecun.com/exdb/mnist/{name}.gz",
                ),
                f"md5:{md5}",
            )
            for name, md5 in (
                ("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                ("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432"),
                ("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3"),
                ("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c"),
            )
        ),
        (
            ("train-images-idx3-ubyte", "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            ("train-labels-idx1-ubyte", "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            ("t10k-images-idx3-ubyte", "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            ("t10k-labels-idx1-ubyte", "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        ),
    ),
    "tinyimagenet": Raw(
        "Tiny ImageNet",
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        ("tiny-imagenet-200/test/images", "tiny-imagenet-200", "tiny-imagenet-200.zip"),
        (
            Download(
                "tiny-imagenet-200.zip",
                ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
                "md5:90528d7ca1a48142e341f4ef8d21d0de",
            ),
        ),
    ),
    "lsun": Raw(
        "LSUN, test set",
        "https://github.com/fyu/lsun",
        ("test_lmdb", "test_lmdb.zip", "lsun-test"),
        (Download("test_lmdb.zip", ("http://dl.yf.io/lsun/scenes/test_lmdb.zip",)),),
        by_hand="fetch test_lmdb.zip (172 MB) as https://github.com/fyu/lsun says",
    ),
    "isun": Raw(
        "iSUN",
        "http://turkergaze.cs.princeton.edu/",
        ("iSUN", "isun"),
        by_hand="fetch the authors' iSUN.tar.gz with --published, or the 8,925 images from a source of your own",
    ),
    "omniglot": Raw(
        "Omniglot, evaluation half",
        "https://github.com/brendenlake/omniglot",
        ("images_evaluation", "images_evaluation.zip"),
        (
            Download(
                "images_evaluation.zip",
                ("https://raw.githubusercontent.com/brendenlake/omniglot/master/python/images_evaluation.zip",),
                "md5:6b91aef0f799c5bb55b94e3f2daec811",
            ),
        ),
    ),
    "notmnist": Raw(
        "notMNIST, small",
        "http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html",
        ("notMNIST_small", "notMNIST_small.tar.gz"),
        (
            Download(
                "notMNIST_small.tar.gz",
                (
                    "http://yaroslavvb.com/upload/notMNIST/notMNIST_small.tar.gz",
                    "http://commondatastorage.googleapis.com/books1000/notMNIST_small.tar.gz",
                ),
            ),
        ),
        by_hand="fetch notMNIST_small.tar.gz (8,458,043 bytes) from a mirror",
    ),
    "scenes-lsun": Raw("MiniPlaces, LSUN's ten categories", "https://github.com/CSAILVision/miniplaces",
                       ("scenes-lsun-like",), by_hand=f"bring {_SCENES}"),
    "scenes-isun": Raw("MiniPlaces, mixed test images", "https://github.com/CSAILVision/miniplaces",
                       ("scenes-isun-like",), by_hand="bring a folder of mixed scenes (MiniPlaces, 128 x 128)"),
    "tinyimagenet-crop-published": _authors("Imagenet.tar.gz", "avgm2u562itwpkl", "Tiny ImageNet (crop)", "Imagenet"),
    "tinyimagenet-resize-published": _authors(
        "Imagenet_resize.tar.gz", "kp3my3412u5k9rl", "Tiny ImageNet (resize)", "Imagenet_resize"
    ),
    "lsun-crop-published": _authors("LSUN.tar.gz", "fhtsw1m3qxlwj6h", "LSUN (crop)", "LSUN"),
    "lsun-resize-published": _authors("LSUN_resize.tar.gz", "moqh2wh8696c3yl", "LSUN (resize)", "LSUN_resize"),
    "isun-published": _authors("iSUN.tar.gz", "ssz7qxfqae0cca5", "iSUN", "iSUN"),
}  # fmt: skip


def locate(raw: Raw, source: str | Path | None, folder: Path) -> Path:
    """The folder or archive that holds a raw set: the user's, else what lies under `folder`, else fetched into it.

    Args:
        raw: which set.
        source: the set's own folder or archive, or a folder in which one of its layouts lies; `None` to look and fetch.
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
            how = f"{raw.by_hand or 'fetch it by hand'}, put it at {folder / entry.path} or name it with --source"
            raise Missing(str(error), remedy=how) from error
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

    What has come so far is kept under the name with `.partial`; the name itself holds the whole file or nothing.

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
            target.parent.mkdir(parents=True, exist_ok=True)
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
    """Append to `partial` what is missing of the file at `url`, or start over where the server cannot resume."""
    done = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "odinlib", **({"Range": f"bytes={done}-"} if done else {})})
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
            total=total_size, initial=done, unit="B", unit_scale=True, desc=partial.name.removesuffix(".partial"), disable=None
        )
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
            f"{name} has {algorithm.upper()} {found}", expected=value, remedy="it is damaged or another version: fetch it again"
        )
