"""The notebooks of the book: how their sources are written, and what came of running them with papermill."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import ROOT

from odinlib.book import execution, graph, layout, parameters
from odinlib.errors import UserError

SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAPERS_OWN = re.compile(r"(figure-\d+[a-z]?|table-\d+)$")


def page(path: Path) -> str:
    return path.stem


def cells(path: Path, kind: str = "code") -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def captioned(path: Path) -> list:
    """The code cells that show a captioned figure or table."""
    return [cell for cell in cells(path) if "figure" in cell.metadata.get("mystnb", {})]


every_source = pytest.mark.parametrize("path", SOURCES, ids=page)


# --- Sources ----------------------------------------------------------------------------------------------------------


def test_the_table_of_contents_lists_every_notebook():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    listed = [Path(entry["file"]) for part in toc["parts"] for entry in part["chapters"]]
    pages = [entry.name for entry in listed if entry.parts[0] == "notebooks"]
    assert sorted(pages) == [page(path) for path in SOURCES]
    papers = [name for name in pages if re.match(r"\d\d-|[A-I]-", name)]
    assert papers == sorted(papers), "the paper's sections and appendices stand in the paper's order"


@every_source
def test_a_source_is_clean(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    assert not any(cell.outputs or cell.execution_count for cell in cells(path))


@every_source
def test_parameters_come_first_and_are_checked_next(path):
    first, second = cells(path)[:2]
    tagged = [cell for cell in cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [first], "one cell is tagged `parameters`, the first"
    assert parameters.declared(path), "it holds plain literals"
    uncommented = [line for line in first.source.splitlines() if re.match(r"\w+.*=", line) and "  # " not in line]
    assert not uncommented, "each parameter has its comment"
    assert re.search(r"^(run = )?page\.begin\(", second.source, re.MULTILINE), "the next cell begins the page"


@every_source
def test_a_page_has_one_title_and_ends_with_what_made_it(path):
    prose = [cell.source for cell in cells(path, "markdown")]
    titles = [line for source in prose for line in source.splitlines() if line.startswith("# ")]
    assert len(titles) == 1 and prose[0].startswith("# ")
    assert re.match(r"page\.provenance\((run)?\)$", cells(path)[-1].source)


@every_source
def test_figures_and_tables_are_captioned_and_described(path):
    for cell in captioned(path):
        figure = cell.metadata["mystnb"]["figure"]
        assert re.match(r"[a-z0-9]+(-[a-z0-9]+)+$", figure["name"]), figure
        assert len(figure["caption"]) > 10, figure["name"]
        if not figure.get("caption_before"):  # a picture
            alt = cell.metadata["mystnb"].get("image", {}).get("alt", "")
            assert len(alt) > 20, f"{figure['name']} needs `image.alt`: what one would see"


def test_names_are_given_once():
    names = Counter(cell.metadata["mystnb"]["figure"]["name"] for path in SOURCES for cell in captioned(path))
    assert not [name for name, count in names.items() if count > 1]


@every_source
def test_code_runs_anywhere_and_asks_nothing_of_the_profiles_name(path):
    for cell in cells(path):
        tree = ast.parse(cell.source)  # no magics, no shell
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                compared = ast.unparse(node.left)
                assert compared not in ("profile", "run.name"), f"{ast.unparse(node)}: make it a field of the profile"
            if isinstance(node, ast.ImportFrom | ast.Import):
                assert "tqdm.auto" not in ast.unparse(node), "its bars need scripts from outside"
        assert not re.search(r"""["'](/|\.\./|~/)\w""", cell.source), "no paths"


def test_a_page_is_known_by_how_it_begins():
    openings = Counter(cells(path)[1].source.strip() for path in SOURCES)
    assert not [source for source, count in openings.items() if count > 1]


@every_source
def test_what_a_page_shows_of_itself_is_the_method(path):
    for cell in cells(path):
        for plumbing in ("set_uuid", "configure(", "not_recorded(", "check_parameters"):
            assert plumbing not in cell.source, f"{plumbing}: `page.begin` and `page.show` do it"
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("caption_before") is None and captioned_with_data(
            cell
        ):
            assert "page.show(" in cell.source, cell.metadata["mystnb"]["figure"]["name"]


def captioned_with_data(cell) -> bool:
    """Whether a captioned cell shows what may not be had here."""
    return "figure" in cell.metadata.get("mystnb", {}) and re.search(r"\b(found|measured|experiments)\b", cell.source)


@every_source
def test_a_page_says_what_it_needs(path):
    source = "\n".join(cell.source for cell in cells(path))
    assert ("pictures" in graph.needs(path)) == ("with_pictures(" in source)
    assert ("network" in graph.needs(path)) == ("trained.network(" in source and not layout.has_profile(path))


def test_a_parameter_means_one_thing():
    """Each is told of in CONTRIBUTING, with the pages that have it; its comment begins alike on all of them."""
    told = (ROOT / "CONTRIBUTING.md").read_text().partition("### One name per thing")[2].partition("\n### ")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in told.splitlines() if row.startswith("| `")]
    listed = {name: where for names, _, where in rows for name in re.findall(r"`(\w+)`", names)}
    declared = {}
    for path in SOURCES:
        for name in parameters.declared(path):
            declared.setdefault(name, []).append(path.stem.split("-")[0])
    assert listed.keys() == declared.keys()
    for name, pages in declared.items():
        if listed[name] != "many":
            assert sorted(listed[name].replace("-network", "").split(", ")) == sorted(pages), name


# --- Runs -------------------------------------------------------------------------------------------------------------


every_run = pytest.mark.parametrize(
    ("path", "profile"),
    [
        pytest.param(path, profile, id=f"{page(path)}-{profile}")
        for path in SOURCES
        for profile in (("paper", "demo") if layout.has_profile(path) else ("any",))
    ],
)


def ran(path: Path, profile: str) -> Path:
    """The executed page."""
    return ROOT / "build" / "pages" / profile / path.name


@every_run
def test_the_page_ran_without_errors_and_warnings(book, path, profile):
    done = cells(ran(path, profile))
    assert all(cell.execution_count for cell in done)
    for cell in done:
        for output in cell.outputs:
            assert output.output_type != "error"
            if output.get("name") == "stderr":  # the book does not show it
                assert not re.search(r"\bWarning\b|\bwarn", output.text), output.text


@every_run
def test_a_captioned_cell_shows_one_thing(book, path, profile):
    for cell in captioned(ran(path, profile)):
        shown = [output for output in cell.outputs if output.output_type != "stream"]
        assert len(shown) == 1, cell.metadata["mystnb"]["figure"]["name"]
        assert {"image/svg+xml", "image/png", "text/html", "text/markdown"} & set(shown[0].data)


@every_run
def test_every_table_has_a_caption(book, path, profile):
    """That of its figure, or one of its own where a cell shows several or folds them."""
    for cell in cells(ran(path, profile)):
        shown = [output.get("data", {}).get("text/html", "") for output in cell.outputs]
        plain = [text for text in shown if "<table" in text and "<caption" not in text]
        assert not plain or "figure" in cell.metadata.get("mystnb", {}), cell.source[-200:]


@every_run
def test_no_zero_has_a_sign(book, path, profile):
    """-0.04 to one digit is 0.0."""
    for cell in cells(ran(path, profile)):
        for output in cell.outputs:
            for kind in ("text/html", "text/markdown"):
                assert not re.search(r"(?<![\w.])[-−]0(\.0+)?(?![\d.])", output.get("data", {}).get(kind, ""))


@every_run
def test_no_sentence_speaks_of_nothing(book, path, profile):
    """A number that was not computed must not reach a sentence."""
    for cell in cells(ran(path, profile)):
        for output in cell.outputs:
            text = output.get("data", {}).get("text/markdown", "")
            assert not re.search(
                r"\bnan\b|\binf\b|\bNone\b|\[\]", re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
            ), text


@every_run
def test_the_page_says_what_made_it(book, path, profile):
    foot = cells(ran(path, profile))[-1].outputs[0].data["text/markdown"]
    assert f"papermill notebooks/{path.name} out.ipynb" in foot
    assert "| Commit |" in foot and "| Hardware |" in foot


@every_source
def test_a_parameter_of_another_name_or_type_is_refused(path, tmp_path):
    """By the check alone; that papermill's own command line fails is shown in test_notebook.py and below."""
    name = next(name for name, default in parameters.declared(path).items() if default is not None)
    for given in ({"no_such_parameter": 1}, {name: {"a": "mapping"}}):
        with pytest.raises(UserError):
            execution.execute(path, tmp_path / "out.ipynb", given, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", SOURCES[:1] + SOURCES[-1:], ids=page)
def test_papermill_itself_fails_on_a_misspelt_parameter(path, tmp_path):
    name = list(parameters.declared(path))[-1]
    command = [sys.executable, "-m", "papermill", str(path), str(tmp_path / "out.ipynb"), "-p", f"{name}s", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].endswith(f"did you mean '{name}'?")
