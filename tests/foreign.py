"""Networks as other people have them, around one small classifier: for tests of what a detector takes."""

import types
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Images [N, 3, 8, 8] (or any size) to logits [N, 4]."""

    def __init__(self, classes: int = 4, channels: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 3, padding=1)
        self.last = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return 20 * self.last(torch.tanh(self.first(x)).mean((2, 3)))


def small(seed: int = 0, classes: int = 4) -> Small:
    generator = torch.random.get_rng_state()
    torch.manual_seed(seed)
    made = Small(classes).eval()
    torch.random.set_rng_state(generator)
    return made


def images(count: int = 120, seed: int = 1, channels: int = 3, size: int = 8) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


class Then(nn.Module):
    """A network, and something done to what it gives."""

    def __init__(self, after, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.after = network or small(), after

    def forward(self, x: Tensor):
        return self.after(self.network(x))


class First(nn.Module):
    """Something done to the images, and a network."""

    def __init__(self, before, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.before = network or small(), before

    def forward(self, x: Tensor):
        return self.network(self.before(x))


class ModelOutput(OrderedDict):
    """As HuggingFace's: a dictionary whose entries are attributes too."""

    def __getattr__(self, name):
        return self[name]


@dataclass
class Record:
    scores: Tensor
    name: str = "x"


Pair = namedtuple("Pair", ("outputs", "hidden"))

#: What a network gives in place of its logits, where there is one way to read it.
READABLE = {
    "tuple": lambda z: (z,),
    "list": lambda z: [z],
    "tuple with None": lambda z: (None, z),
    "tuple with a loss": lambda z: (z.mean(), z),
    "dict": lambda z: {"out": z},
    "dict with features": lambda z: {"features": z @ torch.ones(4, 7), "logits": z},
    "model output": lambda z: ModelOutput(loss=None, logits=z, hidden_states=(z[:, None, :], z[:, None, :])),
    "named tuple": lambda z: Pair(z, z[:, :, None]),
    "object": lambda z: types.SimpleNamespace(logits=z, attentions=None),
    "dataclass": Record,
    "nested": lambda z: {"head": (z,), "aux": []},
}

#: What is no logits, one row an image.
UNREADABLE = {
    "[N]": lambda z: z[:, 0],
    "[N, 1]": lambda z: z[:, :1],
    "[1, K]": lambda z: z.mean(0, keepdim=True),
    "[K]": lambda z: z.mean(0),
    "a number": lambda z: z.mean(),
    "[N, K, 1, 1]": lambda z: z[:, :, None, None],
    "[K, N]": lambda z: z.T,
    "[2 N, K]": lambda z: torch.cat([z, z]),
    "classes": lambda z: z.argmax(-1),
    "one-hot": lambda z: torch.nn.functional.one_hot(z.argmax(-1), 4),
    "complex": lambda z: torch.complex(z, z),
    "None": lambda z: None,
    "text": lambda z: "cat",
    "empty tuple": lambda z: (),
    "two heads": lambda z: (z, z @ torch.ones(4, 7)),
}
