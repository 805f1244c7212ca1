"""Other people's files: nothing in them runs unless it was asked for. SECURITY.md says what each reader can do."""

import contextlib
import json
import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from odinlib import artefacts, own
from odinlib.book import parameters
from odinlib.datasets import lmdb, prepared
from odinlib.errors import UserError
from odinlib.networks import checkpoints

ROOT = Path(__file__).resolve().parent.parent


class Touch:
    """Creates a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Writes(nn.Module):
    """A TorchScript that creates a file where it is loaded: such archives carry a program for just this moment."""

    def __init__(self, path):
        super().__init__()
        self.path: str = str(path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = torch.from_file(state[0], True, 4).numel() > 4  # unless it is used, it is left out


@pytest.fixture
def ran(tmp_path) -> Path:
    """The file that is there once something has run."""
    return tmp_path / "ran"


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 3)).eval()


def torchscript(path, ran):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what people have
        torch.jit.script(Writes(ran)).save(str(path))


def exported(path, ran):
    """An exported program whose sample inputs are a pickle that creates a file."""
    program = torch.export.export(network(), (torch.rand(1, 3, 4, 4),))
    torch.export.save(program, path.with_suffix(".whole"))
    torch.save(Touch(ran), path.with_suffix(".evil"))
    with zipfile.ZipFile(path.with_suffix(".whole")) as whole, zipfile.ZipFile(path, "w") as archive:
        for name in whole.namelist():
            data = whole.read(name)
            evil = path.with_suffix(".evil").read_bytes()
            archive.writestr(name, evil if name.endswith("sample_inputs/model.pt") else data)


def pickled(path, ran):
    torch.save(Touch(ran), path)


def pickled_of_old(path, ran):
    torch.save(Touch(ran), path, _use_new_zipfile_serialization=False)


def bare_pickle(path, ran):
    path.write_bytes(pickle.dumps(Touch(ran)))


PROGRAMS = (torchscript, exported, pickled, pickled_of_old, bare_pickle)


@pytest.mark.parametrize("name", ["net.pt2", "net.pth", "net.safetensors", "net"])
@pytest.mark.parametrize("make", PROGRAMS)
def test_no_file_of_a_network_runs_unless_it_is_trusted(tmp_path, ran, make, name):
    """Whatever it is called; by a page or the command line, and where weights alone are read from it."""
    make(tmp_path / name, ran)
    for read in (own.load_network, checkpoints.read_tensors, lambda path: own.load_network(path, architecture=network)):
        with pytest.raises(UserError) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value) and not ran.exists()
    if make is not exported:  # what is trusted does run: the trap is one
        with contextlib.suppress(UserError):
            own.load_network(tmp_path / name, trusted=True)
        assert ran.exists()


def test_the_refusal_says_why_and_names_the_safe_way(tmp_path, ran):
    torchscript(tmp_path / "net.pt", ran)
    with pytest.raises(UserError, match=r"can run any program .* trust it \(trusted=True, --trust\), or: safetensors"):
        own.load_network(tmp_path / "net.pt")
    state = {name: tensor.contiguous() for name, tensor in network().state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "net.safetensors")
    assert isinstance(own.load_network(tmp_path / "net.safetensors", architecture=network), nn.Sequential)
    with pytest.raises(UserError, match=r"say by architecture .* which it is"):
        own.load_network(tmp_path / "net.safetensors")


def test_an_archive_that_hides_what_it_is_is_not_handed_on(tmp_path, ran):
    """A zip that is no checkpoint by our reading, and TorchScript by PyTorch's."""
    torchscript(tmp_path / "net.pt", ran)
    with zipfile.ZipFile(tmp_path / "net.pt") as whole, zipfile.ZipFile(tmp_path / "odd.pt", "w") as archive:
        for name in whole.namelist():
            archive.writestr(
                name.replace("net/code", "net/c0de").replace("constants.pkl", "constants"), whole.read(name)
            )
    for path in (tmp_path / "odd.pt", tmp_path / "net.pt"):
        with pytest.raises(UserError):
            checkpoints.read_tensors(path)
    assert not ran.exists()


def test_a_folder_of_transformers_runs_none_of_its_own_code(tmp_path, ran):
    pytest.importorskip("transformers")
    config = {
        "model_type": "mine",
        "architectures": ["Mine"],
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForImageClassification": "code.Mine"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text(f"open({str(ran)!r}, 'w')\n")
    with pytest.raises(UserError, match="holds no network of transformers"):
        own.load_network(tmp_path)
    assert not ran.exists()


def test_arrays_are_read_without_pickles(tmp_path, ran, monkeypatch):
    evil = np.array([Touch(ran)], dtype=object)
    np.savez(tmp_path / "a.npz", artefact=evil, x=evil)
    monkeypatch.setenv("ODINLIB_DATA", str(tmp_path))
    np.savez(tmp_path / "cifar10.npz", images=evil, provenance=evil)
    for read in (lambda: artefacts.load(tmp_path / "a.npz"), lambda: prepared.load("cifar10")):
        with pytest.raises(UserError):
            read()
    assert not ran.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/module:os"])
def test_a_parameter_makes_no_objects(tag, ran):
    for text in (f"{tag} ['touch {ran}']", f"[{tag} ['touch {ran}']]"):
        with pytest.raises(UserError, match="cannot read the value"):
            parameters.parse(text)
    assert not ran.exists()


def test_looking_at_a_notebook_runs_nothing(tmp_path, ran):
    source = f"size = open({str(ran)!r}, 'w')"
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [source], "outputs": []}
    (tmp_path / "page.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}))
    with pytest.raises(UserError, match="not plain literals"):
        parameters.declared(tmp_path / "page.ipynb")
    assert not ran.exists()


def test_a_database_whose_pages_go_in_circles_ends():
    """Two pages, each a branch to the other many times over: a walk along all ways would not end."""
    size, slots = 4096, 200
    data = bytearray(4 * size)
    for meta in (0, 1):
        struct.pack_into("<II", data, meta * size + 16, 0xBEEFC0DE, 1)
        struct.pack_into("<I", data, meta * size + 16 + 24, size)
        struct.pack_into("<QQQ", data, meta * size + 16 + 24 + 48 + 40, 2, 3, 1)
    for page, other in ((2, 3), (3, 2)):
        struct.pack_into("<HH", data, page * size + 10, 1, 16 + 2 * slots)
        for slot in range(slots):
            struct.pack_into("<H", data, page * size + 16 + 2 * slot, 2000)
        struct.pack_into("<HHHH", data, page * size + 2000, other, 0, 0, 0)
    with pytest.raises(UserError, match="in the tree twice"):
        list(lmdb.items(bytes(data)))


def test_every_promise_has_its_test():
    """The tests that SECURITY.md names are there."""
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text("utf-8"))
    assert len(named) > 12
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / file).read_text("utf-8"), f"{file}::{test}"
