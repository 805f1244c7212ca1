"""Pages asked otherwise than the record was made: what they show, against the recorded arrays by NumPy alone."""

import html
import json
import re
import zlib

import nbformat
import numpy as np
import pytest
from conftest import ROOT

from odinlib.book import execution

KEY = "densenet-bc-100-12_cifar10_authors"
OURS = {"profile": "paper", "networks": ["densenet-bc-100-12"]}


def arrays(kind: str, name: str) -> dict[str, np.ndarray]:
    with np.load(ROOT / "results" / "paper" / kind / KEY / f"{name}.npz") as held:
        return {key: held[key] for key in held.files}


def ran(tmp_path, page: str, **given):
    """The code cells of a page run with these parameters."""
    execution.execute(ROOT / "notebooks" / f"{page}.ipynb", tmp_path / "out.ipynb", {**OURS, **given}, progress=False)
    return [cell for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells if cell.cell_type == "code"]


def shown(cells, kind: str) -> list[str]:
    """Everything of one kind that the cells show."""
    found = [output.get("data", {}) for cell in cells for output in cell.outputs]
    return [data[kind] for data in found if kind in data]


def rows(table: str) -> list[list[str]]:
    """The cells of the rows of an HTML table."""
    found = [
        re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)
        for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    ]
    return [[html.unescape(re.sub("<[^>]+>", "", cell)).strip() for cell in row] for row in found]


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """1 - S of logits [K, N], as a sum of the other classes, so that no digit is lost near S = 1."""
    scaled = logits.astype(np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(0))
    return (np.sort(scaled, axis=0)[:-1].sum(0)) / scaled.sum(0)


def drawn(name: str, holdout: int) -> np.ndarray:
    """Where the test images of a set of 10,000 lie: of CIFAR-10 the first are held out, of noise some at random."""
    if name == "cifar10":
        return np.arange(10_000)[holdout:]
    return np.random.default_rng([0, zlib.crc32(name.encode())]).permutation(10_000)[holdout:]


def fpr(rest_in: np.ndarray, rest_out: np.ndarray, tpr: float = 0.95) -> float:
    """In percent, the share of foreign images with a rest 1 - S no larger than that of the last familiar one needed."""
    last = np.sort(rest_in)[int(np.ceil(tpr * len(rest_in))) - 1]
    return 100 * float((rest_out <= last).mean())


def printed(cells) -> dict[str, str]:
    """The FPR of the baseline and of ODIN, at what was asked, as the long table of page 04 has them."""
    table = next(table for table in shown(cells, "text/html") if "95 % interval" in table)
    header, *others = (row for row in rows(table) if row)
    numbers = [dict(zip(header, row, strict=True)) for row in others]
    found = {row["Method"]: row["Ours"] for row in numbers if row["Measure"] == "FPR at 95 % TPR ↓"}
    assert found.pop("ODIN, the paper's T and ε") == "0.0"  # which stands beside, whatever was asked
    assert len(found) == 2
    return found


PAIR = {"id_sets": ["cifar10"], "ood_sets": ["gaussian"]}


@pytest.mark.parametrize(
    ("given", "temperature", "holdout"),
    [
        ({"temperature": 37, "epsilon": 0}, 37, 1000),
        ({"temperatures": "[1000]", "epsilon": 0}, 1000, 1000),
        ({"temperature": 1000, "epsilon": 0, "holdout": 500}, 1000, 500),
    ],
)
def test_any_temperature_without_perturbation(tmp_path, given, temperature, holdout):
    """From the clean logits alone, whatever T was recorded."""
    cells = ran(tmp_path, "04-experiments", **PAIR, **given)
    logits = {name: arrays("responses", name)["logits"][:, drawn(name, holdout)] for name in ("cifar10", "gaussian")}
    wanted = {
        method: f"{fpr(*(softmax(z, t) for z in logits.values())):.1f}"
        for method, t in (("Baseline", 1.0), ("ODIN", temperature))
    }
    assert printed(cells) == wanted


def test_one_setting_of_the_record(tmp_path):
    cells = ran(tmp_path, "04-experiments", **PAIR, temperature=1000, epsilon=0.0014)
    scores = [arrays("scores", f"{name}_T1000_e0.0014")["scores"].ravel() for name in ("cifar10", "gaussian")]
    assert printed(cells)["ODIN"] == f"{fpr(*(-s.astype(np.float64) for s in scores)):.1f}"


def test_a_grid_of_fewer_temperatures(tmp_path):
    """T = 1000 alone: the epsilon with the least FPR on the held-out images, by the recorded grids."""
    cells = ran(tmp_path, "04-experiments", **PAIR, temperatures=[1000], holdout=500)
    grids = [-arrays("grids", name)["scores"][-1, :, :500].astype(np.float64) for name in ("cifar10", "gaussian")]
    rates = [fpr(*rests) for rests in zip(*grids, strict=True)]
    assert int(rates.count(min(rates))) >= 1
    told = " ".join(shown(cells, "text/markdown"))
    assert "ODIN has the lower FPR on **1 of 1** pairs" in told


@pytest.mark.parametrize(
    ("page", "given", "figures"),
    [
        ("05-discussions", {"epsilons": "[0, 0.001, 0.002]", "ood_sets": ["gaussian", "uniform"]}, 6),
        (
            "H-additional-discussions",
            {"temperatures": [1, 100, 1000], "epsilons": [0, 0.0008, 0.0014], "ood_sets": ["gaussian", "uniform"]},
            2,
        ),
        ("E-proposition-1", {"images": 5000, "ood_sets": ["gaussian", "isun"]}, 2),
        ("E-proposition-1", {"seed": 1, "ood_sets": ["gaussian", "isun"]}, 2),
        ("B-effects-of-parameters", {"fixed_temperature": 500, "ood_sets": ["gaussian"]}, 2),
        ("05-discussions", {"fixed_temperature": 500, "ood_sets": ["gaussian"]}, 4),
    ],
)
def test_what_is_recorded_is_shown(tmp_path, page, given, figures):
    cells = ran(tmp_path, page, **given)
    assert len(shown(cells, "image/svg+xml")) >= figures
    foot = cells[-1].outputs[0]["data"]["text/markdown"]
    drawn_anew = {"images", "seed"} & given.keys()
    assert ("Images of the record" in foot) == bool(drawn_anew)


def test_the_limit_of_proposition_1_by_another_draw(tmp_path):
    """With another seed the test images are the first of its draw that were not held out when the record was made."""
    given = {"temperature_axis": [1, 1000], "ood_sets": ["tinyimagenet-resize"], "seed": 1, "images": 5000}
    cells = ran(tmp_path, "E-proposition-1", split="random", **given)
    moments = []
    for name in ("cifar10", "tinyimagenet-resize"):
        wanted = np.random.default_rng(1).permutation(10_000)[:5000]
        draw = [1, zlib.crc32(name.encode())]
        wanted = wanted[np.random.default_rng(draw).permutation(5000)]
        rest = np.random.default_rng(draw).permutation(10_000)
        order = np.concatenate([wanted, rest[~np.isin(rest, wanted)]])
        grids = (ROOT / "results" / "paper" / "grids" / KEY).glob(f"{name}*.npz")
        drawn_once = [json.loads(str(np.load(path)["artefact"]))["config"] for path in grids]
        count = max(one["drawn"]["stop"] for one in drawn_once if one["set"] == name)
        recorded = np.isin(order, np.arange(count))  # the first ones have a grid; they are held out first
        test = np.concatenate([order[recorded], order[~recorded]])[1000:5000]
        outputs = np.sort(arrays("responses", name)["logits"][:, test].astype(np.float64), axis=0)
        moments.append(-(outputs[-1] - outputs[:-1].mean(0)))
    error = 2.5 + fpr(*moments) / 2
    table = next(table for table in shown(cells, "text/html") if "T beyond which" in table)
    assert abs(float(rows(table)[1][4]) - error) < 0.0051
