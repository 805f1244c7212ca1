"""The book on paper: contents with the right page numbers, bookmarks, nothing folded."""

import io
import unicodedata

import pytest
from test_book import CHROMIUM

from odinlib.book import printed
from odinlib.errors import UserError

BOOK = """<!doctype html><title>A book</title><style>@media print {.begins-a-page {break-before: page}}</style>
<article class="bd-article"><section id="book"><h1>A book<a class="headerlink" href="#book">#</a></h1>
<span id="document-one"></span><section id="first"><h2>The first page</h2>
<p>To <a href="#document-one#figure-1">Figure 1</a>, <a href="elsewhere.html">lost</a>.</p>
<details class="fold fold-code"><summary>Code</summary><p>import secrets</p></details>
<details class="fold fold-result"><summary>All</summary><p>every difference</p></details>
<section id="part"><h3>A part of it</h3><p>text</p></section></section>
<span id="document-pages/library"></span><section id="library"><h2>Library</h2></section>
<span id="document-two"></span><section id="second"><h2>The second page</h2>
<figure id="figure-1">A figure</figure>
<section id="run-this-page-yourself"><h3>Run this page yourself</h3></section>
<div class="table-scroll"><table><tr>WIDE</tr></table></div></section></section></article>"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    pytest.importorskip("playwright")
    pypdf = pytest.importorskip("pypdf")
    if CHROMIUM is None:
        pytest.skip("no chromium here; on Debian: apt-get install chromium")
    page = tmp_path_factory.mktemp("printed") / "book.html"
    page.write_text(BOOK.replace("WIDE", "".join(f"<td>column{place:03d}</td>" for place in range(20))))
    return pypdf.PdfReader(io.BytesIO(printed.printed(page, CHROMIUM)))


def text_of(page) -> str:
    return unicodedata.normalize("NFKC", page.extract_text())  # a ligature is its letters


def bookmarks(reader, entries=None, depth=0):
    for entry in reader.outline if entries is None else entries:
        if isinstance(entry, list):
            yield from bookmarks(reader, entry, depth + 1)
        else:
            yield depth, entry.title, reader.get_destination_page_number(entry)


def test_bookmarks_are_the_headings_where_they_stand(reader):
    wanted = [(0, "A book"), (0, "The first page"), (1, "A part of it"), (0, "The second page")]
    found = list(bookmarks(reader))
    assert [(depth, text) for depth, text, _ in found] == wanted
    for _, text, page in found:
        assert text in text_of(reader.pages[page])


def test_the_contents_say_on_which_page(reader):
    contents = " ".join(text_of(reader.pages[0]).split())
    for _, text, page in list(bookmarks(reader))[1:]:
        assert f"{text} {page + 1}" in contents.replace(text, f"{text} ").replace("  ", " ")


def test_results_are_open_and_code_is_not_there(reader):
    whole = " ".join(text_of(page) for page in reader.pages)
    assert "every difference" in whole and "lost" in whole
    assert "import secrets" not in whole and "Library" not in whole
    assert "column019" in whole


def test_without_chromium_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(printed.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="apt-get install chromium"):
        printed.chromium()
