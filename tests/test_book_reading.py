"""The built book as a reader uses it: found in a few clicks, turned by keyboard, read on a phone and aloud."""

import json
import re
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from test_book import CHROMIUM

from odinlib import experiments, metrics, profiles
from odinlib.book import layout

pytestmark = [
    pytest.mark.book,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt-get install chromium"),
]
ARGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
#: A page of every kind.
KINDS = (
    *("intro", "pages/figures", "pages/explorer", "live/index", "references", "search", "glossary", "pages/changelog"),
    *("notebooks/03-odin", "notebooks/04-experiments", "notebooks/05-discussions", "notebooks/A-supplementary-results"),
    *("notebooks/G-distances", "notebooks/coverage", "pages/library", "live/B-effects-of-parameters"),
)
#: What axe finds and is not ours to change: rule, what the node holds, why.
EXCEPTIONS = (
    ("empty-table-header", 'class="head" aria-label="', "MathJax draws the formula, and its TeX is the header's name"),
)
#: Tables and formulas that are wider than what shows them, without being in a region that can be reached and scrolled.
CUT = """[...document.querySelectorAll('.bd-article table, .bd-article div.math')].filter(one => {
    if (one.closest('[aria-hidden], details:not([open])')) return false;
    for (let box = one; !box.classList.contains('bd-article'); box = box.parentElement)
        if (box.scrollWidth > box.clientWidth + 1)
            return !(box.closest('[tabindex="0"]') && box.closest('[role=region], [role=group]'));
    return false;
}).map(one => one.outerHTML.slice(0, 120))"""
FIRST_RESULT = """(() => { for (const one of document.querySelectorAll(
    '.bd-article :is(figure img, figure table, .cell_output img, .table-scroll, .explorer, .result)')) {
    const box = one.getBoundingClientRect();
    if (box.height > 20 && !one.closest('details:not([open])')) return box.top + scrollY; } return 0; })()"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, book):
    """Open a page of the book: its name, then the width and the scheme."""
    contexts = []

    def open_page(name: str, width: int = 1280, scheme: str = "light", **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        contexts.append(context)
        tab = context.new_page()
        name, _, rest = name.partition("?")
        tab.goto((book / f"{name}.html").as_uri() + (f"?{rest}" if rest else ""))
        if options.get("java_script_enabled", True):
            tab.evaluate("window.MathJax?.startup?.promise")
        return tab

    yield open_page
    for context in contexts:
        context.close()


# --- Journeys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "name"), [("Figure 5", "figure-5"), ("Table 2", "table-2"), ("figure 17", "figure-17")]
)
def test_a_figure_is_found_in_two_clicks_with_what_differs(visit, query, name):
    tab = visit(f"search?q={query.replace(' ', '+')}")
    first = tab.locator("ul.search li a").first
    first.wait_for()
    assert first.get_attribute("href") == f"pages/figures.html#{name}"
    assert not [
        href for href in tab.locator("ul.search li a").evaluate_all("all => all.map(a => a.href)") if "/live/" in href
    ]
    first.click()
    section = tab.locator(f"section#{name}")
    section.wait_for()
    assert (
        re.search("holds|fails|reproduced|differs|not recorded|near", section.inner_text())
        or "Section" in section.inner_text()
    )
    section.locator("a", has_text=f"To {query.capitalize()}").click()
    assert re.search(rf"notebooks/[\w-]+\.html#{name}$", tab.url)
    tab.locator(f"figure#{name}").wait_for()
    assert abs(tab.locator(f"figure#{name}").bounding_box()["y"]) < 900, "it stands on the screen"


def test_the_first_screen_says_how_far_to_trust_this(visit):
    tab = visit("intro")
    answer = tab.locator(".verdicts")
    box = answer.bounding_box()
    assert box["y"] < 500, "the verdicts begin on the first screen"
    assert "The paper's claims" in answer.inner_text() and "not recorded" in answer.inner_text()


def test_the_method_is_on_the_first_page(visit):
    tab = visit("intro")
    text = tab.locator("#the-method-in-two-minutes").inner_text()
    assert "torch.sign(-gradient)" in text and "torch.exp(-gaps / temperatures" in text
    assert tab.locator("#the-method-in-two-minutes svg.method").count() == 1
    assert tab.locator("#the-method-in-two-minutes mjx-container").count() >= 2


def test_a_page_says_how_it_is_run(visit):
    """With T = 10, say: the line is at the foot, `odin run` first, and the parameter's name in the first cell."""
    tab = visit("notebooks/05-discussions")
    foot = tab.locator("section#run-this-page-yourself").inner_text()
    lines = re.findall(r"^(?:make setup|\.venv/bin/\S+ ?\S*)", foot, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["make", ".venv/bin/odin", ".venv/bin/papermill"]
    assert "notebooks/05-discussions.ipynb -p profile paper" in foot and "Record" in foot
    parameters = tab.locator("details.fold", has_text="Parameters of this page")
    parameters.locator("summary").click()
    assert "temperatures = None" in parameters.inner_text()


def test_ones_own_network_is_one_click_away(visit):
    tab = visit("intro")
    tab.locator(".bd-article a", has_text="Your own network").click()
    assert tab.url.endswith("notebooks/own-network.html")


def test_a_term_is_explained_where_it_stands(visit):
    """By keyboard and by pointer; a screen reader hears it as the link's description; Escape closes it."""
    tab = visit("notebooks/04-experiments")
    term = tab.locator("a.term", has_text="FPR at 95 % TPR")
    meaning = tab.locator(f"#{term.get_attribute('aria-describedby')}")
    assert not meaning.is_visible()
    term.focus()
    assert meaning.is_visible() and "threshold that 95 % of the familiar" in meaning.inner_text()
    box = meaning.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 1280 and 0 <= box["y"] <= 900
    tab.keyboard.press("Escape")
    assert not meaning.is_visible()
    term.blur()
    term.hover()
    assert meaning.is_visible()
    term.click()
    assert re.search(r"glossary\.html#term-FPR-at-95-TPR$", tab.url)


def test_the_entries_to_cite_can_be_copied(visit):
    tab = visit("intro")
    entries = tab.locator("#to-cite-it .highlight-bibtex")
    assert "liang2018" in entries.nth(0).inner_text() and "odinlib" in entries.nth(1).inner_text()
    assert entries.locator("button.copybtn:visible").count() == 2


# --- What a page shows ------------------------------------------------------------------------------------------------


def test_results_stand_before_code(visit):
    """Of the paper's pages, the first result is within two screens on most of them."""
    tops = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        tab = visit(f"notebooks/{path.stem}")
        tops.append(tab.evaluate(FIRST_RESULT))
        shown = tab.locator(".bd-article div.cell_input:visible").count()
        tagged = sum("method" in cell["metadata"].get("tags", []) for cell in json.loads(path.read_text())["cells"])
        assert shown <= tagged, f"{path.stem}: only the method's code is open"
    assert sorted(tops)[len(tops) // 2] < 1800


def test_icons_that_are_shown_have_their_glyphs(visit, book):
    """The icons' font is cut to those in use."""
    fonttools = pytest.importorskip("fontTools.ttLib")
    font = fonttools.TTFont(book / "_static/vendor/fontawesome/webfonts/fa-solid-900.woff2")
    shown = visit("notebooks/04-experiments").evaluate(
        "[...document.querySelectorAll('.fa-solid, .fas')].map(one => getComputedStyle(one, '::before').content)"
    )
    marks = {ord(mark.strip('"')) for mark in shown if len(mark.strip('"')) == 1}
    assert len(marks) > 4 and marks <= set(font.getBestCmap())


def test_a_captioned_table_leads_to_its_code_its_numbers_and_its_run(visit):
    tab = visit("notebooks/04-experiments")
    links = tab.locator("figure#table-2 figcaption a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert any(link.endswith("library.html#odinlib.tables.detection_table") for link in links)
    assert any(link.endswith("table-2.csv") for link in links) and "#made-04-experiments" in links


def test_record_and_live_lead_to_each_other(visit):
    tab = visit("notebooks/02-problem-statement")
    tab.locator(".switch a").click()
    assert tab.url.endswith("live/02-problem-statement.html")
    tab.locator(".switch a").click()
    assert tab.url.endswith("notebooks/02-problem-statement.html")
    assert tab.locator("nav a:visible", has_text="(live)").count() == 0, "the sidebar shows the live part folded"


def test_every_captioned_result_has_its_numbers(book):
    """A table or figure that is drawn from data offers it; its file is there and has a header and a row."""
    checked = 0
    for path in sorted((book / "notebooks").glob("*.html")):
        for target in re.findall(r'href="\.\./(_downloads/[^"]+\.csv)"', path.read_text()):
            lines = (book / target).read_text().splitlines()
            assert len(lines) > 1 and "," in lines[0], target
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("name", KINDS)
def test_a_page_is_light(visit, book, name):
    seen = {}
    tab = visit(name)
    tab.on("requestfinished", lambda request: seen.setdefault(request.url.partition("?")[0], None))
    tab.reload()
    tab.evaluate("window.MathJax?.startup?.promise")
    tab.wait_for_timeout(300)
    files = [Path(url.removeprefix("file://")) for url in seen if url.startswith("file://")]
    assert len(files) <= 25
    assert sum(file.stat().st_size for file in files) < 2e6


# --- Accessibility ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", KINDS)
def test_axe_finds_nothing_of_our_own_making(visit, name, scheme):
    axe = pytest.importorskip("axe_playwright_python", reason="axe is not here: pip install '.[test]'")
    tab = visit(name, scheme=scheme)
    if name in ("pages/explorer", "notebooks/05-discussions"):
        tab.locator(".explorer .said").first.wait_for()
    tab.evaluate(Path(axe.__file__).with_name("axe.min.js").read_text())
    found = tab.evaluate(
        "axe.run(document, {resultTypes: ['violations'], rules: {'label-content-name-mismatch': {enabled: true}}})"
        ".then(r => r.violations.flatMap(v => v.nodes.map(n => [v.id, n.html])))"
    )
    ours = [
        (rule, node[:200]) for rule, node in found if not any(rule == r and part in node for r, part, _ in EXCEPTIONS)
    ]
    assert not ours


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_cut_without_a_way_to_it(visit, name, width):
    tab = visit(name, width=width)
    assert tab.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert not tab.evaluate(CUT)


def test_no_identity_is_given_twice(visit):
    for name in KINDS:
        found = visit(name).evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
        assert len(found) == len(set(found)), name


# --- The explorer -----------------------------------------------------------------------------------------------------


def explorer(tab):
    tab.locator(".explorer .said").first.wait_for()
    return tab.locator(".explorer").first


def measures(box) -> dict[str, float]:
    rows = box.locator("table.measures tr[data-measure]").evaluate_all(
        "rows => rows.map(row => [row.dataset.measure, Number(row.cells[1].textContent)])"
    )
    return dict(rows)


def test_the_explorers_numbers_are_those_of_metrics(visit):
    """At some settings of the grid of every set: the same as from the recorded scores, up to the scale's steps."""
    tab = visit("pages/explorer")
    box = explorer(tab)
    key, training = box.locator("select[name=network]").input_value(), None
    run = profiles.get(layout.KINDS["both"][0])
    network, id_set, training = key.split("_")
    of = run.trained(network, id_set, training)
    inside = experiments.grid(of, id_set)
    names = {"fpr": "fpr", "error": "detection_error", "auroc": "auroc", "auprIn": "aupr_in", "auprOut": "aupr_out"}
    sets = box.locator("select[name=set] option").evaluate_all("all => all.map(one => one.value)")
    assert sets
    turn = "(knob, to) => { knob.value = to; knob.dispatchEvent(new Event('input', {bubbles: true})); }"
    for place, name in enumerate(sets):
        title = box.locator(f"select[name=set] option[value='{name}']").inner_text()
        box.locator("select[name=set]").select_option(name)
        box.locator(".said", has_text=f"of {title}.").wait_for()  # its scores are fetched when it is chosen
        outside = experiments.grid(of, name)
        for t, e in ((0, 0), (len(run.temperatures) - 1, 3 + place % 3)):
            for knob, value in (("t", t), ("e", e)):
                box.locator(f"input[name={knob}]").evaluate(turn, str(value))
            tab.wait_for_timeout(60)
            wanted = metrics.evaluate(inside[t, e], outside[t, e], run.tpr)
            shown = measures(box)
            for mine, theirs in names.items():
                assert shown[mine] == pytest.approx(100 * wanted[theirs].item(), abs=0.35), (name, t, e, theirs)


def test_the_explorer_is_turned_by_keyboard_and_says_so(visit):
    tab = visit("pages/explorer")
    box = explorer(tab)
    before = box.locator(".said").inner_text()
    knob = box.locator("input[name=t]")
    knob.focus()
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_timeout(60)
    assert box.locator(".said").inner_text() != before
    assert box.locator(".said").get_attribute("role") == "status"
    assert knob.get_attribute("aria-valuetext").startswith("T = ")
    accepted = box.locator("table.confusion td").nth(1).inner_text()
    box.locator("input[name=d]").focus()
    for _ in range(40):
        tab.keyboard.press("ArrowRight")
    tab.wait_for_timeout(60)
    assert int(box.locator("table.confusion td").nth(1).inner_text()) < int(accepted)
    box.locator(".marks button", has_text="baseline").press("Enter")
    assert "T = 1, ε = 0 (baseline" in box.locator(".said").inner_text()


def test_the_explorer_without_scripts_is_a_picture(visit):
    tab = visit("pages/explorer", java_script_enabled=False)
    picture = tab.locator(".explorer svg")
    assert picture.count() == 1 and "at 95 % TPR the FPR is" in picture.get_attribute("aria-label")


def test_the_small_explorers_stand_in_sections_3_and_5(visit):
    for name in ("notebooks/03-odin", "notebooks/05-discussions"):
        box = explorer(visit(name))
        assert box.locator("svg").count() == 1 and len(measures(box)) == 5


def test_packed_scores_come_out_as_they_went_in():
    from odinlib.book.explorer import LEVELS, packed

    scores = torch.rand(2, 3, 50, generator=torch.Generator().manual_seed(0)).double().numpy()
    scores[0, 0, 7] = 1.0  # far from the others, so that a step is longer than a byte holds
    scores[0, 0, :7] *= 0.01
    low, high = scores.min(-1), scores.max(-1)
    import base64
    import zlib

    import numpy as np

    steps = np.frombuffer(zlib.decompress(base64.b64decode(packed(scores, low, high)), -15), np.uint8)
    ends = np.flatnonzero(steps != 255)
    levels = np.cumsum(np.diff(np.cumsum(steps, dtype=int)[ends], prepend=0).reshape(2, 3, 50), axis=-1)
    wanted = np.sort((scores - low[..., None]) / (high - low)[..., None] * LEVELS).astype(int).clip(0, LEVELS - 1)
    assert (levels == wanted).all()
