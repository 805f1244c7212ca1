"""Text and numbers on the command line: text where a page declares text, numbers wherever numbers are."""

import nbformat
import pytest

from odinlib.book import parameters
from odinlib.errors import UserError

PAGE = """\
from odinlib.book import page

page.begin(folder=page.text, **dict.fromkeys(("left", "right"), page.text), size=page.number(at_least=1))
"""
DECLARED = "folder = None\nleft = None\nright = None\nsize = None\nepsilons = [0.0]\nimages = 10\nprofile = 'demo'"


@pytest.fixture
def page(tmp_path):
    cells = [nbformat.v4.new_code_cell(DECLARED, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(PAGE)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "page.ipynb")
    return tmp_path / "page.ipynb"


@pytest.mark.parametrize(
    "typed", ["2024-05-01", "2024", "007", "1e3", "no", "True", "[a]", "a: b", "~", "12:30", "#1", ""]
)
@pytest.mark.parametrize("name", ["folder", "left", "right"])
def test_text_stays_as_it_was_typed(page, name, typed):
    given = parameters.of_command_line(page, [(name, typed)])
    assert given == {name: typed}
    assert parameters.check(parameters.declared(page), given, {name: parameters.text})[name] == typed


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("1e-3", 0.001),
        ("[0, 1e-3]", [0, 0.001]),
        ("[1E+2, .5, -3, 2.]", [100.0, 0.5, -3, 2.0]),
        ("[2024-05-01, 12:30, 010, yes]", ["2024-05-01", "12:30", 10, "yes"]),
        ("{a: [1e-3]}", {"a": [0.001]}),
        ("None", None),
        ("true", True),
        ("inf", float("inf")),
    ],
)
def test_what_else_is_typed_is_read(typed, value):
    assert parameters.parse(typed) == value


def test_numbers_that_yaml_takes_for_text_are_numbers():
    """As papermill's `-y '{epsilons: [0, 1e-3]}'` gives them."""
    found = parameters.check({"epsilons": [0.0], "images": 10}, {"epsilons": ["0.5e-1", 0], "images": 1e3})
    assert found == {"epsilons": [0.05, 0], "images": 1000} and isinstance(found["images"], int)
    rules = {"mean": parameters.number(at_least=0)}
    assert parameters.check({"mean": None}, {"mean": ["1e-1"]}, rules) == {"mean": [0.1]}
    assert parameters.check({"temperature": 1.0}, {"temperature": "1e3"}) == {"temperature": 1000.0}
    for name, value in (("epsilons", ["small"]), ("temperature", "10")):
        with pytest.raises(UserError, match=name):
            parameters.check({name: [0.0] if name == "epsilons" else 1.0}, {name: value}, {name: parameters.number()})


def test_a_number_that_was_text_and_cannot_be_again_is_refused():
    with pytest.raises(UserError, match=r"folder is 1000.0; expected text; papermill takes it as -r folder TEXT"):
        parameters.check({"folder": None}, {"folder": 1e3}, {"folder": parameters.text})


@pytest.mark.parametrize("given", [{"folder": "2024"}, {"folder": "2024-05-01"}, {"epsilons": [0, 1e-5]}])
def test_the_line_that_makes_a_page_again_keeps_text_and_numbers(given):
    import shlex

    import yaml

    (kind, word) = shlex.split(" ".join(parameters.options(given)))
    assert kind == "-y" and yaml.safe_load(word) == given
