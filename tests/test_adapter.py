"""Whatever kind of network somebody brings: the scores of the plain one, or one line that says what is wrong."""

import copy
import functools
import warnings

import numpy as np
import pytest
import torch
from foreign import READABLE, UNREADABLE, First, Small, Then, images, small
from torch import nn

from odinlib import odin, own
from odinlib.errors import UserError
from odinlib.networks.planar import compiled
from odinlib.odin import ODIN

GRID = ([1.0, 1000.0], [0.0, 0.01])
X = images()


@pytest.fixture(autouse=True)
def no_doubts():
    """A network that is taken is taken without a doubt; tests of doubts are in test_guards.py."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", own.Doubt)
        yield


@pytest.fixture(scope="module")
def expected():
    return odin.sweep(small(), X, *GRID)


def one_line(call, words):
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- What comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", READABLE)
def test_logits_are_found_in_what_a_network_gives(kind, expected):
    assert torch.equal(odin.sweep(Then(READABLE[kind]), X, *GRID), expected)
    detector = ODIN(Then(READABLE[kind]), epsilon=0.01).fit(X)
    assert torch.equal(detector.score_samples(X), expected[1, 1])


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_are_no_logits_is_refused_with_its_shape(kind):
    one_line(lambda: ODIN(Then(UNREADABLE[kind])).fit(X), "the network gives .* 32 images.*expected")
    one_line(lambda: odin.sweep(Then(UNREADABLE[kind]), X, *GRID), "the network gives")
    one_line(lambda: odin.odin_score(Then(UNREADABLE[kind]), X[:5], 1.0, 0.0), "for 5 images")


def test_several_outputs_need_a_word_which(expected):
    two = Then(lambda z: (z, z @ torch.ones(4, 7)))
    one_line(lambda: ODIN(two).fit(X), r"0 \[32, 4\], 1 \[32, 7\].*output=0 or 1")
    assert torch.equal(ODIN(two, epsilon=0.01, output=0).fit(X).score_samples(X), expected[1, 1])
    named = Then(lambda z: {"main": z, "aux": -z})
    assert torch.equal(ODIN(named, epsilon=0.01, output="main").fit(X).score_samples(X), expected[1, 1])
    one_line(
        lambda: ODIN(named, output="mian").fit(X),
        r"output is 'mian', and .* no such tensor; expected one of .*main \[\d+, \d+\]",
    )


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_logit_is_two_by_an_option(shape):
    one = Then(lambda z: z[:, 0].reshape(shape))
    one_line(lambda: ODIN(one).fit(X), "binary=True")
    two = Then(lambda z: torch.stack([torch.zeros(len(z)), z[:, 0]], 1))
    found, wanted = ODIN(one, binary=True, epsilon=0.01).fit(X), ODIN(two, epsilon=0.01).fit(X)
    assert torch.equal(found.score_samples(X), wanted.score_samples(X))
    assert torch.equal(found.score_and_classify(X)[1], wanted.score_and_classify(X)[1])
    one_line(lambda: ODIN(small(), binary=True).fit(X), r"\[32, 4\].*expected logits \[32, 1\]")


def test_the_last_image_may_come_alone(expected):
    squeezing = Then(torch.squeeze)
    detector = ODIN(squeezing, epsilon=0.01, batch=17).fit(X)  # 120 is 7 times 17 and one more
    assert torch.allclose(detector.score_samples(X), expected[1, 1], rtol=1e-5)


# --- Precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("normalised", [False, True])
def test_networks_in_other_precisions(precision, normalised, expected):
    network = small().to(precision)
    network = own.Normalised(network, [0.5], [0.25]) if normalised else network
    plain = own.Normalised(small(), [0.5], [0.25]) if normalised else small()
    wanted = odin.sweep(plain, X, [1000.0], [0.02])[0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", own.Doubt)
        detector = ODIN(network, epsilon=0.02).fit(X)
    found = detector.score_samples(X)
    assert found.dtype == torch.float64
    near = {torch.float16: 0.02, torch.bfloat16: 0.2, torch.float64: 1e-4}[precision]
    assert (found - wanted).abs().max() < near
    assert next(network.parameters()).dtype == precision


@pytest.mark.parametrize("temperature", [1000.0, 1e5, 1e7])
def test_float16_has_a_direction_for_every_pixel_at_every_temperature(temperature):
    adapted = own.adapt(small().half())
    gradient, _ = odin.input_gradient(adapted, X, temperature)
    exact, _ = odin.input_gradient(small(), X, temperature)
    assert (gradient == 0).double().mean() < 0.001
    assert (gradient.sign() == exact.sign()).double().mean() > 0.99
    assert torch.allclose(gradient.norm(), exact.norm(), rtol=0.01)
    assert adapted.still == adapted.broken == 0 and adapted.asked == len(X)


def test_images_of_any_precision(expected):
    for converted in (X.double(), X.numpy(), X.double().numpy()):
        found = ODIN(small(), epsilon=0.01).fit(converted).score_samples(converted)
        assert torch.allclose(found, expected[1, 1], rtol=1e-4)
    coarse = X.half()
    found = ODIN(small(), epsilon=0.01).fit(coarse).score_samples(coarse)
    assert torch.allclose(found, odin.sweep(small(), coarse.float(), *GRID)[1, 1])


# --- Images are the caller's, modes are put back ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer", [nn.ReLU(inplace=True), nn.Hardtanh(0.2, 0.8, inplace=True), nn.Dropout(inplace=True)]
)
@pytest.mark.parametrize("epsilon", [0.0, 0.01])
def test_operations_in_place_do_not_reach_the_images(layer, epsilon):
    given = X.clone()
    detector = ODIN(nn.Sequential(layer, small()), epsilon=epsilon).fit(given)
    first = detector.score_samples(given)
    assert torch.equal(given, X)
    assert torch.equal(detector.score_samples(given), first)


def test_frozen_weights_are_no_hindrance(expected):
    frozen = small().requires_grad_(False)
    assert torch.equal(ODIN(frozen, epsilon=0.01).fit(X).score_samples(X), expected[1, 1])
    assert not any(weight.requires_grad for weight in frozen.parameters())


def test_modes_are_put_back_as_they_were(expected):
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), small())
    network.train()
    network[1].eval()
    before = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    ODIN(network, epsilon=0.01).fit(X).predict(X)
    assert [module.training for module in network.modules()] == before[1]
    assert all(torch.equal(value, before[0][name]) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())
    failing = Then(lambda z: z[:, 0]).train()
    one_line(lambda: ODIN(failing).fit(X), "binary")
    assert failing.training and failing.network.training


# --- The state around the call ----------------------------------------------------------------------------------------


def in_autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def in_another_default_dtype():
    @functools.wraps(in_another_default_dtype)
    class Guard:
        def __enter__(self):
            torch.set_default_dtype(torch.float64)

        def __exit__(self, *_):
            assert torch.get_default_dtype() == torch.float64  # it was put back inside
            torch.set_default_dtype(torch.float32)

    return Guard()


class Flags:
    """Flags of PyTorch's set, and that they are still set at the end."""

    def __init__(self, read, write, value):
        self.read, self.write, self.value = read, write, value

    def __enter__(self):
        self.before = self.read()
        self.write(self.value)

    def __exit__(self, *_):
        assert self.read() == self.value
        self.write(self.before)


STATES = {
    "autocast": in_autocast,
    "default dtype": lambda: Flags(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "half default dtype": lambda: Flags(torch.get_default_dtype, torch.set_default_dtype, torch.bfloat16),
    "coarse products": lambda: Flags(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"),
    "deterministic": lambda: Flags(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("state", STATES)
def test_the_state_around_the_call_does_not_matter(state, expected):
    class Making(nn.Module):  # which makes a tensor of the default precision and device, as position embeddings do
        def __init__(self):
            super().__init__()
            self.network = small()

        def forward(self, x):
            return self.network(x * torch.ones(3, 1, 1) + torch.zeros(1, device=x.device))

    network = Making()
    wanted = ODIN(network, epsilon=0.01).fit(X)
    with STATES[state]():
        found = ODIN(network, epsilon=0.01).fit(X)
        scores, swept = wanted.score_samples(X), odin.sweep(network, X, *GRID)
        single = odin.odin_logits(network, X[:3], 1000.0, 0.01)
    assert torch.equal(scores, expected[1, 1]) and torch.equal(swept, expected)
    assert found.threshold_ == wanted.threshold_
    assert torch.equal(single, odin.odin_logits(network, X[:3], 1000.0, 0.01))


def test_images_made_in_inference_mode(expected):
    with torch.inference_mode():
        made = X.clone()
    assert torch.equal(ODIN(small(), epsilon=0.01).fit(made).score_samples(made), expected[1, 1])
    assert torch.equal(odin.sweep(small(), made, *GRID), expected)
    assert torch.isfinite(odin.odin_score(small(), made, 1000.0, 0.01)).all()


# --- No gradient ------------------------------------------------------------------------------------------------------


class Without(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.network, self.mode = small(), mode

    def forward(self, x):
        with self.mode():
            return self.network(x)


@pytest.mark.parametrize(
    "network",
    [
        Without(torch.no_grad),
        Without(torch.inference_mode),
        Then(torch.Tensor.detach),
        First(torch.Tensor.detach),
        First(lambda x: torch.from_numpy(x.detach().numpy())),
    ],
)
def test_a_network_without_a_gradient_is_named_in_one_line(network):
    one_line(lambda: ODIN(network).fit(X), "no gradient.*epsilon = 0")
    one_line(lambda: odin.sweep(network, X, *GRID), "no gradient")
    assert (ODIN(network, epsilon=0).fit(X).predict(X) == 1).sum() == 114


# --- Compiled, exported, scripted, quantised --------------------------------------------------------------------------


def exported(dynamic, first=8):
    shapes = None if dynamic is None else ({0: dynamic},)
    return torch.export.export(small(), (X[:first],), dynamic_shapes=shapes)


@pytest.mark.parametrize(
    "dynamic", [None, torch.export.Dim("n"), torch.export.Dim("n", min=4, max=16)], ids=["fixed", "any", "4 to 16"]
)
def test_exported_programs_of_any_batch_size(dynamic, expected):
    program = exported(dynamic)
    for network in (program, program.module(), own.Exported(program), nn.Sequential(own.Exported(program))):
        found = ODIN(network, epsilon=0.01, batch=50).fit(X)
        assert torch.allclose(odin.sweep(network, X, *GRID, batch=50), expected, rtol=1e-4, atol=1e-4)
        assert torch.allclose(found.score_samples(X[:1]), found.score_samples(X)[:1], rtol=1e-4)
    normalised = own.Normalised(program, [0.5], [0.25])
    wanted = odin.sweep(own.Normalised(small(), [0.5], [0.25]), X[:5], *GRID)
    assert torch.allclose(odin.sweep(normalised, X[:5], *GRID), wanted, rtol=1e-4, atol=1e-4)
    one_line(lambda: odin.sweep(program, images(5, size=9), *GRID), "does not take images of shape")


@pytest.mark.parametrize("how", ["module", "in place", "a part", "function"])
def test_compiled_networks_over_a_grid(how, expected):
    """By the compiler's front alone, whose backward passes give their memory away as the whole compiler's do."""
    network = small()
    if how == "in place":
        network.compile(backend="aot_eager")
    elif how == "a part":
        network = nn.Sequential(nn.Identity(), torch.compile(network, backend="aot_eager"))
    else:
        network = torch.compile(network if how == "module" else network.forward, backend="aot_eager")
    scores = ODIN(network, epsilon=0.01).fit(X).score_samples(X)
    assert torch.allclose(scores, expected[1, 1], rtol=1e-4)
    assert torch.allclose(odin.sweep(network, X, *GRID), expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_the_whole_compiler(expected):
    if compiled.compiler() is None:
        pytest.skip("there is no compiler here")
    network = torch.compile(small())
    assert torch.allclose(odin.sweep(network, X[:64], *GRID), expected[..., :64], rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_scripted_and_quantised_networks(expected):
    for network in (torch.jit.script(small()), torch.jit.trace(small(), X[:2])):
        assert torch.allclose(ODIN(network, epsilon=0.01).fit(X).score_samples(X), expected[1, 1], rtol=1e-4)
    quantised = torch.ao.quantization.quantize_dynamic(small(), {nn.Linear})
    found = ODIN(quantised, epsilon=0).fit(X).score_samples(X)
    assert (found - expected[1, 0]).abs().max() < 0.1


def test_functions_and_methods_of_images(expected):
    network = small()
    for function in (network.forward, lambda x: network(x), functools.partial(torch.nn.Module.__call__, network)):
        assert torch.equal(ODIN(function, epsilon=0.01).fit(X).score_samples(X), expected[1, 1])


# --- Random, or of the whole batch ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [
        Then(lambda z: torch.nn.functional.dropout(z, 0.2, training=True)),
        First(lambda x: x + 0.05 * torch.randn_like(x)),
        Then(lambda z: torch.nn.functional.dropout(z, 0.2, training=True), small().half()),
        First(lambda x: torch.roll(x, int(torch.randint(1, 7, ()).item()), -1) * torch.rand(1)),
    ],
)
def test_random_networks_are_refused(network):
    one_line(lambda: ODIN(network, epsilon=0).fit(X.float()), "the second time.*deterministic")


@pytest.mark.parametrize(
    "network",
    [
        First(lambda x: torch.nn.functional.batch_norm(x, None, None, training=True)),
        nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), small()),
        Then(lambda z: z - z.mean(0)),
        First(lambda x: x - x.mean()),
        Then(lambda z: z.flip(0) if len(z) > 1 else z),
    ],
)
@pytest.mark.parametrize("count", [1, 120])
def test_networks_whose_images_mix_are_refused(network, count):
    one_line(lambda: ODIN(network).fit(X[:count]), "depend on the images beside it")


def test_what_normalises_each_image_is_taken():
    for layer in (nn.InstanceNorm2d(3), nn.LayerNorm([3, 8, 8]), nn.GroupNorm(1, 3)):
        assert (ODIN(nn.Sequential(layer, small())).fit(X).predict(X) == 1).sum() == 114


# --- No network at all ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: small().state_dict(), "network is a state dict.*load_state_dict"),
        (lambda: dict(small().state_dict()), "network is a state dict"),
        (lambda: "net.pth", "network is a path"),
        (lambda: __import__("pathlib").Path("net.pth"), "network is a path"),
        (lambda: Small, "network is the class Small"),
        (lambda: None, "network is NoneType"),
        (lambda: np.zeros((3, 3)), "network is ndarray"),
        (lambda: torch.zeros(3, 3), "network is Tensor"),
        (lambda: small().to("meta"), "first.weight is on the meta device"),
        (lambda: nn.Sequential(small(), nn.Linear(4, 4, device="meta")), "1.weight is on the meta device"),
    ],
)
def test_what_is_no_network_is_told(made, words):
    one_line(lambda: ODIN(made()), words)
    one_line(lambda: own.Normalised(made(), [0.5], [0.5]), words)


def test_what_builds_a_network_is_told():
    one_line(lambda: ODIN(lambda *_: small()).fit(X), "builds a network.*call it")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (images(8, channels=1), r"\[8, 1, 8, 8\].*expected \[N, 3, height, width\]; .*expand\(-1, 3, -1, -1\)"),
        (images(8, channels=4), r"\[8, 4, 8, 8\].*expected \[N, 3, height, width\]"),
        (images(8).permute(0, 2, 3, 1), "channels before height"),
        (images(8)[:, :, 0], r"\[8, 3, 8\]"),
    ],
)
def test_images_of_another_kind_are_told_with_their_shape(given, words):
    one_line(lambda: odin.sweep(small(), given, *GRID), words)
