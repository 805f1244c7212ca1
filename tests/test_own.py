"""Foreign modules: read as they are, refused by name."""

import pytest
import torch
from torch import nn

from odinlib import odin, own
from odinlib.errors import Missing, UserError


def test_normalisation_goes_in_front(tmp_path):
    network = nn.Flatten()
    normalised = own.Normalised(network, [0.5, 0.4, 0.3], [0.1, 0.2, 0.5])
    x = torch.rand(2, 3, 4, 4)
    expected = (x - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / torch.tensor([0.1, 0.2, 0.5]).view(1, 3, 1, 1)
    assert torch.allclose(normalised(x), expected.flatten(1))
    with pytest.raises(UserError, match="std"):
        own.Normalised(network, None, [0.0])


def test_exported_programs_are_loaded_and_have_input_gradients(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)).eval()
    x = torch.rand(4, 3, 4, 4)
    program = torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = own.load_network(tmp_path / "net.pt2", trusted=True)
    expected = odin.sweep(network, x[:3], [1.0, 1000.0], [0.0, 0.01], batch=2)
    assert torch.allclose(odin.sweep(loaded, x[:3], [1.0, 1000.0], [0.0, 0.01], batch=2), expected, atol=1e-5)
    assert torch.equal(
        odin.ODIN(loaded, epsilon=0.01).fit(x).predict(x), odin.ODIN(network, epsilon=0.01).fit(x).predict(x)
    )


def weights_of(folder):
    """A file of weights alone."""
    torch.save(nn.Linear(4, 2).state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: own.load_network(p / "none.pt2"), Missing, "not there"),
        (lambda p: own.load_network(weights_of(p)), UserError, "--architecture.*FILE.py:NAME; in Python also a constr"),
        (lambda p: own.load_network(weights_of(p), architecture=nn.Linear(4, 2)), UserError, "is of type Linear"),
        (lambda p: own.load_network(weights_of(p), architecture=nn.Linear), UserError, "constructor without arguments"),
        (lambda p: own.load_network(weights_of(p), architecture=5), UserError, "is of type int; expected a constr"),
        (lambda p: ((p / "bad.pt2").write_bytes(b"x"), own.load_network(p / "bad.pt2")), UserError, "holds no network"),
    ],
)
def test_mistakes_are_named(tmp_path, make, error, words):
    with pytest.raises(error, match=words):
        make(tmp_path)
