"""The benchmarks run, and their README says what they recorded."""

import json
import shlex
import shutil
import subprocess
import sys

from conftest import ROOT

FOLDER = ROOT / "benchmarks"


def test_a_small_run_writes_its_results_and_their_readme(tmp_path):
    words = "--network densenet-bc-10-4 --rounds 1 --wholes 0 --scores 100 --only times --only measures --name small"
    where = ["--device", "cpu", "--threads", "1", "--results", str(tmp_path / "results")]
    command = [sys.executable, str(FOLDER / "run.py"), *shlex.split(words), *where]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    found = json.loads((tmp_path / "results" / "small.json").read_text())
    table = found["times"]["contestants"]
    # The same method by every contestant but for rounding, which moves the sign of a gradient that is all but 0.
    assert all(each["score_difference"] < 1e-2 for name, each in table.items() if name != "engine, bfloat16")
    assert 0 < table["engine, bfloat16"]["score_difference"] < 1
    assert all(min(each["grid"]) > min(each["setting"]) > 0 for each in table.values())
    assert found["measures"]["difference"] < 1e-9
    assert "## small" in (tmp_path / "README.md").read_text()


def test_the_readme_is_made_from_the_records(tmp_path):
    shutil.copytree(FOLDER / "results", tmp_path / "results")
    code = "import sys, pathlib, report; report.write(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "results")], cwd=FOLDER, check=True)
    assert (tmp_path / "README.md").read_text() == (FOLDER / "README.md").read_text()
