"""Where each raw set comes from: addresses, the layouts it may lie in, the sums known for it."""

from dataclasses import dataclass
from typing import Any


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

    `layouts` are the folders and archives it may lie in, under a raw folder; `sums` hold for files inside;
    `by_hand` says what to do where no address works without a form or a player.
    """

    title: str
    page: str
    layouts: tuple[str, ...]
    downloads: tuple[Download, ...] = ()
    sums: tuple[tuple[str, str], ...] = ()
    by_hand: str | None = None


@dataclass(frozen=True)
class Released(Raw):
    """A set as the paper's authors released it: an archive of ready images.

    There are `count` images, `side` pixels a side, of which `border` on each side are black. `files` is the SHA-256 of
    all files as `archives.digests` has it, `pixels` that of the images as `prepared.digest` has it, where known.
    """

    count: int = 10_000
    side: int = 32
    border: int = 0
    files: str | None = None
    pixels: str | None = None


def _authors(title: str, folder: str, key: str, md5: str, by_hand: str | None = None, **known: Any) -> Released:
    archive = f"{folder}.tar.gz"
    return Released(
        f"{title}, as the paper's authors released it",
        "https://github.com/facebookresearch/odin",
        (folder, archive),
        (Download(archive, (f"https://www.dropbox.com/s/{key}/{archive}?dl=1",), f"md5:{md5}"),),
        by_hand=by_hand,
        **known,
    )


_MNIST = (
    ("train-images-idx3-ubyte", "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    ("train-labels-idx1-ubyte", "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ("t10k-images-idx3-ubyte", "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ("t10k-labels-idx1-ubyte", "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)

# Sums: CIFAR and MNIST archives and Omniglot, as torchvision publishes them; Tiny ImageNet, as Avalanche
# does. Sums of the files inside: MD5 of CIFAR-100's as torchvision publishes them; the SHA-256 were taken
# from files whose MD5 are the published ones. LSUN and notMNIST have no published sum: theirs are recorded
# only.
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
        _MNIST,
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
        ("isun-images",),  # the authors' archive has the folder iSUN
        by_hand="fetch the authors' iSUN.tar.gz with --published, or the 8,925 images yourself",
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
}

# MD5 of the archives: as the loaders of several other projects state them. SHA-256: of the files where they are the
# authors' own bytes; of the pixels where they are PNGs, whose bytes depend on who packs them. LSUN (crop) was not to be
# had: that its images are as Tiny ImageNet's, 32 x 32 in a border of two pixels, is inferred from others who state
# 36 x 36.
_REBUILD = "make it of Tiny ImageNet with --rebuild, or fetch it by hand"
RELEASED = {
    "tinyimagenet-crop": _authors(
        "Tiny ImageNet (crop)",
        "Imagenet",
        "avgm2u562itwpkl",
        "7c0827e4246c3718a5ee076e999e52e5",
        _REBUILD,
        side=36,
        border=2,
        pixels="ab935d544b3377d15b7a41bc975bb50f84231e89d41a1f83a95895c7b5e2057d",
    ),
    "tinyimagenet-resize": _authors(
        "Tiny ImageNet (resize)",
        "Imagenet_resize",
        "kp3my3412u5k9rl",
        "0f9ff11d45babf2eff5fe12281d1ac31",
        _REBUILD,
        files="5ebc763bc45bdb74df09e8b59cdf01afacd7f1497be64f8f390c16706a66d0de",
    ),
    "lsun-crop": _authors(
        "LSUN (crop)", "LSUN", "fhtsw1m3qxlwj6h", "458a0a0ab8e5f1cb4516d7400568e460", side=36, border=2
    ),
    "lsun-resize": _authors(
        "LSUN (resize)",
        "LSUN_resize",
        "moqh2wh8696c3yl",
        "278b7b31c8cb7e804a1465a8ce03a2dc",
        files="999204b310de81181c474cb06607cf2c6ee8b93e75117f1560c3cb85376ef38f",
    ),
    "isun": _authors(
        "iSUN",
        "iSUN",
        "ssz7qxfqae0cca5",
        "be77b0f2c26fda898afac5f99645ee70",
        count=8_925,
        files="304423b787e60e75dff37655974505b10ae1fed2233bda0a4711f26b374cf3fd",
    ),
}
