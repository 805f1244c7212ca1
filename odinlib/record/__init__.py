"""The record of a profile: what is made of each network, making it, sealing it, checking every number of it."""

from odinlib.record.coverage import STATES, TABLE_PAGES, counts, coverage
from odinlib.record.foreign import import_weights
from odinlib.record.migrate import migrate
from odinlib.record.plan import Item, is_recorded, jobs, make, plan
from odinlib.record.respond import respond
from odinlib.record.seal import TABLES, seal, verify
from odinlib.record.status import status

__all__ = [
    "STATES",
    "TABLES",
    "TABLE_PAGES",
    "Item",
    "counts",
    "coverage",
    "import_weights",
    "is_recorded",
    "jobs",
    "make",
    "migrate",
    "plan",
    "respond",
    "seal",
    "status",
    "verify",
]
