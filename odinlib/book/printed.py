"""The record's pages as one PDF, to keep: contents with page numbers, bookmarks, no buttons, no folded code.

Jupyter Book renders all pages as one; Chromium, which the browser tests use as well, prints it. Chromium cannot write
the number of another page, so it prints twice: the first print tells on which page each heading stands.
"""

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from odinlib import artefacts
from odinlib.book import layout
from odinlib.errors import UserError

#: What makes no sense on paper, by its place in the book: a tool, the library's reference.
LEFT_OUT = ("pages/explorer", "pages/library")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
PAPER = {"format": "A4", "margin": {"top": "17mm", "bottom": "17mm", "left": "18mm", "right": "18mm"}}
_FOOTER = '<div style="font: 8px sans-serif; width: 100%; text-align: center"><span class="pageNumber"></span></div>'
#: The width of what is printed, in CSS pixels: A4 without its margins.
_WIDTH = 658
#: Make the rendered book one to be printed, and return its headings: id, level (0: a page), text, section.
_PREPARE = """([leftOut, dated]) => {
    const book = document.querySelector('.bd-article');
    for (const place of leftOut) document.getElementById(`document-${place}`)?.nextElementSibling.remove();
    document.querySelectorAll('#jb-print-docs-body, details.fold-code, .headerlink').forEach(one => one.remove());
    document.querySelectorAll('details').forEach(one => one.replaceWith(...[...one.children].slice(1)));
    book.querySelectorAll('section#figures-and-tables section').forEach(one => one.removeAttribute('id'));
    book.querySelectorAll('li a.download').forEach(one => one.remove());
    for (const link of book.querySelectorAll('a[href]')) {
        if (link.getAttribute('href').startsWith('#')) link.href = '#' + link.hash.split('#').pop();
        const target = link.getAttribute('href');
        const lost = target.startsWith('#') ? !document.getElementById(decodeURIComponent(target.slice(1)))
                                            : !/^https?:/.test(target);
        if (lost) link.replaceWith(...link.childNodes);
    }
    for (const box of book.querySelectorAll('.table-scroll, .pst-scrollable-table-container, div.math')) {
        const inner = box.querySelector('table, mjx-math') ?? box;
        const share = box.clientWidth / Math.max(inner.scrollWidth, inner.getBoundingClientRect().width);
        if (share < 1) (box.matches('div.math') ? box : inner).style.zoom = Math.max(0.45, share * 0.98);
    }
    const headings = [...book.querySelectorAll('h1, h2, h3')].map((one, place) => {
        const before = one.parentElement.previousElementSibling;
        const page = one.tagName == 'H1' || Boolean(before?.id.startsWith('document-'));
        one.classList.toggle('begins-a-page', page && one.tagName != 'H1');
        one.id = `heading-${place}`;  // the names of sections are not unique in the whole book
        return [one.id, page ? 0 : 1, one.innerText.trim(), one.parentElement.id];
    }).filter(([id, level, text, name]) => !/^(run-this-page|what-is-not-recorded|figure-|table-)/.test(name));
    const listed = headings.slice(1).map(([id, level, text]) => {
        const entry = document.createElement('a');
        entry.href = '#' + id;
        entry.className = `level-${level}`;
        entry.append(Object.assign(document.createElement('span'), {textContent: text}),
                     Object.assign(document.createElement('span'), {className: 'on-page'}));
        return entry;
    });
    const contents = document.createElement('nav');
    contents.className = 'printed-contents';
    contents.append(Object.assign(document.createElement('h2'), {textContent: 'Contents'}), ...listed);
    book.querySelector('h1').after(
        Object.assign(document.createElement('p'), {className: 'dated', textContent: dated}), contents);
    for (const link of book.querySelectorAll('section#figures-and-tables a[href^="#"]'))
        link.after(Object.assign(document.createElement('span'), {className: 'on-page'}));
    return headings;
}"""
_NUMBER = """pages => document.querySelectorAll('.on-page').forEach(one => {
    const listed = one.parentElement.matches('.printed-contents a');
    const page = pages[(listed ? one.parentElement : one.previousElementSibling).hash.slice(1)] ?? '';
    one.textContent = listed || !page ? page : ` (page ${page})`;
})"""


def make(root: Path) -> Path:
    """Print the executed pages of the record.

    Args:
        root: the checkout, whose `build/pages/` are there.

    Returns:
        `book/_build/odin.pdf`.

    Raises:
        UserError: there is no Chromium here, or Jupyter Book cannot render the pages.
    """
    browser = chromium()
    made = render(root)
    target = root / "book" / "_build" / "odin.pdf"
    with artefacts.write_atomically(target) as file:
        file.write(printed(made, browser))
    return target


def chromium() -> str:
    """Where the browser that prints is.

    Raises:
        UserError: it is not installed.
    """
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        raise UserError("no Chromium, which prints the book", remedy="on Debian: apt-get install chromium")
    return found


def render(root: Path) -> Path:
    """All pages of the record as one page of HTML, laid out beside the book that is read in a browser."""
    from jupyter_book.cli.main import main as jupyter_book

    source = root / "build" / "printed"
    made = [*layout.MADE, "_build"]
    shutil.copytree(root / "book", source, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*made))
    toc = layout.lay_out("record", root, source)
    command = ["build", str(source), "--path-output", str(source), "--config", str(root / "_config.yml"), "-q"]
    try:
        jupyter_book([*command, "--toc", str(toc), "--builder", "singlehtml", "-n", "-W", "--keep-going"])
    except SystemExit as ended:
        if ended.code:
            raise UserError("Jupyter Book did not render the pages", remedy="its messages are above") from None
    first = yaml.safe_load(toc.read_text(encoding="utf-8"))["root"]
    return source / "_build" / "singlehtml" / f"{first}.html"


def printed(page: Path, browser: str) -> bytes:
    """The PDF of a book in one page of HTML.

    Args:
        page: what `render` made.
        browser: Chromium's program.
    """
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader, PdfWriter

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        tab = running.new_page(viewport={"width": _WIDTH, "height": 900}, color_scheme="light")
        tab.set_default_timeout(600_000)
        tab.goto(page.resolve().as_uri())
        tab.emulate_media(media="print")
        tab.evaluate("window.MathJax?.startup?.promise")
        made = artefacts.provenance()
        dated = f"From the record that comes with the project; printed on {made['date'][:10]}, commit {made['commit']}."
        headings = tab.evaluate(_PREPARE, [LEFT_OUT, dated])
        options: dict[str, Any] = dict(PAPER, display_header_footer=True, header_template="<i></i>")
        options |= {"footer_template": _FOOTER, "print_background": True, "tagged": True}
        first = PdfReader(io.BytesIO(tab.pdf(**options)))
        pages = {headings[0][0]: 0, **page_numbers(first)}  # no link leads to the title
        tab.evaluate(_NUMBER, {name: place + 1 for name, place in pages.items()})
        whole = tab.pdf(**options)
        running.close()
    writer = PdfWriter(clone_from=io.BytesIO(whole))
    above = None
    for name, level, text, _ in headings:
        if name in pages:
            entry = writer.add_outline_item(title=text, page_number=pages[name], parent=above if level else None)
            above = above if level else entry
    writer.add_metadata({"/Title": "ODIN, a living reproduction", "/Author": "The odinlib contributors"})
    writer.page_mode = "/UseOutlines"
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def page_numbers(reader: Any) -> dict[str, int]:
    """On which page of a PDF each name stands that a link leads to, counted from 0."""
    found = reader.named_destinations.items()
    return {str(name).lstrip("/"): reader.get_destination_page_number(place) for name, place in found}


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path()))
