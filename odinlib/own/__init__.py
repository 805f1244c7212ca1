"""A user's own network and images: everything between the outside world and `odinlib.odin`."""

from odinlib.own.adapter import Adapted, adapt
from odinlib.own.folders import Folder, read_files, read_folder, reading, wanted, write_folder
from odinlib.own.guards import Doubt
from odinlib.own.images import stream
from odinlib.own.loading import load_network
from odinlib.own.network import Exported, Normalised

__all__ = [
    "Adapted",
    "Doubt",
    "Exported",
    "Folder",
    "Normalised",
    "adapt",
    "load_network",
    "read_files",
    "read_folder",
    "reading",
    "stream",
    "wanted",
    "write_folder",
]
