"""The built book as a reader's browser sees it: headless Chromium, without a network."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from odinlib.book import layout

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.book,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; on Debian: apt-get install chromium"),
]

#: Where the paper's figures, tables and equations are regenerated.
ARTEFACTS = {
    "03-odin": ["eq-1", "eq-2"],
    "04-experiments": ["figure-1", "figure-2", "table-1", "table-2"],
    "05-discussions": ["figure-3", "figure-4", "figure-5", "figure-6", "eq-3", "eq-4"],
    "A-supplementary-results": [f"table-{number}" for number in range(3, 10)],
    "B-effects-of-parameters": ["figure-7", "figure-8", "figure-9"],
    "C-second-order-and-gradients": ["figure-10", "figure-11", "figure-12"],
    "H-additional-discussions": ["figure-13", "figure-14", "figure-15", "table-10", "table-11"],
    "I-additional-analysis": ["figure-16", "figure-17", "table-12"],
}
#: In the browser: every picture of the page's content, whether it came, and what is told to those who cannot see it.
PICTURES = """[...document.querySelectorAll('.bd-article img')].map(
    image => ({source: image.getAttribute('src'), alt: image.alt, width: image.naturalWidth}))"""
#: Every captioned figure or table: its name, and its number as shown.
# The explorer's pictures are part of a tool, without name or number.
CAPTIONED = """[...document.querySelectorAll('.bd-article figure:not(.explorer figure)')].map(
    figure => [figure.id, figure.querySelector('.caption-number')?.innerText.trim() ?? ''])"""
EQUATIONS = """[...document.querySelectorAll('.bd-article div.math[id^=equation-]')].map(
    block => [block.id.replace('equation-', ''),
              block.querySelector('.eqno')?.innerText.replace('#', '').trim() ?? ''])"""


@dataclasses.dataclass
class Seen:
    """What a browser met on one page."""

    errors: list[str]
    outside: list[str]
    pictures: list[dict]
    captioned: list[list[str]]
    equations: list[list[str]]
    formulas: int
    typeset: int
    broken: int
    wider: int
    links: list[str]


@pytest.fixture(scope="module")
def seen(book) -> dict[str, Seen]:
    """Every page of the book, opened in Chromium with every request that leaves the machine cut off."""
    playwright = pytest.importorskip("playwright.sync_api")
    pages = sorted(path for path in book.rglob("*.html") if "_static" not in path.parts)
    found = {}
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for path in pages:
            if path.name in ("index.html", "search.html", "genindex.html"):
                continue
            found[path.relative_to(book).with_suffix("").as_posix()] = look(browser, path)
        browser.close()
    return found


def look(browser, path: Path) -> Seen:
    errors, outside = [], []
    context = browser.new_context(viewport={"width": 1280, "height": 900})

    def guard(route):
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    tab = context.new_page()
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("requestfailed", lambda request: errors.append(f"{request.url} failed"))
    tab.goto(path.as_uri())
    tab.evaluate("window.MathJax?.startup?.promise")
    tab.wait_for_load_state("networkidle")

    def count(selector: str) -> int:
        return tab.locator(selector).count()

    result = Seen(
        errors=errors,
        outside=outside,
        pictures=tab.evaluate(PICTURES),
        captioned=tab.evaluate(CAPTIONED),
        equations=tab.evaluate(EQUATIONS),
        formulas=count(".bd-article .math"),
        typeset=count(".bd-article .math mjx-container"),
        broken=count("mjx-merror, [data-mjx-error], .problematic, .system-message"),
        wider=tab.evaluate("document.documentElement.scrollWidth - window.innerWidth"),
        links=tab.evaluate("[...document.querySelectorAll('.bd-article a[href]')].map(link => link.href)"),
    )
    context.close()
    return result


def test_every_notebook_has_its_pages(seen):
    pages = [path for path in (ROOT / "notebooks").glob("*.ipynb")]
    wanted = {f"notebooks/{path.stem}" for path in pages}
    wanted |= {f"live/{path.stem}" for path in pages if layout.has_profile(path)}
    made = {"intro", "references", "pages/figures", "pages/explorer", "pages/library", "pages/changelog", "glossary"}
    assert seen.keys() == wanted | made


def test_no_errors(seen):
    assert not {name: page.errors for name, page in seen.items() if page.errors}


def test_nothing_is_asked_of_the_network(seen):
    assert not {name: page.outside for name, page in seen.items() if page.outside}


def test_pictures_are_there_and_described(seen):
    for name, page in seen.items():
        for picture in page.pictures:
            assert picture["width"] > 0, f"{name}: {picture['source']} did not load"
            assert len(picture["alt"]) > 20 and "_images/" not in picture["alt"], f"{name}: {picture} needs `image.alt`"


def test_formulas_are_typeset(seen):
    assert sum(page.formulas for page in seen.values()) > 0
    for name, page in seen.items():
        assert page.typeset >= page.formulas, name
        assert page.broken == 0, name


def test_pages_do_not_scroll_sideways(seen):
    assert not {name: page.wider for name, page in seen.items() if page.wider > 0}


def test_links_within_the_book_lead_somewhere(book, seen):
    for name, page in seen.items():
        for link in page.links:
            if link.startswith("file:"):
                target, _, anchor = link.removeprefix("file://").partition("#")
                assert Path(target).exists(), f"{name}: {link}"
                assert not anchor or f'id="{anchor}"' in Path(target).read_text(), f"{name}: {link}"


def test_what_carries_a_number_carries_the_papers(seen):
    for name, page in seen.items():
        for identity, number in page.captioned:
            kind, _, wanted = identity.removeprefix("live-").partition("-")
            papers_own = kind in ("figure", "table") and re.fullmatch(r"\d+[a-z]?", wanted)
            assert number == (f"{kind.capitalize()} {wanted}" if papers_own else ""), f"{name}: {identity}"
        for identity, number in page.equations:
            wanted = re.fullmatch(r"(?:live-)?eq-(\d+)", identity)
            assert number == (f"({wanted[1]})" if wanted else ""), f"{name}: {identity}"


def test_every_artefact_of_the_paper_is_regenerated_once_from_the_record_and_once_live(seen):
    shown = {name: [identity for identity, _ in (*page.captioned, *page.equations)] for name, page in seen.items()}
    for name, wanted in ARTEFACTS.items():
        assert not sorted(set(wanted) - set(shown[f"notebooks/{name}"])), f"missing on {name}"
        live = {f"live-{identity}" for identity in wanted}
        assert not sorted(live - set(shown[f"live/{name}"])), f"missing on the live page of {name}"
    everything = [identity for page in shown.values() for identity in page]
    assert not sorted({identity for identity in everything if everything.count(identity) > 1})


def test_a_page_says_what_it_was_made_from(book):
    for folder, profile in (("notebooks", "paper"), ("live", "demo")):
        for path in sorted((book / folder).glob("*.html")):
            source = ROOT / "notebooks" / f"{path.stem}.ipynb"
            if source.exists() and layout.has_profile(source):
                # The name may be a term that the glossary explains.
                told = rf"with the profile <strong>(<a class=\"term\"[^>]*>)?{profile}\b"
                assert re.search(told, path.read_text()), path


def test_the_list_of_artefacts_is_the_papers():
    listed = sorted(identity for page in ARTEFACTS.values() for identity in page)
    counts = {"figure": 17, "table": 12, "eq": 4}
    assert listed == sorted(f"{kind}-{number + 1}" for kind, count in counts.items() for number in range(count))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_are_shown_as_drawn_in_light_and_dark(book, seen, scheme):
    playwright = pytest.importorskip("playwright.sync_api")
    name = next(name for name, page in seen.items() if page.pictures)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_context(color_scheme=scheme).new_page()
        tab.goto((book / f"{name}.html").as_uri())
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        style = tab.evaluate(
            "(image => [image.filter, image.backgroundColor])"
            "(getComputedStyle(document.querySelector('.bd-article .cell_output img')))"
        )
        assert style[0] == "none"
        assert scheme == "light" or style[1] == "rgb(255, 255, 255)"
        browser.close()
