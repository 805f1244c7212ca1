"""Buttons for Binder and Colab: one setting brings them, and without it there is none; what they would install."""

import asyncio
import json
import subprocess
import sys
from importlib import metadata

import nbformat
import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

BUILD = "from jupyter_book.cli.main import main; main()"
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())


def rendered(folder, address: str) -> str:
    """A book of one page and one live page, with the project's configuration and an address for its repository."""
    source = folder / "book"
    for place in ("notebooks", "live"):
        (source / place).mkdir(parents=True)
        page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# A page of {place}")])
        page.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(page, source / place / "page.ipynb")
    (source / "references.bib").write_text("")
    (source / "glossary.md").write_text("# Glossary\n")
    for name in ("_explorer", "_static", "data/web"):
        (source / name).mkdir(parents=True)
    (source / "_static" / "favicon.svg").write_text("<svg/>")
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["repository"]["url"] = address
    config["sphinx"]["local_extensions"] = dict.fromkeys(config["sphinx"]["local_extensions"], str(ROOT / "book/_ext"))
    (folder / "_config.yml").write_text(yaml.safe_dump(config))
    toc = {"format": "jb-book", "root": "notebooks/page", "chapters": [{"file": "live/page"}]}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc))
    options = ["--path-output", folder, "--config", folder / "_config.yml", "--toc", folder / "_toc.yml", "-q"]
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "build", source, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    html = folder / "_build" / "html"
    return "".join((html / place / "page.html").read_text() for place in ("notebooks", "live"))


def test_one_setting_brings_the_buttons(tmp_path):
    text = rendered(tmp_path, "https://github.com/some/where")
    notebook = "some/where/blob/main/notebooks/page.ipynb"
    assert text.count(f'href="https://colab.research.google.com/github/{notebook}"') == 2, "the live page's too"
    assert text.count("mybinder.org/v2/gh/some/where/main?urlpath=lab/tree/notebooks/page.ipynb") == 2
    assert 'href="https://github.com/some/where"' in text


def test_without_an_address_there_is_no_button(tmp_path):
    text = rendered(tmp_path, "")
    assert "A page of live" in text
    assert not any(word in text for word in ("mybinder", "colab", "fa-rocket", "source-repository-button"))


def test_the_environments_own_packages_are_solved():
    """By rattler, the solver of pixi, from a channel of a few entries: the Python that it takes is one we allow."""
    rattler = pytest.importorskip("rattler", reason="no solver for conda here: pip install py-rattler")
    specs = [rattler.MatchSpec(one) for one in ENVIRONMENT["dependencies"] if isinstance(one, str)]
    assert {str(spec.name.normalized) for spec in specs} == {"python", "pip"}
    found = asyncio.run(rattler.solve([channel(rattler)], specs, platforms=["linux-64", "noarch"]))
    chosen = {str(one.name.normalized): str(one.version) for one in found}
    assert SpecifierSet(required_python()).contains(chosen["python"])


def channel(rattler):
    """A channel on disk with some versions of Python, of which the newest is not the one that is asked for."""
    import tempfile
    from pathlib import Path

    folder = Path(tempfile.mkdtemp())
    entries = {}
    for name, version in (*(("python", each) for each in ("3.10.19", "3.11.14", "3.14.0")), ("pip", "26.0")):
        needs = ["python >=3.9"] if name == "pip" else []
        own = {
            "name": name,
            "version": version,
            "build": "0",
            "build_number": 0,
            "depends": needs,
            "subdir": "linux-64",
        }
        entries[f"{name}-{version}-0.tar.bz2"] = own
    for platform, packages in (("linux-64", entries), ("noarch", {})):
        (folder / platform).mkdir()
        told = {"info": {"subdir": platform}, "packages": packages, "packages.conda": {}, "repodata_version": 1}
        (folder / platform / "repodata.json").write_text(json.dumps(told))
    return rattler.Channel(folder.as_uri())


def required_python() -> str:
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]


def test_what_pip_adds_is_what_pyproject_asks_for_and_runs_on_that_python():
    """Each pin is one that pyproject.toml allows, and its package says that it runs on the environment's Python."""
    import tomllib

    (pip,) = (one["pip"] for one in ENVIRONMENT["dependencies"] if isinstance(one, dict))
    assert pip == ["-r requirements.txt", "-e ."]
    python = next(str(one) for one in ENVIRONMENT["dependencies"] if str(one).startswith("python="))
    pins = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins[pin.name] = str(pin.specifier).removeprefix("==")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for name in ("book", "data", "test")
             for one in project["optional-dependencies"][name])]  # fmt: skip
    for one in map(Requirement, asked):
        assert one.specifier.contains(pins[one.name.lower()]), one
    for name in pins:
        try:
            runs_on = metadata.metadata(name).get("Requires-Python")
        except metadata.PackageNotFoundError:  # a part of CUDA on another system
            continue
        assert not runs_on or SpecifierSet(runs_on).contains(python.removeprefix("python=") + ".9"), name
