"""Prepared sets are read whole or refused in one line; what is missing says how it is made."""

import json
from pathlib import PurePosixPath

import numpy as np
import pytest
from click.testing import CliRunner

from odinlib import cli
from odinlib.datasets import prepare, prepared, resample
from odinlib.datasets.archives import RawFile
from odinlib.errors import Missing, UserError

IMAGES = np.arange(5 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(5, 32, 32, 3)
LABELS = np.array([0, 1, 1, 0, 1])
FILES = [RawFile(PurePosixPath("batch"), b"raw")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ODINLIB_DATA", str(tmp_path))
    return tmp_path


def write(name="cifar10", labels=LABELS, **record):
    return prepare.write(name, IMAGES, labels, files=FILES, source="somewhere", classes=["cat", "dog"], **record)


def test_what_is_written_is_loaded(folder):
    assert write(seed=3) == folder / "cifar10.npz"
    found = prepared.load("cifar10")
    assert np.array_equal(found.images, IMAGES)
    assert np.array_equal(found.labels, LABELS) and found.labels.dtype == np.int64
    assert (found.name, found.title, found.classes) == ("cifar10", "CIFAR-10", ("cat", "dog"))
    assert found.provenance["source"] == "somewhere"
    assert found.provenance["raw_sha256"] == {"batch": FILES[0].sha256}
    assert found.provenance["seed"] == 3


def test_the_file_has_the_agreed_members(folder):
    with np.load(write(), allow_pickle=False) as file:
        assert sorted(file.files) == ["images", "labels", "provenance"]
        assert file["images"].dtype == np.uint8 and file["labels"].dtype == np.int64
        assert {"source", "raw_sha256", "filter", "seed", "date"} <= json.loads(str(file["provenance"])).keys()


def test_a_split_is_a_file_of_its_own(folder):
    write(split="train")
    assert len(prepared.load("cifar10", "train")) == 5
    with pytest.raises(Missing, match=r"cifar10\.npz is not there"):
        prepared.load("cifar10")


def test_a_set_without_labels(folder):
    write("tinyimagenet-crop", labels=None)
    assert prepared.load("tinyimagenet-crop").labels is None


def test_missing_data_says_what_and_where_and_how(folder):
    with pytest.raises(Missing) as error:
        prepared.load("tinyimagenet-resize-box")
    line = str(error.value)
    assert "\n" not in line
    assert str(folder / "tinyimagenet-resize-box.npz") in line
    assert f"ODINLIB_DATA is {folder}" in line
    assert "python data_scripts/tinyimagenet.py --filter box" in line


def test_without_the_variable_it_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("ODINLIB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Missing, match="ODINLIB_DATA is not set"):
        prepared.load("mnist")


def test_unknown_names_and_splits(folder):
    with pytest.raises(UserError, match="did you mean 'cifar100'"):
        prepared.load("cifar-100")
    with pytest.raises(UserError, match="split is 'validation'"):
        prepared.load("cifar10", "validation")
    with pytest.raises(UserError, match="isun has no training split"):
        prepared.load("isun", "train")
    assert not prepared.known("tinyimagenet-resize-sinc")


@pytest.mark.parametrize("keep", [0, 10, 200, -40])
def test_a_truncated_file_is_one_line(folder, keep):
    file = write()
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(
        UserError, match=r"cifar10\.npz is damaged.*make it with `python data_scripts/cifar10\.py"
    ) as error:
        prepared.load("cifar10")
    assert "\n" not in str(error.value)


def test_changed_pixels_are_refused(folder):
    file = write()
    with np.load(file) as found:
        arrays = dict(found)
    arrays["images"][2, 3, 4, 0] ^= 1
    np.savez(file, **arrays)
    with pytest.raises(UserError, match="does not match its recorded SHA-256"):
        prepared.load("cifar10")


@pytest.mark.parametrize("name", ["scenes-crop", "scenes-resize", "scenes-mixed", "scenes-mixed-box"])
def test_stand_ins_say_what_they_are(name):
    assert prepared.title(name).startswith("Scenes") and "stand-in for" in prepared.title(name)


def test_the_images_of_the_stand_ins_are_no_longer_kept(folder):
    for name in ("scenes-crop", "scenes-mixed-box"):
        with pytest.raises(Missing, match=f"the images of {name} are no longer kept; only what is recorded") as error:
            prepared.load(name)
        assert "\n" not in str(error.value)
    assert "scenes-crop" not in prepared.names()
    assert "scenes" not in CliRunner().invoke(cli.main, ["data", "status"]).output


@pytest.mark.parametrize("base", ["isun", "omniglot"])
def test_every_variant_of_a_resampled_set_has_a_title_and_a_command(base):
    for filter in resample.FILTERS:
        name = prepare.variant_name(base, filter)
        assert prepared.variant(name) == (base, filter)
        assert prepared.known(name)
        assert (filter in prepared.title(name)) == (filter in prepared.command(name)) == (name != base)
    assert prepare.variant_name("omniglot", "bilinear-antialias") == "omniglot"
    assert prepare.variant_name("isun", "nearest") == "isun-nearest"  # isun alone is what was released


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tinyimagenet-crop", "--published"),
        ("tinyimagenet-crop-inner", "--published"),
        ("tinyimagenet-resize-turbo", "--published --decoder turbo"),
        ("tinyimagenet-crop-drawn-border2", "--border 2"),
        ("lsun-resize-nearest-ijg-jpeg75", "--filter nearest --decoder ijg --jpeg 75"),
        ("isun-bilinear-aligned-jpeg9-border12", "--filter bilinear-aligned --jpeg 9 --border 12"),
    ],
)
def test_a_name_says_how_a_set_is_made(name, options):
    assert prepared.Variant.of(name).name == name
    stem = {"t": "tinyimagenet", "l": "lsun", "i": "isun"}[name[0]]
    assert prepared.command(name) == f"python data_scripts/{stem}.py {options}"
    assert prepared.title(name) != name


@pytest.mark.parametrize(
    "name",
    [
        "tinyimagenet-crop-turbo",  # no JPEGs
        "tinyimagenet-crop-border2",  # released as it is
        "tinyimagenet-resize-jpeg75",
        "tinyimagenet-resize-ijg",  # its own decoder
        "tinyimagenet-resize-nearest-border2-jpeg75",  # another order
        "tinyimagenet-resize-nearest-jpeg101",
        "tinyimagenet-crop-drawn-box",
        "omniglot-box-border2",
        "omniglot-bilinear-antialias",
        "cifar10-box",
    ],
)
def test_names_that_stand_for_nothing(folder, name):
    assert not prepared.known(name)


def test_status_shows_what_is_there_and_how_to_make_the_rest(folder):
    write(seed=7)
    (folder / "mnist.npz").write_bytes(b"PK half")
    result = CliRunner().invoke(cli.main, ["data", "status"])
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert ["cifar10", "5", "32x32x3", "-", "7"] in [line[:5] for line in lines]
    assert ["mnist", "damaged"] in [line[:2] for line in lines]
    assert ["cifar10", "(train)", "python", "data_scripts/cifar10.py"] in lines
    assert ["omniglot", "python", "data_scripts/omniglot.py"] in lines


def test_a_contact_sheet_holds_the_images(folder, tmp_path):
    write()
    sheet = tmp_path / "sheet.png"
    result = CliRunner().invoke(cli.main, ["data", "sheet", "cifar10", "-o", str(sheet)])
    assert result.exit_code == 0, result.output
    pixels = np.asarray(prepare.Image.open(sheet))
    assert pixels.shape == (2 * 34, 20 * 2 * 34, 3)
    assert np.array_equal(pixels[2:66:2, 2:66:2], IMAGES[0])


def test_the_command_line_tells_missing_data_in_one_line(folder, tmp_path):
    result = CliRunner().invoke(cli.main, ["data", "sheet", "mnist", "-o", str(tmp_path / "x.png")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: mnist is not prepared") and result.stderr.count("\n") == 1
