"""odinlib.book: pages made here and run by papermill itself, or as in Jupyter, and the graph of jobs."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from odinlib import cli, experiments, profiles, tables
from odinlib.book import execution, graph, parameters
from odinlib.book import page as pages
from odinlib.errors import Missing, UserError

PARAMETERS = """\
profile = "demo"  # which
temperature = 1000.0  # T
count = 3  # how many
flag = False  # whether
names = ["a"]  # which ones
networks = None  # the profile's
temperatures = None
images = None
network = None
epsilon = None
ood_sets = None
"""
CHECKED = """\
from odinlib.book import page

run = page.begin(count=int, flag=bool, names=list)
"""


def write(path: Path, *sources: str, parameters: str = PARAMETERS) -> Path:
    """A notebook of a parameters cell and these code cells."""
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def papermill(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def outputs(path: Path) -> str:
    """All text that an executed notebook shows."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    shown = [output for cell in cells for output in cell.outputs]
    return "\n".join(str(o.get("text", "") or o.get("data", {}).get("text/markdown", "")) for o in shown)


# --- Names and types --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temprature", 10, "did you mean 'temperature'"),
        ("zzz", 10, "parameter is 'zzz'"),
        ("temperature", "10", "expected a number"),
        ("temperature", True, "expected a number"),
        ("temperature", None, "expected a number"),
        ("count", 2.5, "expected a whole number"),
        ("flag", 1, "expected True or False"),
        ("profile", 3, "expected text"),
        ("names", "a", "-y '{names: [a]}'"),
        ("networks", "wrn-16-2", "-y '{networks: [wrn-16-2]}'"),
        ("temperatures", 10, "-y '{temperatures: [10]}'"),
        ("images", "many", "expected a whole number"),
        ("network", ["wrn-16-2"], "expected text"),
        ("epsilon", "small", "expected a number"),
        ("ood_sets", "gaussian", "-y '{ood_sets: [gaussian]}'"),
        ("temperatures", "10", "-y '{temperatures: [10]}'"),
        ("temperatures", "[1, 10", "-y '{temperatures: [1, 10]}'"),
        ("temperatures", "1, 10", "-y '{temperatures: [1, 10]}'"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path, name, value, message):
    declared = parameters.declared(write(tmp_path / "page.ipynb"))
    with pytest.raises(UserError) as caught:
        parameters.check(declared, {name: value})
    assert message in str(caught.value) and name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": 10},
        {"names": ["b", "c"], "count": 0, "flag": True},
        {"networks": ["wrn-16-2"], "temperatures": [1, 10], "images": 300, "network": "wrn-16-2", "epsilon": 0},
        {"networks": None, "images": None, "ood_sets": ["gaussian"]},
        {"ood_sets": {"shapes10": ["gaussian"]}},
        {"temperatures": "[1, 10]", "networks": "['wrn-16-2']"},
    ],
)
def test_a_right_parameter_passes(tmp_path, given):
    parameters.check(parameters.declared(write(tmp_path / "page.ipynb")), given)


def test_types_of_own_parameters_can_be_told():
    parameters.check({"layer": None}, {"layer": 3})  # nothing is known of it
    with pytest.raises(UserError, match="layer is 3; expected text"):
        parameters.check({"layer": None}, {"layer": 3}, {"layer": str})


def test_declarations_are_read_from_the_file(tmp_path):
    typed = write(tmp_path / "typed.ipynb", parameters="a: int = 1\nb = -0.5  # negative\nc: list = [1, 'x']")
    assert parameters.declared(typed) == {"a": 1, "b": -0.5, "c": [1, "x"]}
    assert parameters.declared(write(tmp_path / "none.ipynb", parameters="")) == {}
    with pytest.raises(UserError, match="not plain literals"):
        parameters.declared(write(tmp_path / "code.ipynb", parameters="import os\na = os.getcwd()"))
    with pytest.raises(UserError, match=r"no notebook .*did you mean typed.ipynb"):
        parameters.declared(tmp_path / "typd.ipynb")
    (tmp_path / "broken.ipynb").write_text("{")
    with pytest.raises(UserError, match="is not a notebook"):
        parameters.declared(tmp_path / "broken.ipynb")


def test_a_list_may_come_as_text():
    """papermill's own `-p` gives text only."""
    declared = {"temperatures": None, "names": ["a"], "network": None}
    given = {"temperatures": "[1, 10, 1e3]", "names": "[b]", "network": "[c]"}
    assert parameters.check(declared, given) == {"temperatures": [1, 10, 1000], "names": ["b"], "network": "[c]"}


@pytest.mark.parametrize("name", ["networks", "temperatures", "names"])
def test_the_line_that_is_told_works(name):
    """What a refused list says to type instead passes, read as papermill reads it."""
    import yaml

    declared = {"networks": None, "temperatures": None, "names": ["a"]}
    for value in ("wrn-16-2", "[1, 10", "a, b", 5, "it's", "-y '{x: 1}"):
        with pytest.raises(UserError) as caught:
            parameters.check(declared, {name: value})
        words = shlex.split(str(caught.value).partition("papermill takes it as ")[2])
        assert words[0] == "-y"
        parameters.check(declared, yaml.safe_load(words[1]))


@pytest.mark.parametrize(
    ("rule", "right", "wrong", "message"),
    [
        (parameters.number(at_least=2), [2, 3], [1, "3", None, 2.5, True], ""),
        (parameters.number(at_least=2), [2.0, 3], [1.9, float("nan"), float("inf")], "a number at least 2"),
        (parameters.number(above=0, below=1), [0.5], [0, 1], "above 0 and below 1"),
        (parameters.number(at_least=1, at_most=32), [[1, 32]], [[2, 33], [], ["2"]], ""),
        (parameters.one_of(["unit", "byte"]), ["unit"], ["bytes"], "did you mean 'byte'?"),
        (str, ["a"], [3, ["a"]], "expected text"),
    ],
)
def test_a_page_names_what_its_own_parameters_may_be(rule, right, wrong, message):
    for value in right:
        assert parameters.check({"own": right[0]}, {"own": value}, {"own": rule}) == {"own": value}
    for value in wrong:
        with pytest.raises(UserError, match=r"^own is ") as caught:
            parameters.check({"own": right[0]}, {"own": value}, {"own": rule})
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_outside_of_a_notebook_there_is_nothing_to_check():
    assert pages.begin() is None


# --- As in Jupyter ----------------------------------------------------------------------------------------------------


@pytest.fixture
def jupyter(monkeypatch):
    """Run the first cells of a page in a kernel that papermill has nothing to do with; gives what `begin` gives."""
    monkeypatch.setattr(pages, "_changed", {})

    def run(declarations: str, *more: str, opening: str = "run = page.begin(count=page.number(at_least=2))"):
        space: dict = {"page": pages}
        cells = [declarations, *more, opening]
        history = SimpleNamespace(input_hist_raw=["", *cells])
        shell = SimpleNamespace(user_ns=space, history_manager=history)
        monkeypatch.setattr(pages, "get_ipython", lambda: shell)
        for cell in cells:
            exec(cell, space)
        return space["run"], space

    return run


def test_edited_parameters_are_those_of_the_run(jupyter):
    edited = (
        'profile = "demo"\nnetwork = "wrn-10-2"\ntemperature = 37\nood_set = None\nepsilons = "[0, 0.002]"\ncount = 2'
    )
    run, space = jupyter(edited, "import os", "later = 3")
    assert run.networks == ("wrn-10-2",) and run.temperatures == (37,) and run.epsilons == (0, 0.002)
    assert run.ood_sets == profiles.get("demo").ood_sets and space["count"] == 2


@pytest.mark.parametrize(
    ("edited", "message"),
    [
        ("images = 'many'\ncount = 2", "images is 'many'; expected a whole number"),
        ("network = ['wrn-10-2']\ncount = 2", "network is ['wrn-10-2']; expected text"),
        ("count = 1", "count is 1; expected a number at least 2"),
        ("count = 2\ntemprature = 10", "parameter is 'temprature'; "),
        ("count = 2\nimages = 50", "images is 50 and holdout is 100"),
        ("count = 2\nnetwork = 'wrm-10-2'", "wrm-10-2"),
    ],
)
def test_edited_parameters_are_checked(jupyter, edited, message):
    with pytest.raises(UserError) as caught:
        jupyter(f'profile = "demo"\n{edited}')
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_page_knows_itself_and_what_was_edited(jupyter):
    source = Path(__file__).parent.parent / "notebooks" / "01-introduction.ipynb"
    cells = [cell.source for cell in nbformat.read(source, as_version=4).cells if cell.cell_type == "code"]
    run, _ = jupyter(cells[0].replace("images = None", "images = 300"), opening=cells[1])
    assert run.images == 300
    line = "papermill notebooks/01-introduction.ipynb out.ipynb -p profile demo -p images 300"
    assert line in pages.provenance(run).data and "Changed here: `images = 300`." in pages.banner(run).data


# --- papermill's own command line -------------------------------------------------------------------------------------


def test_papermill_fails_on_an_unknown_name_and_computes_nothing(tmp_path):
    touched = tmp_path / "touched"
    page = write(tmp_path / "page.ipynb", CHECKED, f"open({str(touched)!r}, 'w')")
    done = papermill(page, tmp_path / "out.ipynb", "-p", "temprature", "10")
    assert done.returncode != 0 and not touched.exists()
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("UserError: parameter is 'temprature'") and "did you mean 'temperature'?" in line


def test_papermill_runs_with_what_was_given(tmp_path):
    page = write(tmp_path / "page.ipynb", CHECKED, "print(temperature, networks)")
    done = papermill(page, tmp_path / "out.ipynb", "-p", "temperature", "10", "-y", "{networks: [wrn-10-1]}")
    assert done.returncode == 0, done.stderr
    assert "10 ['wrn-10-1']" in outputs(tmp_path / "out.ipynb")


def test_papermill_says_how_a_list_is_given(tmp_path):
    page = write(tmp_path / "page.ipynb", CHECKED)
    done = papermill(page, tmp_path / "out.ipynb", "-p", "networks", "wrn-10-1")
    assert done.returncode != 0
    assert "-y '{networks: [wrn-10-1]}'" in done.stderr.strip().splitlines()[-1]


# --- `odin run` -------------------------------------------------------------------------------------------------------


def run(*arguments: object):
    return CliRunner().invoke(cli.main, ["run", "-q", *map(str, arguments)])


def test_run_checks_before_it_starts(tmp_path):
    page = write(tmp_path / "page.ipynb", "1 / 0")
    done = run(page, "-o", tmp_path / "out.ipynb", "-p", "cuont", 3)
    assert done.exit_code == 1 and not (tmp_path / "out.ipynb").exists()
    assert done.stderr == (
        "error: parameter is 'cuont'; expected one of profile, temperature, count, flag, names, networks, "
        "temperatures, images, network, epsilon, ood_sets; did you mean 'count'?\n"
    )


def test_run_gives_a_whole_notebook_or_none(tmp_path):
    page, out = write(tmp_path / "page.ipynb", CHECKED, "print('x' * count)\nassert count < 5, 'many'"), tmp_path / "o"
    done = run(page, "-o", out / "page.ipynb", "-p", "count", 4)
    assert done.exit_code == 0, done.output
    assert "xxxx" in outputs(out / "page.ipynb")
    before = (out / "page.ipynb").read_bytes()
    done = run(page, "-o", out / "page.ipynb", "-p", "count", 6)
    assert done.exit_code == 1 and "AssertionError: many; " in done.stderr and done.stderr.count("\n") == 1
    assert (out / "page.ipynb").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == ["page.failed.ipynb", "page.ipynb"]


def test_run_passes_a_users_mistake_on_in_one_line(tmp_path):
    page = write(tmp_path / "page.ipynb", CHECKED)
    done = run(page, "-o", tmp_path / "out.ipynb", "-p", "profile", "dmeo")
    assert done.exit_code == 1
    assert done.stderr == ("error: page.ipynb: profile is 'dmeo'; expected one of demo, paper; did you mean 'demo'?\n")


def test_values_are_read_as_typed():
    assert parameters.parse("[1, two, 3.5]") == [1, "two", 3.5]
    assert parameters.parse("{a: [1]}") == {"a": [1]}
    assert [parameters.parse(text) for text in ("True", "false", "None", "1e-05")] == [True, False, None, 1e-05]
    with pytest.raises(UserError, match="cannot read the value"):
        parameters.parse("[1, 2")


# --- What made a page -------------------------------------------------------------------------------------------------


def test_the_foot_of_a_page_tells_how_to_make_it_again(tmp_path):
    page = write(tmp_path / "page.ipynb", CHECKED, "page.provenance(run)")
    given = {"images": 300, "temperatures": [1, 1e-05], "profile": "demo"}
    execution.execute(page, tmp_path / "out.ipynb", given, progress=False)
    shown = outputs(tmp_path / "out.ipynb")
    assert "Changed here: `temperatures = [1, 1e-05]`, `images = 300`." in shown
    for fact in ("Profile | demo", "Commit | ", "Hardware | ", "PyTorch ", "Date | 20", "Seconds | "):
        assert fact in shown
    words = shlex.split(re.search(r"papermill (.*)\n```", shown)[1])
    again = papermill(page, tmp_path / "again.ipynb", *words[2:])
    assert again.returncode == 0, again.stderr
    # papermill parsed the printed line back to the values that were given
    assert "`temperatures = [1, 1e-05]`, `images = 300`" in outputs(tmp_path / "again.ipynb")


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.none()
        | st.booleans()
        | st.integers(-(10**9), 10**9)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text("ab1 .'\"$:[]{}#\\-e", max_size=6)
        | st.lists(st.integers() | st.floats(1e-9, 1e9) | st.text("ab1'\"", max_size=4), max_size=3),
    )
)
def test_the_printed_options_mean_the_given_values(given):
    import yaml
    from papermill.cli import _resolve_type

    words, read = parameters.options(given), {}
    words = shlex.split(" ".join(words))
    while words:
        option = words.pop(0)
        if option == "-p":
            name, value = words.pop(0), words.pop(0)
            read[name] = _resolve_type(value)
        else:
            assert option == "-y"
            read.update(yaml.safe_load(words.pop(0)))
    assert read == given


def test_what_is_missing_is_listed():
    assert pages.note_missing({}) is None
    root = Path(pages.__file__).resolve().parent.parent.parent
    note = pages.note_missing({("wrn-28-10", "isun"): f"{root}/results/paper/x.npz is not recorded", "b": "why"})
    assert "> - WRN-28-10: iSUN: results/paper/x.npz is not recorded" in note.data and "(2)" in note.data
    assert "> - b: why" in note.data


def lacking(**missing: str) -> experiments.Gathered:
    """What was gathered, of which nothing was to be had."""
    found: experiments.Gathered = experiments.Gathered()
    found.missing.update(missing)
    return found


def test_a_cell_shows_what_there_is_or_what_is_missing():
    def not_called():
        raise AssertionError("there is nothing to make it from")

    some = experiments.gather(lambda name: name, ["isun", "mnist"])
    assert pages.show(lambda: "made", some, True, pd.DataFrame([1])) == "made"
    for nothing in (lacking(b="why"), False, [], pd.DataFrame()):
        assert "**Not" in pages.show(not_called, some, nothing).data
    assert pages.show(not_called, lacking(b="why")).data == pages.note_missing({"b": "why"}).data
    assert pages.show(not_called, False, some).data == "> **Not recorded.**"


def test_a_cell_tells_what_there_is_or_that_there_is_nothing():
    assert pages.tell(lambda: f"there are {2}", [1]).data == "there are 2"
    assert "Not recorded" in pages.tell(lambda: str(1 / 0), lacking(b="why")).data


def test_what_is_missing_of_several_is_one_note():
    def fails(name):
        raise Missing(
            f"{name} is not recorded", remedy=f"`odin respond --id-set cifar10 --set {name} -p seed 1` makes it"
        )

    several = [experiments.gather(fails, names) for names in (["isun", "uniform"], ["isun", "gaussian"])]
    note = pages.note_missing(*several).data
    assert "(3)" in note and "iSUN; Uniform; Gaussian" in note
    assert "`odin respond --id-set cifar10 --set isun --set uniform --set gaussian -p seed 1` makes it" in note
    own = experiments.gather(fails, ["cifar10", "letters"])
    assert "`odin respond --id-set cifar10 -p seed 1` makes it" in pages.note_missing(own).data


def test_equal_tables_on_a_page_have_ids_of_their_own(monkeypatch):
    monkeypatch.setattr(tables, "_shown", {})
    frame = pd.DataFrame([[1, "a"]], index=pd.MultiIndex.from_tuples([("x", "y")]))
    ids = [tables.plain(one).to_html().partition('id="T_')[2].partition('"')[0] for one in (frame, frame, frame * 2)]
    assert len(set(ids)) == 3 and ids[1] == f"{ids[0]}-2"
    monkeypatch.setattr(tables, "_shown", {})
    assert tables.plain(frame).to_html().count(ids[0])  # the same in every run


def test_the_foot_tells_whose_images_were_used(monkeypatch):
    """Only of sets whose images are not those that were asked for."""
    of = profiles.configure("paper", seed=1).trained("densenet-bc-100-12", "cifar10")
    monkeypatch.setattr(experiments, "asked", {})
    assert len(experiments.tested(of, "gaussian")) == len(experiments.tested(of, "uniform")) == 9000
    foot = pages.provenance(of.profile).data
    assert "DenseNet-BC-100 (k = 12), CIFAR-10: Gaussian; Uniform: 1,000 held-out images" in foot
    monkeypatch.setattr(experiments, "asked", {})
    experiments.tested(profiles.get("paper").trained("densenet-bc-100-12", "cifar10"), "gaussian")
    assert "held-out" not in pages.provenance(of.profile).data


def test_the_banner_says_what_is_only_read():
    told = "read from the record"
    assert told in pages.banner(profiles.get("paper")).data
    assert told not in pages.banner(profiles.get("demo")).data
    assert told not in pages.banner(profiles.configure("paper", compute=True)).data


def test_what_is_needed_is_told_once_for_all_that_needs_it(tmp_path):
    missing = "missing = {('wrn-28-10', 'cifar10', s): f'{s}.npz is not recorded; `odin x` makes it' for s in sets}\n"
    sets = "sets = ['isun', 'uniform', 'gaussian', 'lsun-crop', 'lsun-resize', 'omniglot']\n"
    page = write(
        tmp_path / "a.ipynb",
        "from odinlib.book import page\n" + sets + missing + "page.note_missing(missing)",
        "page.note_missing({'mnist': missing[next(iter(missing))], 'b': 'why'})",
    )
    execution.execute(page, tmp_path / "out.ipynb", {}, progress=False)
    shown = outputs(tmp_path / "out.ipynb")
    assert "> - WRN-28-10, CIFAR-10 (6): `odin x` makes it" in shown
    assert "> - MNIST (see above)" in shown and "> - b: why" in shown
    assert shown.count("odin x") == 1


# --- The graph --------------------------------------------------------------------------------------------------------


def names(page: Path) -> set[str]:
    package = Path(graph.__file__).parent.parent
    return {Path(path).relative_to(package).as_posix() for path in graph.modules(page)}


def test_a_page_depends_on_the_modules_it_reaches(tmp_path):
    errors = names(write(tmp_path / "a.ipynb", "from odinlib.errors import UserError"))
    assert errors == {"__init__.py", "errors.py"}
    metrics = names(write(tmp_path / "b.ipynb", "def later():\n    from odinlib import metrics"))
    assert {"metrics.py", "errors.py"} <= metrics and "experiments.py" not in metrics
    assert "odin.py" in names(write(tmp_path / "e.ipynb", "from odinlib import ODIN"))
    protocol = names(write(tmp_path / "c.ipynb", "import odinlib.experiments"))
    assert {"experiments.py", "odin.py", "networks/densenet.py", "datasets/shapes.py"} <= protocol
    assert "reference/table-02.csv" in names(write(tmp_path / "d.ipynb", "from odinlib import reference"))


def test_the_mechanics_of_a_page_bring_nothing_else_along(tmp_path):
    assert "networks/train.py" not in names(write(tmp_path / "a.ipynb", CHECKED))


def test_a_page_says_in_its_metadata_what_it_needs(tmp_path):
    page = write(tmp_path / "a.ipynb")
    assert graph.needs(page) == set()
    contents = json.loads(page.read_text())
    for told in (["pictures", "network"], ["picture"]):
        page.write_text(json.dumps({**contents, "metadata": {**contents["metadata"], "odin": {"needs": told}}}))
        if told[0] in graph.NEEDS:
            assert graph.needs(page) == set(told)
    with pytest.raises(UserError, match="did you mean 'pictures'"):
        graph.needs(page)


def test_only_pages_with_a_profile_are_given_one(tmp_path):
    assert graph.profile_option(write(tmp_path / "a.ipynb"), "paper") == "-p profile paper"
    assert graph.profile_option(write(tmp_path / "b.ipynb", parameters="size = 1"), "paper") == ""


def test_metadata_survives(tmp_path):
    page = write(tmp_path / "page.ipynb", CHECKED)
    contents = json.loads(page.read_text())
    contents["cells"][1]["metadata"] = {"mystnb": {"image": {"alt": "what one sees"}}}
    page.write_text(json.dumps(contents))
    execution.execute(page, tmp_path / "out.ipynb", {"count": 1}, progress=False)
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert cells[2].metadata["mystnb"] == {"image": {"alt": "what one sees"}}
