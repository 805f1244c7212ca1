"""A user's own network and images: what `own-network.ipynb` needs beyond `odinlib.odin`."""

from odinlib.own.folders import Folder, read_folder, write_folder
from odinlib.own.network import Exported, Normalised, load_network

__all__ = ["Exported", "Folder", "Normalised", "load_network", "read_folder", "write_folder"]
