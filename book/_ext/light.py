"""What a page makes a browser fetch, kept small: of MathJax, styles, icons and scripts, what the book uses.

The theme's styles, icons and scripts serve every book there may be. When the pages are written, rules for what no page
and no script names are taken out, the icons' font is cut to those that are shown, and small files become one.
"""

import importlib.util
import re
import zlib
from pathlib import Path

import tinycss2
from fontTools import subset
from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset

#: Of MathJax, what turns TeX into HTML, as one file; and what it may ask for.
MATHJAX = ("startup", "core", "input/tex", "output/chtml", "output/chtml/fonts/tex", "a11y/assistive-mml")
MATHJAX_FILES = ("output/chtml/fonts/woff-v2", "input/tex/extensions")
#: The theme's icons come as a font too; nothing here has tabs or toggles, and only one page searches.
UNUSED = ("scripts/fontawesome.js", "design-tabs.js", "togglebutton.js", "togglebutton.css", "sphinx-design.min.css")
ONLY_SEARCH = ("searchtools.js", "language_data.js", "searchindex.js")
#: Small files that are asked for as one, in this order.
STYLES = (
    *(r"styles/theme\.css", r"styles/pydata-sphinx-theme\.css", r"pygments\.css", r"styles/sphinx-book-theme\.css"),
    *(r"mystnb\.\w+\.css", r"copybutton\.css", r"odin\.css"),
)
SCRIPTS = (
    *(r"documentation_options\.js", r"doctools\.js", r"sphinx_highlight\.js", r"clipboard\.min\.js"),
    *(r"copybutton\.js", r"terms\.js", r"scripts/sphinx-book-theme\.js"),
)
ICONS = "vendor/fontawesome/webfonts/fa-solid-900.woff2"
_ICON = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"\\([0-9a-f]+)"')
_NAME = re.compile(r"[.#]((?:[\w-]|\\.)+)")
_WITHIN = re.compile(r":[\w-]+\((?:[^()]|\([^()]*\))*\)")


def finish_book(app: Sphinx, error: Exception | None) -> None:
    """Copy the parts of MathJax that a page may ask for, and make all pages light."""
    if error is not None or app.builder.format != "html":
        return
    root = Path(app.outdir)
    copy_mathjax(root / "_static" / "mathjax")
    pages = [path for path in root.rglob("*.html") if "_static" not in path.parts]
    scripts = [path for path in root.rglob("*.js") if "mathjax" not in path.parts and "explorer-data" not in path.parts]
    words = {word for path in (*pages, *scripts) for word in re.findall(r"[\w-]+", path.read_text(encoding="utf-8"))}
    cut_icons(root / "_static", words)
    styles: dict[tuple[Path, ...], str] = {}
    for page in pages:
        lighter(page, root, words, styles)


def copy_mathjax(target: Path) -> None:
    """MathJax's parts as one file, `book.js`, and beside it what that may ask for."""
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    assert package is not None and package.origin is not None
    source = Path(package.origin).parent / "static" / "mathjax"
    for part in MATHJAX_FILES:
        copy_asset(str(source / part), str(target / part))
    startup, *parts = (source.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in MATHJAX)
    there = ", ".join(f"'{name}'" for name in MATHJAX[1:])
    whole = "\n".join([startup, f";MathJax.loader.preLoad({there});", *parts])
    (target / "book.js").write_text(whole, encoding="utf-8")


def cut_icons(static: Path, words: set[str]) -> None:
    """Cut the icons' font to the icons that a page or a script names."""
    css = (static / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf-8")
    shown = [int(place, 16) for names, place in _ICON.findall(css) if set(re.findall(r"fa-[\w-]+", names)) & words]
    options = subset.Options(flavor="woff2", layout_features=[], drop_tables=["FFTM"])
    font = subset.load_font(str(static / ICONS), options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=shown)
    cutter.subset(font)
    subset.save_font(font, str(static / ICONS), options)


def lighter(path: Path, root: Path, words: set[str], styles: dict[tuple[Path, ...], str]) -> None:
    """A page without the scripts and styles that it never uses, its others in one file of each kind.

    Args:
        path: the page, which is changed.
        root: the book's folder.
        words: all words of its pages and scripts.
        styles: what is joined already, by the files that it is made of; added to.
    """
    text = before = path.read_text(encoding="utf-8")
    for name in (*UNUSED, *(() if path.name == "search.html" else ONLY_SEARCH)):
        text = re.sub(rf'\s*<(script|link)[^>]*"[^"]*{re.escape(name)}[^"]*"[^>]*>(</script>)?', "", text)
    for kind, pattern, names in (
        ("css", r'\s*<link[^>]*href="([^"]*_static/{})(?:\?[^"]*)?"[^>]*>', STYLES),
        ("js", r'\s*<script[^>]*src="([^"]*_static/{})(?:\?[^"]*)?"[^>]*></script>', SCRIPTS),
    ):
        found = [hit for name in names if (hit := re.search(pattern.format(name), text))]
        if len(found) < 2:
            continue
        files = tuple((path.parent / hit[1]).resolve() for hit in found)
        if files not in styles:
            joined = "\n".join(purged(file, words) if kind == "css" else file.read_text("utf-8") for file in files)
            styles[files] = f"book-{zlib.crc32(joined.encode()):08x}.{kind}"
            (root / "_static" / styles[files]).write_text(joined, encoding="utf-8")
        place = f"{found[0][1].partition('_static/')[0]}_static/{styles[files]}"
        tag = f'<link rel="stylesheet" href="{place}">' if kind == "css" else f'<script src="{place}"></script>'
        last = found[-1] if kind == "css" else found[0]  # a style overrides those before it
        text = text.replace(last[0], f"\n    {tag}", 1)
        for hit in found:
            text = text.replace(hit[0], "", 1)
    if text != before:
        path.write_text(text, encoding="utf-8")


def purged(file: Path, words: set[str]) -> str:
    """A stylesheet without the rules for classes and names that are none of `words`, fit to lie in `_static/`."""
    css = re.sub(
        r'@import "([^"]+)";',
        lambda hit: (file.parent / hit[1]).read_text(encoding="utf-8"),
        file.read_text(encoding="utf-8"),
    )
    if file.parent.name == "styles":
        css = css.replace("url(../", "url(")
    return "\n".join(_kept(tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True), words))


def _kept(rules: list, words: set[str]) -> list[str]:
    found = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [one for one in _apart(rule.prelude) if set(_NAME.findall(_WITHIN.sub("", one))) <= words]
            if selectors:
                found.append(f"{','.join(selectors)}{{{tinycss2.serialize(rule.content).strip()}}}")
        elif rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports"):
            inside = _kept(tinycss2.parse_rule_list(rule.content, True, True), words)
            if inside:
                condition = tinycss2.serialize(rule.prelude).strip()
                found.append(f"@{rule.lower_at_keyword} {condition}{{{''.join(inside)}}}")
        else:
            found.append(rule.serialize())
    return found


def _apart(prelude: list) -> list[str]:
    """The selectors of a list; commas within brackets are none between them."""
    parts: list[list] = [[]]
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return [tinycss2.serialize(part).strip() for part in parts]


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", finish_book, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
