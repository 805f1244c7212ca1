"""`CITATION.cff` as BibTeX: what a reference manager reads is what the file says."""

import yaml
from conftest import ROOT
from pybtex.database import parse_string

from odinlib.book import citation

CFF = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def read_back(entry: str):
    (found,) = parse_string(entry, "bibtex").entries.values()
    return found


def test_the_paper_comes_first_and_whole():
    paper, wanted = read_back(citation.entries(CFF)[0]), CFF["preferred-citation"]
    assert paper.type == "inproceedings"
    assert paper.fields["title"].strip("{}") == wanted["title"]
    assert paper.fields["booktitle"] == wanted["collection-title"] and paper.fields["year"] == str(wanted["year"])
    assert [str(person) for person in paper.persons["author"]] == [
        f"{one['family-names']}, {one['given-names']}" for one in wanted["authors"]
    ]
    assert paper.fields["eprint"] == "1706.02690" and paper.fields["archiveprefix"] == "arXiv"


def test_the_software_has_its_version_and_day():
    software = read_back(citation.entries(CFF)[1])
    assert software.type == "misc" and CFF["version"] in software.fields["note"]
    assert software.fields["year"] == CFF["date-released"][:4]
    assert "".join(software.persons["author"][0].last_names) == "{The odinlib contributors}"


def test_a_file_without_a_preferred_work_cites_itself():
    without = {name: value for name, value in CFF.items() if name != "preferred-citation"}
    assert len(citation.entries(without)) == 1


def test_keys_are_plain_letters():
    work = {"title": "Über δ", "authors": [{"family-names": "Müller-Ö", "given-names": "A."}], "year": 2020}
    assert read_back(citation.bibtex(work)).key == "mullero2020uber"
