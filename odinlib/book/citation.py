"""How the paper and this book are cited: `CITATION.cff` as BibTeX."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

#: Kinds of BibTeX for those of the Citation File Format; what is not here is a `misc`.
KINDS = {"article": "article", "book": "book", "conference-paper": "inproceedings", "thesis": "phdthesis"}
#: What the Citation File Format calls otherwise.
FIELDS = {
    "title": "title",
    "journal": "journal",
    "collection-title": "booktitle",
    "year": "year",
    "volume": "volume",
    "doi": "doi",
    "url": "url",
    "repository-code": "url",
}


def section(cff: Mapping[str, Any]) -> str:
    """A citation file's entries in MyST, each with a button that copies it."""
    return "".join(f"```bibtex\n{entry}```\n\n" for entry in entries(cff)) + (
        "{download}`Both as a file (BibTeX) <data/odin.bib>`\n"
    )


def entries(cff: Mapping[str, Any]) -> list[str]:
    """BibTeX entries of a citation file: of the work to cite first, then of the software itself."""
    preferred = cff.get("preferred-citation")
    return [bibtex(one) for one in (preferred, cff) if one]


def bibtex(work: Mapping[str, Any]) -> str:
    """One work of a citation file as a BibTeX entry.

    >>> print(bibtex({"type": "book", "title": "On ODIN", "year": 2018, "authors": [{"family-names": "Liang"}]}))
    @book{liang2018on,
        author = "Liang",
        title = "{On ODIN}",
        year = "2018"
    }
    <BLANKLINE>
    """
    from pybtex.database import BibliographyData, Entry, Person

    fields = {FIELDS[name]: str(value) for name, value in work.items() if name in FIELDS}
    fields["title"] = f"{{{fields['title']}}}"
    if "date-released" in work:
        fields.setdefault("year", str(work["date-released"])[:4])
    for one in work.get("identifiers", []):
        if one["value"].startswith("arXiv:"):
            fields |= {"eprint": one["value"].removeprefix("arXiv:"), "archiveprefix": "arXiv"}
    if "version" in work:
        fields["note"] = f"Software, version {work['version']}"
    people = [
        Person(last=one["family-names"], first=one.get("given-names", "")) if "family-names" in one
        else Person(last=f"{{{one['name']}}}")
        for one in work["authors"]
    ]  # fmt: skip
    entry = Entry(KINDS.get(work.get("type", ""), "misc"), fields, {"author": people})
    return str(BibliographyData({_key(work): entry}).to_string("bibtex"))


def _key(work: Mapping[str, Any]) -> str:
    """Of the first author's name, the year and the title's first word, in plain letters."""
    first = work["authors"][0]
    name = first.get("family-names") or str(work["title"]).partition(":")[0]
    parts = (name, str(work.get("year", "")), str(work["title"]).split()[0] if "family-names" in first else "")
    plain = unicodedata.normalize("NFKD", "".join(parts)).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", plain.lower())
