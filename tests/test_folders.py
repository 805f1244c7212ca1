"""Folders of images: all of them, as a network takes them, and nothing left out unsaid."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from odinlib import own
from odinlib.datasets import imagefiles
from odinlib.errors import Missing, UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def refused(path, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        own.read_folder(path, *arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read(tmp_path):
    own.write_folder(tmp_path / "some", IMAGES)
    found = own.read_folder(tmp_path / "some")
    assert found.names == [f"{i:05d}.png" for i in range(5)]
    assert np.array_equal((found.images * 255).round().numpy(), IMAGES.transpose(0, 3, 1, 2))
    assert [len(batch) for batch in found.batches(2)] == [2, 2, 1]
    assert torch.equal(torch.cat(list(found.batches(2))), found.images)
    assert torch.equal(torch.cat(list(DataLoader(found, 3))), found.images)
    assert torch.equal(found.take([3, 1]).images, found.images[[3, 1]])


def test_images_take_the_size_that_is_asked_for(tmp_path):
    own.write_folder(tmp_path, IMAGES)
    assert own.read_folder(tmp_path).images.shape == (5, 3, 8, 8)
    Image.fromarray(IMAGES[0]).resize((20, 10)).save(tmp_path / "wide.png")
    assert own.read_folder(tmp_path, 6).images.shape == (6, 3, 6, 6)
    assert own.read_folder(tmp_path, (4, 6)).images.shape == (6, 3, 4, 6)
    assert "of 2 sizes, such as 8 x 8 and 20 x 10; give size, or resize and crop" in refused(tmp_path)


@pytest.mark.parametrize(("filter", "mode"), [("bilinear-antialias", "bilinear"), ("bicubic-antialias", "bicubic")])
def test_resize_and_crop_are_torchvisions_to_the_last_bit(tmp_path, filter, mode):
    shapes = [(60, 80), (81, 59), (64, 64), (64, 75), (200, 67)]
    generator = np.random.default_rng(1)
    for index, (height, width) in enumerate(shapes):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    interpolation = transforms.InterpolationMode(mode)
    theirs = transforms.Compose(
        [transforms.Resize(64, interpolation), transforms.CenterCrop(56), transforms.ToTensor()]
    )
    found = own.read_folder(tmp_path, resize=64, crop=56, filter=filter)
    for index, name in enumerate(found.names):
        assert torch.equal(found[index], theirs(Image.open(tmp_path / name)))


def test_images_of_16_bits_are_resized_in_16_bits(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(1, 64).repeat(8, 0)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    found = own.read_folder(tmp_path, (4, 32)).images
    assert found.shape == (1, 1, 4, 32) and found.min() >= 0 and found.max() <= 1
    assert len(found.unique()) == 32 and torch.allclose(found.mean(), torch.tensor(0.5), atol=1e-3)
    assert own.read_folder(tmp_path, (4, 32), filter="lanczos").images.max() <= 1


def test_channels_follow_the_network_and_one_grey_photograph_refuses_nothing(tmp_path):
    own.write_folder(tmp_path, IMAGES)
    Image.fromarray(IMAGES[0, ..., 0]).save(tmp_path / "grey.png")
    found = own.read_folder(tmp_path)
    assert found.images.shape == (6, 3, 8, 8) and "1 grey ones with three equal channels" in found.told()
    assert torch.equal(found[5][0], found[5][2])
    grey = own.read_folder(tmp_path, channels=1)
    assert grey.images.shape == (6, 1, 8, 8) and "5 of colour turned grey" in grey.told()
    assert "the network takes 4 channels; expected 1 or 3" in refused(tmp_path, channels=4)
    for name in list(tmp_path.glob("0*.png")):
        name.unlink()
    assert own.read_folder(tmp_path).images.shape == (1, 1, 8, 8)


@pytest.mark.parametrize("name", ["b.jfif", "c.ppm", "d.PGM", "e.webp", "f.tif", "g.bmp", "h.jpe", "i.gif", "j.pbm"])
def test_images_of_every_ending_are_taken(tmp_path, name):
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    formats = {"jfif": "JPEG", "jpe": "JPEG", "pgm": "PPM", "pbm": "PPM"}
    Image.fromarray(IMAGES[0]).save(tmp_path / name, formats.get(name.lower().rpartition(".")[2]))
    found = own.read_folder(tmp_path)
    assert found.names == sorted(["a.png", name]) and not found.left_out


def test_nothing_is_left_out_unsaid(tmp_path):
    own.write_folder(tmp_path / "deep" / "deeper", IMAGES[:2])
    for name in ("notes.txt", "list.txt", "photo.nef", "README", ".DS_Store", ".hidden.png"):
        (tmp_path / name).write_bytes(b"no image")
    own.write_folder(tmp_path / ".cache", IMAGES)
    (tmp_path / "again").symlink_to(tmp_path / "deep")
    found = own.read_folder(tmp_path)
    assert found.names == ["deep/deeper/00000.png", "deep/deeper/00001.png"]
    assert found.left_out == {
        ".txt": 2,
        ".nef": 1,
        "without an ending": 1,
        "hidden": 2,
        "hidden folders": 1,
        "links to folders": 1,
    }
    assert "2 images (colour); not taken: 1 .nef, 2 .txt, 2 hidden, " in found.told()


def test_a_file_that_claims_to_be_an_image_and_is_none_is_named(tmp_path):
    own.write_folder(tmp_path, IMAGES)
    (tmp_path / "bad.png").write_bytes(b"x")
    assert refused(tmp_path).startswith("bad.png cannot be read as an image: ")
    (tmp_path / "bad.png").unlink()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert "gone.jpg cannot be read as an image: No such file" in refused(tmp_path)


def test_names_of_any_bytes(tmp_path):
    weird = [b"a\xff.png", "Käse.png".encode(), b"new\nline.png", b"<b>&.png", b" .png"]
    for name in weird:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            Image.fromarray(IMAGES[0]).save(file, "PNG")
    found = own.read_folder(tmp_path)
    assert sorted(os.fsencode(name) for name in found.names) == sorted(weird)
    assert found.images.shape == (5, 3, 8, 8)
    for name in found.names:
        imagefiles.shown(name).encode("utf-8")


def test_animations_are_told(tmp_path):
    frames = [Image.fromarray(pixels) for pixels in IMAGES]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert "of 1 with several pictures, such as animations, the first one" in own.read_folder(tmp_path).told()


def test_mistakes_are_named(tmp_path):
    with pytest.raises(Missing, match="not a folder"):
        own.read_folder(tmp_path / "none")
    assert "holds no image; expected files ending in" in refused(tmp_path)
    (tmp_path / "a.txt").touch()
    assert "holds no image, but 1 .txt" in refused(tmp_path)
    own.write_folder(tmp_path, IMAGES)
    assert "size and resize are both given" in refused(tmp_path, 8, resize=9)
    assert "crop is 0; expected at least 1" in refused(tmp_path, crop=0)
    assert "filter is 'bilinaer'" in refused(tmp_path, 4, filter="bilinaer")
    small = own.read_folder(tmp_path, crop=9)
    with pytest.raises(UserError, match=r"00000\.png is 8 x 8, too small to cut 9 x 9 out of it"):
        small[0]
    Image.fromarray(np.zeros((1, 60_000), np.uint8)).save(tmp_path / "a-line.png")
    with pytest.raises(UserError, match=r"a-line\.png is 60000 x 1, which would become 15360000 x 256"):
        own.read_folder(tmp_path, resize=256, crop=224).take([5])[0]
