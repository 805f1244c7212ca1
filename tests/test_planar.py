"""The planar engine gives the network's own logits and gradients, whatever the shape."""

import copy
import pickle
import platform
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engines import python
from test_fast import TEMPERATURES, network, relative

from odinlib import odin
from odinlib.errors import UserError
from odinlib.networks import build, engines, planar
from odinlib.networks.fast import Planar, fast
from odinlib.networks.planar import compiled
from odinlib.networks.prefix import FastDenseNet

SHAPES = [
    # name, classes, channels, trained size, height, width, images
    ("densenet-bc-16-12", 10, 3, 32, 32, 32, 5),
    ("densenet-bc-22-8", 10, 3, 32, 36, 36, 6),  # of the last 9 x 9 maps the window takes 8 x 8
    ("densenet-bc-16-4", 2, 1, 32, 13, 13, 5),  # an odd size, of which pooling leaves out the last
    ("densenet-bc-16-5", 3, 3, 13, 32, 32, 3),  # odd numbers of maps; a window of 3 x 3
    ("densenet-bc-10-40", 100, 3, 16, 16, 16, 3),
    ("densenet-bc-16-6", 200, 2, 64, 64, 64, 3),
    ("densenet-bc-10-4", 7, 3, 4, 4, 6, 19),
    ("densenet-bc-16-4", 7, 3, 32, 6, 4, 33),
    ("densenet-bc-16-6", 5, 3, 18, 29, 50, 4),
]
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}-{shape[4]}x{shape[5]}")


@pytest.fixture(autouse=True)
def something_compiled(compiled_here):
    """All tests here compute with it."""


def example(name, classes, channels, size, height, width, count):
    """The planar form of a network as if trained, the network in float64, and images."""
    found = network(name, classes, channels, size)
    images = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(2))
    return Planar(found, torch.float32), copy.deepcopy(found).double(), images


def differ(ours, exact):
    """The largest difference of gradients [N, C, H, W], of each pixel the middle one of the images, over the largest.

    A value next to a ReLU's 0 may be rounded to either side of it, by which every engine is off in one image or other.
    """
    return ((ours - exact).abs().median(0).values.max() / exact.abs().max()).item()


@by_shape
def test_logits_and_gradients_are_those_of_float64(shape):
    form, reference, images = example(*shape)
    assert relative(form(images), reference(images.double())) < 1e-5
    ours, logits = odin.input_gradients(form, images, TEMPERATURES)
    theirs, clean = odin.input_gradients(reference, images.double(), TEMPERATURES)
    assert relative(logits, clean) < 1e-5
    for gradient, exact in zip(ours, theirs, strict=True):
        assert gradient.shape == images.shape
        assert differ(gradient, exact) < 1e-5


@settings(max_examples=25)
@given(
    st.sampled_from([10, 16]),
    st.integers(1, 14),
    st.integers(2, 30),
    st.integers(1, 3),
    st.tuples(*[st.integers(4, 40)] * 3),
    st.integers(1, 9),
)
def test_any_shape(depth, growth, classes, channels, sizes, count):
    trained, height, width = sizes
    found = build(f"densenet-bc-{depth}-{growth}", classes, channels, trained, seed=0).eval()
    images = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(2))
    (ours,), logits = Planar(found, torch.float32).input_gradients(images, [10.0])
    (exact,), clean = odin.input_gradients(found.double(), images.double(), [10.0])
    assert (logits - clean).abs().max() <= 1e-5 * clean.abs().max() + 1e-7  # with few maps, all may be dead
    # The median: a value next to a ReLU's 0 may fall on either side of it.
    assert (ours - exact).abs().median() <= 1e-5 * exact.std() + 1e-9


@by_shape
def test_autograd_goes_through(shape):
    form, reference, images = example(*shape)
    weights = torch.randn(shape[-1], shape[1], generator=torch.Generator().manual_seed(3))
    gradients = []
    for each, x, w in ((form, images, weights), (reference, images.double(), weights.double())):
        x = x.clone().requires_grad_()
        (each(x) * w).sum().backward()
        gradients.append(x.grad)
    assert differ(*gradients) < 1e-5
    assert not form(images).requires_grad


@by_shape
def test_bfloat16_is_near_and_its_gradients_are_exact(shape):
    form, reference, images = example(*shape)
    found = network(*shape[:4])
    if not planar.takes(found, torch.bfloat16) or not compiled.library().planar_has_bfloat16():
        pytest.skip("not in bfloat16")
    half = Planar(found, torch.bfloat16)
    exact = reference(images.double())
    error = relative(half(images), exact)
    assert 1e-6 < error < 0.05
    assert error < 2 * relative(FastDenseNet(found, torch.bfloat16, 4)(images), exact) + 1e-3
    assert half(images).dtype == torch.float32
    assert torch.equal(half.input_gradients(images, [1000.0])[0][0], form.input_gradients(images, [1000.0])[0][0])


def test_odd_numbers_of_maps_are_left_to_the_other_engine_in_bfloat16():
    assert planar.takes(build("densenet-bc-16-5", 3), torch.float32)
    assert not planar.takes(build("densenet-bc-16-5", 3), torch.bfloat16)
    assert not planar.takes(build("densenet-bc-10-4", 3), torch.bfloat16)  # the last block has 9 maps
    assert not planar.takes(build("wrn-10-1", 3), torch.float32)
    if engines.wanted() != "plain":
        assert isinstance(fast(build("densenet-bc-16-5", 3), "bfloat16"), FastDenseNet)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_image_takes_the_same_bits_alone_among_others_and_in_threads(dtype):
    if dtype == torch.bfloat16 and not compiled.library().planar_has_bfloat16():
        pytest.skip("no bfloat16")
    found = network("densenet-bc-22-8", 10, 3, 32)
    form = Planar(found, dtype)
    images = torch.rand(11, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    (gradients,), threads = form.input_gradients(images, [1000.0])[0], torch.get_num_threads()
    logits = form(images)
    assert torch.equal(torch.cat([form(image) for image in images.split(1)]), logits)
    assert torch.equal(torch.cat([form(part) for part in images.split(3)]), logits)
    alone = [form.input_gradients(part, [1000.0])[0][0] for part in images.split(2)]
    assert torch.equal(torch.cat(alone), gradients)
    try:
        torch.set_num_threads(3)
        assert torch.equal(form(images), logits)
        assert torch.equal(form.input_gradients(images, [1000.0])[0][0], gradients)
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(4) as pool:  # of the caller's, all at once
            assert all(torch.equal(each, logits) for each in pool.map(form, [images] * 8))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_images_that_are_no_numbers_give_nan_and_leave_the_others_alone(precision, wrong):
    found = network("densenet-bc-22-8", 10, 3, 16)
    form = fast(found, precision)
    images = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    logits, clean = form(images), form.input_gradients(images, [1.0])[0][0]
    images[2, 0, 1, 1] = wrong
    others = [0, 1, 3, 4, 5, 6]
    assert torch.isnan(found(images)[2]).all()
    again, gradients = form(images), form.input_gradients(images, [1.0])[0][0]
    assert torch.isnan(again[2]).all() and torch.equal(again[others], logits[others])
    assert torch.isnan(gradients[2]).all() and torch.equal(gradients[others], clean[others])
    images[2] = 0.5  # nothing of it stays behind
    assert torch.isfinite(form(images)).all() and torch.isfinite(form.input_gradients(images, [1.0])[0][0]).all()


def test_a_sure_network_still_has_a_gradient():
    form, reference, images = example("densenet-bc-22-8", 10, 3, 16, 16, 16, 5)
    largest = reference(images.double()).topk(2).values
    reference.fc.weight.data *= 20 / (largest[:, 0] - largest[:, 1]).max()
    form = Planar(copy.deepcopy(reference).float(), torch.float32)
    ours, _ = odin.input_gradient(form, images, 1.0)
    exact, _ = odin.input_gradient(reference, images.double(), 1.0)
    scale = exact.abs().flatten(1).amax(1)
    assert scale.min() < 1e-7  # sure indeed
    assert ((ours - exact).abs().flatten(1).amax(1) / scale).max() < 1e-3


def test_images_of_other_kinds():
    form, _, images = example("densenet-bc-10-4", 3, 3, 8, 8, 8, 5)
    logits = form(images)
    assert form(images[:0]).shape == (0, 3) and form.input_gradients(images[:0], [1.0])[0][0].shape == (0, 3, 8, 8)
    assert form.input_gradients(images, [])[0] == []
    assert torch.equal(form(images.contiguous(memory_format=torch.channels_last)), logits)
    assert torch.equal(form(images.double()), logits)
    assert torch.equal(form(images.repeat(1, 1, 1, 2)[..., :8]), logits)  # not contiguous
    for wrong in (images[0], images[:, :2], images[:, :, :3], images.flatten(1)):
        for refuse in (form, lambda x: form.input_gradients(x, [1.0]), fast(network("densenet-bc-10-4", 3, 3, 8))):
            with pytest.raises(UserError, match="densenet-bc-10-4 was given images of"):
                refuse(wrong)


def test_what_the_caller_has_set_does_not_matter():
    form, reference, images = example("densenet-bc-10-4", 3, 3, 8, 8, 8, 5)
    (gradient,), logits = form.input_gradients(images, [1.0])
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.equal(Planar(reference.float(), torch.float32)(images), logits)
        assert torch.equal(form(images), logits) and torch.equal(form.input_gradients(images, [1.0])[0][0], gradient)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        assert torch.equal(form(images), logits) and torch.equal(form.input_gradients(images, [1.0])[0][0], gradient)
    with torch.device("meta"):
        assert torch.equal(form(images), logits) and torch.equal(form.input_gradients(images, [1.0])[0][0], gradient)
    empty = images[:0].clone().requires_grad_()
    form(empty).sum().backward()
    assert empty.grad is not None and empty.grad.shape == empty.shape


def test_copies_are_whole():
    form, _, images = example("densenet-bc-10-4", 3, 3, 8, 8, 8, 5)
    logits = form(images)
    twin, thawed = copy.deepcopy(form), pickle.loads(pickle.dumps(form))
    del form
    assert torch.equal(twin(images), logits) and torch.equal(thawed(images), logits)
    assert twin.quick is twin.exact


def test_weights_that_do_not_fit_the_shape_are_refused():
    form, _, images = example("densenet-bc-10-4", 3, 3, 8, 8, 8, 1)
    form.exact.tape = form.exact.tape[:-1]
    with pytest.raises(MemoryError):
        form(images)


@pytest.mark.parametrize("flags", ["-march=x86-64", "-march=x86-64-v3"])
def test_other_vectors_give_the_same_numbers(flags, tmp_path):
    """SSE, and AVX with half as many registers."""
    if platform.machine() != "x86_64" or ("v3" in flags and not torch.cpu._is_avx2_supported()):
        pytest.skip("not this processor's")
    code = (
        "import sys, torch; sys.path.insert(0, 'tests'); from odinlib.networks.planar import compiled\n"
        f"compiled.FLAGS = tuple({flags!r} if 'march' in flag else flag for flag in compiled.FLAGS)\n"
        "import test_planar as t\n"
        "for shape in t.SHAPES[:6]: t.test_logits_and_gradients_are_those_of_float64(shape)\n"
        "print(compiled.library().planar_lanes())"
    )
    assert python(code, tmp_path).strip() == ("4" if flags == "-march=x86-64" else "8")
