"""The benchmarks run, and their README says what they recorded."""

import json
import shlex
import shutil
import subprocess
import sys

import torch
from conftest import ROOT

from odinlib.networks import build
from odinlib.networks.weights import save_weights

FOLDER = ROOT / "benchmarks"


def test_a_small_run_writes_its_results_and_their_readme(tmp_path):
    words = "--network densenet-bc-10-4 --rounds 1 --wholes 0 --scores 100 --compared 40 --name small"
    parts = "--only times --only exactness --only measures"
    where = ["--device", "cpu", "--threads", "1", "--results", str(tmp_path / "results")]
    command = [sys.executable, str(FOLDER / "run.py"), *shlex.split(words), *shlex.split(parts), *where]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    found = json.loads((tmp_path / "results" / "small.json").read_text())
    table = found["times"]["contestants"]
    # The same method by every contestant but for rounding, which moves the sign of a gradient that is all but 0.
    exact = found["exactness"]["contestants"]
    assert exact.keys() == table.keys()
    for name, each in exact.items():
        for median, largest in each["differences"].values():
            assert 0 <= median < largest < (1 if name == "engine, bfloat16" else 1e-2), name
    for way, fastest in found["times"]["best"].items():  # the name with the least time, of those at any batch size
        tried = [name for name in table if name.partition(", batch")[0] == way]
        assert fastest["grid"] == min(tried, key=lambda name: min(table[name]["grid"]))
    assert sum(name.startswith("plain module, passes shared, batch ") for name in table) == 4
    assert all(min(each["grid"]) > min(each["setting"]) > 0 for each in table.values())
    assert found["measures"]["difference"] < 1e-9
    assert "## small" in (tmp_path / "README.md").read_text()


def test_a_softmax_that_rounds_to_one_is_counted(tmp_path):
    """The authors' loop keeps the softmax in float32, where a sure network's is 1; the engine does not."""
    network = build("densenet-bc-10-4", classes=10, seed=0)
    with torch.no_grad():
        network.fc.weight.mul_(200)  # 1 - S is about 1e-11
    save_weights(network, tmp_path / "sure.safetensors")
    words = "--compared 20 --device cpu --threads 1 --only exactness --name sure"
    where = ["--weights", str(tmp_path / "sure.safetensors"), "--results", str(tmp_path / "results")]
    command = [sys.executable, str(FOLDER / "run.py"), *shlex.split(words), *where]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    found = json.loads((tmp_path / "results" / "sure.json").read_text())["exactness"]
    assert found["images"] == 20 and not found["sets"]
    assert [found["contestants"][name]["ones"] for name in ("engine, float32", "the authors' loop")] == [0, 20]
    assert "| exactly 1 at T = 1 |" in (tmp_path / "README.md").read_text()


def test_the_readme_is_made_from_the_records(tmp_path):
    shutil.copytree(FOLDER / "results", tmp_path / "results")
    code = "import sys, pathlib, report; report.write(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "results")], cwd=FOLDER, check=True)
    assert (tmp_path / "README.md").read_text() == (FOLDER / "README.md").read_text()


def test_what_is_measured_on_a_gpu_can_be_measured(tmp_path):
    """The whole program on the CPU, so that it does not fail for the first time where minutes are lent."""
    words = "--only gpu --device cpu --threads 1 --networks densenet-bc-10-4 wrn-10-1 --images 2 --name card"
    command = [sys.executable, str(FOLDER / "run.py"), *shlex.split(words), "--results", str(tmp_path / "results")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    found = json.loads((tmp_path / "results" / "card.json").read_text())["gpu"]
    assert found["card"] is None and not found["left_out"]
    rows = {(row["network"], row["way"], row["precision"], row["pass"]): row for row in found["rows"]}
    for network in ("densenet-bc-10-4", "wrn-10-1"):
        for precision in ("float32", "tf32", "float16"):
            for done in ("forward", "one setting", "gradients", "grid"):
                assert rows[network, "library", precision, done]["milliseconds"] > 0
        grid, forward = (rows[network, "plain module", "tf32", done] for done in ("grid", "forward"))
        assert grid["milliseconds"] > 200 * forward["milliseconds"]
        assert {precision for name, way, precision, _ in rows if (name, way) == (network, "training")} == {
            "float32",
            "tf32",
            "bfloat16",
        }
    assert rows["wrn-10-1", "library", "float32", "forward"]["operations"] > 1e7
    assert "| wrn-10-1 | library | float16 | grid |" in (tmp_path / "README.md").read_text()
    command += ["--limit", "0"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    found = json.loads((tmp_path / "results" / "card.json").read_text())["gpu"]
    assert not found["rows"] and "Left out: library in float32" in (tmp_path / "README.md").read_text()
