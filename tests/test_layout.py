"""The book's source is laid out from executed pages: names stay unique, links lead on, the unchanged stays."""

import json

import pytest
import yaml
from conftest import ROOT

from odinlib.book import folding, layout

PROSE = """# Section 9: A page

See {numref}`figure-5`, {eq}`eq-1`, {ref}`audit-gains`, [why](#why), [beyond](#elsewhere),
[live](B.ipynb), [not](audit.ipynb#x).

(why)=
## Why

$$
x
$$ (eq-1)
"""


def page(profile: bool) -> dict:
    parameters = 'profile = "demo"  # which' if profile else "size = 1  # how large"
    figure = {"mystnb": {"figure": {"name": "figure-5", "caption": "As in {eq}`eq-1`."}}}
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/markdown": ["[live](B.ipynb)"]}}
    return {
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": PROSE.splitlines(keepends=True)},
            {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": parameters, "outputs": []},
            {"cell_type": "code", "metadata": figure if profile else {}, "source": "1", "outputs": [output]},
        ],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of three notebooks, executed."""
    monkeypatch.chdir(tmp_path)
    for name, profile in (("A", True), ("B", True), ("audit", False)):
        made = json.dumps(page(profile))
        for folder in ("notebooks", *(("build/pages/paper", "build/pages/demo") if profile else ("build/pages/any",))):
            path = tmp_path / folder / f"{name}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made)
    chapters = [{"file": f"notebooks/{name}"} for name in ("A", "B", "audit")]
    toc = {
        "format": "jb-book",
        "root": "intro",
        "parts": [{"caption": "All", "chapters": [*chapters, {"file": "references"}]}],
    }
    (tmp_path / "book").mkdir()
    for name in ("_config.yml", "CITATION.cff", "CHANGELOG.md"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "book" / "_toc.yml").write_text(yaml.safe_dump(toc))
    return tmp_path


def listed(toc) -> list[str]:
    chapters = [chapter for part in yaml.safe_load(toc.read_text())["parts"] for chapter in part["chapters"]]
    return [entry["file"] for chapter in chapters for entry in (chapter, *chapter.get("sections", ()))]


def test_both_kinds_of_page_stand_beside_each_other(checkout):
    toc = layout.lay_out("both", checkout)
    main = ["notebooks/A", "notebooks/B", "notebooks/audit", "references"]
    assert listed(toc) == [*main, "live/index", "live/A", "live/B"]
    assert sorted(path.name for path in (checkout / "book/live").iterdir()) == ["A.ipynb", "B.ipynb", "index.md"]
    assert "](../live/A.ipynb)" in (checkout / "book/notebooks/A.ipynb").read_text()
    assert "](../notebooks/A.ipynb)" in (checkout / "book/live/A.ipynb").read_text()
    assert "../live/" not in (checkout / "book/notebooks/audit.ipynb").read_text()


@pytest.mark.parametrize("kind", ["record", "demo"])
def test_one_kind_alone(checkout, kind):
    layout.lay_out("both", checkout)
    toc = layout.lay_out(kind, checkout)
    assert listed(toc) == ["notebooks/A", "notebooks/B", "notebooks/audit", "references"]
    assert not list((checkout / "book/live").iterdir())


def test_names_on_live_pages_are_their_own(checkout):
    layout.lay_out("both", checkout)
    original = json.loads((checkout / "build/pages/demo/A.ipynb").read_text())
    live = layout.relabelled(original, layout.labels(original), {"A", "B"})
    prose, _, figure = live["cells"]
    assert prose["source"] == PROSE.replace("A page", "A page (live)").replace("`figure-5`", "`live-figure-5`").replace(
        "`eq-1`", "`live-eq-1`"
    ).replace("(eq-1)", "(live-eq-1)").replace("#why", "#live-why").replace("(why)=", "(live-why)=").replace(
        "](audit", "](../notebooks/audit"
    )
    assert figure["metadata"]["mystnb"]["figure"] == {"name": "live-figure-5", "caption": "As in {eq}`live-eq-1`."}
    main = json.loads((checkout / "book/notebooks/A.ipynb").read_text())
    assert not layout.labels(main) & layout.labels(json.loads((checkout / "book/live/A.ipynb").read_text()))
    assert figure["outputs"][0]["data"]["text/markdown"] == "[live](B.ipynb)"


def test_what_did_not_change_is_not_touched(checkout):
    layout.lay_out("both", checkout)
    files = [path for path in (checkout / "book").rglob("*.ipynb")]
    before = {path: path.stat().st_mtime_ns for path in files}
    changed = json.loads((checkout / "build/pages/demo/B.ipynb").read_text())
    changed["cells"][1]["source"] += " one"
    (checkout / "build/pages/demo/B.ipynb").write_text(json.dumps(changed))
    layout.lay_out("both", checkout)
    assert [path.name for path in files if path.stat().st_mtime_ns != before[path]] == ["B.ipynb"]


def test_the_pages_of_each_kind_of_book(checkout):
    names = ["A", "B", "audit"]
    paper = ["build/pages/paper/A.ipynb", "build/pages/paper/B.ipynb", "build/pages/any/audit.ipynb"]
    assert layout.pages("record", names) == paper
    assert layout.pages("both", names) == [*paper, "build/pages/demo/A.ipynb", "build/pages/demo/B.ipynb"]


def test_what_a_page_finds_stands_at_its_top():
    cells = page(True)["cells"]
    opening = {"cell_type": "code", "metadata": {}, "source": "run = page.begin()", "outputs": []}
    told = {
        "data": {"text/markdown": "It is $T$ = 75. Not more than 0.5 % pass. And so on."},
        "output_type": "display_data",
    }
    result = {**opening, "source": "page.tell(x)", "metadata": {"odin": {"finding": "figure-5"}}, "outputs": [told]}
    found = {"cells": [cells[0], opening, *cells[1:], result]}
    folding.lift_finding(found, "live-")
    line = found["cells"][2]["source"]
    assert "It is $T$ = 75. Not more than 0.5 % pass. [Where it stands](#live-figure-5)." in line
    told["data"]["text/markdown"] = "*Not recorded.*"
    found["cells"].pop(2)
    folding.lift_finding(found)
    assert len(found["cells"]) == 5, "what is not there is not found"


def test_how_to_open_a_page_elsewhere_is_told_as_soon_as_the_repository_has_an_address(checkout):
    layout.lay_out("both", checkout)
    assert "Colab" not in (checkout / "book/notebooks/A.ipynb").read_text()
    config = yaml.safe_load((checkout / "_config.yml").read_text())
    config["repository"]["url"] = "https://github.com/some/where"
    (checkout / "_config.yml").write_text(yaml.safe_dump(config))
    layout.lay_out("both", checkout)
    assert "git clone --depth 1 https://github.com/some/where odin" in (checkout / "book/notebooks/A.ipynb").read_text()
