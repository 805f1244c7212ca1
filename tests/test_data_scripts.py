"""The data scripts, on small raw sets in the publishers' own formats: what they make, refuse and leave."""

import base64
import dataclasses
import errno
import gzip
import hashlib
import http.server
import importlib
import importlib.util
import io
import json
import lzma
import os
import pickle
import struct
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from odinlib import cli
from odinlib.datasets import (
    archives,
    catalogue,
    formats,
    imagefiles,
    jpeg,
    lmdb,
    prepare,
    prepared,
    raw,
    released,
    resample,
)
from odinlib.errors import Missing, UserError
from odinlib.reference import released as measured

SCRIPTS = Path(__file__).resolve().parent.parent / "data_scripts"
RANDOM = np.random.default_rng(0)

# A real LMDB file of 60 PNGs (48 x 48, grey 100; number 7, on an overflow page, grey 200), on two leaves and
# a branch.
LSUN = (
    "T>t<81poj4|NsC0{{R4MfOQH}A-GuKUW`~G;Ez85IR!^?veD{Af*hVXs#%W1f)fwmiQ)qt`?wAIqV3xIChJ=g#N%Qc>OYY77S(cR"
    "%)x@S$nWYZ3u~T4hVXsz_n*5*>>=R^v}0pKo)H>B>St&fPq!9c#0yPpVl71_tT8C9HAnsZRB>ja?4AgaY&^|AvUyglk?PF3HZ@I<"
    "CNs;yI$FX0JJV$ZKAhUwDLO{*+FSymfaBZLdG8|x^IvkU&UxV(DMVK5TMy^1#@o;|98K-5rCDQj`*G81YCcF*&magLg_4?rC^*|b"
    "OfJgHs8Bp2yXW8Fiyfx3c!V7RCh^Hfi<$x+Stk?^L4PkD53*6;1MmEr9k8>%M<CX1JB?As;5}kN9VEEb>FTGY3UjCXOsd}SH4J7B"
    "qxhFuWzSv<VCh8d)T^nBA1PkVKj%lYX>Wa;m|uz;mf7n{2O107WRYj3_J$Y4YH<_!0#_^o;bnZ>1DYBqu5md|Q8l>yjt-0^6`2}$"
    "yOX=tR4mt-$pCJFO>#i)ql1x0F>?F8WBH*PNHc4KfGiX{!bABQvKkMQQggb{qe^!@ZEJz?o1-bB1Pk5&9wSRnjU$oC45gj|GaL5F"
    "2ErB1!q_K?bE3E98#y<JHg=xpC344_AMs8S0>(7ucs_rGH-bHGIP{B+v$rSz{l_tE"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder; the sums of the real files are not expected of the synthetic ones."""
    monkeypatch.setenv("ODINLIB_DATA", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(SCRIPTS)
    for key, entry in catalogue.PUBLISHED.items():
        monkeypatch.setitem(catalogue.PUBLISHED, key, dataclasses.replace(entry, sums=(), downloads=()))
    for key, entry in catalogue.RELEASED.items():
        free = dataclasses.replace(entry, downloads=(), count=3, files=None, pixels=None)
        monkeypatch.setitem(catalogue.RELEASED, key, free)
    return tmp_path / "data"


def run(script, *arguments, code=0):
    result = CliRunner().invoke(importlib.import_module(script).main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def refusal(script, *arguments):
    """The one line that a script ends with."""
    error = run(script, *arguments, code=1).stderr
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def npz(folder):
    return sorted(path.name for path in folder.glob("*"))


def png(pixels, path=None):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def pixels(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


# --- CIFAR --------------------------------------------------------------------------------------------------


def cifar10(place):
    place.mkdir(parents=True)
    batches = {}
    for name in ["test_batch", *(f"data_batch_{number}" for number in range(1, 6))]:
        batches[name] = {b"data": pixels(4, 3072), b"labels": [3, 0, 9, 1], b"batch_label": b"some"}
        (place / name).write_bytes(pickle.dumps(batches[name], protocol=2))
    (place / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"c%d" % i for i in range(10)]}, protocol=2))
    return batches


def cifar100(place):
    place.mkdir(parents=True)
    for name, count in (("train", 500), ("test", 200)):
        batch = {b"data": pixels(count, 3072), b"fine_labels": [i % 100 for i in range(count)]}
        batch[b"data"][:, 0] = batch[b"fine_labels"]  # so that an image tells its class
        (place / name).write_bytes(pickle.dumps(batch, protocol=2))
    (place / "meta").write_bytes(
        pickle.dumps({b"fine_label_names": [b"class%02d" % i for i in range(100)]}, protocol=2)
    )


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_keeps_the_order_and_the_colours_of_the_pickles(folder, tmp_path, packed):
    batches = cifar10(tmp_path / "raw/cifar-10-batches-py")
    source = tmp_path / "raw"
    if packed:
        source = tmp_path / "cifar-10-python.tar.gz"
        with tarfile.open(source, "w:gz") as archive:
            archive.add(tmp_path / "raw/cifar-10-batches-py", "cifar-10-batches-py")
    run("cifar10", "--source", source)
    test, train = prepared.load("cifar10"), prepared.load("cifar10", "train")
    assert np.array_equal(test.images[1, :, :, 2].ravel(), batches["test_batch"][b"data"][1, 2048:])
    assert test.labels.tolist() == [3, 0, 9, 1]
    assert np.array_equal(train.images[8, :, :, 0].ravel(), batches["data_batch_3"][b"data"][0, :1024])
    assert len(train) == 20 and test.classes[9] == "c9"
    digest = hashlib.sha256((tmp_path / "raw/cifar-10-batches-py/test_batch").read_bytes()).hexdigest()
    assert test.provenance["raw_sha256"]["test_batch"] == digest
    assert npz(folder) == ["cifar10-train.npz", "cifar10.npz"]


def test_a_batch_that_is_not_the_published_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ODINLIB_DATA", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(SCRIPTS)
    cifar10(tmp_path / "cifar-10-batches-py")
    assert "has SHA256" in refusal("cifar10", "--source", tmp_path)
    assert not (tmp_path / "data").exists()


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-was-here",)


@pytest.mark.parametrize("evil", [Evil(), {b"data": Evil()}, [np.load], b"text"])
def test_a_pickle_runs_nothing(folder, tmp_path, monkeypatch, evil):
    monkeypatch.chdir(tmp_path)
    cifar10(tmp_path / "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-py/data_batch_2").write_bytes(pickle.dumps(evil, protocol=2))
    assert "data_batch_2" in refusal("cifar10", "--source", tmp_path)
    assert not (tmp_path / "evil-was-here").exists()


def test_cifar80_and_cifar20_divide_the_classes(folder, tmp_path):
    cifar100(tmp_path / "cifar-100-python")
    run("cifar100", "--source", tmp_path)
    run("cifar80_20", "--source", tmp_path, "--seed", 5)
    whole, large, small = (prepared.load(name) for name in ("cifar100", "cifar80", "cifar20"))
    assert (len(whole.classes), len(large.classes), len(small.classes)) == (100, 80, 20)
    assert sorted(large.classes + small.classes) == list(whole.classes)
    assert len(large) == 160 and len(prepared.load("cifar20", "train")) == 100
    for part in (large, small):
        assert part.provenance["seed"] == 5
        assert [f"class{number:02d}" for number in part.images[:, 0, 0, 0]] == [part.classes[i] for i in part.labels]
        assert [f"class{number:02d}" for number in part.provenance["cifar100_classes"]] == list(part.classes)
    run("cifar80_20", "--source", tmp_path, "--seed", 6)
    assert prepared.load("cifar20").classes != small.classes


def test_cifar10_bw_is_grey_and_small(folder, tmp_path):
    batches = cifar10(tmp_path / "cifar-10-batches-py")
    run("cifar10_bw", "--source", tmp_path)
    found = prepared.load("cifar10-bw")
    colours = batches["test_batch"][b"data"][2].reshape(3, 32, 32).astype(float)
    assert found.images.shape == (4, 28, 28, 1)
    assert found.images[2].mean() == pytest.approx(np.tensordot([0.299, 0.587, 0.114], colours, 1).mean(), abs=1)
    assert found.provenance["filter"] == "bilinear-antialias"


# --- The grey sets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_from_idx_files(folder, tmp_path, packed):
    images = {"t10k": pixels(3, 28, 28), "train": pixels(5, 28, 28)}
    place = tmp_path / "MNIST/raw"
    place.mkdir(parents=True)
    for stem, array in images.items():
        for kind, head, body in (
            ("images-idx3", struct.pack(">4I", 2051, *array.shape), array.tobytes()),
            ("labels-idx1", struct.pack(">2I", 2049, len(array)), bytes(range(len(array)))),
        ):
            data = head + body
            (place / f"{stem}-{kind}-ubyte{'.gz' if packed else ''}").write_bytes(
                gzip.compress(data) if packed else data
            )
    run("mnist", "--source", tmp_path)
    assert np.array_equal(prepared.load("mnist").images[..., 0], images["t10k"])
    assert prepared.load("mnist", "train").labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_truncated_idx_file_is_refused(folder, tmp_path, name):
    test_mnist_from_idx_files(folder, tmp_path, False)
    file = tmp_path / "MNIST/raw" / name
    for keep in (0, 3, 6, len(file.read_bytes()) - 1):
        file.write_bytes(file.read_bytes()[:keep])
        assert name in refusal("mnist", "--source", tmp_path)


def test_omniglot_is_white_on_black(folder, tmp_path):
    drawing = np.ones((105, 105), bool)
    drawing[40:60, 10:95] = False  # ink
    for path in (
        "Greek/character02/0002_01.png",
        "Greek/character01/0001_01.png",
        "Aztec/character01/0003_01.png",
    ):
        png(drawing, tmp_path / "images_evaluation" / path)
    run("omniglot", "--source", tmp_path)
    found = prepared.load("omniglot")
    assert found.images.shape == (3, 28, 28, 1)
    assert found.images[0, 0, 0, 0] == 0 and found.images[0, 13, 13, 0] == 255
    assert found.classes == ("Aztec/character01", "Greek/character01", "Greek/character02")
    assert found.labels.tolist() == [0, 1, 2]


def test_notmnist_skips_and_counts_what_cannot_be_read(folder, tmp_path):
    with tarfile.open(tmp_path / "notMNIST_small.tar.gz", "w:gz") as archive:
        for name, data in (
            ("notMNIST_small/B/b.png", png(pixels(28, 28))),
            ("notMNIST_small/A/a.png", png(pixels(28, 28))),
            ("notMNIST_small/A/bad.png", b""),
            ("notMNIST_small/A/worse.png", png(pixels(28, 28))[:60]),
            ("notMNIST_small/A/other.png", png(pixels(30, 28))),
            ("notMNIST_small/A/._a.png", b"of macOS"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    run("notmnist", "--source", tmp_path / "notMNIST_small.tar.gz")
    found = prepared.load("notmnist")
    assert found.labels.tolist() == [0, 1] and found.classes == tuple("ABCDEFGHIJ")
    assert found.provenance["skipped"] == 3


# --- Crops and resizes --------------------------------------------------------------------------------------


def tiny(place, count=12):
    images = {f"test_{number}.png": pixels(64, 64, 3) for number in range(count)}
    images["test_3.png"] = pixels(64, 64)  # some are grey
    for name, image in images.items():
        png(image, place / "tiny-imagenet-200/test/images" / name)
    return {name: image if image.ndim == 3 else image[..., None].repeat(3, -1) for name, image in images.items()}


def test_tiny_imagenet_takes_names_sorted_as_strings(folder, tmp_path):
    images = tiny(tmp_path)
    png(pixels(64, 64, 3), tmp_path / "tiny-imagenet-200/val/images/val_0.png")
    run("tinyimagenet", "--source", tmp_path)
    crops, resizes = prepared.load("tinyimagenet-crop-drawn"), prepared.load("tinyimagenet-resize-nearest")
    for index, name in enumerate(
        ["test_0.png", "test_1.png", "test_10.png", "test_11.png", "test_2.png", "test_3.png"]
    ):
        assert np.array_equal(resizes.images[index], images[name][1::2, 1::2])
        windows = np.lib.stride_tricks.sliding_window_view(images[name], (32, 32, 3)).reshape(-1, 32, 32, 3)
        assert (windows == crops.images[index]).all((1, 2, 3)).any()
    assert len(crops) == len(resizes) == 12
    assert (crops.provenance["seed"], crops.provenance["filter"]) == (0, None)
    assert (resizes.provenance["seed"], resizes.provenance["filter"]) == (None, "nearest")


def test_a_filter_adds_a_set_of_its_own(folder, tmp_path):
    images = tiny(tmp_path, 5)
    run("tinyimagenet", "--source", tmp_path, "--filter", "box")
    assert npz(folder) == ["tinyimagenet-resize-box.npz"]
    found = prepared.load("tinyimagenet-resize-box")
    assert np.array_equal(found.images[0], resample.resize(images["test_0.png"], 32, "box"))
    assert found.title == "Tiny ImageNet (resize), box, made here"


def test_crops_follow_the_seed(folder, tmp_path):
    tiny(tmp_path, 6)
    digests = []
    for seed in (0, 1, 0):
        run("tinyimagenet", "--source", tmp_path, "--seed", seed)
        digests.append(prepared.provenance("tinyimagenet-crop-drawn")["sha256"])
    assert digests[0] == digests[2] != digests[1]


def test_a_folder_and_its_archive_give_the_same(folder, tmp_path):
    tiny(tmp_path)
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
        for path in sorted(tmp_path.glob("tiny-imagenet-200/test/images/*"), reverse=True):
            archive.write(path, path.relative_to(tmp_path))
    records = []
    for source in (tmp_path / "tiny-imagenet-200", tmp_path / "tiny-imagenet-200.zip"):
        run("tinyimagenet", "--source", source)
        records.append(prepared.provenance("tinyimagenet-crop-drawn"))
    assert records[0]["sha256"] == records[1]["sha256"]
    assert records[0]["raw_sha256"] == records[1]["raw_sha256"]


@pytest.mark.parametrize("packed", [False, True])
def test_lsun_is_read_from_its_database(folder, tmp_path, packed):
    data = lzma.decompress(base64.b85decode("".join(LSUN)))
    source = tmp_path / "test_lmdb"
    source.mkdir()
    (source / "data.mdb").write_bytes(data)
    if packed:
        with zipfile.ZipFile(tmp_path / "test_lmdb.zip", "w") as archive:
            archive.write(source / "data.mdb", "test_lmdb/data.mdb")
        source = tmp_path / "test_lmdb.zip"
    run("lsun", "--source", source)
    drawn = prepared.load("lsun-crop-drawn").images
    assert drawn.mean((1, 2, 3)).tolist() == [200 if i == 7 else 100 for i in range(60)]
    assert prepared.load("lsun-resize-nearest").images.shape == (60, 32, 32, 3)


def test_the_database_reader_knows_keys_and_damage():
    data = lzma.decompress(base64.b85decode("".join(LSUN)))
    assert [key for key, _ in lmdb.items(data)] == [b"%02d" % number for number in range(60)]
    for damaged in (b"", data[:5000], data[: len(data) // 2], b"\0" * len(data)):
        with pytest.raises(UserError, match=r"data\.mdb is damaged"):
            list(lmdb.items(damaged))


def test_isun_says_how_it_can_be_had(folder):
    line = refusal("isun")
    assert "--published" in line and str(folder / "raw") in line
    assert not folder.exists()


def framed(image, border=2):
    return np.pad(image, ((border, border), (border, border), (0, 0)))


def released_crops(place, count=3):
    """The authors' folder of crops; number 10 comes second."""
    crops = {number: pixels(32, 32, 3) | 1 for number in (0, 1, 10)[:count]}
    for number, crop in crops.items():
        png(framed(crop), place / f"Imagenet/test/{number}.png")
    return np.stack([crops[number] for number in sorted(crops, key=str)])


def jpeg_file(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg.encode(image, 75, "turbo"))
    return path.read_bytes()


def test_the_released_crops_are_taken_whole_and_once_more_without_their_border(folder, tmp_path):
    crops = released_crops(tmp_path)
    run("tinyimagenet", "--published", "--source", tmp_path)
    assert npz(folder) == ["tinyimagenet-crop-inner.npz", "tinyimagenet-crop.npz"]
    whole, inner = prepared.load("tinyimagenet-crop"), prepared.load("tinyimagenet-crop-inner")
    assert whole.shape == (36, 36, 3) and np.array_equal(whole.images, np.stack([framed(crop) for crop in crops]))
    assert np.array_equal(inner.images, crops)
    assert (whole.provenance["border"], inner.provenance["border"]) == (2, 0)
    assert "authors" in whole.provenance["filter"] and whole.provenance["seed"] is None
    assert (whole.title, inner.title) == ("Tiny ImageNet (crop)", "Tiny ImageNet (crop), without its border")


def test_released_sets_are_read_from_their_archives(folder, tmp_path):
    with tarfile.open(tmp_path / "iSUN.tar.gz", "w:gz") as archive:
        for number in range(3):
            data = jpeg.encode(pixels(32, 32, 3), 75, "turbo")
            member = tarfile.TarInfo(f"iSUN/iSUN_patches/{number}.jpeg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    run("isun", "--published", "--decoder", "turbo", "--source", tmp_path / "iSUN.tar.gz")
    found = prepared.load("isun-turbo")
    assert np.array_equal(found.images[2], np.asarray(Image.open(io.BytesIO(data))))
    assert found.provenance["decoder"].startswith("libjpeg") and "Pillow" in found.provenance["decoder"]
    assert found.title == "iSUN, decoded by libjpeg-turbo"
    assert "Imagenet.tar.gz" in refusal("tinyimagenet", "--published", "--source", tmp_path / "iSUN.tar.gz")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda place: (place / "10.png").unlink(), "there are 2 images; expected 3"),
        (lambda place: (place / "10.png").write_bytes(b""), "10.png is no image of that size; expected 36 x 36"),
        (lambda place: png(pixels(36, 38, 3), place / "1.png"), "1.png is no image of that size"),
        (lambda place: png(framed(pixels(34, 34, 3), 1), place / "1.png"), "1.png is not black at its edges"),
    ],
)
def test_what_is_not_the_released_set_is_refused(folder, tmp_path, spoil, words):
    released_crops(tmp_path)
    spoil(tmp_path / "Imagenet/test")
    assert words in refusal("tinyimagenet", "--published", "--source", tmp_path)
    assert not folder.exists()


def test_released_sets_have_the_known_digests_or_are_refused(folder, tmp_path, monkeypatch):
    released_crops(tmp_path)
    for number in range(3):
        jpeg_file(pixels(32, 32, 3), tmp_path / f"LSUN_resize/LSUN_resize/{number}.jpg")
    real = catalogue.RELEASED["lsun-resize"]
    monkeypatch.setitem(catalogue.RELEASED, "lsun-resize", dataclasses.replace(real, files="0" * 64))
    line = refusal("lsun", "--published", "--source", tmp_path)
    assert "the SHA-256 of the files differs; expected 000" in line
    real = catalogue.RELEASED["tinyimagenet-crop"]
    monkeypatch.setitem(catalogue.RELEASED, "tinyimagenet-crop", dataclasses.replace(real, pixels="0" * 64))
    assert "the SHA-256 of the images differs" in refusal("tinyimagenet", "--published", "--source", tmp_path)
    assert "expected released sets as they are" in refusal("isun", "--published", "--border", 2)


def test_released_images_are_not_resized_again(folder, tmp_path, monkeypatch):
    for number in range(17):
        jpeg_file(pixels(32, 32, 3), tmp_path / f"iSUN/iSUN_patches/{number}.jpeg")
    (known,) = archives.digests(archives.read(tmp_path / "iSUN")).values()
    real = catalogue.RELEASED["isun"]
    monkeypatch.setitem(catalogue.RELEASED, "isun", dataclasses.replace(real, files=known))
    assert "add --published" in refusal("isun", "--source", tmp_path / "iSUN")


def test_a_set_of_an_older_name_is_not_taken_for_the_released_one(folder, tmp_path):
    tiny(tmp_path, 4)
    run("tinyimagenet", "--source", tmp_path)
    record = prepared.load("tinyimagenet-crop-drawn")
    prepare.write("tinyimagenet-crop", record.images, files=[], source="here", seed=0)
    with pytest.raises(
        UserError, match=r"tinyimagenet-crop\.npz is not the set that the authors released.*--published"
    ):
        prepared.load("tinyimagenet-crop")


def test_border_and_jpeg_are_options_and_part_of_the_name(folder, tmp_path):
    images = tiny(tmp_path, 4)
    for options in ([], ["--border", 2], ["--jpeg", 75], ["--jpeg", 75, "--border", 2]):
        run("tinyimagenet", "--source", tmp_path, *options)
    plain, border, lossy, both = (
        prepared.load(f"tinyimagenet-resize-nearest{suffix}")
        for suffix in ("", "-border2", "-jpeg75", "-jpeg75-border2")
    )
    assert np.array_equal(border.images[1], framed(images["test_1.png"][1::2, 1::2]))
    again = jpeg.decode(jpeg.encode(images["test_1.png"][1::2, 1::2], 75, "turbo"), "turbo")
    assert np.array_equal(lossy.images[1], again) and not np.array_equal(lossy.images, plain.images)
    assert np.array_equal(both.images[1], framed(again))
    assert (both.provenance["jpeg"], both.provenance["border"]) == (75, 2)
    assert "libjpeg" in both.provenance["decoder"]
    assert both.title == "Tiny ImageNet (resize), nearest, made here, JPEG of quality 75, in a border of 2 pixels"
    drawn = (prepared.load(f"tinyimagenet-crop-drawn{suffix}").images for suffix in ("", "-border2"))
    assert np.array_equal(*(images if images.shape[1] == 32 else images[:, 2:-2, 2:-2] for images in drawn))


# --- Made again ---------------------------------------------------------------------------------------------


def test_crops_are_found_where_they_were_taken():
    images = pixels(5, 20, 24, 3)
    images[4] = images[1]  # two images that are one
    taken = [(0, 3, 5), (1, 8, 0), (4, 8, 0), (2, 8, 12), (3, 0, 0)]
    crops = np.stack([images[i, y : y + 12, x : x + 12] for i, y, x in taken])
    crops = np.concatenate([crops, pixels(1, 12, 12, 3), crops[3:4]])
    crops[4, 5, 5, 1] ^= 1
    nowhere = [-1, -1, -1]
    found = released.find(images, crops).tolist()
    assert found == [*map(list, taken[:4]), nowhere, nowhere, [2, 8, 12]]
    assert released.compared(crops[:5], crops[:5] ^ 3)["equal"] == 0
    near = {"images": 2, "equal": 1, "largest": 1, "mean": round(1 / (2 * 12 * 12 * 3), 4)}
    changed = crops[:2].copy()
    changed[0, 0, 0, 0] ^= 1
    assert released.compared(crops[:2], changed) == near


def test_every_image_was_cropped_once_at_any_place():
    found = released.windows()
    assert sorted(found[:, 0]) == list(range(10_000))
    assert found[:, 1:].min() == 0 and found[:, 1:].max() == 64 - 32
    for place in found[:, 1:].T:
        assert np.bincount(place).min() > 230  # 303 of 33 places on average


def test_what_was_measured_of_the_released_sets_is_of_these_files():
    made = measured.measured()["raw_sha256"]
    known = {name: entry.files for name, entry in catalogue.RELEASED.items() if entry.files}
    assert len(known) == 3 and known.items() <= {name: next(iter(of.values())) for name, of in made.items()}.items()
    resize = measured.making("resize").set_index(["decoder", "encoder"])
    whole = resize[resize.files == 10_000]
    assert set(whole.index) == {
        *((f"ijg 9{letter}", "ijg 9b") for letter in "abcdef"),
        *(("ijg 9b", f"ijg {version}") for version in ("7", "8", "8d", "9", "9a", "9b", "9c", "9d")),
    }
    crop = measured.making("crop").set_index("decoder")
    assert set(crop.index[crop.equal == 10_000]) == {f"ijg 9{letter}" for letter in "abcdef"}
    assert crop.equal["turbo"] == 214 and resize.files["turbo", "turbo"] == 321
    filters = measured.making("filter").set_index("filter")
    assert filters.index[filters.equal > 0].tolist() == ["nearest"] and set(filters.index) == set(resample.FILTERS)
    with pytest.raises(UserError, match="did you mean 'resize'"):
        measured.making("resizes")


@pytest.fixture
def sources(folder, tmp_path, monkeypatch):
    """Three images of Tiny ImageNet's kind, one grey, and where their crops were taken."""
    pytest.importorskip("jpeglib")
    images = {}
    for number in range(3):
        file = tmp_path / f"tiny-imagenet-200/test/images/test_{number}.JPEG"
        images[number] = jpeg_file(pixels(64, 64, 1 if number == 2 else 3), file)
    monkeypatch.setattr(released, "TABLE", tmp_path / "places.npz")
    np.savez(tmp_path / "places.npz", image=[1, 2, 0], y=[0, 32, 7], x=[3, 9, 32])
    return images


def test_the_released_sets_are_made_again_of_tiny_imagenet(folder, sources, tmp_path):
    run("tinyimagenet", "--rebuild", "--source", tmp_path)
    assert npz(folder) == [f"tinyimagenet-{kind}.npz" for kind in ("crop-inner", "crop", "resize")]
    whole, inner, small = (prepared.load(f"tinyimagenet-{kind}") for kind in ("crop", "crop-inner", "resize"))
    first = jpeg.decode(sources[1], "ijg")[:32, 3:35]
    assert np.array_equal(inner.images[0], first) and np.array_equal(whole.images[0], framed(first))
    grey = jpeg.decode(sources[2], "ijg")
    assert np.array_equal(inner.images[1], grey[32:, 9:41].repeat(3, -1))
    again = jpeg.decode(jpeg.encode(grey[1::2, 1::2], 75, "ijg"), "ijg")
    assert np.array_equal(small.images[2], again.repeat(3, -1))
    assert small.provenance["made_again"] == small.provenance["decoder"] == jpeg.version("ijg")
    assert list(small.provenance["raw_sha256"]) == ["test_0.JPEG", "test_1.JPEG", "test_2.JPEG"]
    assert "cs231n" in small.provenance["source"] and whole.provenance["border"] == 2


def test_what_is_made_again_is_checked_as_if_it_had_been_released(folder, sources, tmp_path, monkeypatch):
    (tmp_path / "tiny-imagenet-200/test/images/test_1.JPEG").unlink()
    assert "1 of the 3 test images of Tiny ImageNet are not there (test_1.JPEG)" in refusal(
        "tinyimagenet", "--rebuild", "--source", tmp_path
    )
    jpeg_file(pixels(64, 64, 3), tmp_path / "tiny-imagenet-200/test/images/test_1.JPEG")
    for name, known in (("tinyimagenet-crop", "pixels"), ("tinyimagenet-resize", "files")):
        entry = dataclasses.replace(catalogue.RELEASED[name], **{known: "0" * 64})
        monkeypatch.setitem(catalogue.RELEASED, name, entry)
    assert "the SHA-256 of the images differs" in refusal("tinyimagenet", "--rebuild", "--source", tmp_path)


def test_all_makes_again_what_was_released_where_only_its_source_is_there(folder, sources, tmp_path):
    run("all", "--source", tmp_path)
    assert {"tinyimagenet-crop.npz", "tinyimagenet-crop-inner.npz", "tinyimagenet-resize.npz"} < set(npz(folder))


def test_how_the_released_sets_were_made_is_measured(folder, sources, tmp_path, monkeypatch):
    run("tinyimagenet", "--rebuild", "--source", tmp_path)
    for kind, place in (("crop", "Imagenet/test"), ("resize", "Imagenet_resize/Imagenet_resize")):
        for file in released.remade(f"tinyimagenet-{kind}", archives.read(tmp_path / "tiny-imagenet-200")):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            (tmp_path / place / file.path.name).write_bytes(file.data)
    for place in ("LSUN_resize/LSUN_resize", "iSUN/iSUN_patches"):
        for number in range(3):
            jpeg_file(pixels(32, 32, 3), tmp_path / place / f"{number}.jpg")
    spec = importlib.util.spec_from_file_location("released_script", SCRIPTS / "released.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "WAYS", (("turbo", "9b"), ("ijg", "6b"), ("ijg", "9b")))
    result = CliRunner().invoke(
        script.main, ["--source", str(tmp_path), "-o", str(tmp_path / "x.json"), "--table", str(tmp_path / "x.npz")]
    )
    assert result.exit_code == 0, result.output
    assert "3 of 3 found" in result.output
    with np.load(tmp_path / "x.npz") as one, np.load(tmp_path / "places.npz") as other:
        assert all(np.array_equal(one[column], other[column]) for column in ("image", "y", "x"))
    found = json.loads((tmp_path / "x.json").read_text())
    assert set(found) == {"made", "resize", "filter", "crop", "decoder"}
    rows = {(row["decoder"], row["encoder"]): row for row in found["resize"]}
    assert rows["ijg 9b", "ijg 9b"]["files"] == rows["ijg 9b", "ijg 9b"]["equal"] == 3
    assert rows["turbo", "turbo"]["files"] == rows["turbo", "turbo"]["equal"] == 1  # the grey one
    assert ("ijg 6b", "ijg 9b") in rows and rows["ijg 9b", "none"]["mean"] > 1
    assert [row["filter"] for row in found["filter"] if row["equal"] == 3] == ["nearest"]
    assert {row["decoder"]: row["equal"] for row in found["crop"]} == {"turbo": 1, "ijg 6b": 1, "ijg 9b": 3}
    assert [row["set"] for row in found["decoder"]] == list(script.SETS)


# --- JPEGs by two libraries ---------------------------------------------------------------------------------


def waves():
    """An image of 16 x 16 whose colours change fast, the same on every machine."""
    y, x = np.mgrid[:16, :16]
    return np.stack([(x * 37 + y * 11) % 256, (x * y * 5) % 256, (x * 3 + y * 29) % 256], -1).astype(np.uint8)


def test_the_two_libraries_differ_in_colour_and_agree_in_grey():
    pytest.importorskip("jpeglib")
    files = {library: jpeg.encode(waves(), 75, library) for library in jpeg.LIBRARIES}
    assert files["ijg"] != files["turbo"]
    decoded = {library: jpeg.decode(files["ijg"], library) for library in jpeg.LIBRARIES}
    assert np.abs(decoded["ijg"].astype(int) - decoded["turbo"]).max() > 8
    grey = waves()[..., :1]
    assert jpeg.encode(grey, 75, "ijg") == jpeg.encode(grey, 75, "turbo")
    file = jpeg.encode(grey, 75, "ijg")
    assert np.array_equal(jpeg.decode(file, "ijg"), jpeg.decode(file, "turbo"))
    assert jpeg.decode(file, "ijg").shape == (16, 16, 1)


def test_ijg_decodes_and_encodes_as_version_9b():
    jpeglib = pytest.importorskip("jpeglib")
    jpeglib.version.set("6b")  # whatever others have chosen
    file = jpeg.encode(waves(), 75, "ijg")
    assert hashlib.sha256(file).hexdigest().startswith("a61fb30b59e1")
    assert hashlib.sha256(jpeg.decode(file, "ijg").tobytes()).hexdigest().startswith("f33954a7b4ac")
    assert jpeg.version("ijg").startswith("IJG libjpeg 9b (jpeglib ")


def test_the_released_jpegs_are_decoded_by_ijg_unless_told_otherwise(folder, tmp_path):
    pytest.importorskip("jpeglib")
    files = [jpeg_file(waves(), tmp_path / f"Imagenet_resize/Imagenet_resize/{number}.jpg") for number in range(3)]
    real = catalogue.RELEASED["tinyimagenet-resize"]
    catalogue.RELEASED["tinyimagenet-resize"] = dataclasses.replace(real, side=16)  # the fixture puts it back
    run("tinyimagenet", "--published", "--source", tmp_path)
    run("tinyimagenet", "--published", "--source", tmp_path, "--decoder", "turbo")
    assert npz(folder) == ["tinyimagenet-resize-turbo.npz", "tinyimagenet-resize.npz"]
    for name, library in (("tinyimagenet-resize", "ijg"), ("tinyimagenet-resize-turbo", "turbo")):
        found = prepared.load(name)
        assert np.array_equal(found.images[0], jpeg.decode(files[0], library))
        assert found.provenance["decoder"] == jpeg.version(library)


def test_a_damaged_jpeg_is_no_image_to_either():
    file = jpeg.encode(waves(), 75, "turbo")
    for library in jpeg.LIBRARIES[1:] if importlib.util.find_spec("jpeglib") is None else jpeg.LIBRARIES:
        for data in (b"", b"text", file[:-60], png(waves())[:-40]):
            with pytest.raises(imagefiles.Unreadable, match=r"1\.jpg cannot be read as an image: "):
                formats.decode(archives.RawFile(archives.PurePosixPath("1.jpg"), data), "RGB", library)


def test_without_jpeglib_one_line_says_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jpeglib", None)
    jpeg._import.cache_clear()
    for number in range(3):
        jpeg_file(pixels(32, 32, 3), tmp_path / f"LSUN_resize/LSUN_resize/{number}.jpg")
    line = refusal("lsun", "--published", "--source", tmp_path)
    assert "pip install 'odinlib[data]', or choose --decoder turbo" in line
    run("lsun", "--published", "--source", tmp_path, "--decoder", "turbo")
    jpeg._import.cache_clear()


def test_any_folder_of_images_makes_a_set(folder, tmp_path):
    for number, shape in enumerate([(50, 70, 3), (33, 200), (10, 90, 3)]):
        png(pixels(*shape), tmp_path / f"mine/{number}.png")
    run("images_folder", "--source", tmp_path / "mine", "--name", "garden", "--filter", "lanczos")
    crops, resizes = prepared.load("garden-crop"), prepared.load("garden-resize")
    assert crops.images.shape == resizes.images.shape == (2, 32, 32, 3)
    assert resizes.provenance["filter"] == "lanczos" and resizes.provenance["skipped"] == 1
    assert (crops.title, "garden-resize" in prepared.names()) == ("garden (crop)", True)
    assert npz(folder / "sheets") == ["garden-crop.png", "garden-resize.png"]


def test_what_of_a_folder_is_left_out_is_told(folder, tmp_path):
    mine = tmp_path / "mine"
    for number in range(3):
        png(pixels(40, 40, 3), mine / f"{number}.png")
    png(pixels(10, 40, 3), mine / "small.png")
    Image.fromarray(pixels(40, 40, 3)).save(mine / "d.jfif", "JPEG")
    (mine / "notes.txt").touch()
    result = run("images_folder", "--source", mine, "--name", "garden")
    assert "files that are no images are left out: 1 .txt" in result.stderr
    assert "of 5 files 1 are of another size: small.png (40 x 10); left out" in result.stderr
    assert len(prepared.load("garden-crop")) == 4
    for name in ("4.png", "5.jpg", "6.png"):
        (mine / name).write_bytes(b"%!PS damaged")
    error = run("images_folder", "--source", mine, "--name", "other", code=1).stderr
    line = error.splitlines()[-1]
    assert line.startswith("error: other: of 8 files 3 cannot be read: 4.png (it is PostScript (EPS)), 5.jpg ")
    assert line.endswith("mend or remove them, or give --skip-damaged") and "other-crop.npz" not in npz(folder)
    result = run("images_folder", "--source", mine, "--name", "other", "--skip-damaged")
    assert "3 cannot be read: 4.png" in result.stderr and len(prepared.load("other-crop")) == 4
    assert prepared.load("other-crop").provenance["skipped"] == 4


def test_a_folder_of_images_of_16_bits_keeps_its_scale(folder, tmp_path):
    (tmp_path / "deep").mkdir()
    ramp = np.linspace(0, 65535, 32).astype(np.uint16).reshape(1, 32).repeat(32, 0)
    Image.fromarray(ramp).save(tmp_path / "deep" / "a.png")
    run("images_folder", "--source", tmp_path / "deep", "--name", "deep")
    found = prepared.load("deep-resize").images
    assert np.array_equal(found[0, 0, :, 1], np.rint(ramp[0] / 257).astype(np.uint8))


@pytest.mark.parametrize("name", ["isun", "lsun", "cifar10", "../up", "A b"])
def test_a_set_of_ones_own_does_not_take_a_published_name(folder, tmp_path, name):
    png(pixels(40, 40), tmp_path / "1.png")
    assert name in refusal("images_folder", "--source", tmp_path, "--name", name)
    assert not folder.exists()


def test_all_prepares_what_there_is_and_names_the_rest(folder, tmp_path):
    cifar10(tmp_path / "cifar-10-batches-py")
    tiny(tmp_path, 4)
    result = run("all", "--source", tmp_path)
    made = ["cifar10-bw", "cifar10-train", "cifar10", "tinyimagenet-crop-drawn", "tinyimagenet-resize-nearest"]
    assert npz(folder) == [f"{name}.npz" for name in made]
    assert "mnist" in result.stderr and "tinyimagenet-crop-drawn" not in result.stderr
    assert f"not in {tmp_path}: lsun-crop, lsun-resize, isun, " in result.stderr
    assert "without tinyimagenet-crop: 3 of the 3 test images of Tiny ImageNet are not there" in result.stderr


def test_all_makes_one_split_where_the_other_is_not_there_and_goes_on_after_a_failure(folder, tmp_path):
    cifar100(tmp_path / "cifar-100-python")
    (tmp_path / "cifar-100-python/train").unlink()
    test_cifar10 = tmp_path / "cifar-10-batches-py"
    cifar10(test_cifar10)
    (test_cifar10 / "test_batch").write_bytes(b"damaged")
    released_crops(tmp_path, 2)
    tiny(tmp_path, 4)
    result = run("all", "--source", tmp_path, code=1)
    made = ["cifar100", "cifar20", "cifar80", "tinyimagenet-crop-drawn", "tinyimagenet-resize-nearest"]
    assert npz(folder) == [f"{name}.npz" for name in made]
    assert "without the train split: train is not among the raw files" in result.stderr
    assert "error: test_batch is no CIFAR pickle" in result.stderr and "there are 2 images" in result.stderr


def test_the_command_line_runs_the_scripts(folder, tmp_path):
    tiny(tmp_path, 4)
    runner = CliRunner()
    result = runner.invoke(cli.main, ["data", "prepare", "tinyimagenet-resize-box", "--source", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert npz(folder) == ["tinyimagenet-resize-box.npz"]
    missing = ["data", "prepare", "tinyimagenet-resize-nearest", "--source", str(tmp_path / "nowhere")]
    result = runner.invoke(cli.main, missing)
    assert result.exit_code == 1 and result.stderr.startswith("error: source ") and result.stderr.count("\n") == 1
    result = runner.invoke(cli.main, ["data", "prepare", "tinyimagnet-crop"])
    assert result.exit_code == 1 and "did you mean 'tinyimagenet-crop'" in result.stderr


# --- Archives that must not be trusted ----------------------------------------------------------------------


def tar_with(path, name, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, "/etc/passwd", 4 if kind == tarfile.REGTYPE else 0
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member, io.BytesIO(b"evil"))


@pytest.mark.parametrize("name", ["../up.png", "a/../../up.png", "/up.png", "C:\\up.png", "a\\..\\..\\up.png"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tgz"])
def test_paths_outside_the_archive_are_refused(folder, tmp_path, name, kind):
    source = tmp_path / f"images.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr(name, b"evil")
    else:
        tar_with(source, name)
    assert "a path outside itself" in refusal("images_folder", "--name", "mine", "--source", source)
    assert npz(tmp_path) == [source.name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_refused(folder, tmp_path, kind):
    tar_with(tmp_path / "images.tar.gz", "innocent.png", kind)
    assert "holds a link" in refusal("images_folder", "--name", "mine", "--source", tmp_path / "images.tar.gz")


def test_a_bomb_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big.png", bytes(100_000))
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("big.txt")
        member.size = 100_000
        archive.addfile(member, io.BytesIO(bytes(100_000)))
    for name in ("images.zip", "images.tar.gz"):
        assert "more than 1000 bytes" in refusal("images_folder", "--name", "mine", "--source", tmp_path / name)
    with pytest.raises(UserError, match="more than 1000 bytes"):
        archives.gunzip(archives.RawFile(archives.PurePosixPath("a.gz"), gzip.compress(bytes(100_000))))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_truncated_archive_is_one_line(folder, tmp_path, kind):
    source = tmp_path / f"images.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("a.png", png(pixels(64, 64, 3)))
    else:
        with tarfile.open(source, "w:gz") as archive:
            member = tarfile.TarInfo("a.png")
            data = png(pixels(64, 64, 3))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    whole = source.read_bytes()
    for keep in (10, len(whole) // 2, len(whole) - 30):
        source.write_bytes(whole[:keep])
        assert "is damaged" in refusal("images_folder", "--name", "mine", "--source", source)
    assert not folder.exists()


# --- Downloads ----------------------------------------------------------------------------------------------

BODY = bytes(range(256)) * 4000


class Publisher(http.server.BaseHTTPRequestHandler):
    """Serves BODY; honours Range unless told otherwise; may hang up early."""

    ranges, hang_up_after, requests = True, None, []

    def do_GET(self):
        Publisher.requests.append(self.headers.get("Range"))
        wanted = self.headers.get("Range") if self.ranges else None
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if start >= len(BODY):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(BODY)}")
            self.end_headers()
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        self.wfile.write(BODY[start:][: self.hang_up_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def publisher(monkeypatch):
    monkeypatch.setattr(Publisher, "requests", [])
    monkeypatch.setattr(Publisher, "ranges", True)
    monkeypatch.setattr(Publisher, "hang_up_after", None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Publisher) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/file"
        server.shutdown()


SUM = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


def download(url, sum=SUM):
    return catalogue.Download("sub/file.bin", (url,), sum)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_where_it_stopped(publisher, tmp_path, monkeypatch, ranges):
    monkeypatch.setattr(Publisher, "hang_up_after", 300_000)
    with pytest.raises(Missing, match="closed after 300000 of 1024000 bytes"):
        raw.fetch(download(publisher), tmp_path)
    assert npz(tmp_path / "sub") == ["file.bin.partial"]
    monkeypatch.setattr(Publisher, "hang_up_after", None)
    monkeypatch.setattr(Publisher, "ranges", ranges)
    assert raw.fetch(download(publisher), tmp_path).read_bytes() == BODY
    assert npz(tmp_path / "sub") == ["file.bin"]
    assert Publisher.requests == [None, "bytes=300000-"]
    raw.fetch(download(publisher), tmp_path)  # it is there: nothing is asked
    assert len(Publisher.requests) == 2


def test_a_download_that_only_missed_its_name(publisher, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file.bin.partial").write_bytes(BODY)
    assert raw.fetch(download(publisher), tmp_path).read_bytes() == BODY


def test_more_than_the_file_starts_over(publisher, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file.bin.partial").write_bytes(BODY + b"more")
    assert raw.fetch(download(publisher), tmp_path).read_bytes() == BODY


def test_a_wrong_sum_leaves_nothing(publisher, tmp_path):
    with pytest.raises(UserError, match=r"file\.bin has MD5 .* expected 0000"):
        raw.fetch(download(publisher, f"md5:{'0' * 32}"), tmp_path)
    assert npz(tmp_path / "sub") == []


def test_the_next_address_is_tried(publisher, tmp_path):
    entry = dataclasses.replace(download(publisher), urls=("http://127.0.0.1:9/file", publisher))
    assert raw.fetch(entry, tmp_path).read_bytes() == BODY


def test_without_a_network_one_line_says_what_to_do(folder, tmp_path, monkeypatch):
    entry = dataclasses.replace(
        catalogue.PUBLISHED["notmnist"],
        downloads=(catalogue.Download("notMNIST_small.tar.gz", ("http://127.0.0.1:9/x.tar.gz",)),),
    )
    monkeypatch.setitem(catalogue.PUBLISHED, "notmnist", entry)
    line = refusal("notmnist")
    assert "cannot download http://127.0.0.1:9/x.tar.gz" in line
    assert f"put it at {folder / 'raw/notMNIST_small.tar.gz'} or name it with --source" in line
    assert not folder.exists()


def test_a_half_fetched_set_of_several_files_is_not_taken_for_whole(publisher, folder, monkeypatch):
    files = tuple(catalogue.Download(f"MNIST/raw/{name}.gz", (publisher,)) for name in "abc")
    entry = dataclasses.replace(catalogue.PUBLISHED["mnist"], downloads=files)
    (folder / "raw/MNIST/raw").mkdir(parents=True)
    (folder / "raw/MNIST/raw/a.gz").write_bytes(BODY)
    assert raw.present(entry, folder / "raw") is None
    assert raw.locate(entry, None, folder / "raw") == folder / "raw/MNIST/raw"
    assert npz(folder / "raw/MNIST/raw") == ["a.gz", "b.gz", "c.gz"] and len(Publisher.requests) == 2


# --- A full disk --------------------------------------------------------------------------------------------


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_writing(folder, tmp_path, monkeypatch):
    tiny(tmp_path, 4)
    monkeypatch.setattr(zipfile.ZipFile, "writestr", no_space)
    assert "no space left to write" in refusal("tinyimagenet", "--source", tmp_path)
    assert npz(folder) == []


def test_a_full_disk_while_downloading(publisher, tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "_transfer", no_space)
    with pytest.raises(UserError, match=r"no space left to download .*file\.bin; free some space and run again"):
        raw.fetch(download(publisher), tmp_path)


# --- The catalogue, and the real sets -----------------------------------------------------------------------


def test_every_set_has_its_script():
    sys.path.insert(0, str(SCRIPTS))
    try:
        needs = importlib.import_module("all").NEEDS
    finally:
        sys.path.remove(str(SCRIPTS))
    assert {entry.script for entry in prepared.ENTRIES.values()} - {None} == set(needs)
    for script, key in needs.items():
        assert (SCRIPTS / f"{script}.py").exists() and key in catalogue.PUBLISHED
    assert {name for name, entry in prepared.ENTRIES.items() if entry.released} - {"tinyimagenet-crop-inner"} == set(
        catalogue.RELEASED
    )


def test_the_sums_are_those_that_torchvision_publishes():
    from torchvision.datasets import CIFAR10, CIFAR100, MNIST, Omniglot

    assert catalogue.PUBLISHED["cifar10"].downloads[0].sum == f"md5:{CIFAR10.tgz_md5}"
    assert catalogue.PUBLISHED["cifar100"].downloads[0].sum == f"md5:{CIFAR100.tgz_md5}"
    inside = {name: f"md5:{md5}" for name, md5 in [*CIFAR100.train_list, *CIFAR100.test_list]}
    assert inside.items() <= dict(catalogue.PUBLISHED["cifar100"].sums).items()
    published = {f"MNIST/raw/{name}": f"md5:{md5}" for name, md5 in MNIST.resources}
    assert {entry.path: entry.sum for entry in catalogue.PUBLISHED["mnist"].downloads} == published
    assert catalogue.PUBLISHED["omniglot"].downloads[0].sum == f"md5:{Omniglot.zips_md5['images_evaluation']}"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "count", "sha256"),
    [
        ("tinyimagenet-crop", 10_000, "ab935d544b33"),
        ("tinyimagenet-crop-inner", 10_000, "fb9ebde14082"),
        ("tinyimagenet-resize", 10_000, "5f0b7105cbb2"),
        ("tinyimagenet-resize-turbo", 10_000, "b4762fc52c99"),
        ("tinyimagenet-resize-nearest-ijg-jpeg75", 10_000, "5f0b7105cbb2"),
        ("lsun-resize", 10_000, "00b14d7ca5ac"),
        ("lsun-resize-turbo", 10_000, "b43bd01caac4"),
        ("isun", 8_925, "db1c0c4f7d93"),
        ("isun-turbo", 8_925, "0fd4f7c48e0c"),
        ("tinyimagenet-crop-drawn", 10_000, "6624c15a0fa4"),  # with the seed 0, as ever
        ("tinyimagenet-resize-nearest", 10_000, "8a518c948cbf"),
    ],
)
def test_the_real_foreign_sets_are_the_released_ones(name, count, sha256):
    if not prepared.path(name).exists():
        pytest.skip(f"{prepared.path(name)} is not there: ODINLIB_DATA holds no prepared {name}")
    found = prepared.load(name)
    assert len(found) == count
    if name == "tinyimagenet-crop-drawn" and found.provenance["seed"] != 0:
        pytest.skip(f"{name} was drawn with another seed")
    assert found.provenance["sha256"].startswith(sha256)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "split", "count", "sha256"),
    [
        ("cifar10", "test", 10_000, "16717836bbf7"),
        ("cifar10", "train", 50_000, "858cd356d0b5"),
        ("mnist", "test", 10_000, "4c76d353ff56"),
        ("mnist", "train", 60_000, "4566b40398f3"),
    ],
)
def test_the_real_sets_are_the_published_ones(name, split, count, sha256):
    if not prepared.path(name, split).exists():
        pytest.skip(f"{prepared.path(name, split)} is not there: ODINLIB_DATA holds no prepared {name}")
    found = prepared.load(name, split)
    assert len(found) == count
    assert prepare.np.bincount(found.labels).min() >= 800
    assert found.provenance["sha256"].startswith(sha256)
