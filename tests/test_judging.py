"""`odin score`: from files of a network and images to a row an image, for networks of several libraries."""

import csv
import io
import json
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from odinlib import cli, judging, odin, own
from odinlib.errors import UserError
from odinlib.networks import build
from odinlib.networks.weights import save_weights

NETWORK = """
from torch import nn

def tiny():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 5))
"""


def score(*words) -> tuple[int, list[dict[str, str]], str]:
    """Exit status, rows and stderr of `odin score`."""
    done = CliRunner().invoke(cli.main, ["score", *map(str, words)])
    assert "Traceback" not in done.stderr
    return done.exit_code, list(csv.DictReader(io.StringIO(done.stdout))), done.stderr


def photographs(folder, count, seed=0, dark=False):
    """Images of several sizes in which something can be told apart."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for index in range(count):
        height, width = generator.integers(40, 70, 2)
        coarse = generator.integers(0, 60 if dark else 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{index:03d}.png")


@pytest.fixture
def here(tmp_path):
    """A network's weights and its constructor, familiar images of two kinds, and others."""
    (tmp_path / "mine.py").write_text(NETWORK)
    space = {}
    exec(NETWORK, space)
    torch.manual_seed(0)
    state = space["tiny"]().state_dict()
    safetensors.torch.save_file(state, tmp_path / "net.safetensors")
    photographs(tmp_path / "familiar" / "bright", 30)
    photographs(tmp_path / "familiar" / "dark", 30, 1, dark=True)
    photographs(tmp_path / "new", 6, 2)
    return tmp_path


def chosen(here, *more):
    return (
        *("--network", here / "net.safetensors", "--architecture", f"{here / 'mine.py'}:tiny"),
        *("--familiar", here / "familiar", "--size", 32, *more),
    )


def test_a_row_an_image(here):
    status, rows, told = score(*chosen(here), here / "new", here / "familiar" / "dark" / "000.png")
    assert status == 0 and [row["file"] for row in rows[:2]] == [str(here / "new" / f"{i:03d}.png") for i in range(2)]
    assert len(rows) == 7 and {row["verdict"] for row in rows} <= {"familiar", "foreign"}
    assert all(row["class"] in "01234" and float(row["score"]) > 0 for row in rows)
    assert "T = 1000, epsilon = 0.0014, threshold " in told and "fitted on 30 familiar images; accepts " in told
    assert "warning: the threshold is of 30 familiar images" in told and "7 images: " in told


def test_the_numbers_are_those_of_the_library(here):
    _, rows, _ = score(*chosen(here, "--epsilon", 0.01, "--temperature", 10), here / "new")
    network = own.load_network(here / "net.safetensors", architecture=f"{here / 'mine.py'}:tiny")
    images = own.read_folder(here / "new", 32).images
    expected = odin.ODIN(network, 10, 0.01).score_samples(images)
    assert torch.allclose(torch.tensor([float(row["score"]) for row in rows]).double(), expected, rtol=1e-4)
    with torch.no_grad():
        assert rows[0]["class"] == str(network(images)[0].argmax().item())


def test_both_kinds_of_familiar_images_are_accepted(here):
    """One after the other by name, half of the folder would be one kind alone."""
    _, rows, _ = score(*chosen(here, "--tpr", 0.9), here / "familiar")
    for kind in ("bright", "dark"):
        verdicts = [row["verdict"] for row in rows if kind in row["file"]]
        assert verdicts.count("familiar") / len(verdicts) > 0.6


def test_json_and_a_file(here):
    status, _, _ = score(*chosen(here, "--json", "-o", here / "out.json", "--foreign", here / "new"), here / "new")
    found = json.loads((here / "out.json").read_text())
    assert status == 0 and len(found["images"]) == 6 and found["detector"]["foreign"]["images"] == 6
    assert found["detector"]["epsilon"] in odin.PAPER_EPSILONS and found["reading"]["size"] == 32
    assert {"file", "class", "score", "verdict"} == set(found["images"][0])


def test_a_kept_detector_judges_alike_without_the_familiar_images(here):
    _, rows, _ = score(*chosen(here, "--save", here / "kept.json"), here / "new")
    options = ("--network", here / "net.safetensors", "--architecture", f"{here / 'mine.py'}:tiny")
    status, again, _ = score(*options, "--detector", here / "kept.json", here / "new")
    assert (status, again) == (0, rows)
    other = {name: tensor + 1 for name, tensor in safetensors.torch.load_file(here / "net.safetensors").items()}
    safetensors.torch.save_file(other, here / "net.safetensors")
    status, _, told = score(*options, "--detector", here / "kept.json", here / "new")
    assert status == 1 and "the network has other weights" in told


def test_an_image_that_cannot_be_read_does_not_stop_the_others(here):
    whole = (here / "new" / "002.png").read_bytes()
    (here / "new" / "002.png").write_bytes(whole[: len(whole) // 2])
    (here / "new" / "003.png").write_bytes(b"%!PS")
    (here / "new" / "notes.txt").touch()
    status, rows, told = score(*chosen(here), here / "new")
    assert (
        status == 1
        and len(rows) == 6
        and [bool(row["score"]) for row in rows] == [True, True, False, False, True, True]
    )
    assert rows[3]["verdict"] == "not read: it is PostScript (EPS)" and "not taken: 1 .txt" in told
    assert told.splitlines()[-1].startswith("error: 2 of 6 images could not be read, ")
    (here / "familiar" / "dark" / "001.png").write_bytes(b"")
    status, rows, told = score(*chosen(here), here / "new")
    assert status == 1 and not rows and "dark/001.png cannot be read as an image: it is empty" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("--familiar", "nowhere"), "nowhere is not a folder"),
        (("--detector", "kept.json"), "neither or both of --familiar and --detector"),
        (("--network", "nowhere.pth"), "nowhere.pth is not there"),
        (("--architecture", "resnet81"), "torchvision has no network 'resnet81'; did you mean resnet18"),
        (("--architecture", "Mine"), "torchvision has no network 'Mine'; of a network of yours: FILE.py:NAME"),
        (("--architecture", "mine:tiny"), "architecture is 'mine:tiny'; expected resnet18 (torchvision's), timm:NAME"),
        (("--architecture", "mine.py"), "architecture is 'mine.py'; expected resnet18 (torchvision's), timm:NAME"),
        (("--architecture", "resnet18"), "these weights are not of such a ResNet"),
        (("--mean", "123.7,116.3,103.5", "--std", "58.4,57.1,57.4"), "mean"),
        (("--tpr", "95"), "tpr is 95"),
        (("--temperature", "0"), "temperature is 0"),
        (("--channels", "2"), "the network takes 2 channels; expected 1 or 3"),
        (("--filter", "bilinaer"), "did you mean 'bilinear'"),
        (("--resize", "40"), "size and resize are both given"),
        (("--device", "tpu"), "device is 'tpu'"),
        (("--seed", "-1"), "-1"),
        (("--size", "big"), "'big' is no size"),
    ],
)
def test_mistakes_are_one_line(here, change, told):
    status, rows, line = score(*chosen(here), *change, here / "new")
    assert status in (1, 2) and not rows and told in line


def test_a_program_is_run_only_if_it_is_trusted(here):
    network = own.load_network(here / "net.safetensors", architecture=f"{here / 'mine.py'}:tiny")
    program = torch.export.export(
        network, (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, here / "net.pt2")
    options = ("--network", here / "net.pt2", "--familiar", here / "familiar")
    status, rows, told = score(*options, here / "new")
    assert status == 1 and not rows and "--trust" in told
    status, rows, told = score(*options, "--trust", here / "new")  # it knows its own size
    assert status == 0 and len(rows) == 6 and "size 32 x 32" in told
    _, expected, _ = score(*chosen(here), here / "new")
    assert [row["verdict"] for row in rows] == [row["verdict"] for row in expected]


def test_a_grey_network_of_odinlib_takes_colour_photographs(here):
    network = build("mlp-16x1", 5, channels=1, size=8, seed=0)
    save_weights(network, here / "grey.safetensors", {})
    status, rows, told = score("--network", here / "grey.safetensors", "--familiar", here / "familiar", here / "new")
    assert status == 0 and len(rows) == 6 and "channels 1, size 8" in told and "60 of colour turned grey" in told


def test_a_network_of_torchvision_with_imagenets_preprocessing(here):
    from torchvision.models import get_model

    torch.manual_seed(0)
    state = get_model("shufflenet_v2_x0_5", num_classes=7).state_dict()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, here / "tv.pth")
    status, rows, told = score(
        *("--network", here / "tv.pth", "--architecture", "shufflenet_v2_x0_5", "--familiar", here / "familiar"),
        *("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--resize", 36, "--crop", 32, here / "new"),
    )
    assert status == 0 and len(rows) == 6 and "resize 36, crop 32" in told


def test_a_network_of_timm(here):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=4, pretrained=False)
    torch.save(network.state_dict(), here / "timm.pth")
    options = ("--network", here / "timm.pth", "--architecture", "timm:test_resnet", "--familiar", here / "familiar")
    status, rows, told = score(*options, "--size", 32, here / "new")
    assert status == 0 and len(rows) == 6 and "channels 3, size 32" in told
    config = timm.data.resolve_model_data_config(network)
    assert own.reading(config)["crop"] == tuple(config["input_size"][1:])
    assert own.reading(timm.data.create_transform(**config))["filter"] == own.reading(config)["filter"]


def test_a_folder_of_transformers_with_its_preprocessing(here):
    transformers = pytest.importorskip("transformers")
    shape = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic", "num_labels": 3}
    names = {0: "cat", 1: "dog", 2: "bird"}
    torch.manual_seed(0)
    network = transformers.ResNetForImageClassification(transformers.ResNetConfig(**shape, id2label=names)).eval()
    network.save_pretrained(here / "hf")
    processor = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    processor |= {"do_resize": True, "size": {"height": 24, "width": 24}, "image_processor_type": "ViTImageProcessor"}
    (here / "hf" / "preprocessor_config.json").write_text(json.dumps(processor))
    status, rows, told = score("--network", here / "hf", "--familiar", here / "familiar", "--epsilon", 0, here / "new")
    assert status == 0 and {row["class"] for row in rows} <= set(names.values())
    assert "resize 24 x 24, filter bilinear-antialias" in told
    images = own.read_folder(here / "new", 24).images
    with torch.no_grad():
        logits = network((images - 0.5) / 0.5).logits
    expected = odin.margin_score(logits, 1000.0)
    assert torch.allclose(torch.tensor([float(row["score"]) for row in rows]).double(), expected, rtol=1e-4)


def test_torchvisions_preprocessing_is_read_from_its_transforms():
    from torchvision import transforms
    from torchvision.models import ResNet50_Weights

    expected = {"resize": 232, "crop": 224, "filter": "bilinear-antialias"}
    assert own.reading(ResNet50_Weights.IMAGENET1K_V2.transforms()) == expected
    steps = [transforms.Resize(40, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(32)]
    found = own.reading(transforms.Compose([*steps, transforms.ToTensor()]))
    assert found == {"resize": 40, "crop": (32, 32), "filter": "bicubic-antialias"}


def test_names_are_no_markup_and_no_columns(here):
    (here / "new" / "000.png").rename(here / "new" / 'a,"b"\n=1.png')
    _, rows, _ = score(*chosen(here), here / "new")
    assert any("=1.png" in row["file"] and row["verdict"] for row in rows) and len(rows) == 6


def test_what_is_kept_is_checked(here):
    (here / "kept.json").write_text("[]")
    with pytest.raises(UserError), warnings.catch_warnings():
        judging.load(here / "kept.json", nn.Linear(2, 2))
