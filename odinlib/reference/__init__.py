"""The paper's own numbers and claims, and what they say about each other.

:func:`table`, :func:`tables` and :func:`lookup` give the printed cells, :func:`prose` the numbers of the
text, :func:`claims` the claims as data; :func:`audit` lists where the paper disagrees with itself and
:func:`audit_summary` what was looked at to find that. :func:`making` is no number of the paper's: it tells how its
authors made the images that they released, as measured here.
"""

from odinlib.reference.audits import audit, audit_summary, checks
from odinlib.reference.printed import claims, elsewhere, lookup, prose, remarks, stated, table, tables, title
from odinlib.reference.released import making

__all__ = [
    "audit",
    "audit_summary",
    "checks",
    "claims",
    "elsewhere",
    "lookup",
    "making",
    "prose",
    "remarks",
    "stated",
    "table",
    "tables",
    "title",
]
