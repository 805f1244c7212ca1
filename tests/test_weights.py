"""Weights that are whole, checked and inert: our own files, foreign ones, pickled modules, traps."""

import argparse
import collections
import datetime
import functools
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from checkpoints import THIRD_PARTY, checkpoint
from torch import nn

from odinlib.errors import UserError
from odinlib.networks import build, checkpoints
from odinlib.networks.checkpoints import read_tensors
from odinlib.networks.train import accuracy
from odinlib.networks.weights import import_checkpoint, load_weights, save_weights

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def lived_in(name="densenet-bc-10-4", classes=5, **options):
    """A network whose batch statistics are not those of a fresh one."""
    network = build(name, classes, seed=3, **options)
    network(torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    return network.eval()


def refused(action, *arguments, **options) -> str:
    """The one line with which `action` refuses."""
    with pytest.raises(UserError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Our own format -----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    network = lived_in(mean=MEAN, std=STD)
    path = tmp_path / "net.safetensors"
    save_weights(network, path, {"id_set": "cifar10", "seed": 3})
    return network, path


def rewrite_card(path, **changes):
    card_path = path.with_suffix(".json")
    card = {**json.loads(card_path.read_text()), **changes}
    card_path.write_text(json.dumps({key: value for key, value in card.items() if value is not None}))


def forge(path, state):
    """Put other tensors in place of the weights, with a card that vouches for them."""
    safetensors.torch.save_file(state, path)
    rewrite_card(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_what_is_saved_is_what_is_loaded(saved):
    network, path = saved
    loaded, card = load_weights(path)
    assert torch.equal(loaded(IMAGES), network(IMAGES))
    assert not loaded.training
    assert (card["architecture"], card["classes"], card["id_set"]) == ("densenet-bc-10-4", 5, "cifar10")
    assert card["normalisation"] == {"mean": list(MEAN), "std": list(STD)}
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_equal_weights_give_equal_bytes_and_no_other_file_stays(saved, tmp_path):
    network, path = saved
    before = path.read_bytes()
    save_weights(network.to(memory_format=torch.channels_last), path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.json", "net.safetensors"]


def test_a_card_of_other_weights_can_be_passed_on_but_does_not_overrule_the_network(saved, tmp_path):
    _, path = saved
    _, card = load_weights(path)
    other = lived_in("wrn-10-1", 7)
    save_weights(other, tmp_path / "other.safetensors", card)
    loaded, card = load_weights(tmp_path / "other.safetensors")
    assert (loaded.name, card["classes"], card["id_set"]) == ("wrn-10-1", 7, "cifar10")


def test_truncated_weights_are_refused(saved):
    _, path = saved
    whole = path.read_bytes()
    for length in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "truncated or damaged" in refused(load_weights, path)


def test_one_flipped_bit_is_refused(saved):
    _, path = saved
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "do not match the SHA-256" in refused(load_weights, path)


def test_missing_files_are_named(saved, tmp_path):
    _, path = saved
    assert "nothing.json" in refused(load_weights, tmp_path / "nothing.safetensors")
    path.unlink()
    assert "there are no weights" in refused(load_weights, path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"architecture": "wrn-10-1"}', "3", "\udcff"])
def test_damaged_cards_are_refused(saved, content):
    _, path = saved
    path.with_suffix(".json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert "card" in refused(load_weights, path)


def test_a_card_of_an_unknown_architecture_is_refused(saved):
    _, path = saved
    rewrite_card(path, architecture="resnet18")
    assert "network is 'resnet18'" in refused(load_weights, path)
    rewrite_card(path, architecture=7)
    refused(load_weights, path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_the_tensor(saved, tmp_path, value):
    network, path = saved
    with torch.no_grad():
        network.trans1.conv1.weight[0, 0] = value
    assert "'trans1.conv1.weight' has 1 NaN" in refused(save_weights, network, tmp_path / "bad.safetensors")
    assert not (tmp_path / "bad.safetensors").exists()
    forge(path, {key: tensor.contiguous() for key, tensor in network.state_dict().items()})
    assert "'trans1.conv1.weight' has 1 NaN" in refused(load_weights, path)


def test_weights_of_another_architecture_name_the_first_tensor_that_differs(saved):
    _, path = saved
    forge(path, build("densenet-bc-16-4", 5).state_dict())
    assert "'trans1.bn1.weight' has shape [16]; expected [12]" in refused(load_weights, path)
    forge(path, build("wrn-10-1", 5).state_dict())
    assert "conv1.weight' has shape [16, 3, 3, 3]; expected [8, 3, 3, 3]" in refused(load_weights, path)
    state = build("densenet-bc-10-4", 5).state_dict()
    forge(path, {**state, "extra": torch.ones(1)})
    assert "'extra' too many" in refused(load_weights, path)
    del state["bn1.bias"]
    forge(path, state)
    assert "has no tensor 'bn1.bias'" in refused(load_weights, path)


# --- Foreign checkpoints ------------------------------------------------------------------------------------


def foreign_state(network):
    return {key: tensor for key, tensor in network.state_dict().items() if key not in ("mean", "std")}


def imported(path, name="densenet-bc-10-4", classes=5):
    return import_checkpoint(path, name, classes, mean=MEAN, std=STD, id_set="cifar10", note="ours")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_state_dicts_import_to_identical_logits(tmp_path, zipped, prefix, wrapped):
    network = lived_in(mean=MEAN, std=STD)
    state = collections.OrderedDict((prefix + key, value) for key, value in foreign_state(network).items())
    path = tmp_path / "checkpoint.pth.tar"
    content = {"epoch": 100, "state_dict": state, "best": np.float64(0.9)} if wrapped else state
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found, card = imported(path)
    assert torch.equal(found(IMAGES), network(IMAGES))
    assert card == {
        "id_set": "cifar10",
        "source": "checkpoint.pth.tar",
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "matched": "by name",
        "note": "ours",
    }


def as_authors(network, module):
    """The same weights in a module like the paper's authors' DenseNet3, of classes that live in `module`."""

    def make(name, **children):
        whole = getattr(module, name)()
        nn.Module.__init__(whole)
        for key, child in children.items():
            setattr(whole, key, child)
        return whole

    def layer(old):
        return make("BottleneckBlock", bn1=old.bn1, relu=nn.ReLU(), conv1=old.conv1, bn2=old.bn2, conv2=old.conv2)

    def block(old):
        return make("DenseBlock", layer=nn.Sequential(*map(layer, old.layer)))

    def transition(old):
        return make("TransitionBlock", bn1=old.bn1, relu=nn.ReLU(), conv1=old.conv1)

    whole = make(
        "DenseNet3",
        conv1=network.conv1,
        block1=block(network.block1),
        trans1=transition(network.trans1),
        block2=block(network.block2),
        trans2=transition(network.trans2),
        block3=block(network.block3),
        bn1=network.bn1,
        relu=nn.ReLU(),
        fc=network.fc,
    )
    whole.in_planes = network.fc.in_features
    return whole


@pytest.fixture
def authors_module(monkeypatch):
    """A module `densenet` that is gone when the pickle is read."""
    module = types.ModuleType("densenet")
    for name in ("DenseNet3", "DenseBlock", "BottleneckBlock", "TransitionBlock"):
        setattr(module, name, type(name, (nn.Module,), {"__module__": "densenet", "__init__": lambda self: None}))
    monkeypatch.setitem(sys.modules, "densenet", module)
    yield module


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_pickled_module_imports_to_identical_logits(tmp_path, authors_module, monkeypatch, zipped, parallel):
    network = lived_in(mean=MEAN, std=STD)
    whole = as_authors(network, authors_module)
    if parallel:
        whole = nn.DataParallel(whole)
    path = tmp_path / "densenet10.pth"
    torch.save(whole, path, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "densenet")
    found, card = imported(path)
    assert "densenet" not in sys.modules
    assert card["matched"] == "by name"
    assert torch.equal(found(IMAGES), network(IMAGES))


class OldParameter:
    """Pickles as a parameter did in PyTorch 0.2 and 0.3: its class called with the tensor, then flags."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return (
            sys.modules["torch.nn.parameter"].OldName,
            (self.data,),
            (True, False, collections.OrderedDict()),
        )


def test_a_module_pickled_by_pytorch_0_3_imports_to_identical_logits(tmp_path, authors_module, monkeypatch):
    """Parameters are `Parameter(tensor)` and three flags, modules carry a `_backend`, no batch counters."""
    network = lived_in(mean=MEAN, std=STD)
    expected = network(IMAGES)
    whole = as_authors(network, authors_module)

    # Stand-ins for names that PyTorch has dropped or changed since; renamed in the bytes below.
    old = type("OldName", (), {"__module__": "torch.nn.parameter"})
    backend = types.ModuleType("torch.nn.backends.thnn")

    def function_backend():
        raise AssertionError("the backend is never called")

    function_backend.__module__, function_backend.__qualname__ = (
        backend.__name__,
        "_get_thnn_function_backend",
    )
    backend._get_thnn_function_backend = function_backend

    class Backend:
        def __reduce__(self):
            return function_backend, ()

    monkeypatch.setitem(sys.modules, "torch.nn.backends.thnn", backend)
    monkeypatch.setattr(sys.modules["torch.nn.parameter"], "OldName", old, raising=False)
    for module in whole.modules():
        inside = module.__dict__
        inside["_parameters"] = collections.OrderedDict(
            (key, OldParameter(value.data) if value is not None else None)
            for key, value in inside["_parameters"].items()
        )
        inside["_buffers"] = collections.OrderedDict(
            (key, value) for key, value in inside["_buffers"].items() if key != "num_batches_tracked"
        )
        inside["_backend"] = Backend()
    path = tmp_path / "densenet10.pth"
    with pytest.warns(UserWarning, match="Couldn't retrieve source code"):
        torch.save(whole, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.count(b"ctorch.nn.parameter\nOldName\n") == 1
    content = content.replace(b"ctorch.nn.parameter\nOldName\n", b"ctorch.nn.parameter\nParameter\n")
    content = content.replace(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_tensor\n")
    path.write_bytes(content)
    monkeypatch.delitem(sys.modules, "densenet")
    monkeypatch.delitem(sys.modules, "torch.nn.backends.thnn")

    found, _ = imported(path)
    assert torch.equal(found(IMAGES), expected)


def test_other_names_are_matched_by_order_when_all_kinds_and_shapes_agree(tmp_path):
    network = lived_in(mean=MEAN, std=STD)
    path = tmp_path / "renamed.pth"
    renamed = {key.replace("block", "dense.").replace("bn", "norm"): v for key, v in foreign_state(network).items()}
    torch.save(renamed, path)
    found, card = imported(path)
    assert card["matched"] == "by order"
    assert torch.equal(found(IMAGES), network(IMAGES))
    *most, last = renamed.items()
    torch.save(dict([last, *most]), path)  # another order
    assert "has no tensor" in refused(imported, path)


class Settings(dict):
    """A dictionary of a class that is not there when the file is read, as hyper-parameters often are."""


def wrapped(kind, network):
    """What is saved by those who wrap a network so, of a network whose mean and std are stated."""
    state = foreign_state(network)
    named = lambda before: {before + key: tensor for key, tensor in state.items()}  # noqa: E731
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 5])
    return {
        "lightning": {"state_dict": named("model."), "hyper_parameters": Settings(a=1), "epoch": 3},
        "lightning, with a loss": {"state_dict": {**named("net."), "criterion.weight": torch.ones(5)}},
        "compiled": named("_orig_mod."),
        "parallel and compiled": {"model": named("module._orig_mod.")},
        "averaged": torch.optim.swa_utils.AveragedModel(network).state_dict(),
        "deep": {"run": {"last": [{"weights": state}]}},
        "deep in dots": {"student.backbone": named("encoder.module.")},
        "with an optimiser": {"optimizer": optimiser.state_dict(), "model_state_dict": state, "best_acc": 0.9},
        "with whole objects": {
            "schedule": schedule,
            "net": state,
            "dtype": torch.float32,
            "device": torch.device("cpu"),
        },
        "with values": {
            "count": collections.Counter(a=1),
            "path": Path("x"),
            "when": datetime.datetime(2020, 1, 1),
            "shape": torch.Size([3]),
            "default": collections.defaultdict(list, a=[1]),
            "set": {1, 2},
            "numpy": np.float32(3),
            "arguments": argparse.Namespace(lr=0.1),
            "partial": functools.partial(int, "1"),
            "layout": torch.strided,
            "weights": state,
        },
        "of a default dictionary": collections.defaultdict(dict, weights=state),
        "as parameters": {key: nn.Parameter(value, value.is_floating_point()) for key, value in state.items()},
        "with its normalisation": network.state_dict(),
        "behind a normalisation": {"0.mean": network.mean, "0.std": network.std, **named("1.")},
        "average beside": {"state_dict": state, "model_ema": {key: tensor + 1 for key, tensor in state.items()}},
        "the same twice": {"state_dict": state, "best": state},
        "a module under a key": {"epoch": 3, "net": network},
        "without counters": {key: tensor for key, tensor in state.items() if "num_batches" not in key},
        "halves": {
            "a": {key: tensor for key, tensor in state.items() if not key.startswith("fc.")},
            "fc": {"weight": network.fc.weight.detach(), "bias": network.fc.bias.detach()},
        },
    }[kind]


WRAPPERS = (
    *("lightning", "lightning, with a loss", "compiled", "parallel and compiled", "averaged", "deep", "deep in dots"),
    *("with an optimiser", "with whole objects", "with values", "of a default dictionary", "as parameters"),
    *("with its normalisation", "behind a normalisation", "average beside", "the same twice", "a module under a key"),
    "without counters",
)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", WRAPPERS)
def test_whatever_is_around_the_weights_is_seen_through(tmp_path, kind, zipped):
    network = lived_in("wrn-10-1", mean=MEAN, std=STD)
    content = wrapped(kind, network)
    expected = network(IMAGES)
    path = tmp_path / "checkpoint.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found, card = imported(path, "wrn-10-1")
    assert torch.equal(found(IMAGES), expected) and card["matched"] == "by name"
    assert card.get("also_at") == {"average beside": ["model_ema"], "the same twice": ["best"]}.get(kind)


def test_safetensors_are_read_too(tmp_path):
    network = lived_in("wrn-10-1", mean=MEAN, std=STD)
    state = {f"model.{key}": tensor.contiguous() for key, tensor in foreign_state(network).items()}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    assert torch.equal(imported(tmp_path / "model.safetensors", "wrn-10-1")[0](IMAGES), network(IMAGES))


def test_of_several_weights_the_right_ones_are_asked_for(tmp_path):
    one, other = (build("wrn-10-1", 5, seed=seed, mean=MEAN, std=STD).eval() for seed in (1, 2))
    path = tmp_path / "two.pth"
    torch.save({"first": foreign_state(one), "second": foreign_state(other)}, path)
    assert "there more than once, at 'first', 'second'; say which with --place" in refused(imported, path, "wrn-10-1")
    found, _ = import_checkpoint(path, "wrn-10-1", 5, mean=MEAN, std=STD, place="second")
    assert torch.equal(found(IMAGES), other(IMAGES))
    told = refused(import_checkpoint, path, "wrn-10-1", 5, mean=MEAN, std=STD, place="third")
    assert "no such weights at 'third'; expected one of 'first', 'second'" in told


def test_a_normalisation_in_the_file_is_the_one_that_is_stated(tmp_path):
    network = build("wrn-10-1", 5, seed=1, mean=[0.5] * 3, std=[0.25] * 3)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    told = refused(imported, tmp_path / "net.pth", "wrn-10-1")
    assert "has 'mean' [0.5, 0.5, 0.5]; expected [0.4914, 0.4822, 0.4465], the mean that is stated" in told


def test_what_does_not_fit_names_what_is_there(tmp_path):
    torch.save({"ema": {"layer1.weight": torch.ones(3, 2), "layer1.bias": torch.ones(3)}}, tmp_path / "other.pth")
    told = refused(imported, tmp_path / "other.pth", "wrn-10-1")
    assert "it holds 2 tensors, 'ema/layer1.weight' [3, 2], 'ema/layer1.bias' [3]; these weights are not of a" in told
    torch.save(build("wrn-10-1", 5).to("meta").state_dict(), tmp_path / "meta.pth")
    assert "has a shape and no values" in refused(imported, tmp_path / "meta.pth", "wrn-10-1")


def test_every_name_that_pytorch_reads_without_trust_is_read_or_passed_over():
    from torch._weights_only_unpickler import _get_allowed_globals

    for name in _get_allowed_globals():
        module, _, last = name.rpartition(".")
        if not last.endswith("Storage"):
            checkpoints._Unpickler(io.BytesIO()).find_class(module, last)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_changed_byte_of_a_foreign_checkpoint_is_noticed(tmp_path, place):
    path = tmp_path / "net.pth"
    torch.save(foreign_state(lived_in("wrn-10-1")), path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 64
    path.write_bytes(content)
    assert "cannot be read (Bad CRC-32" in refused(imported, path, "wrn-10-1")


def test_a_tensor_does_not_reach_beyond_its_storage(tmp_path):
    """PyTorch would make the storage as large as the pickle says."""
    path = tmp_path / "huge.pth"
    torch.save({"a": torch.ones(7)}, path)
    content = zipfile.ZipFile(path)
    with zipfile.ZipFile(tmp_path / "forged.pth", "w") as forged:
        for name in content.namelist():
            data = content.read(name)
            if name.endswith("data.pkl"):
                assert data.count(b"K\x07\x85") == 1
                data = data.replace(b"K\x07\x85", b"J\xff\xff\xff\x7f\x85")
            forged.writestr(name, data)
    assert "has a tensor of [2147483647] in a storage of 7 numbers" in refused(read_tensors, tmp_path / "forged.pth")


def test_half_precision_weights_are_widened(tmp_path):
    network = lived_in(mean=MEAN, std=STD)
    path = tmp_path / "half.pth"
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in foreign_state(network).items()}, path)
    found, _ = imported(path)
    assert found.fc.weight.dtype == torch.float32
    torch.testing.assert_close(found(IMAGES), network(IMAGES), atol=0.02, rtol=0.02)


def test_foreign_weights_of_another_architecture_are_refused(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(foreign_state(lived_in()), path)
    assert "'conv1.weight' has shape [8, 3, 3, 3]; expected [24, 3, 3, 3]" in refused(
        imported, path, "densenet-bc-10-12"
    )
    assert "'fc.weight' has shape" in refused(imported, path, classes=6)
    state = foreign_state(lived_in())
    state["bn1.bias"] = state["bn1.bias"].clone().fill_(float("nan"))
    torch.save(state, path)
    assert "'bn1.bias' has" in refused(imported, path)


@pytest.mark.parametrize("content", [b"", b"\x80", b"not a pickle", b"PK\x03\x04 and no more", b"\x80\x02]q\x00."])
def test_files_that_are_no_checkpoints_are_refused(tmp_path, content):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    assert "net.pth cannot be read" in refused(imported, path)
    assert "there is no checkpoint" in refused(imported, tmp_path / "nothing.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_checkpoints_are_refused(tmp_path, zipped):
    path = tmp_path / "net.pth"
    torch.save(foreign_state(lived_in()), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for part in (0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(part * len(whole))])
        refused(imported, path)


def test_a_checkpoint_without_weights_is_refused(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"epoch": 3}, path)
    assert "holds no weights" in refused(imported, path)


class Evil:
    """Runs something when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def evils(marker):
    command = f"touch {marker}"
    yield Evil(os.system, command)
    yield Evil(eval, f"open({str(marker)!r}, 'w')")
    yield Evil(exec, f"open({str(marker)!r}, 'w')")
    yield Evil(subprocess.Popen, ["touch", str(marker)])
    yield Evil(open, str(marker), "w")
    yield Evil(getattr, subprocess.Popen, "wait")
    yield Evil(Path.touch, marker)
    yield Evil(torch.save, 0, str(marker))
    yield Evil(torch.hub.load, "somebody/something", "model")
    yield Evil(np.save, str(marker), np.zeros(1))
    yield Evil(pytest.main, [str(marker)])
    yield Evil(torch.nn.modules.module.Module.load_state_dict, 0)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("case", range(12))
def test_a_pickle_that_tries_to_run_code_is_refused_and_nothing_runs(tmp_path, zipped, case):
    marker = tmp_path / "ran"
    path = tmp_path / "evil.pth"
    content = {"state_dict": {"a": torch.ones(1)}, "evil": list(evils(marker))[case]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    try:
        read_tensors(path)
    except UserError as refusal:
        assert "nothing in it was run" in str(refusal)
        assert "\n" not in str(refusal)
    else:
        assert case == 9  # NumPy's values are dropped, unread
    assert not marker.exists()


def test_a_bare_pickle_cannot_run_code_either(tmp_path):
    marker = tmp_path / "ran"
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Evil(os.system, f"touch {marker}")))
    assert "asks for posix.system" in refused(read_tensors, path)
    assert not marker.exists()


def test_a_pickle_cannot_change_the_classes_that_stand_in(tmp_path):
    # (class, (None, {"dump_patches": True})) BUILD: the way to set an attribute on whatever is on the stack.
    program = b"\x80\x02cmodels\nNet\nN}U\x0cdump_patchesI01\ns\x86b."
    path = tmp_path / "evil.pth"
    path.write_bytes(program)
    assert "tries to change the class" in refused(read_tensors, path)


# --- The real third-party weights ---------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("ODINLIB_DATA"), reason="needs ODINLIB_DATA (with cifar10.npz)")
def test_the_third_party_densenet_classifies_cifar10_as_published():
    from odinlib import datasets

    network, _ = import_checkpoint(checkpoint(THIRD_PARTY), "densenet-bc-100-12", 10, mean=MEAN, std=STD)
    test_set = datasets.load("cifar10", "test")
    found = accuracy(network.to(memory_format=torch.channels_last), test_set, batch=32)
    assert found == pytest.approx(0.9454, abs=2e-4)  # an image or two may lie on the edge
