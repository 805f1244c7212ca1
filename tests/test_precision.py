"""Networks asked in another precision than float32: near to it by how much, never mixed with it, and said."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from test_cli import CHOSEN, odin, refused
from test_devices import place  # noqa: F401
from test_fast import network, relative

from odinlib import (
    artefacts,
    datasets,
    devices,
    experiments,
    metrics,
    networks,
    profiles,
    record,
    store,
    trained,
)
from odinlib import odin as method
from odinlib.errors import Missing, UserError
from odinlib.networks.fast import Frozen, OnGpu, fast
from odinlib.networks.parallel import Parts
from odinlib.networks.train import Recipe, train

SETTINGS = [(1.0, 0.0), (1.0, 0.0014), (1000.0, 0.0), (1000.0, 0.0014), (1000.0, 0.004)]
#: What scores may differ by from those in float32 at most, and in the root mean square, in standard deviations of the
#: scores of one setting. Bits that are kept: 24, 11 (of factors only), 11, 8.
BOUNDS = {"float32": (1e-4, 1e-5), "tf32": (0.05, 0.01), "float16": (0.05, 0.01), "bfloat16": (0.3, 0.06)}


@pytest.fixture(scope="module", params=["wrn-10-1", "densenet-bc-10-6", "mlp-32x3"])
def learnt(request):
    """A small network that has learnt something, at 16 x 16, and images: some of its own and some foreign ones."""
    size = 16 if request.param.startswith("mlp") else 18  # as the released crops: larger by an eighth than in training
    found = datasets.load("shapes10", "train", count=400)
    made = networks.build(request.param, 10, size=16, mean=[0.5] * 3, std=[0.25] * 3, seed=0)
    train(made, found, Recipe(epochs=2, batch=32, weight_decay=1e-3, padding=2), seed=0, device="cpu", progress=False)
    images = [datasets.load(name, "test", count=16).tensor(np.arange(16)) for name in ("shapes10", "photos-crop")]
    return made.eval(), torch.nn.functional.interpolate(torch.cat(images), size, mode="bilinear")


@pytest.mark.parametrize("place", ["emulated", "cuda", "mps"], indirect=True)
@pytest.mark.parametrize("precision", devices.PRECISIONS)
def test_scores_are_near_to_those_in_float32(place, learnt, precision):  # noqa: F811
    found, images = learnt
    exact, _ = method.score_and_classify(copy.deepcopy(found), images, SETTINGS)
    for where in (torch.device("cpu"), place):
        scores, _ = method.score_and_classify(fast(copy.deepcopy(found).to(where), precision), images, SETTINGS)
        away = (scores - exact) / exact.std(-1, keepdim=True)
        largest, typical = BOUNDS[precision]
        assert away.abs().max() < largest and away.square().mean().sqrt() < typical
        if devices.PRECISIONS[precision] != torch.float32:
            assert away.abs().max() > 1e-5  # or it was float32 after all
        areas = [metrics.auroc(*found.split(16, -1)) for found in (scores, exact)]
        assert (areas[0] - areas[1]).abs().max() < largest / 5


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["wrn-10-1", "densenet-bc-10-4"])
def test_directions_are_exact_and_clean_logits_are_of_the_same_passes(name, precision):
    found = network(name, classes=4, channels=3, size=32)
    images = torch.rand(5, 3, 36, 36, generator=torch.Generator().manual_seed(2))
    form, reference = fast(found, precision), copy.deepcopy(found).double()
    gradients, logits = method.input_gradients(form, images, [1.0, 1000.0])
    exact, _ = method.input_gradients(reference, images.double(), [1.0, 1000.0])
    assert all(relative(one, other) < 1e-4 for one, other in zip(gradients, exact, strict=True))
    # On a CPU "tf32" is float32, where the engine of PyTorch's operations adds up in another order.
    rounding = 1e-6 if (precision, form.engine) == ("tf32", "fast") else 0
    assert torch.allclose(logits, form(images), rtol=0, atol=rounding) and logits.dtype == torch.float32


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["wrn-10-1", "densenet-bc-10-4", "mlp-8x3"])
def test_the_first_layer_sees_the_smallest_perturbation(place, name, precision):  # noqa: F811
    """A pixel near 1 that moves by 1/5000 is the same number in 8 or 11 bits."""
    found = network(name, classes=4, channels=3, size=8).to(place)
    form, seen = fast(found, precision), []
    inner = form.form if isinstance(form, OnGpu) else form
    images = torch.full((1, 3, 8, 8), 0.9)
    assert (images + 1 / 5000).to(torch.bfloat16).eq(images.to(torch.bfloat16)).all()
    if isinstance(inner, Frozen):
        first = next(m for m in inner.network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear))
        first.register_forward_hook(lambda _, given, out: seen.append(out.cpu()))
        for moved in (images, images + 1 / 5000):
            form(moved.to(place))
        assert seen[0].dtype == torch.float32 and (seen[0] - seen[1]).abs().max() > 1e-4
    else:
        assert inner.first.dtype == torch.float32


def test_a_part_is_halved_when_memory_is_short():
    tried = []

    def work(part):
        tried.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return part * 2

    parts, images = Parts(16), torch.arange(10.0)
    assert torch.equal(torch.cat(list(parts(work, images))), images * 2)
    assert tried == [10, 5, 3, 3, 3, 1] and parts.most == 3
    assert len(list(parts(work, images[:0]))) == 1  # nothing, but of the right shape
    with pytest.raises(torch.OutOfMemoryError):
        list(Parts(2)(lambda part: work(torch.zeros(4)), images))


def test_a_form_on_a_gpu_goes_on_with_fewer_images(place, monkeypatch):  # noqa: F811
    if place.type not in ("meta", "cuda"):
        pytest.skip("only CUDA tells what is out of memory")
    found = network("wrn-10-1", classes=4, channels=3, size=8)
    images = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    form, most = fast(copy.deepcopy(found).to(place)), []
    assert form.images_per_pass >= 256
    whole = networks.WideResNet.logits

    def short(self, x):
        most.append(len(x))
        if len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, x)

    monkeypatch.setattr(networks.WideResNet, "logits", short)
    scores, _ = method.score_and_classify(form, images, SETTINGS)
    assert most[:2] == [9, 5] and max(most[-5:]) <= 4
    monkeypatch.undo()
    assert torch.allclose(scores, method.score_and_classify(found, images, SETTINGS)[0], rtol=1e-4, atol=1e-4)


def test_products_on_cuda_are_as_asked_for_and_afterwards_as_before():
    def now():
        cudnn = torch.backends.cudnn
        return cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic, torch.backends.cuda.matmul.allow_tf32

    cuda, before = torch.device("cuda"), now()
    with devices.arithmetic(cuda, tf32=True, fastest=True):
        assert now() == (True, True, False, True)
        with devices.exact(cuda):
            assert now() == (False, False, True, False)
        assert now() == (True, True, False, True)
        with devices.arithmetic(torch.device("cpu")):
            assert now() == (True, True, False, True)
    assert now() == before


def test_kernels_are_exact_in_float32_and_a_choice():
    found = network("wrn-10-1", classes=4, channels=3, size=8)
    for precision, kernels, used in (
        ("float32", None, "exact"),
        ("float16", None, "fastest"),
        ("float16", "exact", "exact"),
        ("float32", "fastest", "fastest"),
    ):
        assert OnGpu(fast(found, precision), precision, kernels, 8).kernels == used
    assert getattr(fast(found, "float16"), "kernels", None) is None  # a CPU has no choice
    for wrong in ({"precision": "float8"}, {"kernels": "quick"}):
        with pytest.raises(UserError, match="expected one of"):
            fast(found, **wrong)


# --- The record -------------------------------------------------------------------------------------------------------

NET, ID = "mlp-8x2", "digits"


def test_two_precisions_lie_side_by_side_and_neither_is_taken_for_the_other(tiny):
    half = dataclasses.replace(tiny, precision="bfloat16")
    for profile in (tiny, half):
        list(record.respond(profile.trained(NET, ID), ["strokes"]))
    settings, indices = [(1.0, 0.0), (1000.0, 0.02)], np.arange(20)
    reading = [dataclasses.replace(profile, compute=False).trained(NET, ID) for profile in (tiny, half)]
    files = [store.recorded(of, "strokes", "grids") for of in reading]
    assert [[one.path.name for one in found] for found in files] == [["strokes.npz"], ["strokes_bfloat16.npz"]]
    assert [found[0].header.get("precision") for found in files] == [None, "bfloat16"]
    held = np.flatnonzero(store.held_out(reading[0], "strokes"))[:20]
    exact, near = (store.scores(of, "strokes", settings, held) for of in reading)
    assert 0 < (near - exact).abs().max() < 0.1 * exact.std()
    made = [artefacts.load(found[0].path).provenance["precision"] for found in files]
    assert made == ["float32", "bfloat16"]
    # What is there in one precision only is missing in the other, and its command names the precision.
    list(record.respond(half.trained(NET, ID), ["letters"]))
    with pytest.raises(Missing, match="not recorded"):
        store.responses(reading[0], "letters", indices)
    for path in (tiny.folder / "responses" / reading[1].key).glob("*_bfloat16.npz"):
        path.unlink()
    with pytest.raises(Missing, match=r"asked in bfloat16, .*--precision bfloat16"):
        store.responses(reading[1], "letters", indices)
    assert len(store.responses(reading[0], "strokes", held).logits) == 20


def test_what_is_resumed_keeps_its_precision_and_the_others_its_own(tiny, monkeypatch):
    of = dataclasses.replace(tiny, precision="bfloat16").trained(NET, ID)
    trained.network(of)
    monkeypatch.setattr(store.making, "SHARD", 20)
    plain, count = method.batches, []

    def stopped(*arguments, **options):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    monkeypatch.setattr(method, "batches", stopped)
    with pytest.raises(KeyboardInterrupt):
        store.make_responses(of, ID, store.Part(store.draw(of, ID)))
    (shards,) = (tiny.folder / "responses" / of.key).glob("*.shards")
    kept = {path: path.read_bytes() for path in shards.iterdir()}
    assert shards.name == f"{ID}_bfloat16.npz.shards" and len(kept) == 2
    assert all(artefacts.load_header(path)["precision"] == "bfloat16" for path in kept)
    exact = tiny.trained(NET, ID)
    store.make_responses(exact, ID, store.Part(store.draw(exact, ID)))  # beside it, and whole
    assert {path: path.read_bytes() for path in shards.iterdir()} == kept
    done = len(count)
    store.make_responses(of, ID, store.Part(store.draw(of, ID)))
    assert len(count) == done + 1  # the third shard alone
    assert not shards.exists() and store.recorded(of, ID, "responses")[0].header["precision"] == "bfloat16"


def test_the_command_line_says_what_was_asked_and_in_what(tiny, monkeypatch):
    assert "precision is 'float61'" in refused("respond", *CHOSEN, "--precision", "float61")
    assert "kernels is 'quick'" in refused("respond", *CHOSEN, "--kernels", "quick")
    status, lines, _ = odin("respond", *CHOSEN, "--precision", "float16", "--set", "strokes")
    assert status == 0 and lines
    assert list((tiny.folder / "responses").rglob("strokes_float16.npz"))
    assert not list((tiny.folder / "responses").rglob("strokes.npz"))
    assert not any("asked in" in line for line in odin("status", "--profile", "tiny")[1])
    asked = dataclasses.replace(tiny, precisions={f"{CHOSEN[3]}_{CHOSEN[5]}": "float16"})
    monkeypatch.setitem(profiles.PROFILES, "tiny", asked)
    rows = [line.split() for line in odin("status", "--profile", "tiny")[1] if "(asked in)" in line]
    assert rows and "float16" in rows[0] and "float32" in rows[0]


@pytest.mark.parametrize("place", ["emulated", "cuda"], indirect=True)
def test_from_training_to_the_seal_on_a_gpu(place, tiny, monkeypatch):  # noqa: F811
    """What a GPU is lent for: trained briefly in half precision, asked in float16, sealed, and nothing is missing."""
    name, key = "wrn-10-1", "wrn-10-1_shapes4"
    wide = Recipe(epochs=200, batch=64, weight_decay=1e-3, padding=2)
    profile = dataclasses.replace(
        tiny,
        networks=(name,),
        id_sets=("shapes4",),
        ood_sets={**tiny.ood_sets, "shapes4": ("photos-crop", "uniform")},
        grey_network="mlp-12x1",
        grey_id_set="digits",
        stands_for={name: "wrn-28-10", "shapes4": "cifar10"},
        recipes={**tiny.recipes, "wrn": wide},
        temperatures=(1.0, 1000.0),
        epsilons=(0.0, 0.02),
        images=16,
        holdout=6,
        tuning_sizes=(4, 12),
        device=place,
    )
    monkeypatch.setitem(profiles.PROFILES, "tiny", profile)
    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda name, split="test", **more: few(load(name, split, **more)))
    of = trained.by(profile.trained(name, "shapes4"), epochs=1, precision="bfloat16")
    trained.train(of)
    assert trained.card(of)["recipe"]["precision"] == "bfloat16"
    asked = dataclasses.replace(profile, trainings={key: of.training}, precisions={key: "float16"})
    of = asked.trained(name, "shapes4")
    assert not any(line.startswith("without") for line in record.respond(of))
    files = [path for path in asked.folder.rglob("*.npz") if path.parent.name == of.key]
    assert files and all(path.stem.endswith("_float16") for path in files)
    headers = [artefacts.load(path) for path in files]
    assert all(one.config["precision"] == one.provenance["precision"] == "float16" for one in headers)
    assert all(one.provenance["kernels"] == "fastest" for one in headers)
    reading = dataclasses.replace(asked, compute=False, device="cpu")
    monkeypatch.setitem(profiles.PROFILES, "tiny", reading)
    assert list(record.seal(reading)) and record.verify(reading) == []
    rows, _ = record.status(reading)
    told = {row[1]: row[2] for row in rows if row[0] == "shapes4"}
    assert told.pop("(asked in)") == "float16" and told.pop("(weights)") == "recorded"
    assert set(told) >= {"shapes4", "photos-crop", "uniform"} and set(told.values()) == {"recorded"}
    assert experiments.detections(reading, [(name, "shapes4", "uniform")])
    with pytest.raises(Missing):  # in float32 nothing was asked
        store.responses(dataclasses.replace(reading, precisions={}).trained(name, "shapes4"), "uniform")


def few(found):
    return found.take(range(min(256, len(found))))
